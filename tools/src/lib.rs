//! `cursus`: the operator's command.
//!
//! | module | says |
//! |---|---|
//! | [`cli`] | the command line: one definition for parsing, completions and manual pages |
//! | [`place`] | where a request is done: by the running server, else on the store itself |
//! | [`output`] | tables for people, tab-separated lines for pipes, JSON for programs |
//! | [`failure`] | what went wrong, and the exit status that says so |
//! | [`user`], [`mailbox`], [`quota`], [`import`], [`store`], [`archive`], [`restore`], [`scrub`], [`folders`] | the commands |
//! | [`configuration`] | settings shown with their origins, checked, converted |
//! | [`called`] | the programs of Cyrus and Courier, by links of their names |
//! | [`deliver`] | one message from standard input, with the exit statuses of mail transports |
//! | [`takeover`] | stores of other servers, taken over and given back |
//! | [`export`], [`mailfiles`] | mail in files of other programs: written; read and written |
//! | [`migrate`] | mail of servers elsewhere, by IMAP |
//! | [`manual`] | completions and manual pages |

pub mod archive;
pub mod called;
pub mod cli;
pub mod configuration;
pub mod deliver;
pub mod export;
pub mod failure;
pub mod folders;
pub mod import;
pub mod index;
pub mod mailbox;
pub mod mailfiles;
pub mod manual;
pub mod migrate;
pub mod output;
pub mod place;
pub mod quota;
pub mod restore;
pub mod scrub;
pub mod store;
pub mod takeover;
pub mod user;
pub mod user_deny;
pub mod user_elsewhere;
pub mod user_list;

use cli::{Cli, Command};
use failure::Failed;

/// Does what the command line says.
pub fn run(cli: &Cli) -> Result<(), Failed> {
    // These need no configuration.
    match &cli.command {
        Command::Completions { shell } => return manual::completions(*shell),
        Command::Manual { directory } => return manual::write(directory),
        Command::Config(command) => return configuration::run(command, cli),
        Command::Commands(command) => return called::of_others(command, cli.json),
        _ => {}
    }
    let config = cli.config()?;
    let out = output::Output::new(cli.json);
    match &cli.command {
        Command::User(command) => user::run(command, &config, &out),
        Command::Mailbox(command) => mailbox::run(command, &config, &out),
        Command::Quota(command) => quota::run(command, &config, &out),
        Command::Message(cli::MessageCommand::Import(args)) => import::run(args, &config, &out),
        Command::Status => store::status(&config, &out),
        Command::Check { user } => store::check(user.as_deref(), &config, &out),
        Command::Scrub(args) => scrub::run(args, &config, &out),
        Command::Index(command) => index::run(command, &config, &out),
        Command::Recover => store::recover(&config, &out),
        Command::Checkpoint => store::checkpoint(&config, &out),
        Command::Archive(command) => archive::run(command, &config, &out),
        Command::Backup(args) => archive::backup(args, &config, &out),
        Command::Restore(args) => restore::run(args, &config, &out),
        Command::Takeover(command) => takeover::run(command, cli.imapd_conf(), &config, &out),
        Command::Handback(command) => takeover::hand_back(command, cli.imapd_conf(), &config, &out),
        Command::Expire(command) => takeover::expire(command, cli.imapd_conf(), &config, &out),
        Command::Unexpunge(command) => {
            takeover::unexpunge(command, cli.imapd_conf(), &config, &out)
        }
        Command::Folders(command) => folders::run(command, &config, &out),
        Command::Import(args) => import::files::run(args, &config, &out),
        Command::Export(args) => export::run(args, &config, &out),
        Command::Migrate(command) => migrate::run(command, &config, &out),
        Command::Reload => store::reload(&config, &out),
        Command::Completions { .. }
        | Command::Manual { .. }
        | Command::Commands(_)
        | Command::Config(_)
        | Command::Deliver(_) => Ok(()),
    }
}
