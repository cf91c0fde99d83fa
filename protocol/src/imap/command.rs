//! IMAP commands as values: what [`super::decode`] yields and sessions carry out.
//!
//! Mailbox names are UTF-8 here whatever the wire had, with `INBOX` in upper case; list patterns
//! too. Sets of the client are kept as written: only a session can resolve `*` and `$`.

use super::annotation::{AnnotationAttribute, AnnotationKey, AnnotationSet};
use super::search::SearchKey;
use super::sort::{SortCriterion, ThreadAlgorithm};
use crate::types::{Keyword, ModSeq, PartialRange, SequenceSet, SystemFlags, UidValidity};

/// The client's name for one command, echoed in its tagged response. Never empty, at most
/// [`Tag::BYTES_MAX`] bytes, and safe to write as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(pub(super) String);

impl Tag {
    /// Longest tag accepted, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The tag as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Echoed in the answer.
    pub tag: Tag,
    /// What is asked.
    pub body: Body,
}

/// Every command but APPEND, whose messages the framer streams: see [`AppendHead`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names of the fields are those of the RFCs' grammar.
pub enum Body {
    Capability,
    Noop,
    Logout,
    StartTls,
    Compress { algorithm: String },
    Unauthenticate,
    Language(Vec<String>),
    GenUrlAuth(Vec<(String, String)>),
    ResetKey { mailbox: Option<String>, mechanisms: Vec<String> },
    UrlFetch(Vec<UrlFetch>),
    Login { user: String, password: Vec<u8> },
    Authenticate { mechanism: String, initial: Option<Vec<u8>> },
    Enable(Vec<String>),
    Id(Vec<(String, Option<String>)>),
    Namespace,
    Idle,
    Select { mailbox: String, read_only: bool, parameters: SelectParameters },
    Create { mailbox: String, partition: Option<String>, special_use: Vec<String> },
    Delete { mailbox: String },
    Rename { from: String, to: String, partition: Option<String> },
    Subscribe { mailbox: String },
    Unsubscribe { mailbox: String },
    List(List),
    Lsub { reference: String, pattern: String },
    Scan { reference: String, pattern: String, text: String },
    Status { mailbox: String, items: Vec<StatusItem> },
    Notify(Notify),
    GetMetadata(GetMetadata),
    SetMetadata { mailbox: Option<String>, changes: Vec<(String, Option<Vec<u8>>)> },
    GetAcl { mailbox: String },
    SetAcl { mailbox: String, identifier: String, rights: String },
    DeleteAcl { mailbox: String, identifier: String },
    ListRights { mailbox: String, identifier: String },
    MyRights { mailbox: String },
    GetQuota { root: String },
    GetQuotaRoot { mailbox: String },
    SetQuota { root: String, limits: Vec<(String, u64)> },
    Check,
    Close,
    Unselect,
    Expunge,
    UidExpunge(SetArgument),
    UidBatches(UidBatches),
    Search(Search),
    MultiSearch(Box<MultiSearch>),
    Sort(Box<Sort>),
    Thread(Thread),
    CancelUpdate(Vec<String>),
    Comparator(Vec<String>),
    Fetch(Fetch),
    Store(Store),
    Copy(Copy),
    Move(Copy),
}

