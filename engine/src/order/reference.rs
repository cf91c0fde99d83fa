//! What THREAD has to know of a message: its id, the ids that it refers to, its base subject.
//!
//! Ids and subjects are kept as 64-bit hashes with a random key of the command, so that nobody can
//! choose two that collide; among a million of them the chance that any two do is below 10^-7.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use protocol::imap::sort::ThreadAlgorithm;
use protocol::mime::{Field, subject};

use super::Room;
use super::key::sent_date;
use crate::collation::Collation;
use crate::search::{Fields, Record};

/// References of one message that are followed: the last ones.
const REFERENCES_MAX: usize = 1000;

/// What threads are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clue {
    /// Sequence number.
    pub(crate) seq: u32,
    /// UID.
    pub(crate) uid: u32,
    /// Sent date, seconds since 1970.
    pub(crate) date: i64,
    /// Of the base subject; 0 for the empty one.
    pub(crate) subject: u64,
    /// The subject has a mark of a reply or of forwarding.
    pub(crate) is_reply: bool,
    /// Of the message id; 0 for none.
    pub(crate) id: u64,
    /// Where the ids that it refers to are, the oldest first.
    pub(crate) references: Range<usize>,
}

/// Reads clues.
pub(crate) struct ClueMaker {
    collation: Collation,
    subjects: bool,
    ids: bool,
    hasher: RandomState,
}

impl ClueMaker {
    pub(crate) fn new(algorithm: ThreadAlgorithm, collation: Collation) -> ClueMaker {
        let subjects = algorithm != ThreadAlgorithm::Refs;
        let ids = algorithm != ThreadAlgorithm::OrderedSubject;
        ClueMaker { collation, subjects, ids, hasher: RandomState::new() }
    }

    /// How its subjects compare.
    pub(crate) fn collation(&self) -> Collation {
        self.collation
    }

    /// The clue of a message; the ids that it refers to are appended to `references`.
    pub(crate) fn clue(
        &self,
        record: &Record,
        fields: &Fields<'_>,
        room: &mut Room,
        references: &mut Vec<u64>,
    ) -> Clue {
        let from = references.len();
        let (mut subject, mut is_reply, mut id) = (0, false, 0);
        if self.subjects {
            fields.first(Field::Subject, |value| {
                let (base, marked) = subject::base_in(value, &mut room.text);
                is_reply = marked;
                if !base.is_empty() {
                    room.form.clear();
                    self.collation.form(base, &mut room.form);
                    subject = self.hash(&room.form);
                }
                Some(())
            });
        }
        if self.ids {
            let form = &mut room.form;
            fields.first(Field::MessageId, |value| {
                message_ids(value, form, |found| {
                    id = self.hash(found);
                    false
                });
                Some(())
            });
            fields.first(Field::References, |value| {
                message_ids(value, form, |found| {
                    references.push(self.hash(found));
                    true
                });
                Some(())
            });
            if references.len() == from {
                fields.first(Field::InReplyTo, |value| {
                    message_ids(value, form, |found| {
                        references.push(self.hash(found));
                        false
                    });
                    Some(())
                });
            }
            let excess = (references.len() - from).saturating_sub(REFERENCES_MAX);
            references.drain(from..from + excess);
        }
        let date = sent_date(record, fields);
        let (seq, uid) = (record.seq.0, record.uid.0);
        Clue { seq, uid, date, subject, is_reply, id, references: from..references.len() }
    }

    /// Never 0.
    fn hash(&self, octets: &[u8]) -> u64 {
        self.hasher.hash_one(octets).max(1)
    }
}

/// What a message id without quotes, comments and blanks ends at.
const ENDS_PLAIN: [bool; 256] = {
    let (ends, mut table, mut at) = (b"<>\"\\() \t\r\n", [false; 256], 0);
    while at < ends.len() {
        table[ends[at] as usize] = true;
        at += 1;
    }
    table
};

/// Gives the message ids in a header value, in their order and without brackets, quotes and blanks,
/// until `each` returns false. What is no `<left@right>` is passed over.
fn message_ids(value: &[u8], room: &mut Vec<u8>, mut each: impl FnMut(&[u8]) -> bool) {
    let mut rest = value;
    while let Some(open) = memchr::memchr(b'<', rest) {
        rest = &rest[open + 1..];
        let plain = rest.iter().position(|b| ENDS_PLAIN[usize::from(*b)]);
        let (id, length) = match plain {
            Some(end) if rest[end] == b'>' => (&rest[..end], end + 1),
            Some(_) => match unquoted(rest, room) {
                Some(length) => (&room[..], length),
                None => continue,
            },
            None => return,
        };
        rest = &rest[length..];
        let at = memchr::memrchr(b'@', id);
        if at.is_some_and(|at| at > 0 && at + 1 < id.len()) && !each(id) {
            return;
        }
    }
}

/// Puts an id up to its bracket into `out`, as it is meant (RFC 5256: `"a"@b` is `a@b`); returns
/// the length of what was read. `None`: it has no end, or another id begins before it.
fn unquoted(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    out.clear();
    let (mut in_quotes, mut comments) = (false, 0u32);
    let mut at = 0;
    loop {
        let octet = *bytes.get(at)?;
        at += 1;
        match octet {
            b'\\' if in_quotes || comments > 0 => {
                let escaped = *bytes.get(at)?;
                at += 1;
                if comments == 0 {
                    out.push(escaped);
                }
            }
            b'(' if !in_quotes => comments += 1,
            b')' if !in_quotes && comments > 0 => comments -= 1,
            _ if comments > 0 => {}
            b'"' => in_quotes = !in_quotes,
            b'\r' | b'\n' => {}
            b' ' | b'\t' if !in_quotes => {}
            b'<' if !in_quotes => return None,
            b'>' if !in_quotes => return Some(at),
            _ => out.push(octet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(value: &str) -> Vec<String> {
        let mut found = Vec::new();
        message_ids(value.as_bytes(), &mut Vec::new(), |id| {
            found.push(String::from_utf8_lossy(id).into_owned());
            true
        });
        found
    }

    #[test]
    fn ids_are_found_among_other_text_and_unquoted() {
        assert_eq!(ids("<a@b> <c@d>\r\n\t<e@f>"), ["a@b", "c@d", "e@f"]);
        // RFC 5256: these two are the same.
        assert_eq!(
            ids("<\"01KF8JCEOCBS0045PS\"@xxx.yyy.com><01KF8JCEOCBS0045PS@xxx.yyy.com>"),
            ["01KF8JCEOCBS0045PS@xxx.yyy.com", "01KF8JCEOCBS0045PS@xxx.yyy.com"]
        );
        assert_eq!(ids("Your message of Monday <x@y> \"Jo\" <jo@z>"), ["x@y", "jo@z"]);
        assert_eq!(ids("<a\r\n b@c> <\"a \\\"b\"@c> <a(x)@c>"), ["ab@c", "a \"b@c", "a@c"]);
        assert_eq!(ids("<none> <@x> <x@> <<a@b> < <c@d> <open@x"), ["a@b", "c@d"]);
        assert_eq!(ids("<\"open@x> <a@b>"), ["a@b"]);
        assert_eq!(ids(""), [""; 0]);
    }
}
