//! Readers of index, facts and heap: any bytes decode or are refused; a record that decodes
//! survives the round trip.
#![no_main]

use engine::format::{facts, heap, index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(slot) = index::Slot::decode(data) {
        assert!(index::Slot::decode(&slot.encode()).is_ok());
    }
    for bytes in data.chunks_exact(index::RECORD_BYTES) {
        let words = index::words_from_bytes(bytes);
        let _ = index::Record::decode(&words);
        // As if the checksum were right.
        let record = index::Record::decode_unchecked(&words);
        assert_eq!(index::Record::decode(&record.encode()), Some(record));
    }
    let uid = data.first().map_or(0, |b| u32::from(*b));
    if let Some(facts) = facts::Facts::decode(data, uid) {
        assert!(facts::Facts::decode(&facts.encode(), uid).is_some());
    }
    if let Some((header, rest)) = data.split_first_chunk::<{ heap::ENTRY_HEADER_BYTES }>() {
        for kind in [heap::Kind::FileName, heap::Kind::Keywords] {
            if let Some(length) = heap::data_len(header, kind, uid) {
                assert!(length <= heap::DATA_BYTES_MAX);
                let _ = rest.get(..length).map(|data| heap::is_whole(header, data));
            }
        }
    }
});
