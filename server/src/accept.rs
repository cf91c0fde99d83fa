//! The acceptor: takes connections from the listening sockets, refuses those over the limits and
//! hands each of the others to the core with the fewest sessions.
//!
//! One acceptor for all cores, because the kernel's spreading by hash places long sessions badly.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use config::{Listener, Protocol, TlsMode};
use rustix::net::{SocketFlags, sockopt};
use tokio::io::unix::AsyncFd;

use crate::admission::{Refusal, Slot};
use crate::listen::Bound;
use crate::net::Peer;
use crate::services::Shared;
use crate::shard::CoreHandle;

/// How long to wait after the system refused to accept (no descriptor, no memory), so that the
/// loop doesn't spin while sessions end.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long nothing is logged about the same trouble.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Accepted in a row before other tasks get their turn.
const BURST_MAX: usize = 64;

/// A connection on its way to a core.
pub struct Accepted {
    /// The socket; not blocking.
    pub fd: OwnedFd,
    /// The other end.
    pub peer: Peer,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// Its place under the limits.
    pub slot: Slot,
}

/// Accepts from `bound` until the future is dropped.
pub async fn run(bound: Bound, shared: Arc<Shared>, cores: Rc<[CoreHandle]>) {
    // SAFETY: the descriptor belongs to `bound`, which this future owns and drops after `ready`.
    let ready = match unsafe { AsyncFd::register(bound.fd.as_fd()) } {
        Ok(ready) => ready,
        Err(error) => {
            tracing::error!(address = bound.shown, reason = %error, "cannot wait for connections");
            return;
        }
    };
    let mut complained: Option<Instant> = None;
    loop {
        // An error can only mean that the runtime is going away.
        let Ok(mut guard) = ready.readable().await else { return };
        for _ in 0..BURST_MAX {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(&bound.fd, flags) {
                Ok((fd, address)) => {
                    let address = address.and_then(|a| std::net::SocketAddr::try_from(a).ok());
                    let peer = address.map_or(Peer::Unix, Peer::from_addr);
                    hand_over(fd, peer, &bound.listener, &shared, &cores);
                }
                Err(rustix::io::Errno::AGAIN) => {
                    guard.clear_ready();
                    break;
                }
                // The client left again, or the network has trouble: accept(2) says go on.
                Err(e) if is_passing(e) => {}
                Err(error) => {
                    if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
                        complained = Some(Instant::now());
                        tracing::error!(target: "cursus::accept", address = bound.shown,
                            reason = %error, "cannot accept");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn is_passing(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
    )
}

fn hand_over(
    fd: OwnedFd,
    peer: Peer,
    listener: &Arc<Listener>,
    shared: &Shared,
    cores: &[CoreHandle],
) {
    let Some(core) = cores.iter().min_by_key(|c| c.load.load(Ordering::Relaxed)) else { return };
    if peer.ip().is_some() {
        // Answers are written whole, so waiting for more to send only costs time; keepalives find
        // clients that went away during a long IDLE. Both are hints.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        let _ = sockopt::set_socket_keepalive(&fd, true);
    }
    let limits = &shared.config().limits;
    match shared.admission.admit(peer, listener, limits, &core.load) {
        Ok(slot) => core.send(Accepted { fd, peer, listener: listener.clone(), slot }),
        Err(refusal) => refuse(fd, peer, listener, refusal),
    }
}

/// Says why, as far as the socket takes it at once, and closes.
fn refuse(fd: OwnedFd, peer: Peer, listener: &Listener, refusal: Refusal) {
    let protocol = listener.protocol;
    tracing::warn!(target: "cursus::accept", %protocol, addr = %peer, reason = %refusal, "connection refused");
    if listener.tls == TlsMode::Implicit {
        return;
    }
    let text: &[u8] = match protocol {
        Protocol::Imap => b"* BYE [LIMIT] too many connections\r\n",
        Protocol::Pop3 => b"-ERR [SYS/TEMP] too many connections\r\n",
        Protocol::Lmtp => b"421 4.3.2 too many connections\r\n",
        // The client tries again when the connection ends.
        Protocol::Auth => b"",
    };
    // The type only serves to write: a TCP socket takes the same call.
    let _ = UnixStream::from(fd).write(text);
}
