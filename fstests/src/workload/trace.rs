//! A day's mix, and recorded traces: both are lists of steps on Maildirs.
//!
//! A trace is text: the line `cursus-trace 1`, then a step a line; `#` begins a comment.
//!
//! ```text
//! deliver USER BYTES      a message of about that size comes in, durably
//! list USER               the folder is listed
//! read USER N             message N modulo what is there is read
//! flag USER N             its \Seen changes
//! remove USER N           it is removed
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use engine::layout::Location;

use super::{Bench, Hand, Measured, Spool, side_by_side};
use crate::error::{Error, Result};

const HEAD: &str = "cursus-trace 1";
/// Bytes of a message that a trace may ask for.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Shares of the mixed day, of 100 operations.
///
/// The default is a guess at an IMAP site's day that anybody can replace: of 100 file operations 15
/// deliveries, 5 listings, 60 readings (clients, search, webmail), 15 flag changes, 5 removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    deliver: u32,
    list: u32,
    read: u32,
    flag: u32,
    remove: u32,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { deliver: 15, list: 5, read: 60, flag: 15, remove: 5 }
    }
}

impl FromStr for Mix {
    type Err = String;

    /// `deliver=15,list=5,read=60,flag=15,remove=5`; what is not named has no share.
    fn from_str(text: &str) -> std::result::Result<Mix, String> {
        let mut mix = Mix { deliver: 0, list: 0, read: 0, flag: 0, remove: 0 };
        for part in text.split(',') {
            let parsed = part.split_once('=').and_then(|(k, v)| Some((k, v.parse::<u32>().ok()?)));
            let (name, share) = parsed.ok_or_else(|| format!("{part:?}: expected NAME=SHARE"))?;
            *(match name {
                "deliver" => &mut mix.deliver,
                "list" => &mut mix.list,
                "read" => &mut mix.read,
                "flag" => &mut mix.flag,
                "remove" => &mut mix.remove,
                _ => {
                    return Err(format!("{name:?}: expected deliver, list, read, flag or remove"));
                }
            }) = share.min(1_000_000);
        }
        if mix.sum() == 0 { Err("expected at least one share above 0".into()) } else { Ok(mix) }
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mix { deliver, list, read, flag, remove } = self;
        write!(f, "deliver={deliver},list={list},read={read},flag={flag},remove={remove}")
    }
}

impl Mix {
    fn sum(&self) -> u32 {
        self.deliver + self.list + self.read + self.flag + self.remove
    }

    /// A step, by chance.
    fn step(&self, random: &mut fastrand::Rng, corpus: &super::Corpus) -> Step {
        let n = random.usize(..);
        let action = match random.u32(..self.sum()) {
            at if at < self.deliver => Action::Deliver(corpus.stored(n).len()),
            at if at < self.deliver + self.list => Action::List,
            at if at < self.deliver + self.list + self.read => Action::Read(n),
            at if at < self.deliver + self.list + self.read + self.flag => Action::Flag(n),
            _ => Action::Remove(n),
        };
        Step { user: 0, action }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Deliver(usize),
    List,
    Read(usize),
    Flag(usize),
    Remove(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    user: usize,
    action: Action,
}

/// A recorded trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    users: Vec<String>,
    steps: Vec<Step>,
}

impl Trace {
    /// Reads a trace file.
    ///
    /// # Errors
    /// When it is not there, or a line is not what it should be.
    pub fn read(path: &Path) -> Result<Trace> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let wrong = |reason| Error::Refused { path: path.to_owned(), reason };
        Trace::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> std::result::Result<Trace, String> {
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line.trim()) != Some(HEAD) {
            return Err(format!("expected {HEAD:?} in the first line"));
        }
        let (mut trace, mut known) = (Trace::default(), HashMap::new());
        for (number, line) in lines {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = || format!("line {}: {line:?}: no step of a trace", number + 1);
            let count = || words.get(2).and_then(|n| n.parse::<usize>().ok()).ok_or_else(wrong);
            let user = words.get(1).ok_or_else(wrong)?;
            let action = match words[0] {
                "deliver" => match count()? {
                    bytes if bytes <= MESSAGE_BYTES_MAX => Action::Deliver(bytes),
                    _ => return Err(format!("line {}: more than 64 MiB", number + 1)),
                },
                "list" => Action::List,
                "read" => Action::Read(count()?),
                "flag" => Action::Flag(count()?),
                "remove" => Action::Remove(count()?),
                _ => return Err(wrong()),
            };
            let user = *known.entry((*user).to_owned()).or_insert_with(|| {
                trace.users.push((*user).to_owned());
                trace.users.len() - 1
            });
            trace.steps.push(Step { user, action });
        }
        if trace.steps.is_empty() { Err("a trace without steps".into()) } else { Ok(trace) }
    }
}

/// A Maildir, and what is known to be in it.
struct Folder<'a> {
    spool: &'a Spool,
    messages: Mutex<Vec<Location>>,
}

