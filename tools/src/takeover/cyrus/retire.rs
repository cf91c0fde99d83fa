//! The end of a hand-back: our own files go out of the way.
//!
//! | step | a crash there leaves |
//! |---|---|
//! | the marker, which names a directory, is durable | a store that only [`retire`] goes on with |
//! | catalog, log, search index, journal, ledger are renamed into that directory | some of them there |
//! | `cursus.*` files and directories of ours are removed from the partitions | some of them |
//! | the marker goes | a store that is Cyrus's |

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use admin::unfinished::{CATALOG_NAME, MOVES_NAME, RETIRING_NAME, TAKING_NAME};
use config::Config;

use super::ledger::LEDGER_NAME;
use super::site::Site;
use super::write::Stage;
use crate::failure::{Failed, Kind};

/// How directories with what was here begin; the moment follows, in Unix seconds.
const ASIDE_PREFIX: &str = "handed-back-";

fn failed(reason: String) -> Failed {
    Failed::new(Kind::Incomplete, reason)
}

/// Whether an earlier hand-back was cut off while it set our own files aside: what the store says
/// then is not what there is.
pub fn is_retiring(config: &Config) -> bool {
    config.state_dir.join(RETIRING_NAME).exists()
}

/// The store that was here, where the last hand-back set it aside; `None` while there is one.
///
/// # Errors
/// There is no store that could be handed back, nor was: an empty one would take from Cyrus what is
/// Cyrus's.
pub fn set_aside(config: &Config) -> Result<Option<PathBuf>, Failed> {
    let named = |path: &Path, e: io::Error| failed(format!("{}: {e}", path.display()));
    let catalog = config.state_dir.join(CATALOG_NAME);
    if catalog.try_exists().map_err(|e| named(&catalog, e))? {
        return Ok(None);
    }
    let mut last = None;
    for entry in fs::read_dir(&config.state_dir).map_err(|e| named(&config.state_dir, e))? {
        let aside = entry.map_err(|e| named(&config.state_dir, e))?.path();
        let is_aside = aside.file_name().is_some_and(|name| {
            name.to_string_lossy().starts_with(ASIDE_PREFIX) && aside.join(CATALOG_NAME).exists()
        });
        if is_aside {
            let when = fs::metadata(&aside).and_then(|meta| meta.modified());
            last = last.max(Some((when.map_err(|e| named(&aside, e))?, aside)));
        }
    }
    match last {
        Some((_, aside)) => Ok(Some(aside)),
        None => Err(failed(format!(
            "{}: no such file: nothing was taken over; nothing is changed",
            catalog.display()
        ))),
    }
}

/// Sets our catalog and log aside, and removes our files beside messages. The accounts stay.
///
/// A crash leaves the file that says so, and the next takeover or hand-back goes on with this first.
pub fn retire(config: &Config, site: &Site, now: u64) -> Result<PathBuf, Failed> {
    let named = |path: &Path, e: io::Error| failed(format!("{}: {e}", path.display()));
    let marker = config.state_dir.join(RETIRING_NAME);
    let name = match fs::read_to_string(&marker) {
        Ok(name) => name,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut name = format!("{ASIDE_PREFIX}{now}");
            // One from the same second is no place for what is here.
            let mut others = 2_u32..;
            while config.state_dir.join(&name).exists()
                && let Some(other) = others.next()
            {
                name = format!("{ASIDE_PREFIX}{now}-{other}");
            }
            let mut stage = Stage::default();
            stage.put(&marker, name.as_bytes()).map_err(failed)?;
            stage.publish().map_err(failed)?;
            name
        }
        Err(e) => return Err(named(&marker, e)),
    };
    let aside = config.state_dir.join(name);
    fs::create_dir_all(&aside).map_err(|e| named(&aside, e))?;
    let ours = [CATALOG_NAME, MOVES_NAME, LEDGER_NAME, TAKING_NAME];
    let ours = ours.iter().map(|name| config.state_dir.join(name));
    for path in ours.chain([config.log_dir(), config.index_dir()]) {
        let Some(name) = path.file_name() else { continue };
        match fs::rename(&path, aside.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(&path, e)),
            _ => {}
        }
    }
    for root in site.conf.partitions().into_values() {
        clear(&root).map_err(|e| named(&root, e))?;
    }
    fs::remove_file(&marker).map_err(|e| named(&marker, e))?;
    Ok(aside)
}

/// Threads that remove files: a filesystem that tells its device of each freed block waits for that
/// in every removal.
const REMOVERS: usize = 8;

/// A directory in which something of ours is or was.
struct Ours {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// It is ours itself.
    whole: bool,
}

/// Removes our files; a directory that held nothing else goes, too.
fn clear(root: &Path) -> io::Result<()> {
    let mut found = Vec::new();
    find(root, false, &mut found)?;
    let next = AtomicUsize::new(0);
    let remove = || -> io::Result<()> {
        while let Some(dir) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
            dir.files.iter().try_for_each(fs::remove_file)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let removers: Vec<_> = (0..REMOVERS).map(|_| scope.spawn(remove)).collect();
        let done = removers.into_iter().map(|remover| match remover.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // All of them end before the first error is told.
        done.fold(Ok(()), Result::and)
    })?;
    // What lies deeper is in front.
    let mut emptied = BTreeSet::new();
    for dir in &found {
        let had = !dir.files.is_empty() || dir.whole || emptied.contains(&dir.path);
        if had && dir.path != root && fs::remove_dir(&dir.path).is_ok() {
            emptied.extend(dir.path.parent().map(Path::to_owned));
        }
    }
    Ok(())
}

/// All directories below one, and itself behind them.
fn find(dir: &Path, whole: bool, found: &mut Vec<Ours>) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            find(&entry.path(), name.starts_with("..cursus-"), found)?;
        } else if name.starts_with("cursus.") {
            files.push(entry.path());
        }
    }
    found.push(Ours { path: dir.to_owned(), files, whole });
    Ok(())
}
