//! A note to users whose quota is nearly used up, as Courier's `deliverquota -w` puts it: at most once
//! a day. What is used is asked of the server by its admin socket, so only the server's own user
//! can do this.

use std::fs;
use std::path::Path;
use std::time::Duration;

use admin::wire::{Reply, Request};
use auth::UserName;
use config::Config;

use super::Recipient;
use super::lmtp::{Client, Endpoint};
use super::message::Message;
use crate::place;

/// Time between two notes.
const PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

const TEXT: &str = "From: Mail system <postmaster>\nSubject: Your mailbox is nearly full\n\
    MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n\
    Your mailbox is nearly full. Delete what you don't need, or mail to you will be refused.\n";

/// Delivers the note, if it is time for it.
pub(super) fn perhaps(
    config: &Config,
    endpoint: &Endpoint,
    recipient: &Recipient,
    percent: u8,
    text: Option<&Path>,
) -> Result<(), String> {
    let Some(mut server) = place::connect(config).map_err(|e| e.to_string())? else {
        return Ok(());
    };
    let mut ask = |user: &str| server.ask(Request::Quotas { user: Some(user.to_owned()) });
    let local = recipient.user.rsplit_once('@').map(|(local, _)| local.to_owned());
    let mut name = recipient.user.clone();
    let mut reply = ask(&name);
    if let (Err(_), Some(local)) = (&reply, local) {
        name = local;
        reply = ask(&name);
    }
    let Reply::Quotas(lines) = reply.map_err(|e| e.to_string())? else { return Ok(()) };
    let full = |used: u64, limit: Option<u64>| {
        limit.is_some_and(|limit| u128::from(used) * 100 >= u128::from(limit) * u128::from(percent))
    };
    let is_full = lines.iter().any(|line| {
        full(line.bytes, line.limits.bytes) || full(line.messages, line.limits.messages)
    });
    let stamps = config.state_dir.join("quota-notes");
    let user = UserName::new(&name).map_err(|e| e.to_string())?;
    let stamp = stamps.join(user.as_str());
    let last = fs::metadata(&stamp).and_then(|meta| meta.modified()).ok();
    let is_recent = last.and_then(|at| at.elapsed().ok()).is_some_and(|since| since < PAUSE);
    if !is_full || is_recent {
        return Ok(());
    }
    let bytes = match text {
        Some(path) => fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?,
        None => TEXT.as_bytes().to_vec(),
    };
    fs::create_dir_all(&stamps).and_then(|()| fs::write(&stamp, "")).map_err(|e| e.to_string())?;
    let note = Message { sender: String::new(), bytes };
    let client = Client::connect(endpoint).map_err(|e| e.to_string())?;
    let sent = client.deliver(&[recipient.address()], &note, true);
    sent.map_err(|refused| refused.into_iter().map(|r| r.text).collect::<Vec<_>>().join("; "))
}
