//! A mixed day: many clients idle, some read and mark mail, and mail comes in all the while.
//!
//! Work is due at times drawn beforehand (exponential gaps, seeded), and an operation's latency
//! counts from the moment it was due, so that a server that falls behind cannot hide it by being
//! asked less. A notice is the time from the start of a delivery until an idle session of that
//! account has been told EXISTS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::deliver::nonce;
use super::{Run, Serials};
use crate::error::{Error, Result};
use crate::imap::Imap;
use crate::latency::Latencies;
use crate::lmtp::Lmtp;
use crate::message::{Generator, MESSAGE_BYTES_MEAN};
use crate::random::Random;
use crate::report::Better;
use crate::scan::{Kind, Words};
use crate::target::{Target, TargetOptions};

/// Sessions opened at a time.
const OPENING: u32 = 32;
/// How long after the last operation a notice may still come.
const NOTICE_SECONDS_MAX: u64 = 2;

/// Options of `day`.
#[derive(Debug, clap::Args)]
pub(crate) struct Day {
    #[command(flatten)]
    target: TargetOptions,
    /// Sessions; four fifths of them idle, the others work.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(5..))]
    sessions: u32,
    /// Seconds of a round.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Operations due in a second: 3 of 10 are deliveries, 4 fetch a body, 2 list the newest 50
    /// messages, 1 sets a flag.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// LMTP port on the same host; without it deliveries are APPENDs.
    #[arg(long)]
    lmtp_port: Option<u16>,
    /// Mean size of a delivered message in bytes.
    #[arg(long, default_value_t = MESSAGE_BYTES_MEAN)]
    size: u32,
}

/// What a worker is asked to do, and when it was due.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    what: What,
    choice: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Deliver,
    Fetch,
    List,
    Flag,
}

const KINDS: [(What, &str); 4] = [
    (What::Deliver, "delivery"),
    (What::Fetch, "body"),
    (What::List, "list of 50"),
    (What::Flag, "flag"),
];

/// When the last delivery to each account began, in microseconds since `epoch`; 0 for none.
#[derive(Debug)]
struct Begun {
    epoch: Instant,
    accounts: Vec<AtomicU64>,
}

