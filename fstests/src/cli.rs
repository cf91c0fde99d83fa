//! Commands and options of `cursus-fstests`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::run::{self, Plan, Site};
use crate::schema::{Results, Settings};
use crate::workload::{Mix, Trace, Workload};
use crate::{advise, crash, leftovers, matrix, report, stop};

/// Measures filesystems for mail, and says which one, with which options, suits a mail store here.
#[derive(Parser)]
#[command(name = "cursus-fstests", version, args_override_self = true)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure directories that are there, side by side in turns. Needs no root.
    Run(Run),
    /// Make filesystems with all options of a profile on loop files, and measure them. Needs root.
    Matrix(matrix::Options),
    /// Look at real mounts, measure what each doubtful choice costs, and say what to change.
    Advise(advise::Options),
    /// Make a report of saved results: HTML with plots, Markdown, CSV.
    Report(report::Options),
    /// Cut the power under deliveries, on filesystem after filesystem, and count what was lost.
    Crash(crash::Options),
}

#[derive(Args)]
struct Run {
    /// Empty directories, each on a filesystem to measure.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    sizes: Sizes,
    /// Save results here.
    #[arg(long, default_value = "fstests.json")]
    out: PathBuf,
}

/// Messages of the folder unless told otherwise.
const FOLDER: usize = 1000;

/// How much is measured; shared by `run` and `matrix`.
#[derive(Args, Clone, Debug)]
pub struct Sizes {
    /// Workloads; all but replay, fio and postmark when absent.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub workload: Vec<Workload>,
    /// Messages in the folder, several for a scaling curve; 1000 when absent.
    #[arg(long, value_delimiter = ',',
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub folder: Vec<u64>,
    /// Operations at a time, several for a scaling curve.
    #[arg(long, value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub concurrency: Vec<u64>,
    /// Rounds that count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub rounds: u64,
    /// Rounds before them that do not.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=10))]
    pub warm_up: u64,
    /// Operations of one measurement.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub operations: u64,
    /// Seconds after which a measurement ends however many operations were done.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds that filling one folder may take; one that takes longer is not measured.
    #[arg(long, default_value_t = 900.0, value_parser = seconds)]
    pub fill_seconds: f64,
    /// Mean size of messages, bytes.
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(2_200..=10_000_000))]
    pub message_bytes: u32,
    /// Deliveries made and removed before, so that the filesystem is not fresh.
    #[arg(long, default_value_t = 0)]
    pub aged: usize,
    /// Seed of messages and orders.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Shares of the mixed day.
    #[arg(long, default_value_t = Mix::default())]
    pub mix: Mix,
    /// A recorded trace for the workload `replay`.
    #[arg(long)]
    pub trace: Option<PathBuf>,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text.parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0 && *s < 1e6);
    seconds.ok_or_else(|| "expected seconds above 0".to_owned())
}

impl Sizes {
    /// The plan that they ask for.
    ///
    /// # Errors
    /// When the trace cannot be read, or is asked for and not named.
    pub fn plan(&self) -> Result<Plan> {
        let trace = self.trace.as_deref().map(Trace::read).transpose()?;
        let mut workloads = self.workload.clone();
        if workloads.is_empty() {
            workloads = <Workload as clap::ValueEnum>::value_variants().to_vec();
            workloads.retain(|w| !w.only_by_name() || (*w == Workload::Replay && trace.is_some()));
        }
        if workloads.contains(&Workload::Replay) && trace.is_none() {
            return Err(Error::Usage("replay needs a trace: --trace FILE".to_owned()));
        }
        let numbers = |list: &[u64]| list.iter().map(|n| *n as usize).collect();
        Ok(Plan {
            workloads,
            folders: match self.folder.as_slice() {
                [] => vec![FOLDER],
                list => numbers(list),
            },
            concurrency: numbers(&self.concurrency),
            settings: Settings {
                rounds: self.rounds as usize,
                warm_up_rounds: self.warm_up as usize,
                operations: self.operations as usize,
                seconds_max: self.seconds,
                message_bytes_mean: self.message_bytes,
                seed: self.seed,
                aged_operations: self.aged,
                mix: self.mix.to_string(),
            },
            mix: self.mix,
            trace,
            fill_max: Duration::from_secs_f64(self.fill_seconds),
        })
    }
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let options = Options::parse();
    stop::listen();
    let done = match options.command {
        Command::Run(run) => run_places(&run),
        Command::Matrix(options) => matrix::command(&options),
        Command::Advise(options) => advise::command(&options),
        Command::Report(options) => report::command(&options),
        Command::Crash(options) => crash::command(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cursus-fstests: {error}");
            match error {
                Error::Stopped => ExitCode::from(130),
                Error::Usage(_) | Error::Refused { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run_places(options: &Run) -> Result<()> {
    leftovers::clean_if_root();
    let plan = options.sizes.plan()?;
    let mut sites = Vec::new();
    for (number, dir) in options.dirs.iter().enumerate() {
        let twice = options.dirs.iter().filter(|other| *other == dir).count() > 1;
        let name = match twice {
            true => format!("{} ({})", dir.display(), number + 1),
            false => dir.display().to_string(),
        };
        sites.push(Site::new(dir, &name)?);
    }
    let mut results = Results::new(plan.settings.clone());
    let measured = run::run(&plan, sites, &mut results);
    save(&results, &options.out, measured)
}

/// Saves what there is, also after a stop, and says where; then the run's own result.
pub(crate) fn save(results: &Results, out: &std::path::Path, measured: Result<()>) -> Result<()> {
    if !results.figures.is_empty() || measured.is_ok() {
        results.write(out)?;
        print!("{}", report::text::summary(results));
        println!("saved in {}; cursus-fstests report {0} makes a report", out.display());
    }
    measured
}
