//! LSUB: RFC 3501 section 6.3.9.

use std::collections::BTreeSet;

use protocol::imap::encode::{self, ListLine};

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::list::{Pattern, parents};

pub(in super::super) fn run(session: &mut Session, reference: &str, pattern: &str) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    let namespace = user.namespace();
    let pattern = Pattern::new(reference, pattern);
    // A pattern ending in % also shows parents of subscribed names, as \Noselect.
    let mut above = BTreeSet::new();
    for name in &namespace.subscriptions {
        if !pattern.matches(name) {
            above.extend(parents(name).filter(|parent| {
                pattern.matches(parent) && !namespace.subscriptions.contains(*parent)
            }));
        }
    }
    let utf8 = session.features.rev2;
    let subscribed = namespace.subscriptions.iter().map(String::as_str);
    let matching: BTreeSet<&str> = subscribed.filter(|name| pattern.matches(name)).collect();
    session.conn.out.with_vec(|out| {
        for name in matching.union(&above) {
            let attributes = if above.contains(name) { vec!["\\Noselect"] } else { vec![] };
            let line = ListLine { lsub: true, attributes, name, ..ListLine::default() };
            encode::list(out, &line, utf8);
        }
    });
    Ok(Reply::ok("Completed"))
}
