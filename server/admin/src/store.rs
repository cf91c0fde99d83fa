//! A configured store: the settings that the engine wants, made from the typed configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::{Account, Attributes};
use config::{
    Config, FolderNames, LayoutKind, Locks, Notify, PartitionIo, SearchIndex, Spread, SyncNames,
    UserDefaults,
};
use engine::archive::{ArchiveConfig, ArchiveTarget};
use engine::io::Storage;
use engine::layout::Layout;
use engine::layout::cyrus::Cyrus;
use engine::layout::maildir::{Maildir, Names};
use engine::{
    Drive, Error, IndexConfig, IndexMode, IoMode, LockMode, MountOptions, NameSync, NotifyMode,
    OldServer, Partition, SpecialUse, Store, StoreConfig, UserOptions,
};

use crate::accounts::{self, MaildirPlace};
use crate::shared_index;
use crate::unfinished::{self, Opener, Unfinished};

/// A server as the engine knows it.
pub fn old_server(server: config::OldServer) -> OldServer {
    match server {
        config::OldServer::Courier => OldServer::Courier,
        config::OldServer::Dovecot => OldServer::Dovecot,
    }
}

/// The engine's settings for `config`.
pub fn store_config(config: &Config, hostname: &str) -> StoreConfig {
    let layout = |p: &config::Partition| -> Arc<dyn Layout> {
        match p.layout {
            LayoutKind::Maildir => Arc::new(Maildir {
                shared_folders: config.sharing.courier_maildirs,
                ..maildir_of(p)
            }),
            LayoutKind::Cyrus => Arc::new(Cyrus {
                hashed: p.spread != Spread::None,
                full_hash: p.spread == Spread::Full,
            }),
        }
    };
    let partition = |p: &config::Partition| Partition {
        name: p.name.clone(),
        path: p.path.clone(),
        layout: layout(p),
        mount: mount_options(p),
    };
    let mut partitions: Vec<Partition> = config.partition.iter().map(partition).collect();
    let shared_index = shared_index::read(config, &mut partitions);
    let archive = config.archive.is_on().then(|| ArchiveConfig {
        target: match &config.archive.directory {
            Some(dir) => ArchiveTarget::Directory(dir.clone()),
            None => ArchiveTarget::Command(config.archive.command.clone()),
        },
        pending_bytes_max: config.archive.pending_bytes_max,
        segment_age_max: Duration::from_secs(config.archive.segment_seconds_max),
        command_time_max: Duration::from_secs(config.archive.command_seconds_max),
    });
    let defaults = StoreConfig::new(&config.state_dir, partitions);
    let index = IndexConfig {
        mode: match config.search.index {
            SearchIndex::Off => IndexMode::Off,
            SearchIndex::Searched => IndexMode::Searched,
            SearchIndex::All => IndexMode::All,
        },
        dir: config.index_dir(),
        messages_min: config.search.index_messages_min,
    };
    StoreConfig {
        index,
        searchers: match config.search.threads {
            0 => defaults.searchers,
            threads => threads,
        },
        log_dir: config.log_dir(),
        partition_default: config.default_partition.clone(),
        hostname: hostname.to_owned(),
        log_bytes_max: config.store.log_bytes_max,
        checkpoint_seconds: config.store.checkpoint_seconds,
        message_bytes_max: config.limits.message_bytes_max,
        metadata_value_bytes_max: config.limits.metadata_value_bytes_max,
        metadata_entries_max: config.limits.metadata_entries_max,
        annotations_max: config.limits.annotations_max,
        open_mailboxes_max: config.limits.open_mailboxes_max,
        descriptors_max: config.limits.descriptors_max,
        mapped_bytes_max: config.limits.mapped_bytes_max,
        open_users_max: config.limits.open_users_max,
        orders_bytes_max: config.limits.orders_bytes_max,
        helpers: config.store.helper_threads,
        network_state: config.store.network_state,
        hand_back: config.store.hand_back.iter().copied().map(old_server).collect(),
        archive,
        shared_index,
        ..defaults
    }
}

