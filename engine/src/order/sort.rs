//! Many keys in order: each turn of a sort orders what it found, and the runs are merged.

use std::cmp::Ordering;

use protocol::types::{SeqNum, Uid};

/// One message with its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed {
    /// The key's first sixteen octets, zeros behind its end: most comparisons end here, and need no
    /// look at octets that are elsewhere in memory.
    head: [u64; 2],
    /// Where the key is in the batch's octets.
    at: usize,
    length: u32,
    /// Where in the key the relevancy stands.
    rating: u32,
    pub(crate) seq: SeqNum,
    pub(crate) uid: Uid,
}

const HEAD_BYTES: usize = 16;
const _: () = assert!(size_of::<Keyed>() == 40);

impl Keyed {
    /// Of a key that was written to `octets` from `at` on.
    pub(crate) fn new(
        seq: SeqNum,
        uid: Uid,
        octets: &[u8],
        at: usize,
        rating: Option<usize>,
    ) -> Keyed {
        let length = (octets.len() - at) as u32;
        let rating = rating.map_or(0, |rating| (rating - at) as u32);
        Keyed { head: head(&octets[at..]), at, length, rating, seq, uid }
    }

    fn compare(&self, other: &Keyed, octets: &[u8]) -> Ordering {
        let whole = |keyed: &Keyed| &octets[keyed.at..][..keyed.length as usize];
        let rest = |keyed| {
            let key: &[u8] = whole(keyed);
            key.get(HEAD_BYTES..).unwrap_or_default()
        };
        let by_rest = || match self.length.max(other.length) as usize <= HEAD_BYTES {
            true => Ordering::Equal,
            false => rest(self).cmp(rest(other)),
        };
        self.head.cmp(&other.head).then_with(by_rest).then(self.seq.cmp(&other.seq))
    }
}

fn head(key: &[u8]) -> [u64; 2] {
    let mut octets = [0; HEAD_BYTES];
    let length = key.len().min(HEAD_BYTES);
    octets[..length].copy_from_slice(&key[..length]);
    let whole = u128::from_be_bytes(octets);
    [(whole >> 64) as u64, whole as u64]
}

/// Messages and their keys.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Keyed>,
    pub(crate) octets: Vec<u8>,
}

impl Batch {
    /// Puts the messages in the order of their keys, those that are equal in mailbox order.
    pub(crate) fn sort(&mut self) {
        // Takes advantage of runs that are in order.
        self.messages.sort_by(|a, b| a.compare(b, &self.octets));
    }

    /// Puts the messages' relevancy into their keys: the better, the nearer to the front.
    pub(crate) fn rate(&mut self, scores: &[u8], reverse: bool) {
        for (keyed, &score) in self.messages.iter_mut().zip(scores) {
            let octet = if reverse { score } else { !score };
            self.octets[keyed.at + keyed.rating as usize] = octet;
            keyed.head = head(&self.octets[keyed.at..][..keyed.length as usize]);
        }
    }

