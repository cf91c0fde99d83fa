//! Who looks, and what of others' mailboxes this user may see (RFC 4314).
//!
//! Every command comes to a mailbox by [`Session::place`], which says whose it is and what the user
//! may do there, and asks for what it needs by [`Session::place_with`]. Whoever may not see a
//! mailbox (`l`) and lacks what the command needs is answered as if it were not there, with the
//! same words and the same code; neither is anything made for a user that somebody else names.
//!
//! Rights on the selected mailbox are looked at with every command: one look into a list that most
//! mailboxes do not have.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use auth::{Account, UserName};
use config::{Config, SeenState};
use engine::{
    Authority, FlagScope, Mailbox, MailboxStatus, Namespace, Principal, PrivateSeen, Rights,
    SharedNames, User, UserOptions, domain_of,
};

use super::names::{Name, Names, qualified};
use super::reply::{End, Reply};
use super::session::Session;
use crate::net::Conn;

/// What users may do with their copies of what others share on the filesystem. What is removed there
/// is removed from the other Maildir, if its permissions let them.
pub(super) const COPY_RIGHTS: Rights = Rights::LOOKUP
    .union(Rights::READ)
    .union(Rights::SEEN)
    .union(Rights::WRITE)
    .union(Rights::INSERT)
    .union(Rights::DELETE_MESSAGES)
    .union(Rights::EXPUNGE);

/// What a session knows of its user beside the mailboxes.
pub(super) struct Viewer {
    pub(super) principal: Arc<Principal>,
    pub(super) names: Arc<Names>,
    /// Whether rights that users of other domains gave count.
    cross_domains: bool,
    /// Who may have given something, as of that generation of the store's index.
    granting: RefCell<Option<(u64, Arc<BTreeSet<String>>)>>,
}

impl Viewer {
    /// After a login. `index` says who is seen, in Courier's form of names.
    pub(super) fn new(
        conn: &Conn,
        config: &Config,
        account: &Account,
        index: Option<Arc<SharedNames>>,
    ) -> Viewer {
        let user = account.name.as_str();
        let domain = domain_of(user);
        let groups = account.attributes.groups.iter();
        let is_user = |name: &String| UserName::new(name).is_ok_and(|name| name.as_str() == user);
        // Who acts as an administrator without being one is none.
        let administers = account.by.is_none() && config.auth.admins.iter().any(is_user);
        let authority = match administers {
            true if domain.is_empty() => Authority::Everything,
            true => Authority::Domain(domain.to_owned()),
            false => Authority::Nothing,
        };
        let others = !account.attributes.disableshared;
        let anonymous = &config.auth.anonymous_user;
        Viewer {
            names: Arc::new(
                Names::new(conn.listener(), &config.sharing, user, administers, others)
                    .with_index(index),
            ),
            principal: Arc::new(Principal {
                user: user.to_owned(),
                groups: groups.filter_map(|group| qualified(group.as_str(), domain)).collect(),
                authority,
                anonymous: !anonymous.is_empty() && is_user(anonymous),
            }),
            cross_domains: config.sharing.cross_domains,
            granting: RefCell::default(),
        }
    }

    /// Whether this user administers anybody's mailboxes.
    pub(super) fn administers(&self) -> bool {
        self.principal.authority != Authority::Nothing
    }

    /// Whether mailboxes of this owner can be seen at all.
    fn reaches(&self, owner: &str) -> bool {
        // Whose domain it is does not matter in an index.
        if let Some(index) = self.names.index() {
            return index.account_of(owner).is_some();
        }
        self.cross_domains
            || domain_of(owner) == domain_of(&self.principal.user)
            || self.principal.administers(owner)
    }

    /// The rights on a mailbox.
    pub(super) fn rights(
        &self,
        owner: &str,
        namespace: &Namespace,
        id: engine::MailboxId,
    ) -> Rights {
        match self.principal.user == owner || self.reaches(owner) {
            true => self.principal.rights(owner, namespace.acl(id)),
            false => Rights::NONE,
        }
    }
}

/// A mailbox that a client names, there or not.
pub(super) struct Place {
    /// Whose it is.
    pub(super) user: User,
    /// Internal name.
    pub(super) name: String,
    /// It is the session's user's.
    pub(super) own: bool,
    /// What the session's user may do there; `None`: there is no such mailbox.
    pub(super) rights: Option<Rights>,
}

impl Place {
    /// Refuses, unless all these rights are there.
    pub(super) fn demand(&self, needed: Rights, missing: &'static str) -> Result<(), Reply> {
        self.demand_if(missing, |rights| rights.contains(needed))
    }

    /// Refuses, unless the rights are good.
    pub(super) fn demand_if(
        &self,
        missing: &'static str,
        good: impl Fn(Rights) -> bool,
    ) -> Result<(), Reply> {
        match self.rights {
            Some(rights) if good(rights) => Ok(()),
            Some(rights) if rights.contains(Rights::LOOKUP) => Err(Reply::no_permission()),
            _ => Err(Reply::failure(&engine::Error::NoSuchMailbox, missing)),
        }
    }

