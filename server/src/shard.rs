//! A core: one thread with a runtime, a lane to the files, and the sessions placed there.
//!
//! Sessions never move. The runtime is tokio-uring's (tokio's current-thread one over a ring);
//! message files go through the lane's own ring, see `engine::io::uring` for why. Where the kernel
//! refuses rings the same code runs on plain tokio with helper threads for files.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use config::{IoChoice, Protocol, TlsMode};
use engine::io::Lane;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::LocalSet;

use crate::accept::Accepted;
use crate::net::{BufferPool, BusyPoll, Conn, DeflatePool, NetCore, Peer, Socket, polling_cores};
use crate::services::{Services, Shared};
use crate::stalls::{self, Meter, Stalls};

/// The acceptor's end of a core.
pub struct CoreHandle {
    /// Sessions on the core.
    pub load: Arc<AtomicUsize>,
    sender: mpsc::UnboundedSender<Accepted>,
}

impl CoreHandle {
    /// Gives the core a connection. If the core is gone, the connection is closed.
    pub fn send(&self, accepted: Accepted) {
        let _ = self.sender.send(accepted);
    }
}

/// What a core runs with.
pub struct CoreSetup {
    /// What all cores share.
    pub shared: Arc<Shared>,
    /// How files are read and written.
    pub io: IoChoice,
}

/// A running core. Once its handle is gone it ends, cutting the sessions that are left.
pub struct Core {
    thread: JoinHandle<()>,
}

impl Core {
    /// Waits for the end of the thread.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a core ended by a panic");
        }
    }
}

/// Starts `count` cores and returns once each has said how it reads files.
///
/// # Errors
/// If a thread or its runtime can't be made, or `io = "uring"` and the kernel refuses a ring.
pub fn start(count: usize, setup: CoreSetup) -> std::io::Result<(Vec<CoreHandle>, Vec<Core>)> {
    let setup = Arc::new(setup);
    let mut handles = Vec::new();
    let mut cores = Vec::new();
    let mut reports = Vec::new();
    let mut stalls = Vec::new();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let polling = polling_cores(processors);
    for index in 0..count {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (report, reported) = oneshot::channel();
        let setup = setup.clone();
        let polling = polling.clone();
        let met = Arc::new(Stalls::default());
        stalls.push(met.clone());
        let thread = std::thread::Builder::new()
            .name(format!("core-{index}"))
            .spawn(move || run(&setup, polling, receiver, report, met))?;
        handles.push(CoreHandle { load: Arc::new(AtomicUsize::new(0)), sender });
        cores.push(Core { thread });
        reports.push(reported);
    }
    setup.shared.set_stalls(stalls);
    let mut refused = None;
    for report in reports {
        match report.blocking_recv() {
            Ok(Ok(lane)) => {
                setup.shared.set_io_backend(lane.backend);
                refused = refused.or(lane.ring_refused);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(std::io::Error::other("a core ended while starting")),
        }
    }
    match (setup.io, refused) {
        (IoChoice::Uring, Some(error)) => {
            let reason = format!("server.io is \"uring\" and the kernel refuses io_uring: {error}");
            return Err(std::io::Error::new(error.kind(), reason));
        }
        (IoChoice::Blocking, _) => {
            tracing::info!(
                "io_uring not used, files go through helper threads: server.io = \"blocking\""
            );
        }
        (_, Some(error)) => {
            tracing::warn!("io_uring not used, files go through helper threads: refused: {error}");
        }
        (_, None) => {}
    }
    Ok((handles, cores))
}

/// How a core reads files.
struct LaneReport {
    backend: &'static str,
    ring_refused: Option<std::io::Error>,
}

/// What runs a core's sessions.
enum CoreRuntime {
    Ring(tokio_uring::Runtime),
    Plain(tokio::runtime::Runtime, LocalSet),
}

impl CoreRuntime {
    /// The ring's runtime, or the plain one where rings are not wanted or refused. That files
    /// then go without a ring too is found, and said, by [`open_lane`].
    fn new(io: IoChoice) -> std::io::Result<CoreRuntime> {
        if io != IoChoice::Blocking
            && let Ok(runtime) = tokio_uring::Runtime::new(&tokio_uring::builder())
        {
            return Ok(CoreRuntime::Ring(runtime));
        }
        let plain = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(CoreRuntime::Plain(plain, LocalSet::new()))
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            CoreRuntime::Ring(runtime) => runtime.block_on(future),
            CoreRuntime::Plain(runtime, local) => local.block_on(runtime, future),
        }
    }
}

