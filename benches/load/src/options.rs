//! The command line.

use clap::{Parser, Subcommand};

use crate::disk;
use crate::target::{TargetOptions, Tls};
use crate::workload::{day, deliver, fetch, foreign, pop3, search, select, session, stalls, store};

/// Measures any IMAP, POP3 or LMTP server, and checks what it got.
#[derive(Debug, Parser)]
#[command(name = "cursus-load", version)]
pub(crate) struct Options {
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Process whose CPU time and memory, with all its descendants, are the server's; repeatable.
    #[arg(long = "pid", global = true)]
    pub(crate) pids: Vec<u32>,
    /// How often the timed part is done; each round is a sample.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Rounds before these that are no samples: the client's own buffers and what the server has mapped
    /// are touched then. Their time is in the processor times that are told.
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) warm: u32,
    /// Then have the same answers sent from memory, and report that too: the floor of such an answer on
    /// this machine. For IMAP without TLS, of workloads that use one connection at a time.
    #[arg(long, global = true)]
    pub(crate) floor: bool,
    /// Seed of messages and of every random choice.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(subcommand)]
    pub(crate) workload: Workload,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Workload {
    /// Make a mailbox of many messages by APPEND (MULTIAPPEND and LITERAL+ where offered).
    Fill(deliver::Fill),
    /// Deliver by LMTP from several connections.
    Lmtp(deliver::Deliver),
    /// APPEND one message at a time from several connections.
    Append(deliver::Append),
    /// SELECT on new connections (cold) and again on the same one (warm).
    Select(select::Select),
    /// FETCH 1:* (UID FLAGS).
    FetchFlags(fetch::FetchAll),
    /// FETCH 1:* (ENVELOPE BODYSTRUCTURE); the first round is reported by itself.
    FetchEnvelope(fetch::FetchAll),
    /// FETCH 1:* of five header fields; the first round is reported by itself.
    FetchHeaders(fetch::FetchAll),
    /// BODY.PEEK[] of random messages, one at a time and pipelined.
    Bodies(fetch::Bodies),
    /// Set and clear a flag on 1:*.
    StoreAll(store::StoreAll),
    /// Set and clear a flag on random messages, one at a time and pipelined.
    StoreOne(store::StoreOne),
    /// SEARCH by BODY, SUBJECT, FROM and a flag.
    Search(search::Search),
    /// Connect, log in, SELECT, log out, from several connections.
    Login(session::Login),
    /// Hold many sessions in IDLE and report the server's memory for each.
    Idle(session::Idle),
    /// RETR of many messages by POP3.
    Pop3Drain(pop3::Drain),
    /// Change a large mailbox of a Cursus and report how long its cores kept others waiting.
    Stalls(stalls::Stalls),
    /// What the disk allows: create, write, fsync and rename files from several threads.
    Disk(disk::Disk),
    /// A mixed day: idle sessions, deliveries, fetches and flags, as latency percentiles.
    Day(day::Day),
    /// Fill a Maildir as another program would: files only, no server.
    Plant(foreign::Plant),
    /// The first opening of such a Maildir, and the first lists of it.
    Open(foreign::Open),
}

impl Workload {
    /// Whom a workload asks whose answers can be recorded and played again.
    pub(crate) fn recordable(&self) -> Option<&TargetOptions> {
        let target = match self {
            Self::Select(select) => &select.target,
            Self::FetchFlags(fetch) | Self::FetchEnvelope(fetch) | Self::FetchHeaders(fetch) => {
                &fetch.target
            }
            Self::Bodies(bodies) => &bodies.target,
            Self::StoreAll(store) => &store.target,
            Self::StoreOne(store) => &store.target,
            Self::Search(search) => &search.target,
            _ => return None,
        };
        (target.tls == Tls::None && target.socket.is_none()).then_some(target)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fill(_) => "fill",
            Self::Lmtp(_) => "lmtp",
            Self::Append(_) => "append",
            Self::Select(_) => "select",
            Self::FetchFlags(_) => "fetch-flags",
            Self::FetchEnvelope(_) => "fetch-envelope",
            Self::FetchHeaders(_) => "fetch-headers",
            Self::Bodies(_) => "bodies",
            Self::StoreAll(_) => "store-all",
            Self::StoreOne(_) => "store-one",
            Self::Search(_) => "search",
            Self::Login(_) => "login",
            Self::Idle(_) => "idle",
            Self::Pop3Drain(_) => "pop3-drain",
            Self::Stalls(_) => "stalls",
            Self::Disk(_) => "disk",
            Self::Day(_) => "day",
            Self::Plant(_) => "plant",
            Self::Open(_) => "open",
        }
    }
}
