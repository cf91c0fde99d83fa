//! The workloads: each times its own sections, checks what it got and reports samples.

pub(crate) mod day;
pub(crate) mod deliver;
pub(crate) mod fetch;
pub(crate) mod foreign;
pub(crate) mod pop3;
pub(crate) mod search;
pub(crate) mod select;
pub(crate) mod session;
pub(crate) mod stalls;
pub(crate) mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::latency::Latencies;
use crate::meter::Meter;
use crate::options::{Options, Workload};
use crate::replay::{Player, Recorder};
use crate::report::{Better, Findings, Report};
use crate::target::{Target, TargetOptions};

/// What every workload gets beside its own options.
#[derive(Debug)]
pub(crate) struct Run {
    /// With those that are no samples, which come first.
    pub(crate) rounds: u32,
    pub(crate) warm: u32,
    pub(crate) seed: u64,
    pub(crate) meter: Meter,
    pub(crate) findings: Findings,
    /// A port of loopback to ask instead of the server's.
    instead: Option<u16>,
}

/// Runs the workload that the command line names.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut run = Run {
        rounds: options.warm.saturating_add(options.rounds),
        warm: options.warm,
        seed: options.seed,
        meter: Meter::new(options.pids.clone()),
        findings: Findings::default(),
        instead: None,
    };
    run.findings.parameter("rounds", options.rounds);
    run.findings.parameter("warm", options.warm);
    run.findings.parameter("seed", options.seed);
    let target = run.ask(&options.workload).await?;
    run.findings.forget(options.warm as usize);
    if options.floor {
        floor(options, &mut run.findings).await?;
    }
    Ok(run.findings.into_report(options.workload.name().to_owned(), target, &run.meter))
}

/// Adds how long the same answers take that come from memory.
async fn floor(options: &Options, findings: &mut Findings) -> Result<()> {
    let Some(server) = options.workload.recordable() else {
        let name = options.workload.name();
        return Err(Error::Usage(format!(
            "{name} has no --floor: IMAP over TCP without TLS, one connection at a time"
        )));
    };
    // One round, whose name is that of later ones.
    let once = |port| Run {
        rounds: 1,
        warm: 1,
        seed: options.seed,
        meter: Meter::new(Vec::new()),
        findings: Findings::default(),
        instead: Some(port),
    };
    let recorder = Recorder::start((server.host.clone(), server.port))?;
    once(recorder.port()).ask(&options.workload).await?;
    let recorded = Arc::new(recorder.finish()?);
    for round in 0..options.warm.saturating_add(options.rounds) {
        let player = Player::start(Arc::clone(&recorded))?;
        let mut played = once(player.port());
        played.ask(&options.workload).await?;
        player.finish()?;
        if round >= options.warm {
            findings.adopt("floor", played.findings);
        }
    }
    Ok(())
}

/// Hands out work items to concurrent connections until all are taken.
#[derive(Clone, Debug)]
pub(crate) struct Serials {
    next: Arc<AtomicU64>,
    end: u64,
}

impl Serials {
    pub(crate) fn new(first: u64, count: u64) -> Self {
        Self { next: Arc::new(AtomicU64::new(first)), end: first + count }
    }

    pub(crate) fn take(&self) -> Option<u64> {
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        (serial < self.end).then_some(serial)
    }
}

/// Waits for every task; the first failure ends the run.
pub(crate) async fn gather(mut tasks: JoinSet<Result<Latencies>>) -> Result<Latencies> {
    let mut all = Latencies::default();
    while let Some(done) = tasks.join_next().await {
        all.merge(done??);
    }
    Ok(all)
}

impl Run {
    /// Does what a workload is; gives the name of whom it asked.
    async fn ask(&mut self, workload: &Workload) -> Result<String> {
        match workload {
            Workload::Fill(fill) => fill.run(self).await,
            Workload::Lmtp(deliver) => deliver.run(self).await,
            Workload::Append(append) => append.run(self).await,
            Workload::Select(select) => select.run(self).await,
            Workload::FetchFlags(fetch) => fetch.run(self, &fetch::FLAGS).await,
            Workload::FetchEnvelope(fetch) => fetch.run(self, &fetch::ENVELOPE).await,
            Workload::FetchHeaders(fetch) => fetch.run(self, &fetch::HEADERS).await,
            Workload::Bodies(bodies) => bodies.run(self).await,
            Workload::StoreAll(store) => store.run(self).await,
            Workload::StoreOne(store) => store.run(self).await,
            Workload::Search(search) => search.run(self).await,
            Workload::Login(login) => login.run(self).await,
            Workload::Idle(idle) => idle.run(self).await,
            Workload::Pop3Drain(drain) => drain.run(self).await,
            Workload::Stalls(stalls) => stalls.run(self).await,
            Workload::Disk(disk) => disk.run(self),
            Workload::Day(day) => day.run(self).await,
            Workload::Plant(plant) => plant.run(self),
            Workload::Open(open) => open.run(self).await,
        }
    }

    /// Whom to ask: the server, or who plays it.
    pub(crate) fn target(&self, options: &TargetOptions) -> Result<Target> {
        match self.instead {
            Some(port) => Target::new(&TargetOptions {
                host: "127.0.0.1".to_owned(),
                port,
                ..options.clone()
            }),
            None => Target::new(options),
        }
    }

    /// Samples the rate and the latency quantiles of one round.
    pub(crate) fn sample_rate(&mut self, name: &str, mut latencies: Latencies, wall: Duration) {
        let rate = latencies.len() as f64 / wall.as_secs_f64();
        self.findings.sample(name, "1/s", Better::Higher, rate);
        for (quantile, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let value = latencies.quantile_ms(share);
            self.findings.sample(&format!("{name} {quantile}"), "ms", Better::Lower, value);
        }
    }

    /// Samples a time in milliseconds.
    pub(crate) fn sample_ms(&mut self, name: &str, wall: Duration) {
        self.findings.sample(name, "ms", Better::Lower, wall.as_secs_f64() * 1000.0);
    }
}
