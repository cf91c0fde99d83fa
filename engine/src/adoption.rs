//! Mailboxes of another server that are served where they lie: its facts become ours, its message
//! files stay as they are.
//!
//! A user is adopted in one transaction. Before it, index, facts, heap and cache of each mailbox are
//! written beside its messages and made durable, under an id that nothing knows yet:
//!
//! | a crash leaves | the next attempt |
//! |---|---|
//! | files of ours beside messages, no frame | finds an id that nobody has, and begins them anew |
//! | the transaction in the log | finds mailboxes of this unique id, and passes them over |
//!
//! Expunged messages whose files the other server kept are in no index of ours: all UIDs below the
//! one where we began are its own, and a file of one of them is left alone.

mod describe;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use protocol::types::{ModSeq, SystemFlags, Uid, UidValidity};
use serde::{Deserialize, Serialize};

use crate::acl::{Acl, AclEntry};
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::format::frame::{AnnotationValue, Append, Frame, Source};
use crate::ids::{Lsn, MailboxId};
use crate::layout::create_durable;
use crate::mailbox::KeywordTable;
use crate::mailbox::apply::{new_message, scan_file};
use crate::mailbox::files::Files;
use crate::mailbox::opening::stamp;
use crate::namespace::{INBOX, MailboxEntry, Namespace, SpecialUse};
use crate::quota::QuotaLimits;
use crate::seen;
use crate::shared::Shared;
use crate::store::Store;
use crate::user::UserInner;

/// By which a directory of Cyrus's is known.
const FOREIGN_HEADER: &str = "cyrus.header";
/// Messages that are added to an index at a time.
const BATCH_MESSAGES: usize = 256;

/// What the catalog remembers of where a mailbox came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Its directory below the partition's root; empty: where the layout puts its name. Such a
    /// directory stays when the mailbox is renamed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dir: String,
    /// By which the other server knows the mailbox; served as its MAILBOXID.
    pub unique_id: String,
    /// UIDs below it are the other server's: files of those that no index has are of messages that
    /// it expunged, and are left alone.
    pub uid_next: u32,
}

/// A user as another server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserToAdopt {
    /// Of new mailboxes.
    pub partition: String,
    /// All mailboxes; one without the name INBOX gets an empty one.
    pub mailboxes: Vec<MailboxToAdopt>,
    /// Internal names, or as [`crate::Namespace::name_of_others`] makes them.
    pub subscriptions: BTreeSet<String>,
    /// Limits of the user's own quota root.
    pub quota: Option<QuotaLimits>,
}

/// A mailbox as another server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxToAdopt {
    /// Internal name.
    pub name: String,
    /// Of the configuration.
    pub partition: String,
    /// Its directory below the partition's root.
    pub dir: PathBuf,
    /// By which the other server knows it.
    pub unique_id: String,
    /// UIDVALIDITY, not 0.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: u32,
    /// HIGHESTMODSEQ.
    pub modseq_highest: u64,
    /// Messages from this UID on are recent.
    pub recent_uid: u32,
    /// RFC 6154.
    pub special_use: Vec<SpecialUse>,
    /// Names of the keyword bits.
    pub keywords: Vec<String>,
    /// Messages by rising UID.
    pub messages: Vec<MessageToAdopt>,
    /// Identifiers with their rights; absent: the owner's alone.
    pub acl: Option<BTreeMap<String, String>>,
    /// It is a quota root with these limits.
    pub quota: Option<QuotaLimits>,
    /// `\Seen` of users who are not the owner: ascending ranges.
    pub seen: Vec<(String, Vec<(u32, u32)>)>,
    /// Whose (empty: shared), entry, value.
    pub metadata: Vec<(String, String, Vec<u8>)>,
    /// UID, whose (empty: shared), entry, value.
    pub annotations: Vec<(u32, String, String, Vec<u8>)>,
}

