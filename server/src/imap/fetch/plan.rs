//! Items of FETCH, and what each message needs for them. All that is the same for every message
//! (names, sets of fields) is made once.

use std::cell::Cell;

use engine::io::Lane;
use engine::message::Extras;
use engine::search::{EMAIL_ID_KIND, THREAD_ID_KIND};
use engine::{Annotation, ExtrasBlob, ExtrasPart, ExtrasRef, Mailbox, MessageFile, Record, View};
use protocol::imap::command::{Fetch, FetchItem, Section, SectionText};
use protocol::imap::encode;
use protocol::mime::downgrade;
use protocol::mime::header::FieldSet;
use protocol::types::SeqNum;

use super::super::reply::{End, Reply};
use super::super::selected::{Features, Selected, begin_fetch};
use super::super::session::Session;
use super::annotation::AnnotationItem;
use super::{binary, digest, section};

/// What a FETCH asks, settled once for all of its messages.
#[derive(Debug)]
pub(in super::super) struct Plan {
    items: Vec<FetchItem>,
    /// How index and cache answer each item.
    steps: Vec<Step>,
    /// Some item makes messages `\Seen`.
    pub(in super::super) marks_seen: bool,
    /// Some item is in the cache blob.
    needs_extras: bool,
    /// Some item is told if the cache blob has it.
    wants_extras: bool,
    /// Some item is in the cache blob if that is not of an earlier version.
    needs_ids: bool,
    /// What is read of a cache blob.
    reads: ExtrasPart,
    /// Some item is the date of saving.
    pub(in super::super) needs_save_date: bool,
    /// Some item is only in the message file.
    pub(in super::super) needs_file: bool,
    /// The ANNOTATION items.
    annotations: Vec<AnnotationItem>,
    /// One of these named a body part that a message does not have.
    pub(in super::super) missed_part: Cell<bool>,
    features: Features,
}

/// One item's answer from index or cache.
#[derive(Debug)]
struct Step {
    /// What stands before the value, with the space behind the item before.
    text: StepText,
    value: Value,
}

#[derive(Debug)]
enum StepText {
    Short(encode::Short<24>),
    Long(Vec<u8>),
}

impl StepText {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            StepText::Short(text) => text.write(out),
            StepText::Long(text) => out.extend_from_slice(text),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Value {
    Uid,
    /// With its name.
    Flags,
    InternalDate,
    Size,
    ModSeq,
    Envelope,
    Body,
    BodyStructure,
    Fields(FieldSet),
    EmailId,
    ThreadId,
    SaveDate,
    /// The plan's ANNOTATION item of this number.
    Annotation(usize),
    /// NIL rather than a look into the file, if lazy.
    Preview {
        lazy: bool,
    },
    /// Neither has it.
    Absent,
}

impl Step {
    fn new(item: &FetchItem, is_first: bool, annotations: &mut Vec<AnnotationItem>) -> Step {
        let mut text = if is_first { vec![] } else { vec![b' '] };
        let (name, value): (&[u8], Value) = match item {
            FetchItem::Uid => (b"UID ", Value::Uid),
            FetchItem::Flags => (b"", Value::Flags),
            FetchItem::InternalDate => (b"INTERNALDATE ", Value::InternalDate),
            FetchItem::Rfc822Size => (b"RFC822.SIZE ", Value::Size),
            FetchItem::ModSeq => (b"MODSEQ (", Value::ModSeq),
            FetchItem::Envelope => (b"ENVELOPE ", Value::Envelope),
            FetchItem::Body => (b"BODY ", Value::Body),
            FetchItem::BodyStructure => (b"BODYSTRUCTURE ", Value::BodyStructure),
            FetchItem::EmailId => (b"EMAILID (", Value::EmailId),
            FetchItem::ThreadId => (b"THREADID (", Value::ThreadId),
            FetchItem::SaveDate => (b"SAVEDATE ", Value::SaveDate),
            FetchItem::Preview { lazy } => (b"PREVIEW ", Value::Preview { lazy: *lazy }),
            FetchItem::Annotation { entries, attributes } => {
                annotations.push(AnnotationItem::new(entries, attributes));
                (b"", Value::Annotation(annotations.len() - 1))
            }
            FetchItem::Section { section, .. } => match cached_fields(item) {
                Some(fields) => {
                    section::write_name(&mut text, section, None);
                    (b"", Value::Fields(fields))
                }
                None => (b"", Value::Absent),
            },
            _ => (b"", Value::Absent),
        };
        text.extend_from_slice(name);
        let short = encode::Short::new(&text).map(StepText::Short);
        Step { text: short.unwrap_or(StepText::Long(text)), value }
    }
}

/// How one message went.
#[derive(Debug)]
pub(in super::super) enum Sent {
    /// All of it.
    Whole,
    /// Nothing, or not everything; the command's answer says why.
    Trouble(Reply),
}

impl Plan {
    /// Settles the items: UID for UID FETCH and MODSEQ for CHANGEDSINCE come by themselves.
    pub(in super::super) fn new(fetch: Fetch, features: Features) -> Plan {
        let mut items = fetch.items;
        if fetch.uid && !features.uid_only && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        if fetch.changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        let marks_seen = items.iter().any(|item| match item {
            FetchItem::Rfc822 | FetchItem::Rfc822Text => true,
            FetchItem::Section { peek, .. } | FetchItem::Binary { peek, .. } => !peek,
            _ => false,
        });
        let mut annotations = Vec::new();
        let steps = items.iter().enumerate();
        let steps = steps.map(|(i, item)| Step::new(item, i == 0, &mut annotations)).collect();
        let names_parts = annotations.iter().any(|item| !item.parts().is_empty());
        let needs_extras = items.iter().any(is_in_extras) || names_parts;
        let needs_file = items.iter().any(needs_file);
        let needs_ids = items.iter().any(is_of_version_2);
        let is_lazy = |item: &FetchItem| matches!(item, FetchItem::Preview { lazy: true });
        let wants_extras = needs_extras || items.iter().any(is_lazy);
        let needs_save_date = items.contains(&FetchItem::SaveDate);
        let has_fields = items.iter().any(|item| cached_fields(item).is_some());
        let reads = match has_fields {
            false => ExtrasPart::Answers,
            true if items.iter().any(is_answer) => ExtrasPart::All,
            true => ExtrasPart::Fields,
        };
        Plan {
            items,
            steps,
            marks_seen,
            needs_extras,
            wants_extras,
            needs_ids,
            reads,
            needs_save_date,
            needs_file,
            annotations,
            missed_part: Cell::default(),
            features,
        }
    }

