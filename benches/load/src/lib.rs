//! Whole-server load generator for any IMAP, POP3 or LMTP server.
//!
//! It speaks only what the RFCs promise, so that the same binary measures Cursus and its peers.
//! Two invariants hold throughout: a run that got wrong counts or sizes fails instead of reporting
//! a speed, and the client's own CPU time is reported beside the server's, because both share the
//! machine's cores and a slow client would otherwise pass for a slow server.

mod disk;
mod error;
mod imap;
mod latency;
mod lmtp;
pub mod message;
mod meter;
mod options;
mod pop3;
mod process;
mod random;
mod replay;
mod report;
mod scan;
mod target;
mod wire;
mod workload;

use std::process::ExitCode;

use clap::Parser;

/// Parses the command line, runs one workload and prints its report.
pub fn run() -> ExitCode {
    let options = options::Options::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cursus-load: cannot start the client runtime: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(workload::run(&options)) {
        Ok(report) => {
            if options.json {
                println!("{}", report.to_json());
            } else {
                print!("{}", report.to_table());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cursus-load: {error}");
            ExitCode::FAILURE
        }
    }
}
