//! One store per user's mail: the lock in a user's directory on partitions that several hosts can
//! reach.
//!
//! Two kinds. `ofd`: a lock of the kernel on `cursus.owner`, which an NFS server gives back when
//! the host that held it is gone. `dot`: the file `cursus.owner` itself, made by link(2) (atomic
//! on every NFS), renewed as a lease. Both say inside who holds the mail.
//!
//! | case | what happens |
//! |---|---|
//! | held by a live owner | [`Error::InUse`] with host, pid, since when |
//! | `dot`, the same host: its process or its boot is gone | taken over at once |
//! | `dot`, another host: not renewed for [`LEASE`], by the file server's clock | taken over |
//! | an owner finds its lock gone or another's | fenced: refuses changes from then on |
//!
//! Invariant: a taker-over removes only the file that it judged. It renames the lock aside, looks
//! whether that is the file it had read, and puts it back when it is not.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::Partition;
use crate::error::{Error, Result};
use crate::ids::{MailboxId, StoreId};
use crate::io::{Open, Storage, StoredFile};
use crate::layout::create_durable;
use crate::mount::Locks;
use crate::namespace::INBOX;
use crate::shared::Shared;

/// An owner that did not renew its lock for so long is dead.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// How often owners renew a lease.
pub(crate) const RENEW: Duration = Duration::from_secs(10);
/// How often owners look whether a lock of the kernel is still theirs.
const LOOK: Duration = Duration::from_secs(60);
/// Name of the lock in a user's directory.
pub(crate) const OWNER_NAME: &str = "cursus.owner";
/// Longest lock file that is read, bytes.
const CARD_BYTES_MAX: u64 = 4096;
/// Tries to take a lock that changes under us.
const TRIES: usize = 3;

/// Who holds a user's mail: the contents of the lock file, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Host name.
    host: String,
    pid: u32,
    /// When the process started, clock ticks since the boot: a pid alone may be another's by now.
    started: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    boot: String,
    /// The pid namespace, without which a pid says nothing.
    pid_space: String,
    store: String,
    /// The store's owner epoch.
    epoch: u32,
    /// Seconds since 1970, by the holder's clock.
    since: i64,
    renewed: i64,
}

/// Who we are, the same for every lock of a store.
#[derive(Clone, Debug)]
pub(crate) struct Holder(Card);

impl Holder {
    /// This process.
    pub(crate) fn here(store: StoreId, epoch: u32) -> Holder {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let space = std::fs::read_link("/proc/self/ns/pid");
        let pid = std::process::id();
        Holder(Card {
            host,
            pid,
            started: process_start(pid).unwrap_or(0),
            boot: read("/proc/sys/kernel/random/boot_id"),
            pid_space: space.map_or_else(|_| String::new(), |s| s.display().to_string()),
            store: store.to_string(),
            epoch,
            since: 0,
            renewed: 0,
        })
    }

    fn card(&self, since: i64, renewed: i64) -> Card {
        Card { since, renewed, ..self.0.clone() }
    }

    /// Whether the holder of `card` is known to be dead, being of this host.
    fn knows_dead(&self, card: &Card) -> bool {
        if card.host != self.0.host || card.boot.is_empty() {
            return false;
        }
        if card.boot != self.0.boot {
            return true;
        }
        card.pid_space == self.0.pid_space && process_start(card.pid) != Some(card.started)
    }
}

/// Field 22 of `/proc/PID/stat`; `None` when there is no such process.
fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl std::fmt::Display for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use time::OffsetDateTime;
        use time::format_description::well_known::Rfc3339;
        let since = OffsetDateTime::from_unix_timestamp(self.since).ok();
        let since = since.and_then(|since| since.format(&Rfc3339).ok());
        let since = since.as_deref().unwrap_or("an unknown time");
        write!(f, "host {}, pid {}, since {since}", self.host, self.pid)
    }
}

/// The right to change a user's mail on one partition; given back when dropped.
pub(crate) struct Owner {
    storage: Arc<dyn Storage>,
    user: String,
    path: PathBuf,
    kind: Locks,
    holder: Holder,
    since: i64,
    /// The lock file: its descriptor is the lock in the `ofd` kind.
    held: Mutex<Held>,
    lost: AtomicBool,
}

struct Held {
    file: Arc<dyn StoredFile>,
    inode: u64,
    renewed: std::time::Instant,
}

