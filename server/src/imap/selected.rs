//! The selected mailbox: its view, sets, and how differences are written.
//!
//! The view is what the client believes. It is replaced only by sync points (`Session::tell`), which
//! tell the client each difference.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use engine::io::HelperPool;
use engine::{
    Collation, FlagScope, Mailbox, NewAnnotations, PrivateSeen, Promised, Record, Rights,
    StoreOutcome, User, View,
};
use protocol::imap::command::SetArgument;
use protocol::imap::encode;
use protocol::types::{Keyword, ModSeq, SeqNum, SetValue, SystemFlags, Uid};

use super::contexts::Contexts;
use super::reply::Reply;
use super::session::PIECE_BYTES;
use super::sharing::Place;

/// Records that a session looks at without a pause; for more a helper thread does it.
const INLINE_RECORDS_MAX: usize = 8192;
/// Changed messages that are looked at before other sessions run.
const CHANGED_TURN: usize = 2048;

/// A mailbox on which one of these is there is selected READ-WRITE (RFC 4314 section 5.2; `n` counts
/// as they do, RFC 5257 section 3.4).
const CHANGING: Rights = Rights::INSERT
    .union(Rights::EXPUNGE)
    .union(Rights::SEEN)
    .union(Rights::WRITE)
    .union(Rights::DELETE_MESSAGES)
    .union(Rights::ANNOTATE);

/// What the client has enabled that changes untagged data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    /// IMAP4rev2: UTF-8 names and strings, ESEARCH, no RECENT.
    pub(super) rev2: bool,
    /// UTF8=ACCEPT: UTF-8 names and strings (RFC 6855).
    pub(super) utf8_accept: bool,
    /// CONDSTORE: flag changes carry MODSEQ.
    pub(super) condstore: bool,
    /// QRESYNC: removals are told by VANISHED.
    pub(super) qresync: bool,
    /// UIDONLY (RFC 9586): no sequence numbers, UIDFETCH for FETCH, VANISHED for EXPUNGE.
    pub(super) uid_only: bool,
    /// How strings compare (RFC 5255).
    pub(super) collation: Collation,
}

impl Features {
    /// Whether names and quoted strings are UTF-8.
    pub(super) fn utf8(self) -> bool {
        self.rev2 || self.utf8_accept
    }
}

/// The selected mailbox.
pub(super) struct Selected {
    /// The store's handle.
    pub(super) mailbox: Mailbox,
    /// As the client knows it; while `promised` is there, without any messages.
    pub(super) view: View,
    /// Messages that SELECT told of and that are still being read.
    pub(super) promised: Option<Promised>,
    /// Flags of the promised messages were told.
    pub(super) told_early: bool,
    /// Whose it is.
    pub(super) owner: User,
    /// What the session's user may do here, as of the last look.
    pub(super) rights: Rights,
    /// The session's user's own `\Seen`, where it is not the owner's.
    pub(super) seen: Option<PrivateSeen>,
    /// EXAMINE, or no right to change anything.
    pub(super) read_only: bool,
    /// EXAMINE.
    pub(super) examined: bool,
    /// ANNOTATE: the client is told of annotations that others change.
    pub(super) tells_annotations: bool,
    /// `\Recent` messages: ascending UID ranges, inclusive.
    recent: Vec<(u32, u32)>,
    /// `$`: ascending UID ranges.
    pub(super) saved: Vec<(u32, u32)>,
    /// Messages that the session has copied, where expunged ones go to the trash: ascending UID
    /// ranges.
    pub(super) copied: Vec<(u32, u32)>,
    /// The session's own changes that were answered before they are visible, with their MODSEQs:
    /// not to be told again, unless they fail.
    answered: BTreeSet<(Uid, ModSeq)>,
    /// How many keywords the client was told of.
    keywords_told: Cell<usize>,
    /// Highest MODSEQ of a message that the client was told, since records are live maybe newer
    /// than the view.
    modseq_told: Cell<ModSeq>,
    /// Searches that asked for updates.
    pub(super) contexts: Contexts,
}

/// `FLAGS (…)` of messages without keywords, by the bits of their system flags.
static FLAG_TEXTS: LazyLock<[encode::Short<64>; 32]> = LazyLock::new(|| {
    std::array::from_fn(|bits| {
        let mut text = b"FLAGS ".to_vec();
        encode::flags(&mut text, SystemFlags(bits as u8), [], None);
        encode::Short::new(&text).expect("five flags in 64 octets")
    })
});

