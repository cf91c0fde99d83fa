//! Where mailboxes that are given back are read: from a store that this process has open, or from
//! the running server.

use admin::{Client, Reply, Request};
use engine::{MailboxToAdopt, Store, UserToAdopt};

use crate::failure::{Failed, Kind};
use crate::place::Place;
use crate::store::unexpected;

/// Tells what there is of users.
pub trait Source {
    /// A user with all mailboxes, without messages.
    fn heads(&mut self, user: &str) -> Result<UserToAdopt, Failed>;

    /// One mailbox with its messages; `None` where there is none any more.
    fn mailbox(&mut self, user: &str, name: &str) -> Result<Option<MailboxToAdopt>, Failed>;
}

impl Source for &Store {
    fn heads(&mut self, user: &str) -> Result<UserToAdopt, Failed> {
        let named = |e| Failed::new(Kind::Incomplete, format!("{user}: {e}"));
        self.describe_heads(user).map_err(named)
    }

    fn mailbox(&mut self, user: &str, name: &str) -> Result<Option<MailboxToAdopt>, Failed> {
        let named = |e| Failed::new(Kind::Incomplete, format!("{user}, {name}: {e}"));
        self.describe_mailbox(user, name).map_err(named)
    }
}

/// The server, or the store itself.
impl Source for Place {
    fn heads(&mut self, user: &str) -> Result<UserToAdopt, Failed> {
        match self {
            Place::Server(client) => client.heads(user),
            Place::Store(opened) => (&mut opened.store()).heads(user),
        }
    }

    fn mailbox(&mut self, user: &str, name: &str) -> Result<Option<MailboxToAdopt>, Failed> {
        match self {
            Place::Server(client) => client.mailbox(user, name),
            Place::Store(opened) => (&mut opened.store()).mailbox(user, name),
        }
    }
}

impl Source for Client {
    fn heads(&mut self, user: &str) -> Result<UserToAdopt, Failed> {
        match self.ask(Request::Describe { user: user.to_owned(), mailbox: None })? {
            Reply::Described(described) => Ok(*described),
            other => Err(unexpected(&other)),
        }
    }

    fn mailbox(&mut self, user: &str, name: &str) -> Result<Option<MailboxToAdopt>, Failed> {
        let (user, mailbox) = (user.to_owned(), Some(name.to_owned()));
        match self.ask(Request::Describe { user, mailbox })? {
            Reply::Described(mut described) => Ok(described.mailboxes.pop()),
            other => Err(unexpected(&other)),
        }
    }
}
