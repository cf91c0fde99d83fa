//! Messages going in: filling a mailbox, LMTP delivery, APPEND.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use super::{Run, Serials, gather};
use crate::error::{Result, check_equal};
use crate::imap::Imap;
use crate::latency::Latencies;
use crate::lmtp::Lmtp;
use crate::message::{Generator, MESSAGE_BYTES_MEAN};
use crate::report::Better;
use crate::scan::Words;
use crate::target::{Target, TargetOptions};

/// APPENDs in flight where the server lacks MULTIAPPEND.
const APPENDS_PIPELINED: usize = 20;

/// Options of `fill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Fill {
    #[command(flatten)]
    target: TargetOptions,
    /// Messages to append.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Mailbox, made if it is not there.
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Messages in one MULTIAPPEND.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Mean size of a message in bytes.
    #[arg(long, default_value_t = MESSAGE_BYTES_MEAN)]
    size: u32,
}

impl Fill {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let generator = Generator::new(run.seed, self.size);
        let mut imap = Imap::login(&target, 0).await?;
        if !self.mailbox.eq_ignore_ascii_case("INBOX") {
            // It may be there from an earlier run; STATUS tells whether we have it.
            let _ = imap.run(&format!("CREATE \"{}\"", self.mailbox)).await;
        }
        let before = imap.messages(&self.mailbox).await?;
        let multi = imap.has("MULTIAPPEND").await?;
        let batch = if multi { self.batch as usize } else { 1 };
        // A literal that waits for its continuation would meet the answers to those before it.
        let flows = imap.has("LITERAL+").await? || imap.has("LITERAL-").await?;
        let in_flight = if multi || !flows { 1 } else { APPENDS_PIPELINED };
        let section = run.meter.begin();
        let (mut serial, mut bytes) = (0, 0u64);
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        while serial < self.count {
            let mut tags = Vec::new();
            while serial < self.count && tags.len() < in_flight {
                text.clear();
                ends.clear();
                while serial < self.count && ends.len() < batch {
                    // A mailbox that is filled on is continued, not repeated.
                    generator.write(before + serial, &mut text);
                    ends.push(text.len());
                    serial += 1;
                }
                bytes += text.len() as u64;
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let messages: Vec<&[u8]> =
                    starts.zip(&ends).map(|(start, &end)| &text[start..end]).collect();
                tags.push(imap.append(&self.mailbox, &messages).await?);
            }
            imap.flush().await?;
            for tag in tags {
                imap.finish(tag, &Words::default(), |_| Ok(())).await?;
            }
        }
        let wall = run.meter.end(&section).as_secs_f64();
        let after = imap.messages(&self.mailbox).await?;
        check_equal("messages in the mailbox after filling", before + self.count, after)?;
        imap.logout().await?;
        run.findings.checked("STATUS counts every appended message");
        run.findings.parameter("count", self.count);
        run.findings.parameter("batch", batch);
        run.findings.parameter("bytes", bytes);
        run.findings.sample("appended", "1/s", Better::Higher, self.count as f64 / wall);
        run.findings.sample("volume", "MB/s", Better::Higher, bytes as f64 / wall / 1e6);
        Ok(target.to_string())
    }
}

/// Options of `lmtp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Deliver {
    #[command(flatten)]
    target: TargetOptions,
    /// Concurrent connections; connection n delivers to account n modulo --users.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Deliveries in a round, over all connections.
    #[arg(long, default_value_t = 2_000)]
    count: u64,
    /// Mean size of a message in bytes.
    #[arg(long, default_value_t = MESSAGE_BYTES_MEAN)]
    size: u32,
    /// Recipient address; `{user}` becomes the account's name.
    #[arg(long, default_value = "{user}")]
    recipient: String,
    /// IMAP port on the same host, to count what arrived.
    #[arg(long)]
    imap_port: Option<u16>,
}

