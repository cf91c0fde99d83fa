//! NOTIFY on others' mailboxes, as far as a user may see them.
//!
//! They are called as among subscriptions ([`Namespace::name_of_others`]). Whoever loses `l` hears
//! that a mailbox is gone, whoever gets it, that one is there (RFC 5465 section 5.4): names are told
//! by what differs from what was seen last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use engine::{Event, MailboxId, MessageEvents, Namespace, Rights, SEPARATOR, User};
use protocol::imap::command::{MailboxFilter, StatusItem};
use protocol::imap::encode::{self, ListLine};

use super::super::cmd;
use super::super::cmd::metadata::READING;
use super::super::reply::{End, Reply};
use super::super::session::Session;
use super::super::sharing::Place;
use super::Rules;

/// Other users whom a session listens to: each stays in memory meanwhile, for all sessions that do.
const OWNERS_MAX: usize = 1024;
/// Mailboxes of theirs that it is told of: it keeps their names, to tell which come and go.
const NAMES_MAX: usize = 16 << 10;

/// What rules are about is more than that.
pub(super) struct TooMuch;

/// Whom a session listens to beside its user.
#[derive(Default)]
pub(super) struct Others {
    users: Vec<User>,
    /// What rules are about and the user may see, as of the last look.
    visible: BTreeMap<String, MailboxId>,
}

impl Others {
    pub(super) fn users(&self) -> &[User] {
        &self.users
    }
}

/// What a subtree begins with, for a mailbox that is so called: an INBOX has all of its user's below
/// it.
pub(super) fn subtree_of(owner: &str, mailbox: &str) -> String {
    match mailbox {
        engine::INBOX => format!("{SEPARATOR}{owner}"),
        _ => Namespace::name_of_others(owner, mailbox),
    }
}

/// Others' mailboxes of every user.
pub(super) const EVERYBODY: &str = "";

impl Rules {
    /// Owners of mailboxes that rules are about; `None`: everybody's.
    fn owners(&self, subscriptions: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        let mut owners = BTreeSet::new();
        let owner = |name: &String| {
            let name = name.strip_prefix(SEPARATOR)?;
            Some(name.split_once(SEPARATOR).map_or(name, |(owner, _)| owner).to_owned())
        };
        for group in &self.groups {
            match &group.filter {
                MailboxFilter::Subtree(names) if names.iter().any(|name| name == EVERYBODY) => {
                    return None;
                }
                MailboxFilter::Subtree(names) | MailboxFilter::Mailboxes(names) => {
                    owners.extend(names.iter().filter_map(owner));
                }
                MailboxFilter::Subscribed => owners.extend(subscriptions.iter().filter_map(owner)),
                _ => {}
            }
        }
        Some(owners)
    }
}

impl Session {
    /// Users whose mailboxes rules are about.
    pub(super) async fn others_of(&self, rules: &Rules, user: &User) -> Result<Others, Reply> {
        let namespace = user.namespace();
        let owners = match rules.owners(&namespace.subscriptions) {
            Some(owners) => owners,
            None => (*self.others().await?).clone(),
        };
        if owners.len() > OWNERS_MAX {
            let text = format!("Mailboxes of at most {OWNERS_MAX} others");
            return Err(Reply::no(text).word("NOTIFICATIONOVERFLOW"));
        }
        let mut users = Vec::new();
        for owner in owners.iter().filter(|owner| owner.as_str() != user.name()) {
            users.extend(self.place_of(owner, engine::INBOX).await?.map(|place| place.user));
        }
        Ok(Others { users, visible: BTreeMap::new() })
    }

    /// Looks anew at what can be seen, and begins with that; an owner a turn.
    ///
    /// # Errors
    /// When that is more than [`NAMES_MAX`]: nothing is begun with.
    pub(super) async fn look_at_others(&mut self, user: &User) -> Result<Result<(), TooMuch>, End> {
        let count = self.notices.as_ref().map_or(0, |notices| notices.others.users.len());
        let mut visible = BTreeMap::new();
        for at in 0..count {
            self.see_other(user, at, &mut visible);
            if visible.len() > NAMES_MAX {
                return Ok(Err(TooMuch));
            }
            self.breathe().await?;
        }
        if let Some(notices) = &mut self.notices {
            notices.others.visible = visible;
        }
        Ok(Ok(()))
    }

