//! What a client wants to be told of, as NOTIFY SET says it (RFC 5465 sections 5 and 6).

use std::collections::BTreeSet;

use engine::{MessageEvents, Namespace, SEPARATOR};
use protocol::imap::command::{EventGroup, FetchItem, MailboxFilter, NotifyEvent};
use protocol::imap::encode::Code;

use super::others::{EVERYBODY, subtree_of};
use crate::imap::names::{Name, Names};
use crate::imap::reply::Reply;

/// All events, for BADEVENT.
const EVENTS: &str = "BADEVENT (MessageNew MessageExpunge FlagChange AnnotationChange MailboxName \
                      SubscriptionChange MailboxMetadataChange ServerMetadataChange)";

/// What NOTIFY SET asked for; empty after NOTIFY NONE.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) selected: Option<SelectedRule>,
    pub(super) groups: Vec<Group>,
    pub(super) server_metadata: bool,
}

pub(super) struct SelectedRule {
    pub(super) delayed: bool,
    pub(super) flags: bool,
    pub(super) annotations: bool,
    /// What to tell of new messages.
    pub(super) items: Vec<FetchItem>,
}

pub(super) struct Group {
    pub(super) filter: MailboxFilter,
    pub(super) messages: MessageEvents,
    pub(super) names: bool,
    pub(super) subscriptions: bool,
    pub(super) metadata: bool,
}

impl Group {
    fn covers(&self, name: &str, subscriptions: &BTreeSet<String>) -> bool {
        let below = |top: &String| {
            let rest = name.strip_prefix(top.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR))
        };
        match &self.filter {
            MailboxFilter::Selected { .. } => false,
            // Deliveries by address may go to every mailbox: RFC 5465 section 6.3.
            MailboxFilter::Inboxes | MailboxFilter::Personal => !name.starts_with(SEPARATOR),
            MailboxFilter::Subscribed => subscriptions.contains(name),
            MailboxFilter::Subtree(tops) => tops.iter().any(below),
            MailboxFilter::Mailboxes(names) => names.iter().any(|one| one == name),
        }
    }
}

impl Rules {
    /// Reads event groups.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn new(groups: Vec<EventGroup>) -> Result<Rules, Reply> {
        let mut rules = Rules::default();
        let mut selected_seen = false;
        for EventGroup { filter, events } in groups {
            if events.contains(&NotifyEvent::Unknown) {
                let code = Code::Text(EVENTS.to_owned());
                return Err(Reply::no("Not an event that can be told").code(code));
            }
            let has = |event: &NotifyEvent| events.contains(event);
            let new = events.iter().find_map(|event| match event {
                NotifyEvent::MessageNew(items) => Some(items),
                _ => None,
            });
            if new.is_some() != has(&NotifyEvent::MessageExpunge) {
                return Err(Reply::bad("MessageNew and MessageExpunge go together"));
            }
            let flags = has(&NotifyEvent::FlagChange);
            let annotations = has(&NotifyEvent::AnnotationChange);
            if (flags || annotations) && new.is_none() {
                return Err(Reply::bad("Changes of messages need MessageNew and MessageExpunge"));
            }
            let other = [
                NotifyEvent::MailboxName,
                NotifyEvent::SubscriptionChange,
                NotifyEvent::MailboxMetadataChange,
                NotifyEvent::ServerMetadataChange,
            ];
            if let MailboxFilter::Selected { delayed } = filter {
                if std::mem::replace(&mut selected_seen, true) {
                    return Err(Reply::bad("One rule for the selected mailbox at most"));
                }
                if other.iter().any(has) {
                    return Err(Reply::bad("Only message events for the selected mailbox"));
                }
                let items = new.cloned();
                rules.selected =
                    items.map(|items| SelectedRule { delayed, flags, annotations, items });
                continue;
            }
            if new.is_some_and(|items| !items.is_empty()) {
                return Err(Reply::bad("FETCH items only for the selected mailbox"));
            }
            let mut messages = MessageEvents::default();
            if new.is_some() {
                messages = MessageEvents::NEW.union(MessageEvents::EXPUNGED);
            }
            // Both change MODSEQs, and that is what can be told.
            if flags || annotations {
                messages = messages.union(MessageEvents::FLAGS);
            }
            rules.server_metadata |= has(&NotifyEvent::ServerMetadataChange);
            rules.groups.push(Group {
                messages,
                names: has(&NotifyEvent::MailboxName),
                subscriptions: has(&NotifyEvent::SubscriptionChange),
                metadata: has(&NotifyEvent::MailboxMetadataChange),
                filter,
            });
        }
        Ok(rules)
    }

    /// Puts internal names in place of the client's, with those of others' mailboxes as among
    /// subscriptions.
    pub(super) fn take_names(&mut self, names: &Names) {
        for group in &mut self.groups {
            let (given, subtree) = match &mut group.filter {
                MailboxFilter::Subtree(given) => (given, true),
                MailboxFilter::Mailboxes(given) => (given, false),
                _ => continue,
            };
            let internal = |name: &String| match names.parse(name)? {
                Name::Own(name) => Some(name),
                Name::Others { owner, mailbox } if subtree => Some(subtree_of(&owner, &mailbox)),
                Name::Others { owner, mailbox } => {
                    Some(Namespace::name_of_others(&owner, &mailbox))
                }
                Name::Root => subtree.then(|| EVERYBODY.to_owned()),
            };
            *given = given.iter().filter_map(internal).collect();
        }
    }

    pub(super) fn messages(&self, name: &str, subscriptions: &BTreeSet<String>) -> MessageEvents {
        let covering = self.groups.iter().filter(|group| group.covers(name, subscriptions));
        covering.map(|group| group.messages).fold(MessageEvents::default(), MessageEvents::union)
    }

    pub(super) fn any(&self, name: &str, namespace: &Namespace, wants: fn(&Group) -> bool) -> bool {
        let subscriptions = &namespace.subscriptions;
        self.groups.iter().any(|group| wants(group) && group.covers(name, subscriptions))
    }
}
