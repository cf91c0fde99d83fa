//! `courierimapsubscribed`: a name a line, with `INBOX.` in front; UTF-8 since Courier 5.0, modified
//! UTF-7 before. Names of shared folders begin with `#shared.`.

use crate::lines::numbered;

/// Names in the order of the file; lines that are empty or not UTF-8 are passed over.
pub fn read(bytes: &[u8]) -> Vec<String> {
    let line = |(_, line)| std::str::from_utf8(line).ok().map(str::to_owned);
    numbered(bytes).filter_map(line).filter(|name| !name.is_empty()).collect()
}

/// The bytes of the file. Names with LF are left out.
pub fn write<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let names = names.into_iter().filter(|name| !name.is_empty() && !name.contains('\n'));
    names.flat_map(|name| format!("{name}\n").into_bytes()).collect()
}
