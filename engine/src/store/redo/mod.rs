//! Redo: a log's transactions over a base, in recovery and in a restore.
//!
//! | module | says |
//! |---|---|
//! | `homes` | namespaces as the frames leave them, and directories to match |
//! | `bodies` | where the bytes of a message are |
//! | `letters` | what names of Maildirs tell after a crash |
//!
//! Catalog frames first, so that every mailbox has its final directory; then each mailbox's frames
//! in order. Redoing what is done already changes nothing.

mod bodies;
mod homes;
mod letters;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use protocol::types::{ModSeq, Uid};

use self::bodies::Body;
use self::letters::Letters;
use crate::archive::Bodies;
use crate::error::Result;
use crate::format::frame::{Append, Frame, Source};
use crate::format::index::name_flags;
use crate::ids::{Lsn, MailboxId};
use crate::layout::{Location, NameFlags};
use crate::log::Transaction;
use crate::mailbox::MailboxInner;
use crate::mailbox::apply::{apply_expunge, apply_flags, location_of, new_message};
use crate::mailbox::files::Files;
use crate::mailbox::ranges;
use crate::namespace::{Namespace, NamespaceEdit};
use crate::shared::Shared;
use crate::user::UserInner;

pub(super) struct Redo<'a> {
    shared: &'a Arc<Shared>,
    /// Base names in a Maildir, listed once.
    names: HashMap<MailboxId, HashMap<Vec<u8>, Vec<Location>>>,
    /// Letters that the frames gave to the names of messages in Maildirs.
    letters: HashMap<MailboxId, HashMap<Uid, Letters>>,
    /// UIDs that frames remove.
    expunged: HashMap<MailboxId, Vec<(u32, u32)>>,
    /// Appends to mailboxes that were deleted since: a copy may have its bytes from there.
    orphans: HashMap<(MailboxId, Uid), Append>,
    /// Mailboxes of messages that were logged and have no bytes.
    pub(super) burnt: HashSet<MailboxId>,
    /// Who owns a mailbox, as frames tell.
    owners: HashMap<MailboxId, String>,
    /// Namespaces with an index by id, made at the first question.
    homes: HashMap<String, NamespaceEdit>,
    pub(super) placed: u64,
    pub(super) void: u64,
    /// Messages that were logged and have no bytes.
    pub(super) missing: BTreeMap<MailboxId, (Arc<MailboxInner>, Vec<Uid>)>,
    /// Where bodies may also be: the archive, in a restore.
    bodies: Option<Arc<Bodies>>,
}

