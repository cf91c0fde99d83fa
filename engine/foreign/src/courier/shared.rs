//! Shared folders: `shared-maildirs` in a Maildir, and the index of virtual shared folders.

use crate::lines::{BadLine, number, numbered};

/// A line of `shared-maildirs`: a Maildir with sharable folders under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedMaildir {
    /// First level below `shared.`.
    pub name: String,
    /// Where the Maildir is.
    pub path: String,
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().map(str::trim).filter(|t| !t.is_empty() && !t.starts_with('#'))
}

/// Reads `shared-maildirs`; comments and lines that say nothing are passed over.
pub fn read_maildirs(bytes: &[u8]) -> Vec<SharedMaildir> {
    let line = |(_, line)| {
        let (name, path) = text(line)?.split_once([' ', '\t'])?;
        Some(SharedMaildir { name: name.to_owned(), path: path.trim_start().to_owned() })
    };
    numbered(bytes).filter_map(line).collect()
}

/// Writes `shared-maildirs`.
pub fn write_maildirs(list: &[SharedMaildir]) -> Vec<u8> {
    list.iter().flat_map(|m| format!("{}\t{}\n", m.name, m.path).into_bytes()).collect()
}

/// A line of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indexed {
    /// An account whose folders others may see.
    Account {
        /// Its level below `#shared.`.
        name: String,
        /// Numeric user.
        uid: u32,
        /// Numeric group.
        gid: u32,
        /// Home directory.
        home: String,
        /// Maildir, relative to the home directory unless absolute.
        maildir: String,
    },
    /// A level that another index in the same directory describes.
    Below {
        /// The level.
        name: String,
        /// The other index's file name.
        file: String,
    },
}

/// Reads the index.
///
/// # Errors
/// A line with too few fields or with uid or gid 0.
pub fn read_index(bytes: &[u8]) -> Result<Vec<Indexed>, BadLine> {
    let mut out = Vec::new();
    for (at, line) in numbered(bytes) {
        let Some(text) = text(line) else { continue };
        let bad = || BadLine::new("shared index", at, "name, uid, gid, home", line);
        let fields: Vec<&str> = text.split('\t').collect();
        out.push(match fields[..] {
            [name, "*", file] | [name, "*", _, file, ..] => {
                Indexed::Below { name: name.to_owned(), file: file.to_owned() }
            }
            [name, uid, gid, home, ref rest @ ..] => {
                let id = |digits: &str| number::<u32>(digits.as_bytes()).filter(|id| *id != 0);
                let maildir = rest.first().filter(|dir| !dir.is_empty()).unwrap_or(&"./Maildir");
                Indexed::Account {
                    name: name.to_owned(),
                    uid: id(uid).ok_or_else(bad)?,
                    gid: id(gid).ok_or_else(bad)?,
                    home: home.to_owned(),
                    maildir: (*maildir).to_owned(),
                }
            }
            _ => return Err(bad()),
        });
    }
    Ok(out)
}
