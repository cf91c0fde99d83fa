//! MH folders: files that are called by numbers, and `.mh_sequences` with sets of them.
//!
//! | sequence | flag |
//! |---|---|
//! | not in `unseen` (or what Unseen-Sequence names in the profile: `unseen` is taken) | `\Seen` |
//! | `replied`, `flagged`, `draft`, `deleted` | `\Answered`, `\Flagged`, `\Draft`, `\Deleted` |
//! | `cur` | none |
//! | others | the keyword of that name; `imapx` and hexadecimal digits: the keyword in them |
//!
//! Names of sequences are letters and digits, the first a letter, so that other keywords are
//! written in hexadecimal digits. Files whose names begin with `,` or `#` are removed messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Damage, Found, Tree, entries, file_name, line_ends, read_file, write_file};

/// Sequences that are flags.
const FLAGS: [(&str, &str); 4] = [
    ("replied", "\\Answered"),
    ("flagged", "\\Flagged"),
    ("draft", "\\Draft"),
    ("deleted", "\\Deleted"),
];

/// Before keywords that are no names of sequences.
const CODED: &str = "imapx";

/// Members of one sequence that are looked at, at most.
const MEMBERS_MAX: u64 = 1 << 24;

/// The messages of a folder and of those below it, in order of their numbers.
pub fn read(path: &Path) -> Tree {
    let (mut folders, mut damage) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    folder(path, None, &mut found, &mut folders, &mut damage);
    let read = |(path, flags, mailbox): (PathBuf, Vec<String>, Option<String>)| {
        let (octets, internal_date) = read_file(&path)?;
        let (source, octets) = (path.display().to_string(), line_ends::to_wire(octets));
        Ok(Found { source, octets, flags, internal_date, mailbox })
    };
    let messages = damage.into_iter().map(Err).chain(found.into_iter().map(read));
    Tree { folders, messages: Box::new(messages) }
}

type Files = Vec<(PathBuf, Vec<String>, Option<String>)>;

