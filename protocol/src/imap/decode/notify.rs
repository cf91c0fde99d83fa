//! Arguments of NOTIFY: RFC 5465 section 8.
//!
//! What fits together and what does not is the session's affair: some of it is answered with NO.

use nom::Parser;
use nom::bytes::complete::tag_no_case;
use nom::character::complete::char;
use nom::combinator::{cut, map, opt};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded};

use super::super::command::{Body, EventGroup, MailboxFilter, Notify, NotifyEvent};
use super::Dialect;
use super::fetch::items;
use super::token::{Reject, Res, atom, expect, keyword_upper, mailbox, sp};

/// Most event groups in one NOTIFY.
const GROUPS_MAX: usize = 100;
/// Most names in one group.
const NAMES_MAX: usize = 1000;

pub(super) fn notify(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (rest, word) = preceded(sp, keyword_upper).parse(i)?;
    match word.as_str() {
        "NONE" => Ok((rest, Body::Notify(Notify::None))),
        "SET" => {
            let (rest, status) = opt((char(' '), tag_no_case("STATUS"))).parse(rest)?;
            let group = |i| group(i, dialect);
            let (rest, groups) = preceded(sp, cut(separated_list1(sp, group))).parse(rest)?;
            if groups.len() > GROUPS_MAX {
                return Err(Reject::error(i, "at most 100 event groups"));
            }
            Ok((rest, Body::Notify(Notify::Set { status: status.is_some(), groups })))
        }
        _ => Err(Reject::error(i, "SET or NONE")),
    }
}

fn group(i: &[u8], dialect: Dialect) -> Res<'_, EventGroup> {
    let (i, _) = expect("(", char('(')).parse(i)?;
    let (rest, word) = keyword_upper(i)?;
    let (rest, filter) = match word.as_str() {
        "SELECTED" => (rest, MailboxFilter::Selected { delayed: false }),
        "SELECTED-DELAYED" => (rest, MailboxFilter::Selected { delayed: true }),
        "INBOXES" => (rest, MailboxFilter::Inboxes),
        "PERSONAL" => (rest, MailboxFilter::Personal),
        "SUBSCRIBED" => (rest, MailboxFilter::Subscribed),
        "SUBTREE" => map(|i| names(i, dialect), MailboxFilter::Subtree).parse(rest)?,
        "MAILBOXES" => map(|i| names(i, dialect), MailboxFilter::Mailboxes).parse(rest)?,
        _ => return Err(Reject::error(i, "a mailbox filter such as SELECTED or PERSONAL")),
    };
    let (rest, _) = sp(rest)?;
    let (rest, events) = events(rest)?;
    let (rest, _) = expect(")", char(')')).parse(rest)?;
    Ok((rest, EventGroup { filter, events }))
}

fn names(i: &[u8], dialect: Dialect) -> Res<'_, Vec<String>> {
    let (i, _) = sp(i)?;
    let name = |i| mailbox(i, dialect);
    if i.first() != Some(&b'(') {
        return map(name, |name| vec![name]).parse(i);
    }
    let list = separated_list1(sp, name);
    let (rest, names) = delimited(char('('), list, expect(")", char(')'))).parse(i)?;
    if names.len() > NAMES_MAX {
        return Err(Reject::error(i, "at most 1000 mailboxes"));
    }
    Ok((rest, names))
}

/// The examples of RFC 5465 leave the parentheses out around events.
fn events(i: &[u8]) -> Res<'_, Vec<NotifyEvent>> {
    if let Ok((rest, _)) = tag_no_case::<_, _, Reject>("NONE").parse(i) {
        return Ok((rest, Vec::new()));
    }
    let list = || separated_list1(char(' '), event);
    match i.first() {
        Some(b'(') => delimited(char('('), cut(list()), expect(")", char(')'))).parse(i),
        _ => list().parse(i),
    }
}

fn event(i: &[u8]) -> Res<'_, NotifyEvent> {
    let (rest, name) = expect("an event", atom).parse(i)?;
    let event = match name.to_ascii_uppercase().as_str() {
        "MESSAGENEW" => {
            let (rest, items) = opt(preceded(char(' '), items)).parse(rest)?;
            return Ok((rest, NotifyEvent::MessageNew(items.unwrap_or_default())));
        }
        "MESSAGEEXPUNGE" => NotifyEvent::MessageExpunge,
        "FLAGCHANGE" => NotifyEvent::FlagChange,
        "ANNOTATIONCHANGE" => NotifyEvent::AnnotationChange,
        "MAILBOXNAME" => NotifyEvent::MailboxName,
        "SUBSCRIPTIONCHANGE" => NotifyEvent::SubscriptionChange,
        "MAILBOXMETADATACHANGE" => NotifyEvent::MailboxMetadataChange,
        "SERVERMETADATACHANGE" => NotifyEvent::ServerMetadataChange,
        _ => NotifyEvent::Unknown,
    };
    Ok((rest, event))
}
