//! A configured store: the settings that the engine wants, made from the typed configuration.

use std::sync::Arc;

use auth::{Account, Attributes};
use config::{Config, LayoutKind};
use engine::io::Storage;
use engine::layout::Layout;
use engine::layout::cyrus::Cyrus;
use engine::layout::maildir::Maildir;
use engine::{Drive, Error, Partition, Store, StoreConfig, UserOptions};

/// The engine's settings for `config`.
pub fn store_config(config: &Config, hostname: &str) -> StoreConfig {
    let layout = |kind| -> Arc<dyn Layout> {
        match kind {
            LayoutKind::Maildir => Arc::new(Maildir::default()),
            LayoutKind::Cyrus => Arc::new(Cyrus::default()),
        }
    };
    let partition = |p: &config::Partition| Partition {
        name: p.name.clone(),
        path: p.path.clone(),
        layout: layout(p.layout),
    };
    let partitions = config.partition.iter().map(partition).collect();
    StoreConfig {
        log_dir: config.log_dir(),
        partition_default: config.default_partition.clone(),
        hostname: hostname.to_owned(),
        log_bytes_max: config.store.log_bytes_max,
        checkpoint_seconds: config.store.checkpoint_seconds,
        message_bytes_max: config.limits.message_bytes_max,
        mailboxes_idle_max: config.store.mailboxes_idle_max,
        helpers: config.store.helper_threads,
        ..StoreConfig::new(&config.state_dir, partitions)
    }
}

/// Opens the store: takes its lock and recovers. Blocks.
pub fn open(
    config: &Config,
    hostname: &str,
    storage: Arc<dyn Storage>,
    drive: Drive,
) -> Result<Store, Error> {
    Store::open(store_config(config, hostname), storage, drive)
}

/// Whether opening failed because another process has the store.
pub fn is_locked(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::WouldBlock,
        _ => false,
    }
}

/// What the engine must know about a user: the account's own settings, else the server's.
pub fn user_options(attributes: &Attributes, store: &config::Store) -> UserOptions {
    let limit = |own: Option<u64>, default: u64| Some(own.unwrap_or(default)).filter(|n| *n > 0);
    UserOptions {
        partition: attributes.partition.clone(),
        quota_bytes: limit(attributes.quota_bytes, store.quota_bytes),
        quota_messages: limit(attributes.quota_messages, store.quota_messages),
    }
}

/// Opens the namespace of `account`, made with an INBOX at first use.
pub async fn open_user(
    store: &Store,
    account: &Account,
    defaults: &config::Store,
) -> Result<engine::User, Error> {
    store.user(account.name.as_str(), &user_options(&account.attributes, defaults)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_goes_before_the_default_and_zero_means_no_limit() {
        let store = config::Store { quota_bytes: 1000, ..config::Store::default() };
        let own =
            Attributes { quota_bytes: Some(0), quota_messages: Some(5), ..Attributes::default() };
        let options = user_options(&own, &store);
        assert_eq!((options.quota_bytes, options.quota_messages), (None, Some(5)));
        let options = user_options(&Attributes::default(), &store);
        assert_eq!((options.quota_bytes, options.quota_messages), (Some(1000), None));
    }
}