/// A message as another server knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageToAdopt {
    /// Its number.
    pub uid: u32,
    /// Of its last change.
    pub modseq: u64,
    /// Seconds since 1970.
    pub internal_date: i64,
    /// When it came into the mailbox, seconds since 1970; absent: unknown, taken as the internal
    /// date.
    pub save_date: Option<i64>,
    /// System flags.
    #[serde(with = "flag_bits")]
    pub flags: SystemFlags,
    /// Keyword bits.
    pub keywords: u64,
    /// Octets that its file must have.
    pub size: u64,
}

/// What came of an adoption.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AdoptionReport {
    /// Mailboxes that are served now and were not before.
    pub mailboxes: u64,
    /// Their messages.
    pub messages: u64,
    /// Mailboxes that were adopted earlier.
    pub known: u64,
    /// What was not as the other server's files say, a line each.
    pub findings: Vec<String>,
}

/// System flags as the number of their bits.
mod flag_bits {
    use protocol::types::SystemFlags;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(flags: &SystemFlags, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(flags.0)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<SystemFlags, D::Error> {
        Ok(SystemFlags(u8::deserialize(from)? & SystemFlags::ALL.0))
    }
}

impl MailboxEntry {
    /// The directory of the mailbox, which its user has under this name.
    pub(crate) fn dir(&self, partition: &Partition, user: &str, name: &str) -> Result<PathBuf> {
        match self.adopted.as_ref().filter(|adopted| !adopted.dir.is_empty()) {
            Some(adopted) => below(partition, Path::new(&adopted.dir)),
            None => Ok(partition.layout.mailbox_dir(&partition.path, user, name)?),
        }
    }

    /// Where the mailbox came from, once it is on this partition: another one knows nothing of the
    /// directory that the other server gave it.
    pub(crate) fn adopted_on(&self, partition: &str) -> Option<Arc<Adopted>> {
        let adopted = self.adopted.clone()?;
        if self.partition == partition || adopted.dir.is_empty() {
            return Some(adopted);
        }
        Some(Arc::new(Adopted { dir: String::new(), ..Adopted::clone(&adopted) }))
    }