impl Body {
    /// The command's word; of those with a UID form, the plain one.
    pub fn name(&self) -> &'static str {
        match self {
            Body::Capability => "CAPABILITY",
            Body::Noop => "NOOP",
            Body::Logout => "LOGOUT",
            Body::StartTls => "STARTTLS",
            Body::Compress { .. } => "COMPRESS",
            Body::Language(_) => "LANGUAGE",
            Body::GenUrlAuth(_) => "GENURLAUTH",
            Body::ResetKey { .. } => "RESETKEY",
            Body::UrlFetch(_) => "URLFETCH",
            Body::Unauthenticate => "UNAUTHENTICATE",
            Body::Login { .. } => "LOGIN",
            Body::Authenticate { .. } => "AUTHENTICATE",
            Body::Enable(_) => "ENABLE",
            Body::Id(_) => "ID",
            Body::Namespace => "NAMESPACE",
            Body::Idle => "IDLE",
            Body::Select { .. } => "SELECT",
            Body::Create { .. } => "CREATE",
            Body::Delete { .. } => "DELETE",
            Body::Rename { .. } => "RENAME",
            Body::Subscribe { .. } => "SUBSCRIBE",
            Body::Unsubscribe { .. } => "UNSUBSCRIBE",
            Body::List(_) => "LIST",
            Body::Scan { .. } => "SCAN",
            Body::Lsub { .. } => "LSUB",
            Body::Status { .. } => "STATUS",
            Body::Notify(_) => "NOTIFY",
            Body::GetMetadata(_) => "GETMETADATA",
            Body::SetMetadata { .. } => "SETMETADATA",
            Body::GetAcl { .. } => "GETACL",
            Body::SetAcl { .. } => "SETACL",
            Body::DeleteAcl { .. } => "DELETEACL",
            Body::ListRights { .. } => "LISTRIGHTS",
            Body::MyRights { .. } => "MYRIGHTS",
            Body::GetQuota { .. } => "GETQUOTA",
            Body::GetQuotaRoot { .. } => "GETQUOTAROOT",
            Body::SetQuota { .. } => "SETQUOTA",
            Body::Check => "CHECK",
            Body::Close => "CLOSE",
            Body::Unselect => "UNSELECT",
            Body::Expunge => "EXPUNGE",
            Body::UidExpunge(_) => "UID EXPUNGE",
            Body::UidBatches(_) => "UIDBATCHES",
            Body::Search(_) => "SEARCH",
            Body::MultiSearch(_) => "ESEARCH",
            Body::CancelUpdate(_) => "CANCELUPDATE",
            Body::Comparator(_) => "COMPARATOR",
            Body::Sort(_) => "SORT",
            Body::Thread(_) => "THREAD",
            Body::Fetch(_) => "FETCH",
            Body::Store(_) => "STORE",
            Body::Copy(_) => "COPY",
            Body::Move(_) => "MOVE",
        }
    }
}

/// A message set of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetArgument {
    /// Numbers, UIDs or sequence numbers as the command says.
    Set(SequenceSet),
    /// `$`, the saved search result (RFC 5182).
    Saved,
}

/// Parameters of SELECT and EXAMINE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectParameters {
    /// CONDSTORE (RFC 7162)
    pub condstore: bool,
    /// ANNOTATE (RFC 5257): tell of annotations that others change.
    pub annotate: bool,
    /// QRESYNC (RFC 7162)
    pub qresync: Option<Box<QResync>>,
}

/// What a client of SELECT knew of a mailbox when it last saw it: QRESYNC of RFC 7162 section
/// 3.2.5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QResync {
    /// The UIDVALIDITY that the rest is about.
    pub uid_validity: UidValidity,
    /// Changes above this are to be told.
    pub modseq: ModSeq,
    /// UIDs that it is interested in; `None`: all. Without `*`.
    pub known: Option<SequenceSet>,
    /// Sequence numbers and the UIDs that they had, in ascending order. Without `*`.
    pub matched: Option<(SequenceSet, SequenceSet)>,
}

/// LIST with the extensions of RFC 5258, 5819 and 6154.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// XLIST, which Gmail had before RFC 6154.
    pub xlist: bool,
    /// Written in the extended form: changes what an empty pattern means.
    pub extended: bool,
    /// SUBSCRIBED: list subscriptions, existing or not.
    pub select_subscribed: bool,
    /// REMOTE: as nothing is remote here, without effect.
    pub select_remote: bool,
    /// SPECIAL-USE: list only mailboxes with a use.
    pub select_special_use: bool,
    /// RECURSIVEMATCH: also list parents of what matches, with CHILDINFO.
    pub recursive_match: bool,
    /// What the patterns are relative to.
    pub reference: String,
    /// At least one.
    pub patterns: Vec<String>,
    /// RETURN (SUBSCRIBED)
    pub return_subscribed: bool,
    /// RETURN (CHILDREN)
    pub return_children: bool,
    /// RETURN (SPECIAL-USE)
    pub return_special_use: bool,
    /// RETURN (STATUS (...)), empty if not asked.
    pub return_status: Vec<StatusItem>,
    /// RETURN (MYRIGHTS) of RFC 8440
    pub return_my_rights: bool,
    /// RETURN (METADATA (...)) of RFC 9590: names of entries, empty if not asked.
    pub return_metadata: Vec<String>,
}

/// NOTIFY (RFC 5465).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// No events at all.
    None,
    /// These, instead of those before.
    Set {
        /// Tell the state of mailboxes first.
        status: bool,
        /// At least one.
        groups: Vec<EventGroup>,
    },
}