impl Day {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let mail = self
            .lmtp_port
            .map(|port| {
                let tls = crate::target::Tls::None;
                Target::new(&TargetOptions { port, socket: None, tls, ..self.target.clone() })
            })
            .transpose()?;
        for round in 0..run.rounds {
            self.round(run, &target, mail.as_ref(), round).await?;
        }
        run.findings.checked("every operation was answered OK");
        run.findings.parameter("sessions", self.sessions);
        run.findings.parameter("accounts", target.users());
        run.findings.parameter("rate", self.rate);
        run.findings.parameter("seconds", self.seconds);
        let by = if mail.is_some() { "LMTP" } else { "APPEND" };
        run.findings.parameter("deliveries by", by);
        Ok(target.to_string())
    }

    async fn round(
        &self,
        run: &mut Run,
        target: &Target,
        mail: Option<&Target>,
        round: u32,
    ) -> Result<()> {
        let generator = Arc::new(Generator::new(run.seed, self.size).unique(nonce()));
        for account in 0..target.users() {
            // Nobody fetches from an empty mailbox.
            let mut imap = Imap::login(target, account).await?;
            for serial in imap.messages("INBOX").await?..10 {
                let mut message = Vec::new();
                generator.write(serial, &mut message);
                let tag = imap.append("INBOX", &[&message]).await?;
                imap.flush().await?;
                imap.finish(tag, &Words::default(), |_| Ok(())).await?;
            }
            imap.logout().await?;
        }
        let epoch = Instant::now();
        let accounts = (0..target.users()).map(|_| AtomicU64::new(0)).collect();
        let begun = Arc::new(Begun { epoch, accounts });
        let idle = self.sessions * 4 / 5;
        let stop = Arc::new(Notify::new());
        let mut listeners = self.listen(target, idle, &begun, &stop).await?;
        let workers = self.sessions - idle;
        let mut queues = Vec::new();
        let mut tasks: JoinSet<Result<Vec<(What, Duration)>>> = JoinSet::new();
        for worker in 0..workers {
            let imap = Imap::login(target, worker).await?;
            let lmtp = match mail {
                Some(mail) => Some((Lmtp::connect(mail).await?, target.user(worker))),
                None => None,
            };
            let (queue, dues) = mpsc::unbounded_channel();
            queues.push(queue);
            let account = (worker % target.users()) as usize;
            let worker = Worker { imap, lmtp, account, generator: generator.clone() };
            tasks.spawn(worker.run(dues, begun.clone()));
        }
        let section = run.meter.begin();
        self.hand_out(&queues, Random::for_serial(run.seed, u64::from(round))).await;
        drop(queues);
        let mut kinds: Vec<Latencies> = KINDS.iter().map(|_| Latencies::default()).collect();
        while let Some(done) = tasks.join_next().await {
            for (what, latency) in done?? {
                let place = KINDS.iter().position(|(kind, _)| *kind == what).unwrap_or(0);
                kinds[place].push(latency);
            }
        }
        run.meter.end(&section);
        tokio::time::sleep(Duration::from_secs(NOTICE_SECONDS_MAX)).await;
        stop.notify_waiters();
        let mut notices = Latencies::default();
        let mut silent = 0;
        while let Some(heard) = listeners.join_next().await {
            let heard = heard??;
            silent += u32::from(heard.len() == 0);
            notices.merge(heard);
        }
        for (mut latencies, (_, name)) in kinds.into_iter().zip(KINDS) {
            sample(run, name, &mut latencies);
        }
        sample(run, "notice", &mut notices);
        run.findings.sample("idle sessions never told", "", Better::Lower, f64::from(silent));
        Ok(())
    }

    /// Opens `count` idle sessions; each hands back the latencies of its notices at the end.
    async fn listen(
        &self,
        target: &Target,
        count: u32,
        begun: &Arc<Begun>,
        stop: &Arc<Notify>,
    ) -> Result<JoinSet<Result<Latencies>>> {
        let serials = Serials::new(0, u64::from(count));
        let (ready, mut all_ready) = mpsc::unbounded_channel();
        let mut opening: JoinSet<Result<()>> = JoinSet::new();
        let mut listeners = JoinSet::new();
        let (sessions, mut opened) = mpsc::unbounded_channel();
        for _ in 0..OPENING {
            let (target, serials) = (target.clone(), serials.clone());
            let (sessions, ready) = (sessions.clone(), ready.clone());
            opening.spawn(async move {
                while let Some(serial) = serials.take() {
                    let connection = serial as u32;
                    let mut imap = Imap::login(&target, connection).await?;
                    imap.select("SELECT", "INBOX").await?;
                    let tag = imap.idle().await?;
                    // The receiver lives until all are opened.
                    let _ = sessions.send((connection, imap, tag));
                    let _ = ready.send(());
                }
                Ok(())
            });
        }
        drop((sessions, ready));
        while let Some(done) = opening.join_next().await {
            done??;
        }
        let users = target.users();
        while let Some((connection, imap, tag)) = opened.recv().await {
            let account = (connection % users) as usize;
            listeners.spawn(hear(imap, tag, account, begun.clone(), stop.clone()));
        }
        while all_ready.recv().await.is_some() {}
        Ok(listeners)
    }

    /// Sends every operation to a worker when it is due.
    async fn hand_out(&self, queues: &[mpsc::UnboundedSender<Due>], mut random: Random) {
        let start = Instant::now();
        let mut at = Duration::ZERO;
        loop {
            let gap = -random.unit().ln() / f64::from(self.rate.max(1));
            at += Duration::from_secs_f64(gap);
            if at.as_secs() >= self.seconds {
                return;
            }
            let due = start + at;
            tokio::time::sleep_until(due.into()).await;
            let what = match random.below(10) {
                0..3 => What::Deliver,
                3..7 => What::Fetch,
                7..9 => What::List,
                _ => What::Flag,
            };
            let worker = random.below(queues.len() as u64) as usize;
            // A worker that failed ends the run when it is joined.
            let _ = queues[worker].send(Due { at: due, what, choice: random.next() });
        }
    }
}