    /// Flags that may be changed there.
    pub(super) fn scope(&self) -> FlagScope {
        FlagScope::of(self.rights.unwrap_or_default())
    }
}

impl Session {
    /// Who looks; of a session that has logged in.
    pub(super) fn viewer(&self) -> Result<&Viewer, Reply> {
        self.viewer.as_deref().ok_or_else(|| Reply::bad("Log in first"))
    }

    /// Where a name leads, if it is a name.
    pub(super) async fn place(&self, wire: &str, missing: &'static str) -> Result<Place, Reply> {
        let viewer = self.viewer()?;
        let nowhere = || Reply::failure(&engine::Error::NoSuchMailbox, missing);
        match viewer.names.parse(wire).ok_or_else(nowhere)? {
            Name::Own(name) => {
                let user = self.user()?;
                if viewer.names.is_copy(&name) {
                    let copied = user.copy_shared_folder(&name).await;
                    copied
                        .map_err(|error| self.failure("copy a shared folder", &error, missing))?;
                }
                Ok(self.own_place(viewer, user, name))
            }
            Name::Others { owner, mailbox } => {
                self.place_of(&owner, &mailbox).await?.ok_or_else(nowhere)
            }
            Name::Root => Err(nowhere()),
        }
    }

    /// A mailbox of a user; `None` if that is nobody whom this one can reach.
    pub(super) async fn place_of(
        &self,
        owner: &str,
        mailbox: &str,
    ) -> Result<Option<Place>, Reply> {
        let viewer = self.viewer()?;
        if owner == viewer.principal.user {
            return Ok(Some(self.own_place(viewer, self.user()?, mailbox.to_owned())));
        }
        let Some(user) = self.open_other(viewer, owner).await? else { return Ok(None) };
        let namespace = user.namespace();
        let entry = namespace.mailboxes.get(mailbox);
        let rights = entry.map(|entry| viewer.rights(owner, &namespace, entry.id));
        Ok(Some(Place { user, name: mailbox.to_owned(), own: false, rights }))
    }

    fn own_place(&self, viewer: &Viewer, user: User, name: String) -> Place {
        let namespace = user.namespace();
        let entry = namespace.mailboxes.get(&name);
        let rights = entry.map(|entry| match viewer.names.is_copy(&name) {
            true => COPY_RIGHTS,
            false => viewer.rights(user.name(), &namespace, entry.id),
        });
        Place { user, name, own: true, rights }
    }

    /// Whether a mailbox is the user's copy of what another shares on the filesystem.
    pub(super) fn is_copy(&self, place: &Place) -> bool {
        place.own && self.viewer.as_ref().is_some_and(|viewer| viewer.names.is_copy(&place.name))
    }

    /// Where a name leads, if the user has these rights there.
    pub(super) async fn place_with(
        &self,
        wire: &str,
        needed: Rights,
        missing: &'static str,
    ) -> Result<Place, Reply> {
        let place = self.place(wire, missing).await?;
        place.demand(needed, missing)?;
        Ok(place)
    }

    /// Opens a mailbox on which the user has these rights.
    pub(super) async fn mailbox(
        &self,
        wire: &str,
        needed: Rights,
        missing: &'static str,
    ) -> Result<(Place, Mailbox), Reply> {
        let place = self.place_with(wire, needed, missing).await?;
        let opened = place.user.mailbox(&place.name).await;
        match opened {
            Ok(mailbox) => Ok((place, mailbox)),
            Err(error) => Err(self.failure("open a mailbox", &error, missing)),
        }
    }

    /// The user's own `\Seen` in a mailbox of another's, where it is kept apart.
    pub(super) async fn own_seen(
        &self,
        place: &Place,
        mailbox: &Mailbox,
    ) -> engine::Result<Option<PrivateSeen>> {
        if place.own || self.services.config().sharing.seen == SeenState::Shared {
            return Ok(None);
        }
        let viewer = self.user.as_ref().map_or("", User::name);
        place.user.private_seen(mailbox, viewer).await.map(Some)
    }

    /// Puts the number of messages that this user has not seen in place of the owner's.
    pub(super) async fn own_unseen(
        &self,
        place: &Place,
        status: &mut MailboxStatus,
    ) -> engine::Result<()> {
        if place.own || self.services.config().sharing.seen == SeenState::Shared {
            return Ok(());
        }
        let mailbox = place.user.mailbox(&place.name).await?;
        let seen = self.own_seen(place, &mailbox).await?;
        status.unseen = mailbox.view().unseen_by(seen.as_ref());
        Ok(())
    }

