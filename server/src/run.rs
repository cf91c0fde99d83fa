//! The life of the process: start in order, serve, reload, drain, stop.
//!
//! Order of the start: sockets first, so that a mistake there costs no recovery and clients queue
//! meanwhile; then certificates, store (which recovers) and accounts, cores; only then is anything
//! accepted. Order of the stop: no more accepts, sessions say goodbye, cores end, the store takes
//! its last checkpoint and leaves an empty log.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::Operator;
use admin::accounts::{self, StoreOwners};
use admin::store::OpenError;
use admin::unfinished::Opener;
use auth::deny::DenyList;
use auth::introspection::{Endpoint, Introspection};
use auth::token::{Claims, LocalTokens, Refusal, TokenCheck};
use auth::{Authenticator, LoginDomains, Settings, UserName};
use config::Config;
use engine::io::Lane;
use engine::io::blocking::Blocking;
use engine::{Drive, Store};
use inherit::{Disk, Sources};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use crate::admin_socket::{Office, ReloadRequest};
use crate::first_start::{self, FirstUser};
use crate::listen::{self, Bound, Passed};
use crate::reload;
use crate::services::Shared;
use crate::shard::{self, Core, CoreHandle, CoreSetup};
use crate::tls::TlsSwitch;

/// How often the end of the sessions is looked for while stopping.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Why the server didn't start, or didn't stop well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system refused something.
    #[error("{doing}: {source}")]
    System {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A socket.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// The store.
    #[error("store in {}: {source}", state_dir.display())]
    Store {
        /// Where.
        state_dir: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The store at its end.
    #[error("closing the store: {0}")]
    Close(engine::Error),
    /// Where users are.
    #[error(transparent)]
    Users(#[from] accounts::AccountsError),
    /// The first user.
    #[error("{key}: {reason}")]
    Auth {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The first user.
    #[error(transparent)]
    FirstStart(#[from] first_start::FirstStartError),
}

fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { doing: doing.into(), source }
}

/// Runs a server until it is told to stop. `sources` are read again on SIGHUP; without any, it is
/// the embedded default.
pub fn run(config: Config, sources: Sources) -> Result<(), RunError> {
    let begun = Instant::now();
    crate::memory::tune();
    // Nothing that we make is for others, unless a mode says so.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_descriptor_limit();
    // Beside all that follows; only a handshake has to wait for it.
    let prepare = std::thread::Builder::new().name("cursus-seed".to_owned());
    prepare.spawn(crate::tls::prepare).map_err(system("start a thread"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the main thread's runtime"))?;
    // Before anybody can see a socket of ours and send a signal: unheard, it would end us.
    let signals = {
        let _context = runtime.enter();
        Signals::new().map_err(system("wait for signals"))?
    };
    make_dir(&config.state_dir)?;
    admin::store::check(&config, Opener::Any)
        .map_err(|source| RunError::Store { state_dir: config.state_dir.clone(), source })?;
    let (bound, admin_socket) = bind_all(&config)?;
    let tls = Arc::new(TlsSwitch::new(&config)?);
    let first = match sources.is_empty() {
        true => first_start::make_first_user(&config.users_file())?,
        false => None,
    };
    if sources.inherits() {
        first_start::begin_users_file(&config.users_file())?;
    }
    let hostname = hostname(&config);
    let users = Arc::new(accounts::open(&config)?);
    let settings = auth_settings(&config, &hostname)?;
    let passwords = crate::learn::passwords(&config, &users)
        .map_err(|reason| RunError::Auth { key: "auth.learn", reason })?;
    let auth = Authenticator::start(passwords, users.clone(), settings);
    let auth = auth.map_err(system("start the hashing threads"))?;
    let store = open_store(&config, &hostname)?;
    users.set_owners(Arc::new(StoreOwners(store.clone())));
    let (io, cores) = (config.server.io, core_count(&config));
    let shared = Arc::new(Shared::new(config, hostname, store.clone(), auth, users, tls));
    let setup = CoreSetup { shared: shared.clone(), io };
    let at_end = shared.clone();
    let (handles, cores) = shard::start(cores, setup).map_err(system("start the cores"))?;
    let server = Server { shared, sources, first, begun };
    LocalSet::new().block_on(&runtime, server.serve(signals, bound, admin_socket, handles));
    stop(cores, &store, &at_end)
}

/// Ends the cores, then the store.
fn stop(cores: Vec<Core>, store: &Store, shared: &Shared) -> Result<(), RunError> {
    cores.into_iter().for_each(Core::join);
    shared.telemetry.finish();
    store.close().map_err(RunError::Close)?;
    tracing::info!(target: "cursus", "stopped");
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), RunError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(system(format!("make {}", path.display())))
}

fn open_store(config: &Config, hostname: &str) -> Result<Store, RunError> {
    let storage = Arc::new(Blocking::new());
    admin::store::open(config, hostname, storage, Drive::Threads, Opener::Any)
        .map_err(|source| RunError::Store { state_dir: config.state_dir.clone(), source })
}

fn bind_all(config: &Config) -> Result<(Vec<Bound>, AdminSocket), RunError> {
    let mut passed = Passed::take().map_err(system("take sockets from systemd"))?;
    let mut bound = Vec::new();
    for listener in &config.listener {
        bound.extend(listen::bind(listener, &mut passed)?);
    }
    for name in passed.unused() {
        tracing::warn!(name, "systemd passed a socket that no listener names");
    }
    let path = config.admin_socket();
    let fd = listen::bind_unix(&path, 0o600)
        .map_err(system(format!("listen on admin socket {}", path.display())))?;
    Ok((bound, AdminSocket { fd, path }))
}

struct AdminSocket {
    fd: std::os::fd::OwnedFd,
    path: PathBuf,
}

fn hostname(config: &Config) -> String {
    match config.server.hostname.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        name => name.to_owned(),
    }
}

fn core_count(config: &Config) -> usize {
    match config.server.cores {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// What the file says about logins.
///
/// # Errors
/// A name that is none, or token keys that can't be read.
pub fn auth_settings(config: &Config, hostname: &str) -> Result<Settings, RunError> {
    let auth = &config.auth;
    let anonymous_user =
        match auth.anonymous_user.as_str() {
            "" => None,
            name => Some(UserName::new(name).map_err(|e| RunError::Auth {
                key: "auth.anonymous_user",
                reason: e.to_string(),
            })?),
        };
    let deny = DenyList::open(config.deny_file());
    let deny = deny.map_err(|e| RunError::Auth { key: "auth.deny_file", reason: e.to_string() })?;
    Ok(Settings {
        hash_threads: auth.hash_threads,
        hash_queue_max: auth.hash_queue_max,
        hash_queue_per_address_max: auth.hash_queue_per_address_max,
        remember: Duration::from_secs(auth.remember_seconds),
        failure_delay_first: Duration::from_secs(auth.failure_delay_first_seconds),
        failure_delay_max: Duration::from_secs(auth.failure_delay_seconds_max),
        failures_per_address_max: auth.failures_per_address_max,
        failure_window: Duration::from_secs(auth.failure_window_seconds),
        realm: match auth.realm.as_str() {
            "" => hostname.to_owned(),
            realm => realm.to_owned(),
        },
        master_separator: auth.master_separator.chars().next(),
        domains: LoginDomains {
            default: auth.default_domain.clone(),
            bare: auth.bare_domain.clone(),
        },
        anonymous_user,
        deny: Some(Arc::new(deny)),
        tokens: token_check(&auth.oauth)?,
        token_refusal: Refusal {
            scope: auth.oauth.scope.clone(),
            openid_configuration: auth.oauth.openid_configuration.clone(),
        },
    })
}

fn token_check(oauth: &config::OAuth) -> Result<Option<Arc<dyn TokenCheck>>, RunError> {
    let bad = |key| move |reason| RunError::Auth { key, reason };
    let claims = Claims {
        issuer: oauth.issuer.clone(),
        audience: oauth.audience.clone(),
        user_claim: oauth.user_claim.clone(),
        scope: oauth.scope.clone(),
    };
    if let Some(keys) = &oauth.keys {
        let tokens = LocalTokens::open(keys, claims).map_err(bad("auth.oauth.keys"))?;
        return Ok(Some(Arc::new(tokens)));
    }
    if oauth.introspection.is_empty() {
        return Ok(None);
    }
    let expected = "expected unix:/path, or http:// with a loopback address and a path";
    let endpoint = Endpoint::parse(&oauth.introspection)
        .ok_or_else(|| bad("auth.oauth.introspection")(expected.to_owned()))?;
    let secret = match &oauth.client_secret_file {
        None => String::new(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|e| format!("{}: {e}", file.display()))
            .map_err(bad("auth.oauth.client_secret_file"))?,
    };
    let asker = Introspection::new(endpoint, &oauth.client_id, secret.trim_end(), claims);
    Ok(Some(Arc::new(asker)))
}

/// As many descriptors as the system lets us have: a connection each, and files.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(reason = %error, "cannot raise the limit of open descriptors");
        }
    }
}

/// Tells systemd, if it listens; it not listening is no trouble.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(reason = %error, "cannot notify systemd");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Event::Stop("SIGINT"),
            _ = self.hangup.recv() => Event::Hangup,
        }
    }
}

