//! `dovecot-uidvalidity`: eight hexadecimal digits, the last UIDVALIDITY handed out in the account.
//! Beside it lies an empty file with the same number in its name.

/// Reads the file; `None` for anything but hexadecimal digits of 32 bits.
pub fn read(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// The bytes of the file.
pub fn write(last: u32) -> Vec<u8> {
    format!("{last:08x}").into_bytes()
}

/// Name of the empty file beside it.
pub fn marker(last: u32) -> String {
    format!("dovecot-uidvalidity.{last:08x}")
}