    /// Adds what can be seen of one of the others.
    fn see_other(&self, user: &User, at: usize, visible: &mut BTreeMap<String, MailboxId>) {
        let (Some(notices), Ok(viewer)) = (&self.notices, self.viewer()) else { return };
        let (Some(rules), Some(other)) = (&notices.rules, notices.others.users.get(at)) else {
            return;
        };
        let own = user.namespace();
        let (owner, namespace) = (other.name(), other.namespace());
        for (name, entry) in &namespace.mailboxes {
            let rights = viewer.rights(owner, &namespace, entry.id);
            let whole = Namespace::name_of_others(owner, name);
            if rights.contains(Rights::LOOKUP) && rules.any(&whole, &own, |_| true) {
                visible.insert(whole, entry.id);
            }
        }
    }

    /// The mailbox that is so called, if it is there.
    fn other_place(&self, whole: &str) -> Option<Place> {
        let (owner, name) = Namespace::of_others(whole)?;
        let users = self.notices.as_ref()?.others.users.iter();
        let user = users.into_iter().find(|user| user.name() == owner)?.clone();
        let namespace = user.namespace();
        let entry = namespace.mailboxes.get(name)?;
        let rights = Some(self.viewer().ok()?.rights(owner, &namespace, entry.id));
        Some(Place { user, name: name.to_owned(), own: false, rights })
    }

    /// Tells which names of these owners came and went since the last look; says when what is left is
    /// more than a session is told of.
    pub(super) async fn tell_other_names(
        &mut self,
        user: &User,
        owners: &BTreeSet<Arc<str>>,
    ) -> Result<Result<(), TooMuch>, End> {
        for owner in owners {
            let mut now = BTreeMap::new();
            let users = self.notices.as_ref().map_or(&[][..], |notices| notices.others.users());
            let Some(at) = users.iter().position(|user| *user.name() == **owner) else { continue };
            self.see_other(user, at, &mut now);
            let Some(notices) = &mut self.notices else { return Ok(Ok(())) };
            let visible = &mut notices.others.visible;
            // All names of one owner are neighbours.
            let prefix = Namespace::name_of_others(owner, "");
            let range = visible.range(prefix.clone()..).take_while(|(n, _)| n.starts_with(&prefix));
            let before: BTreeMap<String, MailboxId> =
                range.map(|(name, id)| (name.clone(), *id)).collect();
            for name in before.keys() {
                visible.remove(name);
            }
            visible.extend(now.iter().map(|(name, id)| (name.clone(), *id)));
            if visible.len() > NAMES_MAX {
                return Ok(Err(TooMuch));
            }
            let names = before.keys().chain(now.keys()).collect::<BTreeSet<_>>();
            let mut out = Vec::new();
            for whole in names {
                if before.get(whole) != now.get(whole) {
                    self.write_other_name(&mut out, user, whole, now.contains_key(whole));
                }
            }
            self.conn.out.push_vec(out);
            self.breathe().await?;
        }
        Ok(Ok(()))
    }

    fn write_other_name(&self, out: &mut Vec<u8>, user: &User, whole: &str, is_there: bool) {
        let (Ok(viewer), Some(notices)) = (self.viewer(), &self.notices) else { return };
        let own = user.namespace();
        let wanted = |rules: &Rules| rules.any(whole, &own, |group| group.names);
        let Some(shown) = viewer.names.subscribed(whole) else { return };
        if !notices.rules.as_ref().is_some_and(wanted) {
            return;
        }
        let below = format!("{whole}{SEPARATOR}");
        let mut attributes = Vec::new();
        if !is_there {
            attributes.push("\\NonExistent");
        }
        if own.subscriptions.contains(whole) {
            attributes.push("\\Subscribed");
        }
        let visible = &notices.others.visible;
        let next = visible.range(below.clone()..).next();
        attributes.push(match next.is_some_and(|(name, _)| name.starts_with(&below)) {
            true => "\\HasChildren",
            false => "\\HasNoChildren",
        });
        let separator = Some(viewer.names.separator());
        let line = ListLine { attributes, name: &shown, separator, ..ListLine::default() };
        encode::list(out, &line, self.features.rev2);
    }

