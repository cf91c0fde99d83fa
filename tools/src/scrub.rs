//! `cursus scrub`: asks for a second's worth of reading at a time, so that progress shows and an
//! interrupt ends it; the store keeps the position.

use admin::{Reply, Request};
use config::Config;
use serde_json::json;

use crate::cli::ScrubArgs;
use crate::failure::{Failed, Kind};
use crate::output::{Output, human_bytes};
use crate::place::Place;
use crate::store::unexpected;

/// How long one request may take.
const SLICE_SECONDS: u64 = 1;

/// Does `cursus scrub`: fails if anything is damaged and was not mended.
pub fn run(args: &ScrubArgs, config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let asked = ask(args, &mut place, out);
    let closed = place.close();
    let found = asked?;
    let mut text = String::new();
    found.mended.iter().for_each(|line| text += &format!("mended: {line}\n"));
    found.damaged.iter().for_each(|line| text += &format!("damaged: {line}\n"));
    let (messages, size) = (found.messages, human_bytes(found.bytes));
    text += &format!("{messages} messages in {} mailboxes, {size}", found.mailboxes);
    let value = json!({
        "mailboxes": found.mailboxes,
        "messages": found.messages,
        "bytes": found.bytes,
        "damaged": found.damaged,
        "mended": found.mended,
    });
    out.line(&value, &text);
    match found.damaged.len() {
        0 => closed,
        n => Err(Failed::new(Kind::Incomplete, format!("{n} damaged"))),
    }
}

#[derive(Default)]
struct Found {
    mailboxes: u64,
    messages: u64,
    bytes: u64,
    damaged: Vec<String>,
    mended: Vec<String>,
}

fn ask(args: &ScrubArgs, place: &mut Place, out: &Output) -> Result<Found, Failed> {
    let bar = out.progress(0, "scrub");
    let mut found = Found::default();
    let mut resume = args.resume;
    loop {
        let reply = place.ask(Request::Scrub {
            user: args.user.clone(),
            mailbox: args.mailbox.clone(),
            rate_bytes: args.rate_mb.map(|mb| mb.saturating_mul(1 << 20)),
            resume,
            repair: args.repair,
            seconds: SLICE_SECONDS,
        })?;
        resume = true;
        let Reply::Scrubbed { mailboxes, mailboxes_total, messages, bytes, damaged, mended, done } =
            reply
        else {
            return Err(unexpected(&reply));
        };
        found.mailboxes = mailboxes;
        found.messages += messages;
        found.bytes += bytes;
        found.damaged.extend(damaged);
        found.mended.extend(mended);
        bar.set_length(mailboxes_total);
        bar.set_position(mailboxes);
        bar.set_message(format!("{} damaged", found.damaged.len()));
        if done {
            bar.finish_and_clear();
            return Ok(found);
        }
    }
}
