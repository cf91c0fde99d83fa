//! Payloads of log frames: the facts of the store. Values are absolute, so a frame can be applied
//! any number of times.
//!
//! | type | name | mailbox id | payload |
//! |---|---|---|---|
//! | 1 | User | - | user text, partition text |
//! | 2 | Mailbox | yes | user text, name text, partition text, uidvalidity u32, special uses u32 |
//! | 3 | MailboxGone | yes | user text, name text |
//! | 4 | Subscription | - | user text, name text, on u8 |
//! | 5 | Append | yes | see below |
//! | 6 | Flags | yes | modseq u64, count u32, then (uid u32, flags u32, keywords u64) each; flags: system flags in bits 0-4, those of the file name before in bits 8-13 |
//! | 7 | Expunge | yes | modseq u64, moved u8, count u32, then (first u32, last u32) each; UIDNEXT is above them, also of UIDs that nobody has |
//! | 8 | Keywords | yes | count u32, then text each: bit n of a record's keywords is the nth |
//! | 9 | Acl | yes | user text, set u8, then, if set, count u32 and (identifier text, rights text) each; not set: the owner's alone |
//! | 10 | Annotations | yes | count u32, (first uid u32, last uid u32) each; count u32, then (whose text (empty: shared), entry text, set u8, value bytes if set) each: every message has every value |
//! | 16 | Quota | of the root, zeros: the user's own | user text, set u8, then, if set, limits u64 each: octets, messages, mailboxes, annotation octets; all ones for no limit |
//! | 17 | Metadata | its, zeros: of the server | user text, whose text (empty: shared), count u32, then (entry text, set u8, value bytes if set) each |
//! | 20 | UrlKey | yes | user text, key 16: what URLs into the mailbox are authorised with (RFC 4467) |
//! | 24 | Adopted | yes | user text, directory text (empty: the layout's), unique id text, first uid of ours u32 |
//!
//! A text is a u32 count and UTF-8 bytes; bytes likewise. Append: uid u32, modseq u64,
//! internaldate i64, savedate i64, flags u32, keywords u64, size u32, stored size u32, header size
//! u32, sent date i64, subject hash u32, from hash u32, content id 16, source u8 (0 staged: stage
//! name text; 1 linked: stage name text, mailbox id 16, uid u32; 2 foreign: nothing), base bytes,
//! letters bytes, name flags u8, in new u8.

use std::sync::Arc;

use protocol::types::{ModSeq, SystemFlags, Uid, UidValidity};

use super::FormatError;
use super::wire::{Reader, Writer};
use crate::acl::Acl;
use crate::adoption::Adopted;
use crate::ids::MailboxId;
use crate::layout::NameFlags;
use crate::quota::QuotaLimits;

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A user exists, with mailboxes by default in this partition.
    User {
        /// Canonical name.
        user: String,
        /// Of the configuration.
        partition: String,
    },
    /// A mailbox exists under this name; replayed over another name it is a rename.
    Mailbox {
        /// Owner.
        user: String,
        /// Internal name.
        name: String,
        /// Where its files are.
        partition: String,
        /// Changes for an id only while nothing was stored, or where an old server's files say so.
        uid_validity: UidValidity,
        /// Bits of [`crate::SpecialUse`].
        special_use: u32,
    },
    /// A mailbox was deleted.
    MailboxGone {
        /// Owner.
        user: String,
        /// Its last name.
        name: String,
    },
    /// A subscription was made or dropped; the mailbox need not exist.
    Subscription {
        /// Whose.
        user: String,
        /// Internal name.
        name: String,
        /// Made.
        on: bool,
    },
    /// A message exists.
    Append(Append),
    /// Flags of messages are these.
    Flags {
        /// Of all of them.
        modseq: ModSeq,
        /// Ascending by UID.
        changes: Vec<FlagChange>,
    },
    /// Messages are gone.
    Expunge {
        /// Of the removal.
        modseq: ModSeq,
        /// Their files went to another mailbox (MOVE); there is nothing to unlink.
        moved: bool,
        /// Inclusive, ascending.
        ranges: Vec<(u32, u32)>,
    },
    /// Names of the keyword bits, all of them.
    Keywords {
        /// In bit order.
        names: Vec<String>,
    },
    /// Annotations of messages have these values, or are removed.
    Annotations {
        /// Of the messages: inclusive, ascending. Those that are not there are passed over.
        ranges: Vec<(u32, u32)>,
        /// What each of them has.
        values: Vec<AnnotationValue>,
    },
    /// A quota root has these limits; `None`: it is none.
    Quota {
        /// Whose.
        user: String,
        /// All of its limits.
        limits: Option<QuotaLimits>,
    },
    /// Metadata has these values, or is removed.
    Metadata {
        /// Owner of the mailbox; empty: the server.
        user: String,
        /// The user whose entries these are; empty: shared ones.
        whose: String,
        /// Names, with values of what is not removed.
        changes: Vec<(String, Option<Arc<[u8]>>)>,
    },
    /// A mailbox has this access control list; `None`: it is its owner's alone.
    Acl {
        /// Owner.
        user: String,
        /// All of it.
        acl: Option<Arc<Acl>>,
    },
    /// The key that URLs into a mailbox are authorised with (RFC 4467) is this.
    UrlKey {
        /// Owner.
        user: String,
        /// Secret.
        key: UrlKey,
    },
    /// A mailbox is another server's, served where it lies.
    Adopted {
        /// Owner.
        user: String,
        /// What the other server knows it by.
        adopted: Adopted,
    },
}

