//! A server without sockets, for scripted sessions: a store of its own, accounts, and one end of a
//! socket pair for each session.

pub(crate) mod gate;
pub(crate) mod imap;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use admin::unfinished::Opener;
use auth::backends::Chain;
use auth::users::NewUser;
use auth::{Authenticator, Settings, UserFile, UserName};
use config::{
    Config, LayoutKind, Limits, Listener, ListenerAddress, PlainLogin, Protocol, TlsMode,
};
use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::{Drive, Mailbox, User};
use protocol::types::SeqNum;
use server::net::{BufferPool, Conn, DeflatePool, NetCore, Peer, Socket};
use server::services::{Services, Shared};
use server::stalls::Meter;
use server::tls::TlsSwitch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::LocalSet;

/// The password of every user.
pub(crate) const PASSWORD: &str = "geheim";

/// A server of its own.
pub(crate) struct Site {
    pub(crate) services: Rc<Services>,
    net: Rc<NetCore>,
    listener: RefCell<Listener>,
    limits: Limits,
    dir: tempfile::TempDir,
}

impl Site {
    /// With the users `jo`, `mo@example.org` (no details), `full` (2 KiB), `boss` (may act as
    /// everybody), `web` (no POP3), `drop` (no IMAP), `guest` (reads only), `away` (on another
    /// server); for sharing `bob`, `fred` (in the group `staff`), `alone` (sees nothing of others),
    /// `cyrus`, `ann@example.org` and `eve@other.example` (each in a `staff` of the domain),
    /// `postmaster@example.org`; and a line for `bad` that
    /// can't be read. All have their password in clear as well.
    pub(crate) fn new(
        protocol: Protocol,
        layout: LayoutKind,
        change: impl FnOnce(&mut Config),
    ) -> Site {
        Site::over(Arc::new(Blocking::new()), protocol, layout, change)
    }

