//! `dovecot-acl`: a line `identifier rights` for each entry; `:` before rights as words.
//!
//! Identifiers: `owner`, `anyone`, `authenticated`, `user=NAME`, `group=NAME`,
//! `group-override=NAME`; with `-` in front the rights are taken away. Letters as in RFC 4314.

pub use crate::acl::Entry;
use crate::lines::{BadLine, numbered};

/// Rights as words, and their letters.
const WORDS: [(&str, char); 11] = [
    ("lookup", 'l'),
    ("read", 'r'),
    ("write", 'w'),
    ("write-seen", 's'),
    ("write-deleted", 't'),
    ("insert", 'i'),
    ("post", 'p'),
    ("expunge", 'e'),
    ("create", 'k'),
    ("delete", 'x'),
    ("admin", 'a'),
];

/// Entries in the order of the file.
///
/// # Errors
/// A line without identifier, rights that are none: of a list that cannot be read whole, nobody but
/// the owner gets anything.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, BadLine> {
    let mut entries = Vec::new();
    for (at, line) in numbered(bytes).filter(|(_, line)| !line.is_empty() && line[0] != b'#') {
        let bad = || BadLine::new("dovecot-acl", at, "an identifier and rights", line);
        let text = std::str::from_utf8(line).map_err(|_| bad())?;
        // An identifier with blanks is quoted.
        let (identifier, rest) = match text.strip_prefix('"') {
            Some(quoted) => {
                let (identifier, rest) = quoted.split_once('"').ok_or_else(bad)?;
                (identifier, rest.trim_start())
            }
            None => text.split_once(' ').unwrap_or((text, "")),
        };
        if identifier.is_empty() {
            return Err(bad());
        }
        let (letters, words) = rest.split_once(':').unwrap_or((rest, ""));
        let mut rights: String = letters.split_whitespace().collect();
        for word in words.split_whitespace() {
            let known = WORDS.iter().find(|(name, _)| *name == word);
            rights.extend(known.map(|(_, letter)| *letter));
        }
        if !rights.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(bad());
        }
        entries.push(Entry { identifier: identifier.to_owned(), rights });
    }
    Ok(entries)
}

/// The bytes of the file. Entries that no line can hold are left out.
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let holds =
        |entry: &&Entry| !entry.identifier.is_empty() && !entry.identifier.contains(['\n', '"']);
    let line = |entry: &Entry| match entry.identifier.contains(' ') {
        true => format!("\"{}\" {}\n", entry.identifier, entry.rights).into_bytes(),
        false => format!("{} {}\n", entry.identifier, entry.rights).into_bytes(),
    };
    entries.iter().filter(holds).flat_map(line).collect()
}