    /// The object id that clients are told: MAILBOXID of RFC 8474.
    pub fn object_id(&self) -> String {
        match &self.adopted {
            Some(adopted) => adopted.unique_id.clone(),
            None => format!("F{}", self.id),
        }
    }
}

impl Namespace {
    /// The object id that clients are told of a mailbox of this user.
    pub fn object_id(&self, id: MailboxId) -> String {
        let entry = self.mailboxes.values().find(|entry| entry.id == id);
        entry.map_or_else(|| format!("F{id}"), MailboxEntry::object_id)
    }
}

/// A directory below a partition's root, never outside.
fn below(partition: &Partition, dir: &Path) -> Result<PathBuf> {
    let inside = dir.components().all(|part| matches!(part, Component::Normal(_)));
    match inside && dir.components().next().is_some() {
        true => Ok(partition.path.join(dir)),
        false => Err(Error::NotAllowed("a mailbox's directory is not below its partition")),
    }
}

/// Whether an object id can be told as it is: RFC 8474 section 4.
fn is_object_id(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(good)
}

impl Store {
    /// Adopts the mailboxes of a user that are not adopted yet; blocks. `each` hears of every
    /// message.
    ///
    /// # Errors
    /// Names that are taken by other mailboxes, files that cannot be read; then nothing of the user
    /// has changed.
    pub fn adopt(
        &self,
        user: &str,
        what: UserToAdopt,
        each: &mut dyn FnMut(),
    ) -> Result<AdoptionReport> {
        let shared = self.shared();
        let inner = shared.known_user(user)?;
        let _one_at_a_time = inner.changes.lock();
        inner.finish_moves()?;
        inner.adopt(what, each)
    }
}

impl UserInner {
    fn adopt(
        self: &Arc<Self>,
        what: UserToAdopt,
        each: &mut dyn FnMut(),
    ) -> Result<AdoptionReport> {
        let shared = &self.shared;
        let namespace = self.namespace.load_full();
        let mut report = AdoptionReport::default();
        let known: BTreeSet<&str> = namespace
            .mailboxes
            .values()
            .filter_map(|entry| Some(entry.adopted.as_ref()?.unique_id.as_str()))
            .collect();
        let (old, fresh): (Vec<_>, Vec<_>) =
            what.mailboxes.into_iter().partition(|m| known.contains(m.unique_id.as_str()));
        report.known = old.len() as u64;
        if fresh.is_empty() && self.has_begun() {
            return Ok(report);
        }
        let user = self.name.clone();
        let nobodys = MailboxId::default();
        let mut frames = Vec::new();
        if !self.has_begun() {
            shared.partition(&what.partition)?;
            let first = Frame::User { user: user.clone(), partition: what.partition.clone() };
            frames.push((nobodys, first));
            if !fresh.iter().any(|mailbox| mailbox.name == INBOX) {
                let partition = shared.partition(&what.partition)?.clone();
                let dir = partition.layout.mailbox_dir(&partition.path, &user, INBOX)?;
                let made = partition.layout.create(&*shared.storage, &partition.path, &dir);
                made.map_err(Error::io("create", &dir))?;
                frames.push(self.mailbox_frame(&partition, INBOX.to_owned(), 0));
            }
            if what.quota.is_some() {
                frames.push((nobodys, Frame::Quota { user: user.clone(), limits: what.quota }));
            }
        }
        for name in what.subscriptions {
            if !namespace.subscriptions.contains(&name) {
                let frame = Frame::Subscription { user: user.clone(), name, on: true };
                frames.push((nobodys, frame));
            }
        }
        let (mut sums, mut made) = ((0, 0), Vec::new());
        for mailbox in &fresh {
            if namespace.mailboxes.contains_key(&mailbox.name) {
                return Err(Error::MailboxExists);
            }
            let id = MailboxId::random(&*shared.storage);
            let begun = begin(shared, id, mailbox, &mut report, each);
            let told = begun.and_then(|held| Ok((held, self.frames_of(id, mailbox)?)));
            let (held, told) = told.inspect_err(|_| {
                // A full disk, perhaps: what nobody will use gives its room back.
                let begun = fresh.iter().take(made.len() + 1);
                begun.for_each(|mailbox| forget(shared, mailbox));
            })?;
            sums = (sums.0 + held.0, sums.1 + held.1);
            frames.extend(told);
            made.push((id, mailbox.name.clone()));
        }
        report.mailboxes = made.len() as u64;
        report.messages = sums.0;
        {
            let mut last = shared.uid_validity_last.lock();
            let highest = fresh.iter().map(|mailbox| mailbox.uid_validity).max();
            *last = (*last).max(highest.unwrap_or(0));
        }
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        for (id, frame) in &frames {
            if let Frame::Metadata { whose, changes, .. } = frame {
                shared.metadata.apply(*id, whose, changes);
            }
        }
        self.ledger.sums.add(sums);
        for (id, name) in &made {
            // By this the next checkpoint writes the mailbox's figures.
            let mailbox = self.open(name)?;
            let files = mailbox.0.files.lock();
            for frame in frames.iter().filter_map(|(of, frame)| (of == id).then_some(frame)) {
                if let Frame::Annotations { ranges, values } = frame {
                    mailbox.0.apply_annotations(&files, ranges, values)?;
                }
            }
            drop(files);
            mailbox.0.mark_dirty();
        }
        self.applied(lsn);
        self.limit();
        self.regroup()?;
        Ok(report)
    }

