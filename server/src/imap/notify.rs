//! What a session is told without having asked: NOTIFY (RFC 5465), and metadata that others change
//! (RFC 5464 section 4.4).
//!
//! A session that uses neither has nothing of this. One that does keeps its rules and a listener:
//! what the store posts there says only where to look, and is looked up when it is told, so a
//! session owes each mailbox at most one STATUS line however much happens. Between commands a
//! session waits for its listener beside its socket, without a buffer.
//!
//! | rule | what is told |
//! |---|---|
//! | none | the selected mailbox, at the end of commands and in IDLE |
//! | SELECTED | at once, EXPUNGE too |
//! | SELECTED-DELAYED | at once; expunges, and what comes behind them, with the next command |
//! | another, or NONE | nothing of the selected mailbox but the session's own removals |

mod others;
mod rules;

use std::collections::{BTreeSet, HashMap};

use engine::{
    Event, Heard, Listener, MailboxId, MessageEvents, Namespace, SEPARATOR, User, Watcher,
};
use protocol::imap::command::{EventGroup, FetchItem, MailboxFilter, StatusItem};
use protocol::imap::encode::{self, Code, ListLine, Status};
use protocol::types::ModSeq;

use self::others::Others;
use self::rules::{Group, Rules};
use super::cmd;
use super::names::Names;
use super::reply::{End, Reply};
use super::session::Session;
use super::sync::SyncPoint;

/// Mailboxes beside the selected one whose directories are watched for other programs' deliveries.
/// Of further ones, what this server does to them is told, and what others do when somebody looks.
const WATCHED_MAX: usize = 32;
/// Mailboxes whose state is told before other sessions run.
const TURN: usize = 128;

/// What a session hears of, and what of it the client wants.
pub(super) struct Notices {
    listener: Listener,
    /// ENABLE METADATA.
    metadata: bool,
    /// `None`: NOTIFY was not used.
    rules: Option<Rules>,
    /// The selected mailbox, watched between commands.
    selected: Option<(MailboxId, Watcher)>,
    /// More of the user's own.
    watchers: Vec<Watcher>,
    /// Others' mailboxes.
    others: Others,
    /// The next new messages are the session's own doing.
    own_messages: bool,
}

impl Notices {
    fn new(session: &Session, user: &User) -> Notices {
        let mut listener = Listener::new(&session.services.store);
        listener.hear(user);
        Notices {
            listener,
            metadata: false,
            rules: None,
            selected: None,
            watchers: Vec::new(),
            others: Others::default(),
            own_messages: false,
        }
    }

    /// Whether anything is told between commands.
    fn pushes(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| {
            rules.selected.is_some() || rules.server_metadata || !rules.groups.is_empty()
        })
    }

    async fn woken(&mut self) {
        let Notices { listener, selected, .. } = self;
        match selected {
            Some((_, watcher)) => tokio::select! {
                () = listener.happened() => {}
                () = watcher.changed() => {}
            },
            None => listener.happened().await,
        }
    }
}

/// Returns when something happened beside the selected mailbox, to a session that may not listen
/// at all. Cancel-safe.
pub(super) async fn heard(notices: &Option<Box<Notices>>) {
    match notices {
        Some(notices) => notices.listener.happened().await,
        None => std::future::pending().await,
    }
}

/// Returns when there may be something to tell. Cancel-safe.
async fn woken(notices: &mut Option<Box<Notices>>) {
    match notices {
        Some(notices) => notices.woken().await,
        None => std::future::pending().await,
    }
}

impl Session {
    fn notices(&mut self, user: &User) -> &mut Notices {
        let notices = match self.notices.take() {
            Some(notices) => notices,
            None => Box::new(Notices::new(self, user)),
        };
        self.notices.insert(notices)
    }

    /// ENABLE METADATA.
    pub(super) fn enable_metadata(&mut self) {
        if let Ok(user) = self.user() {
            self.notices(&user).metadata = true;
        }
    }

