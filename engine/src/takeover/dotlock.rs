//! The old servers' locks: a file with pid and host under a name of its own, linked to the lock's.
//!
//! Courier: `tmp/courier.lock`, of a folder, with `pid host`. Dovecot: `dovecot-uidlist.lock`, with
//! `pid:host`. Neither holds it longer than a listing takes, so one that does not go away was left by a
//! dead process; where the process is one of this host, it is asked for. Our own process's is left
//! over unless a thread of it says that it holds it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::files;
use crate::error::{Error, Result};
use crate::io::Open;
use crate::shared::{Drive, Shared};

/// Courier removes locks of this age; its own are renewed by no one.
const STALE_SECONDS: i64 = 120;
/// How long a lock is waited for at a stop; before, what needs it is done at a later turn.
const WAIT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);

/// A lock held; given back when dropped.
pub(super) struct DotLock {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl DotLock {
    /// Takes a lock; at a stop of the store it waits for whoever has it, else the thread has other
    /// work to do.
    ///
    /// # Errors
    /// [`Error::Locked`] while another has it, at a stop after ten seconds. Nothing is written then.
    pub(super) fn take(shared: &Arc<Shared>, maildir: &Path, path: PathBuf) -> Result<DotLock> {
        let storage = shared.storage.clone();
        let own = maildir.join("tmp").join(shared.stage_name());
        let is_dovecots =
            path.extension() == Some("lock".as_ref()) && path.parent() == Some(maildir);
        let between = if is_dovecots { ':' } else { ' ' };
        let text = format!("{}{between}{}\n", shared.config.process_id, shared.config.hostname);
        let write = || storage.open(&own, Open::CreateNew)?.write_at(text.as_bytes(), 0);
        write().map_err(Error::io("create", &own))?;
        let waits = shared.drive == Drive::Threads && shared.closing.load(Ordering::Acquire);
        let until = Instant::now() + if waits { WAIT } else { Duration::ZERO };
        let taken = loop {
            match storage.link(&own, &path) {
                Ok(()) => break Ok(()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => break Err(Error::io("lock", &path)(e)),
            }
            if is_left_over(shared, &path) {
                tracing::warn!(path = %path.display(), "removing the lock of a process that is gone");
                let _ = storage.unlink(&path);
                continue;
            }
            let now = storage.now_ns() / 1_000_000_000;
            let age = storage.stat_fresh(&path).map(|stat| now - stat.mtime_ns / 1_000_000_000);
            if age.is_ok_and(|age| age > STALE_SECONDS) {
                tracing::warn!(path = %path.display(), "removing the lock of a server that is gone");
                let _ = storage.unlink(&path);
                continue;
            }
            if Instant::now() >= until {
                break Err(Error::Locked(path.clone()));
            }
            std::thread::sleep(RETRY);
        };
        let _ = storage.unlink(&own);
        taken.map(|()| {
            shared.hand_back.held().lock().insert(path.clone());
            DotLock { shared: shared.clone(), path }
        })
    }
}

/// Whether a lock names a process of this host that does not run, or ours, which does not hold it.
fn is_left_over(shared: &Shared, path: &Path) -> bool {
    let Ok(Some(bytes)) = files::read(&*shared.storage, path) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    let Some((pid, host)) = text.trim_end().split_once([' ', ':']) else { return false };
    let Ok(pid) = pid.parse::<u32>() else { return false };
    if host != shared.config.hostname {
        return false;
    }
    if pid == shared.config.process_id {
        return !shared.hand_back.held().lock().contains(path);
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

impl Drop for DotLock {
    fn drop(&mut self) {
        if let Err(error) = self.shared.storage.unlink(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot give a lock back");
        }
        self.shared.hand_back.held().lock().remove(&self.path);
    }
}