    /// What the log says of a mailbox that is adopted.
    fn frames_of(
        &self,
        id: MailboxId,
        mailbox: &MailboxToAdopt,
    ) -> Result<Vec<(MailboxId, Frame)>> {
        if !is_object_id(&mailbox.unique_id) {
            return Err(Error::NotAllowed(
                "a mailbox's unique id is not letters, digits, '-' and '_'",
            ));
        }
        let user = || self.name.clone();
        let partition = self.shared.partition(&mailbox.partition)?;
        let home = partition.layout.mailbox_dir(&partition.path, &self.name, &mailbox.name);
        let is_home = home.is_ok_and(|home| home == partition.path.join(&mailbox.dir));
        let dir = if is_home { Path::new("") } else { mailbox.dir.as_path() };
        let mut frames = vec![
            Frame::Mailbox {
                user: user(),
                name: mailbox.name.clone(),
                partition: mailbox.partition.clone(),
                uid_validity: UidValidity(mailbox.uid_validity),
                special_use: SpecialUse::to_bits(&mailbox.special_use),
            },
            Frame::Adopted {
                user: user(),
                adopted: Adopted {
                    dir: dir.to_string_lossy().into_owned(),
                    unique_id: mailbox.unique_id.clone(),
                    uid_next: mailbox.uid_next,
                },
            },
        ];
        if let Some(texts) = &mailbox.acl {
            let acl = Acl::of_texts(texts.iter());
            let acl = acl.ok_or(Error::NotAllowed("an access control list cannot be read"))?;
            frames.push(Frame::Acl { user: user(), acl: Some(Arc::new(acl)) });
        }
        if mailbox.quota.is_some() {
            frames.push(Frame::Quota { user: user(), limits: mailbox.quota });
        }
        for (whose, ranges) in &mailbox.seen {
            let changes = vec![(seen::ENTRY.to_owned(), Some(seen::encode_ranges(ranges).into()))];
            frames.push(Frame::Metadata { user: user(), whose: whose.clone(), changes });
        }
        let mut metadata: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (whose, entry, value) in &mailbox.metadata {
            let change = (entry.clone(), Some(Arc::from(value.as_slice())));
            metadata.entry(whose).or_default().push(change);
        }
        for (whose, changes) in metadata {
            frames.push(Frame::Metadata { user: user(), whose: whose.to_owned(), changes });
        }
        for (uid, whose, entry, value) in &mailbox.annotations {
            let value = AnnotationValue {
                whose: whose.clone(),
                entry: entry.clone(),
                value: Some(Arc::from(value.as_slice())),
            };
            frames.push(Frame::Annotations { ranges: vec![(*uid, *uid)], values: vec![value] });
        }
        Ok(frames.into_iter().map(|frame| (id, frame)).collect())
    }