/// Sequence numbers of a command's set: ascending inclusive ranges, all within the view.
pub(super) type SeqRanges = Vec<(SeqNum, SeqNum)>;

/// Pieces of a flag's answer that depend on the command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlagItems {
    /// With UID.
    pub(super) uid: bool,
    /// With MODSEQ.
    pub(super) modseq: bool,
}

impl FlagItems {
    /// For flags that changed without the client having asked for them.
    fn of_change(features: Features) -> FlagItems {
        FlagItems::of_command(features, false)
    }

    /// For flags that a command changed; `uid`: in its UID form. With CONDSTORE the UID goes along
    /// always (RFC 7162 section 3.2.4).
    pub(super) fn of_command(features: Features, uid: bool) -> FlagItems {
        let uid = uid || features.rev2 || features.condstore;
        FlagItems { uid: uid && !features.uid_only, modseq: features.condstore }
    }
}

impl Selected {
    /// Takes a mailbox as the client will see it first.
    pub(super) fn new(
        place: Place,
        (mailbox, view): (Mailbox, View),
        seen: Option<PrivateSeen>,
        examined: bool,
    ) -> Selected {
        let Place { user: owner, rights, .. } = place;
        let view = view.seen_by(seen.as_ref());
        let rights = rights.unwrap_or_default();
        let read_only = examined || !rights.intersects(CHANGING);
        let mut selected = Selected {
            mailbox,
            view,
            promised: None,
            told_early: false,
            owner,
            rights,
            seen,
            read_only,
            examined,
            tells_annotations: false,
            recent: Vec::new(),
            saved: Vec::new(),
            copied: Vec::new(),
            answered: BTreeSet::new(),
            keywords_told: Cell::new(0),
            modseq_told: Cell::default(),
            contexts: Contexts::default(),
        };
        selected.claim_recent();
        selected
    }

    /// The rights are others now.
    pub(super) fn set_rights(&mut self, rights: Rights) {
        self.rights = rights;
        self.read_only = self.examined || !rights.intersects(CHANGING);
    }

    /// Flags that can be changed.
    pub(super) fn scope(&self) -> FlagScope {
        match self.read_only {
            true => FlagScope::of(Rights::NONE),
            false => FlagScope::of(self.rights),
        }
    }

    pub(super) fn claim_recent(&mut self) {
        let first = self.mailbox.claim_recent(&self.view, !self.read_only).0;
        let next = self.view.uid_next().0;
        if first >= next {
            return;
        }
        match self.recent.last_mut() {
            Some(last) if first <= last.1.saturating_add(1) => last.1 = last.1.max(next - 1),
            _ => self.recent.push((first, next - 1)),
        }
    }

    /// The `\Recent` messages as UID ranges.
    pub(super) fn recent_uids(&self) -> &[(u32, u32)] {
        &self.recent
    }

    /// How many messages are `\Recent`.
    pub(super) fn recent_count(&self) -> usize {
        self.view.count_in_uid_ranges(&self.recent) as usize
    }

    fn is_recent(&self, uid: Uid) -> bool {
        self.recent.iter().rev().any(|&(first, last)| (first..=last).contains(&uid.0))
    }

