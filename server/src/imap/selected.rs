//! The selected mailbox: its view, sync points, sets.
//!
//! The view is what the client believes. It is replaced only by [`Selected::sync`] and
//! [`Selected::adopt`], which tell the client each difference.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use engine::{Changes, Mailbox, Record, View};
use protocol::imap::command::SetArgument;
use protocol::imap::encode;
use protocol::types::{Keyword, ModSeq, SeqNum, SetValue, SystemFlags, Uid};

use super::reply::Reply;

/// What the client has enabled that changes untagged data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    /// IMAP4rev2: UTF-8 names and strings, ESEARCH, no RECENT.
    pub(super) rev2: bool,
    /// CONDSTORE: flag changes carry MODSEQ.
    pub(super) condstore: bool,
}

/// The selected mailbox.
pub(super) struct Selected {
    /// The store's handle.
    pub(super) mailbox: Mailbox,
    /// As the client knows it.
    pub(super) view: View,
    /// EXAMINE.
    pub(super) read_only: bool,
    /// `\Recent` messages: ascending UID ranges, inclusive.
    recent: Vec<(u32, u32)>,
    /// `$`: ascending UID ranges.
    pub(super) saved: Vec<(u32, u32)>,
    /// The session's own changes that were answered before they are visible, with their MODSEQs:
    /// not to be told again, unless they fail.
    answered: BTreeMap<Uid, ModSeq>,
}

