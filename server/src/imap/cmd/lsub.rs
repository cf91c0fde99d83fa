//! LSUB: RFC 3501 section 6.3.9.

use std::borrow::Cow;
use std::collections::BTreeSet;

use engine::Namespace;
use protocol::imap::encode::{self, ListLine};

use super::super::names::Names;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use protocol::imap::pattern::Pattern;

/// Subscriptions that are looked through without a helper thread.
const INLINE_NAMES_MAX: usize = 256;

pub(in super::super) async fn run(
    session: &mut Session,
    reference: &str,
    pattern: &str,
) -> Outcome {
    let (user, viewer) = match (session.user(), session.viewer()) {
        (Ok(user), Ok(viewer)) => (user, viewer),
        (Err(reply), _) | (_, Err(reply)) => return Ok(reply),
    };
    let (namespace, names) = (user.namespace(), viewer.names.clone());
    let head = format!("{reference}{pattern}");
    let pattern = Pattern::new(reference, pattern, names.separator());
    let utf8 = session.features.utf8();
    if namespace.subscriptions.len() <= INLINE_NAMES_MAX {
        session.conn.out.with_vec(|out| write(out, &namespace, &names, (&pattern, &head), utf8));
        return Ok(Reply::ok("Completed"));
    }
    let lines = move || {
        let mut out = Vec::new();
        write(&mut out, &namespace, &names, (&pattern, &head), utf8);
        out
    };
    match session.services.store.helpers().run(lines).await {
        Ok(lines) => {
            session.conn.out.push_vec(lines);
            Ok(Reply::ok("Completed"))
        }
        Err(_) => Ok(session.failure("list subscriptions", &engine::Error::Closing, "NONEXISTENT")),
    }
}

fn write(
    out: &mut Vec<u8>,
    namespace: &Namespace,
    names: &Names,
    (pattern, head): (&Pattern, &str),
    utf8: bool,
) {
    let separator = names.separator();
    let all: BTreeSet<Cow<'_, str>> =
        names.subscriptions(namespace).filter_map(|name| names.subscribed(name)).collect();
    // A pattern ending in % also shows parents of subscribed names, as \Noselect.
    let matches =
        |name: &str| !names.hides(name, head) && pattern.matches(name, names.levels_end(name));
    let mut above: BTreeSet<Cow<'_, str>> = BTreeSet::new();
    for name in all.iter().filter(|name| !matches(name)) {
        names.each_above(name, &mut |parent| {
            if matches(&parent) && !all.contains(&parent) {
                above.insert(parent);
            }
        });
    }
    let matching: BTreeSet<Cow<'_, str>> =
        all.iter().filter(|name| matches(name)).cloned().collect();
    for name in matching.union(&above) {
        let attributes = if above.contains(name) { vec!["\\Noselect"] } else { vec![] };
        let separator = Some(separator);
        let line = ListLine { lsub: true, attributes, name, separator, ..ListLine::default() };
        encode::list(out, &line, utf8);
    }
}
