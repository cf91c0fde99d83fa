//! Wall and CPU time over the timed parts of a run.

use std::time::{Duration, Instant};

use crate::process;

/// Sums wall time, the client's CPU time and the server's over every timed section.
#[derive(Debug)]
pub(crate) struct Meter {
    pids: Vec<u32>,
    pub(crate) wall: Duration,
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
}

/// A section under way.
#[derive(Debug)]
pub(crate) struct Section {
    client_cpu: f64,
    server_cpu: f64,
    start: Instant,
}

impl Meter {
    pub(crate) fn new(pids: Vec<u32>) -> Self {
        Self { pids, wall: Duration::ZERO, client_cpu: 0.0, server_cpu: 0.0 }
    }

    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Starts the clock last, so that reading /proc is not part of the section.
    pub(crate) fn begin(&self) -> Section {
        Section {
            server_cpu: self.server_cpu_now(),
            client_cpu: process::own_cpu_seconds(),
            start: Instant::now(),
        }
    }

    /// Ends the section and hands back its wall time.
    pub(crate) fn end(&mut self, section: &Section) -> Duration {
        let elapsed = section.start.elapsed();
        self.wall += elapsed;
        self.client_cpu += process::own_cpu_seconds() - section.client_cpu;
        self.server_cpu += self.server_cpu_now() - section.server_cpu;
        elapsed
    }

    fn server_cpu_now(&self) -> f64 {
        if self.pids.is_empty() { 0.0 } else { process::cpu_seconds(&self.pids) }
    }
}
