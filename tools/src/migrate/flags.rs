//! Flags of the source as the target can have them, and what changed between two looks.

use std::collections::BTreeMap;

use admin::wire::FlagsChange;
use protocol::types::{Keyword, SystemFlags};

/// The flags that the target takes, in order, each once: the system's without `\Recent`, which no
/// client sets, and keywords. What is left out goes to `dropped`.
pub fn taken(flags: &[String], dropped: &mut BTreeMap<String, u64>) -> Vec<String> {
    let mut found: Vec<String> = Vec::with_capacity(flags.len());
    for flag in flags {
        let system = SystemFlags::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(flag));
        match (system, Keyword::new(flag)) {
            (Some((_, name)), _) => found.push((*name).to_owned()),
            (None, Some(keyword)) => found.push(keyword.as_str().to_owned()),
            (None, None) if flag.eq_ignore_ascii_case("\\Recent") => {}
            (None, None) => *dropped.entry(flag.clone()).or_default() += 1,
        }
    }
    found.sort_unstable();
    found.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    found
}

/// As [`super::state::Known`] has them.
pub fn joined(flags: &[String]) -> String {
    flags.join(" ")
}

/// The other way.
pub fn split(flags: &str) -> Vec<String> {
    flags.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Changes of many messages, those that are alike together.
#[derive(Default)]
pub struct Differences(BTreeMap<(Vec<String>, Vec<String>), Vec<u32>>);

impl Differences {
    /// A message of the target whose source had `before` and has `now`.
    pub fn add(&mut self, target: u32, before: &[String], now: &[String]) {
        let missing = |from: &[String], of: &[String]| -> Vec<String> {
            let there = |flag: &&String| !from.iter().any(|one| one.eq_ignore_ascii_case(flag));
            of.iter().filter(there).cloned().collect()
        };
        let (add, remove) = (missing(before, now), missing(now, before));
        if !add.is_empty() || !remove.is_empty() {
            self.0.entry((add, remove)).or_default().push(target);
        }
    }

    /// How many messages change.
    pub fn count(&self) -> u64 {
        self.0.values().map(|uids| uids.len() as u64).sum()
    }

    /// As the target is told.
    pub fn changes(self) -> Vec<FlagsChange> {
        let one = |((add, remove), uids)| FlagsChange { uids, add, remove };
        self.0.into_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text)
    }

    #[test]
    fn what_cannot_be_kept_is_counted() {
        let mut dropped = BTreeMap::new();
        let flags = words("\\Recent \\seen $Forwarded \\Odd a\\b \\Seen");
        assert_eq!(taken(&flags, &mut dropped), ["$Forwarded", "\\Seen"]);
        assert_eq!(dropped.keys().collect::<Vec<_>>(), ["\\Odd", "a\\b"]);
    }

    #[test]
    fn changes_that_are_alike_go_together() {
        let mut differences = Differences::default();
        differences.add(1, &words("a"), &words("a \\Seen"));
        differences.add(2, &words(""), &words("\\Seen"));
        differences.add(3, &words("x \\Seen"), &words("\\seen"));
        differences.add(4, &words("A"), &words("a"));
        assert_eq!(differences.count(), 3);
        let changes = differences.changes();
        assert_eq!((&changes[0].remove, &changes[0].uids), (&words("x"), &vec![3]));
        assert_eq!((&changes[1].add, &changes[1].uids), (&words("\\Seen"), &vec![1, 2]));
    }
}
