//! What clients asked for and were told, each with its place in the disk's record.
//!
//! An operation begins at the record's length before its first byte is sent, and is sure from the
//! length right after its answer was read. For a cut behind event `k` it is [`Certainty::Sure`] if
//! it was answered by then, [`Certainty::Unsure`] if it was under way, and [`Certainty::Never`] if
//! it was not yet asked for. A connection has one operation under way at a time.

use std::fmt::Write as _;

use powercut::random::Random;

/// Index into [`Ledger::operations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OperationId(usize);

/// Index into [`Ledger::folders`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FolderId(pub(crate) usize);

/// Index into [`Ledger::instances`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceId(pub(crate) usize);

/// What a cut may have done to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    Sure,
    Unsure,
    Never,
}

/// One command or delivery.
#[derive(Debug)]
pub(crate) struct Operation {
    begin: usize,
    sure: Option<usize>,
    /// Whether all that it makes and removes shows at once or not at all.
    pub(crate) whole: bool,
    pub(crate) what: String,
}

impl Operation {
    pub(crate) fn at(&self, cut: usize) -> Certainty {
        match self.sure {
            Some(sure) if sure <= cut => Certainty::Sure,
            _ if self.begin < cut => Certainty::Unsure,
            _ => Certainty::Never,
        }
    }

    pub(crate) fn sure(&self) -> Option<usize> {
        self.sure
    }
}

/// A mailbox through all its names.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) user: usize,
    pub(crate) names: Vec<(OperationId, String)>,
    pub(crate) deleted: Option<OperationId>,
    /// UIDVALIDITY and since when a client knows it.
    pub(crate) validity: Option<(u32, usize)>,
}

impl Folder {
    pub(crate) fn name(&self) -> &str {
        &self.names[self.names.len() - 1].1
    }
}

/// A message in a mailbox.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) message: u64,
    pub(crate) folder: FolderId,
    pub(crate) made: OperationId,
    pub(crate) gone: Option<OperationId>,
    /// UID and since when a client knows it.
    pub(crate) uid: Option<(u32, usize)>,
    pub(crate) flags: Vec<(OperationId, Flags)>,
}

/// Everything that was said.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) operations: Vec<Operation>,
    pub(crate) folders: Vec<Folder>,
    pub(crate) instances: Vec<Instance>,
    messages: u64,
}

impl Ledger {
    pub(crate) fn begin(&mut self, now: usize, what: String, whole: bool) -> OperationId {
        self.operations.push(Operation { begin: now, sure: None, whole, what });
        OperationId(self.operations.len() - 1)
    }

    pub(crate) fn sure(&mut self, operation: OperationId, now: usize) {
        self.operations[operation.0].sure = Some(now);
    }

    pub(crate) fn operation(&self, id: OperationId) -> &Operation {
        &self.operations[id.0]
    }

    pub(crate) fn certainty(&self, id: OperationId, cut: usize) -> Certainty {
        self.operations[id.0].at(cut)
    }

    pub(crate) fn operation_ids(&self) -> impl Iterator<Item = OperationId> + use<> {
        (0..self.operations.len()).map(OperationId)
    }

    pub(crate) fn folder(&mut self, user: usize, name: String, made: OperationId) -> FolderId {
        self.folders.push(Folder {
            user,
            names: vec![(made, name)],
            deleted: None,
            validity: None,
        });
        FolderId(self.folders.len() - 1)
    }