    /// Whether some item is not in index, cache or file, but in annotations.
    pub(in super::super) fn needs_annotations(&self) -> bool {
        !self.annotations.is_empty()
    }

    /// Writes the whole answer for a message if index and cache have it; else writes nothing.
    pub(in super::super) fn write_now(
        &self,
        selected: &Selected,
        out: &mut Vec<u8>,
        seq: SeqNum,
        record: &Record,
        beside: Beside<'_>,
    ) -> bool {
        if self.needs_file {
            return false;
        }
        let blob = if self.wants_extras { selected.view.extras(record) } else { None };
        let extras = blob.as_ref().and_then(ExtrasRef::extras);
        if self.needs_extras && extras.is_none() {
            return false;
        }
        if let (Some(blob), Some(extras)) = (&blob, &extras) {
            blob.fetch_ahead(extras, self.reads);
        }
        let sources = Sources { extras, beside };
        selected.announce_keywords(out, record);
        let start = out.len();
        begin_fetch(out, seq, record.uid, self.features);
        for step in &self.steps {
            if !self.write_step(selected, out, record, step, sources) {
                out.truncate(start);
                return false;
            }
        }
        if beside.became_seen {
            self.write_new_flags(selected, out, record);
        }
        out.extend_from_slice(b")\r\n");
        let held = blob.is_none_or(|blob| blob.held());
        if !held {
            out.truncate(start);
        }
        held
    }

    /// Writes the items of a changed message that were not asked for.
    fn write_new_flags(&self, selected: &Selected, out: &mut Vec<u8>, record: &Record) {
        if !self.items.contains(&FetchItem::Flags) {
            out.push(b' ');
            selected.write_flags(out, record, self.features);
        }
        if self.features.condstore && !self.items.contains(&FetchItem::ModSeq) {
            out.push(b' ');
            selected.write_modseq(out, record.modseq);
        }
    }

