//! NOTIFY on others' mailboxes, as far as a user may see them.
//!
//! They are called as among subscriptions ([`Namespace::name_of_others`]). Whoever loses `l` hears
//! that a mailbox is gone, whoever gets it, that one is there (RFC 5465 section 5.4): names are told
//! by what differs from what was seen last.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::{Event, MailboxId, MessageEvents, Namespace, Rights, SEPARATOR, User};
use protocol::imap::command::{MailboxFilter, StatusItem};
use protocol::imap::encode::{self, ListLine};

use super::super::cmd;
use super::super::cmd::metadata::READING;
use super::super::reply::{End, Reply};
use super::super::session::Session;
use super::super::sharing::Place;
use super::Rules;

/// Other users whom a session listens to.
const OWNERS_MAX: usize = 64;

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

    /// Looks anew at what can be seen, and begins with that.
    pub(super) fn look_at_others(&mut self, user: &User) {
        let visible = self.visible_others(user);
        if let Some(notices) = &mut self.notices {
            notices.others.visible = visible;
        }
    }

    fn visible_others(&self, user: &User) -> BTreeMap<String, MailboxId> {
        let mut visible = BTreeMap::new();
        let (Some(notices), Ok(viewer)) = (&self.notices, self.viewer()) else { return visible };
        let Some(rules) = &notices.rules else { return visible };
        let own = user.namespace();
        for other in &notices.others.users {
            let (owner, namespace) = (other.name(), other.namespace());
            for (name, entry) in &namespace.mailboxes {
                let rights = viewer.rights(owner, &namespace, entry.id);
                let whole = Namespace::name_of_others(owner, name);
                if rights.contains(Rights::LOOKUP) && rules.any(&whole, &own, |_| true) {
                    visible.insert(whole, entry.id);
                }
            }
        }
        visible
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

    /// Tells which names came and went since the last look.
    pub(super) async fn tell_other_names(&mut self, user: &User) -> Result<(), End> {
        let now = self.visible_others(user);
        let Some(notices) = &mut self.notices else { return Ok(()) };
        let before = std::mem::replace(&mut notices.others.visible, now.clone());
        let names = before.keys().chain(now.keys()).collect::<BTreeSet<_>>();
        let mut out = Vec::new();
        for whole in names {
            if before.get(whole) != now.get(whole) {
                self.write_other_name(&mut out, user, whole, now.contains_key(whole));
            }
        }
        self.conn.out.push_vec(out);
        self.breathe().await
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
        attributes.push(match notices.others.visible.keys().any(|name| name.starts_with(&below)) {
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
            let wanted = rules.messages(whole, &own.subscriptions);
            let told = match happened {
                None => wanted,
                Some(happened) => happened.get(id).copied().unwrap_or_default().both(wanted),
            };
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
