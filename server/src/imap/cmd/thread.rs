//! THREAD and UID THREAD: RFC 5256; REFS of draft-ietf-morg-inthread.

use engine::User;
use protocol::imap::command::Thread;
use protocol::imap::encode;
use protocol::imap::sort::ThreadNode;
use protocol::types::{SeqNum, Uid};

use super::super::annotations;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::search::{INLINE_FOUND_MAX, names_modseq, settle};

pub(in super::super) async fn run(session: &mut Session, thread: Thread) -> Outcome {
    let Thread { uid, algorithm, key } = thread;
    if key.is_fuzzy() && !session.services.config().search.fuzzy {
        return Ok(Reply::bad("FUZZY is not offered here"));
    }
    if names_modseq(&key) {
        session.enable_condstore();
    }
    let collation = session.features.collation;
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let key = settle(key, selected);
    let (mailbox, view) = (selected.mailbox.clone(), selected.view.clone());
    let viewer = session.user.as_ref().map_or("", User::name).to_owned();
    let work = async {
        let key = annotations::found(key, &mailbox, &viewer, collation).await?;
        mailbox.thread(&view, &key, algorithm, collation).await
    };
    let nodes = match session.working(None, work).await? {
        Ok(nodes) => nodes,
        Err(error) => return Ok(session.failure("thread a mailbox", &error, "NONEXISTENT")),
    };
    let many = nodes.len() > INLINE_FOUND_MAX;
    let make = move || {
        let number = |(seq, message): (SeqNum, Uid)| if uid { message.0 } else { seq.0 };
        let told = |node: &ThreadNode<_>| ThreadNode {
            message: node.message.map(number),
            children: node.children,
        };
        let mut lines = Vec::new();
        encode::threads(&mut lines, nodes.iter().map(told));
        lines
    };
    let made = match many {
        true => session.services.store.helpers().run(make).await,
        false => Ok(make()),
    };
    let Ok(lines) = made else {
        return Ok(session.failure("thread a mailbox", &engine::Error::Closing, "NONEXISTENT"));
    };
    session.conn.out.push_vec(lines);
    Ok(Reply::ok("Completed"))
}