    pub(crate) fn message(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    pub(crate) fn instance(
        &mut self,
        message: u64,
        folder: FolderId,
        made: OperationId,
        flags: Flags,
    ) -> InstanceId {
        self.instances.push(Instance {
            message,
            folder,
            made,
            gone: None,
            uid: None,
            flags: vec![(made, flags)],
        });
        InstanceId(self.instances.len() - 1)
    }

    /// Flags that an instance may have behind `cut`: those of the last sure change, and of every
    /// change that was begun after it.
    pub(crate) fn flags_possible(&self, instance: InstanceId, cut: usize) -> Vec<Flags> {
        let mut possible = Vec::new();
        for (operation, flags) in &self.instances[instance.0].flags {
            match self.certainty(*operation, cut) {
                Certainty::Sure => possible = vec![*flags],
                Certainty::Unsure => possible.push(*flags),
                Certainty::Never => {}
            }
        }
        possible
    }

    /// The names that a folder may have behind `cut`, likewise.
    pub(crate) fn names_possible(&self, folder: FolderId, cut: usize) -> Vec<&str> {
        let mut possible = Vec::new();
        for (operation, name) in &self.folders[folder.0].names {
            match self.certainty(*operation, cut) {
                Certainty::Sure => possible = vec![name.as_str()],
                Certainty::Unsure => possible.push(name.as_str()),
                Certainty::Never => {}
            }
        }
        possible
    }
}

/// A set of the flags that the storm uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

const FLAG_NAMES: [&str; 7] =
    ["\\Seen", "\\Answered", "\\Flagged", "\\Draft", "\\Deleted", "$Forwarded", "storm"];
/// Bits that a STORE or APPEND may choose; `\Deleted` is for messages that are expunged next.
const FLAG_BITS_FREE: u8 = 0b110_1111;

impl Flags {
    pub(crate) const DELETED: Flags = Flags(0b001_0000);

    pub(crate) fn any(random: &mut Random) -> Self {
        Self(random.bits() as u8 & FLAG_BITS_FREE)
    }

    pub(crate) fn with(self, other: Flags) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Flags) -> Self {
        Self(self.0 & !other.0)
    }

    /// Of the words of a FLAGS list; `\Recent` and words that the storm doesn't use are passed over.
    pub(crate) fn parse(words: &[&str]) -> Self {
        Self(FLAG_NAMES.iter().enumerate().fold(0, |bits, (bit, name)| {
            if words.iter().any(|word| word.eq_ignore_ascii_case(name)) {
                bits | 1 << bit
            } else {
                bits
            }
        }))
    }
}

impl std::fmt::Display for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = FLAG_NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| *name)
            .collect();
        write!(f, "({})", names.join(" "))
    }
}

/// Header line that names a message.
pub(crate) const ID_HEADER: &str = "X-Powercut-Id: ";

/// The text of message `id`: always the same for a seed.
pub(crate) fn message_text(seed: u64, id: u64) -> Vec<u8> {
    let mut random = Random::new(seed).fork(id);
    let lines = match random.below(40) {
        0 => 6000,
        1..5 => 600,
        5..20 => 60,
        _ => 5,
    };
    let mut text = String::new();
    let _ = write!(
        text,
        "From: Storm <storm@example.org>\r\nTo: <u@example.org>\r\nSubject: number {id}\r\n\
         Message-ID: <{id}.{seed}@example.org>\r\nDate: Tue, 24 Nov 2026 03:00:00 +0000\r\n\
         {ID_HEADER}{id}\r\n\r\n"
    );
    for line in 0..lines {
        if line % 17 == 3 {
            text.push('.');
        }
        let _ =
            write!(text, "line {line} of {id}: {:016x} {:016x}\r\n", random.bits(), random.bits());
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_unsure_between_its_first_byte_and_its_answer() {
        let mut ledger = Ledger::default();
        let one = ledger.begin(5, "one".into(), true);
        ledger.sure(one, 9);
        let at = |cut| ledger.certainty(one, cut);
        assert_eq!(
            [5, 6, 8, 9].map(at),
            [Certainty::Never, Certainty::Unsure, Certainty::Unsure, Certainty::Sure]
        );
    }

    #[test]
    fn flags_under_way_may_be_old_or_new() {
        let mut ledger = Ledger::default();
        let made = ledger.begin(0, "made".into(), true);
        ledger.sure(made, 1);
        let folder = ledger.folder(0, "INBOX".into(), made);
        let one = ledger.instance(1, folder, made, Flags(1));
        let store = ledger.begin(4, "store".into(), false);
        ledger.instances[one.0].flags.push((store, Flags(3)));
        assert_eq!(ledger.flags_possible(one, 4), [Flags(1)]);
        assert_eq!(ledger.flags_possible(one, 5), [Flags(1), Flags(3)]);
        ledger.sure(store, 6);
        assert_eq!(ledger.flags_possible(one, 6), [Flags(3)]);
    }

    #[test]
    fn flags_are_read_as_written() {
        let flags = Flags::parse(&["\\recent", "\\seen", "storm"]);
        assert_eq!(flags.to_string(), "(\\Seen storm)");
        assert_eq!(flags.with(Flags::DELETED).without(flags), Flags::DELETED);
    }
}
