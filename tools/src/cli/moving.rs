//! Mail that moves: from servers elsewhere, from and into files, folders that get other names.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::size;

/// Forms of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileForm {
    /// mboxo: a line "From " of a message is written ">From "
    #[value(alias = "mboxo")]
    Mbox,
    /// As mbox, reversibly: any number of ">" in front is one more
    Mboxrd,
    /// As mbox, with Content-Length
    Mboxcl,
    /// Content-Length, and nothing quoted
    Mboxcl2,
    /// Maildir, with the folders of Maildir++
    Maildir,
    /// MH folders with .mh_sequences
    Mh,
    /// A file for each message
    Eml,
    /// Dovecot's sdbox, and to be read its mdbox, of a Dovecot that is stopped
    Dbox,
}

/// What is brought in.
#[derive(Debug, Args)]
pub struct ImportFiles {
    /// Form of the files
    #[arg(value_enum)]
    pub form: FileForm,
    /// Whose mail it becomes
    #[arg(long)]
    pub user: String,
    /// The mailbox for messages that are in no folder, and above the folders; without it INBOX, and
    /// folders keep their names
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// Flag or keyword for every message, such as \Seen
    #[arg(long = "flag", value_name = "FLAG")]
    pub flags: Vec<String>,
    /// Take flags from the headers Status, X-Status and X-Keywords of an mbox
    #[arg(long)]
    pub status: bool,
    /// And remove these headers where they are the last ones, as export --status writes them
    #[arg(long, requires = "status")]
    pub strip_status: bool,
    /// Only the directory named, no folders below it
    #[arg(long)]
    pub no_folders: bool,
    /// Pass over messages that the mailbox has already, octet for octet: after an import that was
    /// stopped
    #[arg(long)]
    pub resume: bool,
    /// Only read, and say what would come where
    #[arg(long)]
    pub dry_run: bool,
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// What is written, and where.
#[derive(Debug, Args)]
pub struct ExportFiles {
    /// Form of the files
    #[arg(value_enum)]
    pub form: FileForm,
    /// Whose mail
    #[arg(long)]
    pub user: String,
    /// Only this mailbox; may be repeated. Without it all
    #[arg(long, value_name = "NAME")]
    pub mailbox: Vec<String>,
    /// Directory that is made, or the file of an mbox if one mailbox is named
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    /// Write flags as headers Status, X-Status and X-Keywords of an mbox
    #[arg(long)]
    pub status: bool,
    /// Only say what would be written
    #[arg(long)]
    pub dry_run: bool,
}

/// Where mail is copied from.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Any IMAP server
    ///
    /// Folders with subscriptions, special uses and access control lists; messages with flags,
    /// keywords and dates. A further run brings what has changed at the source since; one that was
    /// killed is gone on with.
    Imap(Box<MigrateImap>),
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MigrateTls {
    /// TLS from the first byte
    Implicit,
    /// TLS by STARTTLS, or no connection
    Starttls,
    /// No TLS: passwords go in the clear
    None,
}

/// What is copied, whose and how.
#[derive(Debug, Args)]
pub struct MigrateImap {
    /// The source
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// Its port; 993 with TLS from the first byte, else 143
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// How connections are protected
    #[arg(long, value_enum, default_value = "implicit")]
    pub tls: MigrateTls,
    /// PEM file with the only authorities that are trusted; without it the system's are
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Accept any certificate: whoever is on the way may read all, passwords too
    #[arg(long, conflicts_with = "tls_ca")]
    pub insecure: bool,
    /// File with lines of source user, password, target user, with tabs between them
    #[arg(long, value_name = "FILE", required_unless_present = "user", conflicts_with_all = ["user", "target", "password_file"])]
    pub users: Option<PathBuf>,
    /// One user's name at the source
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The user's name here, if it is another
    #[arg(long, value_name = "NAME", requires = "user")]
    pub target: Option<String>,
    /// File whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Log in as this user for all others; users files have no passwords then
    #[arg(long, value_name = "NAME", requires = "master_password_file")]
    pub master_user: Option<String>,
    /// File whose first line is the master user's password
    #[arg(long, value_name = "FILE", requires = "master_user")]
    pub master_password_file: Option<PathBuf>,
    /// The master user logs in as USER*MASTER, not by SASL with an authorization identity
    #[arg(long, requires = "master_user")]
    pub master_star: bool,
    /// Passwords are OAuth 2.0 access tokens, for OAUTHBEARER where the source offers it, else XOAUTH2
    #[arg(long, conflicts_with = "master_user")]
    pub bearer: bool,
    /// Passwords are OAuth 2.0 access tokens, for XOAUTH2
    #[arg(long, conflicts_with_all = ["master_user", "bearer"])]
    pub xoauth2: bool,
    /// The folders that the source shows users as shared, instead of the users' own: for one user who
    /// sees them all, into one whose mailboxes are shared here
    #[arg(long)]
    pub shared: bool,
    /// The source's POP3, for its UIDLs: clients that leave their mail on the server download nothing
    /// anew. Port 995 with TLS from the first byte, else 110; an IPv6 address in brackets
    #[arg(long, value_name = "HOST[:PORT]", value_parser = host_and_port, conflicts_with = "shared")]
    pub pop3: Option<(String, Option<u16>)>,
    /// How its connections are protected; without it as those of IMAP
    #[arg(long, value_enum, requires = "pop3")]
    pub pop3_tls: Option<MigrateTls>,
    /// Users at one time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = jobs)]
    pub jobs: usize,
    /// Read no more than this a second, all users together; perhaps with K, M, G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_rate: Option<u64>,
    /// How often a broken connection is made anew without anything done in between
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub retries: u32,
    /// Longest wait for the source, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// A folder, with / between levels, and what it and those below it become; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = crate::migrate::mapping::parse_map)]
    pub map: Vec<(String, String)>,
    /// Regular expression on names of folders, with / between levels, and what takes the place of
    /// what it finds; may be repeated
    #[arg(long, value_name = "PATTERN=>REPLACEMENT", value_parser = crate::migrate::mapping::parse_pattern)]
    pub regex: Vec<(regex::Regex, String)>,
    /// Prefix of all folders at the source; without it the one that the source tells
    #[arg(long, value_name = "PREFIX")]
    pub strip_prefix: Option<String>,
    /// Mailbox below which all but INBOX come
    #[arg(long, value_name = "NAME")]
    pub add_prefix: Option<String>,
    /// Only this folder and those below it; may be repeated
    #[arg(long, value_name = "FOLDER")]
    pub only: Vec<String>,
    /// Not this folder nor those below it; may be repeated
    #[arg(long, value_name = "FOLDER")]
    pub exclude: Vec<String>,
    /// Several folders may come into one mailbox
    #[arg(long)]
    pub merge: bool,
    /// Remove here what was copied and is gone at the source, mailboxes too
    #[arg(long)]
    pub delete: bool,
    /// Find messages that are here already, by another tool's work, in folders not yet migrated
    #[arg(long, value_name = "WHAT", value_parser = ["message-id"])]
    pub r#match: Option<String>,
    /// UIDVALIDITY and UIDs as they are at the source, for mailboxes that are new or were never used:
    /// mail programs fetch nothing anew. A folder where that cannot be does not come over
    #[arg(long, conflicts_with_all = ["merge", "match"])]
    pub keep_uids: bool,
    /// Leave access control lists alone
    #[arg(long)]
    pub no_acl: bool,
    /// Leave subscriptions alone
    #[arg(long)]
    pub no_subscriptions: bool,
    /// Only print which folder would become which mailbox
    #[arg(long)]
    pub dry_run: bool,
    /// Write what became of each user: CSV if the name ends in .csv, else JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where it is kept what was done; without it migrate.redb in the state directory
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let expected = || format!("{text:?}, expected HOST or HOST:PORT");
    // Colons of an address in brackets are its own.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(':') && !is_address {
        return Err(expected());
    }
    let port = port.map(|port| port.parse().ok().filter(|n| *n > 0).ok_or_else(expected));
    Ok((host.to_owned(), port.transpose()?))
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=JOBS_MAX) => Ok(n),
        _ => Err(format!("expected a number from 1 to {JOBS_MAX}")),
    }
}

