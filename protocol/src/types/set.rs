//! Sequence sets: `sequence-set` of RFC 3501 section 9, over UIDs or sequence numbers.

use std::fmt;

/// One end of a range: a number, or `*`, the largest in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// A nonzero number.
    Number(u32),
    /// `*`
    Star,
}

/// `a` or `a:b`; the ends may come in either order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetRange {
    /// The end written first.
    pub first: SetValue,
    /// The end written second; equal to `first` for a single number.
    pub last: SetValue,
}

/// What a client wrote: one or more ranges, in its order, overlaps kept.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SequenceSet {
    /// Never empty when decoded.
    pub ranges: Vec<SetRange>,
}

impl SequenceSet {
    /// The set as ascending, non-overlapping, non-adjacent inclusive ranges, with `*` standing for
    /// `largest`. `*` in an empty mailbox (`largest` 0) selects nothing; `n:*` with `n` above
    /// `largest` selects `largest:n`, as RFC 3501 says.
    pub fn resolve(&self, largest: u32) -> Vec<(u32, u32)> {
        let number = |v: SetValue| match v {
            SetValue::Number(n) => n,
            SetValue::Star => largest,
        };
        let mut out: Vec<(u32, u32)> = self
            .ranges
            .iter()
            .map(|r| (number(r.first), number(r.last)))
            .map(|(a, b)| (a.min(b).max(1), a.max(b)))
            .filter(|(a, b)| a <= b)
            .collect();
        out.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(out.len());
        for (a, b) in out {
            match merged.last_mut() {
                Some(last) if a <= last.1.saturating_add(1) => last.1 = last.1.max(b),
                _ => merged.push((a, b)),
            }
        }
        merged
    }

    /// The shortest set that holds exactly the ascending `numbers`. Of numbers in another order, the
    /// set that tells them in theirs: only those become a range that rise by one.
    pub fn from_ascending(numbers: impl IntoIterator<Item = u32>) -> SequenceSet {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for n in numbers {
            match ranges.last_mut() {
                Some(last) if last.1.checked_add(1) == Some(n) => last.1 = n,
                _ => ranges.push((n, n)),
            }
        }
        let range = |(a, b)| SetRange { first: SetValue::Number(a), last: SetValue::Number(b) };
        SequenceSet { ranges: ranges.into_iter().map(range).collect() }
    }
}

/// A window on a list of results: `1:500` from its beginning, `-1:-500` from its end (RFC 9394).
/// The ends may come in either order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialRange {
    /// Counted from the last result.
    pub from_end: bool,
    /// The end written first, from 1.
    pub first: u32,
    /// The end written second, from 1.
    pub last: u32,
}

impl PartialRange {
    /// The window's places, from 0, in a list of so many results; empty where it is beyond them.
    pub fn of(self, count: usize) -> std::ops::Range<usize> {
        let (near, far) = (self.first.min(self.last), self.first.max(self.last));
        let near = (near as usize).saturating_sub(1).min(count);
        let far = (far as usize).min(count);
        if self.from_end { count - far..count - near } else { near..far }
    }
}

impl fmt::Display for PartialRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.from_end { "-" } else { "" };
        write!(f, "{sign}{}:{sign}{}", self.first, self.last)
    }
}

impl fmt::Display for SetValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetValue::Number(n) => n.fmt(f),
            SetValue::Star => f.write_str("*"),
        }
    }
}

impl fmt::Display for SequenceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.ranges.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            if r.first == r.last {
                write!(f, "{}", r.first)?;
            } else {
                write!(f, "{}:{}", r.first, r.last)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(SetValue, SetValue)]) -> SequenceSet {
        let range = |&(first, last)| SetRange { first, last };
        SequenceSet { ranges: ranges.iter().map(range).collect() }
    }

    #[test]
    fn resolve_sorts_merges_and_reads_star() {
        use SetValue::{Number, Star};
        let s = set(&[(Number(9), Number(7)), (Number(1), Number(1)), (Number(2), Number(3))]);
        assert_eq!(s.resolve(100), vec![(1, 3), (7, 9)]);
        assert_eq!(set(&[(Number(500), Star)]).resolve(100), vec![(100, 500)]);
        assert_eq!(set(&[(Star, Star)]).resolve(0), vec![]);
    }

    #[test]
    fn windows_are_cut_to_what_is_there() {
        let window = |from_end, first, last| PartialRange { from_end, first, last };
        assert_eq!(window(false, 1, 500).of(23764), 0..500);
        assert_eq!(window(false, 24000, 23500).of(23764), 23499..23764);
        assert!(window(false, 24000, 24500).of(23764).is_empty());
        assert_eq!(window(true, 1, 100).of(23764), 23664..23764);
        assert_eq!(window(true, 3, 2).of(4), 1..3);
        assert_eq!(window(true, 1, u32::MAX).of(4), 0..4);
        assert!(window(true, 5, 9).of(4).is_empty());
        assert!(window(false, 1, 1).of(0).is_empty());
        assert_eq!(window(true, 1, 100).to_string(), "-1:-100");
    }

    #[test]
    fn from_ascending_is_shortest() {
        assert_eq!(SequenceSet::from_ascending([1, 2, 3, 7, 9, 10]).to_string(), "1:3,7,9:10");
    }
}
