//! Changes by other programs as the events of a watched Maildir tell them: no listing.
//!
//! Events say only which names to look at. What became of a message is read from the directory,
//! name by name: the newest name that was told and exists, else the one that was known. So events
//! may come late, twice, or for changes that are undone by now.
//!
//! A message without any file is not yet gone: the second half of a rename may still be on its
//! way. It is looked for again [`GONE_AFTER`] later. Should its file turn up even after that, it
//! is taken for a new message; it is never removed.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::Files;
use super::{MailboxInner, Tx};
use crate::error::{Error, Result};
use crate::layout::maildir::{file_name_of, parse_name};
use crate::layout::{Found, Location};

/// Events of a mailbox that wait, at most; a listing is cheaper than more.
const EVENTS_MAX: usize = 50_000;
/// How long a name must be missing before the message is gone.
const GONE_AFTER: Duration = Duration::from_millis(250);

/// A name that came into a directory of a Maildir or left it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) in_new: bool,
    pub(crate) came: bool,
    pub(crate) name: Vec<u8>,
}

/// Events that wait for their turn, and names that are missing.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: Vec<Event>,
    /// Base names without a file, and since when.
    missing: HashMap<Vec<u8>, Instant>,
}

impl Events {
    /// Keeps an event for the next turn; `false` when there are too many.
    pub(super) fn push(&mut self, event: Event) -> bool {
        if self.waiting.len() >= EVENTS_MAX {
            return false;
        }
        self.waiting.push(event);
        true
    }

    /// A listing sees all that events would tell.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.missing.clear();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.missing.is_empty()
    }

    /// Whether a missing name is due for its second look.
    pub(super) fn is_due(&self) -> bool {
        self.missing.values().any(|since| since.elapsed() >= GONE_AFTER)
    }
}

/// The names of one message that events told.
#[derive(Default)]
struct Touched {
    /// In the order of their coming.
    came: Vec<Found>,
    /// The name that came last, or was known before, left after that.
    left: bool,
}

impl MailboxInner {
    /// Looks at the names that events told; pushes frames for what differs.
    pub(super) fn follow_events(self: &Arc<Self>, files: &mut Files) -> Result<Option<Arc<Tx>>> {
        let place = self.place.read().clone();
        let began = self.shared.storage.now_ns();
        let times = self.directory_times();
        if self.only_lingers() {
            // All that these times stand for is to be seen now.
            self.shared.watches.drain();
        }
        let (waiting, mut missing) = {
            let mut foreign = self.foreign.lock();
            let events = foreign.events();
            (std::mem::take(&mut events.waiting), std::mem::take(&mut events.missing))
        };
        let mut order = Vec::new();
        let mut touched: HashMap<Vec<u8>, Touched> = HashMap::new();
        for event in waiting {
            let Some(at) = parse_name(&event.name, event.in_new) else { continue };
            let names = touched.entry(at.base.clone()).or_insert_with(|| {
                order.push(at.base.clone());
                Touched::default()
            });
            if event.came {
                names.came.push(at);
                names.left = false;
            } else if names.came.last().is_none_or(|last| *last == at) {
                names.left = true;
            }
        }
        for (base, since) in &missing {
            if since.elapsed() >= GONE_AFTER && !touched.contains_key(base) {
                order.push(base.clone());
                touched.insert(base.clone(), Touched { came: Vec::new(), left: true });
            }
        }
        let exists = |at: &Location| {
            let path = place.partition.layout.path(&place.dir, at);
            match self.shared.storage.stat(&path) {
                Ok(_) => Ok(true),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
                Err(e) => Err(Error::io("stat", path)(e)),
            }
        };
        let (mut fresh, mut moved, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for base in order {
            let Some(Touched { mut came, left }) = touched.remove(&base) else { continue };
            let position = files.find_base(&base)?;
            if position.is_none() && files.damage.any() {
                // It may be the name that cannot be read: a listing mends that first.
                return self.compare(files);
            }
            let known = position.and_then(|p| files.location(p));
            let as_known = |at: &Found| {
                known.as_ref().is_some_and(|known| {
                    known.in_new == at.in_new && file_name_of(known) == file_name_of(at)
                })
            };
            let living = position.filter(|p| !files.is_tombstone(*p));
            if living.is_some() && !left && came.last().is_some_and(as_known) {
                continue;
            }
            let mut there = None;
            while let Some(at) = came.pop() {
                if exists(&at)? {
                    there = Some(at);
                    break;
                }
            }
            match (position, living) {
                (_, Some(position)) => {
                    let there = match (there, known) {
                        (Some(there), _) => Some(there),
                        (None, Some(known)) if exists(&known)? => Some(known),
                        _ => None,
                    };
                    let Some(at) = there else {
                        let since = *missing.entry(base.clone()).or_insert_with(Instant::now);
                        if since.elapsed() >= GONE_AFTER {
                            missing.remove(&base);
                            gone.push((position, base));
                        }
                        continue;
                    };
                    missing.remove(&base);
                    let record = files.record(position);
                    let letters = files.location(position).map(|known| known.other_letters);
                    if at.flags != record.name_flags
                        || at.in_new != record.in_new
                        || letters.as_ref() != Some(&at.other_letters)
                    {
                        moved.push((position, at));
                    }
                }
                (Some(position), None) => {
                    missing.remove(&base);
                    let Some(at) = there else { continue };
                    if self.foreign.lock().was_removed(&base) {
                        fresh.push(at);
                    } else {
                        self.finish_removal(files, &place, position, &at);
                    }
                }
                (None, None) => {
                    missing.remove(&base);
                    fresh.extend(there);
                }
            }
        }
        let removed = gone.iter().map(|(_, base)| base.clone()).collect();
        let gone = gone.into_iter().map(|(position, _)| position).collect();
        let last = self.push_differences(files, &place, fresh, moved, gone)?;
        let mut foreign = self.foreign.lock();
        foreign.removed(removed);
        for (base, since) in missing {
            foreign.events().missing.entry(base).or_insert(since);
        }
        foreign.looked(times, began);
        Ok(last)
    }
}