/// Users that are migrated at one time: below the connections that the admin socket serves.
const JOBS_MAX: usize = 48;

/// Commands on folders of many users.
#[derive(Debug, Subcommand)]
pub enum FoldersCommand {
    /// Rename folders as a file says: all of a user's or none
    ///
    /// Nothing is done where a new name is there already, of any user. Subscriptions follow.
    Rename(FoldersRename),
}

/// Which folders are renamed.
#[derive(Debug, Args)]
pub struct FoldersRename {
    /// Lines of user, old name, new name with tabs between them; * is every user who has the folder
    #[arg(long, value_name = "FILE")]
    pub map: PathBuf,
    /// Where lines are written that undo it; without it the map's name with .undo behind
    #[arg(long, value_name = "FILE")]
    pub undo: Option<PathBuf>,
    /// Only say what would be renamed
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_have_ports() {
        let good = |text: &str| host_and_port(text).unwrap();
        assert_eq!(good("a.example"), ("a.example".to_owned(), None));
        assert_eq!(good("a.example:110"), ("a.example".to_owned(), Some(110)));
        assert_eq!(good("[::1]"), ("[::1]".to_owned(), None));
        assert_eq!(good("[::1]:995"), ("[::1]".to_owned(), Some(995)));
        for bad in ["", ":1", "a:", "a:0", "a:x", "a:65536", "::1"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
