//! Changing flags: of all messages in one command, and of random single messages.

use super::Run;
use crate::error::{Result, check_equal};
use crate::imap::Imap;
use crate::random::Random;
use crate::report::Better;
use crate::scan::{Kind, Words};
use crate::target::TargetOptions;

/// Options of `store-all`.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreAll {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Ask for no FETCH responses.
    #[arg(long)]
    silent: bool,
}

impl StoreAll {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = run.target(&self.target)?;
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
                check_equal("SEARCH FLAGGED", flagged, imap.search("SEARCH FLAGGED").await?)?;
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
    pub(crate) target: TargetOptions,
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
        let target = run.target(&self.target)?;
        let mut imap = Imap::login(&target, 0).await?;
        let exists = imap.select("SELECT", &self.mailbox).await?;
        imap.run("STORE 1:* -FLAGS.SILENT (\\Answered)").await?;
        let mut random = Random::new(run.seed);
        let mut set = vec![false; exists as usize];
        for _ in 0..run.rounds {
            for (name, window) in [("one at a time", 1), ("pipelined", self.window)] {
                let chosen = distinct(&mut random, self.count.min(exists), exists);
                let section = run.meter.begin();
                toggle(&mut imap, &chosen, window, &mut set).await?;
                let rate = chosen.len() as f64 / run.meter.end(&section).as_secs_f64();
                run.findings.sample(name, "1/s", Better::Higher, rate);
            }
            let answered = set.iter().filter(|&&set| set).count();
            check_equal(
                "SEARCH ANSWERED",
                answered,
                imap.search("SEARCH ANSWERED").await? as usize,
            )?;
        }
        imap.logout().await?;
        run.findings.checked("every STORE was answered with FETCH, and SEARCH ANSWERED agrees");
        run.findings.parameter("messages", exists);
        run.findings.parameter("count", self.count);
        run.findings.parameter("window", self.window);
        Ok(target.to_string())
    }
}

/// Chooses `count` different indexes below `exists`: of two changes in flight to one message a server
/// may report only the last.
fn distinct(random: &mut Random, count: u32, exists: u32) -> Vec<usize> {
    let mut all: Vec<usize> = (0..exists as usize).collect();
    for place in 0..count as usize {
        let other = place + random.below((all.len() - place) as u64) as usize;
        all.swap(place, other);
    }
    all.truncate(count as usize);
    all
}

/// Turns `\Answered` of each chosen message over.
async fn toggle(imap: &mut Imap, chosen: &[usize], window: u32, set: &mut [bool]) -> Result<()> {
    let commands: Vec<String> = chosen
        .iter()
        .map(|&index| {
            set[index] = !set[index];
            let sign = if set[index] { '+' } else { '-' };
            format!("STORE {} {sign}FLAGS (\\Answered)", index + 1)
        })
        .collect();
    let mut changed = vec![false; set.len()];
    imap.pipeline(commands, window, |response| {
        if let Kind::Fetch(sequence) = response.kind
            && let Some(changed) = changed.get_mut(sequence as usize - 1)
        {
            *changed = true;
        }
        Ok(())
    })
    .await?;
    let reported = changed.iter().filter(|&&changed| changed).count();
    check_equal("messages in the FETCH responses to STORE", chosen.len(), reported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_differ() {
        let mut chosen = distinct(&mut Random::new(1), 90, 100);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 90);
        assert!(chosen.iter().all(|&index| index < 100));
    }
}
