//! A file for each message: as it is served, with CRLF; the time of change is INTERNALDATE.
//!
//! Directories below are folders. Flags have no place in these files.

use std::path::{Path, PathBuf};

use super::{Damage, Found, Tree, entries, file_name, line_ends, read_file, write_file};

/// The messages of a file, or of a directory and those below it.
pub fn read(path: &Path) -> Tree {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let mut damage = Vec::new();
    collect(path, None, &mut files, &mut folders, &mut damage);
    let found = files.into_iter().map(|(path, mailbox)| {
        let (octets, internal_date) = read_file(&path)?;
        let octets = line_ends::to_wire(octets);
        let source = path.display().to_string();
        Ok(Found { source, octets, flags: Vec::new(), internal_date, mailbox })
    });
    Tree { folders, messages: Box::new(damage.into_iter().map(Err).chain(found)) }
}

fn collect(
    path: &Path,
    mailbox: Option<String>,
    files: &mut Vec<(PathBuf, Option<String>)>,
    folders: &mut Vec<String>,
    damage: &mut Vec<Damage>,
) {
    if !path.is_dir() {
        return files.push((path.to_owned(), mailbox));
    }
    folders.extend(mailbox.clone());
    match entries(path) {
        Ok(found) => {
            for entry in found {
                let name = file_name(&entry);
                if name.starts_with('.') {
                    continue;
                }
                let below = match (entry.is_dir(), &mailbox) {
                    (false, _) => mailbox.clone(),
                    (true, None) => Some(name),
                    (true, Some(above)) => Some(format!("{above}/{name}")),
                };
                collect(&entry, below, files, folders, damage);
            }
        }
        Err(bad) => damage.push(bad),
    }
}

/// Writes messages into a directory.
pub struct Writer {
    dir: PathBuf,
}

impl Writer {
    /// Makes the directory where there is none.
    pub fn new(dir: &Path) -> std::io::Result<Writer> {
        std::fs::create_dir_all(dir)?;
        Ok(Writer { dir: dir.to_owned() })
    }

    /// Writes a message.
    pub fn add(&mut self, uid: u32, octets: &[u8], date: i64) -> std::io::Result<()> {
        write_file(&self.dir.join(format!("{uid:010}.eml")), octets, date)
    }
}
