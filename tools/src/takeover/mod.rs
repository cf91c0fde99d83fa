//! `cursus takeover`, `cursus handback`: stores of other servers, served where they lie, and given
//! back.
//!
//! Cyrus's: on the store itself, under its lock, with both servers stopped. Courier's and Dovecot's
//! Maildirs are taken over by the server as it meets them, and given back by whoever has the store.

pub mod cyrus;

use std::path::Path;

use admin::{Reply, Request};
use config::{Config, OldServer};
use serde_json::json;

use crate::cli::{
    ExpireCommand, HandbackCommand, HandbackMaildirs, TakeoverCommand, UnexpungeCommand,
};
use crate::failure::Failed;
use crate::output::Output;
use crate::place::Place;
use crate::store::unexpected;

/// Does `cursus takeover …`.
pub fn run(
    command: &TakeoverCommand,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    match command {
        TakeoverCommand::Cyrus(args) => cyrus::takeover(args, imapd_conf, config, out),
    }
}

/// Does `cursus handback …`.
pub fn hand_back(
    command: &HandbackCommand,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    match command {
        HandbackCommand::Cyrus(args) => cyrus::give_back(args, imapd_conf, config, out),
        HandbackCommand::Courier(args) => maildirs(OldServer::Courier, args, config, out),
        HandbackCommand::Dovecot(args) => maildirs(OldServer::Dovecot, args, config, out),
    }
}

/// Does `cursus expire …`.
pub fn expire(
    command: &ExpireCommand,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    match command {
        ExpireCommand::Cyrus(args) => cyrus::expire::expire(args, imapd_conf, config, out),
    }
}

/// Does `cursus unexpunge …`.
pub fn unexpunge(
    command: &UnexpungeCommand,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    match command {
        UnexpungeCommand::Cyrus(args) => cyrus::unexpunge::unexpunge(args, imapd_conf, config, out),
    }
}

/// Has the files of a server written in all Maildirs, or in one user's.
fn maildirs(
    server: OldServer,
    args: &HandbackMaildirs,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let asked = place.ask(Request::HandBack { server, user: args.user.clone() });
    let closed = place.close();
    let mailboxes = match asked? {
        Reply::HandedBack { mailboxes } => mailboxes,
        other => return Err(unexpected(&other)),
    };
    out.line(&json!({ "mailboxes": mailboxes }), &format!("{mailboxes} mailboxes written"));
    closed
}
