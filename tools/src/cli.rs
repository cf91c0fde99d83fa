//! The command line: one definition for parsing, completions and manual pages.

mod moving;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use config::Config;
use inherit::{Disk, Sources};

use crate::failure::Failed;

pub use moving::{
    ExportFiles, FileForm, FoldersCommand, FoldersRename, ImportFiles, MigrateCommand, MigrateImap,
    MigrateTls,
};

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

/// Whose store is taken over.
#[derive(Debug, Subcommand)]
pub enum TakeoverCommand {
    /// Partitions and administration directory of Cyrus IMAP 2.3 to 3.x
    ///
    /// The configuration needs a partition of layout "cyrus" for each of Cyrus's, with its path.
    Cyrus(TakeoverCyrus),
}

/// How a Cyrus store is taken over.
#[derive(Debug, Args)]
pub struct TakeoverCyrus {
    /// Only read everything and say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Begin mailboxes whose cyrus.index or cyrus.header is damaged anew from their message files,
    /// with another UIDVALIDITY and without flags, instead of leaving them alone
    #[arg(long)]
    pub rebuild_damaged: bool,
    /// Copy messages from archive partitions into their mailboxes' own directories, instead of leaving
    /// these mailboxes alone
    #[arg(long)]
    pub from_archive: bool,
}

/// To whom a store is given back.
#[derive(Debug, Subcommand)]
pub enum HandbackCommand {
    /// Write the files of Cyrus IMAP 3.6 again
    ///
    /// Catalog and log go into a directory "handed-back-…" of the state directory.
    Cyrus(HandbackCyrus),
    /// Write Courier's files in all Maildirs: UIDs, keywords, subscriptions as they are now
    ///
    /// What changes later needs store.hand_back in the configuration, or another run.
    Courier(HandbackMaildirs),
    /// Write Dovecot's files in all Maildirs: UIDs, keywords, subscriptions as they are now
    ///
    /// What changes later needs store.hand_back in the configuration, or another run.
    Dovecot(HandbackMaildirs),
}

/// How a store is given back to Cyrus.
#[derive(Debug, Args)]
pub struct HandbackCyrus {
    /// While cursusd serves: write the files of mailboxes that have changed, again and again, so that
    /// the hand-back itself has little to write; ended by a signal
    #[arg(long)]
    pub watch: bool,
    /// Seconds from one pass of --watch to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "watch")]
    pub interval: u64,
}

/// Whose leftovers are removed.
#[derive(Debug, Subcommand)]
pub enum ExpireCommand {
    /// Files that Cyrus's delayed expunge and delayed delete left, as cyr_expire -X and -D do
    Cyrus(ExpireCyrus),
}

/// What of a Cyrus store is removed.
#[derive(Debug, Args)]
pub struct ExpireCyrus {
    /// Message files that were expunged there so many days ago or earlier, as cyr_expire -X
    #[arg(long, value_name = "DAYS", required_unless_present = "deleted")]
    pub expunged: Option<u64>,
    /// Mailboxes that were deleted there so many days ago or earlier, as cyr_expire -D
    #[arg(long, value_name = "DAYS")]
    pub deleted: Option<u64>,
    /// Only list them
    #[arg(long)]
    pub dry_run: bool,
}

/// Whose removed messages are listed or brought back.
#[derive(Debug, Subcommand)]
pub enum UnexpungeCommand {
    /// What Cyrus's delayed expunge kept, as its unexpunge does; and mailboxes that delayed delete kept
    Cyrus(UnexpungeCyrus),
}

/// What of a Cyrus store is listed or brought back.
#[derive(Debug, Args)]
pub struct UnexpungeCyrus {
    /// Whose mail; without --uid, --all and --within it is listed
    #[arg(long, required_unless_present = "deleted_mailboxes")]
    pub user: Option<String>,
    /// Only this mailbox, by its name here
    #[arg(long, requires = "user")]
    pub mailbox: Option<String>,
    /// Bring back these messages, by the UIDs that they had
    #[arg(long, value_name = "UID", value_delimiter = ',', requires = "mailbox")]
    pub uid: Vec<u32>,
    /// Bring back all that is kept of the mailbox
    #[arg(long, requires = "mailbox", conflicts_with_all = ["uid", "within"])]
    pub all: bool,
    /// Bring back what was expunged within this time: 90m, 12h, 3d, 2w, or seconds
    #[arg(long, value_name = "TIME", value_parser = span, requires = "mailbox", conflicts_with = "uid")]
    pub within: Option<u64>,
    /// Without \Deleted, which they mostly have
    #[arg(long)]
    pub clear_deleted: bool,
    /// With this keyword
    #[arg(long, value_name = "KEYWORD", value_parser = keyword)]
    pub flag: Option<String>,
    /// List mailboxes that were deleted there and are kept
    #[arg(long)]
    pub deleted_mailboxes: bool,
}

