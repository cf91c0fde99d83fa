//! Strings that need not be there exactly: RFC 6203.
//!
//! A string is cut into words, the text into the terms that the full-text index would have of it. A
//! word is met by a term that is the word, begins with it, contains it, or differs from it by a slip
//! or two: one in words of four characters or more, two in words of eight or more, where a slip is a
//! character too many, too few, another one, or two that changed places. A message meets the string
//! if it has a term for each word. How well it does, [`relevancy`] tells, by the usual BM25 measure.

use crate::fulltext::{Cutter, words};

/// Terms longer than this are compared with words exactly, in characters.
const COMPARED_CHARS_MAX: usize = 64;

/// A word of the search string, case taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    text: String,
    chars: Vec<char>,
    slips_max: usize,
}

/// How well a message meets one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WordHit {
    /// The number of the word among those of all strings of the search.
    pub(crate) word: usize,
    /// 4: the very word; 3: a beginning; 2: within another; 1: with slips.
    pub(crate) nearness: u8,
    /// How often.
    pub(crate) count: u32,
}

impl Word {
    /// The words of a folded string.
    pub(crate) fn all(string: &str) -> Vec<Word> {
        let mut out: Vec<Word> = Vec::new();
        for text in words(string) {
            let chars: Vec<char> = text.chars().collect();
            let slips_max = match chars.len() {
                _ if !text.is_ascii() && text.len() > 2 * chars.len() => 0,
                0..4 => 0,
                4..8 => 1,
                _ => 2,
            };
            let word = Word { text, chars, slips_max };
            if !out.contains(&word) {
                out.push(word);
            }
        }
        out
    }

    /// How near a term is to the word, as [`WordHit::nearness`]; 0: too far.
    pub(crate) fn nearness(&self, term: &str) -> u8 {
        if term == self.text {
            return 4;
        }
        if term.len() > self.text.len() && self.chars.len() > 1 {
            if term.starts_with(&self.text) {
                return 3;
            }
            if self.chars.len() > 2 && term.contains(&self.text) {
                return 2;
            }
        }
        u8::from(self.slips_max > 0 && self.differs_little(term))
    }

    /// Whether no more slips than allowed lead from one to the other.
    fn differs_little(&self, term: &str) -> bool {
        let most = self.slips_max;
        // A character has one to four bytes.
        if term.len() > 4 * (self.chars.len() + most) || 4 * term.len() + most < self.chars.len() {
            return false;
        }
        let mut there = ['\0'; COMPARED_CHARS_MAX];
        let mut length = 0;
        for c in term.chars() {
            let Some(place) = there.get_mut(length) else { return false };
            *place = c;
            length += 1;
        }
        let there = &there[..length];
        if self.chars.len().abs_diff(length) > most || length == 0 {
            return false;
        }
        // Rows of the table of distances: the one before the last, the last, the next.
        let mut before = [0u8; COMPARED_CHARS_MAX + 1];
        let mut last: [u8; COMPARED_CHARS_MAX + 1] = std::array::from_fn(|i| i as u8);
        for (i, &a) in self.chars.iter().enumerate().take(COMPARED_CHARS_MAX) {
            let mut next = [0u8; COMPARED_CHARS_MAX + 1];
            next[0] = i as u8 + 1;
            let mut least = next[0];
            for (j, &b) in there.iter().enumerate() {
                let mut slips = (last[j] + u8::from(a != b)).min(last[j + 1] + 1).min(next[j] + 1);
                if i > 0 && j > 0 && a == there[j - 1] && self.chars[i - 1] == b {
                    slips = slips.min(before[j - 1] + 1);
                }
                next[j + 1] = slips;
                least = least.min(slips);
            }
            if usize::from(least) > most {
                return false;
            }
            (before, last) = (last, next);
        }
        usize::from(last[length]) <= most && self.chars.len() <= COMPARED_CHARS_MAX
    }
}

/// Collects how well text meets words.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    words: &'a [Word],
    hits: Vec<WordHit>,
    cutter: Cutter,
}

