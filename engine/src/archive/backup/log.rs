//! The log's share of a hot copy: what makes it one of a single moment.

use std::path::Path;

use super::{Backup, CHUNK_BYTES};
use crate::archive::format::{MessageName, not_as_expected};
use crate::archive::taker::live_path;
use crate::archive::writer::Writer;
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::format::segment::{BLOCK_BYTES, SegmentHeader};
use crate::ids::Lsn;
use crate::io::Open;
use crate::log::{Transaction, kept_name, scan_segment};

/// The copied log: where it ends, when that was (microseconds since 1970), and the segments by name
/// with their checksums.
type CopiedLog = (Lsn, u64, Vec<(String, String)>);

impl Backup<'_> {
    /// The log from the checkpoint to a point behind everything that was copied.
    pub(super) fn log(&mut self, making: &Path, from: Lsn) -> Result<CopiedLog> {
        let shared = self.shared;
        let storage = &*shared.storage;
        shared.pump();
        let (segments, durable) = shared.log.segments_from(from);
        let consistent_us = shared.log.time_us();
        // What is below is in its place by then, or will never be.
        self.wait("frames to be applied", || {
            shared.pump();
            Ok(shared.log.applied_below() >= durable)
        })?;
        let mut names = Vec::new();
        for segment in segments {
            let end = segment.end.min(durable);
            if end <= segment.first && end <= from {
                continue;
            }
            let bytes = BLOCK_BYTES as u64 + end.0.saturating_sub(segment.first.0);
            let file = storage.open(&segment.path, Open::Read);
            let file = file.map_err(Error::io("open", &segment.path))?;
            let mut head = vec![0; BLOCK_BYTES];
            file.read_exact_at(&mut head, 0).map_err(Error::io("read", &segment.path))?;
            let header = SegmentHeader::decode(&head)
                .map_err(|e| not_as_expected(&segment.path, "a log segment", e.to_string()))?;
            let name = kept_name(header.first_lsn.get(), header.epoch.get());
            let to = making.join("log").join(&name);
            let mut out = Writer::new(storage, to.clone(), self.sync)?;
            let mut buffer = vec![0; CHUNK_BYTES];
            let mut at = 0;
            while at < bytes {
                let n = (bytes - at).min(buffer.len() as u64) as usize;
                let read = file.read_at(&mut buffer[..n], at);
                let n = read.map_err(Error::io("read", &segment.path))?;
                if n == 0 {
                    break;
                }
                out.write(&buffer[..n])?;
                at += n as u64;
            }
            let (_, digest) = out.finish()?;
            self.wrote(at);
            self.messages_of(&to, from)?;
            names.push((name, digest));
        }
        Ok((durable.max(from), consistent_us, names))
    }

    /// The messages that frames at or above `from` name.
    fn messages_of(&mut self, segment: &Path, from: Lsn) -> Result<()> {
        let shared = self.shared;
        let mut appends = Vec::new();
        let mut each = |transaction: Transaction| {
            for (mailbox, frame) in transaction.frames {
                if let (Frame::Append(append), true) = (frame, transaction.end > from) {
                    appends.push((mailbox, append));
                }
            }
            Ok(())
        };
        let read = scan_segment(&*shared.storage, segment, shared.store_id, &mut each)?;
        if let Err(damage) = read {
            self.findings.push(damage);
        }
        for (mailbox, append) in appends {
            self.check_cancel()?;
            let name = MessageName { content_id: append.content_id, stored: append.stored };
            self.put(&name, || live_path(shared, mailbox, append.uid))?;
        }
        Ok(())
    }
}
