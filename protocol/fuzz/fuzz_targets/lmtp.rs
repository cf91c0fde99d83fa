//! LMTP: every line is a command or an error with a reply; addresses print to what they parse from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::lmtp::{Command, Recipient};

fuzz_target!(|data: &[u8]| {
    for line in data.split(|&b| b == b'\n') {
        if let Err(error) = Command::parse(line.strip_suffix(b"\r").unwrap_or(line)) {
            let text = error.to_string();
            let _ = error.reply(&text);
        }
        if let Ok(text) = std::str::from_utf8(line)
            && let Ok(recipient) = Recipient::parse(text)
        {
            let printed = recipient.to_string();
            assert_eq!(Recipient::parse(&printed).as_ref(), Ok(&recipient), "{printed}");
        }
    }
});