    /// NOTIFY NONE: nothing is told any more, as RFC 5465 has it not even of the selected mailbox.
    pub(super) fn notify_none(&mut self, user: &User) {
        let notices = self.notices(user);
        notices.rules = Some(Rules::default());
        notices.selected = None;
        notices.watchers.clear();
        notices.others = Others::default();
        notices.listener.hear_messages(false);
    }

    /// NOTIFY SET. What happened before counts as told, by STATUS if the client asks for it.
    pub(super) async fn notify_set(
        &mut self,
        user: &User,
        groups: Vec<EventGroup>,
        status: bool,
    ) -> Result<Result<(), Reply>, End> {
        let mut rules = match Rules::new(groups) {
            Ok(rules) => rules,
            Err(reply) => return Ok(Err(reply)),
        };
        if let Ok(viewer) = self.viewer() {
            rules.take_names(&viewer.names);
        }
        let others = match self.others_of(&rules, user).await {
            Ok(others) => others,
            Err(reply) => return Ok(Err(reply)),
        };
        let messages = rules.groups.iter().any(|group| !group.messages.is_empty());
        // A new one, that hears no others but these.
        let mut listener = Listener::new(&self.services.store);
        listener.hear(user);
        others.users().iter().for_each(|other| listener.hear(other));
        listener.hear_messages(messages);
        let notices = self.notices(user);
        (notices.listener, notices.others, notices.rules) = (listener, others, Some(rules));
        if self.look_at_others(user).await?.is_err() {
            self.notify_none(user);
            let reply = Reply::no("More mailboxes of others than can be told of");
            return Ok(Err(reply.word("NOTIFICATIONOVERFLOW")));
        }
        self.rewatch(user).await;
        if status {
            let namespace = user.namespace();
            let selected = self.selected.as_ref().map(|selected| selected.mailbox.id());
            let Some(rules) = self.notices.as_ref().and_then(|n| n.rules.as_ref()) else {
                return Ok(Ok(()));
            };
            let mut owed = Vec::new();
            for (name, entry) in &namespace.mailboxes {
                let what = rules.messages(name, &namespace.subscriptions);
                if !what.is_empty() && Some(entry.id) != selected {
                    owed.push((name.clone(), self.first_items(what)));
                }
            }
            self.tell_states(user, owed).await?;
            let owed = self.other_states(user, None, |what| self.first_items(what));
            self.tell_other_states(owed).await?;
        }
        Ok(Ok(()))
    }

    /// What the first STATUS line of a mailbox has: RFC 5465 section 3.1.
    fn first_items(&self, what: MessageEvents) -> Vec<StatusItem> {
        let mut items = Vec::new();
        if what.intersects(MessageEvents::NEW) {
            items.extend([StatusItem::Messages, StatusItem::UidNext, StatusItem::UidValidity]);
        }
        if what.intersects(MessageEvents::FLAGS) {
            items.push(StatusItem::HighestModSeq);
        }
        items
    }

    /// What a later one has: sections 5.1 to 5.3.
    fn later_items(&self, what: MessageEvents) -> Vec<StatusItem> {
        let mut items = Vec::new();
        if what.intersects(MessageEvents::NEW.union(MessageEvents::EXPUNGED)) {
            items.extend([StatusItem::Messages, StatusItem::UidNext]);
        }
        if what.intersects(MessageEvents::FLAGS) {
            items.extend([StatusItem::Unseen, StatusItem::UidValidity]);
        }
        if self.features.condstore {
            items.push(StatusItem::HighestModSeq);
        }
        items
    }

    async fn tell_states(
        &mut self,
        user: &User,
        owed: Vec<(String, Vec<StatusItem>)>,
    ) -> Result<(), End> {
        for turn in owed.chunks(TURN) {
            let names: Vec<&str> = turn.iter().map(|(name, _)| name.as_str()).collect();
            let states = user.statuses(&names).await;
            for ((name, items), state) in turn.iter().zip(states) {
                // One that fails was deleted meanwhile.
                if let Ok(state) = state {
                    let name = self.shown(name);
                    cmd::status::write(self, &name, items, &state);
                }
            }
            self.breathe().await?;
        }
        Ok(())
    }

    /// How the client calls one of the user's own mailboxes.
    fn shown(&self, name: &str) -> String {
        match &self.viewer {
            Some(viewer) => viewer.names.own(name).into_owned(),
            None => name.to_owned(),
        }
    }

