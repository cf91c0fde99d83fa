//! Where a request is done: by the running server, else on the store itself under its lock.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use admin::accounts::{self, StoreOwners};
use admin::store::{self, OpenError};
use admin::unfinished::Opener;
use admin::{Client, Operator, Reply, Request};
use config::Config;
use engine::io::Lane;
use engine::io::blocking::Blocking;
use engine::{Drive, Store};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::failure::{Failed, Kind};

/// Where requests are done.
pub enum Place {
    /// By a running server.
    Server(Client),
    /// Here.
    Store(Box<Opened>),
}

/// A store that this process has opened.
pub struct Opened {
    runtime: Runtime,
    local: LocalSet,
    operator: Operator,
}

impl Place {
    /// The running server, or else the store.
    pub fn find(config: &Config) -> Result<Place, Failed> {
        match connect(config)? {
            Some(client) => Ok(Place::Server(client)),
            None => Ok(Place::Store(Box::new(Opened::open(config)?))),
        }
    }

    /// Asks without a body.
    pub fn ask(&mut self, request: Request) -> Result<Reply, Failed> {
        self.ask_with(request, &mut io::empty())
    }

    /// Asks with the bytes that follow the request.
    pub fn ask_with(&mut self, request: Request, body: &mut dyn Read) -> Result<Reply, Failed> {
        match self {
            Place::Server(client) => Ok(client.ask_with(request, body)?),
            Place::Store(opened) => {
                let Opened { runtime, local, operator } = &mut **opened;
                let mut body = Blockingly(body);
                let done = local.block_on(runtime, operator.perform(request, &mut body));
                Ok(done?)
            }
        }
    }

    /// Reads messages of a mailbox; `sink` gets the octets of each that is there, with its place in
    /// `uids`, in order.
    pub fn read(
        &mut self,
        (user, mailbox): (&str, &str),
        uids: &[u32],
        sink: &mut dyn FnMut(usize, u64, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), Failed> {
        let uids = uids.to_vec();
        match self {
            Place::Server(client) => {
                let (user, mailbox) = (user.to_owned(), mailbox.to_owned());
                Ok(client.read(Request::Read { user, mailbox, uids }, sink)?)
            }
            Place::Store(opened) => {
                let Opened { runtime, local, operator } = &mut **opened;
                let incomplete = |e: io::Error| Failed::new(Kind::Incomplete, e.to_string());
                // One by one: what is open is in memory whole.
                for (place, uid) in uids.iter().enumerate() {
                    let read = async {
                        let bodies = operator.bodies(user, mailbox, &[*uid]).await?;
                        let gone =
                            matches!(bodies.reply(), Reply::Bodies { octets } if octets == [None]);
                        let mut octets = Vec::new();
                        let written = bodies.write(&mut octets).await;
                        Ok::<_, admin::Failure>((!gone).then_some(written.map(|()| octets)))
                    };
                    let octets = local.block_on(runtime, read)?;
                    if let Some(octets) = octets.transpose().map_err(incomplete)? {
                        let length = octets.len() as u64;
                        sink(place, length, &mut octets.as_slice()).map_err(incomplete)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Closes the store, if this process opened it. Its log is empty then.
    pub fn close(self) -> Result<(), Failed> {
        match self {
            Place::Server(_) => Ok(()),
            Place::Store(opened) => opened.close(),
        }
    }
}

/// The running server; `None` if none runs.
pub fn connect(config: &Config) -> Result<Option<Client>, Failed> {
    let socket = config.admin_socket();
    match Client::connect(&socket) {
        Ok(client) => Ok(Some(client)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => {
                let message = format!("admin socket {}: {error}", socket.display());
                Err(Failed::new(Kind::Unreachable, message))
            }
        },
    }
}

impl Opened {
    /// Opens the store: takes its lock and recovers.
    pub fn open(config: &Config) -> Result<Opened, Failed> {
        Self::open_by(config, Opener::Any)
    }

    /// The same for a command that is `opener`.
    pub fn open_by(config: &Config, opener: Opener) -> Result<Opened, Failed> {
        let dir = config.state_dir.display();
        let unreachable = |message: String| Failed::new(Kind::Unreachable, message);
        if !config.state_dir.is_dir() {
            let hint = "start cursusd, or name its configuration with --config";
            return Err(unreachable(format!("there is no store in {dir}: {hint}")));
        }
        let users = accounts::open(config).map_err(|e| unreachable(e.to_string()))?;
        let storage = Arc::new(Blocking::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| unreachable(format!("cannot start: {e}")))?;
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let store = store::open(config, &hostname, storage.clone(), Drive::Threads, opener);
        let store = store.map_err(|error| {
            unreachable(match error {
                OpenError::Locked => format!(
                    "the store in {dir} is open in another process, and no server answers on {}",
                    config.admin_socket().display()
                ),
                other => format!("the store in {dir} can't be opened: {other}"),
            })
        })?;
        users.set_owners(Arc::new(StoreOwners(store.clone())));
        let operator = Operator {
            store,
            lane: Lane::inline(storage),
            users: Arc::new(users),
            config: Arc::new(config.clone()),
            backup: Default::default(),
            turns: Default::default(),
        };
        Ok(Opened { runtime, local: LocalSet::new(), operator })
    }
}

impl Opened {
    /// The store itself.
    pub fn store(&self) -> &Store {
        &self.operator.store
    }

    /// Closes the store; its log is empty then.
    pub fn close(self) -> Result<(), Failed> {
        let closed = self.operator.store.close();
        closed.map_err(|e| Failed::new(Kind::Incomplete, format!("closing the store: {e}")))
    }
}

/// A file as the async reader that an [`Operator`] wants. That it blocks is no harm: this process
/// does nothing else.
struct Blockingly<'a>(&'a mut dyn Read);

impl AsyncRead for Blockingly<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.0.read(room.initialize_unfilled())?;
        room.advance(read);
        Poll::Ready(Ok(()))
    }
}
