//! Responses of a server: no bytes make the parser panic, and it gives no more than it was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::imap::response::{self, Response, Value};

fn bytes(value: &Value) -> usize {
    match value {
        Value::Atom(text) | Value::Text(text) => text.len(),
        Value::List(items) => items.iter().map(bytes).sum(),
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(Response::Data(values)) = response::parse(data) {
        assert!(values.iter().map(bytes).sum::<usize>() <= data.len());
    }
    let _ = response::date_time(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(ranges) = response::ranges(text, 16)
    {
        assert!(ranges.len() <= 16 && ranges.iter().all(|(first, last)| first <= last));
    }
});
