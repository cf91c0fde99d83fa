//! Maildirs: `cur` and `new`, the folders of Maildir++ below, keywords in Dovecot's letters or
//! Courier's files; the time of change is INTERNALDATE.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use foreign::courier::keywords::{List, newest, update};
use foreign::dovecot::keywords::Letters;
use protocol::imap::mutf7;

use super::{Damage, Found, Messages, Tree, entries, file_name, line_ends, read_file, write_file};

/// Letters of the system's flags and of `$Forwarded`.
const LETTERS: [(char, &str); 6] = [
    ('D', "\\Draft"),
    ('F', "\\Flagged"),
    ('P', "$Forwarded"),
    ('R', "\\Answered"),
    ('S', "\\Seen"),
    ('T', "\\Deleted"),
];

/// Whether a directory is a Maildir.
pub fn is_maildir(dir: &Path) -> bool {
    dir.join("cur").is_dir() && dir.join("new").is_dir()
}

/// The messages of a Maildir, and with `folders` of those below it, in order of their names.
pub fn read(dir: &Path, folders: bool) -> Tree {
    if !is_maildir(dir) {
        let damage = Damage::of_file(dir, "expected a Maildir, with cur and new");
        return Tree { folders: Vec::new(), messages: Box::new(std::iter::once(Err(damage))) };
    }
    let mut all = vec![(dir.to_owned(), None)];
    let mut damage = Vec::new();
    if folders {
        match entries(dir) {
            Ok(found) => {
                for entry in found.into_iter().filter(|entry| is_maildir(entry)) {
                    let name = file_name(&entry);
                    let Some(name) = name.strip_prefix('.') else { continue };
                    let name = mutf7::decode(name.as_bytes()).unwrap_or_else(|_| name.to_owned());
                    all.push((entry, Some(name.replace('/', "_").replace('.', "/"))));
                }
            }
            Err(bad) => damage.push(bad),
        }
    }
    let folders = all.iter().filter_map(|(_, mailbox)| mailbox.clone()).collect();
    let messages = all.into_iter().flat_map(|(dir, mailbox)| one(&dir, mailbox));
    Tree { folders, messages: Box::new(damage.into_iter().map(Err).chain(messages)) }
}

/// The message files of one Maildir in order of arrival.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, Damage> {
    let mut found = Vec::new();
    for part in ["cur", "new"] {
        let listed = entries(&dir.join(part))?;
        found.extend(listed.into_iter().filter(|p| !file_name(p).starts_with('.') && p.is_file()));
    }
    // Names begin with the time of delivery.
    found.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    Ok(found)
}

fn one(dir: &Path, mailbox: Option<String>) -> Messages {
    let found = match files(dir) {
        Ok(found) => found,
        Err(bad) => return Box::new(std::iter::once(Err(bad))),
    };
    let keywords = Keywords::of(dir);
    Box::new(found.into_iter().map(move |path| {
        let (octets, internal_date) = read_file(&path)?;
        let flags = keywords.flags(&file_name(&path));
        let (source, octets) = (path.display().to_string(), line_ends::to_wire(octets));
        Ok(Found { source, octets, flags, internal_date, mailbox: mailbox.clone() })
    }))
}

/// Where keywords are beside names.
struct Keywords {
    dovecot: Option<Letters>,
    /// By base name.
    courier: HashMap<Vec<u8>, Vec<String>>,
}

impl Keywords {
    fn of(dir: &Path) -> Keywords {
        let dovecot = std::fs::read(dir.join("dovecot-keywords")).ok();
        let courier = dir.join("courierimapkeywords");
        let mut by_base = HashMap::new();
        if let Ok(text) = std::fs::read(courier.join(":list"))
            && let Ok(list) = List::read(&text)
        {
            by_base.extend(list.messages);
        }
        if let Ok(found) = entries(&courier) {
            let updates = found.iter().filter_map(|path| update(file_name(path).as_bytes()));
            for (base, one) in newest(updates.collect()) {
                let text = std::fs::read(courier.join(String::from_utf8_lossy(&one.file).as_ref()));
                let words =
                    text.ok().and_then(|text| foreign::courier::keywords::read_update(&text).ok());
                by_base.insert(base, words.unwrap_or_default());
            }
        }
        Keywords { dovecot: dovecot.and_then(|text| Letters::read(&text).ok()), courier: by_base }
    }

