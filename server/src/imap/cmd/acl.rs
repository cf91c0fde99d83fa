//! GETACL, SETACL, DELETEACL, LISTRIGHTS and MYRIGHTS: RFC 4314.
//!
//! Identifiers are written as Cyrus does (`jo`, `group:staff`), on listeners with Courier's names as
//! Courier does: `jo` (its `user=jo` is for files and SMAP), and of groups, which it does not tell
//! by IMAP, `group=staff` as in its files. All of these are read everywhere. A name without a domain
//! is of the mailbox owner's.

use engine::{AclEntry, Authority, Identifier, Rights, RightsChange, domain_of};
use protocol::imap::encode;

use super::super::names::qualified;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::super::sharing::Place;

/// One of these, and a user may ask for his own rights.
const ANY: Rights = Rights::LOOKUP
    .union(Rights::READ)
    .union(Rights::INSERT)
    .union(Rights::CREATE)
    .union(Rights::DELETE_MAILBOX)
    .union(Rights::ADMINISTER);

/// What can be given to anybody, as LISTRIGHTS tells it: none is tied to another, and `c` and `d`
/// stand for others.
const OPTIONAL: &str = "l r s w i p k x t e c d a n";

pub(in super::super) async fn get(session: &mut Session, mailbox: &str) -> Outcome {
    let place = match session.place_with(mailbox, Rights::ADMINISTER, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let acl = match place.user.acl(&place.name) {
        Ok(acl) => acl,
        Err(error) => return Ok(session.failure("read an access list", &error, "NONEXISTENT")),
    };
    let courier = session.viewer().is_ok_and(|viewer| viewer.names.is_courier());
    let mut line = begin(session, "ACL", mailbox);
    for (entry, rights) in acl.entries() {
        line.push(b' ');
        let name = written(entry, place.user.name(), courier);
        encode::astring(&mut line, name.as_bytes(), session.features.utf8());
        line.push(b' ');
        line.extend_from_slice(rights.wire().as_bytes());
    }
    line.extend_from_slice(b"\r\n");
    session.conn.out.push_vec(line);
    Ok(Reply::ok("Completed"))
}

pub(in super::super) async fn set(
    session: &mut Session,
    mailbox: String,
    identifier: String,
    rights: String,
) -> Outcome {
    let (change, letters): (fn(Rights) -> RightsChange, &str) = match rights.split_at_checked(1) {
        Some(("+", letters)) => (RightsChange::Add, letters),
        Some(("-", letters)) => (RightsChange::Remove, letters),
        _ => (RightsChange::Replace, rights.as_str()),
    };
    let Some(rights) = Rights::parse(letters) else {
        return Ok(Reply::bad("Expected rights out of lrswipkxtecdan"));
    };
    change_entry(session, &mailbox, &identifier, change(rights)).await
}

pub(in super::super) async fn delete(
    session: &mut Session,
    mailbox: String,
    identifier: String,
) -> Outcome {
    change_entry(session, &mailbox, &identifier, RightsChange::Replace(Rights::NONE)).await
}

async fn change_entry(
    session: &mut Session,
    mailbox: &str,
    identifier: &str,
    change: RightsChange,
) -> Outcome {
    let place = match session.place_with(mailbox, Rights::ADMINISTER, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let entry = match entry(session, &place, identifier) {
        Ok(entry) => entry,
        Err(reply) => return Ok(reply),
    };
    match place.user.set_acl(&place.name, entry, change).await {
        Ok(()) => Ok(Reply::ok("Completed")),
        Err(error) => Ok(session.failure("change an access list", &error, "NONEXISTENT")),
    }
}

pub(in super::super) async fn list(
    session: &mut Session,
    mailbox: String,
    identifier: String,
) -> Outcome {
    let place = match session.place_with(&mailbox, Rights::ADMINISTER, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let entry = match entry(session, &place, &identifier) {
        Ok(entry) => entry,
        Err(reply) => return Ok(reply),
    };
    let owner = match &entry.who {
        Identifier::Owner => true,
        Identifier::User(name) => name == place.user.name(),
        _ => false,
    };
    let mut line = begin(session, "LISTRIGHTS", &mailbox);
    line.push(b' ');
    encode::astring(&mut line, identifier.as_bytes(), session.features.utf8());
    if owner && !entry.negative {
        let others = OPTIONAL.split(' ').filter(|letter| !matches!(*letter, "l" | "a"));
        line.extend_from_slice(b" la ");
        line.extend_from_slice(others.collect::<Vec<_>>().join(" ").as_bytes());
    } else {
        line.extend_from_slice(b" \"\" ");
        line.extend_from_slice(OPTIONAL.as_bytes());
    }
    line.extend_from_slice(b"\r\n");
    session.conn.out.push_vec(line);
    Ok(Reply::ok("Completed"))
}

pub(in super::super) async fn mine(session: &mut Session, mailbox: &str) -> Outcome {
    let place = match session.place(mailbox, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    if let Err(reply) = place.demand_if("NONEXISTENT", |rights| rights.intersects(ANY)) {
        return Ok(reply);
    }
    let line = my_rights(session, mailbox, place.rights.unwrap_or_default());
    session.conn.out.push_vec(line);
    Ok(Reply::ok("Completed"))
}

/// `* MYRIGHTS name rights`, also of LIST (RFC 8440).
pub(super) fn my_rights(session: &Session, mailbox: &str, rights: Rights) -> Vec<u8> {
    let mut line = begin(session, "MYRIGHTS", mailbox);
    line.push(b' ');
    encode::astring(&mut line, rights.wire().as_bytes(), false);
    line.extend_from_slice(b"\r\n");
    line
}

fn begin(session: &Session, word: &str, mailbox: &str) -> Vec<u8> {
    let mut line = format!("* {word} ").into_bytes();
    encode::mailbox(&mut line, mailbox, session.features.utf8());
    line
}

/// The entry that an identifier names on a mailbox.
fn entry(session: &Session, place: &Place, identifier: &str) -> Result<AclEntry, Reply> {
    let viewer = session.viewer()?;
    let home = domain_of(place.user.name());
    let entry = AclEntry::parse(identifier, |name| qualified(name, home))
        .ok_or_else(|| Reply::bad("Expected the name of a user or a group"))?;
    let domain = match &entry.who {
        Identifier::User(name) | Identifier::Group(name) => domain_of(name),
        _ => home,
    };
    let far = viewer.principal.authority == Authority::Everything
        || session.services.config().sharing.cross_domains;
    if domain != home && !far {
        return Err(Reply::no("Rights are for users of the same domain").word("NOPERM"));
    }
    Ok(entry)
}

/// An identifier as clients of the listener know it.
fn written(entry: &AclEntry, owner: &str, courier: bool) -> String {
    let sign = if entry.negative { "-" } else { "" };
    match &entry.who {
        Identifier::Owner if !courier => {
            let entry =
                AclEntry { negative: entry.negative, who: Identifier::User(owner.to_owned()) };
            entry.to_string()
        }
        // `owner` and the like may be names of users, too.
        Identifier::User(name) if courier => {
            let told = format!("{sign}{name}");
            match AclEntry::parse(&told, |name| Some(name.to_owned())) {
                Some(read) if read == *entry => told,
                _ => format!("{sign}user={name}"),
            }
        }
        Identifier::Group(name) if courier => format!("{sign}group={name}"),
        _ => entry.to_string(),
    }
}
