//! Cutting folded text into the terms of the index, and a search string into what must be among
//! them.
//!
//! Text is cut into runs of characters of one class. A run of *word* characters is one term. Where
//! it is long, its terms are windows that overlap, so that any string of up to [`STRING_BYTES_MAX`]
//! bytes within the run is within one of them. *Dense* characters belong to scripts that put no
//! blanks between words: each pair of neighbours is a term, and a character alone. Everything else
//! separates.
//!
//! Invariants, on which every answer rests: a term is a piece of the text as it stands; text cut
//! anywhere between its pieces gives the same terms; a search string is cut by the same classes.

/// Longest term, in bytes.
pub(super) const TERM_BYTES_MAX: usize = 64;
/// How far the windows of a long run are apart, in bytes.
const WINDOW_STEP: usize = 32;
/// Longest string that is within one term if it is within a run of word characters, in bytes.
const STRING_BYTES_MAX: usize = TERM_BYTES_MAX - WINDOW_STEP + 1;

/// Raised whenever the same text would give other terms; indexes with another number are dropped.
/// The tables behind case and classes belong to the Unicode version of the build.
pub(super) const RULES: u32 = {
    let (major, minor, patch) = char::UNICODE_VERSION;
    2 << 24 | (major as u32) << 16 | (minor as u32) << 8 | patch as u32
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Separator,
    Word,
    Dense,
}

fn class(c: char) -> Class {
    match c {
        '0'..='9' | 'a'..='z' | 'A'..='Z' => Class::Word,
        // Latin-1's signs, punctuation, space and the mark of undecodable bytes.
        '\0'..='\u{a9}' | '\u{ab}'..='\u{b4}' | '\u{b6}'..='\u{b9}' | '\u{bb}'..='\u{bf}' => {
            Class::Separator
        }
        '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}' => {
            Class::Separator
        }
        '\u{fffd}' => Class::Separator,
        // Thai and Lao, Myanmar, Khmer, kana, Han.
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' => Class::Dense,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' => Class::Dense,
        '\u{20000}'..='\u{3ffff}' => Class::Dense,
        _ => Class::Word,
    }
}

/// Takes text in pieces and gives its terms.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    word: Vec<u8>,
    /// Windows of the run were given already.
    is_cut: bool,
    dense: Option<char>,
    dense_count: u32,
}

impl Cutter {
    /// Takes a piece of folded text.
    pub(crate) fn feed(&mut self, text: &str, each: &mut dyn FnMut(&[u8])) {
        let mut rest = text;
        loop {
            // Runs of ASCII words are most of most mail.
            let ascii = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            if ascii > 0 {
                self.end_dense(each);
                let mut bytes = &rest.as_bytes()[..ascii];
                while !bytes.is_empty() {
                    let room = (TERM_BYTES_MAX - self.word.len()).min(bytes.len());
                    self.word.extend_from_slice(&bytes[..room]);
                    bytes = &bytes[room..];
                    self.give_window(each);
                }
                rest = &rest[ascii..];
            }
            let mut chars = rest.chars();
            let Some(c) = chars.next() else { return };
            rest = chars.as_str();
            match class(c) {
                Class::Separator => self.end(each),
                Class::Word => {
                    self.end_dense(each);
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        self.word.push(byte);
                        self.give_window(each);
                    }
                }
                Class::Dense => {
                    self.end_word(each);
                    if let Some(before) = self.dense {
                        each(pair(before, c).as_bytes());
                    }
                    self.dense = Some(c);
                    self.dense_count = self.dense_count.saturating_add(1);
                }
            }
        }
    }

    /// Ends the text: what follows is not joined to it.
    pub(crate) fn end(&mut self, each: &mut dyn FnMut(&[u8])) {
        self.end_word(each);
        self.end_dense(each);
    }

    fn give_window(&mut self, each: &mut dyn FnMut(&[u8])) {
        if self.word.len() == TERM_BYTES_MAX {
            each(&self.word);
            self.word.drain(..WINDOW_STEP);
            self.is_cut = true;
        }
    }

    fn end_word(&mut self, each: &mut dyn FnMut(&[u8])) {
        let given = if self.is_cut { TERM_BYTES_MAX - WINDOW_STEP } else { 0 };
        if self.word.len() > given {
            each(&self.word);
        }
        self.word.clear();
        self.is_cut = false;
    }

    fn end_dense(&mut self, each: &mut dyn FnMut(&[u8])) {
        if let Some(c) = self.dense.take().filter(|_| self.dense_count == 1) {
            each(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.dense_count = 0;
    }
}

fn pair(a: char, b: char) -> String {
    [a, b].iter().collect()
}

/// What a term must look like; written as the bytes to look for in a list of terms in which a
/// [`BORDER`] stands before and behind each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(pub(super) Vec<u8>);

/// Stands between terms; never in one.
pub(super) const BORDER: u8 = b'\n';

/// What messages that contain a string have among their terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clues {
    /// At least one term for each; never empty.
    pub(super) patterns: Vec<Pattern>,
    /// Whether, the other way round, messages with such terms contain the string.
    pub(super) suffice: bool,
}

