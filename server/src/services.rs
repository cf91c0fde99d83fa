//! What every session on a core can reach: store, accounts, configuration, the word to everybody
//! ([`crate::word`]); and the log lines that all protocols write alike.
//!
//! One [`Services`] per core, in an `Rc`. What cores share is in [`Shared`].
//!
//! Sessions are `async fn run(conn: Conn, services: Rc<Services>)` in `imap`, `pop3` and `lmtp`,
//! spawned with `tokio::task::spawn_local`. They may not block: files go through [`Services::lane`],
//! long computations through the engine's helper pool.
//!
//! Waiting for a command looks like this, in every protocol:
//!
//! ```text
//! tokio::select! {
//!     biased;
//!     () = services.leaving(audience) => { /* say BYE, close */ }
//!     read = tokio::time::timeout(idle, conn.fill()) => { /* 0: the client left */ }
//! }
//! ```

use std::collections::HashSet;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use auth::backends::Chain;
use auth::{Account, Authenticator};
use config::Config;
use engine::io::Lane;
use engine::{Store, User};
use parking_lot::Mutex;
use protocol::types::Uid;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::net::Conn;
use crate::pop3::LoginDelays;
use crate::stalls::{Meter, Stalls};
use crate::telemetry::Telemetry;
use crate::tls::TlsSwitch;
use crate::word::{Audience, Leave, Word};

/// What all cores share.
pub struct Shared {
    /// The mail.
    pub store: Store,
    /// Who may log in, and who exists.
    pub auth: Arc<Authenticator>,
    /// The back ends behind `auth`.
    pub users: Arc<Chain>,
    /// The configuration in use; SIGHUP swaps it.
    config: ArcSwap<Config>,
    /// Certificates in use.
    pub tls: Arc<TlsSwitch>,
    /// Connections, counted.
    pub admission: Arc<Admission>,
    /// Logins and deliveries, counted.
    pub totals: Totals,
    /// When users of POP3 logged in last.
    pub pop3_delays: LoginDelays,
    /// Transcripts of sessions.
    pub(crate) telemetry: Telemetry,
    /// Owners in Courier's shared index whose Maildirs were looked at since the start.
    pub(crate) met: Mutex<HashSet<String>>,
    /// When the process began to serve.
    pub started: Instant,
    hostname: String,
    io_backend: OnceLock<&'static str>,
    stalls: OnceLock<Vec<Arc<Stalls>>>,
    word: watch::Sender<Word>,
}

/// What happened since the start. Only grows.
#[derive(Default)]
pub struct Totals {
    /// Logins that succeeded.
    pub logins: AtomicU64,
    /// Logins that failed.
    pub login_failures: AtomicU64,
    /// Messages stored by LMTP, one for each recipient.
    pub deliveries: AtomicU64,
    /// Deliveries refused or failed, one for each recipient.
    pub delivery_failures: AtomicU64,
}

impl Shared {
    /// Starts with `config`.
    pub fn new(
        config: Config,
        hostname: String,
        store: Store,
        auth: Arc<Authenticator>,
        users: Arc<Chain>,
        tls: Arc<TlsSwitch>,
    ) -> Shared {
        Shared {
            store,
            auth,
            users,
            config: ArcSwap::from_pointee(config),
            tls,
            admission: Arc::default(),
            totals: Totals::default(),
            pop3_delays: LoginDelays::default(),
            telemetry: Telemetry::default(),
            met: Mutex::default(),
            started: Instant::now(),
            hostname,
            stalls: OnceLock::new(),
            io_backend: OnceLock::new(),
            word: watch::Sender::default(),
        }
    }

    /// The configuration now. Hold it for one command at most, so that a reload is seen.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Replaces the configuration; sessions see it with their next command.
    pub fn set_config(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    /// Name in greetings and trace headers. Fixed at start.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// How the cores read files: `ring` or `pool`; empty before they have started.
    pub fn io_backend(&self) -> &'static str {
        self.io_backend.get().copied().unwrap_or("")
    }

    /// Told once by the cores' start: one for each core.
    pub fn set_stalls(&self, stalls: Vec<Arc<Stalls>>) {
        // A second start in one process would keep the first one's.
        let _ = self.stalls.set(stalls);
    }

