//! Modified UTF-7: what decodes encodes back to itself, and any UTF-8 name survives the round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::imap::mutf7;

fuzz_target!(|data: &[u8]| {
    if let Ok(name) = mutf7::decode(data) {
        assert_eq!(mutf7::encode(&name).as_bytes(), data);
    }
    if let Ok(name) = std::str::from_utf8(data) {
        assert_eq!(mutf7::decode(mutf7::encode(name).as_bytes()).as_deref(), Ok(name));
    }
});
