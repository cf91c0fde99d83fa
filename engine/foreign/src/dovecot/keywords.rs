//! `dovecot-keywords`: lines `n NAME`; n from 0 to 25 is the letter a to z in file names.

use crate::lines::{BadLine, first_word, number, numbered};

/// Keywords that file names have letters for.
pub const LETTERS_MAX: usize = 26;

/// Keywords by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letters {
    names: Vec<Option<String>>,
}

impl Letters {
    /// Reads the whole file. Numbers past 25, which have no letter, are passed over.
    ///
    /// # Errors
    /// A line without number and name, a number twice.
    pub fn read(bytes: &[u8]) -> Result<Letters, BadLine> {
        let mut names = vec![None; LETTERS_MAX];
        for (at, line) in numbered(bytes).filter(|(_, line)| !line.is_empty()) {
            let bad = || BadLine::new("dovecot-keywords", at, "a number and a keyword", line);
            let (n, name) = first_word(line);
            let n = number::<usize>(n).ok_or_else(bad)?;
            let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
            let name = name.ok_or_else(bad)?;
            let Some(place) = names.get_mut(n) else { continue };
            if place.replace(name.to_owned()).is_some() {
                return Err(bad());
            }
        }
        while names.last().is_some_and(Option::is_none) {
            names.pop();
        }
        Ok(Letters { names })
    }

    /// The bytes of the file.
    pub fn write(&self) -> Vec<u8> {
        let named = self.names.iter().enumerate().filter_map(|(n, name)| Some((n, name.as_ref()?)));
        named.flat_map(|(n, name)| format!("{n} {name}\n").into_bytes()).collect()
    }

    /// The keyword of a letter.
    pub fn name(&self, letter: u8) -> Option<&str> {
        self.names.get(usize::from(letter.checked_sub(b'a')?))?.as_deref()
    }

    /// The letter of a keyword, compared without case; takes a free one where it has none. `None`
    /// when all are taken.
    pub fn letter(&mut self, keyword: &str) -> Option<u8> {
        let is = |name: &Option<String>| {
            name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(keyword))
        };
        let n = match self.names.iter().position(is) {
            Some(n) => n,
            None => {
                let free = self.names.iter().position(Option::is_none).unwrap_or(self.names.len());
                if free >= LETTERS_MAX || keyword.is_empty() || keyword.contains('\n') {
                    return None;
                }
                if free == self.names.len() {
                    self.names.push(None);
                }
                self.names[free] = Some(keyword.to_owned());
                free
            }
        };
        u8::try_from(n).ok().map(|n| b'a' + n)
    }
}