    /// The same on a disk of the test's.
    pub(crate) fn over(
        storage: Arc<dyn Storage>,
        protocol: Protocol,
        layout: LayoutKind,
        change: impl FnOnce(&mut Config),
    ) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::embedded(dir.path());
        config.partition[0].layout = layout;
        change(&mut config);
        let path = dir.path().join("users");
        let hash = auth::credential::Credentials::for_password(PASSWORD).unwrap().to_string();
        let user = |name: &str, attributes: &str| {
            let name = UserName::new(name).unwrap();
            // Of the same password; what it costs to make them is spent once.
            let secrets = "{PLAIN.B64}Z2VoZWlt";
            NewUser::with_hash(name, &format!("{hash} {secrets}"), attributes).unwrap()
        };
        std::fs::write(&path, "bad:geheim\n").unwrap();
        let users = [
            user("jo", ""),
            user("mo@example.org", "detail=no"),
            user("full", "quota_bytes=2K"),
            user("boss", "proxy=all"),
            user("web", "disablepop3=yes"),
            user("drop", "disableimap=yes"),
            user("guest", "read_only=yes"),
            user("away", "host=other.example.org"),
            user("bob", ""),
            user("fred", "group=staff"),
            user("alone", "disableshared=yes"),
            user("cyrus", ""),
            user("ann@example.org", "group=staff"),
            user("postmaster@example.org", ""),
            user("eve@other.example", "group=staff"),
        ];
        auth::users::edit(&path, |d| d.add_all(users)).unwrap();
        let users = Arc::new(Chain::new(vec![Arc::new(UserFile::open(&path).unwrap())], None));
        let settings = server::run::auth_settings(&config, "mail.example.org").unwrap();
        let settings = Settings { failure_delay_first: Duration::ZERO, ..settings };
        let authenticator = Authenticator::start(users.clone(), users.clone(), settings).unwrap();
        let store =
            admin::store::open(&config, "test", storage, Drive::Threads, Opener::Any).unwrap();
        let tls = Arc::new(TlsSwitch::new(&config).unwrap());
        let net = Rc::new(NetCore {
            pool: BufferPool::new(),
            deflate: DeflatePool::default(),
            busy_poll: Rc::default(),
            tls: tls.clone(),
        });
        let limits = config.limits.clone();
        let lane = Lane::pool(store.helpers().clone());
        let shared =
            Shared::new(config, "mail.example.org".into(), store, authenticator, users, tls);
        let listener = RefCell::new(Listener {
            tls: TlsMode::Starttls,
            plain_login: PlainLogin::Loopback,
            ..Listener::new(protocol, ListenerAddress::from("127.0.0.1:0".to_owned()))
        });
        Site {
            services: Rc::new(Services::new(
                Arc::new(shared),
                lane,
                Rc::new(Meter::new(Arc::default())),
            )),
            net,
            listener,
            limits,
            dir,
        }
    }

    /// Changes what the next connections find.
    pub(crate) fn listener(&self, change: impl FnOnce(&mut Listener)) {
        change(&mut self.listener.borrow_mut());
    }

    /// Where everything is.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Bytes that the task of an idle session takes.
    pub(crate) fn session_bytes(&self) -> usize {
        let (near, _far) = UnixStream::pair().unwrap();
        let listener = Arc::new(self.listener.borrow().clone());
        let (socket, net, protocol) = (Socket::Unix(near), self.net.clone(), listener.protocol);
        let conn = Conn::new(socket, Peer::Unix, listener, &self.limits, net, None);
        let services = self.services.clone();
        match protocol {
            Protocol::Imap => size_of_val(&server::imap::run(conn, services)),
            Protocol::Pop3 => size_of_val(&server::pop3::run(conn, services)),
            Protocol::Lmtp => size_of_val(&server::lmtp::run(conn, services)),
            Protocol::Auth => size_of_val(&server::auth_socket::run(conn, services)),
        }
    }

    /// A new session; gives the client's end.
    pub(crate) fn connect(&self) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        let listener = Arc::new(self.listener.borrow().clone());
        let (socket, net) = (Socket::Unix(near), self.net.clone());
        let protocol = listener.protocol;
        let conn = Conn::new(socket, Peer::Unix, listener, &self.limits, net, None);
        let services = self.services.clone();
        match protocol {
            Protocol::Imap => drop(tokio::task::spawn_local(server::imap::run(conn, services))),
            Protocol::Pop3 => drop(tokio::task::spawn_local(server::pop3::run(conn, services))),
            Protocol::Lmtp => drop(tokio::task::spawn_local(server::lmtp::run(conn, services))),
            Protocol::Auth => {
                drop(tokio::task::spawn_local(server::auth_socket::run(conn, services)));
            }
        }
        far
    }

    /// Sends `parts`, each alone in its read, and gives all that the server says to its end.
    pub(crate) async fn talk(&self, parts: &[&[u8]]) -> String {
        let mut client = self.connect();
        let mut said = Vec::new();
        for part in parts {
            if client.write_all(part).await.is_err() {
                // The server has closed: what it said before is what counts.
                break;
            }
            pause().await;
        }
        let _ = client.shutdown().await;
        let read = client.read_to_end(&mut said);
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("server hangs").unwrap();
        String::from_utf8(said).unwrap()
    }

    /// As [`Site::talk`], with everything sent at once.
    pub(crate) async fn say(&self, script: &str) -> String {
        self.talk(&[script.as_bytes()]).await
    }

    /// Cuts `script` at each byte, and into single bytes, and asserts that the server says the same
    /// each time; gives that.
    pub(crate) async fn say_cut_everywhere(&self, script: &[u8]) -> String {
        let whole = self.talk(&[script]).await;
        for i in 1..script.len() {
            let (a, b) = script.split_at(i);
            assert_eq!(self.talk(&[a, b]).await, whole, "cut at {i}");
        }
        let bytes: Vec<&[u8]> = script.chunks(1).collect();
        assert_eq!(self.talk(&bytes).await, whole, "byte by byte");
        whole
    }

    pub(crate) async fn user(&self, name: &str) -> User {
        let name = UserName::new(name).unwrap();
        let account = self.services.auth.lookup(&name).await.unwrap().unwrap();
        self.services.open_user(&account).await.unwrap()
    }

    /// Every message of a mailbox, as it is served.
    pub(crate) async fn messages(&self, user: &str, mailbox: &str) -> Vec<String> {
        let mailbox: Mailbox = self.user(user).await.mailbox(mailbox).await.unwrap();
        let view = mailbox.refresh().await.unwrap();
        let mut messages = Vec::new();
        for seq in 1..=view.exists() {
            let record = view.record(SeqNum(seq)).unwrap();
            let file = mailbox.message(&self.services.lane, &record).await.unwrap();
            let end = file.stored_size();
            let mut reader = file.served(0, end, 0, u64::MAX);
            let mut message = Vec::new();
            while let Some(part) = reader.next().await.unwrap() {
                message.extend_from_slice(&part);
            }
            messages.push(String::from_utf8_lossy(&message).into_owned());
        }
        messages
    }

    /// Puts a message into a mailbox.
    pub(crate) async fn store(&self, user: &str, mailbox: &str, message: &str) {
        let user = self.user(user).await;
        let target = engine::Target {
            mailbox: user.mailbox(mailbox).await.unwrap(),
            user,
            flags: protocol::types::SystemFlags::empty(),
            keywords: Vec::new(),
            internal_date: None,
            annotations: vec![],
        };
        let services = &self.services;
        let mut delivery =
            engine::Delivery::new(&services.store, &services.lane, vec![target]).unwrap();
        delivery.write(message.as_bytes()).await.unwrap();
        for result in delivery.commit().await {
            result.unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.services.store.close().unwrap();
    }
}

/// Lets the session read what was sent, alone.
async fn pause() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// Runs a test on a core like the server's, in both layouts.
pub(crate) fn on_a_core<F: Future<Output = ()>>(test: impl Fn(LayoutKind) -> F) {
    for layout in [LayoutKind::Maildir, LayoutKind::Cyrus] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test(layout));
    }
}

/// The message without the header lines that the delivery added.
pub(crate) fn untraced(message: &str) -> &str {
    let mut rest = message;
    loop {
        let traced = ["Return-Path: ", "Delivered-To: ", "Received: ", "\t"];
        match rest.split_once("\r\n") {
            Some((line, behind)) if traced.iter().any(|t| line.starts_with(t)) => rest = behind,
            _ => return rest,
        }
    }
}