enum Event {
    Stop(&'static str),
    Hangup,
    Asked(ReloadRequest),
}

struct Server {
    shared: Arc<Shared>,
    sources: Sources,
    first: Option<FirstUser>,
    begun: Instant,
}

impl Server {
    async fn serve(
        mut self,
        mut signals: Signals,
        bound: Vec<Bound>,
        admin_socket: AdminSocket,
        handles: Vec<CoreHandle>,
    ) {
        let (ask, mut asked) = mpsc::channel(1);
        let lane = Lane::pool(self.shared.store.helpers().clone());
        self.welcome(&lane).await;
        let shown: Vec<_> = bound.iter().map(|b| (b.listener.clone(), b.shown.clone())).collect();
        // A core runs as long as its handle lives: these outlive the acceptors, for the sessions.
        let handles: Rc<[CoreHandle]> = handles.into();
        let acceptors = self.accept(bound, &handles);
        let office = self.office(lane, ask);
        let admin = tokio::task::spawn_local(crate::admin_socket::run(admin_socket.fd, office));
        let housekeeping =
            tokio::task::spawn_local(crate::trash::keep_emptying(self.shared.clone()));
        let word = tokio::task::spawn_local(crate::word::keep_looking(self.shared.clone()));
        self.announce(&shown);
        if let Some(first) = &mut self.first {
            first.shown();
        }
        loop {
            let event = tokio::select! {
                event = signals.next() => event,
                Some(answer) = asked.recv() => Event::Asked(answer),
            };
            match event {
                Event::Stop(name) => {
                    self.drain(name, &mut signals, acceptors).await;
                    break;
                }
                Event::Hangup => drop(self.reload()),
                // The asker may have gone.
                Event::Asked(answer) => drop(answer.send(self.reload())),
            }
        }
        admin.abort();
        housekeeping.abort();
        word.abort();
        // Others may have removed it.
        let _ = std::fs::remove_file(&admin_socket.path);
    }