    /// How long each core kept its sessions waiting.
    pub fn stalls(&self) -> &[Arc<Stalls>] {
        self.stalls.get().map_or(&[], Vec::as_slice)
    }

    /// Notes how a core reads files. The first one speaks for all.
    pub(crate) fn set_io_backend(&self, name: &'static str) {
        let _ = self.io_backend.set(name);
    }

    /// Tells every session to say goodbye. Can't be taken back.
    pub fn drain(&self) {
        self.change_word(|word| word.stopping = true);
    }

    /// Whether [`Shared::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.word.borrow().stopping
    }

    /// Ready once [`Shared::drain`] was called.
    pub async fn draining(&self) {
        let mut receiver = self.word.subscribe();
        // An error means that the sender is gone, and it lives as long as `self`.
        let _ = receiver.wait_for(|word| word.stopping).await;
    }

    /// Sessions hear of it if it is another one then.
    pub(crate) fn change_word(&self, change: impl FnOnce(&mut Word)) {
        self.word.send_if_modified(|word| {
            let before = word.clone();
            change(word);
            *word != before
        });
    }

    /// What is told to each IMAP client behind the greeting.
    pub(crate) fn motd(&self) -> Option<Arc<str>> {
        self.word.borrow().motd()
    }
}

/// What a session on this core can reach.
pub struct Services {
    /// The mail.
    pub store: Store,
    /// Who may log in, and who exists.
    pub auth: Arc<Authenticator>,
    /// This core's way to message files.
    pub lane: Lane,
    /// Measures how long this core's sessions hold it.
    pub meter: Rc<Meter>,
    shared: Arc<Shared>,
}

/// How a login ended, for the log.
#[derive(Clone, Copy, Debug)]
pub struct LoginEvent<'a> {
    /// The name that the client gave; logged escaped.
    pub user: &'a str,
    /// Who acts as that user, if that is somebody else.
    pub by: Option<&'a str>,
    /// `LOGIN`, `USER`, or the SASL mechanism.
    pub mechanism: &'a str,
    /// Why it failed; `None` if it succeeded. Never a password.
    pub failure: Option<&'a str>,
    /// From the last byte of the command to the answer.
    pub duration: Duration,
}

/// How the delivery to one recipient ended, for the log.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryEvent<'a> {
    /// The user; empty if there is no such user.
    pub user: &'a str,
    /// The recipient as given in RCPT TO.
    pub recipient: &'a str,
    /// Where it went; empty if it went nowhere.
    pub mailbox: &'a str,
    /// The message's number there, if it was stored.
    pub uid: Option<Uid>,
    /// Which message of the session, from 1; its Received line has it behind the session's id.
    pub transaction: u64,
    /// The sender as given in MAIL FROM.
    pub sender: &'a str,
    /// The Message-ID header; empty if there is none.
    pub message_id: &'a str,
    /// Size as received.
    pub bytes: u64,
    /// Why it failed; `None` if it was stored.
    pub failure: Option<&'a str>,
    /// From the last byte of the message to the answer.
    pub duration: Duration,
}

impl Services {
    /// For one core.
    pub fn new(shared: Arc<Shared>, lane: Lane, meter: Rc<Meter>) -> Services {
        Services { store: shared.store.clone(), auth: shared.auth.clone(), lane, meter, shared }
    }

    /// The mailboxes of `account`, made with an INBOX at first use, under the account's own limits
    /// or else the configured ones.
    pub async fn open_user(&self, account: &Account) -> Result<User, engine::Error> {
        let config = self.config();
        admin::store::open_user(&self.store, account, &config).await
    }