impl Clues {
    /// The clues of a folded string; `None` when it has no word in it, so that the index can't
    /// tell.
    pub(crate) fn of(string: &str) -> Option<Clues> {
        let runs = runs(string);
        let mut patterns = Vec::new();
        let mut suffice = runs.len() == 1;
        for run in &runs {
            let text = &string.as_bytes()[run.at.clone()];
            // Behind the string's own ends the run may go on.
            let (open, close) = (run.at.start > 0, run.at.end < string.len());
            suffice &= !open && !close;
            let chars: Vec<char> = string[run.at.clone()].chars().collect();
            match run.class {
                Class::Word if text.len() > STRING_BYTES_MAX => {
                    suffice = false;
                    patterns.push(Pattern(text[..STRING_BYTES_MAX].to_vec()));
                    patterns.push(Pattern(text[text.len() - STRING_BYTES_MAX..].to_vec()));
                }
                Class::Dense if chars.len() > 1 => {
                    suffice &= chars.len() == 2;
                    patterns.extend(
                        chars.windows(2).map(|w| bordered(true, pair(w[0], w[1]).as_bytes(), true)),
                    );
                }
                _ => patterns.push(bordered(open, text, close)),
            }
        }
        (!patterns.is_empty()).then_some(Clues { patterns, suffice })
    }
}

fn bordered(open: bool, text: &[u8], close: bool) -> Pattern {
    let border = |there: bool| if there { &[BORDER][..] } else { &[] };
    Pattern([border(open), text, border(close)].concat())
}

struct Run {
    at: std::ops::Range<usize>,
    class: Class,
}

fn runs(string: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut last = Class::Separator;
    for (at, c) in string.char_indices() {
        let class = class(c);
        let end = at + c.len_utf8();
        match runs.last_mut() {
            Some(run) if class == last && class != Class::Separator => run.at.end = end,
            _ if class != Class::Separator => runs.push(Run { at: at..end, class }),
            _ => {}
        }
        last = class;
    }
    runs
}

/// The words of a folded string, for searches that need not be exact: runs of word characters;
/// of dense ones, the pairs.
pub(crate) fn words(string: &str) -> Vec<String> {
    let mut out = Vec::new();
    for run in runs(string) {
        let text = &string[run.at];
        let chars: Vec<char> = text.chars().collect();
        if run.class == Class::Dense && chars.len() > 1 {
            out.extend(chars.windows(2).map(|w| pair(w[0], w[1])));
        } else {
            out.push(text.to_owned());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms(text: &str, cut: usize) -> Vec<Vec<u8>> {
        let cut = (0..=cut.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap();
        let mut out = Vec::new();
        let mut cutter = Cutter::default();
        let mut each = |term: &[u8]| out.push(term.to_vec());
        cutter.feed(&text[..cut], &mut each);
        cutter.feed(&text[cut..], &mut each);
        cutter.end(&mut each);
        out
    }

    fn listed(text: &str) -> Vec<u8> {
        let mut list = vec![BORDER];
        for term in terms(text, 0) {
            list.extend_from_slice(&term);
            list.push(BORDER);
        }
        list
    }

    #[test]
    fn words_pairs_and_lone_characters_are_terms() {
        let of = |text: &str| -> Vec<String> {
            terms(text, 0).into_iter().map(|t| String::from_utf8(t).unwrap()).collect()
        };
        assert_eq!(of("one, two-3 na\u{ef}ve"), ["one", "two", "3", "na\u{ef}ve"]);
        assert_eq!(
            of("a\u{65e5}b \u{65e5}\u{672c}\u{8a9e}"),
            ["a", "\u{65e5}", "b", "\u{65e5}\u{672c}", "\u{672c}\u{8a9e}"]
        );
        assert_eq!(of(&"x".repeat(64)), ["x".repeat(64)]);
        assert_eq!(of(&"x".repeat(65)), ["x".repeat(64), "x".repeat(33)]);
    }

    #[test]
    fn a_string_of_one_word_needs_no_second_look() {
        assert!(Clues::of("invoice").unwrap().suffice);
        assert!(Clues::of("\u{65e5}\u{672c}").unwrap().suffice);
        assert!(!Clues::of("an invoice").unwrap().suffice);
        assert!(!Clues::of("invoice.").unwrap().suffice);
        assert!(!Clues::of(&"x".repeat(34)).unwrap().suffice);
        assert_eq!(Clues::of(" ..- "), None);
    }

    proptest! {
        /// No false negatives, and no false positives where the clues say so.
        #[test]
        fn clues_agree_with_a_plain_search(
            text in "[ab .\u{e9}\u{65e5}\u{672c}]{0,120}|[ab]{60,140}",
            at in 0usize..100, len in 1usize..45, other in "[ab .\u{e9}\u{65e5}]{1,5}",
            cut in 0usize..120,
        ) {
            prop_assert_eq!(terms(&text, cut), terms(&text, 0));
            let piece: String = text.chars().skip(at % 60).take(len).collect();
            let list = listed(&text);
            for string in [piece, other] {
                let Some(clues) = Clues::of(&string) else { continue };
                let has = |p: &Pattern| memchr::memmem::find(&list, &p.0).is_some();
                let all = clues.patterns.iter().all(has);
                if text.contains(&string) {
                    prop_assert!(all, "{:?} in {:?}: {:?}", string, text, clues);
                } else if clues.suffice {
                    prop_assert!(!all, "{:?} not in {:?}: {:?}", string, text, clues);
                }
            }
        }
    }
}
