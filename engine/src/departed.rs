//! Users who were removed leave nothing in others' mailboxes: no entry in an access control list, no
//! `\Seen`, no private metadata. A user who becomes another one by RENAME leaves them to that one.
//!
//! The removal notes the name, in its own transaction, as metadata of the server that no client can
//! say (`departed/NAME`; the value is the heir's name, empty for none). A helper goes through the
//! store afterwards, an owner a transaction, and takes the note away when all is done; a stop or a
//! crash in between leaves the note, and the next start goes on. What is given to somebody of the
//! same name meanwhile must not go with it: whoever begins with the name, and whoever puts it into a
//! list, has the rest done first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::types::Uid;

use crate::acl::{Acl, AclEntry, Identifier, RightsChange};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::metadata::{Key, Value};
use crate::namespace::Namespace;
use crate::quota::Growth;
use crate::shared::{Drive, Shared};
use crate::store::Store;
use crate::user::{User, UserInner};

/// In front of the name, in the server's metadata.
const DEPARTED: &str = "departed/";

/// The frame that notes a removal.
pub(crate) fn note(user: &str, heir: Option<&str>) -> Frame {
    let value: Value = Some(Arc::from(heir.unwrap_or_default().as_bytes()));
    let changes = vec![(format!("{DEPARTED}{user}"), value)];
    Frame::Metadata { user: String::new(), whose: String::new(), changes }
}

impl Acl {
    fn names(&self, user: &str) -> bool {
        self.entries().any(|(entry, _)| matches!(&entry.who, Identifier::User(who) if who == user))
    }

    /// With the entries of a user gone, or the heir's.
    fn without(&self, user: &str, heir: Option<&str>) -> Result<Acl> {
        let mut after = self.clone();
        for negative in [false, true] {
            let old = AclEntry { negative, who: Identifier::User(user.to_owned()) };
            let rights = self.rights_of(&old);
            after.change(old, RightsChange::Replace(crate::acl::Rights::NONE))?;
            if let Some(heir) = heir {
                let new = AclEntry { negative, who: Identifier::User(heir.to_owned()) };
                after.change(new, RightsChange::Add(rights))?;
            }
        }
        Ok(after)
    }
}

impl Store {
    /// Has done what is left to do of removed users: they are in no list of others any more when it
    /// returns. It is done in the background, too.
    pub async fn tidy(&self) -> Result<()> {
        let shared = self.shared().clone();
        self.shared().helpers.run(move || shared.tidy()).await.map_err(|_| Error::Closing)?
    }
}

impl User {
    /// Has done what is left to do of a removed user of this name.
    pub(crate) async fn settle_departed(&self, name: &str) -> Result<()> {
        let shared = self.0.shared.clone();
        if !shared.departed.lock().contains_key(name) {
            return Ok(());
        }
        let name = name.to_owned();
        let tidy = move || shared.tidy_one(&name);
        self.0.shared.helpers.run(tidy).await.map_err(|_| Error::Closing)?
    }
}

impl Shared {
    /// Finds the notes of earlier epochs: at a start.
    pub(crate) fn find_departed(&self) -> Result<()> {
        let server = MailboxId::default();
        let mut found = BTreeMap::new();
        let from = Key { entry: DEPARTED.to_owned(), ..Key::first(server, Uid(0)) };
        let unwritten = self.metadata.of(server).into_iter();
        let written = self.catalog.metadata_below(&from, DEPARTED)?;
        let written = written.into_iter().map(|(entry, value)| (entry, Some(value)));
        let unwritten = unwritten.filter(|(key, _)| key.whose.is_empty());
        for (entry, value) in written.chain(unwritten.map(|(key, value)| (key.entry, value))) {
            let Some(name) = entry.strip_prefix(DEPARTED) else { continue };
            match value {
                Some(heir) => found.insert(name.to_owned(), text(&heir)),
                None => found.remove(name),
            };
        }
        *self.departed.lock() = found;
        Ok(())
    }

    /// Notes in memory what [`note`] noted in the log.
    pub(crate) fn departs(&self, user: &str, heir: Option<&str>) {
        let heir = heir.unwrap_or_default().to_owned();
        self.departed.lock().insert(user.to_owned(), heir);
    }

    /// Begins the work in the background, if there is some and nobody does it.
    pub(crate) fn tidy_soon(self: &Arc<Self>) {
        if self.drive != Drive::Threads || self.departed.lock().is_empty() {
            return;
        }
        if self.tidying.try_lock().is_none() {
            return;
        }
        let shared = self.clone();
        self.helpers.spawn(move || {
            if let Err(error) = shared.tidy() {
                tracing::warn!(%error, "cannot take removed users out of others' lists for now");
            }
        });
    }

    fn tidy(self: &Arc<Self>) -> Result<()> {
        let names: Vec<String> = self.departed.lock().keys().cloned().collect();
        names.iter().try_for_each(|name| self.tidy_one(name))
    }

