//! `courierimapacl` and files in `courierimaphieracl/`: a line `identifier rights` for each entry.
//!
//! Identifiers: `owner`, `anyone` (or `anonymous`), `user=NAME`, `group=NAME`, `administrators`;
//! with `-` in front the rights are taken away. Rights are the letters of RFC 4314 but for k and p
//! (Courier has c and no post).

pub use crate::acl::Entry;
use crate::lines::{BadLine, numbered};

/// Entries in the order of the file.
///
/// # Errors
/// A line without rights, or one that is not UTF-8: of a list that cannot be read whole, nobody
/// but the owner gets anything.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, BadLine> {
    let mut entries = Vec::new();
    for (at, line) in numbered(bytes).filter(|(_, line)| !line.is_empty()) {
        let bad = || BadLine::new("courierimapacl", at, "an identifier and rights", line);
        let text = std::str::from_utf8(line).map_err(|_| bad())?;
        // The identifier can have blanks, rights cannot.
        let (identifier, rights) = text.trim_end().rsplit_once(' ').ok_or_else(bad)?;
        if identifier.is_empty() || !rights.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(bad());
        }
        entries.push(Entry { identifier: identifier.to_owned(), rights: rights.to_owned() });
    }
    Ok(entries)
}

/// The bytes of the file. Entries that no line can hold are left out.
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let holds = |entry: &&Entry| {
        !entry.identifier.is_empty() && !entry.identifier.contains('\n') && !entry.rights.is_empty()
    };
    let line = |entry: &Entry| format!("{} {}\n", entry.identifier, entry.rights).into_bytes();
    entries.iter().filter(holds).flat_map(line).collect()
}
