//! Stores of other servers: taken over, given back, and what the other server kept there.

use clap::{Args, Subcommand};

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
    /// Which mailboxes.
    #[arg(skip)]
    pub of: ExpireOf,
}

/// Mailboxes of which something is removed, as cyr_expire chooses them.
#[derive(Clone, Debug, Default)]
pub enum ExpireOf {
    /// All.
    #[default]
    All,
    /// A user's, and those that the user deleted.
    User(String),
    /// Those whose internal names begin so.
    Prefix(String),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_have_units() {
        assert_eq!((span("90m"), span("2w"), span("7")), (Ok(5400), Ok(1_209_600), Ok(7)));
        for wrong in ["", "d", "-1h", "3y", "99999999999999999999", "18446744073709551615w", "3é"]
        {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(keyword("Back").is_ok() && keyword("\\Seen").is_err() && keyword("a b").is_err());
    }
}
