//! Entry point of `cursus`; everything is in the library.

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if let Some((known, arguments)) = tools::called::by_name(std::env::args_os()) {
        // Cron sends mail of every word: what may become trouble is the server's to say.
        log("error");
        return tools::called::run(known, &arguments);
    }
    let cli = match tools::cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // No mistake on a command line may make mail bounce.
            let delivers = std::env::args_os().any(|argument| argument == "deliver");
            if delivers && error.use_stderr() {
                eprintln!("{error}");
                return ExitCode::from(tools::deliver::STATUS_USAGE);
            }
            error.exit()
        }
    };
    // What a partition is mounted as, the server says at its start.
    log("warn,engine::mount=error");
    if let tools::cli::Command::Deliver(args) = &cli.command {
        return tools::deliver::run(args, || cli.config());
    }
    match tools::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(cli.json),
    }
}

/// What the engine has to say when we open the store ourselves: trouble only.
fn log(levels: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(levels))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .init();
}
