//! `cursus deliver`: one message from standard input to users, for mail transports that run a
//! program: with the options of Cyrus's `deliver`, and exit statuses that they understand.
//!
//! | module | says |
//! |---|---|
//! | `message` | what comes on standard input |
//! | `lmtp` | the running server, asked by LMTP |
//! | `maildir` | the user's Maildir, where no server runs |
//! | `warning` | a note to users whose quota is nearly used up |
//!
//! | exit | with `--qmail` | when |
//! |---|---|---|
//! | 0 | 0 | durably stored, for everybody |
//! | 65 | 100 | the message is refused: too large |
//! | 67 | 100 | no such user |
//! | 75 | 111 | anything that may pass, and anything that is the operator's to mend: try again later |
//! | 77 | 100 | over quota |
//!
//! Invariants: 0 says that the message is stored; no mistake of a configuration makes mail bounce; of
//! several recipients one that may succeed later decides, and then those that have it already get it
//! twice rather than one not at all. The line on standard error begins with the enhanced status code.

mod lmtp;
mod maildir;
mod message;
mod warning;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use config::{Config, ListenerAddress, Protocol};

use crate::failure::Failed;
use lmtp::{Client, Endpoint};
use message::Message;

/// What is delivered, and to whom.
#[derive(Debug, Args)]
pub struct DeliverArgs {
    /// Users, or their addresses. None: $RECIPIENT; with --qmail $EXT@$HOST, or $USER
    #[arg(value_name = "USER")]
    pub users: Vec<String>,
    /// A user, as Dovecot's and maildrop's commands name him
    #[arg(short = 'd', value_name = "USER")]
    pub user: Vec<String>,
    /// The mailbox, if it is there; else INBOX. Without a user: a shared mailbox
    #[arg(short = 'm', value_name = "MAILBOX")]
    pub mailbox: Option<String>,
    /// The sender; without it $SENDER, or what the message's first lines say
    #[arg(short = 'f', short_alias = 'r', value_name = "ADDRESS", allow_hyphen_values = true)]
    pub sender: Option<String>,
    /// As whom mail is posted. Taken for Cyrus's sake: whoever delivers has anybody's rights
    #[arg(short = 'a', value_name = "NAME")]
    pub auth: Option<String>,
    /// Deliver also over quota
    #[arg(short = 'q')]
    pub ignore_quota: bool,
    /// Speak LMTP on standard input and output: all that comes is passed on to the server
    #[arg(short = 'l')]
    pub lmtp: bool,
    /// Put a note into mailboxes whose quota is used up to so much, once a day
    #[arg(short = 'w', value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub warn_percent: Option<u8>,
    /// A file with the text of that note, header and body
    #[arg(long, value_name = "FILE", requires = "warn_percent")]
    pub warning: Option<PathBuf>,
    /// Exit statuses and environment of qmail-local
    #[arg(long)]
    pub qmail: bool,
    /// The server's LMTP socket: a path, or host:port. Without it the configuration's
    #[arg(long, value_name = "ADDRESS")]
    pub socket: Option<String>,
}

/// Why a message is not stored for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// The message is too large, or no message.
    Message,
    /// No such user.
    Unknown,
    /// No room.
    OverQuota,
    /// May pass.
    Temporary,
}

/// A recipient's part that failed.
#[derive(Debug)]
struct Refused {
    reason: Reason,
    /// For the log of who runs us: an enhanced status code, then words.
    text: String,
}

impl Refused {
    fn temporary(text: impl std::fmt::Display) -> Refused {
        Refused { reason: Reason::Temporary, text: format!("4.3.0 {text}") }
    }
}

/// The status of a command line that is wrong: the operator's to mend.
pub const STATUS_USAGE: u8 = 75;

impl Reason {
    fn status(self, qmail: bool) -> u8 {
        match (self, qmail) {
            (Reason::Temporary, true) => 111,
            (_, true) => 100,
            (Reason::Message, false) => 65,
            (Reason::Unknown, false) => 67,
            (Reason::OverQuota, false) => 77,
            (Reason::Temporary, false) => 75,
        }
    }
}

/// Delivers.
pub fn run(args: &DeliverArgs, config: impl FnOnce() -> Result<Config, Failed>) -> ExitCode {
    ExitCode::from(status(args, config))
}

/// Delivers, and gives the exit status.
pub fn status(args: &DeliverArgs, config: impl FnOnce() -> Result<Config, Failed>) -> u8 {
    let refused = match deliver(args, config) {
        Ok(()) => return 0,
        Err(refused) => refused,
    };
    for one in &refused {
        eprintln!("{}", one.text);
    }
    let worst = refused.iter().map(|one| one.reason).max().unwrap_or(Reason::Temporary);
    worst.status(args.qmail)
}

