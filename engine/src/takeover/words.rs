//! Dovecot's letters a to z in file names, and the keywords that they stand for.

use std::path::Path;

use protocol::types::Keyword;

pub(super) use foreign::dovecot::keywords::Letters;

use super::files;
use crate::io::Storage;
use crate::layout::Location;
use crate::shared::Shared;

/// Name of the file that tells what letters mean.
pub(super) const LETTERS_NAME: &str = "dovecot-keywords";

/// The keyword letters of a file name, whatever the form of its suffix.
pub(crate) fn letters_of(other_letters: &[u8]) -> impl Iterator<Item = u8> + '_ {
    // A suffix that we would not have written is kept whole behind a '/'.
    let letters = match other_letters.strip_prefix(b"/") {
        Some(suffix) => suffix.strip_prefix(b":2,").unwrap_or_default(),
        None => other_letters,
    };
    letters.iter().copied().filter(u8::is_ascii_lowercase)
}

/// One bit for each keyword letter of a file name.
pub(crate) fn letter_bits(at: &Location) -> u32 {
    letters_of(&at.other_letters).fold(0, |bits, letter| bits | 1 << (letter - b'a'))
}

/// What the letters of a mailbox mean; nothing where no file tells it.
pub(super) fn read(storage: &dyn Storage, dir: &Path) -> Letters {
    let path = dir.join(LETTERS_NAME);
    let read = match files::read(storage, &path) {
        Ok(None) => return Letters::default(),
        Ok(Some(bytes)) => Letters::read(&bytes).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    read.unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), error, "letters of keywords are passed over");
        Letters::default()
    })
}

/// The keywords that letters stand for.
#[derive(Debug, Default)]
pub(crate) struct LetterNames(Letters);

impl LetterNames {
    /// Keywords of letters, a bit for each letter.
    pub(crate) fn keywords(&self, bits: u32) -> Vec<Keyword> {
        let set = (b'a'..=b'z').filter(|letter| bits & (1 << (letter - b'a')) != 0);
        set.filter_map(|letter| self.0.name(letter).and_then(Keyword::new)).collect()
    }
}

impl Shared {
    /// Whether Courier keeps keywords in a mailbox's directory.
    pub(crate) fn is_couriers(&self, dir: &Path) -> bool {
        self.storage.stat(&dir.join(super::adopt::KEYWORDS_DIR)).is_ok()
    }

    /// What the letters of a mailbox's names mean; nothing where `lettered` says that there are none.
    pub(crate) fn letters(&self, dir: &Path, lettered: bool) -> LetterNames {
        match lettered {
            true => LetterNames(read(&*self.storage, dir)),
            false => LetterNames::default(),
        }
    }
}
