//! GETMETADATA and SETMETADATA: RFC 5464, RFC 6154 section 4 (`/private/specialuse`), RFC 9590.
//!
//! As Cyrus's administrators write it, `/*` at an entry's end stands for all below, `/%` for one level.

use std::sync::Arc;

use engine::{Authority, Depth, Error, Event, Rights, User, entry_name};
use protocol::imap::command::{GetMetadata, MetadataDepth};
use protocol::imap::encode::{self, Code};

use super::super::filters;
use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;

/// How to reach the administrator; set in the configuration.
const ADMIN: &str = "/shared/admin";

/// One entry that is asked for: as the client wrote it, stored name, depth.
struct Asked {
    written: String,
    name: String,
    depth: Depth,
    /// A pattern, which does not ask for the entry itself.
    pattern: bool,
}

fn asked(entry: String, depth: Depth) -> Option<Asked> {
    let (name, depth, pattern) = match (entry.strip_suffix("/*"), entry.strip_suffix("/%")) {
        (Some(name), _) => (name, Depth::Infinity, true),
        (None, Some(name)) => (name, Depth::One, true),
        (None, None) => (entry.as_str(), depth, false),
    };
    let name = entry_name(name)?;
    Some(Asked { written: entry, name, depth, pattern })
}

/// Beside `l`, one of these is needed to read a mailbox's metadata and to set one's own (RFC 5464
/// section 3.3).
pub(in super::super) const READING: Rights =
    Rights::READ.union(Rights::SEEN).union(Rights::WRITE).union(Rights::INSERT).union(Rights::POST);

/// Whose metadata a command is about, and of which mailbox; `None`: the server's.
async fn place(
    session: &Session,
    mailbox: Option<&str>,
) -> Result<(User, Option<String>, Rights), Reply> {
    let Some(mailbox) = mailbox else { return Ok((session.user()?, None, Rights::ALL)) };
    let place = session.place(mailbox, "NONEXISTENT").await?;
    let good = |rights: Rights| rights.contains(Rights::LOOKUP) && rights.intersects(READING);
    // Administrators set what is shared of mailboxes that they cannot read.
    let administers = session.viewer()?.principal.administers(place.user.name());
    place.demand_if("NONEXISTENT", |rights| good(rights) || administers)?;
    let rights = place.rights.unwrap_or_default();
    let rights = if administers { rights.union(Rights::WRITE) } else { rights };
    Ok((place.user, Some(place.name), rights))
}

pub(in super::super) async fn get(session: &mut Session, get: GetMetadata) -> Outcome {
    let (user, name, _) = match place(session, get.mailbox.as_deref()).await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let depth = match get.depth {
        MetadataDepth::Zero => Depth::Zero,
        MetadataDepth::One => Depth::One,
        MetadataDepth::Infinity => Depth::Infinity,
    };
    let entries = get.entries.into_iter().map(|entry| asked(entry, depth));
    let Some(entries) = entries.collect::<Option<Vec<Asked>>>() else {
        return Ok(Reply::bad("Expected names that begin with /private or /shared"));
    };
    let mut longest = None;
    let found = match values(session, &user, name.as_deref(), &entries).await {
        Ok(found) => found,
        Err(error) => return Ok(session.failure("read metadata", &error, "NONEXISTENT")),
    };
    let told = found.into_iter().filter(|(_, value)| {
        let long = value.as_ref().map(|value| value.len() as u64);
        let long = long.filter(|size| get.max_size.is_some_and(|max| *size > max));
        longest = longest.max(long);
        long.is_none()
    });
    let told: Vec<_> = told.collect();
    let utf8 = session.features.rev2;
    if !told.is_empty() {
        let mailbox = get.mailbox.as_deref().unwrap_or_default();
        session.conn.out.with_vec(|out| write(out, mailbox, &told, utf8));
    }
    session.breathe().await?;
    let reply = Reply::ok("Completed");
    Ok(match longest {
        Some(bytes) => reply.code(Code::Text(format!("METADATA LONGENTRIES {bytes}"))),
        None => reply,
    })
}

/// Metadata of a mailbox that LIST returns (RFC 9590).
pub(super) async fn listed(
    session: &mut Session,
    (user, name): (&User, &str),
    mailbox: &str,
    entries: &[String],
) -> Result<(), End> {
    let entries: Vec<Asked> =
        entries.iter().filter_map(|entry| asked(entry.clone(), Depth::Zero)).collect();
    match values(session, user, Some(name), &entries).await {
        Ok(found) if !found.is_empty() => {
            let utf8 = session.features.rev2;
            session.conn.out.with_vec(|out| write(out, mailbox, &found, utf8));
        }
        Ok(_) => {}
        // One that fails (deleted just now) has no line.
        Err(error) => {
            session.failure("read metadata", &error, "NONEXISTENT");
        }
    }
    session.breathe().await
}

