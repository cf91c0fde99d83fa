//! GETQUOTA, GETQUOTAROOT and SETQUOTA: RFC 9208.
//!
//! A user's own root is called `#user/NAME`, one on a mailbox `#user/NAME/MAILBOX`. A mailbox's name
//! stands for the root on it too, and that of an INBOX for its user's own, as Cyrus's administrators
//! write it; so does an empty name. Of others, users see the roots of mailboxes that they may read;
//! administrators see and set those of the users whom they administer.

use engine::{INBOX, Namespace, QuotaLimits, QuotaRoot, Rights, User};
use protocol::imap::encode;

use super::super::names::Name;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// Before the name of a user, in names of roots.
const PREFIX: &str = "#user/";
/// STORAGE and ANNOTATION-STORAGE count in these (RFC 9208 section 5.1).
const UNIT_BYTES: u64 = 1024;

/// A root that a client names: whose, and on which mailbox.
struct Named {
    user: User,
    mailbox: Option<String>,
}

pub(in super::super) async fn get(session: &mut Session, root: &str) -> Outcome {
    let named = match find(session, root).await {
        Ok(named) => named,
        Err(reply) => return Ok(reply),
    };
    named.user.look_at_maildirsize(true).await;
    let Some(found) = existing(&named) else {
        return Ok(Reply::no("No such quota root").word("NONEXISTENT"));
    };
    write(session, &named.user, &found);
    Ok(Reply::ok("Completed"))
}

/// The mailbox need not exist: then the answer is what will govern it.
pub(in super::super) async fn get_root(session: &mut Session, mailbox: &str) -> Outcome {
    let place = match session.place(mailbox, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let administers = session.viewer().is_ok_and(|v| v.principal.administers(place.user.name()));
    if !place.own
        && !administers
        && let Err(reply) = place.demand(Rights::READ, "NONEXISTENT")
    {
        return Ok(reply);
    }
    place.user.look_at_maildirsize(true).await;
    let root = place.user.quota_root(&place.name);
    let utf8 = session.features.rev2;
    let name = name_of(&place.user, &root);
    session.conn.out.with_vec(|out| {
        out.extend_from_slice(b"* QUOTAROOT ");
        encode::mailbox(out, mailbox, utf8);
        out.push(b' ');
        encode::mailbox(out, &name, utf8);
        out.extend_from_slice(b"\r\n");
    });
    write(session, &place.user, &root);
    Ok(Reply::ok("Completed"))
}

/// Sets all limits of a root; without any it is one no longer (RFC 9208 section 4.1.3).
pub(in super::super) async fn set(
    session: &mut Session,
    root: String,
    limits: Vec<(String, u64)>,
) -> Outcome {
    let named = match find(session, &root).await {
        Ok(named) => named,
        Err(reply) => return Ok(reply),
    };
    if !session.viewer().is_ok_and(|v| v.principal.administers(named.user.name())) {
        return Ok(Reply::no("Limits are set by administrators").word("NOPERM"));
    }
    let mut wanted = QuotaLimits::default();
    for (resource, limit) in &limits {
        match resource.as_str() {
            "STORAGE" => wanted.bytes = Some(limit.saturating_mul(UNIT_BYTES)),
            "MESSAGE" => wanted.messages = Some(*limit),
            "MAILBOX" => wanted.mailboxes = Some(*limit),
            "ANNOTATION-STORAGE" => {
                wanted.annotation_bytes = Some(limit.saturating_mul(UNIT_BYTES));
            }
            _ => return Ok(Reply::no("No such resource").word("CANNOT")),
        }
    }
    let wanted = (!limits.is_empty()).then_some(wanted);
    if let Err(error) = named.user.set_quota(named.mailbox.as_deref(), wanted).await {
        return Ok(session.failure("set a quota", &error, "NONEXISTENT"));
    }
    if let Some(found) = existing(&named) {
        write(session, &named.user, &found);
    }
    Ok(Reply::ok("Completed"))
}

async fn find(session: &Session, name: &str) -> Result<Named, Reply> {
    let nowhere = || Reply::no("No such quota root").word("NONEXISTENT");
    let viewer = session.viewer()?;
    let (owner, mailbox) = match name.strip_prefix(PREFIX) {
        Some(rest) => {
            let (whose, mailbox) = rest.split_once('/').unwrap_or((rest, INBOX));
            (whose.to_owned(), Namespace::canonical(mailbox))
        }
        None if name.is_empty() => (viewer.principal.user.clone(), INBOX.to_owned()),
        None => match viewer.names.parse(name).ok_or_else(nowhere)? {
            Name::Own(mailbox) => (viewer.principal.user.clone(), mailbox),
            Name::Others { owner, mailbox } => (owner, mailbox),
            Name::Root => return Err(nowhere()),
        },
    };
    let place = session.place_of(&owner, &mailbox).await?.ok_or_else(nowhere)?;
    let readable = place.rights.is_some_and(|rights| rights.contains(Rights::READ));
    if !place.own && !readable && !viewer.principal.administers(&owner) {
        return Err(nowhere());
    }
    Ok(Named { user: place.user, mailbox: (mailbox != INBOX).then_some(mailbox) })
}

/// The root itself, not one above it.
fn existing(named: &Named) -> Option<QuotaRoot> {
    named.user.quota_roots().into_iter().find(|root| root.mailbox == named.mailbox)
}

fn name_of(user: &User, root: &QuotaRoot) -> String {
    match &root.mailbox {
        Some(mailbox) => format!("{PREFIX}{}/{mailbox}", user.name()),
        None => format!("{PREFIX}{}", user.name()),
    }
}

/// The QUOTA line: limited resources only.
fn write(session: &mut Session, user: &User, root: &QuotaRoot) {
    let QuotaRoot { limits, usage, .. } = root;
    let units = |bytes: u64| bytes.div_ceil(UNIT_BYTES);
    let annotation_limit = limits.annotation_bytes.map(|limit| limit / UNIT_BYTES);
    let resources = [
        ("STORAGE", units(usage.bytes), limits.bytes.map(|limit| limit / UNIT_BYTES)),
        ("MESSAGE", usage.messages, limits.messages),
        ("MAILBOX", usage.mailboxes, limits.mailboxes),
        ("ANNOTATION-STORAGE", units(usage.annotation_bytes), annotation_limit),
    ];
    let utf8 = session.features.rev2;
    let name = name_of(user, root);
    session.conn.out.with_vec(|out| {
        out.extend_from_slice(b"* QUOTA ");
        encode::mailbox(out, &name, utf8);
        out.extend_from_slice(b" (");
        let mut space = "";
        for (name, used, limit) in resources {
            if let Some(limit) = limit {
                encode::print(out, format_args!("{space}{name} {used} {limit}"));
                space = " ";
            }
        }
        out.extend_from_slice(b")\r\n");
    });
}
