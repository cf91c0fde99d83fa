//! Events of directories that other programs may change, by one inotify instance.
//!
//! Only mailboxes with a watching session are here. An event for a name that we made ourselves is
//! dropped; any other goes to the mailbox, which looks at that name. Lost events mean a listing.
//! Where inotify cannot be had, the ticker polls directory times instead ([`Watches::polled`]),
//! and a log line says so.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::ids::MailboxId;
use crate::mailbox::MailboxInner;
use crate::mailbox::events::Event;
use crate::shared::{Drive, Shared};

/// How often the reader looks whether the store closes.
const WAKE: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// How often missing names are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

#[derive(Default)]
struct State {
    inotify: Option<Arc<OwnedFd>>,
    refused: bool,
    /// Whose directory, and whether it is `new/`.
    by_watch: HashMap<i32, (Weak<MailboxInner>, bool)>,
    by_mailbox: HashMap<MailboxId, (Weak<MailboxInner>, Vec<i32>)>,
}

/// The watched mailboxes of a store.
#[derive(Default)]
pub(crate) struct Watches {
    state: Mutex<State>,
}

impl Watches {
    /// Begins to watch; what changed before the watch stood is found by a look at the directory.
    pub(crate) fn add(&self, mailbox: &Arc<MailboxInner>) {
        let place = mailbox.place.read().clone();
        let dirs = place.partition.layout.watched_dirs(&place.dir);
        if dirs.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let mut watches = Vec::new();
        let events = mailbox.shared.mount(&place.partition.name).is_ok_and(|m| m.events);
        if events
            && mailbox.shared.drive == Drive::Threads
            && let Some(fd) = state.instance(&mailbox.shared)
        {
            for dir in &dirs {
                match add_watch(&fd, dir) {
                    Ok(watch) => {
                        let in_new = dir.ends_with("new");
                        state.by_watch.insert(watch, (Arc::downgrade(mailbox), in_new));
                        watches.push(watch);
                    }
                    Err(error) => {
                        tracing::warn!(dir = %dir.display(), %error, "cannot watch; polling");
                        for watch in watches.drain(..) {
                            state.by_watch.remove(&watch);
                            let _ = inotify::remove_watch(&fd, watch);
                        }
                        break;
                    }
                }
            }
        }
        state.by_mailbox.insert(mailbox.id, (Arc::downgrade(mailbox), watches));
        drop(state);
        mailbox.look_after_watch();
    }

    /// Stops watching.
    pub(crate) fn remove(&self, mailbox: &Arc<MailboxInner>) {
        let mut state = self.state.lock();
        let Some((_, watches)) = state.by_mailbox.remove(&mailbox.id) else { return };
        let events = !watches.is_empty();
        for watch in watches {
            state.by_watch.remove(&watch);
            if let Some(fd) = &state.inotify {
                // Fails when the directory is gone, and the watch with it.
                let _ = inotify::remove_watch(fd, watch);
            }
        }
        drop(state);
        mailbox.look_after_unwatch(events);
    }

    /// Whether events tell of every change in this mailbox's directories.
    pub(crate) fn are_events(&self, id: MailboxId) -> bool {
        self.state.lock().by_mailbox.get(&id).is_some_and(|(_, watches)| !watches.is_empty())
    }

    /// Watched mailboxes that no events come for.
    pub(crate) fn polled(&self) -> Vec<Arc<MailboxInner>> {
        let state = self.state.lock();
        let without = state.by_mailbox.values().filter(|(_, watches)| watches.is_empty());
        without.filter_map(|(mailbox, _)| mailbox.upgrade()).collect()
    }

    fn event(&self, watch: i32, came: bool, name: &[u8]) {
        let found = self.state.lock().by_watch.get(&watch).cloned();
        let Some((mailbox, in_new)) = found else { return };
        if let Some(mailbox) = mailbox.upgrade()
            && mailbox.foreign.lock().event(Event { in_new, came, name: name.to_vec() })
        {
            mailbox.ask_rescan();
        }
    }

    /// Asks those to look again that miss a name.
    fn look_again(&self) {
        let all: Vec<_> =
            self.state.lock().by_mailbox.values().filter_map(|(m, _)| m.upgrade()).collect();
        for mailbox in all {
            if mailbox.foreign.lock().is_due() {
                mailbox.ask_rescan();
            }
        }
    }

    fn overflow(&self) {
        let all: Vec<_> =
            self.state.lock().by_mailbox.values().filter_map(|(m, _)| m.upgrade()).collect();
        for mailbox in all {
            mailbox.foreign.lock().overflow();
            mailbox.ask_rescan();
        }
    }
}

impl State {
    /// The inotify instance, made with its reader at first use.
    fn instance(&mut self, shared: &Arc<Shared>) -> Option<Arc<OwnedFd>> {
        if self.inotify.is_none() && !self.refused {
            match inotify::init(CreateFlags::CLOEXEC) {
                Ok(fd) => {
                    let fd = Arc::new(fd);
                    let (reader, shared) = (fd.clone(), Arc::downgrade(shared));
                    let name = "cursus-inotify".to_owned();
                    let thread = std::thread::Builder::new().name(name);
                    match thread.spawn(move || read_events(&reader, &shared)) {
                        Ok(_) => self.inotify = Some(fd),
                        Err(error) => {
                            self.refused = true;
                            tracing::warn!(%error, "no thread for inotify; polling directories");
                        }
                    }
                }
                Err(error) => {
                    self.refused = true;
                    tracing::warn!(%error, "inotify is refused; polling directories");
                }
            }
        }
        self.inotify.clone()
    }
}

fn add_watch(fd: &OwnedFd, dir: &Path) -> rustix::io::Result<i32> {
    let flags = WatchFlags::CREATE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE
        | WatchFlags::ONLYDIR;
    inotify::add_watch(fd, dir, flags)
}

/// The reader thread: ends when the store does.
fn read_events(fd: &OwnedFd, shared: &Weak<Shared>) {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64 << 10];
    let mut looked = Instant::now();
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&WAKE));
        let Some(shared) = shared.upgrade() else { return };
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        if looked.elapsed() >= LOOK_AGAIN {
            looked = Instant::now();
            shared.watches.look_again();
        }
        if !matches!(ready, Ok(n) if n > 0) {
            continue;
        }
        let mut reader = inotify::Reader::new(fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                        shared.watches.overflow();
                    } else if let Some(name) = event.file_name() {
                        let came =
                            event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                        shared.watches.event(event.wd(), came, name.to_bytes());
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "inotify read failed");
                    break;
                }
            }
            // The rest of this read; a further read could block.
            if reader.is_buffer_empty() {
                break;
            }
        }
    }
}
