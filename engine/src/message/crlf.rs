//! Stored bytes to served bytes.

use std::ops::Range;

use memchr::memchr_iter;

use super::LineEnds;

/// Streaming converter from the stored to the served form of a message or of a section.
///
/// Feed it the stored bytes in pieces of any size, from the start of a line (or of a section).
#[derive(Clone, Debug)]
pub struct Crlf {
    line_ends: LineEnds,
    after_cr: bool,
    skip: u64,
    take: u64,
}

impl Crlf {
    /// A converter for files of that form.
    pub fn new(line_ends: LineEnds) -> Crlf {
        Crlf { line_ends, after_cr: false, skip: 0, take: u64::MAX }
    }

    /// Leaves out the first `octets` served octets.
    pub fn skip(mut self, octets: u64) -> Crlf {
        self.skip = octets;
        self
    }

    /// Ends after `octets` served octets (behind those skipped).
    pub fn take(mut self, octets: u64) -> Crlf {
        self.take = octets;
        self
    }

    /// Whether everything asked for is out, so that no more need be fed.
    pub fn is_done(&self) -> bool {
        self.take == 0
    }

    /// Appends the served form of `stored` to `out`.
    pub fn convert(&mut self, stored: &[u8], out: &mut Vec<u8>) {
        self.convert_lines(stored, memchr_iter(b'\n', stored), out);
    }

    /// The same of a piece that has LFs at `line_feeds`.
    pub(super) fn convert_lines(
        &mut self,
        stored: &[u8],
        line_feeds: impl Iterator<Item = usize>,
        out: &mut Vec<u8>,
    ) {
        if self.line_ends == LineEnds::Crlf {
            let asked = self.asked(stored.len());
            return out.extend_from_slice(&stored[asked]);
        }
        if self.is_done() {
            return;
        }
        let from = out.len();
        out.reserve(stored.len() + stored.len() / 32);
        let mut start = 0;
        for lf in line_feeds {
            let after_cr = if lf == 0 { self.after_cr } else { stored[lf - 1] == b'\r' };
            if !after_cr {
                out.extend_from_slice(&stored[start..lf]);
                out.push(b'\r');
                start = lf;
            }
        }
        out.extend_from_slice(&stored[start..]);
        if let Some(&last) = stored.last() {
            self.after_cr = last == b'\r';
        }
        // Served octets are counted once they are there, rather than line by line.
        let asked = self.asked(out.len() - from);
        out.truncate(from + asked.end);
        out.drain(from..from + asked.start);
    }

    /// The served form of `stored`; the very same bytes where nothing is to be changed or cut.
    pub fn converted(&mut self, stored: Vec<u8>) -> Vec<u8> {
        let len = stored.len() as u64;
        if self.line_ends == LineEnds::Crlf && self.skip == 0 && self.take >= len {
            self.take -= len;
            return stored;
        }
        let mut served = Vec::with_capacity(stored.len() + stored.len() / 32);
        self.convert(&stored, &mut served);
        served
    }

    /// What is asked for of the next `octets` served octets.
    fn asked(&mut self, octets: usize) -> Range<usize> {
        let skipped = self.skip.min(octets as u64);
        let taken = self.take.min(octets as u64 - skipped);
        self.skip -= skipped;
        self.take -= taken;
        skipped as usize..(skipped + taken) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(line_ends: LineEnds, pieces: &[&[u8]]) -> Vec<u8> {
        let mut crlf = Crlf::new(line_ends);
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| crlf.convert(piece, &mut out));
        out
    }

    #[test]
    fn bare_lf_becomes_crlf_wherever_the_pieces_are_cut() {
        let stored = b"\na\n\nb\r\nc\r\r\nd\re";
        let served = b"\r\na\r\n\r\nb\r\nc\r\r\nd\re";
        for at in 0..=stored.len() {
            let (a, b) = stored.split_at(at);
            assert_eq!(convert(LineEnds::Lf, &[a, b]), served, "cut at {at}");
            assert_eq!(convert(LineEnds::Crlf, &[a, b]), stored);
        }
    }

    #[test]
    fn every_partial_range_is_a_slice_of_the_whole() {
        let stored = b"one\n\ntwo\r\nthree\n";
        let whole = convert(LineEnds::Lf, &[stored]);
        for skip in 0..=whole.len() + 1 {
            for take in 0..=whole.len() + 1 {
                let mut crlf = Crlf::new(LineEnds::Lf).skip(skip as u64).take(take as u64);
                let mut out = Vec::new();
                stored.chunks(3).for_each(|piece| crlf.convert(piece, &mut out));
                let from = skip.min(whole.len());
                assert_eq!(out, &whole[from..(from + take).min(whole.len())]);
                assert_eq!(crlf.is_done(), take == 0 || skip + take <= whole.len());
                let mut crlf = Crlf::new(LineEnds::Crlf).skip(skip as u64).take(take as u64);
                let pieces = whole.chunks(3).map(|piece| crlf.converted(piece.to_vec()));
                assert_eq!(out, pieces.collect::<Vec<_>>().concat());
            }
        }
    }
}
