//! `cursusd`: the mail server.
//!
//! Exit status: 0 after a stop that was asked for; 1 if the server can't start or stop; 2 for a
//! wrong command line; 78 for a wrong configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use config::Config;
use server::run::{self, Source};

/// EX_CONFIG of sysexits(3).
const EXIT_CONFIG: u8 = 78;

/// IMAP, POP3 and LMTP server. Without arguments: an embedded store below ./var.
#[derive(Parser)]
#[command(name = "cursusd", version)]
struct Args {
    /// Configuration file; see docs/configuration.md
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what is wrong with the configuration and exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (config, source) = match args.config {
        Some(file) => match Config::load(&file) {
            Ok(config) => (config, Source::File(file)),
            Err(errors) => {
                eprintln!("{errors}");
                return ExitCode::from(EXIT_CONFIG);
            }
        },
        None => (Config::embedded(&Config::embedded_dir()), Source::Embedded),
    };
    if args.check_config {
        return check(&config, &source);
    }
    if let Err(reason) = server::logging::start(&config.log) {
        eprintln!("{reason}");
        return ExitCode::from(EXIT_CONFIG);
    }
    match run::run(config, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(target: "cursus", reason = %error, "cannot run");
            eprintln!("cursusd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the types can't see: the files that it names.
fn check(config: &Config, source: &Source) -> ExitCode {
    let name = match source {
        Source::File(file) => file.display().to_string(),
        Source::Embedded => "embedded default".to_owned(),
    };
    let tls = server::tls::check(config).map_err(|e| format!("tls: {e}"));
    let auth = server::run::auth_settings(config, "").map(drop).map_err(|e| e.to_string());
    match tls.and(auth) {
        Ok(()) => {
            println!("{name}: good");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}
