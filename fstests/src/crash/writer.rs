//! Who delivers: the engine, and deliveries by hand with all, some or none of the syncs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use engine::io::blocking::Blocking;
use engine::io::{Open, Storage};
use engine::layout::LayoutKind;

use crate::error::{Error, Result};
use crate::workload::{Corpus, Hand, Spool, side_by_side, store as core};

/// A way of delivering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Writer {
    /// The engine, into a Maildir.
    EngineMaildir,
    /// The engine, into the Cyrus layout.
    EngineCyrus,
    /// By hand: fsync, rename, directory fsync.
    Rename,
    /// By hand: fsync and rename, without the directory's fsync, as many agents do.
    RenameUnsyncedName,
    /// By hand: rename alone, as agents with fsync switched off do.
    RenameUnsynced,
}

/// Deliveries at a time.
const AT_A_TIME: usize = 4;
/// Bytes of the engine's log: small, so that checkpoints come while the disk records.
const LOG_BYTES: u64 = 16 << 20;
/// A checkpoint after so many deliveries.
const CHECKPOINT_EVERY: usize = 32;
/// Mean bytes of messages.
const MESSAGE_BYTES: u32 = 6_000;

/// A message that was acknowledged.
#[derive(Clone)]
pub(super) struct Acknowledged {
    /// The disk's place when the answer was there.
    pub(super) place: usize,
    /// Its text, with line ends as served.
    pub(super) text: Arc<Vec<u8>>,
}

/// What was found of what had been promised.
#[derive(Default)]
pub(super) struct Found {
    pub(super) lost: usize,
    pub(super) duplicates: usize,
    pub(super) damage: Vec<String>,
}

impl Found {
    /// What is wrong, in a line; empty when nothing is.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.lost > 0 {
            parts.push(format!("{} lost", self.lost));
        }
        if self.duplicates > 0 {
            parts.push(format!("{} twice", self.duplicates));
        }
        parts.extend(self.damage.iter().take(2).cloned());
        parts.join(", ")
    }
}

/// Different messages of a seed, each with its number in its head.
pub(super) fn messages(seed: u64, count: usize) -> Vec<Arc<Vec<u8>>> {
    let corpus = Corpus::new(seed, MESSAGE_BYTES);
    let text = |n: usize| {
        let mut text = format!("X-Crash-Number: {seed}-{n}\r\n").into_bytes();
        text.extend_from_slice(corpus.wire(n));
        Arc::new(text)
    };
    (0..count).map(text).collect()
}

/// Line ends of a Maildir.
fn stored(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\r').collect()
}

impl Writer {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    fn layout(self) -> Option<LayoutKind> {
        match self {
            Writer::EngineMaildir => Some(LayoutKind::Maildir),
            Writer::EngineCyrus => Some(LayoutKind::Cyrus),
            _ => None,
        }
    }

    /// Delivers into the filesystem at `at`. `start` becomes the place of the record where
    /// deliveries begin; `now` tells places.
    pub(super) fn deliver(
        self,
        at: &Path,
        messages: Vec<Arc<Vec<u8>>>,
        start: &mut usize,
        now: &(dyn Fn() -> usize + Sync),
    ) -> Result<Vec<Acknowledged>> {
        match self.layout() {
            Some(kind) => engine_delivers(at, kind, messages, start, now),
            None => self.hand_delivers(at, messages, start, now),
        }
    }

