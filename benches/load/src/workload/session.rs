//! Sessions as such: how fast they come and go, and what an idle one costs.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Run, Serials, gather};
use crate::error::{Error, Result, check_equal};
use crate::imap::Imap;
use crate::latency::Latencies;
use crate::message::{Generator, MESSAGE_BYTES_MEAN};
use crate::process::{self, Memory};
use crate::report::Better;
use crate::scan::{Kind, Words};
use crate::target::{Target, TargetOptions};

/// Sessions that `idle` opens at a time; more would only queue up in the listener.
const OPENING: u32 = 32;
/// How long `idle --wake` waits for the news.
const WAKE_SECONDS_MAX: u64 = 35;

/// Options of `login`.
#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    #[command(flatten)]
    target: TargetOptions,
    /// Concurrent connections; connection n is account n modulo --users.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Sessions in a round, over all connections.
    #[arg(long, default_value_t = 2_000)]
    count: u64,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
}

impl Login {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        // What a password costs when it is seen first (a slow hash, by design) is told apart.
        let mut first = Latencies::default();
        for account in 0..target.users().min(self.connections) {
            let start = Instant::now();
            let imap = Imap::login(&target, account).await?;
            first.push(start.elapsed());
            imap.logout().await?;
        }
        let first = first.quantile_ms(0.5);
        run.findings.sample("first login of an account", "ms", Better::Lower, first);
        for _ in 0..run.rounds {
            let serials = Serials::new(0, self.count);
            let mut tasks = JoinSet::new();
            let section = run.meter.begin();
            for connection in 0..self.connections {
                let (target, serials) = (target.clone(), serials.clone());
                let mailbox = self.mailbox.clone();
                tasks.spawn(async move {
                    let mut latencies = Latencies::default();
                    while serials.take().is_some() {
                        let start = Instant::now();
                        let mut imap = Imap::login(&target, connection).await?;
                        imap.select("SELECT", &mailbox).await?;
                        imap.logout().await?;
                        latencies.push(start.elapsed());
                    }
                    Ok(latencies)
                });
            }
            let latencies = gather(tasks).await?;
            let wall = run.meter.end(&section);
            check_equal("sessions", self.count, latencies.len() as u64)?;
            run.sample_rate("sessions", latencies, wall);
        }
        run.findings.checked("every session saw EXISTS and a tagged OK to LOGOUT");
        run.findings.parameter("connections", self.connections);
        run.findings.parameter("accounts", target.users());
        run.findings.parameter("count", self.count);
        Ok(target.to_string())
    }
}

/// Options of `idle`.
#[derive(Debug, clap::Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    target: TargetOptions,
    /// Sessions to hold.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Seconds between the last session's IDLE and the look at the memory.
    #[arg(long, default_value_t = 3)]
    settle: u64,
    /// Then append a message to the first account's mailbox and time until all its sessions know.
    #[arg(long)]
    wake: bool,
}

