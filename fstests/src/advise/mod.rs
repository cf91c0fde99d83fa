//! Looks at real mounts, measures what each doubtful choice costs here, and says what to change,
//! the worst first, each with its number, its reason, its risk and what to type.
//!
//! Whatever is measured is measured in a scratch directory beside the mail, within a few seconds and
//! a few mebibytes. The mail itself is only looked at: names that are not there are looked for in
//! the largest directory.

mod checks;
mod finding;
mod like;
mod network;
mod probe;

use std::path::PathBuf;

use clap::Args;

pub use finding::{Advice, Finding, Measurement, Weight};

use crate::error::{Error, Result};
use crate::{leftovers, stop};

/// Options of `advise`.
#[derive(Args)]
pub struct Options {
    /// Directories of mail.
    #[arg(required_unless_present = "store")]
    paths: Vec<PathBuf>,
    /// The directories that a configuration of cursusd names; its state and log are looked at too.
    #[arg(long, num_args = 0..=1, default_missing_value = "/etc/cursus/cursus.toml")]
    store: Option<PathBuf>,
    /// For machines.
    #[arg(long)]
    json: bool,
}

/// Looks, measures, prints.
///
/// # Errors
/// When a path does not exist or may not be written.
pub fn command(options: &Options) -> Result<()> {
    leftovers::clean_if_root();
    let mut paths = options.paths.clone();
    if let Some(file) = &options.store {
        let config = config::Config::load(file)
            .map_err(|error| Error::Refused { path: file.clone(), reason: error.to_string() })?;
        paths.extend(store_paths(&config));
    }
    paths.sort();
    paths.dedup();
    let mut advice = Advice::default();
    for path in &paths {
        stop::check()?;
        checks::all(path, &mut advice)?;
    }
    advice.sort();
    match options.json {
        true => {
            let text = serde_json::to_string_pretty(&advice).map_err(std::io::Error::other);
            println!("{}", text.map_err(Error::io("print for", std::path::Path::new("stdout")))?);
        }
        false => print!("{}", advice.text()),
    }
    Ok(())
}

/// Every directory that a store uses.
fn store_paths(config: &config::Config) -> Vec<PathBuf> {
    let mut paths = vec![config.state_dir.clone(), config.log_dir()];
    paths.extend(config.partition.iter().map(|partition| partition.path.clone()));
    paths
}
