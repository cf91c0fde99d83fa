//! CREATE: RFC 3501 section 6.3.3, USE of RFC 6154, MAILBOXID of RFC 8474. Needs `k` on the nearest
//! mailbox above (RFC 4314), of another user's without one on the INBOX.
//!
//! Administrators make users so, as with Cyrus: `CREATE user.jo`, with a partition behind it.

use std::sync::Arc;

use engine::{Acl, INBOX, NewMailbox, Rights, SpecialUse, User};
use protocol::imap::encode::Code;

use super::super::names::Name;
use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::super::sharing::Place;

pub(in super::super) async fn run(
    session: &mut Session,
    name: String,
    partition: Option<String>,
    special_use: Vec<String>,
) -> Outcome {
    let uses: Option<Vec<SpecialUse>> =
        special_use.iter().map(|name| SpecialUse::parse(name)).collect();
    let Some(uses) = uses else {
        return Ok(Reply::no("Unknown special use").word("USEATTR"));
    };
    let target = match target(session, &name).await {
        Ok(target) => target,
        Err(reply) => return Ok(reply),
    };
    let Target { place, made_now } = target;
    if partition.is_some() && !session.viewer().is_ok_and(|v| v.administers()) {
        return Ok(Reply::no("Administrators choose partitions").word("NOPERM"));
    }
    let name = place.name.as_str();
    if name == INBOX && !made_now {
        return Ok(Reply::no("INBOX exists").word("ALREADYEXISTS"));
    }
    let inherits_inbox = !place.own && !session.viewer().is_ok_and(|v| v.administers());
    let made = match name {
        INBOX => Ok(()),
        _ => {
            let acl_without_parent = default_acl(session, place.user.name());
            let options = NewMailbox { partition, inherits_inbox, acl_without_parent };
            place.user.create_as(name, &uses, options).await
        }
    };
    match made {
        Ok(()) => {
            session.forget_own(|event| notify::is_name_event(event, name));
            let reply = Reply::ok("Created");
            // Deleted again in the meantime, it has none.
            Ok(match place.user.namespace().mailboxes.get(name) {
                Some(entry) => reply.code(Code::MailboxId(entry.object_id())),
                None => reply,
            })
        }
        Err(error) => Ok(session.failure("create a mailbox", &error, "NONEXISTENT")),
    }
}

/// The list of a new shared mailbox that is below no other.
fn default_acl(session: &Session, owner: &str) -> Option<Arc<Acl>> {
    let viewer = session.viewer().ok().filter(|viewer| viewer.names.are_shared(owner))?;
    let config = session.services.config();
    let pair = |entry: &String| entry.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let texts: Vec<_> = config.sharing.default_acl.iter().filter_map(pair).collect();
    let acl = Acl::of_texts(texts.iter().map(|(name, rights)| (name, rights)));
    let acl = acl.filter(|_| !texts.is_empty())?;
    viewer.principal.administers(owner).then(|| Arc::new(acl))
}

/// Where a new mailbox is to be.
pub(super) struct Target {
    pub(super) place: Place,
    /// The user had no mailboxes before.
    made_now: bool,
}

/// Where a name that is to be made would be, if this user may make it.
pub(super) async fn target(session: &Session, name: &str) -> Result<Target, Reply> {
    let viewer = session.viewer()?;
    // A separator at the end only says that children are to come.
    let name = name.strip_suffix(viewer.names.separator()).unwrap_or(name);
    let nowhere = || Reply::no("No mailbox can have this name here").word("CANNOT");
    let mut made_now = false;
    let (user, name, own) = match viewer.names.parse(name).ok_or_else(nowhere)? {
        Name::Root => return Err(nowhere()),
        Name::Own(name) => (session.user()?, name, true),
        Name::Others { owner, mailbox } => {
            let store = &session.services.store;
            let failed = |e| session.failure("open a user's mailboxes", &e, "NONEXISTENT");
            if viewer.principal.administers(&owner) {
                made_now = !store.has_user(&owner).await.map_err(failed)?;
                (session.open_user(&owner).await?, mailbox, false)
            } else {
                let above = session.place_of(&owner, INBOX).await?;
                (above.ok_or_else(denied)?.user, mailbox, false)
            }
        }
    };
    let name = name.strip_suffix(engine::SEPARATOR).unwrap_or(&name).to_owned();
    if own && viewer.names.is_copy(&name) {
        // What others share is theirs to make.
        return Err(denied());
    }
    demand_above(session, &user, &name)?;
    let rights = None;
    Ok(Target { place: Place { user, name, own, rights }, made_now })
}

/// Refuses, unless the user may make mailboxes at this place.
fn demand_above(session: &Session, user: &User, name: &str) -> Result<(), Reply> {
    let viewer = session.viewer()?;
    let namespace = user.namespace();
    let above = namespace.above(name);
    let rights = namespace.mailboxes.get(above).map(|entry| {
        // Names beside the INBOX are the user's own affair, whatever its list says.
        let own = user.name() == viewer.principal.user && above == INBOX;
        if own { Rights::ALL } else { viewer.rights(user.name(), &namespace, entry.id) }
    });
    match rights {
        Some(rights) if rights.contains(Rights::CREATE) => Ok(()),
        // The same, whether the mailbox above is there and not seen, or not there.
        _ => Err(denied()),
    }
}

fn denied() -> Reply {
    Reply::no("You have no right to make mailboxes here").word("NOPERM")
}