/// One value of an annotation (RFC 5257).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationValue {
    /// The user whose it is; empty: shared.
    pub whose: String,
    /// Name of the entry.
    pub entry: String,
    /// `None`: it is removed.
    pub value: Option<Arc<[u8]>>,
}

/// The key that URLs into one mailbox are authorised with.
pub type UrlKey = [u8; 16];

/// A message comes to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Its number.
    pub uid: Uid,
    /// Of its creation.
    pub modseq: ModSeq,
    /// Seconds since 1970.
    pub internal_date: i64,
    /// When it came into this mailbox, seconds since 1970.
    pub save_date: i64,
    /// System flags.
    pub flags: SystemFlags,
    /// Keyword bits.
    pub keywords: u64,
    /// Served octets.
    pub size: u32,
    /// Octets of the file.
    pub stored: u32,
    /// Served octets of the header with its blank line.
    pub header_size: u32,
    /// Of the Date header, else the internal date; seconds since 1970.
    pub sent_date: i64,
    /// Of the base subject.
    pub subject_hash: u32,
    /// Of the first From address.
    pub from_hash: u32,
    /// BLAKE3-128 of the served bytes.
    pub content_id: [u8; 16],
    /// Where the bytes come from.
    pub source: Source,
    /// Maildir: base of the file name.
    pub base: Vec<u8>,
    /// Maildir: uninterpreted letters of the file name.
    pub other_letters: Vec<u8>,
    /// Maildir: letters of the file name.
    pub name_flags: u8,
    /// Maildir: the file is in `new/`.
    pub in_new: bool,
}

/// Where a new message's bytes are before the frame is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A staged file of this name, itself made durable before the frame counts.
    Staged(String),
    /// A staged link of this name to the file of another message: that file stays until a
    /// checkpoint covers the frame, so the link can be made again.
    Linked {
        /// Of the link.
        stage: String,
        /// Where the other message is.
        mailbox: MailboxId,
        /// Which one it is.
        uid: Uid,
    },
    /// Where the frame says, put there by another program.
    Foreign,
}

/// The new flags of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// Which message.
    pub uid: Uid,
    /// All of its system flags.
    pub flags: SystemFlags,
    /// All of its keyword bits.
    pub keywords: u64,
    /// What its file name said, or was to say, before. Recovery tells by this which letters a
    /// rename of ours may have changed, and which another program did.
    pub before: NameFlags,
}

impl Frame {
    /// How many messages it is about; 1 for what is about none.
    pub fn messages(&self) -> usize {
        match self {
            Frame::Flags { changes, .. } => changes.len(),
            Frame::Expunge { ranges, .. } | Frame::Annotations { ranges, .. } => {
                ranges.iter().map(|&(first, last)| (last - first) as usize + 1).sum()
            }
            _ => 1,
        }
    }

