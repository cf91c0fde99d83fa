//! Do the cores go on serving while big work is done? One session changes a large mailbox from
//! end to end and asks for checkpoints; deliveries, fetches and IDLE go on beside it.
//!
//! The server's own histograms (see `cursus status`) are read before and after each step, so that
//! what one step did to the cores is told apart. `late` is wall time, with what other processes
//! took of the processor; `busy` is the core's own. `turns` are the pieces of work of sessions,
//! `own` without waiting for the processor. A thread of this process that does nothing but sleep
//! tells how late the machine itself is (`machine late`): no server can be more punctual.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::{Run, gather};
use crate::error::{Error, Result};
use crate::imap::Imap;
use crate::latency::Latencies;
use crate::lmtp::Lmtp;
use crate::message::Generator;
use crate::report::Better;
use crate::target::{Target, TargetOptions};

/// Time between two commands of a reader.
const READER_PAUSE: Duration = Duration::from_millis(2);
/// For what the preparations left to be done.
const READY_PAUSE: Duration = Duration::from_secs(2);
/// Messages that COPY and MOVE take at most.
const COPY_MAX: u32 = 100_000;
/// Mean size of a delivered message in bytes.
const MESSAGE_BYTES: u32 = 4_000;

/// Options of `stalls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stalls {
    #[command(flatten)]
    target: TargetOptions,
    /// LMTP port on the same host.
    #[arg(long)]
    lmtp_port: u16,
    /// The server's admin socket.
    #[arg(long)]
    admin_socket: PathBuf,
    /// The large mailbox of the first account; it is emptied by half.
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Sessions that fetch, each of an account of its own where there are enough.
    #[arg(long, default_value_t = 4)]
    readers: u32,
    /// Sessions in IDLE.
    #[arg(long, default_value_t = 16)]
    watchers: u32,
    /// Sessions in IDLE on the large mailbox, which are told of every change.
    #[arg(long, default_value_t = 2)]
    watchers_large: u32,
    /// Connections that deliver.
    #[arg(long, default_value_t = 2)]
    deliverers: u32,
}

/// Microseconds and counts.
type Buckets = BTreeMap<u64, u64>;

/// The server's histograms: what they are called here and there.
const KINDS: [(&str, &str); 5] = [
    ("core late", "late_us"),
    ("core busy", "busy_us"),
    ("turns", "turns_us"),
    ("turns own", "turns_own_us"),
    ("turns busy", "turns_busy_us"),
];

/// Turns longer than so many milliseconds are counted over all steps.
const COUNTED_MS: [u64; 6] = [1, 2, 5, 10, 20, 50];

const QUANTILES: [(&str, f64); 3] = [("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// How long the sleep of the thread is that tells how late the machine is.
const MACHINE_PERIOD: Duration = Duration::from_millis(5);

/// Microseconds that sleeps ended late since the last look.
type MachineLate = Arc<Mutex<Latencies>>;

fn watch_machine(late: &MachineLate, stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    let (late, stop) = (late.clone(), stop.clone());
    let run = move || {
        while !stop.load(Ordering::Relaxed) {
            let due = Instant::now() + MACHINE_PERIOD;
            std::thread::sleep(MACHINE_PERIOD);
            late.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed());
        }
    };
    std::thread::Builder::new().name("machine".into()).spawn(run).map(drop)
}

struct Admin(BufReader<UnixStream>);

impl Admin {
    async fn ask(&mut self, op: &str) -> Result<Value> {
        let line = format!("{}\n", json!({ "v": 1, "request": { "op": op } }));
        self.0.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).await?;
        let value: Value = serde_json::from_str(&answer).unwrap_or_default();
        match value.pointer("/answer/ok") {
            Some(ok) => Ok(ok.clone()),
            None => Err(Error::Answer { expected: format!("an answer to {op}"), found: answer }),
        }
    }

    /// The histograms of all cores together.
    async fn stalls(&mut self) -> Result<[Buckets; KINDS.len()]> {
        let status = self.ask("status").await?;
        let mut out = [const { Buckets::new() }; KINDS.len()];
        let cores = status.pointer("/status/stalls").and_then(Value::as_array);
        for core in cores.into_iter().flatten() {
            for (buckets, (_, name)) in out.iter_mut().zip(KINDS) {
                for pair in core[name].as_array().into_iter().flatten() {
                    let (us, count) = (pair[0].as_u64(), pair[1].as_u64());
                    *buckets.entry(us.unwrap_or(0)).or_default() += count.unwrap_or(0);
                }
            }
        }
        Ok(out)
    }
}

/// Milliseconds that at most `share` of what was added between two looks lies above.
fn quantile_ms(before: &Buckets, after: &Buckets, share: f64) -> f64 {
    let added = |us: &u64, count: u64| count - before.get(us).copied().unwrap_or(0);
    let total: u64 = after.iter().map(|(us, count)| added(us, *count)).sum();
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    for (us, count) in after {
        seen += added(us, *count);
        if seen >= rank {
            return *us as f64 / 1000.0;
        }
    }
    0.0
}