    /// Takes one user out of everything that is others'.
    pub(crate) fn tidy_one(self: &Arc<Self>, name: &str) -> Result<()> {
        let _one_at_a_time = self.tidying.lock();
        let Some(heir) = self.departed.lock().get(name).cloned() else { return Ok(()) };
        let heir = Some(heir.as_str()).filter(|heir| !heir.is_empty());
        let mut owners = self.owners_naming(name)?;
        let mut values: BTreeMap<String, BTreeMap<MailboxId, Vec<(String, Value)>>> =
            BTreeMap::new();
        for (mailbox, entries) in self.metadata_of_user(name)? {
            if let Some(owner) = self.owner_of(mailbox)? {
                owners.insert(owner.clone());
                values.entry(owner).or_default().insert(mailbox, entries);
            }
        }
        for owner in owners.iter().filter(|owner| *owner != name) {
            let values = values.remove(owner).unwrap_or_default();
            self.known_user(owner)?.tidy(name, heir, values)?;
        }
        let user = self.known_user(name)?;
        let changes = vec![(format!("{DEPARTED}{name}"), None)];
        let (nobodys, whose) = (MailboxId::default(), String::new());
        let frame = Frame::Metadata { user: String::new(), whose, changes: changes.clone() };
        let lsn = user.commit(&[(nobodys, frame)])?;
        self.metadata.apply(nobodys, "", &changes);
        self.log.applied(lsn);
        self.departed.lock().remove(name);
        tracing::info!(user = name, heir, owners = owners.len(), "left others' mailboxes");
        Ok(())
    }

    /// Owners in whose lists a user is.
    fn owners_naming(&self, name: &str) -> Result<BTreeSet<String>> {
        let names = |namespace: &Namespace| namespace.acls.values().any(|acl| acl.names(name));
        let mut owners = BTreeSet::new();
        // In this order: who is let go meanwhile is in the catalog by then.
        let known: Vec<Arc<UserInner>> = self.users.lock().values().cloned().collect();
        owners.extend(known.iter().filter(|u| names(&u.namespace.load())).map(|u| u.name.clone()));
        self.catalog.snapshot(&mut |owner, namespace| {
            if names(&namespace) {
                owners.insert(owner.to_owned());
            }
            Ok(())
        })?;
        Ok(owners)
    }

    /// The user's own entries of mailboxes, `\Seen` among them.
    fn metadata_of_user(&self, name: &str) -> Result<BTreeMap<MailboxId, Vec<(String, Value)>>> {
        let mut found: BTreeMap<(MailboxId, String), Value> = BTreeMap::new();
        let unwritten = self.metadata.all();
        let is_own = |key: &Key| {
            key.whose == name && key.uid == Uid(0) && key.mailbox != MailboxId::default()
        };
        self.catalog.metadata_all(&mut |key, value| {
            if is_own(&key) {
                found.insert((key.mailbox, key.entry), Some(value));
            }
            Ok(())
        })?;
        for (key, value) in unwritten.into_iter().filter(|(key, _)| is_own(key)) {
            found.insert((key.mailbox, key.entry), value);
        }
        let mut out: BTreeMap<MailboxId, Vec<(String, Value)>> = BTreeMap::new();
        for ((mailbox, entry), value) in found.into_iter().filter(|(_, value)| value.is_some()) {
            out.entry(mailbox).or_default().push((entry, value));
        }
        Ok(out)
    }

    /// Whose a mailbox is; `None` for one that is gone.
    fn owner_of(&self, mailbox: MailboxId) -> Result<Option<String>> {
        if let Some(owner) = self.catalog.owner(mailbox)? {
            return Ok(Some(owner));
        }
        let known: Vec<Arc<UserInner>> = self.users.lock().values().cloned().collect();
        let has = |user: &&Arc<UserInner>| user.namespace.load().name_of(mailbox).is_some();
        Ok(known.iter().find(has).map(|user| user.name.clone()))
    }
}

impl UserInner {
    /// Takes a removed user out of this user's mailboxes, in one transaction.
    fn tidy(
        self: &Arc<Self>,
        departed: &str,
        heir: Option<&str>,
        values: BTreeMap<MailboxId, Vec<(String, Value)>>,
    ) -> Result<()> {
        let _one_at_a_time = self.changes.lock();
        self.finish_moves()?;
        let namespace = self.namespace.load_full();
        // The owner's own rights are other entries.
        let heir = heir.filter(|heir| *heir != self.name);
        let (mut frames, mut told) = (Vec::new(), Vec::new());
        for (name, entry) in &namespace.mailboxes {
            let Some(acl) = namespace.acl(entry.id).filter(|acl| acl.names(departed)) else {
                continue;
            };
            let after = acl.without(departed, heir)?;
            let acl = (after != Acl::default_of_owner()).then(|| Arc::new(after));
            frames.push((entry.id, Frame::Acl { user: self.name.clone(), acl }));
            told.push(Event::Rights(name.clone()));
        }
        let mut growth: Vec<(String, Growth)> = Vec::new();
        for (id, entries) in values {
            let Some(name) = namespace.name_of(id) else { continue };
            let key = |whose: &str, entry: &str| Key {
                mailbox: id,
                uid: Uid(0),
                whose: whose.to_owned(),
                entry: entry.to_owned(),
            };
            let gone: Vec<(String, Value)> =
                entries.iter().map(|(entry, _)| (entry.clone(), None)).collect();
            let sides = [(departed, gone)].into_iter().chain(heir.map(|heir| (heir, entries)));
            for (whose, changes) in sides {
                let keyed: Vec<_> =
                    changes.iter().map(|(entry, value)| (key(whose, entry), value)).collect();
                let grown = self.shared.growth(keyed.iter().map(|(key, value)| (key, *value)))?;
                growth.push((name.clone(), grown));
                self.shared.seens.forget(id, whose);
                let (user, whose) = (self.name.clone(), whose.to_owned());
                frames.push((id, Frame::Metadata { user, whose, changes }));
            }
        }
        if frames.is_empty() {
            return Ok(());
        }
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        for (id, frame) in &frames {
            if let Frame::Metadata { whose, changes, .. } = frame {
                self.shared.metadata.apply(*id, whose, changes);
            }
        }
        growth.into_iter().for_each(|(name, growth)| self.annotated(&name, growth));
        self.applied(lsn);
        told.iter().for_each(|event| self.events.post(event));
        Ok(())
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
