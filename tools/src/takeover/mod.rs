//! `cursus takeover`, `cursus handback`: stores of other servers, served where they lie, and given
//! back.
//!
//! Both work on the store itself, under its lock, with both servers stopped.

pub mod cyrus;

use config::Config;

use crate::cli::{HandbackCommand, TakeoverCommand};
use crate::failure::Failed;
use crate::output::Output;

/// Does `cursus takeover …`.
pub fn run(command: &TakeoverCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    match command {
        TakeoverCommand::Cyrus(args) => cyrus::takeover(args, config, out),
    }
}

/// Does `cursus handback …`.
pub fn hand_back(command: &HandbackCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    match command {
        HandbackCommand::Cyrus(args) => cyrus::give_back(args, config, out),
    }
}
