//! Header tools: no value makes them panic, and decoders don't care how their input is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::mime::transfer::Decoder;
use protocol::mime::{Encoding, address, date, encoded_word, header, media, section, subject};

fn decode(encoding: Encoding, bytes: &[u8], piece_bytes: usize) -> Vec<u8> {
    let mut decoder = Decoder::new(encoding);
    let mut out = Vec::new();
    bytes.chunks(piece_bytes).for_each(|piece| decoder.feed(piece, &mut out));
    decoder.finish(&mut out);
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, value)) = data.split_first() else { return };
    let mut length = 0;
    for field in header::fields(value) {
        length += field.raw.len();
        assert!(!field.name.is_empty());
    }
    assert!(length <= value.len());
    let unfolded = header::unfold(value);
    assert!(!unfolded.contains(&b'\n'));
    let _ = encoded_word::decode(&unfolded);
    let _ = media::content_type(&unfolded, |name, _| assert!(!name.is_empty()));
    let _ = section::parse(value);
    if let Some(date) = date::parse(value) {
        let utc_day = date.unix.div_euclid(date::DAY_SECONDS);
        assert!((utc_day - i64::from(date.local_day)).abs() <= 1);
    }
    let mut depth = 0;
    address::parse(value, |item| match item {
        address::Address::GroupStart(_) => depth += 1,
        address::Address::GroupEnd => depth -= 1,
        address::Address::Mailbox { .. } => assert!(depth == 0 || depth == 1),
    });
    assert_eq!(depth, 0);
    assert!(!subject::base(value).text.contains("  "));
    for encoding in [Encoding::Base64, Encoding::QuotedPrintable] {
        let whole = decode(encoding, value, value.len().max(1));
        assert_eq!(decode(encoding, value, usize::from(choice) + 1), whole);
        assert!(whole.len() <= value.len());
    }
});
