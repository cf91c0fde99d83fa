//! The command line: one definition for parsing, completions and manual pages.

mod moving;
mod takeover;
mod upkeep;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use config::Config;
use inherit::{Disk, Sources};

use crate::failure::Failed;

pub use moving::{
    ExportFiles, FileForm, FoldersCommand, FoldersRename, ImportFiles, MigrateCommand, MigrateImap,
    MigrateTls,
};
pub use takeover::{
    ExpireCommand, ExpireCyrus, ExpireOf, HandbackCommand, HandbackCyrus, HandbackMaildirs,
    TakeoverCommand, TakeoverCyrus, UnexpungeCommand, UnexpungeCyrus,
};
pub use upkeep::{ArchiveCommand, BackupArgs, IndexArgs, IndexCommand, RestoreArgs, ScrubArgs};

/// Operate a Cursus mail store.
///
/// Talks to a running cursusd by its admin socket. Where none runs, opens the store itself, under
/// the store's lock.
///
/// On a terminal, lists are tables; in a pipe they are lines with tabs and no heading; --json
/// gives one JSON value.
#[derive(Debug, Parser)]
#[command(name = "cursus", version, after_long_help = EXIT_STATUS)]
pub struct Cli {
    /// Configuration file of the server; without it, the embedded store below ./var
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Courier's directory, if the server is started with it
    #[arg(long, global = true, value_name = "DIR")]
    pub courier: Option<PathBuf>,
    /// Cyrus's imapd.conf: if the server is started with it; takeover, handback and expire: of the
    /// other server, /etc/imapd.conf without it
    #[arg(long, global = true, value_name = "FILE")]
    pub imapd_conf: Option<PathBuf>,
    /// Cyrus's cyrus.conf, if the server is started with it
    #[arg(long, global = true, value_name = "FILE")]
    pub cyrus_conf: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What scripts can rely on.
pub const EXIT_STATUS: &str = "Exit status:
  0   done
  1   not done, or done in part; check, scrub: something is wrong
  2   wrong command line
  65  bad data: a value, a message or a mailbox name that the store refuses
  67  no such user
  69  neither a server nor the store can be reached; the message says why
  73  exists already
  75  may work later
  78  wrong configuration";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add, change, list and remove users
    #[command(subcommand)]
    User(UserCommand),
    /// List and change mailboxes
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// List and set limits of what users may keep
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Bring messages into the store
    #[command(subcommand)]
    Message(MessageCommand),
    /// Deliver a message from standard input, as mail transports run it
    ///
    /// By LMTP to the running server; where none runs, into Maildirs that are there. Exit status: 0
    /// stored; 65 message refused; 67 no such user; 75 try again later; 77 over quota. With --qmail
    /// 0, 100 and 111.
    Deliver(crate::deliver::DeliverArgs),
    /// Show how server and store are
    Status,
    /// Compare indexes with message files, and say what is wrong
    Check {
        /// Only this user's mailboxes
        user: Option<String>,
    },
    /// Read every message, compare it with what was stored, and say what is damaged
    ///
    /// Works beside a running server. Stopped, it can go on with --resume.
    Scrub(ScrubArgs),
    /// Look after full-text indexes
    #[command(subcommand)]
    Index(IndexCommand),
    /// Bring the files up to date with the commit log after a crash, and stop
    ///
    /// A server does so when it starts. Run this before another mail server uses the store.
    Recover,
    /// Bring the files up to date with the commit log now
    Checkpoint,
    /// Look after the archive of log and messages
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Make a base backup, also while the server runs
    ///
    /// Message files that the directory has are not copied again. Nothing stops meanwhile.
    Backup(BackupArgs),
    /// Bring back a store, a user, a folder or a message as it was
    ///
    /// Without --user: the whole store, into the empty places that the configuration names or
    /// below --into-state. With --user: into that user's mail, by the running server or on the
    /// store itself.
    Restore(RestoreArgs),
    /// Take over the store of another mail server, where it lies
    ///
    /// Both servers are stopped meanwhile. Message files are neither copied nor renamed.
    #[command(subcommand)]
    Takeover(TakeoverCommand),
    /// Give a store that was taken over back to the other server
    ///
    /// Cyrus: both servers are stopped meanwhile, and afterwards the store is Cyrus's. Courier and
    /// Dovecot: also while the server runs, as often as you like.
    #[command(subcommand)]
    Handback(HandbackCommand),
    /// Remove what the other server kept of mail that was removed there, once it is old
    ///
    /// Also while the server runs: a job for every night.
    #[command(subcommand)]
    Expire(ExpireCommand),
    /// List messages that the other server kept after they were removed there, and bring them back
    ///
    /// Also while the server runs.
    #[command(subcommand)]
    Unexpunge(UnexpungeCommand),
    /// Bring mail in from files of other programs, with folders, flags and dates
    Import(ImportFiles),
    /// Write mail into files of other programs
    Export(ExportFiles),
    /// Rename folders of many users, reversibly
    #[command(subcommand)]
    Folders(FoldersCommand),
    /// Copy mail from servers elsewhere, while both serve, again and again until the change-over
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Show, check and convert configurations, those of Courier and Cyrus too
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Be called by the names of Cyrus's programs, as quota or ctl_mboxlist
    #[command(subcommand)]
    Commands(CommandsCommand),
    /// Make a running server read configuration, certificates and users again
    Reload,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a directory
    Manual {
        /// Where
        directory: PathBuf,
    },
}

