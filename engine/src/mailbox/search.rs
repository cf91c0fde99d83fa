//! SEARCH over a view: index, then cache, then message bytes.
//!
//! A search is cut into turns that the store's [`Crew`](crate::search::crew::Crew) works off, on
//! several threads at once. It ends early when nobody waits for its answer any more: the session's
//! future holds the receiver, and each turn looks whether it is still there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::imap::search::SearchKey;
use protocol::types::{ModSeq, SeqNum, Uid};
use tokio::sync::oneshot;

use super::cold::Sweep;
use super::message::line_ends;
use super::view::{ExtrasPart, ExtrasRef};
use super::{Mailbox, MailboxInner, View};
use crate::collation::Collation;
use crate::error::{Error, Result};
use crate::format::index::Record;
use crate::fulltext::IndexMode;
use crate::io::{Open, StoredFile};
use crate::message::LineEnds;
use crate::search::crew::Turns;
use crate::search::{
    Context, Fields, Leaf, Needs, Program, Scratch, Source, Text, WordHit, each_text, relevancy,
    with_fields,
};

/// Messages that are looked through on the session's core when the index alone decides; more are a
/// helper's work, ten milliseconds for a million.
pub(super) const INLINE_MESSAGES_MAX: u32 = 4096;
/// Messages of a turn when files may have to be read.
const TURN_FILES: u32 = 32;
/// Messages of a turn when records and cached extras tell all, nearly always.
const TURN_RECORDS: u32 = 1024;
/// Turns that cost more for each message wait for the disk: the next ones open their files and
/// ask for the bytes of all before they look at the first.
const WARM_MAX: Duration = Duration::from_micros(150);
/// Bytes of each file that are asked for ahead.
const AHEAD_BYTES: u64 = 256 << 10;

/// A message that a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Its UID.
    pub uid: Uid,
    /// Its MODSEQ when it was looked at.
    pub modseq: ModSeq,
}

impl From<&Record> for Matched {
    fn from(record: &Record) -> Matched {
        Matched { uid: record.uid, modseq: record.modseq }
    }
}

impl Mailbox {
    /// The messages of a view that match, in its order. `$` and `\Recent` have been replaced by
    /// UID sets by the session, which knows them. Dropping the future ends the search.
    pub async fn search(
        &self,
        view: &View,
        key: &SearchKey,
        collation: Collation,
    ) -> Result<Vec<(SeqNum, Matched)>> {
        let program = self.program(view, key, collation);
        if program.needs() == Needs::Index {
            if view.exists() <= INLINE_MESSAGES_MAX {
                return Ok(by_index(view, &program));
            }
            let view = view.clone();
            let look = move || by_index(&view, &program);
            return self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing);
        }
        let found = self.gather(view, program, List).await?;
        Ok(found.iter().map(Found::matched).collect())
    }

    /// As [`Mailbox::search`], with how relevant each match is: 1 to 100, where the best have 100
    /// (RFC 6203). Where no part of the key is fuzzy, all are the best.
    pub async fn search_by_relevancy(
        &self,
        view: &View,
        key: &SearchKey,
        collation: Collation,
    ) -> Result<(Vec<(SeqNum, Matched)>, Vec<u8>)> {
        let program = self.program(view, key, collation);
        let found = self.gather(view, program, List).await?;
        let measured: Vec<_> = found.iter().map(|f| (f.record.size, &*f.hits)).collect();
        let scores = relevancy(&measured, view.exists());
        Ok((found.iter().map(Found::matched).collect(), scores))
    }

    /// A key tree made ready for the messages of a view.
    pub(super) fn program(&self, view: &View, key: &SearchKey, collation: Collation) -> Program {
        let uid_largest = view.uid(SeqNum(view.exists())).unwrap_or(Uid(0));
        Program::new(
            key,
            &Context {
                uid_largest,
                seq_largest: view.exists(),
                saved: &[],
                collation,
                now: self.0.shared.now_seconds(),
                keyword_bit: &|keyword| {
                    let bit = view.keywords().bit(keyword);
                    (bit != 0).then(|| bit.trailing_zeros())
                },
            },
        )
    }

    /// Has the messages that match looked at by `gather`, on the store's search threads.
    pub(super) async fn gather<G: Gather>(
        &self,
        view: &View,
        program: Program,
        gather: G,
    ) -> Result<G::Answer> {
        let program = if !program.leaves().iter().any(Leaf::can_ask)
            || self.0.shared.config.index.mode == IndexMode::Off
        {
            program
        } else {
            let (inner, view, mut program) = (self.0.clone(), view.clone(), program);
            let ask = move || {
                inner.ask_index(&view, &mut program);
                program
            };
            self.0.shared.helpers.run(ask).await.map_err(|_| Error::Closing)?
        };
        let (answer, heard) = oneshot::channel();
        if let Some(hunt) = Hunt::new(self.0.clone(), view.clone(), program, gather, answer) {
            self.0.shared.searchers.begin(Arc::new(hunt));
        }
        heard.await.map_err(|_| Error::Closing)?
    }
}