    /// The type's number in the frame header.
    pub fn kind(&self) -> u8 {
        match self {
            Frame::User { .. } => 1,
            Frame::Mailbox { .. } => 2,
            Frame::MailboxGone { .. } => 3,
            Frame::Subscription { .. } => 4,
            Frame::Append(_) => 5,
            Frame::Flags { .. } => 6,
            Frame::Expunge { .. } => 7,
            Frame::Keywords { .. } => 8,
            Frame::Acl { .. } => 9,
            Frame::Annotations { .. } => 10,
            Frame::Quota { .. } => 16,
            Frame::Metadata { .. } => 17,
            Frame::UrlKey { .. } => 20,
            Frame::Adopted { .. } => 24,
        }
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        match self {
            Frame::User { user, partition } => {
                w.bytes(user.as_bytes());
                w.bytes(partition.as_bytes());
            }
            Frame::Mailbox { user, name, partition, uid_validity, special_use } => {
                w.bytes(user.as_bytes());
                w.bytes(name.as_bytes());
                w.bytes(partition.as_bytes());
                w.u32(uid_validity.0);
                w.u32(*special_use);
            }
            Frame::MailboxGone { user, name } => {
                w.bytes(user.as_bytes());
                w.bytes(name.as_bytes());
            }
            Frame::Subscription { user, name, on } => {
                w.bytes(user.as_bytes());
                w.bytes(name.as_bytes());
                w.u8(u8::from(*on));
            }
            Frame::Append(append) => append.encode(&mut w),
            Frame::Flags { modseq, changes } => {
                w.u64(modseq.0);
                w.u32(changes.len() as u32);
                for change in changes {
                    w.u32(change.uid.0);
                    w.u32(u32::from(change.flags.0) | u32::from(change.before.0) << 8);
                    w.u64(change.keywords);
                }
            }
            Frame::Expunge { modseq, moved, ranges } => {
                w.u64(modseq.0);
                w.u8(u8::from(*moved));
                write_ranges(&mut w, ranges);
            }
            Frame::Annotations { ranges, values } => {
                write_ranges(&mut w, ranges);
                w.u32(values.len() as u32);
                for AnnotationValue { whose, entry, value } in values {
                    w.bytes(whose.as_bytes());
                    w.bytes(entry.as_bytes());
                    w.u8(u8::from(value.is_some()));
                    value.iter().for_each(|value| w.bytes(value));
                }
            }
            Frame::Keywords { names } => {
                w.u32(names.len() as u32);
                names.iter().for_each(|name| w.bytes(name.as_bytes()));
            }
            Frame::Quota { user, limits } => {
                w.bytes(user.as_bytes());
                w.u8(u8::from(limits.is_some()));
                for limit in limits.iter().copied().flat_map(QuotaLimits::to_array) {
                    w.u64(limit.unwrap_or(u64::MAX));
                }
            }
            Frame::Metadata { user, whose, changes } => {
                w.bytes(user.as_bytes());
                w.bytes(whose.as_bytes());
                w.u32(changes.len() as u32);
                for (entry, value) in changes {
                    w.bytes(entry.as_bytes());
                    w.u8(u8::from(value.is_some()));
                    value.iter().for_each(|value| w.bytes(value));
                }
            }
            Frame::Acl { user, acl } => {
                w.bytes(user.as_bytes());
                w.u8(u8::from(acl.is_some()));
                if let Some(acl) = acl {
                    let entries = acl.to_texts();
                    w.u32(entries.len() as u32);
                    for (who, rights) in entries {
                        w.bytes(who.as_bytes());
                        w.bytes(rights.as_bytes());
                    }
                }
            }
            Frame::UrlKey { user, key } => {
                w.bytes(user.as_bytes());
                w.raw(key);
            }
            Frame::Adopted { user, adopted } => {
                w.bytes(user.as_bytes());
                w.bytes(adopted.dir.as_bytes());
                w.bytes(adopted.unique_id.as_bytes());
                w.u32(adopted.uid_next);
            }
        }
    }