    fn flags(&self, name: &str) -> Vec<String> {
        let (base, letters) = name.split_once(":2,").unwrap_or((name, ""));
        let mut flags = flags_of(letters);
        if let Some(letters_of) = &self.dovecot {
            let lower = letters.bytes().filter(u8::is_ascii_lowercase);
            flags.extend(lower.filter_map(|letter| letters_of.name(letter).map(str::to_owned)));
        }
        flags.extend(self.courier.get(base.as_bytes()).into_iter().flatten().cloned());
        flags.sort_unstable();
        flags.dedup();
        flags
    }
}

/// What the capital letters of a name say.
pub fn flags_of(letters: &str) -> Vec<String> {
    let known = |letter| LETTERS.iter().find(|(one, _)| *one == letter);
    letters.chars().filter_map(known).map(|(_, flag)| (*flag).to_owned()).collect()
}

/// Writes a Maildir with keywords as Dovecot has them.
pub struct Writer {
    dir: PathBuf,
    letters: Letters,
    count: u64,
    /// Unix seconds in front of all names: their order is that of the messages.
    began: u64,
}

impl Writer {
    /// Makes the directories. `mailbox`: a folder below the Maildir, with `/` between levels.
    pub fn new(root: &Path, mailbox: Option<&str>) -> std::io::Result<Writer> {
        let dir = match mailbox {
            None => root.to_owned(),
            Some(name) if name.contains('.') => {
                let message = format!("{name}: a folder of a Maildir has no . in a level");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
            }
            Some(name) => root.join(format!(".{}", mutf7::encode(&name.replace('/', ".")))),
        };
        for part in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(dir.join(part))?;
            if std::fs::read_dir(dir.join(part))?.next().is_some() {
                let message = "there are messages already";
                return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, message));
            }
        }
        if mailbox.is_some() {
            std::fs::write(dir.join("maildirfolder"), "")?;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let began = since.map_or(0, |since| since.as_secs());
        Ok(Writer { dir, letters: Letters::default(), count: 0, began })
    }

    /// Writes a message. What cannot be read back as it was is said.
    pub fn add(
        &mut self,
        octets: &[u8],
        flags: &[String],
        date: i64,
    ) -> std::io::Result<Option<&'static str>> {
        self.count += 1;
        let (text, mut lossy) = line_ends::to_file(octets);
        let mut letters = Vec::new();
        for flag in flags {
            let known = LETTERS.iter().find(|(_, one)| one.eq_ignore_ascii_case(flag));
            match known.map(|(letter, _)| *letter as u8).or_else(|| self.letters.letter(flag)) {
                Some(letter) => letters.push(letter),
                None => {
                    lossy = lossy.or(Some("it has a keyword for which there is no letter left"))
                }
            }
        }
        letters.sort_unstable();
        let letters = String::from_utf8_lossy(&letters).into_owned();
        let process = std::process::id();
        let name = format!(
            "{}.M{:010}P{process}.export,S={},W={}:2,{letters}",
            self.began,
            self.count,
            text.len(),
            octets.len()
        );
        write_file(&self.dir.join("cur").join(name), &text, date)?;
        Ok(lossy)
    }

    /// Writes the keywords.
    pub fn finish(self) -> std::io::Result<()> {
        let text = self.letters.write();
        match text.is_empty() {
            true => Ok(()),
            false => std::fs::write(self.dir.join("dovecot-keywords"), text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let words = ["\\Seen", "$Forwarded", "Later"].map(str::to_owned);
        let octets = b"Subject: x\r\n\r\nbody\r\n";
        for mailbox in [None, Some("A/Entwürfe")] {
            let mut writer = Writer::new(dir.path(), mailbox).unwrap();
            for n in 0..3 {
                assert_eq!(writer.add(octets, &words[n..], 77 + n as i64).unwrap(), None);
            }
            writer.finish().unwrap();
        }
        assert!(dir.path().join(".A.Entw&APw-rfe/cur").is_dir());
        assert!(Writer::new(dir.path(), Some("a.b")).is_err());
        let found: Vec<Found> = read(dir.path(), true).messages.map(|one| one.unwrap()).collect();
        assert_eq!(found.len(), 6);
        for (n, one) in found.iter().enumerate() {
            let mut wanted = words[n % 3..].to_vec();
            wanted.sort();
            assert_eq!((&one.flags, one.internal_date), (&wanted, Some(77 + (n % 3) as i64)));
            assert_eq!(one.mailbox.as_deref(), [None, Some("A/Entwürfe")][n / 3]);
            assert_eq!(one.octets, octets);
        }
        assert_eq!(read(dir.path(), false).messages.count(), 3);
    }
}
