//! Entry point of `cursus`; everything is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = tools::cli::Cli::parse();
    // What the engine has to say when we open the store ourselves: trouble only.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    match tools::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(cli.json),
    }
}