impl Owner {
    /// Takes the lock in a user's directory, which exists.
    pub(crate) fn take(
        storage: &Arc<dyn Storage>,
        user: &str,
        dir: &Path,
        kind: Locks,
        holder: &Holder,
    ) -> Result<Owner> {
        let path = dir.join(OWNER_NAME);
        let since = seconds(&**storage);
        let file = match kind {
            Locks::Dot => take_dot(&**storage, user, &path, holder, since)?,
            Locks::Ofd | Locks::None => take_ofd(&**storage, user, &path, holder, since)?,
        };
        let inode = storage.stat(&path).map_err(Error::io("stat", &path))?.inode;
        let held = Mutex::new(Held { file, inode, renewed: std::time::Instant::now() });
        let (user, lost) = (user.to_owned(), AtomicBool::new(false));
        let (storage, holder) = (storage.clone(), holder.clone());
        Ok(Owner { storage, user, path, kind, holder, since, held, lost })
    }

    /// Fails once the lock is another's.
    pub(crate) fn check(&self) -> Result<()> {
        if self.lost.load(Ordering::Acquire) {
            return Err(Error::InUse {
                user: self.user.clone(),
                holder: read_card(&*self.storage, &self.path)
                    .map_or_else(|| "another host".to_owned(), |card| card.to_string()),
            });
        }
        Ok(())
    }

    /// Says that we still live, when that is due; finds out whether the lock is still ours.
    pub(crate) fn renew(&self) {
        let mut held = self.held.lock();
        let every = if self.kind == Locks::Dot { RENEW } else { LOOK };
        if held.renewed.elapsed() < every || self.lost.load(Ordering::Acquire) {
            return;
        }
        // A lease that ended may have been taken over and given back: its end is the end.
        let ended = self.kind == Locks::Dot && held.renewed.elapsed() >= LEASE;
        let there = self.storage.stat_fresh(&self.path);
        let ours = there.as_ref().is_ok_and(|stat| stat.inode == held.inode);
        let missing = there.as_ref().err().is_some_and(|e| e.kind() == ErrorKind::NotFound);
        let written = if ours && !ended {
            write_card(&*held.file, &self.holder.card(self.since, seconds(&*self.storage)))
        } else {
            Ok(())
        };
        match (there, written) {
            (Ok(_), Ok(())) if ours && !ended => held.renewed = std::time::Instant::now(),
            // The server is away: the lease runs on, and ends.
            (Err(error), _) if !missing && !ended => {
                tracing::warn!(user = self.user, %error, "cannot renew the lock of a user's mail");
            }
            (Ok(_), Err(error)) if !ended && self.kind == Locks::Dot => {
                tracing::warn!(user = self.user, %error, "cannot renew the lock of a user's mail");
            }
            _ => {
                let path = self.path.display();
                tracing::error!(user = self.user, %path, "the lock of a user's mail was lost");
                self.lost.store(true, Ordering::Release);
            }
        }
    }
}

/// The locks that a store holds.
pub(crate) struct Owners {
    holder: Holder,
    /// By user and partition.
    held: Mutex<HashMap<(String, String), Arc<Owner>>>,
    renewing: AtomicBool,
}

impl Owners {
    pub(crate) fn new(store: StoreId, epoch: u32) -> Owners {
        let (holder, renewing) = (Holder::here(store, epoch), AtomicBool::new(false));
        Owners { holder, held: Mutex::default(), renewing }
    }

    /// The right to change a user's mail on a partition, taken at first need; `None` where it
    /// needs no lock. Blocks; under the user's `changes` lock or in recovery.
    pub(crate) fn of(
        &self,
        shared: &Shared,
        partition: &Partition,
        user: &str,
    ) -> Result<Option<Arc<Owner>>> {
        let kind = shared.mount(&partition.name)?.locks;
        if kind == Locks::None {
            return Ok(None);
        }
        let key = (user.to_owned(), partition.name.clone());
        if let Some(owner) = self.held.lock().get(&key).cloned() {
            owner.check()?;
            return Ok(Some(owner));
        }
        let dir = partition.layout.mailbox_dir(&partition.path, user, INBOX)?;
        create_durable(&*shared.storage, &dir).map_err(Error::io("create", &dir))?;
        let owner = Owner::take(&shared.storage, user, &dir, kind, &self.holder);
        let owner = owner.inspect_err(|error| tracing::error!(user, %error, "refused"))?;
        let owner = Arc::new(owner);
        self.held.lock().insert(key, owner.clone());
        Ok(Some(owner))
    }

    /// Renews what is due, on a helper thread: a file server may keep it waiting.
    pub(crate) fn renew(shared: &Arc<Shared>) {
        let owners = &shared.owners;
        if owners.held.lock().is_empty() || owners.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = shared.clone();
        shared.clone().helpers.spawn(move || {
            let held: Vec<_> = shared.owners.held.lock().values().cloned().collect();
            held.iter().for_each(|owner| owner.renew());
            shared.owners.renewing.store(false, Ordering::Release);
        });
    }

