//! Events of directories that other programs may change, by one inotify instance.
//!
//! Mailboxes with a watching session are here, and large ones that were listed lately: these stay
//! watched for as long as there is room ([`Watches::linger`]), or each opening after a change of
//! ours would list them again, since directory times do not tell who changed what. An event for a name that we made ourselves is
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
/// Bytes of events that somebody reads who does not wait for them; on the stack.
const DRAIN_BYTES: usize = 16 << 10;
/// How often missing names are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Mailboxes that stay watched without a session, at most: two watches each, of the 8,192 and more
/// that kernels give a user.
const LINGERING_MAX: usize = 256;

#[derive(Default)]
struct State {
    inotify: Option<Arc<OwnedFd>>,
    refused: bool,
    /// Whose directory, and whether it is `new/`.
    by_watch: HashMap<i32, (Weak<MailboxInner>, bool)>,
    by_mailbox: HashMap<MailboxId, (Weak<MailboxInner>, Vec<i32>)>,
    /// Those that stay watched without a session.
    lingering: HashMap<MailboxId, Weak<MailboxInner>>,
    /// The system has no watches to spare: those that there are belong to sessions.
    lingering_refused: bool,
}

/// The watched mailboxes of a store.
#[derive(Default)]
pub(crate) struct Watches {
    state: Mutex<State>,
    /// Held while events are read and dealt out, so that they are in the order of their coming.
    reading: Mutex<()>,
}

impl Watches {
    /// Begins to watch; what changed before the watch stood is found by a look at the directory.
    pub(crate) fn add(&self, mailbox: &Arc<MailboxInner>) {
        self.watch(mailbox);
        mailbox.look_after_watch();
    }

    /// Keeps a mailbox watched without a session from before a listing, if events can be had for
    /// it. Under its file lock.
    pub(crate) fn linger(&self, mailbox: &Arc<MailboxInner>) {
        let shared = &mailbox.shared;
        let partition = mailbox.place.read().partition.name.clone();
        let may = mailbox.copy.is_none()
            && !mailbox.deleted.load(Ordering::Acquire)
            && shared.drive == Drive::Threads
            && !shared.closing.load(Ordering::Acquire)
            && shared.mount(&partition).is_ok_and(|mount| mount.events)
            && !self.state.lock().lingering_refused;
        let begun = if may { mailbox.begin_lingering() } else { None };
        let Some(is_first) = begun else { return };
        if is_first {
            self.watch(mailbox);
        }
        self.state.lock().lingering.insert(mailbox.id, Arc::downgrade(mailbox));
        if !self.are_events(mailbox.id) {
            self.state.lock().lingering_refused = true;
            self.unlinger(mailbox);
        }
    }

    /// Ends [`Watches::linger`].
    pub(crate) fn unlinger(&self, mailbox: &Arc<MailboxInner>) {
        if !mailbox.lingers() {
            return;
        }
        // What was told already has to count.
        self.drain();
        self.state.lock().lingering.remove(&mailbox.id);
        if mailbox.end_lingering() {
            self.remove(mailbox);
        }
    }

    /// Lets the least recently used go where too many stay, and forgets those that are gone.
    pub(crate) fn trim(&self) {
        let mut lingering = Vec::new();
        {
            let state: &mut State = &mut self.state.lock();
            let gone: Vec<MailboxId> = state
                .lingering
                .extract_if(|_, m| m.strong_count() == 0)
                .map(|(id, _)| id)
                .collect();
            for id in gone {
                state.forget(id);
            }
            if state.lingering.len() > LINGERING_MAX {
                lingering.extend(state.lingering.values().filter_map(Weak::upgrade));
            }
        }
        lingering.sort_by_key(|mailbox| mailbox.used.load(Ordering::Relaxed));
        let over = lingering.len().saturating_sub(LINGERING_MAX / 8 * 7);
        for mailbox in lingering.iter().take(over) {
            self.unlinger(mailbox);
        }
    }

    /// The store stops: what is known of the directories is to be written down.
    pub(crate) fn stop_lingering(&self) {
        let all: Vec<_> = self.state.lock().lingering.values().filter_map(Weak::upgrade).collect();
        for mailbox in all {
            self.unlinger(&mailbox);
            mailbox.mark_dirty();
        }
    }

    /// Deals out all events that are there by now.
    pub(crate) fn drain(&self) {
        let fd = self.state.lock().inotify.clone();
        if let Some(fd) = fd {
            let mut buffer = [std::mem::MaybeUninit::uninit(); DRAIN_BYTES];
            self.read(&fd, &mut buffer);
        }
    }

    fn watch(&self, mailbox: &Arc<MailboxInner>) {
        let place = mailbox.place.read().clone();
        let dirs = place.partition.layout.watched_dirs(&place.dir);
        if dirs.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let mut watches = Vec::new();
        // What comes to a copy's original is told by nobody: both are polled.
        let events = mailbox.copy.is_none()
            && mailbox.shared.mount(&place.partition.name).is_ok_and(|m| m.events);
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
    }

    /// Stops watching.
    pub(crate) fn remove(&self, mailbox: &Arc<MailboxInner>) {
        let Some(events) = self.state.lock().forget(mailbox.id) else { return };
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

    /// Reads events until there are none.
    fn read(&self, fd: &OwnedFd, buffer: &mut [std::mem::MaybeUninit<u8>]) {
        let _reading = self.reading.lock();
        let mut reader = inotify::Reader::new(fd, buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => self.overflow(),
                Ok(event) => {
                    if let Some(name) = event.file_name() {
                        let came =
                            event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                        self.event(event.wd(), came, name.to_bytes());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "inotify read failed");
                    return;
                }
            }
        }
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
            // Where no session watches, the next one that comes sees to it.
            if !mailbox.only_lingers() {
                mailbox.ask_rescan();
            }
        }
    }
}

impl State {
    /// Drops the watches of a mailbox; tells whether it had any, if it was here.
    fn forget(&mut self, id: MailboxId) -> Option<bool> {
        let (_, watches) = self.by_mailbox.remove(&id)?;
        for watch in &watches {
            self.by_watch.remove(watch);
            if let Some(fd) = &self.inotify {
                // Fails when the directory is gone, and the watch with it.
                let _ = inotify::remove_watch(fd, *watch);
            }
        }
        Some(!watches.is_empty())
    }

    /// The inotify instance, made with its reader at first use.
    fn instance(&mut self, shared: &Arc<Shared>) -> Option<Arc<OwnedFd>> {
        if self.inotify.is_none() && !self.refused {
            match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
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
        shared.watches.read(fd, &mut buffer);
    }
}
