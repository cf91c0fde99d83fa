//! The messages: those of the load generator, so that figures of a filesystem and of a whole server
//! speak of the same mail. Sizes are log-normal about a mean ([`load::message`] says how).

use load::message::Generator;

/// Different messages; deliveries take them in turn.
const MESSAGES: u64 = 256;

/// Messages in memory.
pub struct Corpus {
    wire: Vec<Vec<u8>>,
    stored: Vec<Vec<u8>>,
}

impl Corpus {
    /// Those of a seed, with this mean size in bytes.
    pub fn new(seed: u64, bytes_mean: u32) -> Corpus {
        let generator = Generator::new(seed, bytes_mean);
        let wire: Vec<Vec<u8>> = (0..MESSAGES)
            .map(|serial| {
                let mut message = Vec::new();
                generator.write(serial, &mut message);
                message
            })
            .collect();
        let lf = |m: &Vec<u8>| m.iter().copied().filter(|byte| *byte != b'\r').collect();
        let stored = wire.iter().map(lf).collect();
        Corpus { wire, stored }
    }

    /// Message `n` with CRLF line ends.
    pub fn wire(&self, n: usize) -> &[u8] {
        &self.wire[n % self.wire.len()]
    }

    /// Message `n` with LF line ends, as Maildirs hold it.
    pub fn stored(&self, n: usize) -> &[u8] {
        &self.stored[n % self.stored.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_mean_that_was_asked_for_and_lines_end_as_said() {
        let corpus = Corpus::new(1, 15_000);
        let mean = corpus.wire.iter().map(Vec::len).sum::<usize>() as f64 / MESSAGES as f64;
        assert!((10_000.0..20_000.0).contains(&mean), "{mean}");
        assert!(corpus.wire(3).ends_with(b"\r\n") && !corpus.stored(3).contains(&b'\r'));
        assert_eq!(corpus.stored(3), corpus.stored(3 + MESSAGES as usize));
    }
}
