//! LSUB: RFC 3501 section 6.3.9.

use std::collections::BTreeSet;

use engine::Namespace;
use protocol::imap::encode::{self, ListLine};

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::list::{Pattern, parents};

/// Subscriptions that are looked through without a helper thread.
const INLINE_NAMES_MAX: usize = 256;

pub(in super::super) async fn run(
    session: &mut Session,
    reference: &str,
    pattern: &str,
) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    let namespace = user.namespace();
    let pattern = Pattern::new(reference, pattern);
    let utf8 = session.features.utf8();
    if namespace.subscriptions.len() <= INLINE_NAMES_MAX {
        session.conn.out.with_vec(|out| write(out, &namespace, &pattern, utf8));
        return Ok(Reply::ok("Completed"));
    }
    let lines = move || {
        let mut out = Vec::new();
        write(&mut out, &namespace, &pattern, utf8);
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

fn write(out: &mut Vec<u8>, namespace: &Namespace, pattern: &Pattern, utf8: bool) {
    // A pattern ending in % also shows parents of subscribed names, as \Noselect.
    let mut above = BTreeSet::new();
    for name in &namespace.subscriptions {
        if !pattern.matches(name) {
            above.extend(parents(name).filter(|parent| {
                pattern.matches(parent) && !namespace.subscriptions.contains(*parent)
            }));
        }
    }
    let subscribed = namespace.subscriptions.iter().map(String::as_str);
    let matching: BTreeSet<&str> = subscribed.filter(|name| pattern.matches(name)).collect();
    for name in matching.union(&above) {
        let attributes = if above.contains(name) { vec!["\\Noselect"] } else { vec![] };
        let line = ListLine { lsub: true, attributes, name, ..ListLine::default() };
        encode::list(out, &line, utf8);
    }
}