impl Deliver {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let reader = self
            .imap_port
            .map(|port| Target::new(&TargetOptions { port, socket: None, ..self.target.clone() }));
        let reader = reader.transpose()?;
        let generator = Arc::new(Generator::new(run.seed, self.size).unique(nonce()));
        for round in 0..run.rounds {
            let before = visible(reader.as_ref()).await?;
            let serials = Serials::new(u64::from(round) * self.count, self.count);
            let mut sessions = Vec::new();
            for _ in 0..self.connections {
                sessions.push(Lmtp::connect(&target).await?);
            }
            let mut tasks = JoinSet::new();
            let section = run.meter.begin();
            for (connection, mut session) in (0..).zip(sessions) {
                let recipient = self.recipient.replace("{user}", &target.user(connection));
                let (serials, generator) = (serials.clone(), generator.clone());
                tasks.spawn(async move {
                    let mut latencies = Latencies::default();
                    let mut message = Vec::new();
                    while let Some(serial) = serials.take() {
                        message.clear();
                        generator.write(serial, &mut message);
                        let start = Instant::now();
                        session.deliver(&recipient, &message).await?;
                        latencies.push(start.elapsed());
                    }
                    session.quit().await?;
                    Ok(latencies)
                });
            }
            let latencies = gather(tasks).await?;
            let wall = run.meter.end(&section);
            check_equal("deliveries answered 250", self.count, latencies.len() as u64)?;
            run.sample_rate("delivered", latencies, wall);
            if let Some(before) = before {
                let after = visible(reader.as_ref()).await?.unwrap_or(0);
                check_equal("messages by STATUS after delivery", before + self.count, after)?;
                run.findings.checked("IMAP STATUS counts every delivered message");
            }
        }
        run.findings.checked("every delivery was answered 250");
        run.findings.parameter("connections", self.connections);
        run.findings.parameter("accounts", target.users());
        run.findings.parameter("count", self.count);
        run.findings.parameter("size", self.size);
        Ok(target.to_string())
    }
}

/// Options of `append`.
#[derive(Debug, clap::Args)]
pub(crate) struct Append {
    #[command(flatten)]
    target: TargetOptions,
    /// Concurrent connections; connection n appends to account n modulo --users.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Messages in a round, over all connections.
    #[arg(long, default_value_t = 2_000)]
    count: u64,
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Mean size of a message in bytes.
    #[arg(long, default_value_t = MESSAGE_BYTES_MEAN)]
    size: u32,
}

impl Append {
    pub(crate) async fn run(&self, run: &mut Run) -> Result<String> {
        let target = Target::new(&self.target)?;
        let generator = Arc::new(Generator::new(run.seed, self.size).unique(nonce()));
        for round in 0..run.rounds {
            let serials = Serials::new(u64::from(round) * self.count, self.count);
            let before = self.messages(&target).await?;
            let mut sessions = Vec::new();
            for connection in 0..self.connections {
                let mut imap = Imap::login(&target, connection).await?;
                imap.has("LITERAL+").await?;
                sessions.push(imap);
            }
            let mut tasks = JoinSet::new();
            let section = run.meter.begin();
            for mut imap in sessions {
                let (serials, generator) = (serials.clone(), generator.clone());
                let mailbox = self.mailbox.clone();
                tasks.spawn(async move {
                    let mut latencies = Latencies::default();
                    let mut message = Vec::new();
                    while let Some(serial) = serials.take() {
                        message.clear();
                        generator.write(serial, &mut message);
                        let start = Instant::now();
                        let tag = imap.append(&mailbox, &[&message]).await?;
                        imap.flush().await?;
                        imap.finish(tag, &Words::default(), |_| Ok(())).await?;
                        latencies.push(start.elapsed());
                    }
                    imap.logout().await?;
                    Ok(latencies)
                });
            }
            let latencies = gather(tasks).await?;
            let wall = run.meter.end(&section);
            run.sample_rate("appended", latencies, wall);
            let after = self.messages(&target).await?;
            check_equal("messages by STATUS after APPEND", before + self.count, after)?;
        }
        run.findings.checked("STATUS counts every appended message");
        run.findings.parameter("connections", self.connections);
        run.findings.parameter("accounts", target.users());
        run.findings.parameter("count", self.count);
        run.findings.parameter("size", self.size);
        Ok(target.to_string())
    }

    async fn messages(&self, target: &Target) -> Result<u64> {
        let mut sum = 0;
        for account in 0..target.users() {
            let mut imap = Imap::login(target, account).await?;
            sum += imap.messages(&self.mailbox).await?;
            imap.logout().await?;
        }
        Ok(sum)
    }
}

/// Messages in all accounts' INBOXes, if there is an IMAP server to ask.
async fn visible(reader: Option<&Target>) -> Result<Option<u64>> {
    let Some(target) = reader else { return Ok(None) };
    let mut sum = 0;
    for account in 0..target.users() {
        let mut imap = Imap::login(target, account).await?;
        sum += imap.messages("INBOX").await?;
        imap.logout().await?;
    }
    Ok(Some(sum))
}

/// Sets the Message-IDs of a run apart from other runs', because servers may drop duplicates.
pub(super) fn nonce() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
}
