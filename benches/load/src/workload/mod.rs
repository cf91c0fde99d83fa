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

use crate::error::Result;
use crate::latency::Latencies;
use crate::meter::Meter;
use crate::options::{Options, Workload};
use crate::report::{Better, Findings, Report};

/// What every workload gets beside its own options.
#[derive(Debug)]
pub(crate) struct Run {
    /// With those that are no samples, which come first.
    pub(crate) rounds: u32,
    pub(crate) warm: u32,
    pub(crate) seed: u64,
    pub(crate) meter: Meter,
    pub(crate) findings: Findings,
}

/// Runs the workload that the command line names.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut run = Run {
        rounds: options.warm.saturating_add(options.rounds),
        warm: options.warm,
        seed: options.seed,
        meter: Meter::new(options.pids.clone()),
        findings: Findings::default(),
    };
    run.findings.parameter("rounds", options.rounds);
    run.findings.parameter("warm", options.warm);
    run.findings.parameter("seed", options.seed);
    let target = match &options.workload {
        Workload::Fill(fill) => fill.run(&mut run).await,
        Workload::Lmtp(deliver) => deliver.run(&mut run).await,
        Workload::Append(append) => append.run(&mut run).await,
        Workload::Select(select) => select.run(&mut run).await,
        Workload::FetchFlags(fetch) => fetch.run(&mut run, &fetch::FLAGS).await,
        Workload::FetchEnvelope(fetch) => fetch.run(&mut run, &fetch::ENVELOPE).await,
        Workload::FetchHeaders(fetch) => fetch.run(&mut run, &fetch::HEADERS).await,
        Workload::Bodies(bodies) => bodies.run(&mut run).await,
        Workload::StoreAll(store) => store.run(&mut run).await,
        Workload::StoreOne(store) => store.run(&mut run).await,
        Workload::Search(search) => search.run(&mut run).await,
        Workload::Login(login) => login.run(&mut run).await,
        Workload::Idle(idle) => idle.run(&mut run).await,
        Workload::Pop3Drain(drain) => drain.run(&mut run).await,
        Workload::Stalls(stalls) => stalls.run(&mut run).await,
        Workload::Disk(disk) => disk.run(&mut run),
        Workload::Day(day) => day.run(&mut run).await,
        Workload::Plant(plant) => plant.run(&mut run),
        Workload::Open(open) => open.run(&mut run).await,
    }?;
    run.findings.forget(options.warm as usize);
    Ok(run.findings.into_report(options.workload.name().to_owned(), target, &run.meter))
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