    /// Watches the first mailboxes that rules are about, for what other programs deliver there.
    async fn rewatch(&mut self, user: &User) {
        let Some(rules) = self.notices.as_ref().and_then(|notices| notices.rules.as_ref()) else {
            return;
        };
        let namespace = user.namespace();
        let wanted = namespace
            .mailboxes
            .keys()
            .filter(|name| !rules.messages(name, &namespace.subscriptions).is_empty());
        let names: Vec<String> = wanted.take(WATCHED_MAX).cloned().collect();
        let mut watchers = Vec::with_capacity(names.len());
        for name in names {
            // One that cannot be opened is not watched; its rule stays.
            if let Ok(mailbox) = user.mailbox(&name).await {
                watchers.push(mailbox.watch());
            }
        }
        if let Some(notices) = &mut self.notices {
            notices.watchers = watchers;
        }
    }

    /// Whether the selected mailbox holds still for the client, whatever happens to it.
    pub(super) fn holds_still(&self) -> bool {
        let rules = self.notices.as_ref().and_then(|notices| notices.rules.as_ref());
        rules.is_some_and(|rules| rules.selected.is_none())
    }

    /// Whether flags that others change are told.
    pub(super) fn tells_flags(&self) -> bool {
        let rules = self.notices.as_ref().and_then(|notices| notices.rules.as_ref());
        rules.and_then(|rules| rules.selected.as_ref()).is_none_or(|selected| selected.flags)
    }

    /// Whether names of annotations that others change are told; `None`: NOTIFY does not say.
    pub(super) fn notifies_annotations(&self) -> Option<bool> {
        let rules = self.notices.as_ref()?.rules.as_ref()?;
        Some(rules.selected.as_ref().is_some_and(|selected| selected.annotations))
    }

    /// What is to be told of new messages in the selected mailbox. Asked for once each time that
    /// some came.
    pub(super) fn items_of_new(&mut self) -> Option<Vec<FetchItem>> {
        let notices = self.notices.as_mut()?;
        let own = std::mem::take(&mut notices.own_messages);
        let items = &notices.rules.as_ref()?.selected.as_ref()?.items;
        (!own && !items.is_empty()).then(|| items.clone())
    }

    /// The next new messages in the selected mailbox are this session's: they are not fetched for it.
    pub(super) fn expect_own_messages(&mut self) {
        if let Some(notices) = &mut self.notices {
            notices.own_messages = true;
        }
    }

    /// Forgets events that this session caused itself (RFC 5465 section 5).
    pub(super) fn forget_own(&self, own: impl Fn(&Event) -> bool) {
        if let (Some(notices), Some(user)) = (&self.notices, &self.user) {
            notices
                .listener
                .forget(|owner, event| (owner == user.name() || owner.is_empty()) && own(event));
        }
    }

    /// Whether the session tells things between commands.
    pub(super) fn pushes(&self) -> bool {
        self.notices.as_ref().is_some_and(|notices| notices.pushes())
    }

    /// Begins or ends to watch what is selected by now.
    pub(super) fn watch_selected(&mut self) {
        let Some(notices) = &mut self.notices else { return };
        let hears = notices.rules.as_ref().is_some_and(|rules| rules.selected.is_some());
        let selected = self.selected.as_ref().filter(|_| hears);
        let now = selected.map(|selected| selected.mailbox.id());
        if notices.selected.as_ref().map(|(id, _)| *id) != now {
            notices.selected =
                selected.map(|selected| (selected.mailbox.id(), selected.mailbox.watch()));
        }
    }

    /// Tells what is known of the selected mailbox between two commands.
    pub(super) async fn push_selected(&mut self) -> Result<(), End> {
        let rules = self.notices.as_ref().and_then(|notices| notices.rules.as_ref());
        let Some(rule) = rules.and_then(|rules| rules.selected.as_ref()) else { return Ok(()) };
        if !rule.delayed {
            return self.sync_point(SyncPoint::Newest).await;
        }
        let Some(selected) = self.selected.as_ref() else { return Ok(()) };
        let newest = selected.mailbox.view();
        if selected.mailbox.is_gone() || newest.is_same(&selected.view) {
            return Ok(());
        }
        self.adopt(newest, (&[], ModSeq(0))).await
    }