type Values = Vec<(String, Option<Arc<[u8]>>)>;

async fn values(
    session: &Session,
    user: &User,
    mailbox: Option<&str>,
    entries: &[Asked],
) -> engine::Result<Values> {
    let mut out: Values = Vec::new();
    let viewer = session.user.as_ref().map_or("", User::name);
    for Asked { written, name, depth, pattern } in entries {
        let found = user.metadata(mailbox, viewer, vec![name.clone()], *depth).await?;
        for (at, (entry, value)) in found.into_iter().enumerate() {
            let value = match mailbox {
                None if entry == ADMIN => admin(session),
                _ => value,
            };
            // Who asks for more than the entry hears only of what is there.
            if at == 0 && (*pattern || value.is_none() && *depth != Depth::Zero) {
                continue;
            }
            let entry = if at == 0 { written.clone() } else { entry };
            if !out.iter().any(|(known, _)| known.eq_ignore_ascii_case(&entry)) {
                out.push((entry, value));
            }
        }
        // Not stored, so not found below either.
        let above = ADMIN.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if mailbox.is_none() && above && *depth != Depth::Zero {
            out.extend(admin(session).map(|value| (ADMIN.to_owned(), Some(value))));
        }
    }
    Ok(out)
}

fn admin(session: &Session) -> Option<Arc<[u8]>> {
    let uri = session.services.config().imap.metadata_admin.clone();
    (!uri.is_empty()).then(|| Arc::from(uri.into_bytes()))
}

/// `* METADATA name (entry value …)`
pub(super) fn write(out: &mut Vec<u8>, mailbox: &str, values: &Values, utf8: bool) {
    out.extend_from_slice(b"* METADATA ");
    encode::mailbox(out, mailbox, utf8);
    out.extend_from_slice(b" (");
    for (at, (entry, value)) in values.iter().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        encode::astring(out, entry.as_bytes(), false);
        out.push(b' ');
        encode::nstring8(out, value.as_deref(), utf8);
    }
    out.extend_from_slice(b")\r\n");
}

pub(in super::super) async fn set(
    session: &mut Session,
    mailbox: Option<&str>,
    changes: Vec<(String, Option<Vec<u8>>)>,
) -> Outcome {
    let (user, name, rights) = match place(session, mailbox).await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let named = changes.into_iter().map(|(entry, value)| Some((entry_name(&entry)?, value)));
    let Some(changes) = named.collect::<Option<Vec<_>>>() else {
        return Ok(Reply::bad("Expected names that begin with /private or /shared"));
    };
    if mailbox.is_none() {
        if changes.iter().any(|(entry, _)| entry == ADMIN) {
            return Ok(Reply::no("That entry is set in the configuration").word("CANNOT"));
        }
        let refusal =
            |(entry, value): &(String, Option<Vec<u8>>)| filters::refusal(entry, value.as_deref());
        if let Some(refusal) = changes.iter().find_map(refusal) {
            return Ok(refusal);
        }
        let everything = session
            .viewer()
            .is_ok_and(|viewer| viewer.principal.authority == Authority::Everything);
        if changes.iter().any(|(entry, _)| entry.starts_with("/shared/")) && !everything {
            return Ok(Reply::no("Administrators set the server's shared entries").word("NOPERM"));
        }
    }
    // What all see is for those who may change what all see; special uses are the owner's.
    let own = session.user.as_ref().is_some_and(|own| own.name() == user.name());
    let may_set = |(entry, _): &(String, _)| match entry.as_str() {
        "/private/specialuse" => own,
        entry => rights.contains(Rights::WRITE) || !entry.starts_with("/shared/"),
    };
    if name.is_some() && !own && !changes.iter().all(may_set) {
        return Ok(Reply::no_permission());
    }
    let viewer = session.user.as_ref().map_or("", User::name);
    let set: Vec<String> = changes.iter().map(|(entry, _)| entry.clone()).collect();
    match user.set_metadata(name.as_deref(), viewer, changes).await {
        Ok(()) => {
            let own = |event: &Event| match event {
                Event::Metadata { entries, .. } => entries.iter().all(|entry| set.contains(entry)),
                _ => false,
            };
            session.forget_own(own);
            Ok(Reply::ok("Completed"))
        }
        Err(Error::MetadataTooBig { max }) => {
            let code = Code::Text(format!("METADATA MAXSIZE {max}"));
            Ok(Reply::no("Value is too large").code(code))
        }
        Err(Error::MetadataTooMany { .. }) => {
            Ok(Reply::no("Too many entries").code(Code::Text("METADATA TOOMANY".to_owned())))
        }
        Err(error) => Ok(session.failure("set metadata", &error, "NONEXISTENT")),
    }
}