impl<'a> Redo<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, bodies: Option<Arc<Bodies>>) -> Redo<'a> {
        Redo {
            shared,
            names: HashMap::new(),
            letters: HashMap::new(),
            expunged: HashMap::new(),
            orphans: HashMap::new(),
            burnt: HashSet::new(),
            owners: HashMap::new(),
            homes: HashMap::new(),
            placed: 0,
            void: 0,
            missing: BTreeMap::new(),
            bodies,
        }
    }

    pub(super) fn run(&mut self, transactions: Vec<Transaction>) -> Result<()> {
        self.catalog(&transactions)?;
        for (id, frame) in transactions.iter().flat_map(|t| &t.frames) {
            if let Frame::Expunge { ranges, .. } = frame {
                self.expunged.entry(*id).or_default().extend(ranges);
            }
        }
        let mut touched: BTreeMap<MailboxId, Arc<MailboxInner>> = BTreeMap::new();
        for transaction in transactions {
            self.mailbox_frames(transaction, &mut touched)?;
        }
        for mailbox in touched.values() {
            self.tell_renames_apart(mailbox)?;
            let mut files = mailbox.files.lock();
            files.clear_tail()?;
            files.recount();
            files.account();
            if self.burnt.contains(&mailbox.id) {
                let head = &mut files.head;
                head.modseq_highest = ModSeq(head.modseq_highest.0 + 1);
                head.vanished_floor = head.modseq_highest;
            }
            let mut state = mailbox.state.lock();
            state.uid_next = files.head.uid_next;
            state.modseq_last = files.head.modseq_highest;
            state.keywords = files.keywords().clone();
            state.keywords_filed = files.keywords().clone();
            drop(state);
            // Files may be under two names, of messages that no frame tells of, too.
            mailbox.foreign.lock().crashed();
            mailbox.publish(&files);
            drop(files);
            mailbox.find_differing_names();
            mailbox.mark_dirty();
        }
        self.recount_users(&touched)
    }

    /// Says in the log, too, which messages came to nothing: who replays it later has other
    /// means to find their bytes.
    pub(super) fn log_missing(self) {
        if self.shared.archive.is_none() {
            return;
        }
        for (mailbox, uids) in self.missing.into_values() {
            let mut state = mailbox.state.lock();
            let (modseq, ranges) = (state.take_modseq(), ranges(&uids));
            let frame = Frame::Expunge { modseq, moved: false, ranges };
            if let Err(error) = mailbox.push_frames(&mut state, vec![(frame, Vec::new())], 0) {
                tracing::warn!(mailbox = %mailbox.id, %error, "cannot log void messages");
            }
        }
    }

    /// The open mailbox of an id; `None` when it was deleted since.
    fn mailbox(&mut self, id: MailboxId) -> Result<Option<Arc<MailboxInner>>> {
        if let Some(open) = self.shared.mailboxes.find(id) {
            return Ok(Some(open));
        }
        let owner = match self.owners.get(&id) {
            Some(owner) => Some(owner.clone()),
            None => self.shared.catalog.owner(id)?,
        };
        let Some(owner) = owner else { return Ok(None) };
        let user = self.shared.known_user(&owner)?;
        let homes = self
            .homes
            .entry(owner.clone())
            .or_insert_with(|| NamespaceEdit::new(Namespace::clone(&user.namespace.load())));
        let Some((name, entry)) = homes.entry(id) else { return Ok(None) };
        let partition = self.shared.partition(&entry.partition)?.clone();
        let dir = entry.dir(&partition, &owner, name)?;
        user.open_at(id, entry.uid_validity, partition, dir).map(Some)
    }

    fn mailbox_frames(
        &mut self,
        transaction: Transaction,
        touched: &mut BTreeMap<MailboxId, Arc<MailboxInner>>,
    ) -> Result<()> {
        // Bodies first: one that is not whole voids the transaction.
        let mut found = Vec::with_capacity(transaction.frames.len());
        for (id, frame) in transaction.frames {
            let is_mailbox = matches!(
                frame,
                Frame::Append(_)
                    | Frame::Flags { .. }
                    | Frame::Expunge { .. }
                    | Frame::Keywords { .. }
                    | Frame::Annotations { .. }
            );
            if !is_mailbox {
                continue;
            }
            let Some(mailbox) = self.mailbox(id)? else {
                if let Frame::Append(append) = frame {
                    self.orphans.insert((id, append.uid), append);
                }
                continue;
            };
            touched.insert(id, mailbox.clone());
            let body = match &frame {
                Frame::Append(append) => Some(self.find_body(&mailbox, append)?),
                _ => None,
            };
            found.push((mailbox, frame, body));
        }
        // One file in its place proves that the transaction had settled: then a missing one was
        // removed later, and voids nothing.
        let settled = found
            .iter()
            .any(|(_, _, body)| matches!(body, Some(Some(body)) if body.source == Source::Foreign));
        let torn = |(mailbox, frame, body): &(Arc<MailboxInner>, Frame, Option<Option<Body>>)| {
            matches!(frame, Frame::Append(a) if matches!(a.source, Source::Staged(_))
                && !self.is_expunged(mailbox.id, a.uid))
                && matches!(body, Some(None))
        };
        let void = !settled && found.iter().any(torn);
        for (mailbox, frame, body) in found {
            let files: &mut Files = &mut mailbox.files.lock();
            self.redo(&mailbox, files, frame, body.flatten(), void)?;
        }
        Ok(())
    }

    fn redo(
        &mut self,
        mailbox: &Arc<MailboxInner>,
        files: &mut Files,
        frame: Frame,
        body: Option<Body>,
        void: bool,
    ) -> Result<()> {
        match frame {
            Frame::Append(append) => {
                let uid = append.uid;
                match body {
                    Some(body) if !void => {
                        self.redo_append(mailbox, files, append, body)?;
                        self.placed += 1;
                    }
                    _ => {
                        // Removed by another program, maybe: then somebody has seen it, and
                        // hears that it is gone.
                        apply_expunge(files, append.modseq, &[(uid.0, uid.0)])?;
                        mailbox.drop_annotations(&[uid])?;
                        self.burnt.insert(mailbox.id);
                        let missing = self.missing.entry(mailbox.id);
                        missing.or_insert_with(|| (mailbox.clone(), Vec::new())).1.push(uid);
                        self.void += 1;
                    }
                }
                let head = &mut files.head;
                head.uid_next = head.uid_next.max(Uid(uid.0.saturating_add(1)));
                Ok(())
            }
            Frame::Flags { modseq, changes } => {
                apply_flags(files, modseq, &changes)?;
                let passed = files.keywords().passed_bit();
                for change in &changes {
                    let after = name_flags(change.flags, change.keywords, passed);
                    for flags in [change.before, after] {
                        self.note_letters(mailbox.id, change.uid, flags);
                    }
                }
                Ok(())
            }
            Frame::Expunge { modseq, ranges, .. } => {
                let dead = apply_expunge(files, modseq, &ranges)?;
                let uids: Vec<Uid> =
                    dead.into_iter().map(|position| files.record(position).uid).collect();
                uids.iter().for_each(|uid| mailbox.doom(*uid, Lsn(0)));
                mailbox.drop_annotations(&uids)
            }
            Frame::Keywords { names } => files.set_keywords(&names),
            Frame::Annotations { ranges, values } => {
                mailbox.apply_annotations(files, &ranges, &values)
            }
            _ => Ok(()),
        }
    }

    fn redo_append(
        &mut self,
        mailbox: &Arc<MailboxInner>,
        files: &mut Files,
        mut append: Append,
        body: Body,
    ) -> Result<()> {
        let place = mailbox.place.read().clone();
        let staged = Append { source: body.source.clone(), ..append.clone() };
        self.shared.place_files(&place, std::iter::once(&staged), None)?;
        if body.source == Source::Foreign
            && let Source::Staged(stage) | Source::Linked { stage, .. } = &append.source
        {
            let layout = &place.partition.layout;
            let path = layout.stage_path(&place.partition.path, &place.dir, stage);
            // As a rule it is not there.
            let _ = self.shared.storage.unlink(&path);
        }
        let home = body.at.clone().unwrap_or_else(|| location_of(&append));
        mailbox.keep_aside(&place, &append, &home);
        self.note_letters(mailbox.id, append.uid, NameFlags(append.name_flags));
        if let Some(at) = body.at {
            append.in_new = at.in_new;
            append.other_letters = at.other_letters;
        }
        let message = new_message(&append, body.facts.extras);
        match files.position_of(append.uid) {
            Some(position) => files.redo(position, message),
            None if append.uid < files.head.uid_next => Ok(()), // Expunged and compacted away.
            None => files.append(vec![message]),
        }
    }

    /// Whether a frame removes the message: then its file may be gone.
    fn is_expunged(&self, mailbox: MailboxId, uid: Uid) -> bool {
        let ranges = self.expunged.get(&mailbox);
        ranges.is_some_and(|ranges| ranges.iter().any(|&(a, b)| (a..=b).contains(&uid.0)))
    }

    /// Usage of users whose mailboxes were touched: summaries are older than the log.
    fn recount_users(&self, touched: &BTreeMap<MailboxId, Arc<MailboxInner>>) -> Result<()> {
        let users: Vec<Arc<UserInner>> = self.shared.users.lock().values().cloned().collect();
        for user in users {
            let (mut messages, mut bytes) = (0, 0);
            let namespace = user.namespace.load_full();
            for entry in namespace.mailboxes.values() {
                if let Some(mailbox) = touched.get(&entry.id) {
                    let view = mailbox.view();
                    messages += u64::from(view.exists());
                    bytes += view.bytes();
                } else if let Some(numbers) = self.shared.catalog.summary(entry.id)? {
                    messages += numbers.messages;
                    bytes += numbers.bytes;
                }
            }
            let ids: Vec<_> = namespace.mailboxes.values().map(|entry| entry.id).collect();
            user.ledger.sums.set((messages, bytes), self.shared.annotation_bytes_of(&ids)?);
            // Limits may be in frames, too.
            user.limit();
            user.regroup()?;
        }
        Ok(())
    }
}
