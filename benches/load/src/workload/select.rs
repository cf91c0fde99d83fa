//! SELECT of a mailbox: on new connections, and again on the same one.

use std::time::Instant;

use super::Run;
use crate::error::{Result, check_equal};
use crate::imap::Imap;
use crate::latency::Latencies;
use crate::report::Better;
use crate::target::TargetOptions;

/// Options of `select`.
#[derive(Debug, clap::Args)]
pub(crate) struct Select {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// SELECTs of each kind in a round; a round's sample is their median.
    #[arg(long, default_value_t = 20)]
    count: u32,
}

impl Select {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = run.target(&self.target)?;
        let mut exists = None;
        for _ in 0..run.rounds {
            let (mut cold, mut warm) = (Latencies::default(), Latencies::default());
            let mut opened = Latencies::default();
            let section = run.meter.begin();
            for _ in 0..self.count {
                let start = Instant::now();
                let mut imap = Imap::login(&target, 0).await?;
                self.select(&mut imap, &mut exists, &mut cold).await?;
                opened.push(start.elapsed());
                imap.logout().await?;
            }
            let mut imap = Imap::login(&target, 0).await?;
            self.select(&mut imap, &mut exists, &mut Latencies::default()).await?;
            for _ in 0..self.count {
                self.select(&mut imap, &mut exists, &mut warm).await?;
            }
            run.meter.end(&section);
            imap.logout().await?;
            for (name, mut latencies) in
                [("cold", cold), ("warm", warm), ("connect+login+select", opened)]
            {
                run.findings.sample(name, "ms", Better::Lower, latencies.quantile_ms(0.5));
            }
        }
        run.findings.checked("EXISTS is the same every time");
        run.findings.parameter("messages", exists.unwrap_or(0));
        run.findings.parameter("count", self.count);
        Ok(target.to_string())
    }

    async fn select(
        &self,
        imap: &mut Imap,
        exists: &mut Option<u32>,
        latencies: &mut Latencies,
    ) -> Result<()> {
        let start = Instant::now();
        let found = imap.select("SELECT", &self.mailbox).await?;
        latencies.push(start.elapsed());
        check_equal("EXISTS", *exists.get_or_insert(found), found)
    }
}