/// What is made of the messages that match.
pub(super) trait Gather: Send + Sync + 'static {
    /// What one turn found.
    type Batch: Default + Send;
    /// What the search is answered with.
    type Answer: Send;

    /// Takes a message that matches; `scratch` tells how well.
    fn keep(&self, found: Match<'_, '_>, batch: &mut Self::Batch) -> Result<()>;

    /// Called when a turn has looked at all its messages.
    fn settle(&self, _batch: &mut Self::Batch) {}

    /// Puts the turns together, which come in the order of the view.
    fn finish(&self, batches: Vec<Self::Batch>) -> Self::Answer;
}

/// A message that matches, as a [`Gather`] sees it.
pub(super) struct Match<'a, 'm> {
    message: &'a mut Message<'m>,
    scratch: &'a mut Scratch,
}

impl Match<'_, '_> {
    pub(super) fn record(&self) -> &Record {
        &self.message.record
    }

    pub(super) fn seq(&self) -> SeqNum {
        self.message.seq
    }

    /// How well it meets words that need not be there exactly.
    pub(super) fn hits(&self) -> Box<[WordHit]> {
        self.scratch.hits().into()
    }

    /// Gives its record, and its header fields if `wanted`.
    pub(super) fn with_fields<R>(
        &mut self,
        wanted: bool,
        f: impl FnOnce(&crate::search::Record, Fields<'_>) -> R,
    ) -> Result<R> {
        let record = self.message.record();
        match wanted {
            true => with_fields(self.message, self.scratch, |fields| f(&record, fields)),
            false => Ok(f(&record, Fields::Unread)),
        }
    }
}

/// Lists what matches.
struct List;

impl Gather for List {
    type Batch = Vec<Found>;
    type Answer = Vec<Found>;

    fn keep(&self, found: Match<'_, '_>, batch: &mut Vec<Found>) -> Result<()> {
        batch.push(Found { seq: found.seq(), record: *found.record(), hits: found.hits() });
        Ok(())
    }

    fn finish(&self, batches: Vec<Vec<Found>>) -> Vec<Found> {
        batches.into_iter().flatten().collect()
    }
}

/// A message that matches, and how well.
struct Found {
    seq: SeqNum,
    record: Record,
    /// Nothing, without an allocation, unless the search is fuzzy.
    hits: Box<[WordHit]>,
}

impl Found {
    fn matched(&self) -> (SeqNum, Matched) {
        (self.seq, Matched::from(&self.record))
    }
}

/// A search on its way.
struct Hunt<G: Gather> {
    mailbox: Arc<MailboxInner>,
    view: View,
    program: Program,
    gather: G,
    line_ends: LineEnds,
    /// Messages of a turn.
    step: u32,
    turns: u32,
    /// The turn that begins next.
    next: AtomicU32,
    /// Whether turns wait for the disk.
    cold: AtomicBool,
    state: Mutex<Progress<G>>,
}

struct Progress<G: Gather> {
    /// `None` once it was used.
    answer: Option<oneshot::Sender<Result<G::Answer>>>,
    /// What the turns found, by their numbers.
    found: Vec<(u32, G::Batch)>,
    done: u32,
    /// Buffers that no turn is using.
    tools: Vec<Tools>,
}

#[derive(Default)]
struct Tools {
    scratch: Scratch,
    sweep: Sweep,
}

impl<G: Gather> Hunt<G> {
    /// `None` when the view is empty; the answer was given then.
    fn new(
        mailbox: Arc<MailboxInner>,
        view: View,
        program: Program,
        gather: G,
        answer: oneshot::Sender<Result<G::Answer>>,
    ) -> Option<Hunt<G>> {
        let is_dear = program.needs() == Needs::Bytes && !program.is_narrowed();
        let step = if is_dear { TURN_FILES } else { TURN_RECORDS };
        let turns = view.exists().div_ceil(step);
        if turns == 0 {
            let _ = answer.send(Ok(gather.finish(Vec::new())));
            return None;
        }
        let line_ends = line_ends(mailbox.place.read().partition.layout.kind());
        let (found, done, tools) = (Vec::new(), 0, Vec::new());
        let state = Mutex::new(Progress { answer: Some(answer), found, done, tools });
        let (next, cold) = (AtomicU32::new(0), AtomicBool::new(false));
        Some(Hunt { mailbox, view, program, gather, line_ends, step, turns, next, cold, state })
    }

