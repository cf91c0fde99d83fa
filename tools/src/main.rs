//! Entry point of `cursus`; everything is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
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
    // What the engine has to say when we open the store ourselves: trouble only.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    if let tools::cli::Command::Deliver(args) = &cli.command {
        return tools::deliver::run(args, || cli.config());
    }
    match tools::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(cli.json),
    }
}
