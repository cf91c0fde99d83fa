//! The links by which `cursus` is called by other programs' names.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use super::table;
use crate::failure::{Failed, Kind};
use crate::output::Output;

/// What Debian's scripts look for beside `bin` before they do anything.
const MARK: &str = "cyrus-hardwired-config.txt";

/// Makes links in `directory` to this program: of all names, or those that are given. What is there
/// and no such link stays, and is named.
pub fn install(directory: &Path, only: &[String], out: &Output) -> Result<(), Failed> {
    let program = std::env::current_exe()
        .map_err(|e| Failed::new(Kind::Incomplete, format!("where this program is: {e}")))?;
    for name in only {
        if table::known(name).is_none_or(|known| !known.has_link()) {
            let message = format!("{name}: expected a name of `cursus commands list`");
            return Err(Failed::new(Kind::Data, message));
        }
    }
    let named = |path: &Path, e: io::Error| {
        Failed::new(Kind::Incomplete, format!("{}: {e}", path.display()))
    };
    fs::create_dir_all(directory).map_err(|e| named(directory, e))?;
    let (mut made, mut foreign) = (Vec::new(), Vec::new());
    for known in table::KNOWN.iter().filter(|known| known.has_link()) {
        if !only.is_empty() && !only.iter().any(|name| name == known.name) {
            continue;
        }
        let path = directory.join(known.name);
        match symlink(&program, &path) {
            Ok(()) => made.push(known.name),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let is_ours = fs::canonicalize(&path)
                    .is_ok_and(|there| there.file_name() == program.file_name());
                if !is_ours {
                    foreign.push(path.display().to_string());
                }
            }
            Err(e) => return Err(named(&path, e)),
        }
    }
    if directory.ends_with("lib/cyrus/bin")
        && let Some(above) = directory.parent()
    {
        let path = above.join(MARK);
        if !path.exists() {
            let text = format!("PACKAGE_VERSION {} (Cursus)\n", env!("CARGO_PKG_VERSION"));
            fs::write(&path, text).map_err(|e| named(&path, e))?;
        }
    }
    let text = format!("{} links made in {}", made.len(), directory.display());
    out.line(&json!({ "made": made, "left_alone": foreign }), &text);
    match foreign.is_empty() {
        true => Ok(()),
        false => {
            let message = format!("there already, and left alone: {}", foreign.join(", "));
            Err(Failed::new(Kind::Exists, message))
        }
    }
}