impl Folder<'_> {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<Location>) -> T) -> T {
        work(&mut self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a step. One on a message that is not there does nothing.
    fn take(&self, action: Action, bench: &Bench<'_>) -> Result<()> {
        match action {
            Action::Deliver(bytes) => {
                let text = bench.corpus.stored(bytes);
                let text: Vec<u8> = text.iter().copied().cycle().take(bytes).collect();
                let at = self.spool.deliver(&text, Hand::Rename)?;
                self.with(|messages| messages.push(at));
                Ok(())
            }
            Action::List => self.spool.list().map(drop),
            // Taken out while it is in work, so that no other worker renames it meanwhile.
            Action::Read(n) => self.with_one(n, |at| {
                self.spool.read(&at, &mut Vec::new())?;
                Ok(Some(at))
            }),
            Action::Flag(n) => self.with_one(n, |at| self.spool.flip_seen(&at).map(Some)),
            Action::Remove(n) => self.with_one(n, |at| {
                self.spool.remove(&at)?;
                self.spool.sync_names()?;
                Ok(None)
            }),
        }
    }

    fn with_one(
        &self,
        n: usize,
        work: impl FnOnce(Location) -> Result<Option<Location>>,
    ) -> Result<()> {
        let taken = self.with(|messages| match messages.len() {
            0 => None,
            len => Some(messages.swap_remove(n % len)),
        });
        let Some(at) = taken else { return Ok(()) };
        if let Some(at) = work(at)? {
            self.with(|messages| messages.push(at));
        }
        Ok(())
    }
}

pub(super) fn mixed_day(bench: &Bench<'_>) -> Result<Measured> {
    let spool = Spool::create(bench.storage.clone(), bench.dir, "mixed")?;
    let count = bench.folder.list()?.len().clamp(1, 2000);
    spool.fill(bench.corpus, count, super::FILL_MAX)?;
    let folder = Folder { messages: Mutex::new(spool.list()?), spool: &spool };
    let mut random = fastrand::Rng::with_seed(bench.seed);
    let steps: Vec<Step> =
        (0..bench.operations).map(|_| bench.mix.step(&mut random, bench.corpus)).collect();
    let mut measured = side_by_side(steps.len(), bench.concurrency, bench.limit, |n| {
        folder.take(steps[n].action, bench)
    })?;
    measured.notes.push(format!("{}; {count} messages at the start", bench.mix));
    Ok(measured)
}

pub(super) fn replay(bench: &Bench<'_>) -> Result<Measured> {
    let trace =
        bench.trace.ok_or_else(|| Error::Usage("replay needs a trace: --trace FILE".to_owned()))?;
    let spools: Vec<Spool> = trace
        .users
        .iter()
        .map(|user| Spool::create(Arc::clone(&bench.storage), bench.dir, user))
        .collect::<Result<_>>()?;
    let folders: Vec<Folder<'_>> =
        spools.iter().map(|spool| Folder { spool, messages: Mutex::default() }).collect();
    side_by_side(trace.steps.len(), 1, bench.limit, |n| {
        let step = trace.steps[n];
        folders[step.user].take(step.action, bench)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_users_and_steps_and_says_what_is_wrong_where() {
        let trace = Trace::parse(
            "cursus-trace 1\n# a comment\ndeliver alice 1000\nread alice 0\nlist bob # too\n",
        )
        .unwrap();
        assert_eq!(trace.users, ["alice", "bob"]);
        assert_eq!(trace.steps[0], Step { user: 0, action: Action::Deliver(1000) });
        assert_eq!(trace.steps[2], Step { user: 1, action: Action::List });
        let wrong = |text: &str| Trace::parse(text).unwrap_err();
        assert!(wrong("deliver alice 1\n").contains("first line"));
        assert!(wrong("cursus-trace 1\nlist a\nread alice x\n").starts_with("line 3"));
        assert!(wrong("cursus-trace 1\ndeliver a 99999999999\n").contains("64 MiB"));
        assert!(wrong("cursus-trace 1\n").contains("without steps"));
    }

    #[test]
    fn a_mix_reads_back_and_refuses_nonsense() {
        let mix: Mix = "deliver=1,read=9".parse().unwrap();
        assert_eq!(mix.to_string().parse::<Mix>().unwrap(), mix);
        assert_eq!(mix.sum(), 10);
        for wrong in ["", "deliver", "deliver=x", "dance=1", "deliver=0"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_shares_of_a_mix_are_what_comes_out() {
        let corpus = super::super::Corpus::new(1, 3_000);
        let mut random = fastrand::Rng::with_seed(7);
        let mix = Mix::default();
        let steps: Vec<Step> = (0..10_000).map(|_| mix.step(&mut random, &corpus)).collect();
        let reads = steps.iter().filter(|s| matches!(s.action, Action::Read(_))).count();
        assert!((5_700..6_300).contains(&reads), "{reads}");
    }
}
