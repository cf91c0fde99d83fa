//! `cursus quota`.

use admin::wire::QuotaLine;
use admin::{Reply, Request};
use config::Config;
use engine::QuotaLimits;

use crate::cli::{QuotaCommand, QuotaSet};
use crate::failure::Failed;
use crate::output::{Output, Table, human_bytes};
use crate::place::Place;

/// Does `cursus quota …`: each lists the user's quota roots as they are afterwards.
pub fn run(command: &QuotaCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    let request = match command {
        QuotaCommand::List { user } => Request::Quotas { user: user.clone() },
        QuotaCommand::Set(set) => request(set),
    };
    let mut place = Place::find(config)?;
    let asked = place.ask(request);
    let closed = place.close();
    let lines = match asked? {
        Reply::Quotas(lines) => lines,
        other => return Err(crate::store::unexpected(&other)),
    };
    out.table(&lines, || Table {
        headings: &["user", "root", "size", "of", "#messages", "#of", "#mailboxes", "#of"],
        rows: lines.iter().map(row).collect(),
    });
    closed
}

fn request(set: &QuotaSet) -> Request {
    let limits = QuotaLimits {
        bytes: set.storage,
        messages: set.messages,
        mailboxes: set.mailboxes,
        annotation_bytes: set.annotations,
    };
    let limits = (!set.remove).then_some(limits);
    Request::QuotaSet { user: set.user.clone(), mailbox: set.mailbox.clone(), limits }
}

fn row(line: &QuotaLine) -> Vec<String> {
    let number = |limit: Option<u64>| limit.map(|n| n.to_string()).unwrap_or_default();
    vec![
        line.user.clone(),
        line.mailbox.clone().unwrap_or_default(),
        human_bytes(line.bytes),
        line.limits.bytes.map(human_bytes).unwrap_or_default(),
        line.messages.to_string(),
        number(line.limits.messages),
        line.mailboxes.to_string(),
        number(line.limits.mailboxes),
    ]
}