fn open_lane(setup: &CoreSetup) -> (Lane, LaneReport) {
    let helpers = setup.shared.store.helpers().clone();
    let (lane, ring_refused) = match setup.io {
        IoChoice::Blocking => (Lane::pool(helpers), None),
        IoChoice::Auto | IoChoice::Uring => match Lane::ring(helpers.clone()) {
            Ok(lane) => (lane, None),
            Err(error) => (Lane::pool(helpers), Some(error)),
        },
    };
    let backend = lane.backend_name();
    (lane, LaneReport { backend, ring_refused })
}

fn run(
    setup: &CoreSetup,
    polling: Arc<Semaphore>,
    mut receiver: mpsc::UnboundedReceiver<Accepted>,
    report: oneshot::Sender<std::io::Result<LaneReport>>,
    stalls: Arc<Stalls>,
) {
    let runtime = match CoreRuntime::new(setup.io) {
        Ok(runtime) => runtime,
        Err(error) => {
            // If nobody listens, the start has failed already.
            let _ = report.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let (lane, lane_report) = open_lane(setup);
        let _ = report.send(Ok(lane_report));
        let meter = Rc::new(Meter::new(stalls.clone()));
        tokio::task::spawn_local(async move { stalls::probe(&stalls).await });
        let shared = &setup.shared;
        let window = Duration::from_micros(shared.config().server.busy_poll_us_max);
        let busy_poll = Rc::new(BusyPoll::new(window, polling));
        let net = Rc::new(NetCore {
            pool: BufferPool::new(),
            deflate: DeflatePool::default(),
            busy_poll: busy_poll.clone(),
            tls: shared.tls.clone(),
        });
        tokio::task::spawn_local(async move { busy_poll.run().await });
        let services = Rc::new(Services::new(shared.clone(), lane, meter));
        while let Some(accepted) = receiver.recv().await {
            serve(accepted, &net, &services);
        }
    });
}

fn serve(accepted: Accepted, net: &Rc<NetCore>, services: &Rc<Services>) {
    let Accepted { fd, peer, listener, slot } = accepted;
    let socket = match register(fd, peer) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(addr = %peer, reason = %error, "cannot use an accepted connection");
            return;
        }
    };
    let limits = &services.config().limits;
    let conn = Conn::new(socket, peer, listener.clone(), limits, net.clone(), Some(slot));
    let services = services.clone();
    if listener.tls == TlsMode::Implicit {
        let meter = services.meter.clone();
        tokio::task::spawn_local(meter.measured("TLS handshake", async move {
            let mut conn = conn;
            match conn.start_tls().await {
                Ok(()) => start_session(conn, services),
                Err(error) => {
                    let (protocol, addr, session) = (conn.protocol(), conn.peer(), conn.id());
                    tracing::info!(target: "cursus::session", %protocol, %addr, %session, reason = %error,
                        "TLS handshake failed");
                }
            }
        }));
    } else {
        start_session(conn, services);
    }
}

/// A task of its own for the session, so that it isn't burdened with the handshake's memory.
fn start_session(conn: Conn, services: Rc<Services>) {
    use tokio::task::spawn_local;
    let meter = services.meter.clone();
    match conn.protocol() {
        Protocol::Imap => {
            drop(spawn_local(meter.measured("IMAP", crate::imap::run(conn, services))));
        }
        Protocol::Pop3 => {
            drop(spawn_local(meter.measured("POP3", crate::pop3::run(conn, services))));
        }
        Protocol::Lmtp => {
            drop(spawn_local(meter.measured("LMTP", crate::lmtp::run(conn, services))));
        }
        Protocol::Auth => {
            drop(spawn_local(meter.measured("AUTH", crate::auth_socket::run(conn, services))));
        }
    }
}

fn register(fd: OwnedFd, peer: Peer) -> std::io::Result<Socket> {
    Ok(match peer {
        Peer::Ip(_) => Socket::Tcp(TcpStream::from_std(fd.into())?),
        Peer::Unix => Socket::Unix(UnixStream::from_std(fd.into())?),
    })
}

impl CoreHandle {
    /// Sessions on the core now.
    pub fn sessions(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stalls::Measured;

    /// What the task of a session holds, with what measures its turns.
    fn task_bytes<F: Future>(_: impl Fn(Conn, Rc<Services>) -> F) -> usize {
        size_of::<Measured<F>>()
    }

    /// A session holds this from its greeting to its end, mostly idle. What is rare belongs into a
    /// box, and so does the future of every command.
    #[test]
    fn a_session_holds_little_memory() {
        for (protocol, bytes, bytes_max) in [
            ("IMAP", task_bytes(crate::imap::run), 1440),
            ("POP3", task_bytes(crate::pop3::run), 1040),
            ("LMTP", task_bytes(crate::lmtp::run), 1040),
        ] {
            assert!(bytes <= bytes_max, "{protocol}: {bytes} bytes, more than {bytes_max}");
        }
    }
}
