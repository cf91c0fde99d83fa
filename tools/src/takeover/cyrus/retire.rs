//! The end of a hand-back: our own files go out of the way.
//!
//! | step | a crash there leaves |
//! |---|---|
//! | the marker, which names a directory, is durable | a store that only [`retire`] goes on with |
//! | catalog, log, search index, journal, ledger are renamed into that directory | some of them there |
//! | `cursus.*` files and directories of ours are removed from the partitions | some of them |
//! | the marker goes | a store that is Cyrus's |

use std::fs;
use std::path::{Path, PathBuf};

use admin::unfinished::{MOVES_NAME, RETIRING_NAME};
use config::Config;

use super::ledger::LEDGER_NAME;
use super::site::Site;
use super::write::Stage;
use crate::failure::{Failed, Kind};

fn failed(reason: String) -> Failed {
    Failed::new(Kind::Incomplete, reason)
}

/// Whether an earlier hand-back was cut off while it set our own files aside: what the store says
/// then is not what there is.
pub fn is_retiring(config: &Config) -> bool {
    config.state_dir.join(RETIRING_NAME).exists()
}

/// Sets our catalog and log aside, and removes our files beside messages. The accounts stay.
///
/// A crash leaves the file that says so, and the next takeover or hand-back goes on with this first.
pub fn retire(config: &Config, site: &Site, now: u64) -> Result<PathBuf, Failed> {
    let named = |path: &Path, e: std::io::Error| failed(format!("{}: {e}", path.display()));
    let marker = config.state_dir.join(RETIRING_NAME);
    let name = match fs::read_to_string(&marker) {
        Ok(name) => name,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let name = format!("handed-back-{now}");
            let mut stage = Stage::default();
            stage.put(&marker, name.as_bytes()).map_err(failed)?;
            stage.publish().map_err(failed)?;
            name
        }
        Err(e) => return Err(named(&marker, e)),
    };
    let aside = config.state_dir.join(name);
    fs::create_dir_all(&aside).map_err(|e| named(&aside, e))?;
    let ours = ["catalog.redb", MOVES_NAME, LEDGER_NAME];
    let ours = ours.iter().map(|name| config.state_dir.join(name));
    for path in ours.chain([config.log_dir(), config.index_dir()]) {
        let Some(name) = path.file_name() else { continue };
        match fs::rename(&path, aside.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(named(&path, e)),
            _ => {}
        }
    }
    for root in site.conf.partitions().into_values() {
        clear(&root).map_err(|e| named(&root, e))?;
    }
    fs::remove_file(&marker).map_err(|e| named(&marker, e))?;
    Ok(aside)
}

/// Removes our files; a directory that held nothing else goes, too. Says whether it went.
fn clear(dir: &Path) -> std::io::Result<bool> {
    let mut removed = false;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            removed |= clear(&entry.path())?;
            removed |= name.starts_with("..cursus-") && fs::remove_dir(entry.path()).is_ok();
        } else if name.starts_with("cursus.") {
            fs::remove_file(entry.path())?;
            removed = true;
        }
    }
    Ok(removed && fs::remove_dir(dir).is_ok())
}