impl UnexpungeCyrus {
    /// Whether messages are brought back.
    pub fn restores(&self) -> bool {
        self.all || self.within.is_some() || !self.uid.is_empty()
    }
}

/// Seconds, or a number with m, h, d or w.
fn span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?}, expected 90m, 12h, 3d, 2w or seconds");
    let (digits, seconds) = match text.char_indices().last() {
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        Some((at, 'w')) => (&text[..at], 604_800),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).ok_or_else(wrong)
}

/// A keyword, and no system flag.
fn keyword(text: &str) -> Result<String, String> {
    match protocol::types::Keyword::new(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text:?}, expected a keyword without \\")),
    }
}

/// Which Maildirs are given back.
#[derive(Debug, Args)]
pub struct HandbackMaildirs {
    /// Only this user's mail
    #[arg(long)]
    pub user: Option<String>,
}

/// What a scrub reads, and how fast.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Only this user's mailboxes
    #[arg(long)]
    pub user: Option<String>,
    /// Only mailboxes of this name
    #[arg(long)]
    pub mailbox: Option<String>,
    /// Read at most so many MiB of messages a second
    #[arg(long, value_name = "N")]
    pub rate_mb: Option<u64>,
    /// Go on where the last scrub of the same choice was stopped
    #[arg(long)]
    pub resume: bool,
    /// Mend index, facts, names and cache where the other files tell what they were
    #[arg(long)]
    pub repair: bool,
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

/// Commands on the archive.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Show what was taken, what waits and what is missing
    Status,
    /// Take what waits now
    Take,
    /// Check an archive or backup directory by itself: digests, CRCs, gaps, every message
    Verify {
        /// Which; without it the configured one
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Only see that messages are there, do not read them
        #[arg(long)]
        quick: bool,
    },
    /// Remove what no restore to TIME or later needs
    Prune {
        /// RFC 3339, such as 2026-11-24T04:30:00Z
        #[arg(long, value_name = "TIME")]
        before: String,
        /// Which; without it the configured one
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where a backup goes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Directory; made when missing
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Write no faster than this
    #[arg(long, value_name = "N")]
    pub bytes_per_second: Option<u64>,
}

/// What is brought back, and where to.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Directory with a base backup
    #[arg(long, value_name = "DIR", required = true)]
    pub from: Vec<PathBuf>,
    /// Archive directory with the log behind it; without it the configured one, if it is there
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// The moment, RFC 3339 with zone; without it the latest
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// Only this user
    #[arg(long)]
    pub user: Option<String>,
    /// Only this folder
    #[arg(long, requires = "user")]
    pub mailbox: Option<String>,
    /// Only the message that had this UID
    #[arg(long, requires = "mailbox", conflicts_with = "message_id")]
    pub uid: Option<u32>,
    /// Only messages with this Message-ID
    #[arg(long, requires = "mailbox", value_name = "ID")]
    pub message_id: Option<String>,
    /// Make a store below this empty directory, with a configuration that names it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["into_namespace", "in_place"])]
    pub into_state: Option<PathBuf>,
    /// Put what comes back below this folder; "Restored" and the moment without it
    #[arg(long, value_name = "NAME", requires = "user", conflicts_with = "in_place")]
    pub into_namespace: Option<String>,
    /// Put back what is missing where it was; nothing that is there changes
    #[arg(long, requires = "user")]
    pub in_place: bool,
    /// Only list what would be put back
    #[arg(long, requires = "user", conflicts_with = "into_state")]
    pub dry_run: bool,
    /// Go on where changes are missing in the archive
    #[arg(long)]
    pub across_gaps: bool,
}

/// Commands on full-text indexes.
///
/// An index is a copy that makes searches fast; removing it loses nothing.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Show how far indexes are and what they take
    Status(IndexArgs),
    /// Index what is not indexed yet, now
    Update(IndexArgs),
    /// Make indexes anew, now
    Rebuild(IndexArgs),
    /// Remove indexes. Where search.index wants one, it is made again
    Drop(IndexArgs),
}

/// Which indexes.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Only this user's
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only this mailbox of the user
    #[arg(long, value_name = "MAILBOX", requires = "user")]
    pub mailbox: Option<String>,
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
        // There it says where the other server's store is, and our own configuration is whole.
        if other && self.config.is_some() {
            (sources.imapd_conf, sources.cyrus_conf) = (None, None);
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
    fn spans_of_time_have_units() {
        assert_eq!((span("90m"), span("2w"), span("7")), (Ok(5400), Ok(1_209_600), Ok(7)));
        for wrong in ["", "d", "-1h", "3y", "99999999999999999999", "18446744073709551615w", "3é"]
        {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(keyword("Back").is_ok() && keyword("\\Seen").is_err() && keyword("a b").is_err());
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