    /// Makes room for all that will be put behind.
    pub(crate) fn reserve<'b>(&mut self, others: impl Iterator<Item = &'b Batch> + Clone) {
        self.messages.reserve(others.clone().map(|batch| batch.messages.len()).sum());
        self.octets.reserve(others.map(|batch| batch.octets.len()).sum());
    }

    /// Puts others behind.
    pub(crate) fn append(&mut self, other: Batch) {
        let from = self.octets.len();
        self.octets.extend_from_slice(&other.octets);
        let moved = |keyed: Keyed| Keyed { at: keyed.at + from, ..keyed };
        self.messages.extend(other.messages.into_iter().map(moved));
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;
    use protocol::imap::sort::{SortCriterion, SortKey};
    use protocol::mime::{date, header, subject};
    use protocol::types::{ModSeq, SystemFlags};

    use super::*;
    use crate::annotation::SortValues;
    use crate::collation::Collation;
    use crate::order::{KeyMaker, Room};
    use crate::search::{Fields, Record};

    /// A value as the naive sort compares it.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Value {
        Number(i128),
        Text(Vec<u8>),
    }

    fn value(key: SortKey, record: &Record, block: &[u8], score: u8) -> Value {
        let text = |text: &str| {
            let mut form = Vec::new();
            Collation::default().form(text, &mut form);
            Value::Text(form)
        };
        let field = |name: &str| header::find(block, name.as_bytes()).unwrap_or_default();
        // The generated addresses are `a@b` or `Name <a@b>`.
        let local = |name| {
            let value = String::from_utf8_lossy(field(name)).into_owned();
            let address = value.split_once('<').map_or(value.trim(), |(_, rest)| rest);
            text(address.split('@').next().unwrap())
        };
        let display = |name| {
            let value = String::from_utf8_lossy(field(name)).into_owned();
            text(value.split_once(" <").map_or(value.trim(), |(name, _)| name.trim()))
        };
        match key {
            SortKey::Annotation(_) => unreachable!("not generated"),
            SortKey::Arrival => Value::Number(record.internal_date.into()),
            SortKey::Date => {
                let told = date::parse(field("date")).map(|date| date.unix);
                Value::Number(told.unwrap_or(record.internal_date).into())
            }
            SortKey::ModSeq => Value::Number(record.modseq.0.into()),
            SortKey::Size => Value::Number(record.size.into()),
            SortKey::Uid => Value::Number(record.uid.0.into()),
            SortKey::Relevancy => Value::Number(100 - i128::from(score)),
            SortKey::Subject => text(&subject::base(field("subject")).text),
            SortKey::Cc => local("cc"),
            SortKey::From => local("from"),
            SortKey::To => local("to"),
            SortKey::DisplayFrom => display("from"),
            SortKey::DisplayTo => display("to"),
        }
    }

    fn message() -> impl Strategy<Value = (Record, Vec<u8>, u8)> {
        let address = "([ab]{1,2}|[AbÄé]{1,9} <[ab]{1,2})@[xy]";
        let dates = prop::sample::select(vec![
            "",
            "Date: 1 Jan 1900 00:00:00 +0000\r\n",
            "Date: 1 Feb 1960 00:00:00 +0000\r\n",
            "Date: 1 Jan 2000 00:00:00 +0000\r\n",
            "Date: 1 Jan 2000 01:00:00 +0100\r\n",
            "Date: 1 Jan 2200 00:00:00 +0000\r\n",
            "Date: nonsense\r\n",
        ]);
        let numbers = (-2i64..3, 0u32..3, 0u64..3, 1u8..=3);
        ("(Re: |\\[x\\] )?[aAbÄ ]{0,10}", address, address, dates, numbers).prop_map(
            |(subject, from, to, date, (internal_date, size, modseq, score))| {
                let end = |address: &str| if address.contains('<') { ">" } else { "" };
                let block = format!(
                    "{date}Subject: {subject}\r\nFrom: {from}{}\r\nTo: {to}{}\r\n",
                    end(&from),
                    end(&to)
                );
                let told = header::find(block.as_bytes(), b"date").and_then(date::parse);
                let sent = told.map_or(internal_date, |date| date.unix);
                let record = Record {
                    uid: Uid(0),
                    seq: SeqNum(0),
                    flags: SystemFlags::empty(),
                    keywords: 0,
                    recent: false,
                    modseq: ModSeq(modseq),
                    internal_date,
                    sent_date: sent.clamp(0, i64::from(u32::MAX)) as u32,
                    size,
                };
                (record, block.into_bytes(), score)
            },
        )
    }

    fn criteria() -> impl Strategy<Value = Vec<SortCriterion>> {
        let key = prop::sample::select(SortKey::ALL.map(|(_, key)| key).to_vec());
        let criterion = (key, any::<bool>());
        prop::collection::vec(
            criterion.prop_map(|(key, reverse)| SortCriterion { key, reverse }),
            1..4,
        )
    }

    proptest! {
        #[test]
        fn keys_sort_as_values_do(
            messages in prop::collection::vec(message(), 0..30),
            criteria in criteria(),
            turn in 1usize..8,
        ) {
            let maker = KeyMaker::new(&criteria, Collation::default(), SortValues::default());
            let mut room = Room::default();
            let mut all = Batch::default();
            let mut scores = Vec::new();
            let mut messages = messages;
            for (n, (record, ..)) in (1..).zip(&mut messages) {
                (record.uid, record.seq) = (Uid(n * 2), SeqNum(n));
            }
            for some in messages.chunks(turn) {
                let mut batch = Batch::default();
                for (record, block, score) in some {
                    let at = batch.octets.len();
                    let fields = match maker.wants_fields(record.sent_date) {
                        true => Fields::Block(block),
                        false => Fields::Unread,
                    };
                    let rating = maker.write(record, &fields, &mut room, &mut batch.octets);
                    let (seq, uid) = (record.seq, record.uid);
                    batch.messages.push(Keyed::new(seq, uid, &batch.octets, at, rating));
                    scores.push(*score);
                }
                if maker.by_relevancy().is_none() {
                    batch.sort();
                }
                all.append(batch);
            }
            if let Some(reverse) = maker.by_relevancy() {
                all.rate(&scores, reverse);
            }
            all.sort();
            let mut naive: Vec<usize> = (0..messages.len()).collect();
            naive.sort_by(|a, b| {
                let compare = |c: &SortCriterion| {
                    let of = |at: &usize| {
                        let (record, block, score) = &messages[*at];
                        value(c.key, record, block, *score)
                    };
                    let order = of(a).cmp(&of(b));
                    if c.reverse { order.reverse() } else { order }
                };
                criteria.iter().map(compare).fold(Ordering::Equal, Ordering::then)
            });
            let sorted: Vec<u32> = all.messages.iter().map(|keyed| keyed.seq.0).collect();
            let naive: Vec<u32> = naive.into_iter().map(|at| at as u32 + 1).collect();
            prop_assert_eq!(sorted, naive);
        }
    }
}