    fn look(&self, turn: u32, tools: &mut Tools) -> Result<G::Batch> {
        let started = Instant::now();
        let first = turn * self.step + 1;
        let records = || self.view.records(SeqNum(first), SeqNum(first + self.step - 1));
        let mut ahead = Vec::new();
        if self.cold.load(Ordering::Relaxed) && self.program.needs() == Needs::Bytes {
            for (seq, record) in records() {
                let open = self.program.decide_by_index(&searched(seq, &record)).is_none();
                ahead.push(if open {
                    self.open_ahead(seq, &record, &mut tools.sweep)
                } else {
                    None
                });
            }
        }
        let mut ahead = ahead.into_iter();
        let mut batch = G::Batch::default();
        for (seq, record) in records() {
            let mut message = Message {
                mailbox: &self.mailbox,
                view: &self.view,
                line_ends: self.line_ends,
                record,
                seq,
                sweep: &mut tools.sweep,
                extras: None,
                file: ahead.next().flatten(),
            };
            let kept = match self.program.matches(&mut message, &mut tools.scratch) {
                Ok(true) => {
                    let found = Match { message: &mut message, scratch: &mut tools.scratch };
                    self.gather.keep(found, &mut batch)
                }
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            match kept {
                Ok(()) => {}
                // Gone since the view was made: nothing to match.
                Err(Error::Expunged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.gather.settle(&mut batch);
        self.cold.store(started.elapsed() > WARM_MAX * self.step, Ordering::Relaxed);
        Ok(batch)
    }

    fn open_ahead(
        &self,
        seq: SeqNum,
        record: &Record,
        sweep: &mut Sweep,
    ) -> Option<Arc<dyn StoredFile>> {
        let (record, extras, file, line_ends) = (*record, None, None, self.line_ends);
        let (mailbox, view) = (&self.mailbox, &self.view);
        let message = &mut Message { mailbox, view, line_ends, record, seq, sweep, extras, file };
        // What fails here fails again, and is told, where the file is read.
        let file = message.open().ok()?;
        file.will_need(0, AHEAD_BYTES);
        Some(file)
    }
}

impl<G: Gather> Turns for Hunt<G> {
    fn turn(&self) -> bool {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if turn >= self.turns {
            self.next.store(self.turns, Ordering::Relaxed);
            return false;
        }
        let mut tools = {
            let mut state = self.state.lock();
            if state.answer.as_ref().is_none_or(oneshot::Sender::is_closed) {
                return false;
            }
            state.tools.pop().unwrap_or_default()
        };
        let looked = self.look(turn, &mut tools);
        let mut state = self.state.lock();
        state.tools.push(tools);
        state.done += 1;
        match looked {
            Ok(batch) => state.found.push((turn, batch)),
            Err(error) => {
                if let Some(answer) = state.answer.take() {
                    let _ = answer.send(Err(error));
                }
                return false;
            }
        }
        if state.done == self.turns
            && let Some(answer) = state.answer.take()
        {
            let mut found = std::mem::take(&mut state.found);
            drop(state);
            found.sort_unstable_by_key(|(turn, _)| *turn);
            let batches = found.into_iter().map(|(_, batch)| batch).collect();
            let _ = answer.send(Ok(self.gather.finish(batches)));
        }
        turn + 1 < self.turns
    }
}

fn searched(seq: SeqNum, record: &Record) -> crate::search::Record {
    crate::search::Record {
        uid: record.uid,
        seq,
        flags: record.flags,
        keywords: record.keywords,
        recent: false,
        modseq: record.modseq,
        internal_date: record.internal_date,
        sent_date: record.sent_date,
        size: record.size,
    }
}

pub(super) fn by_index(view: &View, program: &Program) -> Vec<(SeqNum, Matched)> {
    let matches = |(seq, record): &(SeqNum, Record)| {
        program.decide_by_index(&searched(*seq, record)) == Some(true)
    };
    view.all().filter(matches).map(|(seq, record)| (seq, Matched::from(&record))).collect()
}

impl MailboxInner {
    /// Gives the messages of a stretch of a view one by one, until `each` returns false. Blocks.
    pub(crate) fn sweep(
        self: &Arc<Self>,
        view: &View,
        first: SeqNum,
        last: SeqNum,
        each: &mut dyn FnMut(&Record, Swept<'_, '_>) -> bool,
    ) {
        let line_ends = line_ends(self.place.read().partition.layout.kind());
        let mut tools = Tools::default();
        for (seq, record) in view.records(first, last) {
            let (sweep, extras, file) = (&mut tools.sweep, None, None);
            let message =
                Message { mailbox: self, view, line_ends, record, seq, sweep, extras, file };
            if !each(&record, Swept { message, scratch: &mut tools.scratch }) {
                return;
            }
        }
    }
}

/// A message that a sweep passes.
pub(crate) struct Swept<'a, 's> {
    message: Message<'a>,
    scratch: &'s mut Scratch,
}

impl<'a> Swept<'a, '_> {
    /// As if it were what was looked for.
    pub(super) fn as_match(&mut self) -> Match<'_, 'a> {
        Match { message: &mut self.message, scratch: self.scratch }
    }

    /// Gives all text that string keys look at; false when some was left out.
    pub(crate) fn each_text(&mut self, each: &mut dyn FnMut(Text<'_>)) -> Result<bool> {
        each_text(&mut self.message, self.scratch, each)
    }
}

pub(super) struct Message<'a> {
    mailbox: &'a Arc<MailboxInner>,
    view: &'a View,
    line_ends: LineEnds,
    record: Record,
    seq: SeqNum,
    sweep: &'a mut Sweep,
    extras: Option<ExtrasRef<'a>>,
    file: Option<Arc<dyn StoredFile>>,
}

impl Message<'_> {
    /// Opens the message's file, which may be renamed between our look-up and the open: by our own
    /// appliers, for a changed flag, or by another program. A message is gone only when a rescan
    /// doesn't find it either.
    fn open(&mut self) -> Result<Arc<dyn StoredFile>> {
        let uid = self.record.uid;
        let mailbox = self.mailbox;
        let storage = &mailbox.shared.storage;
        if let Some(path) = self.likely_path()
            && let Ok(file) = storage.open(&path, Open::Read)
        {
            return Ok(file);
        }
        for attempt in 0..3 {
            let (path, ..) = mailbox.path_of(uid).ok_or(Error::Expunged(uid))?;
            match storage.open(&path, Open::Read) {
                Ok(file) => return Ok(file),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("open", &path)(e)),
            }
            if attempt == 1 {
                mailbox.rescan_blocking()?;
            }
        }
        Err(Error::Expunged(uid))
    }

    /// Where the file was when its neighbours were looked up.
    fn likely_path(&mut self) -> Option<PathBuf> {
        let view = self.view;
        let position = view.position(self.seq)?;
        let at = self.sweep.location(&view.0.cold, position, view.0.count, &self.record)?;
        let place = self.mailbox.place.read();
        Some(place.partition.layout.path(&place.dir, &at))
    }
}

impl Source for Message<'_> {
    type Error = Error;

    fn record(&self) -> crate::search::Record {
        searched(self.seq, &self.record)
    }

    fn extras(&mut self) -> Result<Option<&[u8]>> {
        self.extras = self.view.extras(&self.record);
        if let Some(found) = &self.extras
            && let Some(extras) = found.extras()
        {
            found.fetch_ahead(&extras, ExtrasPart::Fields);
        }
        Ok(self.extras.as_ref().map(ExtrasRef::bytes))
    }

    fn save_date(&mut self) -> Result<Option<i64>> {
        let view = self.view;
        let Some(position) = view.position(self.seq) else { return Ok(None) };
        let facts = self.sweep.facts(&view.0.cold, position, view.0.count, self.record.uid);
        Ok(facts.map(|facts| facts.save_date.get()))
    }

    fn line_ends(&self) -> LineEnds {
        self.line_ends
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = self.open()?;
                self.file.insert(file)
            }
        };
        file.read_at(buffer, at).map_err(Error::io("read", "message"))
    }
}