/// Events of some mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventGroup {
    /// Which mailboxes.
    pub filter: MailboxFilter,
    /// Which events; empty: NONE.
    pub events: Vec<NotifyEvent>,
}

/// Which mailboxes an event group is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Named as on the wire.
pub enum MailboxFilter {
    Selected { delayed: bool },
    Inboxes,
    Personal,
    Subscribed,
    Subtree(Vec<String>),
    Mailboxes(Vec<String>),
}

/// An event that a client wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Named as on the wire.
pub enum NotifyEvent {
    /// With what to tell of each new message.
    MessageNew(Vec<FetchItem>),
    MessageExpunge,
    FlagChange,
    AnnotationChange,
    MailboxName,
    SubscriptionChange,
    MailboxMetadataChange,
    ServerMetadataChange,
    /// One that we don't know.
    Unknown,
}

/// GETMETADATA (RFC 5464).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetMetadata {
    /// `None`: the server.
    pub mailbox: Option<String>,
    /// Names, not looked into; at least one.
    pub entries: Vec<String>,
    /// Longer values are not told.
    pub max_size: Option<u64>,
    /// How far below the entries.
    pub depth: MetadataDepth,
}

/// How far below an entry GETMETADATA looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Named as on the wire.
pub enum MetadataDepth {
    #[default]
    Zero,
    One,
    Infinity,
}

/// What STATUS can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Named as on the wire.
pub enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    DeletedStorage,
    Size,
    HighestModSeq,
    AppendLimit,
    MailboxId,
}

/// UIDBATCHES (RFC 10022).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UidBatches {
    /// Messages of a batch.
    pub size: u32,
    /// First and last batch wanted, from 1, in the client's order; `None`: all.
    pub wanted: Option<(u32, u32)>,
}

/// SEARCH and UID SEARCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Answer in UIDs.
    pub uid: bool,
    /// RETURN (...), RFC 4731, 5182, 6203 and 9394. `None`: not given, the answer is `* SEARCH` in rev1.
    pub options: Option<SearchReturn>,
    /// What messages have to meet.
    pub key: SearchKey,
}

/// The RETURN options of SEARCH. RETURN () is decoded as ALL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Named as on the wire.
pub struct SearchReturn {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
    pub save: bool,
    pub relevancy: bool,
    pub context: bool,
    pub update: bool,
    /// RFC 9394 and RFC 5267 section 4.4; never beside `all`.
    pub partial: Option<PartialRange>,
}

/// ESEARCH: RFC 7377.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiSearch {
    /// IN (...). `None`: not given, the selected mailbox is meant.
    pub sources: Option<Vec<SearchSource>>,
    /// What is told of each mailbox.
    pub options: SearchReturn,
    /// What messages have to meet.
    pub key: SearchKey,
}

/// Mailboxes that ESEARCH looks into: RFC 7377 section 2.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchSource {
    /// The selected one.
    Selected,
    /// Those that mail is delivered to.
    Inboxes,
    /// All in the personal namespace.
    Personal,
    /// Those that the user has subscribed to.
    Subscribed,
    /// These and all below.
    Subtree(Vec<String>),
    /// These and those one level below.
    SubtreeOne(Vec<String>),
    /// These.
    Mailboxes(Vec<String>),
}

/// SORT and UID SORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Answer in UIDs.
    pub uid: bool,
    /// RETURN (...), RFC 5267 section 3. `None`: not given, the answer is `* SORT`.
    pub options: Option<SearchReturn>,
    /// The first one counts most; never empty.
    pub criteria: Vec<SortCriterion>,
    /// What [`SortKey::Annotation`](super::sort::SortKey::Annotation) stands for.
    pub annotations: Vec<AnnotationKey>,
    /// What messages have to meet.
    pub key: SearchKey,
}

/// THREAD and UID THREAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Answer in UIDs.
    pub uid: bool,
    /// How messages are put together.
    pub algorithm: ThreadAlgorithm,
    /// What messages have to meet.
    pub key: SearchKey,
}

/// FETCH and UID FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The set is of UIDs; each answer then has a UID item.
    pub uid: bool,
    /// Which messages.
    pub set: SetArgument,
    /// What to tell of them, in the client's order, macros expanded.
    pub items: Vec<FetchItem>,
    /// CHANGEDSINCE (RFC 7162).
    pub changed_since: Option<ModSeq>,
    /// VANISHED (RFC 7162): also tell which of the set were removed since.
    pub vanished: bool,
    /// PARTIAL (RFC 9394): only these of the set's messages.
    pub partial: Option<PartialRange>,
}

