//! `cursus index`.

use admin::wire::{IndexAction, IndexLine};
use admin::{Reply, Request};
use config::Config;

use crate::cli::IndexCommand;
use crate::failure::Failed;
use crate::output::{Output, Table, human_bytes};
use crate::place::Place;

/// Does `cursus index …`: each lists the indexes as they are afterwards.
pub fn run(command: &IndexCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    let (action, args) = match command {
        IndexCommand::Status(args) => (IndexAction::Status, args),
        IndexCommand::Update(args) => (IndexAction::Update, args),
        IndexCommand::Rebuild(args) => (IndexAction::Rebuild, args),
        IndexCommand::Drop(args) => (IndexAction::Drop, args),
    };
    let (user, mailbox) = (args.user.clone(), args.mailbox.clone());
    let mut place = Place::find(config)?;
    let asked = place.ask(Request::Index { action, user, mailbox });
    let closed = place.close();
    let lines = match asked? {
        Reply::Index(lines) => lines,
        other => return Err(crate::store::unexpected(&other)),
    };
    out.table(&lines, || Table {
        headings: &["user", "mailbox", "indexed", "not indexed", "files", "size", "of mail"],
        rows: lines.iter().map(row).collect(),
    });
    closed
}

fn row(line: &IndexLine) -> Vec<String> {
    let share = match line.mail_bytes {
        0 => String::new(),
        bytes => format!("{:.1} %", line.bytes as f64 * 100.0 / bytes as f64),
    };
    vec![
        line.user.clone(),
        line.mailbox.clone(),
        line.messages.to_string(),
        line.uncovered.to_string(),
        line.segments.to_string(),
        human_bytes(line.bytes),
        share,
    ]
}