    /// Writes an item that index or cache have; `false` (nothing written) if neither has it.
    fn write_step(
        &self,
        selected: &Selected,
        out: &mut Vec<u8>,
        record: &Record,
        step: &Step,
        Sources { extras, beside }: Sources<'_>,
    ) -> bool {
        let start = out.len();
        step.text.write(out);
        match (step.value, extras) {
            (Value::Uid, _) => encode::number(out, u64::from(record.uid.0)),
            (Value::Flags, _) => selected.write_flags(out, record, self.features),
            (Value::InternalDate, _) => encode::date_time(out, record.internal_date),
            (Value::Size, _) => encode::number(out, u64::from(record.size)),
            (Value::ModSeq, _) => {
                selected.note_modseq(record.modseq);
                encode::number(out, record.modseq.0);
                out.push(b')');
            }
            (Value::SaveDate, _) => match beside.save_date {
                Some(date) => encode::date_time(out, date),
                None => out.extend_from_slice(b"NIL"),
            },
            (Value::Annotation(number), _) => {
                let Some(item) = self.annotations.get(number) else { return false };
                let has = |part: &Vec<u32>| extras.is_some_and(|extras| extras.has_part(part));
                if !item.parts().iter().all(has) {
                    self.missed_part.set(true);
                }
                item.write(out, beside.annotations, self.features.utf8());
            }
            (Value::EmailId | Value::ThreadId | Value::Preview { .. }, _) => {
                if !self.write_identity(out, step.value, extras) {
                    out.truncate(start);
                    return false;
                }
            }
            (Value::Envelope, Some(extras)) if self.features.utf8() => {
                out.extend_from_slice(extras.envelope());
            }
            (Value::Envelope, Some(extras)) => downgrade::envelope(extras.envelope(), out),
            (Value::Body, Some(extras)) => out.extend_from_slice(extras.body()),
            (Value::BodyStructure, Some(extras)) => {
                out.extend_from_slice(extras.body_structure());
            }
            (Value::Fields(fields), Some(extras)) => {
                let announce = |out: &mut Vec<u8>, bytes| encode::literal_start(out, bytes as u64);
                if !extras.select(fields, out, announce) {
                    out.truncate(start);
                    return false;
                }
            }
            _ => {
                out.truncate(start);
                return false;
            }
        }
        true
    }
}

impl Plan {
    /// Writes what extras have since their version 2; `false` if these have not.
    fn write_identity(&self, out: &mut Vec<u8>, value: Value, extras: Option<Extras<'_>>) -> bool {
        let ids = extras.and_then(|extras| extras.ids());
        let preview = extras.and_then(|extras| extras.preview());
        match (value, ids, preview) {
            (Value::EmailId, Some(ids), _) => {
                encode::object_id(out, EMAIL_ID_KIND, &ids.content);
                out.push(b')');
            }
            (Value::ThreadId, Some(ids), _) => {
                encode::object_id(out, THREAD_ID_KIND, &ids.thread);
                out.push(b')');
            }
            (Value::Preview { .. }, _, Some(preview)) => {
                encode::string(out, preview.as_bytes(), self.features.rev2);
            }
            (Value::Preview { lazy: true }, ..) => out.extend_from_slice(b"NIL"),
            _ => return false,
        }
        true
    }
}

/// What the steps of one message read besides its record.
#[derive(Clone, Copy)]
struct Sources<'a> {
    extras: Option<Extras<'a>>,
    beside: Beside<'a>,
}

/// What is told of a message that is in none of its files.
#[derive(Clone, Copy)]
pub(in super::super) struct Beside<'a> {
    pub(in super::super) save_date: Option<i64>,
    pub(in super::super) annotations: &'a [Annotation],
    /// Sending the message made it `\Seen`: its flags are told, asked for or not.
    pub(in super::super) became_seen: bool,
}

/// The fields of a `BODY[HEADER.FIELDS (…)]` that the cache may have.
fn cached_fields(item: &FetchItem) -> Option<FieldSet> {
    match item {
        FetchItem::Section {
            section: Section { part, text: SectionText::HeaderFields(names) },
            partial: None,
            ..
        } if part.is_empty() => FieldSet::of_names(names.iter().map(String::as_bytes)),
        _ => None,
    }
}

/// Whether an item is in cache blobs as it is told.
fn is_answer(item: &FetchItem) -> bool {
    matches!(item, FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure)
}

fn is_in_extras(item: &FetchItem) -> bool {
    match item {
        FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure => true,
        FetchItem::EmailId | FetchItem::ThreadId | FetchItem::Preview { lazy: false } => true,
        FetchItem::Binary { .. } | FetchItem::BinarySize { .. } => true,
        FetchItem::Section { section, .. } => {
            !section.part.is_empty() || cached_fields(item).is_some()
        }
        _ => false,
    }
}

/// Whether an item is in cache blobs since their version 2, and has to be told.
fn is_of_version_2(item: &FetchItem) -> bool {
    let preview = FetchItem::Preview { lazy: false };
    [FetchItem::EmailId, FetchItem::ThreadId, preview].contains(item)
}

/// Whether an item needs the message file, if nothing else has it.
pub(super) fn needs_file(item: &FetchItem) -> bool {
    is_in_file(item) && cached_fields(item).is_none()
}

fn is_in_file(item: &FetchItem) -> bool {
    matches!(
        item,
        FetchItem::Rfc822
            | FetchItem::Rfc822Header
            | FetchItem::Rfc822Text
            | FetchItem::Section { .. }
            | FetchItem::Binary { .. }
            | FetchItem::BinarySize { .. }
            | FetchItem::DigestSha1
    )
}

/// A message's cache blob, from the view's map or made anew.
pub(super) enum Blob<'v> {
    Mapped(ExtrasRef<'v>),
    Made(ExtrasBlob),
}

