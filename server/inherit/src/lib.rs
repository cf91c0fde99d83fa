//! Configuration files of Courier and Cyrus, read as they are, made into settings of ours.
//!
//! | module | says |
//! |---|---|
//! | [`row`] | what a table of another server's options says of each of them |
//! | `draft` | what comes out of reading: settings with origins, remarks, refusals |
//! | `value` | numbers, switches, durations, addresses as those files have them |
//! | `ciphers` | OpenSSL's cipher lists |
//! | [`courier`] | `authdaemonrc`, `imapd`, `imapd-ssl`, `pop3d`, `pop3d-ssl`, the shared index |
//! | [`cyrus`] | `imapd.conf`, `cyrus.conf` |
//! | `sources` | which files there are to read, and the order in which they decide |
//!
//! Invariants: every option of the originals has a row; whatever a file sets has an effect, is
//! named as something that needs none or is not served, or is refused. Readers are pure functions
//! of texts, which a [`Files`] brings; no bytes make them panic.

mod ciphers;
pub mod courier;
pub mod cyrus;
mod draft;
pub mod row;
mod sources;
mod value;

pub use draft::{Remark, RemarkKind};
pub use sources::{Inherited, NotTaken, Sources};

use std::io;
use std::path::Path;

/// Where texts come from.
pub trait Files {
    /// The text of a file; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// Those of the filesystem.
    fn text(&self, file: &Path) -> io::Result<String>;

    /// Whether there is such a file.
    fn has(&self, file: &Path) -> bool;

    /// Whether a file has no text, or a directory no files.
    fn is_empty(&self, file: &Path) -> bool;
}

/// The filesystem.
pub struct Disk;

impl Files for Disk {
    fn text(&self, file: &Path) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(file)?).into_owned())
    }

    fn has(&self, file: &Path) -> bool {
        file.exists()
    }

    fn is_empty(&self, file: &Path) -> bool {
        match std::fs::read_dir(file) {
            Ok(mut files) => files.next().is_none(),
            Err(_) => std::fs::metadata(file).is_ok_and(|meta| meta.len() == 0),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    /// Files of a test, by path.
    #[derive(Default)]
    pub(crate) struct Given(pub(crate) BTreeMap<PathBuf, String>);

    impl Given {
        pub(crate) fn with(files: &[(&str, &str)]) -> Given {
            Given(files.iter().map(|(path, text)| (path.into(), (*text).to_owned())).collect())
        }
    }

    /// Compares the tables of `docs/configuration-NAME.md` with what is made of ours.
    #[track_caller]
    pub(crate) fn assert_document(name: &str, made: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file = root.join(format!("docs/configuration-{name}.md"));
        let text = std::fs::read_to_string(&file).unwrap();
        let mark = format!("<!-- cursus config options {name} -->\n\n");
        let (head, tables) = text.split_once(&mark).unwrap();
        let made = made.trim_end();
        if std::env::var_os("CURSUS_WRITE_DOCS").is_some() {
            std::fs::write(&file, format!("{head}{mark}{made}\n")).unwrap();
        } else {
            assert!(tables.trim_end() == made, "CURSUS_WRITE_DOCS=1 makes {} anew", file.display());
        }
    }

    impl Files for Given {
        fn text(&self, file: &Path) -> io::Result<String> {
            self.0.get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn has(&self, file: &Path) -> bool {
            self.0.contains_key(file)
        }

        fn is_empty(&self, file: &Path) -> bool {
            self.0.get(file).is_some_and(|text| text.is_empty())
        }
    }
}
