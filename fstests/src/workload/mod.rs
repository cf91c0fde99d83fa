//! What a mail store does to a filesystem, each as one measured loop.
//!
//! Every loop goes through the engine's own file calls ([`engine::io::Storage`]), names and
//! directories through its layouts, and the ones of the commit log through a whole
//! [`engine::Store`]. A loop measures its operations only: what it needs before is made before.

mod beside;
mod change;
mod cold;
mod corpus;
mod deliver;
mod meter;
mod read;
mod spool;
pub(crate) mod store;
mod trace;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use engine::io::Storage;

pub use beside::twins;
pub use corpus::Corpus;
pub use meter::Measured;
pub(crate) use meter::side_by_side;
pub use spool::{FULL_MESSAGES_MAX, Hand, SHORT_MESSAGES_MAX, Spool};
pub use trace::{Mix, Trace};

use crate::error::Result;
use crate::facts::Watch;

/// Time that filling a folder of one measurement may take.
const FILL_MAX: Duration = Duration::from_secs(600);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Maildir delivery as most MTAs do it: tmp, fsync, rename, directory fsync.
    DeliverRename,
    /// Maildir delivery by link and unlink instead of rename.
    DeliverLink,
    /// Maildir delivery by an agent that syncs nothing: tmp, rename.
    DeliverUnsynced,
    /// Delivery by the commit log into a Maildir, with the checkpoint.
    DeliverLog,
    /// The same through io_uring.
    DeliverLogRing,
    /// Delivery by the commit log into the Cyrus layout, with the checkpoint.
    DeliverCyrus,
    /// Listing of a folder.
    List,
    /// A stat of every message of a folder, in random order.
    StatStorm,
    /// Every message in order of delivery, from the cache.
    ReadWarm,
    /// Every message in order of delivery, caches emptied.
    ReadCold,
    /// Messages in random order, from the cache.
    ReadRandomWarm,
    /// Messages in random order, caches emptied.
    ReadRandomCold,
    /// The same through io_uring, as many at a time as the concurrency says.
    ReadRandomRing,
    /// A file made in the folder itself, where its name is looked for among all first: the names of a
    /// delivery.
    Create,
    /// A look for a name that is not there, another each time, so that the kernel must search.
    LookMissing,
    /// A flag change by rename.
    Flags,
    /// Removal of a whole folder, message by message.
    Expunge,
    /// A flag change by the commit log and the index, durable.
    IndexUpdate,
    /// A look at every index record of a folder.
    IndexScan,
    /// A POP3 session that takes all messages: stat all, read and remove each.
    Pop3Drain,
    /// A backup: walk the tree, stat and read everything.
    BackupWalk,
    /// A day's mix of deliveries, listings, readings, flag changes and removals.
    MixedDay,
    /// A recorded trace, again.
    Replay,
    /// fio writing files of a message's size, each synced: what others measure with.
    Fio,
    /// postmark: files created, read, appended to and removed without a sync.
    Postmark,
}

/// What a measurement works with.
pub struct Bench<'a> {
    /// The operating system's files.
    pub storage: Arc<dyn Storage>,
    /// An empty directory for this measurement alone.
    pub dir: &'a Path,
    /// A folder that is there for all measurements at this place; loops leave as many messages in
    /// it as they found.
    pub folder: &'a Spool,
    /// The messages.
    pub corpus: &'a Corpus,
    /// Operations, at most.
    pub operations: usize,
    /// Operations at a time.
    pub concurrency: usize,
    /// The loop ends after this time, however many operations were done.
    pub limit: Duration,
    /// Of the order of operations.
    pub seed: u64,
    /// Shares of the mixed day.
    pub mix: Mix,
    /// For [`Workload::Replay`].
    pub trace: Option<&'a Trace>,
    /// Counters of the place's device.
    pub watch: Option<&'a Watch>,
}

impl Bench<'_> {
    /// Notes what the device did during a measurement.
    fn watched(&self, measure: impl FnOnce() -> Result<Measured>) -> Result<Measured> {
        let before = self.watch.and_then(Watch::look);
        let mut measured = measure()?;
        measured.device = before.and_then(|before| self.watch?.since(&before));
        Ok(measured)
    }
}

impl Workload {
    /// The name on the command line and in results.
    pub fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// One sentence for people.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|v| v.get_help().map(|h| h.to_string())).unwrap_or_default()
    }

    /// Works on the place's folder, so that the folder's size matters.
    pub fn uses_folder(self) -> bool {
        !matches!(
            self,
            Workload::DeliverLog
                | Workload::DeliverLogRing
                | Workload::DeliverCyrus
                | Workload::IndexUpdate
                | Workload::IndexScan
                | Workload::Replay
                | Workload::Fio
                | Workload::Postmark
        )
    }

    /// Is measured only when it is named: it needs a trace, or another program.
    pub fn only_by_name(self) -> bool {
        matches!(self, Workload::Replay | Workload::Fio | Workload::Postmark)
    }

    /// May be done by many at a time.
    pub fn scales(self) -> bool {
        matches!(
            self,
            Workload::DeliverRename
                | Workload::DeliverLink
                | Workload::DeliverUnsynced
                | Workload::DeliverLog
                | Workload::DeliverLogRing
                | Workload::DeliverCyrus
                | Workload::ReadRandomCold
                | Workload::ReadRandomRing
                | Workload::MixedDay
        )
    }

    /// Measures once.
    ///
    /// # Errors
    /// What the filesystem or the store says; [`crate::error::Error::Stopped`] on Ctrl-C.
    pub fn measure(self, bench: &Bench<'_>) -> Result<Measured> {
        match self {
            Workload::DeliverRename => deliver::by_hand(bench, Hand::Rename),
            Workload::DeliverLink => deliver::by_hand(bench, Hand::Link),
            Workload::DeliverUnsynced => deliver::by_hand(bench, Hand::Unsynced),
            Workload::DeliverLog => store::deliver(bench, store::MAILDIR, false),
            Workload::DeliverLogRing => store::deliver(bench, store::MAILDIR, true),
            Workload::DeliverCyrus => store::deliver(bench, store::CYRUS, false),
            Workload::List => read::list(bench),
            Workload::StatStorm => read::stat_storm(bench),
            Workload::ReadWarm => read::messages(bench, false, false),
            Workload::ReadCold => read::messages(bench, false, true),
            Workload::ReadRandomWarm => read::messages(bench, true, false),
            Workload::ReadRandomCold => read::messages(bench, true, true),
            Workload::ReadRandomRing => read::ring(bench),
            Workload::Create => change::create(bench),
            Workload::LookMissing => read::missing(bench),
            Workload::Flags => change::flags(bench),
            Workload::Expunge => change::expunge(bench),
            Workload::IndexUpdate => store::index_update(bench),
            Workload::IndexScan => store::index_scan(bench),
            Workload::Pop3Drain => change::pop3_drain(bench),
            Workload::BackupWalk => read::backup_walk(bench),
            Workload::MixedDay => trace::mixed_day(bench),
            Workload::Replay => trace::replay(bench),
            Workload::Fio => beside::fio(bench),
            Workload::Postmark => beside::postmark(bench),
        }
    }
}