    /// Refuses a directory in which another server's mailbox lies.
    pub(crate) fn not_anothers(&self, dir: &Path) -> Result<()> {
        match self.shared.storage.stat(&dir.join(FOREIGN_HEADER)) {
            Ok(_) => Err(Error::NotAllowed(
                "another server's mailbox lies in its directory and was not taken over",
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            // What cannot be looked at may be another's.
            Err(error) => Err(Error::io("look at", dir)(error)),
        }
    }
}

/// Writes the files of a mailbox, durably; returns its messages and octets.
fn begin(
    shared: &Arc<Shared>,
    id: MailboxId,
    mailbox: &MailboxToAdopt,
    report: &mut AdoptionReport,
    each: &mut dyn FnMut(),
) -> Result<(u64, u64)> {
    let storage = &*shared.storage;
    let partition = shared.partition(&mailbox.partition)?;
    let dir = below(partition, &mailbox.dir)?;
    if mailbox.keywords.len() > KeywordTable::KEYWORDS_MAX {
        return Err(Error::NotAllowed("more than 64 keywords are in use in one mailbox"));
    }
    if let Some((there, _)) = stamp(storage, &dir)
        && shared.catalog.owner(there)?.is_some()
    {
        return Err(Error::NotAllowed("the mailbox's directory is another mailbox's already"));
    }
    // With all of a mailbox's own files in a metapartition Cyrus makes it for the first message. Where
    // there are messages, what is missing is a filesystem.
    if mailbox.messages.is_empty() {
        create_durable(storage, &dir).map_err(Error::io("create", &dir))?;
    }
    clear(storage, &dir)?;
    let (limit, trust) = (Lsn(u64::MAX), &shared.trust);
    let validity = UidValidity(mailbox.uid_validity);
    let mut files = Files::open(storage, &dir, shared.store_id, id, validity, limit, trust)?;
    if !mailbox.keywords.is_empty() {
        files.set_keywords(&mailbox.keywords)?;
    }
    for batch in mailbox.messages.chunks(BATCH_MESSAGES) {
        let mut messages = Vec::with_capacity(batch.len());
        for message in batch {
            each();
            let path = dir.join(format!("{}.", message.uid));
            let scanned = match scan_file(storage, &path, partition.layout.kind()) {
                Ok(scanned) => scanned,
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    report.findings.push(format!("{}: no such file: not served", path.display()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if u64::from(scanned.stored) != message.size {
                let (has, says) = (scanned.stored, message.size);
                let line = format!("{has} octets, the index says {says}: served as it is");
                report.findings.push(format!("{}: {line}", path.display()));
            }
            let append = Append {
                uid: Uid(message.uid),
                modseq: ModSeq(message.modseq.max(1)),
                internal_date: message.internal_date,
                save_date: message.save_date.unwrap_or(message.internal_date),
                flags: message.flags,
                keywords: message.keywords,
                size: scanned.size,
                stored: scanned.stored,
                header_size: scanned.header_size,
                sent_date: scanned.sent_date.unwrap_or(message.internal_date),
                subject_hash: scanned.subject_hash,
                from_hash: scanned.from_hash,
                content_id: scanned.content_id,
                source: Source::Foreign,
                base: Vec::new(),
                other_letters: Vec::new(),
                name_flags: 0,
                in_new: false,
            };
            messages.push(new_message(&append, scanned.extras));
        }
        files.append(messages)?;
    }
    let head = &mut files.head;
    head.uid_next = head.uid_next.max(Uid(mailbox.uid_next.max(1)));
    head.modseq_highest = head.modseq_highest.max(ModSeq(mailbox.modseq_highest.max(1)));
    // What was removed before is not known one by one.
    head.vanished_floor = head.modseq_highest;
    head.recent_uid = Uid(mailbox.recent_uid);
    files.write_both_slots(shared.owner_epoch)?;
    files.sync()?;
    storage.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
    let summary = files.summary();
    Ok((summary.messages, summary.bytes))
}

/// Removes what was begun of a mailbox that is not adopted, as far as that can be done now: the next
/// attempt begins anew all the same.
fn forget(shared: &Arc<Shared>, mailbox: &MailboxToAdopt) {
    let storage = &*shared.storage;
    let dir = shared.partition(&mailbox.partition).and_then(|on| below(on, &mailbox.dir));
    let Ok(dir) = dir else { return };
    let is_known = stamp(storage, &dir).is_some_and(|(there, _)| {
        // What cannot be looked up might be somebody's.
        shared.catalog.owner(there).map_or(true, |owner| owner.is_some())
    });
    if !is_known && let Err(error) = clear(storage, &dir) {
        tracing::warn!(dir = %dir.display(), %error, "files of an adoption that failed stay");
    }
}

/// Removes files of ours that no mailbox has.
fn clear(storage: &dyn crate::io::Storage, dir: &Path) -> Result<()> {
    let mut names = Vec::new();
    let listed = storage.list(dir, &mut |name, _| {
        if name.starts_with(b"cursus.") {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    });
    listed.map_err(Error::io("list", dir))?;
    // By its index a directory is known as a mailbox's: it goes last.
    names.sort_by_key(|name| name == crate::mailbox::files::INDEX_NAME);
    for name in names {
        let path = dir.join(name);
        storage.unlink(&path).map_err(Error::io("unlink", &path))?;
    }
    Ok(())
}

/// Whether text is an entry of an access control list that can be kept.
pub fn acl_entry(identifier: &str) -> Option<String> {
    AclEntry::parse(identifier, |name| Some(name.to_owned())).map(|entry| entry.to_string())
}