impl Blob<'_> {
    pub(super) fn extras(&self) -> Option<Extras<'_>> {
        match self {
            Blob::Mapped(found) => found.extras(),
            Blob::Made(made) => made.extras(),
        }
    }
}

/// The sources of one message's items.
pub(super) struct Message<'m> {
    pub(super) record: Record,
    pub(super) extras: Option<Extras<'m>>,
    pub(super) file: &'m MessageFile,
}

/// Writes the answer for a message that needs its file, or a cache blob that is not there.
pub(in super::super) async fn write_message(
    session: &mut Session,
    plan: &Plan,
    mailbox: &Mailbox,
    view: &View,
    seq: SeqNum,
    record: Record,
    beside: Beside<'_>,
) -> Result<Sent, End> {
    let blob = match plan.needs_extras {
        true => match blob_of(&session.services.lane, plan.needs_ids, mailbox, view, &record).await
        {
            Ok(blob) => Some(blob),
            Err(error) => return Ok(trouble(session, &error)),
        },
        false if plan.wants_extras => view.extras(&record).map(Blob::Mapped),
        false => None,
    };
    let extras = blob.as_ref().and_then(Blob::extras);
    if plan.needs_extras && extras.is_none() {
        return Ok(trouble(session, &engine::Error::Expunged(record.uid)));
    }
    let opened = mailbox.message(&session.services.lane, &record).await;
    let file = match opened {
        Ok(file) => file,
        Err(error) => return Ok(trouble(session, &error)),
    };
    let message = Message { record, extras, file: &file };
    let selected = session.selected.as_ref();
    session.conn.out.with_vec(|out| {
        selected.inspect(|selected| selected.announce_keywords(out, &record));
        begin_fetch(out, seq, record.uid, plan.features);
    });
    let mut sent = Sent::Whole;
    for (i, (item, step)) in plan.items.iter().zip(&plan.steps).enumerate() {
        let Some(selected) = session.selected.as_ref() else { break };
        let written = session.conn.out.with_vec(|out| {
            let sources = Sources { extras, beside };
            let written = plan.write_step(selected, out, &record, step, sources);
            if !written && i > 0 {
                out.push(b' ');
            }
            written
        });
        if !written && let Some(reply) = write_from_file(session, &message, item).await? {
            sent = Sent::Trouble(reply);
        }
    }
    let selected = session.selected.as_ref();
    session.conn.out.with_vec(|out| {
        let became_seen = beside.became_seen && matches!(sent, Sent::Whole);
        if let Some(selected) = selected.filter(|_| became_seen) {
            plan.write_new_flags(selected, out, &record);
        }
        out.extend_from_slice(b")\r\n");
    });
    session.breathe().await?;
    Ok(sent)
}

pub(super) async fn blob_of<'v>(
    lane: &Lane,
    needs_ids: bool,
    mailbox: &Mailbox,
    view: &'v View,
    record: &Record,
) -> engine::Result<Blob<'v>> {
    let suits = |extras: Extras<'_>| !needs_ids || extras.ids().is_some();
    match view.extras(record) {
        Some(found) if found.extras().is_some_and(suits) => Ok(Blob::Mapped(found)),
        _ => mailbox.extras(lane, record).await.map(Blob::Made),
    }
}

fn trouble(session: &Session, error: &engine::Error) -> Sent {
    Sent::Trouble(session.failure("read a message", error, "NONEXISTENT"))
}

/// Writes one item from the message file; with a reply if it can't be had.
async fn write_from_file(
    session: &mut Session,
    message: &Message<'_>,
    item: &FetchItem,
) -> Result<Option<Reply>, End> {
    let whole = |text| Section { part: vec![], text };
    match item {
        FetchItem::Section { section, partial, .. } => {
            session.conn.out.with_vec(|out| section::write_name(out, section, *partial));
            section::write(session, message, section, *partial).await?;
        }
        FetchItem::Rfc822 => {
            session.conn.out.push(b"RFC822 ");
            section::write(session, message, &whole(SectionText::Whole), None).await?;
        }
        FetchItem::Rfc822Header => {
            session.conn.out.push(b"RFC822.HEADER ");
            section::write(session, message, &whole(SectionText::Header), None).await?;
        }
        FetchItem::Rfc822Text => {
            session.conn.out.push(b"RFC822.TEXT ");
            section::write(session, message, &whole(SectionText::Text), None).await?;
        }
        FetchItem::DigestSha1 => digest::write(session, message).await?,
        FetchItem::Binary { part, partial, .. } => {
            return binary::write(session, message, part, *partial).await;
        }
        FetchItem::BinarySize { part } => return binary::write_size(session, message, part).await,
        // Index or cache have the others, or their blob was made.
        _ => {}
    }
    Ok(None)
}