    /// Notes that messages were copied somewhere.
    pub(super) fn note_copied(&mut self, uids: impl Iterator<Item = Uid>) {
        let mut ranges = std::mem::take(&mut self.copied);
        ranges.extend(uids.map(|uid| (uid.0, uid.0)));
        ranges.sort_unstable();
        for (first, last) in ranges {
            match self.copied.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => self.copied.push((first, last)),
            }
        }
    }

    /// The largest UID in the view, 0 if it is empty.
    pub(super) fn uid_last(&self) -> u32 {
        self.view.uid(SeqNum(self.view.exists())).map_or(0, |uid| uid.0)
    }

    /// A set's messages. UIDs that don't exist are left out; sequence numbers that don't are the
    /// client's mistake.
    pub(super) fn resolve(&self, set: &SetArgument, uid: bool) -> Result<SeqRanges, Reply> {
        let exists = self.view.exists();
        match set {
            SetArgument::Saved => Ok(self.seqs_of_uids(&self.saved)),
            SetArgument::Set(set) if uid => Ok(self.seqs_of_uids(&set.resolve(self.uid_last()))),
            SetArgument::Set(set) => {
                let ends = set.ranges.iter().filter(|r| {
                    // `n:*` means something for every n.
                    r.first != SetValue::Star && r.last != SetValue::Star
                });
                let beyond = |end| matches!(end, SetValue::Number(n) if n > exists);
                if ends.into_iter().any(|r| beyond(r.first) || beyond(r.last)) {
                    return Err(Reply::bad("Sequence number beyond the last message"));
                }
                let ranges = set.resolve(exists).into_iter();
                let within = ranges.map(|(a, b)| (a, b.min(exists))).filter(|(a, b)| a <= b);
                Ok(within.map(|(a, b)| (SeqNum(a), SeqNum(b))).collect())
            }
        }
    }

    /// A set of UIDs as ascending ranges, whether messages have them or not. `*` is the last UID
    /// that was given: who asks for `1:*` wants to hear of a last message that is gone, too.
    pub(super) fn uid_ranges(&self, set: &SetArgument) -> Vec<(u32, u32)> {
        match set {
            SetArgument::Saved => self.saved.clone(),
            SetArgument::Set(set) => set.resolve(self.view.uid_next().0.saturating_sub(1)),
        }
    }

    fn seqs_of_uids(&self, ranges: &[(u32, u32)]) -> SeqRanges {
        let mut out: SeqRanges = Vec::new();
        for (first, to) in ranges.iter().filter_map(|&range| self.view.seqs_in_uid_range(range)) {
            match out.last_mut() {
                Some(last) if last.1.0 + 1 == first.0 => last.1 = to,
                _ => out.push((first, to)),
            }
        }
        out
    }

    /// The UIDs of a set's messages, of those that `wanted` takes; many are collected by a helper
    /// thread. Without `wanted`, those of damaged records too.
    ///
    /// # Errors
    /// When the store is closing.
    pub(super) async fn uids(
        &self,
        helpers: &HelperPool,
        ranges: SeqRanges,
        wanted: Option<fn(&Record) -> bool>,
    ) -> engine::Result<Vec<Uid>> {
        let count: usize = ranges.iter().map(|(first, last)| (last.0 - first.0) as usize + 1).sum();
        let view = self.view.clone();
        let collect = move || {
            let Some(wanted) = wanted else {
                let mut uids = Vec::with_capacity(count);
                for &(first, last) in &ranges {
                    uids.extend(view.uids_within(first, last));
                }
                return uids;
            };
            let records = ranges.iter().flat_map(|&(first, last)| view.records(first, last));
            let wanted = records.filter(|(_, record)| wanted(record));
            wanted.map(|(_, record)| record.uid).collect()
        };
        if count <= INLINE_RECORDS_MAX {
            return Ok(collect());
        }
        helpers.run(collect).await.map_err(|_| engine::Error::Closing)
    }

    /// `FLAGS (…)` of one message, as the client sees it.
    #[inline]
    pub(super) fn write_flags(&self, out: &mut Vec<u8>, record: &Record, features: Features) {
        let recent = !features.rev2 && self.is_recent(record.uid);
        if record.keywords == 0 && !recent {
            FLAG_TEXTS[usize::from(record.flags.0 & SystemFlags::ALL.0)].write(out);
            return;
        }
        out.extend_from_slice(b"FLAGS ");
        let keywords: &mut dyn Iterator<Item = &Keyword> =
            &mut self.view.keywords().of_bits(record.keywords);
        encode::flags(out, record.flags, keywords, recent.then_some("\\Recent"));
    }

    /// A whole `* n FETCH (FLAGS …)`.
    pub(super) fn write_flag_fetch(
        &self,
        out: &mut Vec<u8>,
        seq: SeqNum,
        record: &Record,
        features: Features,
        items: FlagItems,
    ) {
        self.write_change_fetch(out, (seq, record), features, items, &[]);
    }

    /// The same, with names of annotations' entries that changed (RFC 5257 section 4.4).
    fn write_change_fetch(
        &self,
        out: &mut Vec<u8>,
        (seq, record): (SeqNum, &Record),
        features: Features,
        items: FlagItems,
        entries: &[&str],
    ) {
        self.announce_keywords(out, record);
        begin_fetch(out, seq, record.uid, features);
        if items.uid {
            out.extend_from_slice(b"UID ");
            encode::number(out, u64::from(record.uid.0));
            out.push(b' ');
        }
        self.write_flags(out, record, features);
        if items.modseq {
            out.push(b' ');
            self.write_modseq(out, record.modseq);
        }
        if !entries.is_empty() {
            out.extend_from_slice(b" ANNOTATION");
            for (at, entry) in entries.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b" (" } else { b" " });
                encode::astring(out, entry.as_bytes(), false);
            }
            out.push(b')');
        }
        out.extend_from_slice(b")\r\n");
    }

    /// `* n FETCH (MODSEQ (n))`, for a silent STORE.
    pub(super) fn write_modseq_fetch(
        &self,
        out: &mut Vec<u8>,
        seq: SeqNum,
        record: &Record,
        features: Features,
        items: FlagItems,
    ) {
        begin_fetch(out, seq, record.uid, features);
        if items.uid {
            encode::print(out, format_args!("UID {} ", record.uid));
        }
        self.write_modseq(out, record.modseq);
        out.extend_from_slice(b")\r\n");
    }

    /// `MODSEQ (n)`
    pub(super) fn write_modseq(&self, out: &mut Vec<u8>, modseq: ModSeq) {
        self.note_modseq(modseq);
        out.extend_from_slice(b"MODSEQ (");
        encode::number(out, modseq.0);
        out.push(b')');
    }

    /// The client is told this MODSEQ of a message.
    pub(super) fn note_modseq(&self, modseq: ModSeq) {
        self.modseq_told.set(self.modseq_told.get().max(modseq));
    }

    /// The highest MODSEQ of a message that the client was told.
    pub(super) fn modseq_told(&self) -> ModSeq {
        self.modseq_told.get()
    }

    /// Whether the client was told a MODSEQ of a message above that of changes it was not told of.
    pub(super) fn told_ahead(&self) -> bool {
        self.modseq_told.get() > self.view.modseq_highest()
    }

    /// The newest view: one that tells of all changes below the MODSEQs that the client knows.
    pub(super) async fn newest(&self) -> View {
        self.mailbox.view_at(self.modseq_told.get()).await
    }

    /// Before the line that has this message's flags: records are live, so it may have a keyword
    /// that is newer than the view.
    pub(super) fn announce_keywords(&self, out: &mut Vec<u8>, record: &Record) {
        if record.keywords != 0 {
            self.write_new_flag_names(out);
        }
    }

    /// Writes FLAGS and PERMANENTFLAGS if there are keywords that the client was not told of.
    fn write_new_flag_names(&self, out: &mut Vec<u8>) {
        if self.view.keywords().names().len() != self.keywords_told.get() {
            self.write_flag_names(out);
        }
    }

    /// Writes FLAGS and PERMANENTFLAGS.
    pub(super) fn write_flag_names(&self, out: &mut Vec<u8>) {
        let names = self.view.keywords().names();
        self.keywords_told.set(names.len());
        out.extend_from_slice(b"* FLAGS ");
        encode::flags(out, SystemFlags::ALL, names, None);
        out.extend_from_slice(b"\r\n");
        let scope = self.scope();
        let more = scope.keywords && names.len() < engine::KeywordTable::KEYWORDS_MAX;
        let names = if scope.keywords { names.to_vec() } else { vec![] };
        let code = encode::Code::PermanentFlags(scope.system, names, more);
        encode::status(out, None, encode::Status::Ok, Some(&code), "Flags that can be stored");
    }

    /// Writes VANISHED for removed messages.
    pub(super) fn write_vanished(out: &mut Vec<u8>, ascending: &[Uid]) {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for uid in ascending {
            match ranges.last_mut() {
                Some(last) if last.1 + 1 == uid.0 => last.1 = uid.0,
                _ => ranges.push((uid.0, uid.0)),
            }
        }
        encode::vanished(out, false, &ranges);
    }

    /// Writes EXPUNGE lines, the last message's first.
    pub(super) fn write_expunged(out: &mut Vec<u8>, ascending: &[SeqNum]) {
        for seq in ascending.iter().rev() {
            out.extend_from_slice(b"* ");
            encode::number(out, u64::from(seq.0));
            out.extend_from_slice(b" EXPUNGE\r\n");
        }
    }

    /// Takes a newer view, of whose removals the client was told; `exists` when messages came.
    pub(super) fn take_view(
        &mut self,
        newest: View,
        exists: Option<u32>,
        out: &mut Vec<u8>,
        features: Features,
    ) {
        self.view = newest;
        self.write_new_flag_names(out);
        if let Some(exists) = exists {
            encode::print(out, format_args!("* {exists} EXISTS\r\n"));
            self.claim_recent();
            if !features.rev2 {
                encode::print(out, format_args!("* {} RECENT\r\n", self.recent_count()));
            }
        }
    }

    /// Tells `flags` that others changed, if that is wanted, of the first of `changed`, with the names
    /// of `annotations`; returns how many it has dealt with. Those in `own` (ascending) the client knows.
    pub(super) fn write_changed(
        &self,
        out: &mut Vec<u8>,
        changed: &[Uid],
        own: &[Uid],
        (flags, annotations): (bool, &NewAnnotations),
        features: Features,
    ) -> usize {
        let items = FlagItems::of_change(features);
        let start = out.len();
        let from = changed.first().map_or(0, |first| own.partition_point(|uid| uid < first));
        let mut own = own[from..].iter().peekable();
        for (done, uid) in changed.iter().take(CHANGED_TURN).enumerate() {
            if out.len() - start > PIECE_BYTES {
                return done;
            }
            while own.next_if(|known| *known < uid).is_some() {}
            if own.next_if_eq(&uid).is_some() {
                continue;
            }
            let Some((seq, record)) = self.view.record_of(*uid) else { continue };
            // What others have seen is told only for its MODSEQ.
            let others = self.mailbox.was_private(record.modseq, self.seen.as_ref());
            let entries = annotations.of(*uid);
            let told = match others {
                true => features.condstore,
                false => !self.answered.contains(&(*uid, record.modseq)) || features.condstore,
            };
            if told && flags || !entries.is_empty() {
                self.write_change_fetch(out, (seq, &record), features, items, &entries);
            }
        }
        changed.len().min(CHANGED_TURN)
    }

    /// Notes the session's own changes that were answered and are still to come into the view.
    pub(super) fn note_answered(&mut self, changed: &[Uid], modseq: ModSeq) {
        self.answered.extend(changed.iter().map(|uid| (*uid, modseq)));
    }

    /// Those of a STORE's messages that others had changed since the client was last told, ascending.
    pub(super) fn overtaken(&self, outcome: &StoreOutcome) -> Vec<Uid> {
        let known = self.view.modseq_highest();
        let changed = outcome.changed.iter().zip(&outcome.before);
        let by_others = |(uid, before): &(&Uid, &ModSeq)| {
            **before > known && !self.answered.contains(&(**uid, **before))
        };
        changed.filter(by_others).map(|(uid, _)| *uid).collect()
    }

    /// Drops the answered changes that the view shows by now, and takes back those that failed.
    pub(super) fn forget_answered(&mut self, out: &mut Vec<u8>, features: Features) {
        if self.answered.is_empty() {
            return;
        }
        let items = FlagItems::of_change(features);
        let mut answered = std::mem::take(&mut self.answered);
        let highest = self.view.modseq_highest();
        answered.retain(|(uid, modseq)| {
            if !self.view.was_reverted(*modseq) {
                return *modseq > highest;
            }
            if let Some((seq, record)) = self.view.record_of(*uid) {
                self.write_flag_fetch(out, seq, &record, features, items);
            }
            false
        });
        self.answered = answered;
    }
}

/// `* 23 FETCH (`, or with UIDONLY `* 25900 UIDFETCH (`.
#[inline]
pub(super) fn begin_fetch(out: &mut Vec<u8>, seq: SeqNum, uid: Uid, features: Features) {
    out.extend_from_slice(b"* ");
    if features.uid_only {
        encode::number(out, u64::from(uid.0));
        out.extend_from_slice(b" UIDFETCH (");
    } else {
        encode::number(out, u64::from(seq.0));
        out.extend_from_slice(b" FETCH (");
    }
}