impl<'a> Tally<'a> {
    /// For words whose first has the number `first`.
    pub(super) fn new(words: &'a [Word], first: usize) -> Tally<'a> {
        let hit = |word| WordHit { word, ..WordHit::default() };
        let hits = (first..first + words.len()).map(hit).collect();
        Tally { words, hits, cutter: Cutter::default() }
    }

    /// Takes a piece of text, case taken off.
    pub(super) fn feed(&mut self, text: &str) {
        let (words, hits) = (self.words, &mut self.hits);
        self.cutter.feed(text, &mut |term| count(words, hits, term));
    }

    /// Ends a field or body.
    pub(super) fn end(&mut self) {
        let (words, hits) = (self.words, &mut self.hits);
        self.cutter.end(&mut |term| count(words, hits, term));
    }

    /// What was found; `None` if some word was not.
    pub(super) fn hits(self) -> Option<Vec<WordHit>> {
        self.hits.iter().all(|hit| hit.nearness > 0).then_some(self.hits)
    }
}

fn count(words: &[Word], hits: &mut [WordHit], term: &[u8]) {
    // A window of a long run may be cut within a character; no word is like it.
    let Ok(term) = std::str::from_utf8(term) else { return };
    for (word, hit) in words.iter().zip(hits) {
        let nearness = word.nearness(term);
        if nearness > 0 {
            hit.nearness = hit.nearness.max(nearness);
            hit.count = hit.count.saturating_add(1);
        }
    }
}

/// How fast more of the same word counts for less.
const SATURATION: f64 = 1.2;
/// How much length counts against a message.
const LENGTH_SHARE: f64 = 0.75;

/// Scores of 1 to 100 for the messages found, from their hits and sizes; `exists`: messages that
/// were searched. Where no string was fuzzy, all have 100.
pub(crate) fn relevancy(found: &[(u32, &[WordHit])], exists: u32) -> Vec<u8> {
    let words = found.iter().flat_map(|(_, hits)| hits.iter()).map(|h| h.word + 1).max();
    let mut having = vec![0u32; words.unwrap_or(0)];
    for hit in found.iter().flat_map(|(_, hits)| hits.iter()) {
        having[hit.word] += 1;
    }
    let mean =
        found.iter().map(|(size, _)| f64::from(*size)).sum::<f64>() / found.len().max(1) as f64;
    let score = |&(size, hits): &(u32, &[WordHit])| -> f64 {
        let length = 1.0 - LENGTH_SHARE + LENGTH_SHARE * f64::from(size) / mean.max(1.0);
        hits.iter()
            .map(|hit| {
                let (with, all) = (f64::from(having[hit.word]), f64::from(exists));
                let rarity = (1.0 + (all - with + 0.5).max(0.0) / (with + 0.5)).ln();
                let count = f64::from(hit.count);
                let often = count * (SATURATION + 1.0) / (count + SATURATION * length);
                rarity * often * f64::from(hit.nearness) / 4.0
            })
            .sum()
    };
    let scores: Vec<f64> = found.iter().map(score).collect();
    let most = scores.iter().copied().fold(0.0, f64::max);
    let scaled =
        |score: f64| if most > 0.0 { 1 + (99.0 * score / most).round() as u8 } else { 100 };
    scores.into_iter().map(scaled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearness(word: &str, term: &str) -> u8 {
        Word::all(word)[0].nearness(term)
    }

    #[test]
    fn slips_are_forgiven_by_length() {
        assert_eq!(nearness("hello", "hello"), 4);
        assert_eq!(nearness("hell", "hello"), 3);
        assert_eq!(nearness("ell", "hello"), 2);
        assert_eq!(nearness("helo", "hello"), 1);
        assert_eq!(nearness("hlelo", "hello"), 1);
        assert_eq!(nearness("hxlxo", "hello"), 0);
        assert_eq!(nearness("invocie", "invoice"), 1);
        assert_eq!(nearness("quartrelie", "quarterlies"), 1);
        assert_eq!(nearness("cat", "bat"), 0);
        assert_eq!(nearness("caf\u{e9}", "cafe"), 1);
        assert_eq!(
            nearness(
                "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}",
                "\u{43f}\u{440}\u{435}\u{432}\u{435}\u{442}"
            ),
            1
        );
        assert_eq!(nearness("hello", &"x".repeat(200)), 0);
    }

    #[test]
    fn all_words_have_to_be_met() {
        let words = Word::all("meeting monday");
        let tally = |text: &str| {
            let mut tally = Tally::new(&words, 3);
            tally.feed(text);
            tally.end();
            tally.hits()
        };
        let hits = tally("a meetin on monday, mondays").unwrap();
        assert_eq!(hits[0], WordHit { word: 3, nearness: 1, count: 1 });
        assert_eq!(hits[1], WordHit { word: 4, nearness: 4, count: 2 });
        assert!(tally("a meeting").is_none());
    }

    #[test]
    fn rare_near_and_frequent_words_in_short_messages_score_higher() {
        let hit = |word, nearness, count| WordHit { word, nearness, count };
        let one = [hit(0, 4, 3), hit(1, 4, 1)];
        let two = [hit(0, 4, 1)];
        let three = [hit(0, 1, 1)];
        let scores = relevancy(&[(1000, &one), (1000, &two), (9000, &two), (1000, &three)], 50);
        assert_eq!(scores[0], 100);
        assert!(scores.is_sorted_by(|a, b| a > b), "{scores:?}");
        assert_eq!(relevancy(&[(10, &[]), (20, &[])], 5), [100, 100]);
        assert!(relevancy(&[], 0).is_empty());
    }
}