    /// Gives all locks back: the store is closed.
    pub(crate) fn release(&self) {
        self.held.lock().clear();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.kind != Locks::Dot || self.lost.load(Ordering::Acquire) {
            return;
        }
        let ours = self.storage.stat_fresh(&self.path);
        if ours.is_ok_and(|stat| stat.inode == self.held.lock().inode) {
            let _ = self.storage.unlink(&self.path);
        }
    }
}

fn seconds(storage: &dyn Storage) -> i64 {
    storage.now_ns() / 1_000_000_000
}

/// Who holds a lock, as far as the file says.
fn read_card(storage: &dyn Storage, path: &Path) -> Option<Card> {
    let file = storage.open(path, Open::Read).ok()?;
    let len = file.size().ok()?.min(CARD_BYTES_MAX) as usize;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn write_card(file: &dyn StoredFile, card: &Card) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(card)?;
    line.push(b'\n');
    // Readers beside us see white space at the worst.
    line.resize(line.len().next_multiple_of(512), b' ');
    file.write_at(&line, 0)?;
    file.sync_data()
}

fn in_use(user: &str, card: Option<&Card>) -> Error {
    let holder = card.map_or_else(|| "another process".to_owned(), Card::to_string);
    Error::InUse { user: user.to_owned(), holder }
}

fn take_ofd(
    storage: &dyn Storage,
    user: &str,
    path: &Path,
    holder: &Holder,
    since: i64,
) -> Result<Arc<dyn StoredFile>> {
    match storage.lock_range(path) {
        Ok(file) => {
            write_card(&*file, &holder.card(since, since)).map_err(Error::io("write", path))?;
            Ok(file)
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            Err(in_use(user, read_card(storage, path).as_ref()))
        }
        Err(e) if e.kind() == ErrorKind::Unsupported => Err(Error::Unsuitable {
            path: path.to_owned(),
            filesystem: "mounted without locks",
            expected: "locks between hosts: mount with them, or set partition.locks = \"dot\"",
        }),
        Err(e) => Err(Error::io("lock", path)(e)),
    }
}

fn take_dot(
    storage: &dyn Storage,
    user: &str,
    path: &Path,
    holder: &Holder,
    since: i64,
) -> Result<Arc<dyn StoredFile>> {
    let mine = path.with_file_name(format!("{OWNER_NAME}.{}", MailboxId::random(storage)));
    let io = |what| Error::io(what, mine.clone());
    let file = storage.open(&mine, Open::CreateNew).map_err(io("create"))?;
    let taken =
        write_card(&*file, &holder.card(since, since)).map_err(io("write")).and_then(|()| {
            for _ in 0..TRIES {
                if linked(storage, &mine, path)? {
                    return Ok(());
                }
                make_way(storage, user, path, &mine, holder)?;
            }
            Err(in_use(user, read_card(storage, path).as_ref()))
        });
    // Closed first: an NFS client would keep a removed file that is open, under another name.
    drop(file);
    let _ = storage.unlink(&mine);
    taken?;
    storage.open(path, Open::Write).map_err(Error::io("open", path))
}

/// Whether `path` is our file. A link that a repeated request reports as existing may be ours.
fn linked(storage: &dyn Storage, mine: &Path, path: &Path) -> Result<bool> {
    match storage.link(mine, path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let inode = |path: &Path| storage.stat_fresh(path).ok().map(|stat| stat.inode);
            let own = inode(mine);
            Ok(own.is_some() && own == inode(path))
        }
        Err(e) => Err(Error::io("link", path)(e)),
    }
}

