//! A POP3 client that fetches its whole maildrop.

use super::Run;
use crate::error::{Result, check_equal};
use crate::pop3::Pop3;
use crate::report::Better;
use crate::target::{Target, TargetOptions};

/// Options of `pop3-drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    target: TargetOptions,
    /// Messages to retrieve at most.
    #[arg(long, default_value_t = 2_000)]
    count: u64,
    /// RETRs in flight; 1 for a client that doesn't pipeline.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Delete what was retrieved (the next round then finds less).
    #[arg(long)]
    delete: bool,
}

impl Drain {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        for _ in 0..run.rounds {
            let open = run.meter.begin();
            let mut pop3 = Pop3::login(&target, 0).await?;
            let (total, volume) = pop3.stat().await?;
            let wall = run.meter.end(&open);
            run.sample_ms("login+stat", wall);
            let sizes = pop3.list().await?;
            check_equal("messages by LIST", total, sizes.len() as u64)?;
            check_equal("bytes by LIST and STAT", volume, sizes.iter().sum())?;
            let count = self.count.min(total);
            let section = run.meter.begin();
            let octets = self.retrieve(&mut pop3, &sizes[..count as usize]).await?;
            let wall = run.meter.end(&section).as_secs_f64();
            run.findings.sample("retrieved", "msg/s", Better::Higher, count as f64 / wall);
            let volume = octets as f64 / wall / 1e6;
            run.findings.sample("volume", "MB/s", Better::Higher, volume);
            if self.delete {
                for number in 1..=count {
                    pop3.command(&format!("DELE {number}")).await?;
                }
            }
            pop3.command("QUIT").await?;
            run.findings.parameter("messages", total);
        }
        run.findings.checked("every message has the size that LIST says");
        run.findings.parameter("count", self.count);
        run.findings.parameter("window", self.window);
        Ok(target.to_string())
    }

    async fn retrieve(&self, pop3: &mut Pop3, sizes: &[u64]) -> Result<u64> {
        let mut octets = 0;
        let mut sent = 0;
        for (got, &size) in sizes.iter().enumerate() {
            if sent - got <= self.window as usize / 2 {
                let end = sizes.len().min(got + self.window as usize);
                let commands: String =
                    (sent + 1..=end).map(|number| format!("RETR {number}\r\n")).collect();
                if !commands.is_empty() {
                    pop3.send(commands.as_bytes()).await?;
                }
                sent = end;
            }
            let found = pop3.retrieved().await?;
            check_equal("size of a retrieved message", size, found)?;
            octets += found;
        }
        Ok(octets)
    }
}