fn sample(run: &mut Run, name: &str, latencies: &mut Latencies) {
    if latencies.len() == 0 {
        return;
    }
    for (quantile, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let value = latencies.quantile_ms(share);
        run.findings.sample(&format!("{name} {quantile}"), "ms", Better::Lower, value);
    }
}

/// Hears EXISTS until told to stop, and times each from the account's last delivery.
async fn hear(
    mut imap: Imap,
    tag: u32,
    account: usize,
    begun: Arc<Begun>,
    stop: Arc<Notify>,
) -> Result<Latencies> {
    let mut notices = Latencies::default();
    let stopped = stop.notified();
    tokio::pin!(stopped);
    let mut counted = 0;
    loop {
        tokio::select! {
            () = &mut stopped => break,
            response = imap.next() => {
                if matches!(response?.kind, Kind::Exists(_)) {
                    let now = begun.epoch.elapsed().as_micros() as u64;
                    let began = begun.accounts[account].load(Ordering::Relaxed);
                    // One notice may stand for several deliveries; each counts once.
                    if began > counted && now >= began {
                        notices.push(Duration::from_micros(now - began));
                        counted = began;
                    }
                }
            }
        }
    }
    imap.done(tag).await?;
    imap.logout().await?;
    Ok(notices)
}

struct Worker {
    imap: Imap,
    lmtp: Option<(Lmtp, String)>,
    account: usize,
    generator: Arc<Generator>,
}

impl Worker {
    async fn run(
        mut self,
        mut dues: mpsc::UnboundedReceiver<Due>,
        begun: Arc<Begun>,
    ) -> Result<Vec<(What, Duration)>> {
        let mut exists = self.imap.select("SELECT", "INBOX").await?;
        if exists == 0 {
            return Err(Error::Check("a mailbox with messages is empty".to_owned()));
        }
        let mut message = Vec::new();
        let mut done = Vec::new();
        while let Some(due) = dues.recv().await {
            let sequence = due.choice % u64::from(exists) + 1;
            match due.what {
                What::Deliver => {
                    message.clear();
                    self.generator.write(due.choice >> 44, &mut message);
                    let now = begun.epoch.elapsed().as_micros() as u64;
                    begun.accounts[self.account].store(now, Ordering::Relaxed);
                    match &mut self.lmtp {
                        Some((lmtp, recipient)) => lmtp.deliver(recipient, &message).await?,
                        None => {
                            let tag = self.imap.append("INBOX", &[&message]).await?;
                            self.imap.flush().await?;
                            self.imap.finish(tag, &Words::default(), |_| Ok(())).await?;
                        }
                    }
                }
                What::Fetch => {
                    self.ask(&mut exists, &format!("FETCH {sequence} BODY.PEEK[]")).await?
                }
                What::List => {
                    let first = exists.saturating_sub(49).max(1);
                    let command = format!("FETCH {first}:{exists} (UID FLAGS ENVELOPE)");
                    self.ask(&mut exists, &command).await?;
                }
                What::Flag => {
                    let sign = if due.choice & (1 << 40) == 0 { '+' } else { '-' };
                    let command = format!("STORE {sequence} {sign}FLAGS (\\Flagged)");
                    self.ask(&mut exists, &command).await?;
                }
            }
            done.push((due.what, due.at.elapsed()));
        }
        self.imap.logout().await?;
        if let Some((lmtp, _)) = self.lmtp {
            lmtp.quit().await?;
        }
        Ok(done)
    }

    async fn ask(&mut self, exists: &mut u32, command: &str) -> Result<()> {
        self.imap
            .each(command, &Words::default(), |response| {
                if let Kind::Exists(count) = response.kind {
                    *exists = count;
                }
                Ok(())
            })
            .await
    }
}