    async fn welcome(&self, lane: &Lane) {
        let Some(first) = &self.first else { return };
        if let Err(error) = first_start::welcome(&self.shared, lane, &first.name).await {
            tracing::error!(reason = %error, "no welcome message");
        }
    }

    fn accept(&self, bound: Vec<Bound>, handles: &Rc<[CoreHandle]>) -> Vec<JoinHandle<()>> {
        let start = |bound| {
            let accept = crate::accept::run(bound, self.shared.clone(), handles.clone());
            tokio::task::spawn_local(accept)
        };
        bound.into_iter().map(start).collect()
    }

    fn office(&self, lane: Lane, reload: mpsc::Sender<ReloadRequest>) -> Rc<Office> {
        let shared = self.shared.clone();
        let operator = Operator {
            store: shared.store.clone(),
            lane,
            users: shared.users.clone(),
            config: shared.config(),
            backup: Default::default(),
            turns: Default::default(),
        };
        Rc::new(Office { shared, operator, reload })
    }

    fn announce(&self, shown: &[(Arc<config::Listener>, String)]) {
        for (listener, address) in shown {
            let protocol = listener.protocol;
            tracing::info!(target: "cursus", %protocol, address, tls = ?listener.tls, "listening");
        }
        let io = self.shared.io_backend();
        let duration_us = self.begun.elapsed().as_micros() as u64;
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(target: "cursus", version, io, duration_us, "ready");
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        if self.sources.is_empty() {
            crate::banner::print(&self.shared.config(), self.first.as_ref());
        }
    }

    /// Reads the configuration, the certificates and the users again.
    fn reload(&self) -> Result<(), String> {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        let done = self.reload_quietly();
        match &done {
            Ok(()) => tracing::info!(target: "cursus", "reloaded"),
            Err(reason) => {
                tracing::error!(target: "cursus", reason, "not reloaded, old settings stay");
            }
        }
        notify(&[NotifyState::Ready]);
        done
    }

    fn reload_quietly(&self) -> Result<(), String> {
        let running = self.shared.config();
        let file = match self.sources.is_empty() {
            true => Config::clone(&running),
            false => {
                let read = self.sources.read(&Disk).map_err(|e| e.to_string())?;
                crate::logging::remarks(&read.remarks);
                read.loaded.config
            }
        };
        let reloaded = reload::join(&running, &file);
        self.shared.tls.reload(&reloaded.config).map_err(|e| e.to_string())?;
        self.shared.set_config(reloaded.config);
        for key in reloaded.restart_needed {
            tracing::warn!(target: "cursus", key, "changed in the file, takes a restart");
        }
        self.shared.users.reload()?;
        Ok(())
    }

    async fn drain(&self, why: &str, signals: &mut Signals, acceptors: Vec<JoinHandle<()>>) {
        let deadline = Duration::from_secs(self.shared.config().server.drain_seconds_max);
        notify(&[NotifyState::Stopping, NotifyState::Status("waiting for sessions to end")]);
        let sessions = self.shared.admission.total();
        tracing::info!(target: "cursus", signal = why, sessions, "stopping");
        for acceptor in &acceptors {
            acceptor.abort();
        }
        for acceptor in acceptors {
            // Cancelled; its socket is closed once it is done.
            let _ = acceptor.await;
        }
        self.shared.drain();
        let quiet = async {
            while self.shared.admission.total() > 0 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        let asked_again = async { while !matches!(signals.next().await, Event::Stop(_)) {} };
        let reason = tokio::select! {
            _ = quiet => return,
            _ = tokio::time::sleep(deadline) => "server.drain_seconds_max is over",
            _ = asked_again => "asked to stop twice",
        };
        let left = self.shared.admission.total();
        tracing::warn!(target: "cursus", left, reason, "sessions cut");
    }
}
