//! The part of a search that looks at extras and files.

use std::ops::Range;

use protocol::mime::{Encoding, Field, header};

use super::Source;
use super::fuzzy::{Tally, Word, WordHit};
use super::needle::{Buffers, Needle, Stream};
use super::program::Place;
use super::text::Pieces;
use crate::message::{Extras, MessageIds, Rescan};

/// Files up to this size are read at once; larger ones in pieces of it.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// Header bytes of one part that are looked at, as many as the parser reads.
const HEADER_BYTES_MAX: usize = protocol::mime::Limits::HEADER_BYTES_MAX;

/// Buffers of a search; make one and use it for all messages.
#[derive(Default)]
pub struct Scratch {
    buffers: Buffers,
    /// Bytes of the file from `file_at`; grown once.
    file: Vec<u8>,
    header: Vec<u8>,
    parts: Vec<PartPlace>,
    labels: Vec<u8>,
    extras: Vec<u8>,
    hits: Vec<WordHit>,
}

impl Scratch {
    /// Forgets the hits of the message before.
    pub(super) fn begin(&mut self) {
        self.hits.clear();
    }

    /// How well the message that was just found meets words that need not be there exactly.
    pub(crate) fn hits(&self) -> &[WordHit] {
        &self.hits
    }
}

/// Where one part is in the file.
struct PartPlace {
    header: Range<u64>,
    /// Set for text parts.
    text: Option<TextPlace>,
}

struct TextPlace {
    body: Range<u64>,
    encoding: Encoding,
    label: Range<usize>,
}