fn folder(
    path: &Path,
    mailbox: Option<String>,
    found: &mut Files,
    folders: &mut Vec<String>,
    damage: &mut Vec<Damage>,
) {
    folders.extend(mailbox.clone());
    let listed = match entries(path) {
        Ok(listed) => listed,
        Err(bad) => return damage.push(bad),
    };
    let file = path.join(".mh_sequences");
    let sequences = match std::fs::read(&file) {
        Ok(text) => parse(&text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => {
            damage.push(Damage::of_file(&file, e));
            BTreeMap::new()
        }
    };
    let mut numbers = BTreeMap::new();
    let mut below = Vec::new();
    for entry in listed {
        let name = file_name(&entry);
        if entry.is_dir() && !name.starts_with('.') {
            below.push((name, entry));
        } else if let Ok(number) = name.parse::<u32>() {
            numbers.insert(number, entry);
        }
    }
    for (number, entry) in numbers {
        found.push((entry, flags_of(number, &sequences), mailbox.clone()));
    }
    for (name, entry) in below {
        let name = match &mailbox {
            Some(above) => format!("{above}/{name}"),
            None => name,
        };
        folder(&entry, Some(name), found, folders, damage);
    }
}

type Sequences = BTreeMap<String, Vec<(u32, u32)>>;

/// Reads `.mh_sequences`: `name: 1-3 7`, where a line that begins with a blank goes on.
fn parse(text: &[u8]) -> Sequences {
    let text = String::from_utf8_lossy(text).replace("\n ", " ").replace("\n\t", " ");
    let mut found = Sequences::new();
    for line in text.lines() {
        let Some((name, members)) = line.split_once(':') else { continue };
        let range = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let ranges = members.split_ascii_whitespace().filter_map(range);
        found.insert(name.trim().to_owned(), ranges.take(MEMBERS_MAX as usize).collect());
    }
    found
}

fn flags_of(number: u32, sequences: &Sequences) -> Vec<String> {
    let within = |ranges: &[(u32, u32)]| ranges.iter().any(|(a, b)| (*a..=*b).contains(&number));
    let mut flags = Vec::new();
    if !sequences.get("unseen").is_some_and(|ranges| within(ranges)) {
        flags.push("\\Seen".to_owned());
    }
    for (name, _) in sequences.iter().filter(|(_, ranges)| within(ranges)) {
        match FLAGS.iter().find(|(sequence, _)| sequence == name) {
            Some((_, flag)) => flags.push((*flag).to_owned()),
            None if ["unseen", "cur"].contains(&name.as_str()) => {}
            None => flags.push(decoded(name).unwrap_or_else(|| name.clone())),
        }
    }
    flags
}

fn decoded(name: &str) -> Option<String> {
    let digits = name.strip_prefix(CODED)?;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    String::from_utf8(bytes?).ok().filter(|word| !word.is_empty())
}

/// The sequence of a flag; `None`: `\Seen`, which is not being in one.
fn sequence_of(flag: &str) -> Option<String> {
    if flag.eq_ignore_ascii_case("\\Seen") {
        return None;
    }
    if let Some((name, _)) = FLAGS.iter().find(|(_, one)| one.eq_ignore_ascii_case(flag)) {
        return Some((*name).to_owned());
    }
    let reserved = FLAGS.iter().any(|(name, _)| *name == flag)
        || ["unseen", "cur"].contains(&flag)
        || flag.starts_with(CODED);
    let is_name = flag.bytes().all(|b| b.is_ascii_alphanumeric())
        && flag.starts_with(|c: char| c.is_ascii_alphabetic());
    Some(match is_name && !reserved {
        true => flag.to_owned(),
        false => flag.bytes().fold(CODED.to_owned(), |text, b| text + &format!("{b:02x}")),
    })
}

/// Writes a folder.
pub struct Writer {
    dir: PathBuf,
    last: u32,
    sequences: BTreeMap<String, Vec<u32>>,
}

impl Writer {
    /// Makes the directory where there is none; one with messages is refused.
    pub fn new(dir: &Path) -> std::io::Result<Writer> {
        std::fs::create_dir_all(dir)?;
        Ok(Writer { dir: dir.to_owned(), last: 0, sequences: BTreeMap::new() })
    }

    /// Writes a message. What cannot be read back as it was is said.
    pub fn add(
        &mut self,
        octets: &[u8],
        flags: &[String],
        date: i64,
    ) -> std::io::Result<Option<&'static str>> {
        self.last += 1;
        let (text, lossy) = line_ends::to_file(octets);
        write_file(&self.dir.join(self.last.to_string()), &text, date)?;
        if !flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Seen")) {
            self.sequences.entry("unseen".to_owned()).or_default().push(self.last);
        }
        for name in flags.iter().filter_map(|flag| sequence_of(flag)) {
            self.sequences.entry(name).or_default().push(self.last);
        }
        Ok(lossy)
    }

    /// Writes the sequences.
    pub fn finish(self) -> std::io::Result<()> {
        let mut text = String::new();
        for (name, members) in &self.sequences {
            text += &format!("{name}:");
            let mut rest = members.as_slice();
            while let [first, ..] = rest {
                let run = rest.iter().zip(*first..).take_while(|(a, b)| **a == *b).count();
                text += &match run {
                    1 => format!(" {first}"),
                    _ => format!(" {first}-{}", first + run as u32 - 1),
                };
                rest = rest.get(run..).unwrap_or_default();
            }
            text += "\n";
        }
        match text.is_empty() {
            true => Ok(()),
            false => std::fs::write(self.dir.join(".mh_sequences"), text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_written_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("inbox");
        let mut writer = Writer::new(&folder).unwrap();
        let flags =
            ["\\Seen", "\\Answered $Label1", "\\Seen unseen later", "\\Seen imapx41 \\Deleted", ""];
        for (n, flags) in flags.iter().enumerate() {
            let octets = format!("Subject: {n}\r\n\r\n{n}\r\n");
            writer.add(octets.as_bytes(), &words(flags), 1000 + n as i64).unwrap();
        }
        writer.finish().unwrap();
        let text = std::fs::read_to_string(folder.join(".mh_sequences")).unwrap();
        assert!(text.contains("unseen: 2 5\n") && text.contains("later: 3\n"), "{text}");
        let found: Vec<Found> = read(&folder).messages.map(|one| one.unwrap()).collect();
        for (n, (one, wanted)) in found.iter().zip(flags).enumerate() {
            let (mut have, mut wanted) = (one.flags.clone(), words(wanted));
            have.sort();
            wanted.sort();
            assert_eq!(have, wanted);
            assert_eq!(one.internal_date, Some(1000 + n as i64));
            assert_eq!(one.octets, format!("Subject: {n}\r\n\r\n{n}\r\n").as_bytes());
        }
        assert_eq!(found.len(), 5);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in "[a-z0-9: \n-]{0,60}", number in any::<u32>()) {
            let sequences = parse(text.as_bytes());
            prop_assert!(flags_of(number, &sequences).len() <= sequences.len() + 1);
            let _ = decoded(&text);
        }
    }
}
