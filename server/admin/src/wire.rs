//! Requests and answers on the admin socket: one JSON object a line, each way, in turn.
//!
//! `{"v":1,"request":{"op":"status"}}` is answered by `{"v":1,"answer":{"ok":{…}}}` or
//! `{"v":1,"answer":{"error":{"code":"no_such_user","message":"…"}}}`. After the line of an
//! `import` request come the bytes of its messages, then the next request.
//!
//! Version rule: a change that an older peer would misread raises [`VERSION`], and either side
//! refuses a version that it doesn't know, by name.

use std::collections::BTreeSet;

use engine::{Moment, UserToAdopt};
use serde::{Deserialize, Serialize};

/// What this build speaks.
pub const VERSION: u32 = 1;

/// Longest request line.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A request with its version.
#[derive(Debug, Deserialize, Serialize)]
pub struct RequestLine {
    /// [`VERSION`] of the client.
    pub v: u32,
    /// What is asked.
    pub request: Request,
}

/// An answer with its version.
#[derive(Debug, Deserialize, Serialize)]
pub struct AnswerLine {
    /// [`VERSION`] of the server.
    pub v: u32,
    /// What came of it.
    pub answer: Answer,
}

/// What can be asked.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the server and the store are.
    Status,
    /// The mailboxes of one user, or of all.
    Mailboxes {
        /// Whose; absent: everybody's.
        user: Option<String>,
    },
    /// The mailboxes of everybody who has some that changed since.
    MailboxesChanged {
        /// From the last answer; absent: the mailboxes of all.
        since: Option<Moment>,
        /// Of these users, too.
        also: Vec<String>,
    },
    /// Makes a mailbox.
    MailboxCreate {
        /// Whose.
        user: String,
        /// UTF-8, `/` between levels.
        name: String,
        /// `\Sent` and the like (RFC 6154).
        special_use: Vec<String>,
    },
    /// Deletes a mailbox with its messages. Children stay.
    MailboxDelete {
        /// Whose.
        user: String,
        /// Which.
        name: String,
    },
    /// Renames a mailbox and its children.
    MailboxRename {
        /// Whose.
        user: String,
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// Gives a mailbox in which nothing was ever stored the UIDVALIDITY that it had on another server;
    /// else [`FailureCode::NotAllowed`].
    UidValiditySet {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// Not 0.
        uid_validity: u32,
    },
    /// Has the next message get at least this UID.
    UidNextRaise {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// The mailbox's; another one: [`FailureCode::Changed`].
        uid_validity: u32,
        /// No message has it, nor one above.
        uid_next: u32,
    },
    /// Gives messages new UIDs, above all others. Those that are gone are passed over.
    Renumber {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// The mailbox's; another one: [`FailureCode::Changed`].
        uid_validity: u32,
        /// Which.
        uids: Vec<u32>,
    },
    /// UIDLs of POP3 that messages of a mailbox had at another server, in order of their UIDs, also
    /// of messages that are gone.
    Uidls {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// Only those of a UID above this.
        above: u32,
    },
    /// Gives messages such UIDLs.
    UidlsSet {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// The mailbox's; another one: [`FailureCode::Changed`].
        uid_validity: u32,
        /// UIDs, and the UIDL of each.
        uidls: Vec<(u32, String)>,
    },
    /// Subscribes to a mailbox, or no longer.
    MailboxSubscribe {
        /// Whose.
        user: String,
        /// Which.
        name: String,
        /// Whether the subscription shall exist.
        on: bool,
    },
    /// The quota roots of one user, or of all.
    Quotas {
        /// Whose; absent: everybody's.
        user: Option<String>,
    },
    /// Sets the limits of a quota root, or takes them back.
    QuotaSet {
        /// Whose.
        user: String,
        /// The mailbox that becomes a root; absent: the user's own root.
        mailbox: Option<String>,
        /// All limits of the root; absent: what was set is taken back.
        limits: Option<engine::QuotaLimits>,
    },
    /// Stores messages, all or none, in this order. Their bytes follow the line, one after
    /// the other.
    Import {
        /// Whose.
        user: String,
        /// Where.
        mailbox: String,
        /// At least one.
        messages: Vec<ImportMessage>,
        /// Only if this is the mailbox's UIDNEXT, else [`FailureCode::Changed`]: who does not know
        /// whether an earlier request was done can ask so again, and it is not done twice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid_next: Option<u32>,
    },
    /// What is known of a mailbox's messages, in order of their UIDs.
    Messages {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// Only those with a UID above this.
        above: u32,
        /// How many, at most.
        limit: u32,
        /// With the Message-ID of each.
        message_ids: bool,
    },
    /// The octets of messages. They follow the answer, one after the other.
    Read {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// At most [`READ_MESSAGES_MAX`].
        uids: Vec<u32>,
    },
    /// Adds and removes flags. Messages that are gone are passed over.
    ChangeFlags {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// The mailbox's; another one: [`FailureCode::Changed`].
        uid_validity: u32,
        /// In this order.
        changes: Vec<FlagsChange>,
    },
    /// Removes messages for good.
    Expunge {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// The mailbox's; another one: [`FailureCode::Changed`].
        uid_validity: u32,
        /// Which. Those that are gone are passed over.
        uids: Vec<u32>,
    },
    /// Sets the rights of one identifier.
    AclSet {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// As IMAP has it; a name without a domain is of the user's.
        identifier: String,
        /// All that it has then; empty: none.
        rights: String,
    },
    /// Sets what a mailbox is for.
    SpecialUseSet {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
        /// `\Sent` and the like.
        special_use: Vec<String>,
    },
    /// Renames several mailboxes with their children, all or none, in one transaction. No new name
    /// may be the name of a mailbox that is there before.
    MailboxesRename {
        /// Whose.
        user: String,
        /// Old and new names.
        renames: Vec<(String, String)>,
    },
    /// Compares indexes with files.
    Check {
        /// Whose; absent: everybody's.
        user: Option<String>,
    },
    /// Reads messages and compares them with what was stored, for so many seconds; asked again
    /// with `resume` it goes on.
    Scrub {
        /// Whose; absent: everybody's.
        user: Option<String>,
        /// Which; absent: all.
        mailbox: Option<String>,
        /// Bytes read in a second, at most; absent: as fast as they come.
        rate_bytes: Option<u64>,
        /// Go on where the last one of this choice stopped.
        resume: bool,
        /// Mend what can be mended.
        repair: bool,
        /// How long this request may take.
        seconds: u64,
    },
    /// Does something with full-text indexes.
    Index {
        /// What.
        action: IndexAction,
        /// Whose; absent: everybody's.
        user: Option<String>,
        /// Of which mailbox; absent: all of the user's.
        mailbox: Option<String>,
    },
    /// Writes the files of an old server in all Maildirs as it has them.
    HandBack {
        /// Whose form.
        server: config::OldServer,
        /// Whose mail; absent: everybody's.
        user: Option<String>,
    },
    /// What the store knows, in the form in which it is adopted: of a user without messages, or of one
    /// mailbox with its messages.
    Describe {
        /// Whose.
        user: String,
        /// Which mailbox; absent: all of the user's, without messages.
        mailbox: Option<String>,
    },
    /// Brings the files up to date with the log, durably.
    Checkpoint,
    /// Takes what waits to the archive now.
    ArchiveNow,
    /// Makes a base backup. Answered when it is done.
    Backup {
        /// Directory, absolute, as the one who answers sees it.
        to: String,
        /// Copy no faster than this; absent: as fast as it goes.
        bytes_per_second: Option<u64>,
        /// The users file, which is kept with it.
        users_file: Option<String>,
    },
    /// How far a running backup is.
    BackupProgress,
    /// Ends a running backup.
    BackupCancel,
    /// Content ids of a mailbox's messages.
    Contents {
        /// Whose.
        user: String,
        /// Which.
        mailbox: String,
    },
    /// Reads the users file now. (A running server also notices a change by itself.)
    ReloadUsers,
    /// Reads configuration and certificates again, as SIGHUP does.
    Reload,
}