/// `FLAGS (…)` of messages without keywords, by the bits of their system flags.
static FLAG_TEXTS: LazyLock<[Vec<u8>; 32]> = LazyLock::new(|| {
    std::array::from_fn(|bits| {
        let mut text = b"FLAGS ".to_vec();
        encode::flags(&mut text, SystemFlags(bits as u8), [], None);
        text
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

impl Selected {
    /// Takes a mailbox as the client will see it first.
    pub(super) fn new(mailbox: Mailbox, view: View, read_only: bool) -> Selected {
        let (recent, saved, answered) = (vec![], vec![], BTreeMap::new());
        let mut selected = Selected { mailbox, view, read_only, recent, saved, answered };
        selected.claim_recent();
        selected
    }

    fn claim_recent(&mut self) {
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

    /// The largest UID in the view, 0 if it is empty.
    fn uid_last(&self) -> u32 {
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

    fn seqs_of_uids(&self, ranges: &[(u32, u32)]) -> SeqRanges {
        let everything = ranges.len() == 1
            && self.view.uid(SeqNum(1)).is_some_and(|first| ranges[0].0 <= first.0)
            && ranges[0].1 >= self.uid_last();
        if everything {
            return vec![(SeqNum(1), SeqNum(self.view.exists()))];
        }
        let mut out: SeqRanges = Vec::new();
        for seq in self.view.seqs_in_uid_ranges(ranges) {
            match out.last_mut() {
                Some(last) if last.1.0 + 1 == seq.0 => last.1 = seq,
                _ => out.push((seq, seq)),
            }
        }
        out
    }

    /// The records of a set, in order.
    pub(super) fn records<'s>(
        &'s self,
        ranges: &'s [(SeqNum, SeqNum)],
    ) -> impl Iterator<Item = (SeqNum, Record)> + 's {
        ranges.iter().flat_map(|&(first, last)| self.view.records(first, last))
    }

    /// `FLAGS (…)` of one message, as the client sees it.
    pub(super) fn write_flags(&self, out: &mut Vec<u8>, record: &Record, features: Features) {
        let recent = !features.rev2 && self.is_recent(record.uid);
        if record.keywords == 0 && !recent {
            out.extend_from_slice(&FLAG_TEXTS[usize::from(record.flags.0 & SystemFlags::ALL.0)]);
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
        out.extend_from_slice(b"* ");
        encode::number(out, u64::from(seq.0));
        out.extend_from_slice(b" FETCH (");
        if items.uid {
            out.extend_from_slice(b"UID ");
            encode::number(out, u64::from(record.uid.0));
            out.push(b' ');
        }
        self.write_flags(out, record, features);
        if items.modseq {
            write_modseq(out, record.modseq);
        }
        out.extend_from_slice(b")\r\n");
    }

    /// `* n FETCH (MODSEQ (n))`, for a silent STORE.
    pub(super) fn write_modseq_fetch(
        &self,
        out: &mut Vec<u8>,
        seq: SeqNum,
        record: &Record,
        items: FlagItems,
    ) {
        encode::print(out, format_args!("* {seq} FETCH ("));
        if items.uid {
            encode::print(out, format_args!("UID {} ", record.uid));
        }
        encode::print(out, format_args!("MODSEQ ({}))\r\n", record.modseq));
    }

    /// Writes FLAGS and PERMANENTFLAGS: at SELECT, and when a keyword is new.
    pub(super) fn write_flag_names(&self, out: &mut Vec<u8>) {
        let names = self.view.keywords().names();
        out.extend_from_slice(b"* FLAGS ");
        encode::flags(out, SystemFlags::ALL, names, None);
        out.extend_from_slice(b"\r\n");
        let code = if self.read_only {
            encode::Code::PermanentFlags(SystemFlags::empty(), vec![], false)
        } else {
            let more = names.len() < engine::KeywordTable::KEYWORDS_MAX;
            encode::Code::PermanentFlags(SystemFlags::ALL, names.to_vec(), more)
        };
        encode::status(out, None, encode::Status::Ok, Some(&code), "Flags that can be stored");
    }

    /// A sync point: tells what happened since the last one, expunges included.
    pub(super) fn sync(&mut self, newest: View, out: &mut Vec<u8>, features: Features) {
        let changes = newest.changes_since(&self.view);
        self.tell(newest, &changes, &[], out, features);
    }

    /// A sync point after the session's own change, which was told or need not be: its
    /// messages and MODSEQ, `own` (ascending), are left out. Does nothing while expunges are in the way: they
    /// may not be told here.
    pub(super) fn adopt(
        &mut self,
        newest: View,
        own: (&[Uid], ModSeq),
        out: &mut Vec<u8>,
        features: Features,
    ) {
        let (own, modseq) = own;
        let changes = newest.changes_beside(&self.view, modseq);
        if changes.expunged.is_empty() {
            self.tell(newest, &changes, own, out, features);
        }
    }

    fn tell(
        &mut self,
        newest: View,
        changes: &Changes,
        own: &[Uid],
        out: &mut Vec<u8>,
        features: Features,
    ) {
        for seq in changes.expunged.iter().rev() {
            out.extend_from_slice(b"* ");
            encode::number(out, u64::from(seq.0));
            out.extend_from_slice(b" EXPUNGE\r\n");
        }
        let new_names = newest.keywords().names().len() != self.view.keywords().names().len();
        self.view = newest;
        if new_names {
            self.write_flag_names(out);
        }
        if let Some(exists) = changes.exists {
            encode::print(out, format_args!("* {exists} EXISTS\r\n"));
            self.claim_recent();
            if !features.rev2 {
                encode::print(out, format_args!("* {} RECENT\r\n", self.recent_count()));
            }
        }
        let items =
            FlagItems { uid: features.rev2 || features.condstore, modseq: features.condstore };
        for uid in &changes.flags {
            if own.binary_search(uid).is_ok() {
                continue;
            }
            let Some((seq, record)) = self.view.record_of(*uid) else { continue };
            if self.answered.get(uid) != Some(&record.modseq) || features.condstore {
                self.write_flag_fetch(out, seq, &record, features, items);
            }
        }
        self.forget_answered(out, features, items);
    }

    /// Notes the session's own changes that were answered and are still to come into the view.
    pub(super) fn note_answered(&mut self, changed: &[Uid], modseq: ModSeq) {
        self.answered.extend(changed.iter().map(|uid| (*uid, modseq)));
    }

    /// Drops the answered changes that the view shows by now, and takes back those that failed.
    fn forget_answered(&mut self, out: &mut Vec<u8>, features: Features, items: FlagItems) {
        if self.answered.is_empty() {
            return;
        }
        let mut answered = std::mem::take(&mut self.answered);
        let highest = self.view.modseq_highest();
        answered.retain(|uid, modseq| {
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

/// ` MODSEQ (n)`
pub(super) fn write_modseq(out: &mut Vec<u8>, modseq: ModSeq) {
    out.extend_from_slice(b" MODSEQ (");
    encode::number(out, modseq.0);
    out.push(b')');
}
