//! The store that mail comes into, as a migration needs it: by the running server, which goes on
//! serving, or opened here where none runs.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use admin::wire::{FlagsChange, ImportMessage, MESSAGE_LINES_MAX, MessageLine};
use admin::{Reply, Request};
use config::Config;

use crate::failure::{Failed, Kind};
use crate::place::{self, Place};
use crate::store::unexpected;

/// UIDs in one request, so that its line is not too long.
const UIDS_MAX: usize = 4000;
/// Octets of UIDLs in one request, likewise, as JSON may write them.
const UIDLS_BYTES_MAX: usize = 48 << 10;

/// The store, for one user.
pub struct Target<'p> {
    /// Whose mail it is.
    pub user: String,
    place: &'p mut Place,
}

/// A connection of its own to the running server.
///
/// # Errors
/// [`Kind::Temporary`]: it does not answer, perhaps because it starts.
pub fn connect(config: &Config) -> Result<Place, Failed> {
    match place::connect(config)? {
        Some(client) => Ok(Place::Server(client)),
        None => {
            let socket = config.admin_socket();
            let message = format!("no server answers on {}", socket.display());
            Err(Failed::new(Kind::Temporary, message))
        }
    }
}

/// A mailbox that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// What it is for.
    pub special_use: Vec<String>,
    /// Messages in it.
    pub messages: u32,
    /// The partition that it is on.
    pub partition: String,
}