/// Messages of a [`Request::Read`].
pub const READ_MESSAGES_MAX: usize = 64;

/// Messages of a [`Reply::Messages`].
pub const MESSAGE_LINES_MAX: u32 = 4096;

/// One change of a [`Request::ChangeFlags`].
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FlagsChange {
    /// Of these messages.
    pub uids: Vec<u32>,
    /// Flags and keywords that they get.
    pub add: Vec<String>,
    /// Flags and keywords that they lose.
    pub remove: Vec<String>,
}

/// One message.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct MessageLine {
    /// Its UID.
    pub uid: u32,
    /// Flags and keywords as in IMAP.
    pub flags: Vec<String>,
    /// Unix seconds.
    pub internal_date: i64,
    /// By the Date header, where that is there and the index has it; unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_date: Option<i64>,
    /// Octets as served.
    pub size: u64,
    /// BLAKE3-128 of the octets, hexadecimal; empty where it is not known.
    pub content_id: String,
    /// The Message-ID without blanks around it, where it was asked for and is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

/// What can be done with full-text indexes.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum IndexAction {
    /// Tell how far they are.
    Status,
    /// Make them anew, now.
    Rebuild,
    /// Bring them up to date, now.
    Update,
    /// Remove them. Where the configuration wants one, it is made again.
    Drop,
}