    /// What all cores share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The configuration now. Hold it for one command at most, so that a reload is seen.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config()
    }

    /// Name in greetings and trace headers.
    pub fn hostname(&self) -> &str {
        self.shared.hostname()
    }

    /// Ready when a session has to end: finish the command, say goodbye, return. Small, as each idle
    /// session has one.
    pub(crate) fn leaving(&self, audience: Audience) -> impl Future<Output = ()> + use<> {
        let mut receiver = self.shared.word.subscribe();
        async move {
            // An error means that the sender is gone, and then there is no server.
            let _ = receiver.wait_for(|word| word.leave(&audience).is_some()).await;
        }
    }

    /// Behind [`Services::leaving`]: why.
    pub(crate) fn why_leave(&self, audience: &Audience) -> Leave {
        self.must_leave(audience).unwrap_or(Leave::Stopping)
    }

    /// Whether a session has to end, for checks between commands of a pipeline.
    pub(crate) fn must_leave(&self, audience: &Audience) -> Option<Leave> {
        self.shared.word.borrow().leave(audience)
    }

    /// Logs and counts a login.
    pub fn log_login(&self, conn: &Conn, event: &LoginEvent<'_>) {
        let totals = &self.shared.totals;
        let LoginEvent { user, by, mechanism, .. } = *event;
        let duration_us = event.duration.as_micros() as u64;
        let (protocol, addr, session) = (conn.protocol(), conn.peer(), conn.id());
        let tls = conn.is_tls();
        match event.failure {
            None => {
                totals.logins.fetch_add(1, Ordering::Relaxed);
                tracing::info!(target: "cursus::login", %protocol, ?user, by, %addr, %session,
                    mechanism, tls, duration_us, "login");
            }
            Some(reason) => {
                totals.login_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(target: "cursus::login", %protocol, ?user, %addr, %session,
                    mechanism, tls, reason, duration_us, "login failed");
            }
        }
    }

    /// Logs and counts the delivery to one recipient.
    pub fn log_delivery(&self, conn: &Conn, event: &DeliveryEvent<'_>) {
        let totals = &self.shared.totals;
        let DeliveryEvent { user, recipient, mailbox, sender, message_id, .. } = *event;
        let DeliveryEvent { uid, transaction, bytes, .. } = *event;
        let uid = uid.map(|uid| uid.0);
        let duration_us = event.duration.as_micros() as u64;
        let (addr, session) = (conn.peer(), conn.id());
        match event.failure {
            None => {
                totals.deliveries.fetch_add(1, Ordering::Relaxed);
                tracing::info!(target: "cursus::delivery", ?user, ?recipient, ?mailbox, uid, ?sender,
                    ?message_id, bytes, %addr, %session, transaction, duration_us, "delivered");
            }
            Some(reason) => {
                totals.delivery_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(target: "cursus::delivery", ?user, ?recipient, ?sender, ?message_id,
                    bytes, %addr, %session, transaction, reason, duration_us, "not delivered");
            }
        }
    }

    /// Logs trouble that the operator should see (a file, the store), in the course of a session.
    pub fn log_error(&self, conn: &Conn, user: Option<&str>, doing: &str, error: &dyn Display) {
        let (protocol, addr, session) = (conn.protocol(), conn.peer(), conn.id());
        tracing::error!(target: "cursus::session", %protocol, ?user, %addr, %session, doing,
            reason = %error, "failed");
    }

    /// Logs what an IMAP client says of itself (RFC 2971), escaped and cut to a sensible length.
    pub fn log_id(&self, conn: &Conn, user: Option<&str>, pairs: &[(String, Option<String>)]) {
        const TEXT_BYTES_MAX: usize = 2048;
        let mut text = String::new();
        for (name, value) in pairs {
            let value = value.as_deref().unwrap_or_default();
            let piece = format!("{}={:?} ", name.escape_debug(), value);
            if text.len() + piece.len() > TEXT_BYTES_MAX {
                break;
            }
            text.push_str(&piece);
        }
        let (protocol, addr, session) = (conn.protocol(), conn.peer(), conn.id());
        tracing::info!(target: "cursus::session", %protocol, ?user, %addr, %session,
            id = text.trim_end(), "client");
    }

    /// Logs the end of a session, at debug level: logins were logged already.
    pub fn log_end(&self, conn: &Conn, user: Option<&str>, reason: &str) {
        let (protocol, addr, session) = (conn.protocol(), conn.peer(), conn.id());
        let (bytes_in, bytes_out) = (conn.bytes_in(), conn.bytes_out());
        let seconds = conn.since().elapsed().as_secs();
        tracing::debug!(target: "cursus::session", %protocol, ?user, %addr, %session, reason,
            bytes_in, bytes_out, seconds, "end");
    }
}