    fn hand_delivers(
        self,
        at: &Path,
        messages: Vec<Arc<Vec<u8>>>,
        start: &mut usize,
        now: &(dyn Fn() -> usize + Sync),
    ) -> Result<Vec<Acknowledged>> {
        let spool = Spool::create(Arc::new(Blocking::new()), at, "alice")?;
        spool.settle()?;
        *start = now();
        let acknowledged = Mutex::new(Vec::new());
        let limit = std::time::Duration::MAX;
        side_by_side(messages.len(), AT_A_TIME, limit, |n| {
            let text = stored(&messages[n]);
            match self {
                Writer::Rename => drop(spool.deliver(&text, Hand::Rename)?),
                _ => deliver_carelessly(&spool, n, &text, self == Writer::RenameUnsyncedName)?,
            }
            let one = Acknowledged { place: now(), text: messages[n].clone() };
            acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            Ok(())
        })?;
        Ok(acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks for what was promised.
    pub(super) fn look(self, at: &Path, promised: &[&Acknowledged]) -> Result<Found> {
        let found = match self.layout() {
            Some(kind) => engine_reads(at, kind),
            None => hand_reads(at),
        };
        let (texts, damage) = found?;
        let lf = self.layout().is_none();
        let mut found = Found { damage, ..Found::default() };
        let mut count: HashMap<&[u8], usize> = HashMap::new();
        texts.iter().for_each(|text| *count.entry(text).or_default() += 1);
        for one in promised {
            let expected = if lf { stored(&one.text) } else { one.text.to_vec() };
            match count.get(expected.as_slice()) {
                None => found.lost += 1,
                Some(1) => {}
                Some(_) => found.duplicates += 1,
            }
        }
        Ok(found)
    }
}

/// Without the syncs that an agent may leave out.
fn deliver_carelessly(spool: &Spool, n: usize, text: &[u8], sync_file: bool) -> Result<()> {
    let name = format!("1700000000.M{n}P1.fstests,S={}", text.len());
    let (staged, place) =
        (spool.dir().join("tmp").join(&name), spool.dir().join("new").join(&name));
    let storage = spool.storage();
    let file = storage.open(&staged, Open::CreateNew).map_err(Error::io("create", &staged))?;
    file.write_at(text, 0).map_err(Error::io("write", &staged))?;
    if sync_file {
        file.sync_all().map_err(Error::io("sync", &staged))?;
    }
    storage.rename(&staged, &place).map_err(Error::io("place", &place))
}

/// Texts in the Maildir that deliveries by hand made. A Maildir that is not there holds nothing.
fn hand_reads(at: &Path) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
    let (mut texts, mut damage) = (Vec::new(), Vec::new());
    for folder in ["new", "cur"] {
        let dir = at.join("alice").join(folder);
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            match std::fs::read(&path) {
                Ok(text) => texts.push(text),
                Err(error) => damage.push(format!("{}: {error}", path.display())),
            }
        }
    }
    Ok((texts, damage))
}

fn engine_delivers(
    at: &Path,
    kind: LayoutKind,
    messages: Vec<Arc<Vec<u8>>>,
    start: &mut usize,
    now: &(dyn Fn() -> usize + Sync),
) -> Result<Vec<Acknowledged>> {
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let store = core::open(storage, at, kind, LOG_BYTES)?;
    let acknowledged = core::on_a_core(&store, false, at, async |lane| {
        let target = core::target(&store, "alice").await?;
        store.checkpoint().await?;
        *start = now();
        let mut acknowledged = Vec::new();
        for (number, part) in messages.chunks(AT_A_TIME).enumerate() {
            let tasks: Vec<_> = part
                .iter()
                .map(|text| {
                    let (store, lane) = (store.clone(), lane.clone());
                    let (target, text) = (target.clone(), text.clone());
                    tokio::task::spawn_local(async move {
                        core::deliver_one(&store, &lane, &target, &text).await.map(|_| text)
                    })
                })
                .collect();
            for task in tasks {
                let text = task.await.map_err(|e| Error::Usage(format!("a delivery: {e}")))??;
                acknowledged.push(Acknowledged { place: now(), text });
            }
            if (number * AT_A_TIME).is_multiple_of(CHECKPOINT_EVERY) {
                store.checkpoint().await?;
            }
        }
        Ok(acknowledged)
    });
    let closed = store.close();
    let acknowledged = acknowledged?;
    closed?;
    Ok(acknowledged)
}

/// Recovers the store, reads every message, and has the store check itself.
fn engine_reads(at: &Path, kind: LayoutKind) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let store = core::open(storage, at, kind, LOG_BYTES)?;
    let read = core::on_a_core(&store, false, at, async |lane| {
        let target = core::target(&store, "alice").await?;
        let view = target.mailbox.view();
        let mut texts = Vec::new();
        let mut damage = Vec::new();
        for (_, record) in view.all() {
            let read = async {
                let file = target.mailbox.message(&lane, &record).await?;
                let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
                let mut text = Vec::new();
                while let Some(piece) = served.next().await? {
                    text.extend(piece);
                }
                Ok::<_, engine::Error>(text)
            };
            match read.await {
                Ok(text) => texts.push(text),
                Err(error) => damage.push(error.to_string()),
            }
        }
        let report = store.check(None).await?;
        damage.extend(report.findings.iter().cloned());
        Ok((texts, damage))
    });
    let closed = store.close();
    let read = read?;
    closed?;
    Ok(read)
}