/// A piece of what string keys look at, case taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text<'a> {
    /// Of a header field, its name included.
    Header(&'a str),
    /// Of a body.
    Body(&'a str),
    /// The field ends: strings are not looked for across.
    HeaderEnd,
    /// The body ends.
    BodyEnd,
}

/// Gives all text of a message that string keys look at: for indexes that are to find the same.
/// False when some was left out.
pub(crate) fn each_text<S: Source>(
    source: &mut S,
    scratch: &mut Scratch,
    each: &mut dyn FnMut(Text<'_>),
) -> Result<bool, S::Error> {
    Message::new(source, scratch).each_text(each)
}

/// The header fields of a message that [`Field`] knows.
pub(crate) enum Fields<'a> {
    /// All of them, from the cache.
    Kept(&'a Extras<'a>),
    /// The header as it stands.
    Block(&'a [u8]),
    /// Nobody wanted them.
    Unread,
}

impl Fields<'_> {
    /// What `f` first makes of a field's value, trimmed and folded.
    pub(crate) fn first<R>(&self, field: Field, f: impl FnMut(&[u8]) -> Option<R>) -> Option<R> {
        match self {
            Fields::Kept(extras) => extras.values(field).find_map(f),
            Fields::Block(block) => header::fields(block)
                .filter(|raw| raw.name.eq_ignore_ascii_case(field.name().as_bytes()))
                .map(|raw| header::trim(raw.value))
                .find_map(f),
            Fields::Unread => None,
        }
    }
}

/// Gives a message's header fields: from its cached extras, else from its file.
pub(crate) fn with_fields<S: Source, R>(
    source: &mut S,
    scratch: &mut Scratch,
    f: impl FnOnce(Fields<'_>) -> R,
) -> Result<R, S::Error> {
    Message::new(source, scratch).with_fields(f)
}

/// One message during its evaluation: what was loaded stays loaded for further keys.
pub(super) struct Message<'a, S: Source> {
    source: &'a mut S,
    scratch: &'a mut Scratch,
    /// Whether `scratch.extras` stands in for missing or damaged ones.
    has_own_extras: bool,
    has_parts: bool,
    /// Where the extras say that the file ends, to save a read that only finds the end.
    stored_end: Option<u64>,
    /// Bytes in `scratch.file` when it is the whole file.
    whole_file: Option<usize>,
    is_large: bool,
}

impl<'a, S: Source> Message<'a, S> {
    pub(super) fn new(source: &'a mut S, scratch: &'a mut Scratch) -> Message<'a, S> {
        Message {
            source,
            scratch,
            has_own_extras: false,
            has_parts: false,
            stored_end: None,
            whole_file: None,
            is_large: false,
        }
    }

    /// The day of the Date field as written, from the extras.
    pub(super) fn sent_day(&mut self) -> Result<Option<i32>, S::Error> {
        self.with_extras(|extras, _| extras.sent_day())
    }

    fn with_fields<R>(&mut self, f: impl FnOnce(Fields<'_>) -> R) -> Result<R, S::Error> {
        let mut f = Some(f);
        let kept = self.with_extras(|extras, _| {
            let f = extras.has_all_fields().then(|| f.take())??;
            Some(f(Fields::Kept(extras)))
        })?;
        let Some(f) = f else { return Ok(kept.expect("f was called when it was taken")) };
        self.load_parts()?;
        let place = self.scratch.parts.first().map_or(0..0, |part| part.header.clone());
        self.load_header(place)?;
        Ok(f(Fields::Block(&self.scratch.header)))
    }

    /// When the message was saved into its mailbox, seconds since 1970.
    pub(super) fn save_date(&mut self) -> Result<Option<i64>, S::Error> {
        self.source.save_date()
    }

    /// What the message is known by everywhere.
    pub(super) fn ids(&mut self) -> Result<MessageIds, S::Error> {
        if let Some(ids) = self.with_extras(|extras, _| extras.ids())? {
            return Ok(ids);
        }
        // Extras of an earlier version.
        self.rescan()?;
        let none = MessageIds { content: [0; 16], thread: [0; 16] };
        Ok(self.with_extras(|extras, _| extras.ids())?.unwrap_or(none))
    }

    /// Whether a field of that name contains the string; for an empty one, whether it is there.
    pub(super) fn field_contains(
        &mut self,
        name: &[u8],
        known: Option<Field>,
        needle: &Needle,
    ) -> Result<bool, S::Error> {
        if let Some(field) = known {
            let cached = self.with_extras(|extras, buffers| {
                let found = extras.values(field).any(|v| needle.in_value(v, buffers));
                (found || extras.has_all_fields()).then_some(found)
            })?;
            if let Some(found) = cached {
                return Ok(found);
            }
        }
        self.load_parts()?;
        let Some(place) = self.scratch.parts.first().map(|part| part.header.clone()) else {
            return Ok(false);
        };
        self.load_header(place)?;
        let Scratch { buffers, header: block, .. } = &mut *self.scratch;
        Ok(header::fields(block)
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .any(|field| needle.in_value(field.value, buffers)))
    }

    /// Whether any header of the message or of a part contains the string.
    pub(super) fn headers_contain(&mut self, needle: &Needle) -> Result<bool, S::Error> {
        let cached =
            self.with_extras(|extras, buffers| needle.in_header(extras.headers(), buffers))?;
        if cached {
            return Ok(true);
        }
        self.load_parts()?;
        for index in 0..self.scratch.parts.len() {
            self.load_header(self.scratch.parts[index].header.clone())?;
            if needle.in_header(&self.scratch.header, &mut self.scratch.buffers) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a text part contains the string.
    pub(super) fn bodies_contain(&mut self, needle: &Needle) -> Result<bool, S::Error> {
        self.load_parts()?;
        let parts = std::mem::take(&mut self.scratch.parts);
        let mut found = Ok(false);
        for text in parts.iter().filter_map(|part| part.text.as_ref()) {
            found = self.body_contains(text, needle);
            if !matches!(found, Ok(false)) {
                break;
            }
        }
        self.scratch.parts = parts;
        found
    }

    fn body_contains(&mut self, text: &TextPlace, needle: &Needle) -> Result<bool, S::Error> {
        let whole = self.load_file()?;
        let Scratch { buffers, file, labels, .. } = &mut *self.scratch;
        let label = &labels[text.label.clone()];
        if let Some(length) = whole {
            let start = (text.body.start as usize).min(length);
            let end = (text.body.end as usize).clamp(start, length);
            return Ok(needle.in_body(text.encoding, label, &file[start..end], buffers));
        }
        let mut stream = Stream::new(needle, text.encoding, label, buffers);
        let mut at = text.body.start;
        while at < text.body.end {
            let wanted = (text.body.end - at).min(FILE_BYTES_MAX as u64) as usize;
            let read = self.source.read(at, &mut file[..wanted])?.min(wanted);
            if read == 0 {
                break;
            }
            if stream.feed(&file[..read]) {
                return Ok(true);
            }
            at += read as u64;
        }
        Ok(stream.finish())
    }

    /// Whether words, or what is near them, are in a place; how well is kept for
    /// [`Scratch::hits`].
    pub(super) fn is_like(
        &mut self,
        words: &[Word],
        words_from: usize,
        place: Place,
        name: Option<&[u8]>,
    ) -> Result<bool, S::Error> {
        let mut tally = Tally::new(words, words_from);
        if place == Place::Field {
            let name = name.unwrap_or_default();
            self.load_parts()?;
            let Some(header) = self.scratch.parts.first().map(|part| part.header.clone()) else {
                return Ok(false);
            };
            self.load_header(header)?;
            let Scratch { buffers, header: block, .. } = &mut *self.scratch;
            let named = |field: &header::RawField<'_>| field.name.eq_ignore_ascii_case(name);
            for field in header::fields(block).filter(named) {
                buffers.each_value(field.value, &mut |text| tally.feed(text));
                tally.end();
            }
        } else {
            self.each_text(&mut |text| match (text, place) {
                (Text::Header(text), Place::Headers | Place::Both) => tally.feed(text),
                (Text::Body(text), Place::Bodies | Place::Both) => tally.feed(text),
                (Text::HeaderEnd | Text::BodyEnd, _) => tally.end(),
                _ => {}
            })?;
        }
        let hits = tally.hits();
        let found = hits.is_some();
        self.scratch.hits.extend(hits.unwrap_or_default());
        Ok(found)
    }

    /// Gives all text that string keys look at, case taken off, in pieces.
    /// False when a header is too long to be all of it.
    pub(super) fn each_text(&mut self, each: &mut dyn FnMut(Text<'_>)) -> Result<bool, S::Error> {
        self.load_parts()?;
        let parts = std::mem::take(&mut self.scratch.parts);
        let mut told = Ok(());
        for part in &parts {
            told = self.each_field(part, each);
            if let (Ok(()), Some(text)) = (&told, &part.text) {
                told = self.each_piece(text, each);
            }
            if told.is_err() {
                break;
            }
        }
        let bytes = |part: &PartPlace| part.header.end - part.header.start;
        let is_whole = parts.iter().all(|part| bytes(part) < HEADER_BYTES_MAX as u64);
        self.scratch.parts = parts;
        told.map(|()| is_whole)
    }

    fn each_field(
        &mut self,
        part: &PartPlace,
        each: &mut dyn FnMut(Text<'_>),
    ) -> Result<(), S::Error> {
        self.load_header(part.header.clone())?;
        let Scratch { buffers, header: block, .. } = &mut *self.scratch;
        for field in header::fields(block) {
            buffers.each_value(field.raw, &mut |text| each(Text::Header(text)));
            each(Text::HeaderEnd);
        }
        Ok(())
    }

    fn each_piece(
        &mut self,
        text: &TextPlace,
        each: &mut dyn FnMut(Text<'_>),
    ) -> Result<(), S::Error> {
        let whole = self.load_file()?;
        let Scratch { buffers, file, labels, .. } = &mut *self.scratch;
        let mut told = |text: &str| each(Text::Body(text));
        let mut pieces = Pieces::new(text.encoding, &labels[text.label.clone()], buffers);
        if let Some(length) = whole {
            let start = (text.body.start as usize).min(length);
            let end = (text.body.end as usize).clamp(start, length);
            pieces.feed(&file[start..end], &mut told);
        } else {
            let mut at = text.body.start;
            while at < text.body.end {
                let wanted = (text.body.end - at).min(FILE_BYTES_MAX as u64) as usize;
                let read = self.source.read(at, &mut file[..wanted])?.min(wanted);
                if read == 0 {
                    break;
                }
                pieces.feed(&file[..read], &mut told);
                at += read as u64;
            }
        }
        pieces.finish(&mut told);
        each(Text::BodyEnd);
        Ok(())
    }

    /// Puts a header's bytes into `scratch.header`.
    fn load_header(&mut self, place: Range<u64>) -> Result<(), S::Error> {
        let length = (place.end - place.start).min(HEADER_BYTES_MAX as u64) as usize;
        let whole = self.load_file()?;
        let Scratch { file, header, .. } = &mut *self.scratch;
        header.clear();
        if let Some(file_length) = whole {
            let start = (place.start as usize).min(file_length);
            let end = (start + length).min(file_length);
            header.extend_from_slice(&file[start..end]);
            return Ok(());
        }
        header.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            let read = self.source.read(place.start + filled as u64, &mut header[filled..])?;
            if read == 0 {
                break;
            }
            filled = (filled + read).min(length);
        }
        header.truncate(filled);
        Ok(())
    }

    /// Reads the file if it is small. `None`: it must be read in pieces.
    fn load_file(&mut self) -> Result<Option<usize>, S::Error> {
        if self.whole_file.is_some() || self.is_large {
            return Ok(self.whole_file);
        }
        let file = &mut self.scratch.file;
        file.resize(FILE_BYTES_MAX, 0);
        let mut filled = 0;
        while filled < FILE_BYTES_MAX {
            let read = self.source.read(filled as u64, &mut file[filled..])?;
            filled = (filled + read).min(FILE_BYTES_MAX);
            if read == 0 || self.stored_end.is_some_and(|end| filled as u64 >= end) {
                self.whole_file = Some(filled);
                return Ok(self.whole_file);
            }
        }
        self.is_large = true;
        Ok(None)
    }

    /// Lists the parts in `scratch.parts`.
    fn load_parts(&mut self) -> Result<(), S::Error> {
        if self.has_parts {
            return Ok(());
        }
        let mut parts = std::mem::take(&mut self.scratch.parts);
        let mut labels = std::mem::take(&mut self.scratch.labels);
        parts.clear();
        labels.clear();
        let mut stored_end = None;
        let loaded = self.with_extras(|extras, _| {
            for part in extras.parts() {
                stored_end.get_or_insert(u64::from(part.body.end));
                let wide = |range: &Range<u32>| u64::from(range.start)..u64::from(range.end);
                let text = part.is_text.then(|| {
                    let from = labels.len();
                    labels.extend_from_slice(part.charset);
                    TextPlace {
                        body: wide(&part.body),
                        encoding: part.encoding,
                        label: from..labels.len(),
                    }
                });
                parts.push(PartPlace { header: wide(&part.header), text });
            }
        });
        self.scratch.parts = parts;
        self.scratch.labels = labels;
        self.has_parts = loaded.is_ok();
        self.stored_end = stored_end;
        loaded
    }

    /// Calls `f` with the cached extras, or with new ones when those are missing or damaged.
    fn with_extras<R>(
        &mut self,
        f: impl FnOnce(&Extras<'_>, &mut Buffers) -> R,
    ) -> Result<R, S::Error> {
        if !self.has_own_extras {
            let cached = self.source.extras()?;
            if let Some(Ok(extras)) = cached.map(Extras::open) {
                return Ok(f(&extras, &mut self.scratch.buffers));
            }
            self.rescan()?;
        }
        let Scratch { extras, buffers, .. } = &mut *self.scratch;
        let extras = Extras::open(extras).expect("extras that the rescan wrote");
        Ok(f(&extras, buffers))
    }

    fn rescan(&mut self) -> Result<(), S::Error> {
        let mut rescan = Rescan::new(self.source.line_ends());
        match self.load_file()? {
            Some(length) => rescan.feed(&self.scratch.file[..length]),
            None => {
                let mut at = 0;
                loop {
                    let read = self.source.read(at, &mut self.scratch.file)?;
                    let Some(piece) = self.scratch.file.get(..read).filter(|p| !p.is_empty())
                    else {
                        break;
                    };
                    rescan.feed(piece);
                    at += read as u64;
                }
            }
        }
        self.scratch.extras = rescan.finish().extras;
        self.has_own_extras = true;
        Ok(())
    }
}