    /// Reads a payload; `None` for a type that this version does not know.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Option<Frame>, FormatError> {
        let mut r = Reader::new("log frame payload", payload);
        let frame = match kind {
            1 => Frame::User { user: r.text()?, partition: r.text()? },
            2 => Frame::Mailbox {
                user: r.text()?,
                name: r.text()?,
                partition: r.text()?,
                uid_validity: UidValidity(r.u32()?),
                special_use: r.u32()?,
            },
            3 => Frame::MailboxGone { user: r.text()?, name: r.text()? },
            4 => Frame::Subscription { user: r.text()?, name: r.text()?, on: r.u8()? != 0 },
            5 => Frame::Append(Append::decode(&mut r)?),
            6 => {
                let modseq = ModSeq(r.u64()?);
                let count = r.u32()? as usize;
                let mut changes = Vec::with_capacity(count.min(r.left() / 16));
                for _ in 0..count {
                    let uid = Uid(r.u32()?);
                    let bits = r.u32()?;
                    let before = NameFlags((bits >> 8) as u8 & NameFlags::ALL);
                    let (flags, keywords) = (system_flags(bits), r.u64()?);
                    changes.push(FlagChange { uid, flags, keywords, before });
                }
                Frame::Flags { modseq, changes }
            }
            7 => {
                let modseq = ModSeq(r.u64()?);
                let moved = r.u8()? != 0;
                Frame::Expunge { modseq, moved, ranges: ranges(&mut r)? }
            }
            8 => {
                let count = r.u32()? as usize;
                let mut names = Vec::with_capacity(count.min(64));
                for _ in 0..count {
                    names.push(r.text()?);
                }
                Frame::Keywords { names }
            }
            9 => {
                let (user, set) = (r.text()?, r.u8()? != 0);
                Frame::Acl { user, acl: if set { Some(Arc::new(acl(&mut r)?)) } else { None } }
            }
            10 => {
                let ranges = ranges(&mut r)?;
                let count = r.u32()? as usize;
                let mut values = Vec::with_capacity(count.min(r.left() / 9));
                for _ in 0..count {
                    let (whose, entry) = (r.text()?, r.text()?);
                    let value = set_bytes(&mut r)?;
                    values.push(AnnotationValue { whose, entry, value });
                }
                Frame::Annotations { ranges, values }
            }
            16 => {
                let (user, set) = (r.text()?, r.u8()? != 0);
                let mut limit = || Ok(Some(r.u64()?).filter(|limit| *limit != u64::MAX));
                let limits = match set {
                    true => Some([limit()?, limit()?, limit()?, limit()?]),
                    false => None,
                };
                Frame::Quota { user, limits: limits.map(QuotaLimits::from_array) }
            }
            17 => {
                let (user, whose) = (r.text()?, r.text()?);
                let count = r.u32()? as usize;
                let mut changes = Vec::with_capacity(count.min(r.left() / 5));
                for _ in 0..count {
                    let entry = r.text()?;
                    changes.push((entry, set_bytes(&mut r)?));
                }
                Frame::Metadata { user, whose, changes }
            }
            20 => Frame::UrlKey { user: r.text()?, key: r.id()? },
            24 => {
                let user = r.text()?;
                let (dir, unique_id) = (r.text()?, r.text()?);
                Frame::Adopted { user, adopted: Adopted { dir, unique_id, uid_next: r.u32()? } }
            }
            _ => return Ok(None),
        };
        Ok(Some(frame))
    }
}

fn write_ranges(w: &mut Writer<'_>, ranges: &[(u32, u32)]) {
    w.u32(ranges.len() as u32);
    for (first, last) in ranges {
        w.u32(*first);
        w.u32(*last);
    }
}

fn ranges(r: &mut Reader<'_>) -> Result<Vec<(u32, u32)>, FormatError> {
    let count = r.u32()? as usize;
    let mut ranges = Vec::with_capacity(count.min(r.left() / 8));
    for _ in 0..count {
        ranges.push((r.u32()?, r.u32()?));
    }
    Ok(ranges)
}

/// Bytes behind a word that says whether there are any.
fn set_bytes(r: &mut Reader<'_>) -> Result<Option<Arc<[u8]>>, FormatError> {
    Ok(match r.u8()? {
        0 => None,
        _ => Some(Arc::from(r.bytes()?)),
    })
}

fn acl(r: &mut Reader<'_>) -> Result<Acl, FormatError> {
    let count = r.u32()? as usize;
    let mut texts = Vec::with_capacity(count.min(r.left() / 8));
    for _ in 0..count {
        texts.push((r.text()?, r.text()?));
    }
    let read = Acl::of_texts(texts.iter().map(|(who, rights)| (who, rights)));
    read.ok_or_else(|| {
        FormatError::new("acl frame", "identifiers and rights", format!("{texts:?}"))
    })
}

fn system_flags(bits: u32) -> SystemFlags {
    SystemFlags((bits & u32::from(SystemFlags::ALL.0)) as u8)
}