/// Commands on other servers' programs.
#[derive(Debug, Subcommand)]
pub enum CommandsCommand {
    /// List every program of Cyrus's and Courier's with what becomes of it here
    List,
    /// Make links to this program that have their names
    ///
    /// Cyrus's scripts look for them in /usr/lib/cyrus/bin. What is there already stays. Called by
    /// such a name, cursus reads /etc/cursus/cursus.toml or the file that $CURSUS_CONFIG names, and the
    /// imapd.conf of -C, /etc/imapd.conf without it.
    Install {
        /// Where
        directory: PathBuf,
        /// Only these
        names: Vec<String>,
    },
}

/// Commands on the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting
    Show {
        /// With where it came from: file and line, environment, default
        #[arg(long)]
        origin: bool,
        /// Only what somebody set
        #[arg(long)]
        set: bool,
    },
    /// Say what is wrong, and what of other servers' files has no effect
    Check,
    /// Write what all files together say as one cursus.toml
    Convert {
        /// Where to; without it, to standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// List every option of another server with what becomes of it here
    Options {
        /// Which
        server: PeerServer,
    },
}

/// A server whose files can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PeerServer {
    /// Courier
    Courier,
    /// Cyrus IMAP
    Cyrus,
}

/// Commands on users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; the password is read from standard input
    Add(UserAdd),
    /// Set a user's password, read from standard input
    Passwd {
        /// Who
        name: String,
        /// Secrets for mechanisms that need their own: scram-sha-1, scram-sha-512, cram-md5,
        /// cram-sha1, cram-sha256, digest-md5, clear; "" for none. Without the option: of the kinds
        /// that the user has
        #[arg(long, value_name = "KIND,...")]
        secrets: Option<String>,
    },
    /// List users, of every back end that can name them
    List,
    /// Look at all users: unreadable entries, weak password schemes, Maildirs at other places
    ///
    /// Fails for what keeps somebody from mail: entries that can't be read, back ends that don't
    /// answer, Maildirs elsewhere.
    Check,
    /// Remove a user. The mail stays.
    Remove {
        /// Who
        name: String,
    },
    /// Deny a user services: logins fail from now on, and sessions end. Mail still arrives
    Deny {
        /// Who, of any back end
        name: String,
        /// Patterns of listeners' names, the last that fits decides: imap*,!imaps. Without it all
        #[arg(long, value_name = "PATTERN,...")]
        services: Option<String>,
        /// What the user is told
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Take back what is denied to a user
    Allow {
        /// Who
        name: String,
    },
    /// List users who are denied services
    Denied,
}

/// A user to be added, or many.
#[derive(Debug, Args)]
pub struct UserAdd {
    /// Who
    #[arg(required_unless_present = "bulk", conflicts_with = "bulk")]
    pub name: Option<String>,
    /// Read lines of NAME, a tab or colon, PASSWORD from standard input; add all or none
    #[arg(long)]
    pub bulk: bool,
    /// What is read is not a password but credentials as the users file has them: {SCHEME}hash
    #[arg(long)]
    pub hashed: bool,
    /// Settings as the users file has them, such as quota_bytes=10G,detail=yes
    #[arg(long, value_name = "KEY=VALUE,...", default_value = "")]
    pub attributes: String,
    /// Secrets for mechanisms that need their own: scram-sha-1, scram-sha-512, cram-md5, cram-sha1,
    /// cram-sha256, digest-md5, clear
    #[arg(long, value_name = "KIND,...", default_value = "", conflicts_with = "hashed")]
    pub secrets: String,
}

/// Commands on mailboxes.
#[derive(Debug, Subcommand)]
pub enum MailboxCommand {
    /// List mailboxes
    List {
        /// Only this user's
        user: Option<String>,
    },
    /// Make a mailbox
    Create {
        /// Whose
        user: String,
        /// UTF-8, with / between levels
        name: String,
        /// What it is for: \Sent, \Drafts, \Trash, \Junk, \Archive, \All, \Flagged, \Important
        #[arg(long, value_name = "USE")]
        special_use: Vec<String>,
    },
    /// Delete a mailbox and its messages; mailboxes below it stay
    Delete {
        /// Whose
        user: String,
        /// Which
        name: String,
    },
    /// Rename a mailbox and those below it
    Rename {
        /// Whose
        user: String,
        /// Old name
        from: String,
        /// New name
        to: String,
    },
    /// Subscribe to a mailbox
    Subscribe {
        /// Whose
        user: String,
        /// Which
        name: String,
        /// Unsubscribe
        #[arg(long)]
        off: bool,
    },
}