/// The layout of a partition of Maildirs.
pub(crate) fn maildir_of(p: &config::Partition) -> Maildir {
    Maildir {
        user_path: p.user_path.clone(),
        names: match p.folder_names {
            FolderNames::Utf8 => Names::Utf8,
            FolderNames::Utf7 => Names::ModifiedUtf7,
        },
        ..Maildir::default()
    }
}

pub(crate) fn mount_options(p: &config::Partition) -> MountOptions {
    MountOptions {
        io: match p.io {
            PartitionIo::Auto => IoMode::Auto,
            PartitionIo::Mapped => IoMode::Mapped,
            PartitionIo::Private => IoMode::Private,
        },
        locks: match p.locks {
            Locks::Auto => LockMode::Auto,
            Locks::Ofd => LockMode::Ofd,
            Locks::Dot => LockMode::Dot,
            Locks::None => LockMode::None,
        },
        notify: match p.notify {
            Notify::Auto => NotifyMode::Auto,
            Notify::Inotify => NotifyMode::Inotify,
            Notify::Poll => NotifyMode::Poll,
        },
        sync_names: match p.sync_names {
            SyncNames::Auto => NameSync::Auto,
            SyncNames::Always => NameSync::Always,
            SyncNames::Never => NameSync::Never,
        },
    }
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Root would make files that the store's own user can't read.
    #[error("belongs to uid {owner}, and this process is root: run it as that user")]
    Owner {
        /// Whose directory it is.
        owner: u32,
    },
    /// A command that has to be finished before.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// Another process has it.
    #[error("another process has it open")]
    Locked,
    /// The engine's reason.
    #[error(transparent)]
    Engine(Error),
}

/// Opens the store: takes its lock and recovers. Blocks.
pub fn open(
    config: &Config,
    hostname: &str,
    storage: Arc<dyn Storage>,
    drive: Drive,
    opener: Opener,
) -> Result<Store, OpenError> {
    check(config, opener)?;
    Store::open(store_config(config, hostname), storage, drive).map_err(|error| match error {
        Error::Locked(_) => OpenError::Locked,
        other => OpenError::Engine(other),
    })
}

/// Refuses root a store of somebody else, and whoever is not to have one that a command has to
/// finish.
pub fn check(config: &Config, opener: Opener) -> Result<(), OpenError> {
    check_owner(&config.state_dir)?;
    Ok(unfinished::check(config, opener)?)
}

/// Refuses root a directory of somebody else.
fn check_owner(dir: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::MetadataExt;
    // A directory that isn't there yet will be ours.
    let owner = std::fs::metadata(dir).map_or(0, |meta| meta.uid());
    if owner != 0 && rustix::process::geteuid().is_root() {
        return Err(OpenError::Owner { owner });
    }
    Ok(())
}

/// What the engine must know about a user: the account's own settings, else his domain's or the
/// server's.
pub fn user_options(attributes: &Attributes, defaults: &UserDefaults<'_>) -> UserOptions {
    let limit = |own: Option<u64>, default: u64| Some(own.unwrap_or(default)).filter(|n| *n > 0);
    let default_partition = || defaults.partition.map(str::to_owned);
    UserOptions {
        partition: attributes.partition.clone().or_else(default_partition),
        quota_bytes: limit(attributes.quota_bytes, defaults.quota_bytes),
        quota_messages: limit(attributes.quota_messages, defaults.quota_messages),
    }
}

/// Opens the namespace of `account`, made with an INBOX at first use.
pub async fn open_user(
    store: &Store,
    account: &Account,
    config: &Config,
) -> Result<engine::User, Error> {
    let name = account.name.as_str();
    let defaults = config.user_defaults(name);
    let is_new = !defaults.new_mailboxes.is_empty() && !store.has_user(name).await?;
    let user = store.user(name, &options_of(store, account, &defaults)).await?;
    if is_new {
        make_mailboxes(&user, defaults.new_mailboxes).await?;
    }
    Ok(user)
}

/// As [`user_options`], in the partition where the account's directory has the Maildir.
fn options_of(store: &Store, account: &Account, defaults: &UserDefaults<'_>) -> UserOptions {
    let mut options = user_options(&account.attributes, defaults);
    if let Some(theirs) = &account.attributes.maildir {
        let StoreConfig { partitions, partition_default, .. } = store.config();
        match accounts::place_among(partitions, partition_default, account, theirs) {
            Some(MaildirPlace::Here(partition)) => options.partition = Some(partition),
            Some(MaildirPlace::Elsewhere(ours)) => {
                accounts::tell_elsewhere(&account.name, theirs, &ours);
            }
            None => {}
        }
    }
    options
}

