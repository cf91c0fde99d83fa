//! `cursus mailbox`.

use admin::wire::MailboxLine;
use admin::{Reply, Request};
use config::Config;
use serde_json::json;

use crate::cli::MailboxCommand;
use crate::failure::Failed;
use crate::output::{Output, Table, human_bytes};
use crate::place::Place;

/// Does `cursus mailbox …`.
pub fn run(command: &MailboxCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let done = perform(command, &mut place, out);
    // A store that this process opened is closed well in any case.
    let closed = place.close();
    done.and(closed)
}

fn perform(command: &MailboxCommand, place: &mut Place, out: &Output) -> Result<(), Failed> {
    match command {
        MailboxCommand::List { user } => list(user.clone(), place, out),
        MailboxCommand::Create { user, name, special_use } => {
            let (user, special_use) = (user.clone(), special_use.clone());
            let request = Request::MailboxCreate { user, name: name.clone(), special_use };
            place.ask(request)?;
            out.line(&json!({ "created": name }), &format!("created {name}"));
            Ok(())
        }
        MailboxCommand::Delete { user, name } => {
            place.ask(Request::MailboxDelete { user: user.clone(), name: name.clone() })?;
            out.line(&json!({ "deleted": name }), &format!("deleted {name}"));
            Ok(())
        }
        MailboxCommand::Rename { user, from, to } => {
            let (user, old, new) = (user.clone(), from.clone(), to.clone());
            place.ask(Request::MailboxRename { user, from: old, to: new })?;
            let value = json!({ "renamed": from, "to": to });
            out.line(&value, &format!("renamed {from} to {to}"));
            Ok(())
        }
        MailboxCommand::Subscribe { user, name, off } => {
            let (user, on) = (user.clone(), !off);
            place.ask(Request::MailboxSubscribe { user, name: name.clone(), on })?;
            let word = if on { "subscribed" } else { "unsubscribed" };
            out.line(&json!({ word: name }), &format!("{word} {name}"));
            Ok(())
        }
    }
}

fn list(user: Option<String>, place: &mut Place, out: &Output) -> Result<(), Failed> {
    let lines = match place.ask(Request::Mailboxes { user })? {
        Reply::Mailboxes(lines) => lines,
        other => return Err(crate::store::unexpected(&other)),
    };
    let row = |l: &MailboxLine| {
        let mut notes = l.special_use.clone();
        notes.extend(l.subscribed.then(|| "subscribed".to_owned()));
        vec![
            l.user.clone(),
            l.name.clone(),
            l.messages.to_string(),
            l.unseen.to_string(),
            human_bytes(l.bytes),
            l.uid_next.to_string(),
            l.partition.clone(),
            notes.join(" "),
        ]
    };
    out.table(&lines, || Table {
        headings: &[
            "user",
            "mailbox",
            "#messages",
            "#unseen",
            "#size",
            "#uidnext",
            "partition",
            "notes",
        ],
        rows: lines.iter().map(row).collect(),
    });
    Ok(())
}
