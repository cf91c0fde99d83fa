//! How many messages one command works on: MESSAGELIMIT and SAVELIMIT of RFC 9738.
//!
//! Of a set of more messages the newest are taken, and the answer says which was the lowest UID, so
//! that the client can go on below it. COPY and APPEND, which save all or nothing, fail.

use protocol::imap::SearchKey;
use protocol::imap::command::SetArgument;
use protocol::imap::encode::{Code, Status};
use protocol::types::{PartialRange, SeqNum, SequenceSet, Uid};

use super::reply::Reply;
use super::selected::{Selected, SeqRanges};
use super::session::Session;

impl Session {
    /// Most messages of one command.
    pub(super) fn message_limit(&self) -> Option<u32> {
        Some(self.services.config().imap.message_limit).filter(|limit| *limit > 0)
    }

    /// Most messages that one command saves.
    pub(super) fn save_limit(&self) -> Option<u32> {
        let save_limit = self.services.config().imap.save_limit;
        self.message_limit().or(Some(save_limit)).filter(|limit| *limit > 0)
    }

    /// What of a set one command works on, and what it has to say if that is not all.
    pub(super) fn cut(&self, ranges: SeqRanges) -> (SeqRanges, Option<Code>) {
        let (Some(limit), Some(selected)) = (self.message_limit(), self.selected.as_ref()) else {
            return (ranges, None);
        };
        if count(&ranges) <= limit as usize {
            return (ranges, None);
        }
        let ranges = within(ranges, PartialRange { from_end: true, first: 1, last: limit });
        let lowest = ranges.first().and_then(|(first, _)| selected.view.uid(*first));
        (ranges, Some(Code::MessageLimit(limit, lowest)))
    }

    /// As [`Session::cut`], for SEARCH: the messages that it looks at are those of the sets that
    /// every match has to be in.
    pub(super) fn cut_search(&self, key: SearchKey) -> (SearchKey, Option<Code>) {
        let (Some(_), Some(selected)) = (self.message_limit(), self.selected.as_ref()) else {
            return (key, None);
        };
        match self.cut(looked_at(&key, selected)) {
            (_, None) => (key, None),
            (ranges, code) => {
                let uid = |seq| selected.view.uid(seq).map_or(0, |uid: Uid| uid.0);
                let uids: Vec<_> = ranges.iter().map(|&(a, b)| (uid(a), uid(b))).collect();
                let newest = SearchKey::UidSet(super::cmd::search::set_of(&uids));
                (SearchKey::And(vec![newest, key]), code)
            }
        }
    }

    /// As [`Session::cut`], of ascending UIDs, for what saves a message elsewhere.
    pub(super) fn cut_uids(&self, uids: &mut Vec<Uid>, limit: Option<u32>) -> Option<Code> {
        let limit = limit?;
        let over = uids.len().checked_sub(limit as usize).filter(|over| *over > 0)?;
        uids.drain(..over);
        Some(Code::MessageLimit(limit, uids.first().copied()))
    }

    /// Says in a command's answer that it has left messages out, or before it where the answer says
    /// something already.
    pub(super) fn limited(&mut self, reply: Reply, cut: Option<Code>) -> Reply {
        match cut {
            Some(code) if reply.status == Status::Ok && reply.code.is_none() => reply.code(code),
            Some(code) if reply.status == Status::Ok => {
                self.untagged(Status::No, Some(&code), "Only the newest messages");
                reply
            }
            _ => reply,
        }
    }
}

/// The answer to a command that may not be cut.
pub(super) fn refusal(limit: u32) -> Reply {
    Reply::no("Too many messages at once").code(Code::MessageLimit(limit, None))
}

/// How many messages a set has.
pub(super) fn count(ranges: &SeqRanges) -> usize {
    ranges.iter().map(length).sum()
}

fn length((first, last): &(SeqNum, SeqNum)) -> usize {
    (last.0 - first.0) as usize + 1
}

/// What of a set's messages is in a window on them (RFC 9394 section 3.3).
pub(super) fn within(ranges: SeqRanges, window: PartialRange) -> SeqRanges {
    let window = window.of(count(&ranges));
    let mut before = 0;
    let mut cut = SeqRanges::new();
    for range in ranges {
        let (start, end) = (before, before + length(&range));
        let (from, to) = (window.start.max(start), window.end.min(end));
        if from < to {
            let first = range.0.0 + (from - start) as u32;
            cut.push((SeqNum(first), SeqNum(first + (to - from) as u32 - 1)));
        }
        before = end;
    }
    cut
}

fn looked_at(key: &SearchKey, selected: &Selected) -> SeqRanges {
    let all = || match selected.view.exists() {
        0 => vec![],
        exists => vec![(SeqNum(1), SeqNum(exists))],
    };
    let of_set = |set: &SequenceSet, uid| {
        selected.resolve(&SetArgument::Set(set.clone()), uid).unwrap_or_else(|_| all())
    };
    match key {
        SearchKey::UidSet(set) => of_set(set, true),
        SearchKey::SeqSet(set) => of_set(set, false),
        SearchKey::And(keys) => {
            let sets = keys.iter().map(|key| looked_at(key, selected));
            sets.min_by_key(count).unwrap_or_else(all)
        }
        _ => all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cut_ranges() {
        let ranges = || [(1, 3), (7, 7), (10, 20)].map(|(a, b)| (SeqNum(a), SeqNum(b))).to_vec();
        let cut = |from_end, first, last| {
            let cut = within(ranges(), PartialRange { from_end, first, last });
            cut.into_iter().map(|(a, b)| (a.0, b.0)).collect::<Vec<_>>()
        };
        assert_eq!(count(&ranges()), 15);
        assert_eq!(cut(false, 1, 2), [(1, 2)]);
        assert_eq!(cut(false, 3, 5), [(3, 3), (7, 7), (10, 10)]);
        assert_eq!(cut(false, 15, 99), [(20, 20)]);
        assert_eq!(cut(true, 1, 3), [(18, 20)]);
        assert_eq!(cut(true, 11, 13), [(3, 3), (7, 7), (10, 10)]);
        assert_eq!(cut(false, 16, 20), []);
    }
}