/// Makes what a new user is to have beside INBOX. What is there, since another session was faster
/// or another server had made it, stays as it is.
async fn make_mailboxes(user: &engine::User, wanted: &[config::NewMailbox]) -> Result<(), Error> {
    for mailbox in wanted {
        let special_use = SpecialUse::parse(&mailbox.special_use);
        let uses = special_use.as_slice();
        match user.create(&mailbox.name, uses).await {
            Ok(()) | Err(Error::MailboxExists) => {}
            Err(error) => return Err(error),
        }
        if mailbox.subscribe {
            user.subscribe(&mailbox.name, true).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keeps_its_hands_off_other_users_stores() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_owner(dir.path()).is_ok());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
            let storage = Arc::new(engine::io::blocking::Blocking::new());
            let config = Config::embedded(dir.path());
            let opened = open(&config, "h", storage, Drive::Inline, Opener::Any);
            assert!(matches!(opened, Err(OpenError::Owner { owner: 65534 })));
        }
    }

    fn begun(opener: Opener, config: &Config) -> Result<(), OpenError> {
        let storage = Arc::new(engine::io::blocking::Blocking::new());
        let store = open(config, "h", storage, Drive::Inline, opener)?;
        store.close().map_err(OpenError::Engine)
    }

    #[test]
    fn what_was_cut_off_is_finished_before_anything_else() {
        use Opener::{Any, HandBack, Takeover};
        for (name, command, others, finisher) in [
            (unfinished::MOVES_NAME, "handback", &[Any, Takeover][..], HandBack),
            (unfinished::RETIRING_NAME, "handback", &[Any, Takeover], HandBack),
            (unfinished::TAKING_NAME, "takeover", &[Any], Takeover),
            (unfinished::TAKING_NAME, "takeover", &[Any], HandBack),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let config = Config::embedded(dir.path());
            let file = config.state_dir.join(name);
            std::fs::create_dir_all(&config.state_dir).unwrap();
            std::fs::write(&file, "").unwrap();
            for &opener in others {
                let refused = begun(opener, &config).unwrap_err().to_string();
                assert!(refused.contains(&format!("`cursus {command} cyrus`")), "{refused}");
                assert!(!config.log_dir().exists(), "nothing is made");
            }
            begun(finisher, &config).unwrap();
            std::fs::remove_file(&file).unwrap();
            begun(Any, &config).unwrap();
        }
    }

    #[test]
    fn mailboxes_by_id_are_taken_over_before_they_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::embedded(dir.path());
        let partition = &mut config.partition[0];
        partition.layout = LayoutKind::Cyrus;
        let by_id = partition.path.join("uuid");
        std::fs::create_dir_all(&by_id).unwrap();
        // As an installation leaves it.
        assert!(check(&config, Opener::Any).is_ok());
        std::fs::create_dir(by_id.join("a")).unwrap();
        let refused = begun(Opener::Any, &config).unwrap_err().to_string();
        assert!(refused.contains("uuid are not taken over"), "{refused}");
        begun(Opener::Takeover, &config).unwrap();
        begun(Opener::Any, &config).unwrap();
    }

    #[test]
    fn an_account_goes_before_the_default_and_zero_means_no_limit() {
        let store =
            UserDefaults { quota_bytes: 1000, partition: Some("fast"), ..UserDefaults::default() };
        let own =
            Attributes { quota_bytes: Some(0), quota_messages: Some(5), ..Attributes::default() };
        let options = user_options(&own, &store);
        assert_eq!((options.quota_bytes, options.quota_messages), (None, Some(5)));
        let options = user_options(&Attributes::default(), &store);
        assert_eq!((options.quota_bytes, options.quota_messages), (Some(1000), None));
        assert_eq!(options.partition.as_deref(), Some("fast"));
        let own = Attributes { partition: Some("slow".to_owned()), ..own };
        assert_eq!(user_options(&own, &store).partition.as_deref(), Some("slow"));
    }
}
