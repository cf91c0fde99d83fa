//! Asking segments which messages have the terms that a search wants.

use memchr::memmem::Finder;

use super::segment::{Postings, Segment, Terms};
use super::tokens::{BORDER, Pattern};
use crate::error::Result;
use crate::search::Word;

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// None, or all, of `count` numbers.
    pub(crate) fn new(count: usize, all: bool) -> Bits {
        Bits(vec![if all { u64::MAX } else { 0 }; count.div_ceil(64)])
    }

    /// Whether a number is in it.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Puts a number in, or takes it out; one beyond the count is passed over.
    pub(crate) fn set(&mut self, number: usize, there: bool) {
        if let Some(word) = self.0.get_mut(number / 64) {
            let bit = 1 << (number % 64);
            if there { *word |= bit } else { *word &= !bit }
        }
    }
}

/// The messages of a segment that have terms of some pattern.
pub(super) struct Hits {
    pub(super) headers: Bits,
    pub(super) bodies: Bits,
}

/// What terms are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Those with these bytes.
    Exactly(Pattern),
    /// Those near this word.
    Like(Word),
}

/// Which messages have terms of each kind.
pub(super) fn scan(segment: &Segment, wanted: &[Wanted]) -> Result<Vec<Hits>> {
    let count = segment.docs().len();
    let empty =
        |_: &Wanted| Hits { headers: Bits::new(count, false), bodies: Bits::new(count, false) };
    let mut hits: Vec<Hits> = wanted.iter().map(empty).collect();
    let finder = |wanted: &Wanted| match wanted {
        Wanted::Exactly(pattern) => Finder::new(&pattern.0).into_owned(),
        Wanted::Like(_) => Finder::new(b"").into_owned(),
    };
    let finders: Vec<Finder<'static>> = wanted.iter().map(finder).collect();
    let mut terms = Terms { list: Vec::new(), lengths: Vec::new() };
    let (mut postings, mut found) = (Vec::new(), Vec::new());
    for block in 0..segment.block_count() {
        segment.terms(block, &mut terms)?;
        found.clear();
        for (number, (wanted, finder)) in wanted.iter().zip(&finders).enumerate() {
            let each = &mut |term| found.push((term, number));
            match wanted {
                Wanted::Exactly(_) => find(&terms.list, finder, each),
                Wanted::Like(word) => find_like(&terms.list, word, each),
            }
        }
        if found.is_empty() {
            continue;
        }
        segment.postings(block, &mut postings)?;
        found.sort_unstable();
        let (mut term, mut at) = (0, 0);
        for &(number, kind) in &found {
            while term < number {
                at += terms.lengths.get(term).map_or(0, |length| *length as usize);
                term += 1;
            }
            let length = terms.lengths.get(number).map_or(0, |length| *length as usize);
            let hits = &mut hits[kind];
            for posting in Postings::new(postings.get(at..at + length).unwrap_or_default()) {
                if posting.in_header {
                    hits.headers.set(posting.doc as usize, true);
                }
                if posting.in_body > 0 {
                    hits.bodies.set(posting.doc as usize, true);
                }
            }
        }
    }
    Ok(hits)
}

/// Gives the numbers of the terms in which the finder finds something.
fn find(list: &[u8], finder: &Finder<'_>, each: &mut dyn FnMut(usize)) {
    let (mut from, mut counted, mut borders) = (0, 0, 0);
    while let Some(hit) = finder.find(&list[from..]) {
        let begins = from + hit + usize::from(finder.needle().first() == Some(&BORDER));
        borders += memchr::memchr_iter(BORDER, &list[counted..begins]).count();
        counted = begins;
        each(borders - 1);
        // The border behind the term may be the one before the next.
        let Some(end) = memchr::memchr(BORDER, &list[begins..]) else { return };
        from = begins + end;
    }
}

/// Gives the numbers of the terms that are near a word.
fn find_like(list: &[u8], word: &Word, each: &mut dyn FnMut(usize)) {
    let terms = list[1..].split(|b| *b == BORDER);
    for (number, term) in terms.enumerate() {
        if std::str::from_utf8(term).is_ok_and(|term| word.nearness(term) > 0) {
            each(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_told_once_a_term() {
        let of = |pattern: &str| {
            let mut found = Vec::new();
            find(b"\nab\nabab\nba\n", &Finder::new(pattern.as_bytes()), &mut |term| {
                found.push(term)
            });
            found
        };
        assert_eq!(of("ab"), [0, 1]);
        assert_eq!(of("a"), [0, 1, 2]);
        assert_eq!(of("\nab"), [0, 1]);
        assert_eq!(of("\nab\n"), [0]);
        assert_eq!(of("b\n"), [0, 1]);
        assert_eq!(of("a\n"), [2]);
        assert!(of("c").is_empty());
    }
}
