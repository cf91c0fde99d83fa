//! Looking for a string in bytes whatever the case of their ASCII letters, without copying them.
//!
//! The two rarest bytes of the string are looked for side by side, sixty-four places at a time, in
//! loops that the compiler turns into vector instructions; only where both stand at their distance
//! is the whole string compared. Bytes beyond ASCII compare as they are.

/// Places that are looked at in one go.
const BLOCK: usize = 64;

/// A string prepared for many searches.
#[derive(Debug)]
pub(super) struct Caseless {
    /// In lower case.
    needle: Box<[u8]>,
    rare: [Rare; 2],
}

/// One byte of the string that seldom occurs in text.
#[derive(Clone, Copy, Debug, Default)]
struct Rare {
    at: usize,
    byte: u8,
    /// What makes both cases of a letter equal when it is set; 0 for other bytes.
    case: u8,
}

/// How often a byte occurs in mail, in either case: the higher, the more.
const fn frequency(byte: u8) -> u8 {
    match byte {
        b'e' | b' ' => 20,
        b't' | b'a' | b'o' | b'i' | b'n' => 18,
        b's' | b'r' | b'h' => 16,
        b'l' | b'd' | b'c' | b'u' | b'm' => 13,
        b'p' | b'f' | b'g' | b'w' | b'y' | b'b' | b'.' => 10,
        b'\r' | b'\n' | b'<' | b'>' | b'=' | b'/' | b'-' | b'"' | b'0'..=b'9' => 9,
        b'v' | b'k' | b',' | b':' | b';' => 7,
        b'x' | b'j' | b'q' | b'z' => 2,
        // Text in another script is full of its lead bytes; what follows them differs.
        0xc0..=0xff => 19,
        0x80..=0xbf => 12,
        _ => 4,
    }
}

impl Caseless {
    /// Of a string in lower case.
    pub(super) fn new(needle: &[u8]) -> Caseless {
        let rare = |besides: Option<usize>| {
            let others = needle.iter().enumerate().filter(|(at, _)| Some(*at) != besides);
            let rarest = others.min_by_key(|(_, byte)| frequency(**byte));
            rarest.map(|(at, &byte)| {
                let case = if byte.is_ascii_lowercase() { 0x20 } else { 0 };
                Rare { at, byte, case }
            })
        };
        let first = rare(None).unwrap_or_default();
        let second = rare(Some(first.at)).unwrap_or(first);
        Caseless { needle: needle.into(), rare: [first, second] }
    }

    /// Whether `hay` contains the string.
    pub(super) fn is_in(&self, hay: &[u8]) -> bool {
        let Some(places) = (hay.len() + 1).checked_sub(self.needle.len()) else { return false };
        if self.needle.is_empty() {
            return true;
        }
        let [first, second] = self.rare;
        let (ones, others) = (&hay[first.at..][..places], &hay[second.at..][..places]);
        let mut blocks = ones.chunks_exact(BLOCK).zip(others.chunks_exact(BLOCK));
        let mut at = 0;
        for (one, other) in &mut blocks {
            let mut both = 0u8;
            for (a, b) in one.iter().zip(other) {
                both |= u8::from(a | first.case == first.byte)
                    & u8::from(b | second.case == second.byte);
            }
            if both != 0 && self.begins_within(hay, at..at + BLOCK) {
                return true;
            }
            at += BLOCK;
        }
        self.begins_within(hay, at..places)
    }

    fn begins_within(&self, hay: &[u8], mut places: std::ops::Range<usize>) -> bool {
        let [first, second] = self.rare;
        places.any(|at| {
            hay[at + first.at] | first.case == first.byte
                && hay[at + second.at] | second.case == second.byte
                && hay[at..at + self.needle.len()].eq_ignore_ascii_case(&self.needle)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_place_is_looked_at() {
        for needle in ["x", "xy", "Zanzibar", "a b", "[", "@home"] {
            let found = Caseless::new(needle.to_lowercase().as_bytes());
            for before in 0..200 {
                let hay = format!("{}{}{}", "-".repeat(before), needle, "-".repeat(before % 70));
                assert!(found.is_in(hay.as_bytes()), "{needle} behind {before}");
                assert!(found.is_in(hay.to_uppercase().as_bytes()), "{needle} behind {before}");
                assert!(!found.is_in(&hay.as_bytes()[..before + needle.len() - 1]));
            }
        }
        assert!(Caseless::new(b"").is_in(b""));
        // `[` and `{` differ by the bit that tells the cases of letters apart.
        assert!(!Caseless::new(b"[").is_in(b"{{{{"));
        assert!(!Caseless::new(b"{").is_in(b"[[[["));
    }

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(
            hay in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'B'), Just(b'[')], 0..300),
            needle in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'{')], 1..6),
        ) {
            let lower = hay.to_ascii_lowercase();
            let plain = memchr::memmem::find(&lower, &needle).is_some();
            prop_assert_eq!(Caseless::new(&needle).is_in(&hay), plain);
        }
    }
}