    /// Another user who has mailboxes here, and who may have some for this one.
    async fn open_other(&self, viewer: &Viewer, owner: &str) -> Result<Option<User>, Reply> {
        if !viewer.reaches(owner) {
            return Ok(None);
        }
        if let Some(index) = viewer.names.index() {
            self.meet(index, owner).await;
        }
        let store = &self.services.store;
        let failed = |error| self.failure("open a user's mailboxes", &error, "NONEXISTENT");
        if !store.has_user(owner).await.map_err(failed)? {
            return Ok(None);
        }
        self.open_user(owner).await.map(Some)
    }

    /// Has what Courier did in a Maildir of the index looked at, once since the start, so that the
    /// lists that are there count. One that cannot be served now is as if it were not there.
    async fn meet(&self, index: &SharedNames, owner: &str) {
        let Some(account) = index.account_of(owner) else { return };
        let met = &self.services.shared().met;
        if met.lock().contains(owner) {
            return;
        }
        let store = &self.services.store;
        let opened = async {
            // Nothing is made where nobody has a Maildir.
            let cur = account.maildir.join("cur");
            let is_there = store.helpers().run(move || cur.is_dir()).await;
            if !store.has_user(owner).await? && !is_there.unwrap_or(false) {
                return Ok(());
            }
            let name = UserName::new(owner).ok();
            let known = match &name {
                Some(name) => self.services.auth.lookup(name).await.ok().flatten(),
                None => None,
            };
            match known {
                Some(account) => self.services.open_user(&account).await.map(drop),
                None => {
                    let partition = Some(account.partition.clone());
                    let options = UserOptions { partition, ..UserOptions::default() };
                    store.user(owner, &options).await.map(drop)
                }
            }
        };
        if let Err(error) = opened.await {
            let user = self.user.as_ref().map(User::name);
            self.services.log_error(&self.conn, user, "open a shared Maildir", &error);
        }
        met.lock().insert(owner.to_owned());
    }

    /// A user's mailboxes, made with an INBOX if there are none. With the account's limits, if there
    /// is an account.
    pub(super) async fn open_user(&self, owner: &str) -> Result<User, Reply> {
        let failed = |error| self.failure("open a user's mailboxes", &error, "NONEXISTENT");
        let name = UserName::new(owner).map_err(|e| Reply::no(e.to_string()).word("CANNOT"))?;
        match self.services.auth.lookup(&name).await {
            Ok(Some(account)) => self.services.open_user(&account).await.map_err(failed),
            Ok(None) => {
                let options = UserOptions::default();
                self.services.store.user(owner, &options).await.map_err(failed)
            }
            Err(unavailable) => {
                let user = self.user.as_ref().map(User::name);
                self.services.log_error(&self.conn, user, "look up a user", &unavailable);
                Err(Reply::no("Accounts can't be looked up now").word("UNAVAILABLE"))
            }
        }
    }

    /// Users who have mailboxes that this one may see: who gave something, and for administrators
    /// all whom they administer.
    pub(super) async fn others(&self) -> Result<Arc<BTreeSet<String>>, Reply> {
        let viewer = self.viewer()?;
        let store = &self.services.store;
        let failed = |error| self.failure("look up shared mailboxes", &error, "NONEXISTENT");
        if viewer.names.prefixes()[1..].iter().all(Option::is_none) {
            return Ok(Arc::default());
        }
        let reaches = |owner: &String| viewer.reaches(owner) && *owner != viewer.principal.user;
        if viewer.administers() {
            let all = store.users().await.map_err(failed)?;
            return Ok(Arc::new(all.into_iter().filter(reaches).collect()));
        }
        if let Some(index) = viewer.names.index() {
            for account in index.accounts().filter(|account| account.owner != viewer.principal.user)
            {
                self.meet(index, &account.owner).await;
            }
        }
        // Before the look: what changes meanwhile makes it old.
        let generation = store.grants_generation();
        if let Some((of, known)) = &*viewer.granting.borrow()
            && *of == generation
        {
            return Ok(known.clone());
        }
        let mut found = store.granting(&viewer.principal).await.map_err(failed)?;
        found.retain(reaches);
        let found = Arc::new(found);
        *viewer.granting.borrow_mut() = Some((generation, found.clone()));
        Ok(found)
    }

    /// Brings the rights on the selected mailbox up to date, and tells which flags can be stored
    /// when they have changed. Without the right to read the session ends, as RFC 4314 section 5.1.1
    /// allows.
    pub(super) fn check_rights(&mut self) -> Result<(), End> {
        let (Some(selected), Some(viewer)) = (&mut self.selected, &self.viewer) else {
            return Ok(());
        };
        let namespace = selected.owner.namespace();
        if selected.mailbox.is_copy() {
            return Ok(());
        }
        let now = viewer.rights(selected.owner.name(), &namespace, selected.mailbox.id());
        if now == selected.rights {
            return Ok(());
        }
        if !now.contains(Rights::READ) {
            return Err(End::Bye("The selected mailbox may not be read any more"));
        }
        selected.set_rights(now);
        self.conn.out.with_vec(|out| selected.write_flag_names(out));
        Ok(())
    }
}