/// One data item of FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Named as on the wire.
pub enum FetchItem {
    Uid,
    Flags,
    InternalDate,
    Rfc822Size,
    Envelope,
    Body,
    BodyStructure,
    ModSeq,
    Rfc822,
    Rfc822Header,
    Rfc822Text,
    Section {
        peek: bool,
        section: Section,
        partial: Option<Partial>,
    },
    Binary {
        peek: bool,
        part: Vec<u32>,
        partial: Option<Partial>,
    },
    BinarySize {
        part: Vec<u32>,
    },
    EmailId,
    ThreadId,
    SaveDate,
    /// `DIGEST.SHA1` of Cyrus: SHA-1 of the message's octets.
    DigestSha1,
    Preview {
        lazy: bool,
    },
    /// RFC 5257; entries may have wildcards.
    Annotation {
        entries: Vec<String>,
        attributes: Vec<AnnotationAttribute>,
    },
}

/// `BODY[…]`: a part and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Part numbers from 1, outermost first; empty: the message itself.
    pub part: Vec<u32>,
    /// What of the part.
    pub text: SectionText,
}

/// What of a part `BODY[…]` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionText {
    /// All of it.
    Whole,
    /// HEADER
    Header,
    /// HEADER.FIELDS (…)
    HeaderFields(Vec<String>),
    /// HEADER.FIELDS.NOT (…)
    HeaderFieldsNot(Vec<String>),
    /// TEXT
    Text,
    /// MIME, only below the message itself.
    Mime,
}

/// `<offset.length>`; the length is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// First byte wanted, from 0.
    pub offset: u64,
    /// How many bytes at most.
    pub length: u64,
}

/// STORE and UID STORE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The set is of UIDs.
    pub uid: bool,
    /// Which messages.
    pub set: SetArgument,
    /// UNCHANGEDSINCE (RFC 7162).
    pub unchanged_since: Option<ModSeq>,
    /// What to do with the flags.
    pub mode: StoreMode,
    /// `.SILENT`
    pub silent: bool,
    /// The flags named.
    pub flags: Flags,
    /// ANNOTATION (RFC 5257): these values, and no flags, are set; empty: flags.
    pub annotations: Vec<AnnotationSet>,
}

/// How STORE changes flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// FLAGS
    Replace,
    /// +FLAGS
    Add,
    /// -FLAGS
    Remove,
}

/// Flags that a client names. `\Recent` is read and forgotten: no client can set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The system flags.
    pub system: SystemFlags,
    /// Others, each once.
    pub keywords: Vec<Keyword>,
}

/// COPY, MOVE and their UID forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The set is of UIDs.
    pub uid: bool,
    /// Which messages.
    pub set: SetArgument,
    /// Where to.
    pub mailbox: String,
}

/// One URL of URLFETCH (RFC 4467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlFetch {
    /// As written.
    pub url: String,
    /// What of it (RFC 5524); `None`: the plain form.
    pub items: Option<Vec<UrlItem>>,
}

/// What URLFETCH can tell of a URL (RFC 5524).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlItem {
    /// BODY
    Body,
    /// BINARY
    Binary,
    /// BODYPARTSTRUCTURE
    Structure,
}

/// The beginning of APPEND or REPLACE, up to its first message or piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendHead {
    /// Echoed in the answer.
    pub tag: Tag,
    /// REPLACE (RFC 8508).
    pub replaced: Option<Replaced>,
    /// Where to.
    pub mailbox: String,
}

/// The message that REPLACE removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// UID REPLACE
    Uid(u32),
    /// REPLACE
    Seq(u32),
}

/// What stands in APPEND between the mailbox, its literals, and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendItem {
    /// A message begins.
    Message(AppendOptions),
    /// What the URL names belongs to the message next (RFC 4469).
    Url(String),
    /// The literal behind the text is what belongs to the message next.
    Text {
        /// Whether its header may be in UTF-8 (RFC 6855 section 4).
        utf8: bool,
    },
    /// The literal behind the text is a URL, as [`AppendItem::Url`].
    UrlLiteral,
}

/// What stands before each message of APPEND.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// Flags to set.
    pub flags: Flags,
    /// Internal date in Unix seconds; `None`: now.
    pub internal_date: Option<i64>,
    /// Annotations to begin with (RFC 5257).
    pub annotations: Vec<AnnotationSet>,
}