impl<'p> Target<'p> {
    /// The store, for a user.
    pub fn new(user: &str, place: &'p mut Place) -> Target<'p> {
        Target { user: user.to_owned(), place }
    }

    fn done(&mut self, request: Request) -> Result<(), Failed> {
        self.place.ask(request).map(drop)
    }

    /// The user's mailboxes.
    pub fn mailboxes(&mut self) -> Result<BTreeMap<String, Existing>, Failed> {
        match self.place.ask(Request::Mailboxes { user: Some(self.user.clone()) })? {
            Reply::Mailboxes(lines) => Ok(lines
                .into_iter()
                .map(|line| {
                    let existing = Existing {
                        uid_validity: line.uid_validity,
                        special_use: line.special_use,
                        messages: line.messages,
                        partition: line.partition,
                    };
                    (line.name, existing)
                })
                .collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a mailbox; one that is there stays as it is.
    pub fn create(&mut self, name: &str, special_use: Vec<String>) -> Result<(), Failed> {
        let (user, name) = (self.user.clone(), name.to_owned());
        match self.done(Request::MailboxCreate { user, name, special_use }) {
            Err(failed) if failed.kind() == Kind::Exists => Ok(()),
            other => other,
        }
    }

    /// Sets what a mailbox is for.
    pub fn set_special_use(&mut self, name: &str, special_use: Vec<String>) -> Result<(), Failed> {
        let (user, mailbox) = (self.user.clone(), name.to_owned());
        self.done(Request::SpecialUseSet { user, mailbox, special_use })
    }

    /// Renames a mailbox and those below it.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Failed> {
        let user = self.user.clone();
        self.done(Request::MailboxRename { user, from: from.to_owned(), to: to.to_owned() })
    }

    /// Deletes a mailbox.
    pub fn delete(&mut self, name: &str) -> Result<(), Failed> {
        self.done(Request::MailboxDelete { user: self.user.clone(), name: name.to_owned() })
    }

    /// Subscribes, or no longer.
    pub fn subscribe(&mut self, name: &str, on: bool) -> Result<(), Failed> {
        let (user, name) = (self.user.clone(), name.to_owned());
        self.done(Request::MailboxSubscribe { user, name, on })
    }

    /// Sets what an identifier may do; empty: nothing.
    pub fn set_acl(&mut self, name: &str, identifier: &str, rights: &str) -> Result<(), Failed> {
        self.done(Request::AclSet {
            user: self.user.clone(),
            mailbox: name.to_owned(),
            identifier: identifier.to_owned(),
            rights: rights.to_owned(),
        })
    }

    /// UIDVALIDITY and UIDNEXT of a mailbox.
    pub fn numbers(&mut self, name: &str) -> Result<(u32, u32), Failed> {
        let (uid_validity, uid_next, _, _) = self.page(name, u32::MAX - 1, 1, false)?;
        Ok((uid_validity, uid_next))
    }

    /// Gives a mailbox in which nothing was ever stored a UIDVALIDITY.
    pub fn set_uid_validity(&mut self, name: &str, uid_validity: u32) -> Result<(), Failed> {
        let (user, mailbox) = (self.user.clone(), name.to_owned());
        self.done(Request::UidValiditySet { user, mailbox, uid_validity })
    }

    /// Has the next message get at least this UID.
    pub fn raise_uid_next(
        &mut self,
        name: &str,
        uid_validity: u32,
        uid_next: u32,
    ) -> Result<(), Failed> {
        let (user, mailbox) = (self.user.clone(), name.to_owned());
        self.done(Request::UidNextRaise { user, mailbox, uid_validity, uid_next })
    }

    /// Gives messages new UIDs, above all others: pairs of the old and the new ones.
    pub fn renumber(
        &mut self,
        name: &str,
        uid_validity: u32,
        uids: &[u32],
    ) -> Result<Vec<(u32, u32)>, Failed> {
        let mut pairs = Vec::new();
        for uids in uids.chunks(UIDS_MAX) {
            let (user, mailbox) = (self.user.clone(), name.to_owned());
            let request = Request::Renumber { user, mailbox, uid_validity, uids: uids.to_vec() };
            match self.place.ask(request)? {
                Reply::Renumbered { uids } => pairs.extend(uids),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(pairs)
    }

    /// UIDLs that messages had at another server, with the UIDs of those who have them.
    pub fn uidls(&mut self, name: &str) -> Result<HashMap<String, u32>, Failed> {
        let (mut all, mut above) = (HashMap::new(), 0);
        loop {
            let (user, mailbox) = (self.user.clone(), name.to_owned());
            match self.place.ask(Request::Uidls { user, mailbox, above })? {
                Reply::Uidls { uidls, more } => {
                    above = uidls.last().map_or(above, |(uid, _)| *uid);
                    let is_end = !more || uidls.is_empty();
                    all.extend(uidls.into_iter().map(|(uid, uidl)| (uidl, uid)));
                    if is_end {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Gives messages UIDLs that they had at another server.
    pub fn set_uidls(
        &mut self,
        name: &str,
        uid_validity: u32,
        uidls: &[(u32, String)],
    ) -> Result<(), Failed> {
        let mut left = uidls.iter().peekable();
        // Each is far shorter than a request, so each turn takes one at least.
        while left.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            // A UID, marks around it, and each octet perhaps with a backslash.
            let octets = |uidl: &str| uidl.len() * 2 + 16;
            while let Some(one) = left.next_if(|(_, uidl)| bytes + octets(uidl) <= UIDLS_BYTES_MAX)
            {
                bytes += octets(&one.1);
                some.push(one.clone());
            }
            let (user, mailbox) = (self.user.clone(), name.to_owned());
            self.done(Request::UidlsSet { user, mailbox, uid_validity, uidls: some })?;
        }
        Ok(())
    }

    /// The messages above a UID, all of them.
    pub fn messages(
        &mut self,
        name: &str,
        mut above: u32,
        message_ids: bool,
    ) -> Result<Vec<MessageLine>, Failed> {
        let mut all = Vec::new();
        loop {
            let (_, _, messages, more) = self.page(name, above, MESSAGE_LINES_MAX, message_ids)?;
            let Some(last) = messages.last() else { return Ok(all) };
            above = last.uid;
            all.extend(messages);
            if !more {
                return Ok(all);
            }
        }
    }

    fn page(
        &mut self,
        name: &str,
        above: u32,
        limit: u32,
        message_ids: bool,
    ) -> Result<(u32, u32, Vec<MessageLine>, bool), Failed> {
        let (user, mailbox) = (self.user.clone(), name.to_owned());
        match self.place.ask(Request::Messages { user, mailbox, above, limit, message_ids })? {
            Reply::Messages { uid_validity, uid_next, messages, more } => {
                Ok((uid_validity, uid_next, messages, more))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Stores messages, all or none, if UIDNEXT is this. Their UIDs.
    ///
    /// # Errors
    /// [`Kind::Changed`]: it is another. [`Kind::Temporary`]: nothing is known about it.
    pub fn import(
        &mut self,
        name: &str,
        uid_next: u32,
        messages: Vec<ImportMessage>,
        body: &mut dyn Read,
    ) -> Result<Vec<u32>, Failed> {
        let (user, mailbox) = (self.user.clone(), name.to_owned());
        let request = Request::Import { user, mailbox, messages, uid_next: Some(uid_next) };
        match self.place.ask_with(request, body)? {
            Reply::Imported { uids, .. } => Ok(uids),
            other => Err(unexpected(&other)),
        }
    }

    /// Adds and removes flags.
    pub fn change_flags(
        &mut self,
        name: &str,
        uid_validity: u32,
        changes: Vec<FlagsChange>,
    ) -> Result<(), Failed> {
        for change in changes {
            for uids in change.uids.chunks(UIDS_MAX) {
                let change = FlagsChange { uids: uids.to_vec(), ..change.clone() };
                let (user, mailbox) = (self.user.clone(), name.to_owned());
                let changes = vec![change];
                self.done(Request::ChangeFlags { user, mailbox, uid_validity, changes })?;
            }
        }
        Ok(())
    }

    /// Removes messages.
    pub fn expunge(&mut self, name: &str, uid_validity: u32, uids: &[u32]) -> Result<(), Failed> {
        for uids in uids.chunks(UIDS_MAX) {
            let (user, mailbox) = (self.user.clone(), name.to_owned());
            self.done(Request::Expunge { user, mailbox, uid_validity, uids: uids.to_vec() })?;
        }
        Ok(())
    }
}