impl Idle {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        for _ in 0..run.rounds {
            self.round(run, &target).await?;
        }
        run.findings.checked("every session idled, and ended IDLE with OK");
        run.findings.parameter("sessions", self.sessions);
        run.findings.parameter("accounts", target.users());
        Ok(target.to_string())
    }

    async fn round(&self, run: &mut Run, target: &Target) -> Result<()> {
        // First logins start helpers and hash passwords; what that leaves is no session's cost.
        for account in 0..target.users() {
            Imap::login(target, account).await?.logout().await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let closed = process::memory(run.meter.pids());
        // Nor is an open mailbox that others have open too.
        let mut first = Vec::new();
        for account in 0..target.users().min(self.sessions) {
            let mut imap = Imap::login(target, account).await?;
            imap.select("SELECT", &self.mailbox).await?;
            let tag = imap.idle().await?;
            first.push((account, imap, tag));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = process::memory(run.meter.pids());
        if !run.meter.pids().is_empty() {
            let each = (before.pss as f64 - closed.pss as f64) / first.len() as f64 / 1024.0;
            run.findings.sample("Pss of an account's first session", "KiB", Better::Lower, each);
        }
        let section = run.meter.begin();
        let mut sessions = self.open(target).await?;
        let wall = run.meter.end(&section);
        let rate = f64::from(self.sessions) / wall.as_secs_f64();
        run.findings.sample("opened", "1/s", Better::Higher, rate);
        tokio::time::sleep(Duration::from_secs(self.settle)).await;
        if !run.meter.pids().is_empty() {
            self.sample_memory(run, before, process::memory(run.meter.pids()));
        }
        if self.wake {
            let wall = self.wake(target, &mut sessions).await?;
            run.sample_ms("last session woken", wall);
        }
        let mut tasks = JoinSet::new();
        for (_, mut imap, tag) in sessions.into_iter().chain(first) {
            tasks.spawn(async move {
                imap.done(tag).await?;
                imap.logout().await?;
                Ok(Latencies::default())
            });
        }
        gather(tasks).await.map(drop)
    }

    async fn open(&self, target: &Target) -> Result<Vec<(u32, Imap, u32)>> {
        let serials = Serials::new(0, u64::from(self.sessions));
        let mut tasks: JoinSet<Result<Vec<_>>> = JoinSet::new();
        for _ in 0..OPENING {
            let (target, serials, mailbox) =
                (target.clone(), serials.clone(), self.mailbox.clone());
            tasks.spawn(async move {
                let mut sessions = Vec::new();
                while let Some(serial) = serials.take() {
                    let connection = serial as u32;
                    let mut imap = Imap::login(&target, connection).await?;
                    imap.select("SELECT", &mailbox).await?;
                    let tag = imap.idle().await?;
                    sessions.push((connection, imap, tag));
                }
                Ok(sessions)
            });
        }
        let mut sessions = Vec::new();
        while let Some(opened) = tasks.join_next().await {
            sessions.extend(opened??);
        }
        Ok(sessions)
    }

    fn sample_memory(&self, run: &mut Run, before: Memory, after: Memory) {
        let each = |before: u64, after: u64| {
            (after as f64 - before as f64) / f64::from(self.sessions) / 1024.0
        };
        let findings = &mut run.findings;
        let pss = each(before.pss, after.pss);
        findings.sample("Pss of a session", "KiB", Better::Lower, pss);
        let anon = each(before.pss_anon, after.pss_anon);
        findings.sample("anonymous Pss of a session", "KiB", Better::Lower, anon);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        findings.sample("Pss before", "MiB", Better::Lower, mib(before.pss));
        findings.sample("Pss with all", "MiB", Better::Lower, mib(after.pss));
        findings.sample("processes with all", "", Better::Lower, after.processes as f64);
    }

    /// Appends one message and waits until every session of the first account heard EXISTS.
    async fn wake(&self, target: &Target, sessions: &mut [(u32, Imap, u32)]) -> Result<Duration> {
        let mut message = Vec::new();
        Generator::new(1, MESSAGE_BYTES_MEAN).write(1, &mut message);
        let mut writer = Imap::login(target, 0).await?;
        let tag = writer.append(&self.mailbox, &[&message]).await?;
        let start = Instant::now();
        writer.flush().await?;
        writer.finish(tag, &Words::default(), |_| Ok(())).await?;
        writer.logout().await?;
        let heard = async {
            for (_, imap, _) in
                sessions.iter_mut().filter(|(connection, ..)| connection % target.users() == 0)
            {
                while !matches!(imap.next().await?.kind, Kind::Exists(_)) {}
            }
            Ok(start.elapsed())
        };
        let limit = Duration::from_secs(WAKE_SECONDS_MAX);
        tokio::time::timeout(limit, heard).await.unwrap_or_else(|_| {
            Err(Error::Check(format!("not every idle session heard EXISTS in {limit:?}")))
        })
    }
}
