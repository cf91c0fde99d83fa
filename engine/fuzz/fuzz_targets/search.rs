//! Searching: the answer does not depend on whether extras are cached or how the file is read.
//! The first byte chooses the key and the length of the string, which follows; then the message.
#![no_main]

use std::convert::Infallible;

use engine::message::{Ingest, LineEnds};
use engine::search::{Context, Program, Record, Scratch, SearchKey, Source};
use libfuzzer_sys::fuzz_target;
use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

struct Message<'a> {
    stored: &'a [u8],
    extras: Option<&'a [u8]>,
    read_max: usize,
}

impl Source for Message<'_> {
    type Error = Infallible;

    fn record(&self) -> Record {
        Record {
            uid: Uid(1),
            seq: SeqNum(1),
            flags: SystemFlags::empty(),
            keywords: 0,
            recent: false,
            modseq: ModSeq(1),
            internal_date: 0,
            sent_date: 0,
            size: self.stored.len() as u32,
        }
    }

    fn extras(&mut self) -> Result<Option<&[u8]>, Infallible> {
        Ok(self.extras)
    }

    fn save_date(&mut self) -> Result<Option<i64>, Infallible> {
        Ok(None)
    }

    fn line_ends(&self) -> LineEnds {
        LineEnds::Lf
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let rest = self.stored.get(at as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len()).min(self.read_max);
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let length = usize::from(choice >> 3).min(rest.len());
    let (text, wire) = rest.split_at(length);
    let text = String::from_utf8_lossy(text).into_owned();
    let key = match choice & 7 {
        0 => SearchKey::Body(text),
        1 => SearchKey::Text(text),
        2 => SearchKey::Subject(text),
        3 => SearchKey::From(text),
        4 => SearchKey::Header("x".to_owned(), text),
        5 => SearchKey::Text(text).negated(),
        6 => SearchKey::And(vec![SearchKey::Body(text.clone()), SearchKey::Subject(text)]),
        _ => SearchKey::Or(Box::new(SearchKey::Body(text.clone())), Box::new(SearchKey::To(text))),
    };
    let context =
        Context {
            uid_largest: Uid(1),
            seq_largest: 1,
            saved: &[],
            collation: Default::default(),
            now: 0,
            keyword_bit: &|_| None,
        };
    let program = Program::new(&key, &context);
    let mut ingest = Ingest::new(LineEnds::Lf);
    let mut stored = Vec::new();
    ingest.feed(wire, &mut stored);
    let facts = ingest.finish(&mut stored);
    let mut scratch = Scratch::default();
    let mut ask = |extras, read_max| {
        let mut message = Message { stored: &stored, extras, read_max };
        program.matches(&mut message, &mut scratch).unwrap_or_else(|never| match never {})
    };
    let answer = ask(Some(&facts.extras), usize::MAX);
    assert_eq!(ask(None, usize::MAX), answer);
    assert_eq!(ask(Some(b"\x01damaged"), 7), answer);
});
