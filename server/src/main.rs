//! `cursusd`: the mail server.
//!
//! Exit status: 0 after a stop that was asked for; 1 if the server can't start or stop; 2 for a
//! wrong command line; 78 for a wrong configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use config::Config;
use inherit::{Disk, Inherited, Sources};
use server::run;

/// EX_CONFIG of sysexits(3).
const EXIT_CONFIG: u8 = 78;

/// IMAP, POP3 and LMTP server. Without arguments: an embedded store below ./var.
#[derive(Parser)]
#[command(name = "cursusd", version)]
struct Args {
    /// Configuration file; see docs/configuration.md. Goes before all others
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read Courier's files in DIR, such as /etc/courier; see docs/configuration-courier.md
    #[arg(long, value_name = "DIR")]
    courier: Option<PathBuf>,
    /// Read Cyrus's imapd.conf; see docs/configuration-cyrus.md
    #[arg(long, value_name = "FILE")]
    imapd_conf: Option<PathBuf>,
    /// Read Cyrus's cyrus.conf
    #[arg(long, value_name = "FILE", requires = "imapd_conf")]
    cyrus_conf: Option<PathBuf>,
    /// Say what is wrong with the configuration and exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let Args { config, courier, imapd_conf, cyrus_conf, check_config } = Args::parse();
    let sources = Sources { config, courier, imapd_conf, cyrus_conf };
    let Inherited { loaded, remarks } = match sources.read(&Disk) {
        Ok(read) => read,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let config = loaded.config;
    if check_config {
        remarks.iter().for_each(|remark| eprintln!("{remark}"));
        return check(&config, &sources);
    }
    if let Err(reason) = server::logging::start(&config.log) {
        eprintln!("{reason}");
        return ExitCode::from(EXIT_CONFIG);
    }
    server::logging::remarks(&remarks);
    match run::run(config, sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(target: "cursus", reason = %error, "cannot run");
            eprintln!("cursusd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the types can't see: the files that it names.
fn check(config: &Config, sources: &Sources) -> ExitCode {
    let name = sources.name();
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