/// Removes the lock of a dead owner; [`Error::InUse`] where the owner may live.
fn make_way(
    storage: &dyn Storage,
    user: &str,
    path: &Path,
    mine: &Path,
    holder: &Holder,
) -> Result<()> {
    let judged = match storage.stat_fresh(path) {
        Ok(stat) => stat,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("stat", path)(e)),
    };
    let card = read_card(storage, path);
    // Both times are the file server's, so that clocks of hosts need not agree.
    let now = storage.stat_fresh(mine).map_err(Error::io("stat", mine))?.mtime_ns;
    let idle = now.saturating_sub(judged.mtime_ns);
    let expired = i128::from(idle) > LEASE.as_nanos() as i128;
    let dead = card.as_ref().is_some_and(|card| holder.knows_dead(card));
    if !expired && !dead {
        return Err(in_use(user, card.as_ref()));
    }
    let mut aside = mine.as_os_str().to_owned();
    aside.push(".stale");
    let aside = PathBuf::from(aside);
    match storage.rename(path, &aside) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("rename", path)(e)),
    }
    let moved = storage.stat_fresh(&aside).map_err(Error::io("stat", &aside))?;
    if (moved.inode, moved.mtime_ns) != (judged.inode, judged.mtime_ns) {
        // Renewed or taken meanwhile: its owner lives, and gets it back.
        let back = storage.link(&aside, path);
        let _ = storage.unlink(&aside);
        back.map_err(Error::io("link", path))?;
        return Err(in_use(user, read_card(storage, path).as_ref()));
    }
    let _ = storage.unlink(&aside);
    let holder = card.map_or_else(|| "an unknown holder".to_owned(), |card| card.to_string());
    tracing::warn!(user, holder, "took over the lock of a user's mail from a dead owner");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::blocking::Blocking;

    fn place() -> (tempfile::TempDir, Arc<dyn Storage>, Holder) {
        let dir = tempfile::tempdir().unwrap();
        (dir, Arc::new(Blocking::new()), Holder::here(StoreId([7; 16]), 3))
    }

    fn other_host(holder: &Holder) -> Holder {
        let mut other = holder.clone();
        other.0.host = "elsewhere".into();
        other.0.boot = "another boot".into();
        other
    }

    fn age(path: &Path, seconds: i64) {
        let file = std::fs::File::open(path).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(seconds as u64);
        file.set_modified(then).unwrap();
    }

    #[test]
    fn a_second_owner_is_refused_and_told_who_holds_the_mail() {
        for kind in [Locks::Ofd, Locks::Dot] {
            let (dir, storage, holder) = place();
            let first = Owner::take(&storage, "alice", dir.path(), kind, &holder).unwrap();
            let other = other_host(&holder);
            let error = Owner::take(&storage, "alice", dir.path(), kind, &other).err().unwrap();
            let text = error.to_string();
            let pid = format!("pid {}", std::process::id());
            assert!(text.contains(&holder.0.host) && text.contains(&pid), "{kind:?}: {text}");
            assert!(text.contains("alice") && text.contains("since 20"), "{text}");
            drop(first);
            Owner::take(&storage, "alice", dir.path(), kind, &other).unwrap();
        }
    }

    #[test]
    fn a_dead_process_of_this_host_is_followed_at_once_and_a_living_one_is_not() {
        let (dir, storage, holder) = place();
        let mut dead = holder.clone();
        dead.0.started += 1;
        std::mem::forget(Owner::take(&storage, "a", dir.path(), Locks::Dot, &dead).unwrap());
        let taken = Owner::take(&storage, "a", dir.path(), Locks::Dot, &holder).unwrap();
        assert!(Owner::take(&storage, "a", dir.path(), Locks::Dot, &holder).is_err());
        assert!(taken.check().is_ok());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing but the lock stays behind");
    }

    #[test]
    fn another_hosts_lock_is_taken_over_only_after_its_lease() {
        let (dir, storage, holder) = place();
        let other = other_host(&holder);
        let lock = dir.path().join(OWNER_NAME);
        let first = Owner::take(&storage, "a", dir.path(), Locks::Dot, &other).unwrap();
        age(&lock, LEASE.as_secs() as i64 - 5);
        assert!(Owner::take(&storage, "a", dir.path(), Locks::Dot, &holder).is_err());
        age(&lock, LEASE.as_secs() as i64 + 5);
        let second = Owner::take(&storage, "a", dir.path(), Locks::Dot, &holder).unwrap();
        // The first finds out, and leaves the second's lock alone.
        first.held.lock().renewed -= RENEW;
        first.renew();
        let fenced = first.check().unwrap_err().to_string();
        assert!(fenced.contains(&holder.0.host), "{fenced}");
        drop(first);
        assert!(lock.exists() && second.check().is_ok());
    }

    #[test]
    fn an_owner_renews_its_lease_and_stops_when_it_has_run_out() {
        let (dir, storage, holder) = place();
        let owner = Owner::take(&storage, "a", dir.path(), Locks::Dot, &holder).unwrap();
        let lock = dir.path().join(OWNER_NAME);
        age(&lock, 1000);
        owner.held.lock().renewed -= RENEW;
        owner.renew();
        let age = std::fs::metadata(&lock).unwrap().modified().unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(5), "the renewal shows in the file's time: {age:?}");
        owner.held.lock().renewed -= LEASE;
        owner.renew();
        assert!(owner.check().is_err());
    }
}
