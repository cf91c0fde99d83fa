//! GETQUOTA, GETQUOTAROOT and SETQUOTA: RFC 9208.
//!
//! A user's own root is called `#user/NAME`, one on a mailbox `#user/NAME/MAILBOX`. A mailbox's name
//! stands for the root on it too, and INBOX for the user's own, as Cyrus's administrators write it;
//! so does an empty name.

use engine::{INBOX, QuotaRoot, User};
use protocol::imap::encode;

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

pub(in super::super) fn get(session: &mut Session, root: &str) -> Outcome {
    let named = match find(session, root) {
        Ok(named) => named,
        Err(reply) => return Ok(reply),
    };
    let Some(found) = existing(&named) else {
        return Ok(Reply::no("No such quota root").word("NONEXISTENT"));
    };
    write(session, &named.user, &found);
    Ok(Reply::ok("Completed"))
}

/// The mailbox need not exist: then the answer is what will govern it.
pub(in super::super) fn get_root(session: &mut Session, mailbox: &str) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    let root = user.quota_root(mailbox);
    let utf8 = session.features.rev2;
    let name = name_of(&user, &root);
    session.conn.out.with_vec(|out| {
        out.extend_from_slice(b"* QUOTAROOT ");
        encode::mailbox(out, mailbox, utf8);
        out.push(b' ');
        encode::mailbox(out, &name, utf8);
        out.extend_from_slice(b"\r\n");
    });
    write(session, &user, &root);
    Ok(Reply::ok("Completed"))
}

pub(in super::super) fn set() -> Outcome {
    Ok(Reply::no("Limits are set by administrators").word("NOPERM"))
}

fn find(session: &Session, name: &str) -> Result<Named, Reply> {
    let user = session.user()?;
    let mailbox = match name.strip_prefix(PREFIX) {
        Some(rest) => {
            let (whose, mailbox) = match rest.split_once('/') {
                Some((whose, mailbox)) => (whose, Some(mailbox)),
                None => (rest, None),
            };
            if whose != user.name() {
                return Err(Reply::no("No such quota root").word("NONEXISTENT"));
            }
            mailbox
        }
        None => Some(name),
    };
    let mailbox = mailbox.filter(|name| !name.is_empty() && *name != INBOX);
    Ok(Named { user, mailbox: mailbox.map(str::to_owned) })
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
    let resources = [
        ("STORAGE", units(usage.bytes), limits.bytes.map(|limit| limit / UNIT_BYTES)),
        ("MESSAGE", usage.messages, limits.messages),
        ("MAILBOX", usage.mailboxes, limits.mailboxes),
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
