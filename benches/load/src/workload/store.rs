//! Changing flags: of all messages in one command, and of random single messages.

use std::collections::VecDeque;
use std::time::Instant;

use super::Run;
use crate::error::{Result, check_equal};
use crate::imap::Imap;
use crate::latency::Latencies;
use crate::random::Random;
use crate::report::Better;
use crate::scan::{Kind, Words};
use crate::target::{Target, TargetOptions};

/// Options of `store-all`.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreAll {
    #[command(flatten)]
    target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Ask for no FETCH responses.
    #[arg(long)]
    silent: bool,
}

impl StoreAll {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let mut imap = Imap::login(&target, 0).await?;
        let exists = imap.select("SELECT", &self.mailbox).await?;
        imap.run("STORE 1:* -FLAGS.SILENT (\\Flagged)").await?;
        let suffix = if self.silent { ".SILENT" } else { "" };
        for _ in 0..run.rounds {
            for (name, sign, flagged) in [("set", '+', exists), ("clear", '-', 0)] {
                let command = format!("STORE 1:* {sign}FLAGS{suffix} (\\Flagged)");
                let mut answers = 0;
                let section = run.meter.begin();
                imap.each(&command, &Words::default(), |response| {
                    answers += u32::from(matches!(response.kind, Kind::Fetch(_)));
                    Ok(())
                })
                .await?;
                let wall = run.meter.end(&section);
                run.sample_ms(name, wall);
                let rate = f64::from(exists) / wall.as_secs_f64();
                run.findings.sample(&format!("{name} rate"), "msg/s", Better::Higher, rate);
                if !self.silent {
                    check_equal("FETCH responses to STORE", exists, answers)?;
                }
                check_equal("SEARCH FLAGGED", flagged, imap.search("FLAGGED").await?)?;
            }
        }
        imap.logout().await?;
        run.findings.checked("SEARCH FLAGGED agrees after every STORE");
        run.findings.parameter("messages", exists);
        run.findings.parameter("silent", self.silent);
        Ok(target.to_string())
    }
}

/// Options of `store-one`.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreOne {
    #[command(flatten)]
    target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// STOREs of each kind in a round.
    #[arg(long, default_value_t = 2_000)]
    count: u32,
    /// Commands in flight in the pipelined half.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
}

impl StoreOne {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let mut imap = Imap::login(&target, 0).await?;
        let exists = imap.select("SELECT", &self.mailbox).await?;
        imap.run("STORE 1:* -FLAGS.SILENT (\\Answered)").await?;
        let mut random = Random::new(run.seed);
        let mut set = vec![false; exists as usize];
        for _ in 0..run.rounds {
            for (name, window) in [("one at a time", 1), ("pipelined", self.window as usize)] {
                let chosen: Vec<usize> =
                    (0..self.count).map(|_| random.below(u64::from(exists)) as usize).collect();
                let section = run.meter.begin();
                let latencies = toggle(&mut imap, &chosen, window, &mut set).await?;
                let wall = run.meter.end(&section);
                if window == 1 {
                    run.sample_rate(name, latencies, wall);
                } else {
                    let rate = f64::from(self.count) / wall.as_secs_f64();
                    run.findings.sample(name, "1/s", Better::Higher, rate);
                }
            }
            let answered = set.iter().filter(|&&set| set).count();
            check_equal("SEARCH ANSWERED", answered, imap.search("ANSWERED").await? as usize)?;
        }
        imap.logout().await?;
        run.findings.checked("every STORE was answered with FETCH, and SEARCH ANSWERED agrees");
        run.findings.parameter("messages", exists);
        run.findings.parameter("count", self.count);
        run.findings.parameter("window", self.window);
        Ok(target.to_string())
    }
}

/// Turns `\Answered` of each chosen message over.
async fn toggle(
    imap: &mut Imap,
    chosen: &[usize],
    window: usize,
    set: &mut [bool],
) -> Result<Latencies> {
    let words = Words::default();
    let mut latencies = Latencies::default();
    let mut tags = VecDeque::with_capacity(window);
    let mut waiting = chosen.iter();
    loop {
        if tags.len() <= window / 2 {
            let start = Instant::now();
            for &index in waiting.by_ref().take(window - tags.len()) {
                set[index] = !set[index];
                let sign = if set[index] { '+' } else { '-' };
                let sequence = index as u32 + 1;
                let tag = imap.push(&format!("STORE {sequence} {sign}FLAGS (\\Answered)"));
                tags.push_back((sequence, tag, start));
            }
            imap.flush().await?;
        }
        let Some((sequence, tag, start)) = tags.pop_front() else { return Ok(latencies) };
        let mut seen = 0;
        imap.finish(tag, &words, |response| {
            seen += u32::from(response.kind == Kind::Fetch(sequence));
            Ok(())
        })
        .await?;
        latencies.push(start.elapsed());
        if seen == 0 {
            check_equal("FETCH responses to one STORE", 1, seen)?;
        }
    }
}