    /// Which STATUS lines changed messages make; `None`: all, for the first look.
    pub(super) fn other_states(
        &self,
        user: &User,
        happened: Option<&HashMap<MailboxId, MessageEvents>>,
        items: impl Fn(MessageEvents) -> Vec<StatusItem>,
    ) -> Vec<(String, Vec<StatusItem>)> {
        let Some(notices) = &self.notices else { return Vec::new() };
        let Some(rules) = &notices.rules else { return Vec::new() };
        let selected = self.selected.as_ref().map(|selected| selected.mailbox.id());
        let own = user.namespace();
        let mut owed = Vec::new();
        for (whole, id) in notices.others.visible.iter().filter(|(_, id)| Some(**id) != selected) {
            let what = match happened {
                None => None,
                Some(happened) => match happened.get(id) {
                    Some(what) => Some(*what),
                    None => continue,
                },
            };
            let wanted = rules.messages(whole, &own.subscriptions);
            let told = what.map_or(wanted, |what| what.both(wanted));
            if !told.is_empty() {
                owed.push((whole.clone(), items(told)));
            }
        }
        owed
    }

    /// Tells the state of others' mailboxes that may be read.
    pub(super) async fn tell_other_states(
        &mut self,
        owed: Vec<(String, Vec<StatusItem>)>,
    ) -> Result<(), End> {
        for (whole, items) in owed {
            let Some(place) = self.other_place(&whole) else { continue };
            if !place.rights.is_some_and(|rights| rights.contains(Rights::READ)) {
                continue;
            }
            let Some(state) = place.user.statuses(&[place.name.as_str()]).await.pop() else {
                continue;
            };
            // One that fails was deleted meanwhile.
            let Ok(mut state) = state else { continue };
            if self.own_unseen(&place, &mut state).await.is_err() {
                continue;
            }
            let shown = match self.viewer() {
                Ok(viewer) => viewer.names.subscribed(&whole).map(|shown| shown.into_owned()),
                Err(_) => None,
            };
            if let Some(shown) = shown {
                cmd::status::write(self, &shown, &items, &state);
            }
            self.breathe().await?;
        }
        Ok(())
    }

    /// Tells of metadata of another's mailbox.
    pub(super) async fn tell_other_metadata(
        &mut self,
        user: &User,
        event: Event,
    ) -> Result<(), End> {
        let Event::Metadata { mailbox: Some(id), whose, entries } = event else { return Ok(()) };
        if whose.is_some_and(|whose| whose != user.name()) {
            return Ok(());
        }
        let (Some(notices), Ok(viewer)) = (&self.notices, self.viewer()) else { return Ok(()) };
        let found = notices.others.visible.iter().find(|(_, seen)| **seen == id);
        let Some((whole, _)) = found else { return Ok(()) };
        let own = user.namespace();
        let wanted = |rules: &Rules| rules.any(whole, &own, |group| group.metadata);
        let readable = self.other_place(whole).and_then(|place| place.rights);
        if !readable.is_some_and(|rights| rights.intersects(READING))
            || !notices.rules.as_ref().is_some_and(wanted)
        {
            return Ok(());
        }
        let Some(shown) = viewer.names.subscribed(whole) else { return Ok(()) };
        let mut out = b"* METADATA ".to_vec();
        encode::mailbox(&mut out, &shown, self.features.rev2);
        for entry in &entries {
            out.push(b' ');
            encode::astring(&mut out, entry.as_bytes(), false);
        }
        out.extend_from_slice(b"\r\n");
        self.conn.out.push_vec(out);
        self.breathe().await
    }
}