/// A message of an [`Request::Import`].
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ImportMessage {
    /// How many bytes follow.
    pub bytes: u64,
    /// Flags and keywords as in IMAP.
    pub flags: Vec<String>,
    /// Unix seconds; absent: now.
    pub internal_date: Option<i64>,
    /// The UID that it had on another server; absent: the next one. Those of one request ascend, the
    /// first is not below UIDNEXT, and where one has a UID all have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// How many bytes of annotations (RFC 5257) follow behind it, at most
    /// [`ANNOTATIONS_BYTES_MAX`]: JSON, a list of [`ImportAnnotation`]; 0: it has none.
    #[serde(default)]
    pub annotations_bytes: u64,
}

/// Bytes of the annotations of one message that an import takes.
pub const ANNOTATIONS_BYTES_MAX: u64 = 64 << 20;

/// A value of an annotation of a message.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ImportAnnotation {
    /// The user whose own it is; empty: shared.
    pub whose: String,
    /// Name of the entry.
    pub entry: String,
    /// Its octets.
    pub value: Vec<u8>,
}

/// What came of a request.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    Ok(Reply),
    /// It wasn't.
    Error(Failure),
}

/// What a request that was done gives back.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Mailboxes`].
    Mailboxes(Vec<MailboxLine>),
    /// To [`Request::MailboxesChanged`].
    MailboxesChanged {
        /// To ask with the next time.
        now: Moment,
        /// Whose are told, all of them; absent: everybody's.
        users: Option<BTreeSet<String>>,
        /// What they have.
        mailboxes: Vec<MailboxLine>,
    },
    /// To [`Request::Quotas`] and [`Request::QuotaSet`].
    Quotas(Vec<QuotaLine>),
    /// To [`Request::Import`]: durable.
    Imported {
        /// UIDs of the new messages, in order.
        uids: Vec<u32>,
        /// UIDVALIDITY of its mailbox.
        uid_validity: u32,
    },
    /// To [`Request::Renumber`]: durable.
    Renumbered {
        /// UIDs before and now.
        uids: Vec<(u32, u32)>,
    },
    /// To [`Request::Uidls`].
    Uidls {
        /// By rising UID, at most [`MESSAGE_LINES_MAX`].
        uidls: Vec<(u32, String)>,
        /// Whether there are more behind the last.
        more: bool,
    },
    /// To [`Request::Check`].
    Checked {
        /// Mailboxes looked at.
        mailboxes: u64,
        /// Messages looked at.
        messages: u64,
        /// What is wrong, one entry a finding.
        findings: Vec<String>,
    },
    /// To [`Request::Scrub`].
    Scrubbed {
        /// Mailboxes done, those of earlier requests included.
        mailboxes: u64,
        /// Mailboxes to be done.
        mailboxes_total: u64,
        /// Messages read by this request.
        messages: u64,
        /// Their octets.
        bytes: u64,
        /// What is wrong, one entry a finding.
        damaged: Vec<String>,
        /// What was mended.
        mended: Vec<String>,
        /// Whether nothing is left to do.
        done: bool,
    },
    /// To [`Request::Index`].
    Index(Vec<IndexLine>),
    /// To [`Request::ReloadUsers`].
    Users {
        /// Users that are there now.
        count: u64,
        /// Bad lines.
        problems: Vec<String>,
    },
    /// To [`Request::ArchiveNow`]: whether nothing waits any more.
    Archived {
        /// Nothing waits.
        all: bool,
    },
    /// To [`Request::Backup`]: the engine's report.
    BackedUp(serde_json::Value),
    /// To [`Request::BackupProgress`].
    BackupProgress {
        /// What it does; empty when none runs.
        phase: String,
        /// Mailboxes copied.
        mailboxes: u64,
        /// Mailboxes to copy.
        mailboxes_total: u64,
        /// Messages looked at.
        messages: u64,
        /// Octets written.
        bytes: u64,
    },
    /// To [`Request::Contents`]: one hexadecimal id a message.
    Contents(Vec<String>),
    /// To [`Request::Messages`].
    Messages {
        /// Of the mailbox.
        uid_validity: u32,
        /// Of the mailbox.
        uid_next: u32,
        /// By rising UID.
        messages: Vec<MessageLine>,
        /// Whether there are more behind the last.
        more: bool,
    },
    /// To [`Request::Read`]: how many octets of each follow; `None`: it is not there.
    Bodies {
        /// In the order asked for.
        octets: Vec<Option<u64>>,
    },
    /// To [`Request::HandBack`]: how many mailboxes were written.
    HandedBack {
        /// Mailboxes in Maildirs.
        mailboxes: usize,
    },
    /// To [`Request::Describe`]: a mailbox that was named and is not there is missing.
    Described(Box<UserToAdopt>),
    /// To all others.
    Done,
}

