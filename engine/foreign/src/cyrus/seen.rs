//! Records of a seen database: what a user has read in a mailbox.
//!
//! Key: the unique id of the mailbox. Value: `1 lastread lastuid lastchange uids`, numbers decimal,
//! times in seconds since 1970, `uids` a set as `1:5,9`, or nothing.

use super::{Damage, text};

const FORMAT: &str = "seen database";

/// What a user has read in a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// When the user last opened the mailbox.
    pub last_read: u64,
    /// Messages above it are recent.
    pub last_uid: u32,
    /// When this last changed.
    pub last_change: u64,
    /// First and last UIDs of runs that were read, ascending.
    pub uids: Vec<(u32, u32)>,
}

impl Seen {
    /// Reads a value.
    ///
    /// # Errors
    /// Another version than 1, or numbers that are none.
    pub fn read(value: &[u8]) -> Result<Seen, Damage> {
        let text = text(FORMAT, 0, value)?;
        let wrong = |expected| Damage::new(FORMAT, 0, expected, text.to_owned());
        let mut words = text.splitn(5, ' ');
        if words.next() != Some("1") {
            return Err(wrong("version 1"));
        }
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let numbers = (number(), number(), number());
        let (Some(last_read), Some(last_uid), Some(last_change)) = numbers else {
            return Err(wrong("three numbers behind the version"));
        };
        let mut uids = Vec::new();
        let set = words.next().unwrap_or_default().trim_end();
        for run in set.split(',').filter(|run| !run.is_empty()) {
            let (first, last) = run.split_once(':').unwrap_or((run, run));
            // A star, which old servers wrote, means all.
            let bound = |word: &str| if word == "*" { Ok(u32::MAX) } else { word.parse() };
            match (bound(first), bound(last)) {
                (Ok(a), Ok(b)) if a > 0 && b > 0 => uids.push((a.min(b), a.max(b))),
                _ => return Err(wrong("a set of UIDs")),
            }
        }
        uids.sort_unstable();
        let last_uid = u32::try_from(last_uid).map_err(|_| wrong("a UID"))?;
        Ok(Seen { last_read, last_uid, last_change, uids })
    }

    /// The value as Cyrus writes it.
    pub fn write(&self) -> Vec<u8> {
        let run = |(first, last): &(u32, u32)| match first == last {
            true => first.to_string(),
            false => format!("{first}:{last}"),
        };
        let set: Vec<_> = self.uids.iter().map(run).collect();
        let Seen { last_read, last_uid, last_change, .. } = self;
        format!("1 {last_read} {last_uid} {last_change} {}", set.join(",")).into_bytes()
    }

    /// Whether a message was read.
    pub fn contains(&self, uid: u32) -> bool {
        let behind = self.uids.partition_point(|(first, _)| *first <= uid);
        self.uids.get(..behind).unwrap_or_default().iter().any(|(_, last)| uid <= *last)
    }
}