impl Append {
    fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.uid.0);
        w.u64(self.modseq.0);
        w.i64(self.internal_date);
        w.i64(self.save_date);
        w.u32(u32::from(self.flags.0));
        w.u64(self.keywords);
        w.u32(self.size);
        w.u32(self.stored);
        w.u32(self.header_size);
        w.i64(self.sent_date);
        w.u32(self.subject_hash);
        w.u32(self.from_hash);
        w.raw(&self.content_id);
        match &self.source {
            Source::Staged(name) => {
                w.u8(0);
                w.bytes(name.as_bytes());
            }
            Source::Linked { stage, mailbox, uid } => {
                w.u8(1);
                w.bytes(stage.as_bytes());
                w.raw(&mailbox.0);
                w.u32(uid.0);
            }
            Source::Foreign => w.u8(2),
        }
        w.bytes(&self.base);
        w.bytes(&self.other_letters);
        w.u8(self.name_flags);
        w.u8(u8::from(self.in_new));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Append, FormatError> {
        Ok(Append {
            uid: Uid(r.u32()?),
            modseq: ModSeq(r.u64()?),
            internal_date: r.i64()?,
            save_date: r.i64()?,
            flags: system_flags(r.u32()?),
            keywords: r.u64()?,
            size: r.u32()?,
            stored: r.u32()?,
            header_size: r.u32()?,
            sent_date: r.i64()?,
            subject_hash: r.u32()?,
            from_hash: r.u32()?,
            content_id: r.id()?,
            source: match r.u8()? {
                0 => Source::Staged(r.text()?),
                1 => Source::Linked {
                    stage: r.text()?,
                    mailbox: MailboxId(r.id()?),
                    uid: Uid(r.u32()?),
                },
                2 => Source::Foreign,
                n => {
                    let found = format!("{n}");
                    return Err(FormatError::new("append frame", "a source of 0 to 2", found));
                }
            },
            base: r.bytes()?.to_vec(),
            other_letters: r.bytes()?.to_vec(),
            name_flags: r.u8()?,
            in_new: r.u8()? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Frame> {
        let append = Append {
            uid: Uid(7),
            modseq: ModSeq(9),
            internal_date: -5,
            save_date: 6,
            flags: SystemFlags::SEEN,
            keywords: 3,
            size: 100,
            stored: 90,
            header_size: 40,
            sent_date: 11,
            subject_hash: 1,
            from_hash: 2,
            content_id: [4; 16],
            source: Source::Linked { stage: "s".into(), mailbox: MailboxId([8; 16]), uid: Uid(3) },
            base: b"1.M2.h".to_vec(),
            other_letters: b"a".to_vec(),
            name_flags: 1,
            in_new: true,
        };
        let (flags, before) = (SystemFlags::ALL, NameFlags(NameFlags::PASSED | 1));
        let change = FlagChange { uid: Uid(1), flags, keywords: u64::MAX, before };
        vec![
            Frame::User { user: "a@b".into(), partition: "default".into() },
            Frame::Mailbox {
                user: "a".into(),
                name: "Entwürfe".into(),
                partition: "p".into(),
                uid_validity: UidValidity(5),
                special_use: 4,
            },
            Frame::MailboxGone { user: "a".into(), name: "b".into() },
            Frame::Subscription { user: "a".into(), name: "b".into(), on: true },
            Frame::Append(append),
            Frame::Flags { modseq: ModSeq(4), changes: vec![change] },
            Frame::Expunge { modseq: ModSeq(4), moved: true, ranges: vec![(1, 3), (7, 7)] },
            Frame::Keywords { names: vec!["$Forwarded".into()] },
            Frame::Annotations {
                ranges: vec![(1, 3)],
                values: vec![
                    AnnotationValue {
                        whose: "a".into(),
                        entry: "/comment".into(),
                        value: Some(Arc::from(&b"\0"[..])),
                    },
                    AnnotationValue { whose: String::new(), entry: "/comment".into(), value: None },
                ],
            },
            Frame::Quota { user: "a".into(), limits: None },
            Frame::Metadata {
                user: "a".into(),
                whose: String::new(),
                changes: vec![
                    ("/shared/x".into(), None),
                    ("/shared/y".into(), Some(Arc::from(&b"\0"[..]))),
                ],
            },
            Frame::Quota {
                user: "a".into(),
                limits: Some(QuotaLimits { messages: Some(0), ..QuotaLimits::default() }),
            },
            Frame::UrlKey { user: "a".into(), key: [7; 16] },
            Frame::Adopted {
                user: "a".into(),
                adopted: Adopted { dir: "uuid/x/y".into(), unique_id: "xyz".into(), uid_next: 7 },
            },
            Frame::Acl { user: "a".into(), acl: None },
            Frame::Acl { user: "a".into(), acl: Some(Arc::new(Acl::default_of_owner())) },
        ]
    }

    #[test]
    fn payloads_round_trip_and_short_ones_are_errors() {
        for frame in samples() {
            let mut payload = Vec::new();
            frame.encode(&mut payload);
            assert_eq!(Frame::decode(frame.kind(), &payload), Ok(Some(frame.clone())));
            for cut in 0..payload.len() {
                assert!(Frame::decode(frame.kind(), &payload[..cut]).is_err(), "{frame:?} {cut}");
            }
        }
        assert_eq!(Frame::decode(99, b""), Ok(None));
    }
}
