//! SEARCH over a view: index, then cache, then message bytes.

use std::sync::Arc;

use protocol::imap::search::SearchKey;
use protocol::types::{SeqNum, Uid};

use super::message::line_ends;
use super::view::ExtrasRef;
use super::{Mailbox, MailboxInner, View};
use crate::error::{Error, Result};
use crate::format::index::Record;
use crate::io::{Open, StoredFile};
use crate::message::LineEnds;
use crate::search::{Context, Needs, Program, Scratch, Source};

/// Messages that are looked through on the session's core when the index alone decides.
const INLINE_MESSAGES_MAX: u32 = 4096;

impl Mailbox {
    /// The messages of a view that match, in its order. `$` and `\Recent` have been replaced by
    /// UID sets by the session, which knows them.
    pub async fn search(&self, view: &View, key: &SearchKey) -> Result<Vec<(SeqNum, Record)>> {
        let uid_largest = view.uid(SeqNum(view.exists())).unwrap_or(Uid(0));
        let program = Program::new(
            key,
            &Context {
                uid_largest,
                seq_largest: view.exists(),
                saved: &[],
                keyword_bit: &|keyword| {
                    let bit = view.keywords().bit(keyword);
                    (bit != 0).then(|| bit.trailing_zeros())
                },
            },
        );
        if program.needs() == Needs::Index && view.exists() <= INLINE_MESSAGES_MAX {
            return Ok(by_index(view, &program));
        }
        let (inner, view) = (self.0.clone(), view.clone());
        let job = move || {
            if program.needs() == Needs::Index {
                return Ok(by_index(&view, &program));
            }
            inner.look_through(&view, &program)
        };
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
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

fn by_index(view: &View, program: &Program) -> Vec<(SeqNum, Record)> {
    let matches = |(seq, record): &(SeqNum, Record)| {
        program.decide_by_index(&searched(*seq, record)) == Some(true)
    };
    view.all().filter(matches).collect()
}

impl MailboxInner {
    /// On a helper thread: may read files.
    fn look_through(
        self: &Arc<Self>,
        view: &View,
        program: &Program,
    ) -> Result<Vec<(SeqNum, Record)>> {
        let mut scratch = Scratch::default();
        let mut out = Vec::new();
        let kind = self.place.read().partition.layout.kind();
        for (seq, record) in view.all() {
            let mut message = Message {
                mailbox: self,
                view,
                record,
                seq,
                line_ends: line_ends(kind),
                extras: None,
                file: None,
            };
            match program.matches(&mut message, &mut scratch) {
                Ok(true) => out.push((seq, record)),
                Ok(false) => {}
                // Gone since the view was made: nothing to match.
                Err(Error::Expunged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }
}

struct Message<'a> {
    mailbox: &'a Arc<MailboxInner>,
    view: &'a View,
    record: Record,
    seq: SeqNum,
    line_ends: LineEnds,
    extras: Option<ExtrasRef<'a>>,
    file: Option<Arc<dyn StoredFile>>,
}

impl Message<'_> {
    /// Opens the message's file, which may be renamed between our look-up and the open: by our own
    /// appliers, for a changed flag, or by another program. A message is gone only when a rescan
    /// doesn't find it either.
    fn open(&self) -> Result<Arc<dyn StoredFile>> {
        let uid = self.record.uid;
        for attempt in 0..3 {
            let (path, ..) = self.mailbox.path_of(uid).ok_or(Error::Expunged(uid))?;
            match self.mailbox.shared.storage.open(&path, Open::Read) {
                Ok(file) => return Ok(file),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("open", &path)(e)),
            }
            if attempt == 1 {
                self.mailbox.rescan_blocking();
            }
        }
        Err(Error::Expunged(uid))
    }
}

impl Source for Message<'_> {
    type Error = Error;

    fn record(&self) -> crate::search::Record {
        searched(self.seq, &self.record)
    }

    fn extras(&mut self) -> Result<Option<&[u8]>> {
        self.extras = self.view.extras(&self.record);
        Ok(self.extras.as_ref().map(ExtrasRef::bytes))
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