/// Commands on quotas.
///
/// A mailbox can be a quota root: limits that are set on it govern it and the mailboxes below it,
/// which then do not count towards the user's own.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// List quota roots with what is there and what is allowed
    List {
        /// Only this user's
        user: Option<String>,
    },
    /// Set all limits of a quota root; what is not given is not limited
    ///
    /// Limits of a user's own root go before the account's and the configuration's.
    Set(QuotaSet),
}

/// The limits of a quota root.
#[derive(Debug, Args)]
pub struct QuotaSet {
    /// Whose
    pub user: String,
    /// The mailbox that becomes a root; without it the user's own root
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// Bytes, perhaps with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub storage: Option<u64>,
    /// Number of messages
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,
    /// Number of mailboxes
    #[arg(long, value_name = "N")]
    pub mailboxes: Option<u64>,
    /// Bytes of annotations, perhaps with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub annotations: Option<u64>,
    /// Take back what was set
    #[arg(long, conflicts_with_all = ["storage", "messages", "mailboxes", "annotations"])]
    pub remove: bool,
}

fn size(text: &str) -> Result<u64, &'static str> {
    auth::users::parse_size(text).ok_or("expected a number, perhaps with K, M, G or T")
}

/// Commands on messages.
#[derive(Debug, Subcommand)]
pub enum MessageCommand {
    /// Store messages from files
    Import(ImportArgs),
}

/// Messages to be stored.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Whose mailbox
    #[arg(long)]
    pub user: String,
    /// Which mailbox
    #[arg(long, default_value = "INBOX")]
    pub mailbox: String,
    /// Make the mailbox if it doesn't exist
    #[arg(long)]
    pub create: bool,
    /// Flag or keyword for every message, such as \Seen
    #[arg(long = "flag", value_name = "FLAG")]
    pub flags: Vec<String>,
    /// Message files, mbox files, Maildir directories; - is one message on standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

impl Cli {
    /// The configuration that the server has.
    pub fn config(&self) -> Result<Config, Failed> {
        Ok(self.sources().read(&Disk)?.loaded.config)
    }

    /// The files that it is made of.
    pub fn sources(&self) -> Sources {
        let mut sources = Sources {
            config: self.config.clone(),
            courier: self.courier.clone(),
            imapd_conf: self.imapd_conf.clone(),
            cyrus_conf: self.cyrus_conf.clone(),
        };
        let other = matches!(
            self.command,
            Command::Takeover(_)
                | Command::Handback(_)
                | Command::Expire(_)
                | Command::Unexpunge(_)
        );
        // There it says where the other server's store is, and our own configuration is whole, unless
        // both of Cyrus's files are given, which the server is started with then.
        if other && self.config.is_some() && self.cyrus_conf.is_none() {
            sources.imapd_conf = None;
        }
        sources
    }

    /// The configuration of a Cyrus whose store is taken over or given back.
    pub fn imapd_conf(&self) -> &Path {
        self.imapd_conf.as_deref().unwrap_or(Path::new("/etc/imapd.conf"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_restore_says_where_to_and_only_one_way() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("cursus restore --from b --user u --mailbox A --uid 7").is_ok());
        assert!(parse("cursus restore --from b --into-state d").is_ok());
        assert!(parse("cursus restore --from b --user u --in-place --into-namespace R").is_err());
        assert!(parse("cursus restore --from b --mailbox A").is_err());
        assert!(parse("cursus restore").is_err());
    }

    #[test]
    fn limits_are_sizes_and_exclude_their_removal() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let cli = parse("cursus quota set jo --mailbox a/b --storage 2G --messages 0").unwrap();
        let Command::Quota(QuotaCommand::Set(set)) = cli.command else { panic!("{cli:?}") };
        assert_eq!((set.storage, set.messages, set.mailboxes), (Some(2 << 30), Some(0), None));
        assert!(parse("cursus quota set jo --remove").is_ok());
        assert!(parse("cursus quota set jo --remove --messages 1").is_err());
        assert!(parse("cursus quota set jo --storage big").is_err());
    }

    #[test]
    fn bulk_and_a_name_exclude_each_other() {
        assert!(Cli::try_parse_from(["cursus", "user", "add", "jo"]).is_ok());
        assert!(Cli::try_parse_from(["cursus", "user", "add", "--bulk"]).is_ok());
        assert!(Cli::try_parse_from(["cursus", "user", "add"]).is_err());
        assert!(Cli::try_parse_from(["cursus", "user", "add", "--bulk", "jo"]).is_err());
    }
}