    /// Tells what happened elsewhere: at the end of commands, in IDLE, between commands.
    pub(super) async fn tell_notices(&mut self) -> Result<(), End> {
        let Some(notices) = &self.notices else { return Ok(()) };
        if !notices.listener.has_news() {
            return Ok(());
        }
        // Apart from the task's own memory: an idle session shall not have room for it.
        Box::pin(self.tell_news()).await
    }

    async fn tell_news(&mut self) -> Result<(), End> {
        let Some(notices) = &self.notices else { return Ok(()) };
        let Heard { events, messages, overflow } = notices.listener.take();
        let Ok(user) = self.user() else { return Ok(()) };
        if overflow && self.pushes() {
            self.give_up_notify(&user);
            return Ok(());
        }
        let (mut renamed, mut others_renamed) = (false, BTreeSet::new());
        for (owner, event) in events {
            let names = !matches!(event, Event::Metadata { .. });
            if *owner == *user.name() || owner.is_empty() {
                renamed |= names;
                self.tell_event(&user, event).await?;
            } else {
                self.tell_other_metadata(&user, event).await?;
                others_renamed.extend(Some(owner).filter(|_| names));
            }
        }
        if self.tell_other_names(&user, &others_renamed).await?.is_err() {
            self.give_up_notify(&user);
            return Ok(());
        }
        if renamed && self.pushes() {
            self.rewatch(&user).await;
        }
        let happened: HashMap<MailboxId, MessageEvents> = messages.into_iter().collect();
        let owed = self.owed_states(&user, &happened);
        self.tell_states(&user, owed).await?;
        let owed = self.other_states(&user, Some(&happened), |what| self.later_items(what));
        self.tell_other_states(owed).await
    }

    /// There is more than can be told: RFC 5465 section 5.8.
    fn give_up_notify(&mut self, user: &User) {
        self.notify_none(user);
        let code = Code::Word("NOTIFICATIONOVERFLOW");
        self.untagged(Status::Ok, Some(&code), "Too much happened: NOTIFY is off");
    }

    /// Which STATUS lines changed messages make.
    fn owed_states(
        &self,
        user: &User,
        happened: &HashMap<MailboxId, MessageEvents>,
    ) -> Vec<(String, Vec<StatusItem>)> {
        let rules = self.notices.as_ref().and_then(|notices| notices.rules.as_ref());
        let (Some(rules), false) = (rules, happened.is_empty()) else { return Vec::new() };
        let namespace = user.namespace();
        let selected = self.selected.as_ref().map(|selected| selected.mailbox.id());
        let mut owed = Vec::new();
        for (name, entry) in &namespace.mailboxes {
            let Some(what) = happened.get(&entry.id) else { continue };
            let wanted = rules.messages(name, &namespace.subscriptions);
            let told = what.both(wanted);
            if !told.is_empty() && Some(entry.id) != selected {
                owed.push((name.clone(), self.later_items(told)));
            }
        }
        owed
    }

