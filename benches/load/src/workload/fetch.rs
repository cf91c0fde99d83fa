//! Reading: one FETCH over all messages, and random bodies.

use std::time::Duration;

use super::Run;
use crate::error::{Error, Result, check_equal};
use crate::imap::Imap;
use crate::random::Random;
use crate::report::Better;
use crate::scan::{Kind, Words};
use crate::target::TargetOptions;

/// What one of the FETCH workloads asks for, and how its answers are recognised.
#[derive(Debug)]
pub(crate) struct Items {
    items: &'static str,
    words: &'static [&'static str],
    /// Report the first round by itself: it may fill a cache.
    first_apart: bool,
}

pub(crate) const FLAGS: Items =
    Items { items: "(UID FLAGS)", words: &["UID ", "FLAGS ("], first_apart: false };
pub(crate) const ENVELOPE: Items = Items {
    items: "(ENVELOPE BODYSTRUCTURE)",
    words: &["ENVELOPE (", "BODYSTRUCTURE ("],
    first_apart: true,
};
pub(crate) const HEADERS: Items = Items {
    items: "(BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)])",
    words: &["BODY[HEADER.FIELDS"],
    first_apart: true,
};

/// Options of the FETCH workloads.
#[derive(Debug, clap::Args)]
pub(crate) struct FetchAll {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
}

impl FetchAll {
    pub(crate) async fn run(&self, run: &mut Run, what: &Items) -> Result<String> {
        let target = run.target(&self.target)?;
        let words = Words::new(what.words);
        let command = format!("FETCH 1:* {}", what.items);
        for round in 0..run.rounds {
            let mut imap = Imap::login(&target, 0).await?;
            let exists = imap.select("SELECT", &self.mailbox).await?;
            let (mut next, mut octets) = (1, 0);
            let section = run.meter.begin();
            imap.each(&command, &words, |response| {
                let Kind::Fetch(sequence) = response.kind else { return Ok(()) };
                check_equal("sequence number of a FETCH response", next, sequence)?;
                if response.found != words.all() {
                    let what = format!("message {sequence} came without all of {}", what.items);
                    return Err(Error::Check(what));
                }
                next += 1;
                octets += response.octets;
                Ok(())
            })
            .await?;
            let wall = run.meter.end(&section);
            check_equal("FETCH responses", exists, next - 1)?;
            imap.logout().await?;
            let name = match (what.first_apart, round) {
                (false, _) => "fetch",
                (true, 0) if run.warm == 0 => "first",
                (true, _) => "later",
            };
            sample(run, name, exists, octets, wall);
            run.findings.parameter("messages", exists);
        }
        run.findings.checked("one FETCH response for each message, in order, with every item");
        run.findings.parameter("items", what.items);
        Ok(target.to_string())
    }
}

fn sample(run: &mut Run, name: &str, messages: u32, octets: u64, wall: Duration) {
    run.sample_ms(name, wall);
    let seconds = wall.as_secs_f64();
    let rate = f64::from(messages) / seconds;
    run.findings.sample(&format!("{name} rate"), "msg/s", Better::Higher, rate);
    let volume = octets as f64 / seconds / 1e6;
    run.findings.sample(&format!("{name} volume"), "MB/s", Better::Higher, volume);
}

/// Options of `bodies`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bodies {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Messages to fetch in a round.
    #[arg(long, default_value_t = 2_000)]
    count: u32,
    /// Commands in flight in the pipelined half.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
}

impl Bodies {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = run.target(&self.target)?;
        let mut imap = Imap::login(&target, 0).await?;
        let exists = imap.select("SELECT", &self.mailbox).await?;
        let sizes = sizes(&mut imap, exists).await?;
        let mut random = Random::new(run.seed);
        for round in 0..run.rounds {
            if round <= run.warm {
                // The first round that counts reads what those before it have read: no peer's figure is to tell
                // which files the kernel had thrown out.
                random = Random::new(run.seed);
            }
            for (name, window) in [("one at a time", 1), ("pipelined", self.window)] {
                let chosen: Vec<u32> =
                    (0..self.count).map(|_| random.below(u64::from(exists)) as u32 + 1).collect();
                let section = run.meter.begin();
                let octets = fetch(&mut imap, &chosen, window, &sizes).await?;
                let wall = run.meter.end(&section);
                let seconds = wall.as_secs_f64();
                let rate = f64::from(self.count) / seconds;
                run.findings.sample(name, "msg/s", Better::Higher, rate);
                let volume = octets as f64 / seconds / 1e6;
                run.findings.sample(&format!("{name} volume"), "MB/s", Better::Higher, volume);
            }
        }
        imap.logout().await?;
        run.findings.checked("every body has the size that RFC822.SIZE says");
        run.findings.parameter("messages", exists);
        run.findings.parameter("count", self.count);
        run.findings.parameter("window", self.window);
        Ok(target.to_string())
    }
}

/// RFC822.SIZE of every message, by sequence number less one.
async fn sizes(imap: &mut Imap, exists: u32) -> Result<Vec<u64>> {
    let mut sizes = Vec::with_capacity(exists as usize);
    imap.each("FETCH 1:* (RFC822.SIZE)", &Words::number_after("RFC822.SIZE "), |response| {
        if let (Kind::Fetch(_), Some(size)) = (&response.kind, response.number) {
            sizes.push(size);
        }
        Ok(())
    })
    .await?;
    check_equal("sizes", exists as usize, sizes.len())?;
    Ok(sizes)
}

async fn fetch(imap: &mut Imap, chosen: &[u32], window: u32, sizes: &[u64]) -> Result<u64> {
    let (mut bodies, mut octets) = (0, 0);
    let commands = chosen.iter().map(|sequence| format!("FETCH {sequence} (BODY.PEEK[])"));
    imap.pipeline(commands, window, |response| {
        if let Kind::Fetch(sequence) = response.kind
            && response.literals > 0
        {
            let size = sizes.get(sequence as usize - 1).copied().unwrap_or(0);
            check_equal("size of a body", size, response.literal_bytes)?;
            bodies += 1;
            octets += response.octets;
        }
        Ok(())
    })
    .await?;
    check_equal("bodies", chosen.len(), bodies)?;
    Ok(octets)
}
