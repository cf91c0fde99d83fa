//! Maildirs as a source: which files, and what their names say.

use std::io;
use std::path::{Path, PathBuf};

use super::Incoming;

/// The message files of a Maildir in order of arrival; `None` if `dir` isn't one.
pub(super) fn files(dir: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    if !dir.join("cur").is_dir() || !dir.join("new").is_dir() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for part in ["cur", "new"] {
        for entry in std::fs::read_dir(dir.join(part))? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden && entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    // Names begin with the time of delivery.
    files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    Ok(Some(files))
}

/// Takes flags and time of delivery from the name.
pub(super) fn with_name_facts(mut message: Incoming, path: &Path) -> Incoming {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let letters = name.rsplit_once(":2,").map_or("", |(_, letters)| letters);
    message.flags = letters.chars().filter_map(flag).map(str::to_owned).collect();
    let seconds = name.split('.').next().and_then(|s| s.parse().ok());
    message.internal_date = seconds.or(message.internal_date);
    message
}

fn flag(letter: char) -> Option<&'static str> {
    Some(match letter {
        'S' => "\\Seen",
        'R' => "\\Answered",
        'F' => "\\Flagged",
        'T' => "\\Deleted",
        'D' => "\\Draft",
        'P' => "$Forwarded",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_flags_and_time() {
        let message = Incoming {
            source: String::new(),
            bytes: Vec::new(),
            flags: Vec::new(),
            internal_date: Some(5),
        };
        let path = Path::new("x/cur/1700000000.M1P2.host,S=10:2,FSa");
        let message = with_name_facts(message, path);
        assert_eq!(message.flags, ["\\Flagged", "\\Seen"]);
        assert_eq!(message.internal_date, Some(1_700_000_000));
        let message = with_name_facts(message, Path::new("x/new/odd"));
        assert!(message.flags.is_empty());
        assert_eq!(message.internal_date, Some(1_700_000_000));
    }

    #[test]
    fn a_directory_without_cur_is_no_maildir() {
        let dir = tempfile::tempdir().unwrap();
        assert!(files(dir.path()).unwrap().is_none());
        for part in ["cur", "new"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        std::fs::write(dir.path().join("new/2.b"), "x").unwrap();
        std::fs::write(dir.path().join("cur/1.a:2,S"), "x").unwrap();
        std::fs::write(dir.path().join("cur/.hidden"), "x").unwrap();
        let found = files(dir.path()).unwrap().unwrap();
        assert_eq!(found, [dir.path().join("cur/1.a:2,S"), dir.path().join("new/2.b")]);
    }
}