    async fn tell_event(&mut self, user: &User, event: Event) -> Result<(), End> {
        let Some(notices) = &self.notices else { return Ok(()) };
        let namespace = user.namespace();
        let rules = notices.rules.as_ref();
        let wants = |name: &str, wants: fn(&Group) -> bool| {
            rules.is_some_and(|rules| rules.any(name, &namespace, wants))
        };
        let names = |group: &Group| group.names;
        let utf8 = self.features.rev2;
        let Ok(viewer) = self.viewer() else { return Ok(()) };
        let forms = &viewer.names;
        let mut out = Vec::new();
        match &event {
            Event::Created(name) | Event::Deleted(name) => {
                let parent = name.rsplit_once(SEPARATOR).map(|(parent, _)| parent);
                for name in [Some(name.as_str()), parent].into_iter().flatten() {
                    if wants(name, names) {
                        write_name(&mut out, (&namespace, forms), name, None, utf8);
                    }
                }
            }
            Event::Renamed { from, to } => {
                if wants(from, names) || wants(to, names) {
                    write_name(&mut out, (&namespace, forms), to, Some(from), utf8);
                }
            }
            Event::Subscription(name) => {
                // Who asks for subscribed mailboxes hears of one that is none any more, too.
                let subscribed = |group: &Group| {
                    group.subscriptions && matches!(group.filter, MailboxFilter::Subscribed)
                };
                let wanted = rules.is_some_and(|rules| rules.groups.iter().any(subscribed));
                if wanted || wants(name, |group| group.subscriptions) {
                    write_name(&mut out, (&namespace, forms), name, None, utf8);
                }
            }
            // The user's rights on the own mailboxes do not depend on it as far as LIST goes.
            Event::Rights(_) => {}
            Event::Metadata { mailbox, whose, entries } => {
                if whose.as_ref().is_some_and(|whose| whose != user.name()) {
                    return Ok(());
                }
                let name = match mailbox {
                    None => String::new(),
                    Some(id) => {
                        let mut all = namespace.mailboxes.iter();
                        let Some((name, _)) = all.find(|(_, entry)| entry.id == *id) else {
                            return Ok(());
                        };
                        name.clone()
                    }
                };
                let shown = if mailbox.is_some() { forms.own(&name) } else { "".into() };
                let wanted = match mailbox {
                    None => rules.is_some_and(|rules| rules.server_metadata),
                    Some(_) => wants(&name, |group| group.metadata),
                };
                if notices.metadata || wanted {
                    out.extend_from_slice(b"* METADATA ");
                    encode::mailbox(&mut out, &shown, utf8);
                    for entry in entries {
                        out.push(b' ');
                        encode::astring(&mut out, entry.as_bytes(), false);
                    }
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        self.conn.out.push_vec(out);
        self.breathe().await
    }

    /// [`Session::fill`] of a session that tells things between commands.
    pub(super) async fn fill_and_push(&mut self) -> Result<(), End> {
        let (wait, reason) = self.patience();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            self.watch_selected();
            self.push_selected().await?;
            self.tell_notices().await?;
            self.conn.flush().await?;
            self.framer.release();
            let services = &self.services;
            let read = tokio::select! {
                biased;
                () = services.leaving(self.audience()) => {
                    return Err(services.why_leave(&self.audience()).into());
                }
                read = tokio::time::timeout_at(deadline, self.conn.fill()) => read,
                () = woken(&mut self.notices) => continue,
            };
            return match read {
                Err(_) => Err(End::Bye(reason)),
                Ok(Ok(0)) => Err(End::Closed),
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(End::Io(error)),
            };
        }
    }
}

/// The LIST line of a name as it is now.
fn write_name(
    out: &mut Vec<u8>,
    (namespace, forms): (&Namespace, &Names),
    name: &str,
    old_name: Option<&str>,
    utf8: bool,
) {
    let Some(shown) = forms.subscribed(name) else { return };
    let old_shown = old_name.map(|name| forms.own(name));
    let entry = namespace.mailboxes.get(name);
    let mut attributes = Vec::new();
    if entry.is_none() {
        attributes.push("\\NonExistent");
    }
    if namespace.subscriptions.contains(name) {
        attributes.push("\\Subscribed");
    }
    attributes.push(match namespace.has_children(name) {
        true => "\\HasChildren",
        false => "\\HasNoChildren",
    });
    attributes.extend(entry.iter().flat_map(|entry| &entry.special_use).map(|use_| use_.as_str()));
    let (name, old_name) = (&*shown, old_shown.as_deref());
    let separator = Some(forms.separator());
    let line = ListLine { attributes, name, old_name, separator, ..ListLine::default() };
    encode::list(out, &line, utf8);
}

/// Whether a change of names is about this name.
pub(super) fn is_name_event(event: &Event, name: &str) -> bool {
    match event {
        Event::Created(made) | Event::Deleted(made) | Event::Subscription(made) => made == name,
        Event::Renamed { from, to } => from == name || to == name,
        Event::Metadata { .. } | Event::Rights(_) => false,
    }
}
