//! The operator's socket: JSON lines over a unix socket with mode 0600.
//!
//! Requests and answers are in crate `admin`; here they are read and written, and what only a
//! server can do is done. Runs on the main thread, so that a busy core doesn't delay an operator.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use admin::Operator;
use admin::wire::{
    Answer, AnswerLine, CoreStalls, Failure, FailureCode, REQUEST_BYTES_MAX, Reply, Request,
    RequestLine, Sessions, Status, Totals, VERSION,
};
use config::Protocol;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::services::Shared;
use crate::stalls::Stalls;

/// Connections served at one time; more wait.
const CONNECTIONS_MAX: usize = 64;

/// What the socket's tasks share.
pub struct Office {
    /// What the cores share.
    pub shared: Arc<Shared>,
    /// Does what needs only the store.
    pub operator: Operator,
    /// Asks the main loop for a reload, as SIGHUP does; the answer says what came of it.
    pub reload: mpsc::Sender<ReloadRequest>,
}

/// A reload asked for on the socket; the answer goes back on the channel.
pub type ReloadRequest = tokio::sync::oneshot::Sender<Result<(), String>>;

/// Serves the socket until the future is dropped. Call within a `LocalSet`.
pub async fn run(socket: OwnedFd, office: Rc<Office>) {
    let listener = match UnixListener::from_std(socket.into()) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(reason = %error, "admin socket can't be served");
            return;
        }
    };
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Closed never happens: nobody closes the semaphore.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let office = office.clone();
                tokio::task::spawn_local(async move {
                    let _place = place;
                    if let Err(error) = converse(stream, &office).await {
                        tracing::debug!(reason = %error, "admin connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::error!(reason = %error, "admin socket: cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, office: &Office) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut read).take(REQUEST_BYTES_MAX as u64);
        if limited.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let answer = match parse(&line, whole) {
            Ok(Request::Read { user, mailbox, uids }) => {
                match office.operator.bodies(&user, &mailbox, &uids).await {
                    Ok(bodies) => {
                        write.write_all(&answer_line(Answer::Ok(bodies.reply()))?).await?;
                        bodies.write(&mut write).await?;
                        continue;
                    }
                    Err(failure) => Err(failure),
                }
            }
            Ok(request) => office.perform(request, &mut read).await,
            Err(failure) => Err(failure),
        };
        let answer = answer.map_or_else(Answer::Error, Answer::Ok);
        write.write_all(&answer_line(answer)?).await?;
        if !whole {
            // Where the next request begins can't be known.
            return Ok(());
        }
    }
}

fn answer_line(answer: Answer) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&AnswerLine { v: VERSION, answer })?;
    text.push(b'\n');
    Ok(text)
}

fn parse(line: &[u8], whole: bool) -> Result<Request, Failure> {
    if !whole {
        let message = format!("expected a line of at most {REQUEST_BYTES_MAX} bytes");
        return Err(Failure::new(FailureCode::BadRequest, message));
    }
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    let bad = |e: serde_json::Error| {
        let message = format!("expected {{\"v\":{VERSION},\"request\":{{\"op\":…}}}}: {e}");
        Failure::new(FailureCode::BadRequest, message)
    };
    // The version first: a later one may have requests that can't be read here.
    let version: Version = serde_json::from_slice(line).map_err(bad)?;
    if version.v != VERSION {
        let message = format!("request has version {}, expected {VERSION}", version.v);
        return Err(Failure::new(FailureCode::Version, message));
    }
    let line: RequestLine = serde_json::from_slice(line).map_err(bad)?;
    Ok(line.request)
}

impl Office {
    async fn perform(
        &self,
        request: Request,
        body: &mut (dyn tokio::io::AsyncRead + Unpin),
    ) -> Result<Reply, Failure> {
        match request {
            Request::Status => Ok(Reply::Status(Box::new(self.status()))),
            Request::ReloadUsers => self.reload_users().await,
            Request::Reload => {
                let (answer, answered) = tokio::sync::oneshot::channel();
                let stopping = || Failure::new(FailureCode::Temporary, "the server is stopping");
                self.reload.send(answer).await.map_err(|_| stopping())?;
                let done = answered.await.map_err(|_| stopping())?;
                done.map_err(|why| Failure::new(FailureCode::BadRequest, why))?;
                Ok(Reply::Done)
            }
            other => self.operator.perform(other, body).await,
        }
    }

    async fn reload_users(&self) -> Result<Reply, Failure> {
        let users = self.shared.users.clone();
        let read = {
            let users = users.clone();
            self.shared.store.helpers().run(move || users.reload()).await
        };
        let temporary =
            |e: &dyn std::fmt::Display| Failure::new(FailureCode::Temporary, e.to_string());
        read.map_err(|e| temporary(&e))?.map_err(|e| temporary(&e))?;
        let (mut count, mut problems) = (0, Vec::new());
        for backend in users.backends().filter(|backend| !backend.is_asked()) {
            let listing = backend.list().await.map_err(|e| temporary(&e))?;
            count += listing.users.len() as u64;
            problems.extend(listing.problems);
        }
        Ok(Reply::Users { count, problems })
    }

    fn status(&self) -> Status {
        let shared = &self.shared;
        let count = |protocol| shared.admission.count(protocol) as u64;
        let totals = &shared.totals;
        Status {
            running: true,
            uptime_seconds: shared.started.elapsed().as_secs(),
            io: shared.io_backend().to_owned(),
            draining: shared.is_draining(),
            sessions: Sessions {
                imap: count(Protocol::Imap),
                pop3: count(Protocol::Pop3),
                lmtp: count(Protocol::Lmtp),
            },
            totals: Totals {
                logins: totals.logins.load(Ordering::Relaxed),
                login_failures: totals.login_failures.load(Ordering::Relaxed),
                deliveries: totals.deliveries.load(Ordering::Relaxed),
                delivery_failures: totals.delivery_failures.load(Ordering::Relaxed),
            },
            stalls: shared.stalls().iter().map(|stalls| stalls_of(stalls)).collect(),
            ..self.operator.status()
        }
    }
}

fn stalls_of(stalls: &Stalls) -> CoreStalls {
    CoreStalls {
        late_us: stalls.late.buckets(),
        busy_us: stalls.busy.buckets(),
        turns_us: stalls.turns.buckets(),
        turns_own_us: stalls.turns_own.buckets(),
        turns_busy_us: stalls.turns_busy.buckets(),
    }
}