fn deliver(
    args: &DeliverArgs,
    config: impl FnOnce() -> Result<Config, Failed>,
) -> Result<(), Vec<Refused>> {
    let one = |refused| vec![refused];
    // With a socket named, a configuration is of no use, and the caller may not even read it.
    let config = match (&args.socket, args.warn_percent) {
        (Some(_), None) => None,
        _ => Some(config().map_err(|e| one(Refused::temporary(e)))?),
    };
    let endpoint = match (&args.socket, &config) {
        (Some(named), _) => Endpoint::parse(named),
        (None, Some(config)) => endpoint(config)
            .ok_or_else(|| one(Refused::temporary("the configuration has no LMTP listener")))?,
        (None, None) => return Err(one(Refused::temporary("no socket"))),
    };
    if args.lmtp {
        return lmtp::pass_on(&endpoint).map_err(|e| one(Refused::temporary(e)));
    }
    let recipients = recipients(args, config.as_ref()).map_err(one)?;
    let message = Message::read(&mut io::stdin().lock(), args.sender.as_deref())
        .map_err(|e| one(Refused::temporary(format!("standard input: {e}"))))?;
    let client = match Client::connect(&endpoint) {
        Ok(client) => client,
        Err(error) => {
            let is_down =
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            return match &config {
                Some(config) if is_down => maildir::deliver(config, &recipients, &message),
                _ => Err(one(Refused::temporary(format!("{endpoint}: {error}")))),
            };
        }
    };
    let addresses: Vec<String> = recipients.iter().map(Recipient::address).collect();
    client.deliver(&addresses, &message, args.ignore_quota)?;
    if let (Some(percent), Some(config)) = (args.warn_percent, &config) {
        for recipient in &recipients {
            // The message is stored: what fails here is no reason to send it again.
            if let Err(error) =
                warning::perhaps(config, &endpoint, recipient, percent, args.warning.as_deref())
            {
                eprintln!("no note on the quota of {}: {error}", recipient.user);
            }
        }
    }
    Ok(())
}

/// Who gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recipient {
    user: String,
    mailbox: Option<String>,
    separator: char,
}

impl Recipient {
    /// As LMTP has it: the mailbox is the detail.
    fn address(&self) -> String {
        let (local, domain) = match self.user.rsplit_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (self.user.as_str(), None),
        };
        let local = match &self.mailbox {
            Some(mailbox) => format!("{local}{}{mailbox}", self.separator),
            None => local.to_owned(),
        };
        let local = lmtp::local_part(&local);
        match domain {
            Some(domain) => format!("{local}@{domain}"),
            None => local,
        }
    }
}

fn recipients(args: &DeliverArgs, config: Option<&Config>) -> Result<Vec<Recipient>, Refused> {
    let mut users: Vec<String> = args.users.iter().chain(&args.user).cloned().collect();
    if users.is_empty() && args.mailbox.is_some() {
        // Cyrus's shared mailboxes: `deliver -m announce`.
        users.extend(config.map(|c| c.lmtp.post_user.clone()).filter(|user| !user.is_empty()));
    }
    if users.is_empty() {
        users.extend(environment_user(args.qmail, |name| std::env::var(name).ok()));
    }
    if users.is_empty() {
        return Err(Refused::temporary("nobody to deliver to: expected a user"));
    }
    if users.iter().any(|user| user.chars().any(|c| c.is_control()) || user.is_empty()) {
        return Err(Refused { reason: Reason::Unknown, text: "5.1.3 bad address".to_owned() });
    }
    let separator = config.map_or('+', |config| config.lmtp.detail_separator);
    let mailbox = args.mailbox.clone().filter(|m| !m.eq_ignore_ascii_case("INBOX"));
    let one = |user| Recipient { user, mailbox: mailbox.clone(), separator };
    Ok(users.into_iter().map(one).collect())
}

/// Whom a transport runs us for: the recipient; of qmail-local, whose recipients have the prefix
/// of a virtual domain, the part behind that, else the user.
fn environment_user(qmail: bool, environment: impl Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    if !qmail {
        return set("RECIPIENT");
    }
    match (set("EXT"), set("HOST")) {
        (Some(ext), Some(host)) => Some(format!("{ext}@{host}")),
        _ => set("USER"),
    }
}

/// The best of the listeners: a unix socket that wants no login, before addresses of this machine.
fn endpoint(config: &Config) -> Option<Endpoint> {
    let rank = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Tcp(_));
    let open = |l: &&config::Listener| l.trusted || config.lmtp.users.is_empty();
    let of = |listener: &config::Listener| match &listener.address {
        ListenerAddress::Unix(path) => Some(Endpoint::Unix(path.clone())),
        ListenerAddress::Tcp(address) => {
            Some(Endpoint::Tcp(address.replacen("*:", "localhost:", 1)))
        }
        ListenerAddress::Systemd(_) => None,
    };
    let lmtp = config.listener.iter().filter(|l| l.protocol == Protocol::Lmtp).filter(open);
    lmtp.filter_map(of).min_by_key(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(user: &str, mailbox: Option<&str>) -> String {
        let mailbox = mailbox.map(str::to_owned);
        Recipient { user: user.to_owned(), mailbox, separator: '+' }.address()
    }

    #[test]
    fn a_mailbox_is_the_detail_of_the_address() {
        assert_eq!(recipient("jo", None), "jo");
        assert_eq!(recipient("jo@example.org", Some("Lists")), "jo+Lists@example.org");
        assert_eq!(recipient("jo", Some("Sent \"x\"")), "\"jo+Sent \\\"x\\\"\"");
    }

    #[test]
    fn qmails_environment_names_the_user() {
        let of = |pairs: &'static [(&str, &str)]| {
            environment_user(true, |name| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        let virtual_domain = [("EXT", "jo"), ("HOST", "example.org"), ("USER", "vmail")];
        assert_eq!(of(Box::leak(Box::new(virtual_domain))).unwrap(), "jo@example.org");
        assert_eq!(of(&[("EXT", ""), ("HOST", "h"), ("USER", "jo")]).unwrap(), "jo");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn what_may_pass_decides_over_what_may_not() {
        let worst = [Reason::Unknown, Reason::Temporary, Reason::OverQuota];
        assert_eq!(worst.into_iter().max().map(|r| r.status(false)), Some(75));
        assert_eq!(worst.into_iter().max().map(|r| r.status(true)), Some(111));
        assert_eq!(Reason::OverQuota.status(false), 77);
        assert_eq!(Reason::Unknown.status(true), 100);
    }
}
