//! Where files are, relative to the root of a partition or to `configdirectory`.

use std::path::PathBuf;

use super::name::Name;

/// How directories are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// `hashimapspool`: a directory named by a letter above those of users in partitions.
    pub hashed: bool,
    /// `fulldirhash`: the letter comes from the whole name.
    pub full_hash: bool,
}

impl Spread {
    /// The letter that a word hashes to.
    pub fn letter(self, word: &str) -> char {
        if !self.full_hash {
            let first = word.bytes().next().unwrap_or_default().to_ascii_lowercase();
            return if first.is_ascii_lowercase() { char::from(first) } else { 'q' };
        }
        let step = |n: u32, byte: u8| ((n << 3) ^ (n >> 5)) ^ u32::from(byte);
        let n = word.bytes().take_while(|byte| *byte != b'.').fold(0, step);
        char::from(b'A' + (n % 23) as u8)
    }

    /// A mailbox's directory in its partition, by name: all releases to 3.4, and later ones for
    /// types with `l`.
    pub fn by_name(self, name: &Name) -> PathBuf {
        let mut path = PathBuf::new();
        if let Some(domain) = &name.domain {
            path.push("domain");
            if self.hashed {
                path.push(self.letter(domain).to_string());
            }
            path.push(domain);
        }
        let escaped: Vec<_> = name.levels.iter().map(|level| level.replace('.', "^")).collect();
        if self.hashed {
            let word = escaped.get(1).or(escaped.first());
            path.push(self.letter(word.map_or("", String::as_str)).to_string());
        }
        path.extend(escaped);
        path
    }

    /// A user's file below `configdirectory` by name: `suffix` is `seen`, `sub` and so on.
    pub fn user_file(self, user: &str, suffix: &str) -> PathBuf {
        let (local, domain) = split(user);
        let mut path = self.domain(domain);
        let local = local.replace('.', "^");
        path.push("user");
        path.push(self.letter(&local).to_string());
        path.push(format!("{local}.{suffix}"));
        path
    }

    /// The file of a quota root below `configdirectory`.
    pub fn quota_file(self, root: &Name) -> PathBuf {
        let mut path = self.domain(root.domain.as_deref());
        let plain = Name { domain: None, levels: root.levels.clone() }.to_internal();
        let word = plain.split_once('.').map_or(plain.as_str(), |(_, rest)| rest);
        path.push("quota");
        path.push(self.letter(word).to_string());
        path.push(plain);
        path
    }

    fn domain(self, domain: Option<&str>) -> PathBuf {
        let Some(domain) = domain else { return PathBuf::new() };
        ["domain", &self.letter(domain).to_string(), domain].iter().collect()
    }
}

fn split(user: &str) -> (&str, Option<&str>) {
    match user.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (user, None),
    }
}

/// A mailbox's directory in its partition by unique id, since 3.6; `None` for an id that is no name
/// of a directory.
pub fn by_id(unique_id: &str) -> Option<PathBuf> {
    let mut letters = unique_id.chars();
    let (first, second) = (letters.next()?, letters.next()?);
    let plain = unique_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then(|| ["uuid", &first.to_string(), &second.to_string(), unique_id].iter().collect())
}

/// A user's file below `configdirectory` by the unique id of the INBOX, since 3.6.
pub fn user_file_by_id(inbox_id: &str, suffix: &str) -> Option<PathBuf> {
    Some(PathBuf::from("user").join(by_id(inbox_id)?).join(format!("{suffix}.db")))
}