/// How the server and the store are.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Status {
    /// Version of the program that answers.
    pub version: String,
    /// Whether a server runs, or the asker opened the store itself.
    pub running: bool,
    /// The server's, or the asker's own.
    pub pid: u32,
    /// Since the server's start.
    pub uptime_seconds: u64,
    /// How files are read: `ring`, `pool` or `inline`.
    pub io: String,
    /// Whether the server is stopping.
    pub draining: bool,
    /// Open connections by protocol.
    pub sessions: Sessions,
    /// Since the server's start.
    pub totals: Totals,
    /// How long each core kept its sessions waiting, since the start.
    #[serde(default)]
    pub stalls: Vec<CoreStalls>,
    /// The store's own figures.
    pub store: serde_json::Value,
}

/// How long one core kept its sessions waiting: how late a timer came, every 5 ms, and how long
/// the turns of its sessions were. Pairs of microseconds and how often it was that much or less,
/// but more than the pair before says.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct CoreStalls {
    /// Wall time, other processes' share of the processor included.
    pub late_us: Vec<(u64, u64)>,
    /// Of that, processor time of the core itself.
    pub busy_us: Vec<(u64, u64)>,
    /// Wall time of turns: what a session did between two others.
    #[serde(default)]
    pub turns_us: Vec<(u64, u64)>,
    /// Of that, what other processes' share of the processor does not explain: computing, and
    /// waiting for locks and disks.
    #[serde(default)]
    pub turns_own_us: Vec<(u64, u64)>,
    /// Of that, processor time.
    #[serde(default)]
    pub turns_busy_us: Vec<(u64, u64)>,
}

impl CoreStalls {
    /// The microseconds that at most `share` of the looks were above; 0 without any.
    pub fn quantile_us(buckets: &[(u64, u64)], share: f64) -> u64 {
        let total: u64 = buckets.iter().map(|(_, count)| count).sum();
        let rank = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reaches = |(_, count): &&(u64, u64)| {
            seen += count;
            seen >= rank
        };
        buckets.iter().find(reaches).map_or(0, |(us, _)| *us)
    }
}

