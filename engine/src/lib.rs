//! The mail store. Bodies are files; facts are frames in one commit log; index, cache, catalog
//! and file names are brought up to date from the log and can be redone from it.
//!
//! | module | says |
//! |---|---|
//! | [`format`] | byte layouts, checksums |
//! | [`io`] | every byte read or written: blocking, ring and simulated backends |
//! | [`layout`] | how messages lie in directories: Maildir++, Cyrus tree |
//! | [`archive`] | log and messages kept elsewhere: archive, backup, restore |
//! | `log` | the commit log: groups, segments, reading back |
//! | [`message`] | one pass over a message; stored and served forms; wire-ready extras |
//! | [`search`] | does a message match |
//! | `order`, `collation` | SORT and THREAD; how strings compare |
//! | `fulltext` | which messages may: an index of their text |
//! | `mailbox` | an open mailbox: state, files, views, apply, rescan |
//! | `user`, `namespace` | names: create, delete, rename, subscribe |
//! | `relocation` | mailboxes that go to another partition or user |
//! | `acl` | who may do what with a mailbox |
//! | `departed` | removed users, taken out of what is others' |
//! | `seen` | `\Seen` of users in others' mailboxes |
//! |  `uidls` | UIDLs of POP3 that messages had elsewhere |
//! | `metadata` | named values of mailboxes and of the server |
//! | `annotation` | named values of messages |
//! | `events` | what happens, for sessions that want to be told |
//! | `adoption` | mailboxes of other servers, served where they lie |
//! | `quota` | what a user's mailboxes may hold, and hold |
//! | `mount`, `owner` | how a partition's filesystem is used; one store per user's mail |
//! | `delivery` | a message on its way in |
//! | `takeover` | what Courier and Dovecot keep beside messages: taken over, given back |
//! | `store` | start, recovery, checkpoints, stop |
//!
//! A caller opens a [`Store`], asks it for a [`User`], the user for a [`Mailbox`], the mailbox
//! for a [`View`], and commits a [`Delivery`]. All async functions run on any executor and do not
//! block it; what must block runs on the store's helper threads.

mod acl;
mod adoption;
mod annotation;
pub mod archive;
mod catalog;
mod collation;
mod config;
mod delivery;
mod departed;
mod error;
mod events;
pub mod format;
mod fulltext;
mod ids;
pub mod io;
pub mod layout;
mod log;
mod mailbox;
mod mapped;
pub mod message;
mod metadata;
mod mount;
mod namespace;
mod order;
mod owner;
mod quota;
mod relocation;
pub mod search;
mod seen;
mod shared;
mod status;
mod store;
mod takeover;
mod uidls;
mod user;
mod watch;

pub use acl::{
    ACL_ENTRIES_MAX, Acl, AclEntry, Authority, COMMON_DOMAIN, FlagScope, Identifier, Principal,
    Rights, RightsChange, domain_of,
};
pub use adoption::{
    Adopted, AdoptionReport, MailboxToAdopt, MessageToAdopt, UserToAdopt, acl_entry,
};
pub use annotation::{
    Annotate, Annotation, AnnotationScope, Annotations, NewAnnotations, SortValues,
    annotation_part, annotation_refusal,
};
pub use collation::Collation;
pub use config::{Partition, StoreConfig};
pub use delivery::{Appended, Delivery, Target};
pub use error::{Error, Result};
pub use events::{EVENTS_MAX, Event, Heard, Listener, MessageEvents};
pub use format::frame::{AnnotationValue, UrlKey};
pub use format::index::Record;
pub use fulltext::{IndexConfig, IndexMode, IndexStatus};
pub use ids::{Lsn, MailboxId, StoreId};
pub use log::LogStatus;
pub use mailbox::{
    Answered, Carried, CarriedAnnotations, Changes, Copied, ExtrasBlob, ExtrasPart, ExtrasRef,
    FirstLook, KeywordTable, Mailbox, MailboxStatus, Matched, MessageFile, Promised, Records,
    SeqMatch, ServedReader, Sorted, StoreMode, StoreOutcome, StoreRequest, UID_VALIDITY_GIVEN_MAX,
    View, Watcher,
};
pub use metadata::{Depth, ENTRY_BYTES_MAX, entry_name};
pub use mount::{IoMode, LockMode, MountOptions, NameSync, NotifyMode};
pub use namespace::{INBOX, MailboxEntry, Namespace, SEPARATOR, SpecialUse};
pub use quota::{QuotaLimits, QuotaRoot, Usage};
pub use seen::PrivateSeen;
pub use shared::{Drive, Turn};
pub use store::{
    CheckReport, Moment, ScrubOptions, ScrubProgress, ScrubReport, Store, StoreStatus,
};
pub use takeover::{Arrivals, OldServer, SharedAccount, SharedIndex, SharedNames, common_user};
pub use uidls::{UIDL_BYTES_MAX, is_uidl};
pub use user::{MAILBOX_NAME_BYTES_MAX, MaildropLock, NewMailbox, User, UserOptions};
