//! What the criterion benches share: the messages that the load generator sends too, so that the
//! figures of a bench and of a whole server speak of the same mail.

use load::message::{Generator, MESSAGE_BYTES_MEAN};

/// The first `count` messages of seed 1, in CRLF form.
pub fn messages(count: u64) -> Vec<Vec<u8>> {
    let generator = Generator::new(1, MESSAGE_BYTES_MEAN);
    (0..count)
        .map(|serial| {
            let mut message = Vec::new();
            generator.write(serial, &mut message);
            message
        })
        .collect()
}