/// Open connections by protocol.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Sessions {
    /// IMAP
    pub imap: u64,
    /// POP3
    pub pop3: u64,
    /// LMTP
    pub lmtp: u64,
}

/// What happened since the server's start.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Totals {
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Messages delivered, one for each recipient.
    pub deliveries: u64,
    /// Messages not delivered, one for each recipient.
    pub delivery_failures: u64,
}

/// One mailbox.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct MailboxLine {
    /// Whose.
    pub user: String,
    /// UTF-8, `/` between levels.
    pub name: String,
    /// Messages in it.
    pub messages: u32,
    /// Of these, without `\Seen`.
    pub unseen: u32,
    /// Their sizes together, as served.
    pub bytes: u64,
    /// See RFC 3501 section 2.3.1.1.
    pub uid_validity: u32,
    /// Likewise.
    pub uid_next: u32,
    /// See RFC 7162.
    pub modseq_highest: u64,
    /// Whether the user is subscribed to it.
    pub subscribed: bool,
    /// `\Sent` and the like.
    pub special_use: Vec<String>,
    /// The partition that its messages are on.
    pub partition: String,
}

/// One quota root.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct QuotaLine {
    /// Whose.
    pub user: String,
    /// The mailbox that it is set on; absent: the user's own root.
    pub mailbox: Option<String>,
    /// What is allowed.
    pub limits: engine::QuotaLimits,
    /// Octets of the messages that are there, as served.
    pub bytes: u64,
    /// Messages that are there.
    pub messages: u64,
    /// Mailboxes that are there.
    pub mailboxes: u64,
    /// Octets of their annotations' values.
    #[serde(default)]
    pub annotation_bytes: u64,
}

/// The full-text index of one mailbox.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct IndexLine {
    /// Whose.
    pub user: String,
    /// UTF-8, `/` between levels.
    pub mailbox: String,
    /// Files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Terms in them.
    pub terms: u64,
    /// Messages of the mailbox that are searched without an index.
    pub uncovered: u64,
    /// Bytes of the mailbox's messages.
    pub mail_bytes: u64,
}

/// Why a request was not done.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub code: FailureCode,
    /// For people.
    pub message: String,
}

/// Why a request was not done, for programs.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The request isn't understood, or a value in it is wrong.
    BadRequest,
    /// The versions of both sides don't go together.
    Version,
    /// No user of that name.
    NoSuchUser,
    /// No mailbox of that name.
    NoSuchMailbox,
    /// The name is taken.
    Exists,
    /// The store's rules don't allow it.
    NotAllowed,
    /// The mailbox is not what it was.
    Changed,
    /// The user's limit would be passed.
    OverQuota,
    /// The message is too large.
    TooBig,
    /// It may work later; the server's log says more.
    Temporary,
    /// Only a running server can do this.
    NeedsServer,
}

impl Failure {
    /// A failure from its parts.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_look_as_documented() {
        let line = RequestLine { v: 1, request: Request::Status };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"v":1,"request":{"op":"status"}}"#);
        let failure = Failure::new(FailureCode::NoSuchUser, "x");
        let line = AnswerLine { v: 1, answer: Answer::Error(failure) };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"v":1,"answer":{"error":{"code":"no_such_user","message":"x"}}}"#);
    }

    #[test]
    fn every_reply_survives_the_wire() {
        let replies = [
            Reply::Done,
            Reply::Imported { uids: vec![7, 8], uid_validity: 9 },
            Reply::Status(Box::default()),
            Reply::Checked { mailboxes: 1, messages: 2, findings: vec!["f".to_owned()] },
        ];
        for reply in replies {
            let line = AnswerLine { v: VERSION, answer: Answer::Ok(reply) };
            let text = serde_json::to_string(&line).unwrap();
            let back: AnswerLine = serde_json::from_str(&text).unwrap();
            assert_eq!(back.answer, line.answer);
        }
    }
}
