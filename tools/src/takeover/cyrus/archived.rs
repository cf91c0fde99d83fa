//! Messages that Cyrus has moved to an archive partition (`archivepartition-NAME`), brought into the
//! mailbox's own directory, where all others are.
//!
//! | step | a crash there leaves |
//! |---|---|
//! | `takeover --from-archive` copies them, before the mailbox is taken over | copies beside a store that Cyrus serves as before; the next run passes over them |
//! | the hand-back writes records that say that they are in the mailbox's own directory | either |
//! | then it removes the files in the archive partition | some of them, which nothing tells of any more |
//!
//! What is copied is the message that its record tells of, by size and SHA-1. Expunged messages that are
//! kept there stay there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use foreign::cyrus::index::{Index, Record, flag};

use super::expire::{is_message_of, named};
use super::site::Site;
use super::write::Stage;

/// Files that are copied before they take their places together.
const BATCH_FILES: usize = 32;

/// What was, or would be, copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Messages.
    pub messages: u64,
    /// In them.
    pub octets: u64,
}

/// Served messages whose record says that they are in an archive partition.
pub fn of(index: &Index) -> impl Iterator<Item = &Record> {
    index.live().filter(|record| record.system_flags & flag::ARCHIVED != 0)
}

/// The root of a partition's archive; `None` where it has none.
pub fn root(site: &Site, partition: &str) -> Option<PathBuf> {
    site.conf.get(&format!("archivepartition-{partition}")).map(PathBuf::from)
}

fn is_there(path: &Path, record: &Record) -> Result<Option<Vec<u8>>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(is_message_of(record, &bytes).then_some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(named(path)(e)),
    }
}

/// Copies a mailbox's messages from the archive into its own directory; those that are nowhere are named.
///
/// # Errors
/// What cannot be read or written: the mailbox is as it was for Cyrus.
pub fn bring(
    index: &Index,
    home: &Path,
    archive: Option<&Path>,
    dry_run: bool,
    findings: &mut Vec<String>,
) -> Result<Brought, String> {
    let mut brought = Brought::default();
    let mut stage = Stage::in_existing_directories();
    let mut waiting: Vec<(PathBuf, PathBuf)> = Vec::new();
    for record in of(index) {
        let name = format!("{}.", record.uid);
        let to = home.join(&name);
        // Without archive_enabled Cyrus looks there, too.
        if is_there(&to, record)?.is_some() {
            continue;
        }
        let from = archive.map(|archive| archive.join(&name));
        let octets = match &from {
            Some(from) => is_there(from, record)?,
            None => None,
        };
        let (Some(from), Some(octets)) = (from, octets) else {
            findings.push(format!("{}: it is not in the archive partition either", to.display()));
            continue;
        };
        brought.messages += 1;
        brought.octets += octets.len() as u64;
        if dry_run {
            continue;
        }
        stage.put(&to, &octets)?;
        waiting.push((from, to));
        if waiting.len() == BATCH_FILES {
            publish(&mut stage, &mut waiting)?;
        }
    }
    publish(&mut stage, &mut waiting)?;
    Ok(brought)
}

/// Files in the archive of which there are copies, as the index there tells of them. What is another
/// message than its record's is none, whoever put it there.
pub fn originals(index: &Index, home: &Path, archive: &Path) -> Vec<PathBuf> {
    let identity = |dir: &Path| fs::metadata(dir).map(|meta| (meta.dev(), meta.ino())).ok();
    // An archive may be the partition itself.
    if identity(archive).is_none() || identity(archive) == identity(home) {
        return Vec::new();
    }
    let is_original = |record: &&Record| {
        let path = archive.join(format!("{}.", record.uid));
        record.guid != [0; 20] && is_there(&path, record).is_ok_and(|bytes| bytes.is_some())
    };
    let found = of(index).filter(is_original);
    found.map(|record| archive.join(format!("{}.", record.uid))).collect()
}

/// Puts copies in their places, with the times of their originals, which Cyrus may go by.
fn publish(stage: &mut Stage, waiting: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), String> {
    stage.publish()?;
    for (from, to) in waiting.drain(..) {
        let modified =
            fs::metadata(&from).and_then(|meta| meta.modified()).map_err(named(&from))?;
        let file = File::options().write(true).open(&to).map_err(named(&to))?;
        file.set_modified(modified).map_err(named(&to))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brought_is_the_message_and_comes_once() {
        let dir = tempfile::tempdir().unwrap();
        let (home, archive) = (dir.path().join("home"), dir.path().join("archive"));
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(&archive).unwrap();
        let text = b"Subject: a\r\n\r\nb\r\n";
        let guid = foreign::cyrus::cache::make(text).guid;
        let record = |uid| Record {
            uid,
            size: text.len() as u64,
            guid,
            system_flags: flag::ARCHIVED,
            ..Record::default()
        };
        let index = Index { records: (1..=3).map(record).collect(), ..Index::default() };
        fs::write(archive.join("1."), text).unwrap();
        fs::write(archive.join("2."), b"Subject: a\r\n\r\nc\r\n").unwrap();
        let bring = |dry_run, findings: &mut Vec<String>| {
            bring(&index, &home, Some(&archive), dry_run, findings).unwrap()
        };
        let one = Brought { messages: 1, octets: text.len() as u64 };
        assert_eq!(bring(true, &mut Vec::new()), one);
        assert!(!home.join("1.").exists());
        let mut findings = Vec::new();
        assert_eq!(bring(false, &mut findings), one);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert_eq!(fs::read(home.join("1.")).unwrap(), text);
        assert_eq!(
            fs::metadata(home.join("1.")).unwrap().modified().unwrap(),
            fs::metadata(archive.join("1.")).unwrap().modified().unwrap()
        );
        assert_eq!(bring(false, &mut Vec::new()), Brought::default());
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
        // Of the one only that came; none of an archive that is the mailbox's own directory.
        assert_eq!(originals(&index, &home, &archive), [archive.join("1.")]);
        assert!(originals(&index, &home, &home).is_empty());
        let mut stage = Stage::default();
        stage.remove(archive.join("1."));
        stage.remove(archive.join("9."));
        assert!(archive.join("1.").exists());
        stage.publish().unwrap();
        assert!(!archive.join("1.").exists() && archive.join("2.").exists());
    }
}