impl Stalls {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let lmtp = TargetOptions { port: self.lmtp_port, socket: None, ..self.target.clone() };
        let lmtp = Target::new(&lmtp)?;
        let mut admin = Admin(BufReader::new(UnixStream::connect(&self.admin_socket).await?));
        let stop = Arc::new(AtomicBool::new(false));
        let mut idle = JoinSet::new();
        for n in 0..self.watchers {
            let mut imap = Imap::login(&target, n + 1).await?;
            imap.select("SELECT", "INBOX").await?;
            imap.idle().await?;
            idle.spawn(async move { while imap.next().await.is_ok() {} });
        }
        let mut readers = JoinSet::new();
        for _ in 0..self.watchers_large {
            let mut imap = Imap::login(&target, 0).await?;
            imap.select("EXAMINE", &self.mailbox).await?;
            imap.idle().await?;
            idle.spawn(async move { while imap.next().await.is_ok() {} });
        }
        for n in 0..self.readers {
            let mut imap = Imap::login(&target, n + 1).await?;
            let stop = stop.clone();
            readers.spawn(async move {
                imap.select("SELECT", "INBOX").await?;
                let mut latencies = Latencies::default();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    imap.run("UID FETCH 1:20 (FLAGS)").await?;
                    latencies.push(start.elapsed());
                    tokio::time::sleep(READER_PAUSE).await;
                }
                Ok(latencies)
            });
        }
        let mut deliverers = JoinSet::new();
        let generator = Arc::new(Generator::new(run.seed, MESSAGE_BYTES));
        for n in 0..self.deliverers {
            let mut session = Lmtp::connect(&lmtp).await?;
            // Not into the mailbox that is being changed: there, UIDs are given in turn.
            let recipient = target.user(n + 1);
            let (stop, generator) = (stop.clone(), generator.clone());
            deliverers.spawn(async move {
                let mut latencies = Latencies::default();
                let mut text = Vec::new();
                let mut serial = u64::from(n) << 32;
                while !stop.load(Ordering::Relaxed) {
                    text.clear();
                    generator.write(serial, &mut text);
                    serial += 1;
                    let start = Instant::now();
                    session.deliver(&recipient, &text).await?;
                    latencies.push(start.elapsed());
                }
                Ok(latencies)
            });
        }
        let mut imap = Imap::login(&target, 0).await?;
        let exists = imap.select("SELECT", &self.mailbox).await?;
        // Enough stays for the steps behind the MOVE.
        let copies = (exists / 4).clamp(1, COPY_MAX);
        // It may be there from a run before.
        let _ = imap.run("CREATE stalls-copies").await;
        // So may what was done to flags.
        imap.run("STORE 1:* -FLAGS.SILENT (\\Flagged \\Deleted)").await?;
        tokio::time::sleep(READY_PAUSE).await;
        let steps = [
            ("quiet", String::new()),
            ("STORE 1:*", "STORE 1:* +FLAGS.SILENT (\\Flagged)".to_owned()),
            ("checkpoint and renames", "checkpoint".to_owned()),
            ("COPY", format!("COPY 1:{copies} stalls-copies")),
            ("MOVE", format!("MOVE 1:{copies} stalls-copies")),
            ("STORE \\Deleted", format!("STORE 1:{} +FLAGS.SILENT (\\Deleted)", exists / 2)),
            ("EXPUNGE", "EXPUNGE".to_owned()),
            ("checkpoint and compaction", "checkpoint".to_owned()),
        ];
        let machine = MachineLate::default();
        watch_machine(&machine, &stop)?;
        let begun = admin.stalls().await?;
        for (name, command) in steps {
            let before = admin.stalls().await?;
            let start = Instant::now();
            match command.as_str() {
                "" => tokio::time::sleep(Duration::from_secs(3)).await,
                "checkpoint" => drop(admin.ask("checkpoint").await?),
                command => imap.run(command).await?,
            }
            run.sample_ms(&format!("{name}: time"), start.elapsed());
            let after = admin.stalls().await?;
            let mut late =
                std::mem::take(&mut *machine.lock().unwrap_or_else(PoisonError::into_inner));
            for (quantile, share) in QUANTILES {
                let name = format!("{name}: machine late {quantile}");
                run.findings.sample(&name, "ms", Better::Lower, late.quantile_ms(share));
            }
            for ((kind, _), (before, after)) in KINDS.iter().zip(before.iter().zip(&after)) {
                for (quantile, share) in QUANTILES {
                    let ms = quantile_ms(before, after, share);
                    let name = format!("{name}: {kind} {quantile}");
                    run.findings.sample(&name, "ms", Better::Lower, ms);
                }
            }
        }
        let ended = admin.stalls().await?;
        for ((kind, _), (before, after)) in KINDS.iter().zip(begun.iter().zip(&ended)) {
            for ms in COUNTED_MS {
                let above = |buckets: &Buckets| -> u64 {
                    buckets.range(ms * 1000..).map(|(_, count)| count).sum()
                };
                let name = format!("all steps: {kind} above {ms} ms");
                let count = above(after) - above(before);
                run.findings.sample(&name, "times", Better::Lower, count as f64);
            }
            let count: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
            let name = format!("all steps: {kind} counted");
            run.findings.sample(&name, "times", Better::Higher, count as f64);
        }
        stop.store(true, Ordering::Relaxed);
        for (name, tasks) in [("fetch", readers), ("delivery", deliverers)] {
            let mut latencies = gather(tasks).await?;
            for (quantile, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
                let ms = latencies.quantile_ms(share);
                run.findings.sample(&format!("{name} {quantile}"), "ms", Better::Lower, ms);
            }
        }
        idle.abort_all();
        run.findings.parameter("messages", exists);
        run.findings.parameter("readers", self.readers);
        run.findings.parameter("watchers", self.watchers);
        run.findings.parameter("watchers of the large mailbox", self.watchers_large);
        Ok(target.to_string())
    }
}
