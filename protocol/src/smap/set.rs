//! Sets of message numbers: `1-10 20 30-40`, ascending.

/// Most ranges in one set: a line of [`super::LINE_BYTES_MAX`] holds fewer.
const RANGES_MAX: usize = 4096;

/// Ranges of numbers from 1, first and last, ascending and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageSet(pub Vec<(u32, u32)>);

impl MessageSet {
    /// Reads one word into the set. `None`: it begins with no digit, and belongs to what follows
    /// the set.
    ///
    /// # Errors
    /// It is no range, or is not above the ranges before.
    pub(super) fn push(&mut self, word: &str) -> Option<Result<(), ()>> {
        if !word.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            if digits { text.parse::<u32>().ok() } else { None }
        };
        let before = self.0.last().map_or(0, |&(_, last)| last);
        let range = number(first).zip(number(last));
        let range = range.filter(|&(first, last)| first > before && first <= last);
        match range.filter(|_| self.0.len() < RANGES_MAX) {
            Some(range) => {
                self.0.push(range);
                Some(Ok(()))
            }
            None => Some(Err(())),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As `1-3 7`; of ascending numbers.
    pub fn write(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        let text = |(first, last)| match first == last {
            true => format!("{first}"),
            false => format!("{first}-{last}"),
        };
        ranges.into_iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_ascend() {
        let mut set = MessageSet::default();
        assert_eq!(set.push("1-3"), Some(Ok(())));
        assert_eq!(set.push("7"), Some(Ok(())));
        assert_eq!(set.push("+FLAGS=SEEN"), None);
        for bad in ["7", "3-2", "9-", "9-x", "9x", "99999999999"] {
            assert_eq!(set.push(bad), Some(Err(())), "{bad}");
        }
        assert_eq!(set.0, [(1, 3), (7, 7)]);
        assert_eq!(MessageSet::default().push("0"), Some(Err(())));
        assert_eq!(MessageSet::write([1, 2, 3, 7, 9, 10]), ["1-3", "7", "9-10"]);
    }
}
