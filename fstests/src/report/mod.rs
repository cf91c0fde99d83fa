//! Reports of saved results: HTML with plots that opens from a file, Markdown, CSV.

mod compare;
mod csv;
mod device;
mod html;
mod markdown;
mod orders;
mod plot;
pub mod text;

use std::fs;
use std::path::PathBuf;

use clap::Args;

pub use compare::{OptionCost, guest_costs, option_costs};
pub use csv::csv;
pub use html::{html, plots};
pub use markdown::markdown;
pub use orders::{Pair, Tally, Verdict, orders};

use crate::error::{Error, Result};
use crate::schema::Results;

/// Options of `report`.
#[derive(Args)]
pub struct Options {
    /// Saved results; several are put together, each place keeping its figures.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Write here, with `.html`, `.md` and `.csv`; by default beside the first results file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the plots of options and of scaling into this directory too, an SVG file each.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// Makes the three files and says where they are.
///
/// # Errors
/// When results cannot be read or files cannot be written.
pub fn command(options: &Options) -> Result<()> {
    let mut all: Option<Results> = None;
    for path in &options.results {
        let one = Results::read(path)?;
        match &mut all {
            Some(all) => all.merge(one),
            None => all = Some(one),
        }
    }
    let results = all.ok_or_else(|| Error::Usage("expected a results file".to_owned()))?;
    let out = options.out.clone().unwrap_or_else(|| options.results[0].with_extension(""));
    let texts = [("html", html(&results)), ("md", markdown(&results)), ("csv", csv(&results))];
    for (extension, text) in texts {
        let mut path = out.clone().into_os_string();
        path.push(format!(".{extension}"));
        let path = PathBuf::from(path);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        println!("{}", path.display());
    }
    if let Some(dir) = &options.plots {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        for (name, svg) in plots(&results) {
            let path = dir.join(format!("{name}.svg"));
            fs::write(&path, svg).map_err(Error::io("write", &path))?;
        }
        println!("{}", dir.display());
    }
    Ok(())
}
