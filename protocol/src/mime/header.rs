//! Header blocks: field names, iteration, unfolding, and the HEADER.FIELDS selection.
//!
//! Works on any bytes. A line that is neither a field nor a continuation (an mbox `From ` line,
//! garbage) is skipped; the block ends at its first empty line or at the end of the bytes.
//!
//! [`fields`] walks over a block that lies there; a [`Block`] is told its lines as they come, and
//! knows afterwards where the known fields are. Both find the same fields.

use std::borrow::Cow;

use memchr::memchr;

macro_rules! fields {
    ($($name:ident = $text:literal,)*) => {
        /// A field that the store knows by name. The numbers are part of the cache format: only
        /// append.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Field { $($name,)* }

        impl Field {
            /// Every known field, in numbering order.
            pub const ALL: &'static [Field] = &[$(Field::$name,)*];

            /// The name in lower case.
            pub const fn name(self) -> &'static str {
                let name: &[u8] = match self { $(Field::$name => $text,)* };
                match std::str::from_utf8(name) {
                    Ok(name) => name,
                    Err(_) => unreachable!(),
                }
            }

            /// Octets are compared rather than text: that makes one decision by length and letter,
            /// where text makes a comparison with each name.
            fn of_lower(name: &[u8]) -> Option<Field> {
                match name { $($text => Some(Field::$name),)* _ => None }
            }
        }
    };
}

fields! {
    Date = b"date",
    Subject = b"subject",
    From = b"from",
    Sender = b"sender",
    ReplyTo = b"reply-to",
    To = b"to",
    Cc = b"cc",
    Bcc = b"bcc",
    MessageId = b"message-id",
    InReplyTo = b"in-reply-to",
    References = b"references",
    ContentType = b"content-type",
    ContentTransferEncoding = b"content-transfer-encoding",
    ContentDisposition = b"content-disposition",
    ContentId = b"content-id",
    ContentDescription = b"content-description",
    ContentLanguage = b"content-language",
    ContentLocation = b"content-location",
    ContentMd5 = b"content-md5",
    ContentClass = b"content-class",
    MimeVersion = b"mime-version",
    ListId = b"list-id",
    ListPost = b"list-post",
    ListUnsubscribe = b"list-unsubscribe",
    ListUnsubscribePost = b"list-unsubscribe-post",
    ListSubscribe = b"list-subscribe",
    ListHelp = b"list-help",
    ListArchive = b"list-archive",
    ListOwner = b"list-owner",
    Priority = b"priority",
    XPriority = b"x-priority",
    XMsmailPriority = b"x-msmail-priority",
    Importance = b"importance",
    Precedence = b"precedence",
    DeliveredTo = b"delivered-to",
    XOriginalTo = b"x-original-to",
    EnvelopeTo = b"envelope-to",
    ReturnPath = b"return-path",
    Newsgroups = b"newsgroups",
    FollowupTo = b"followup-to",
    MailFollowupTo = b"mail-followup-to",
    MailReplyTo = b"mail-reply-to",
    DispositionNotificationTo = b"disposition-notification-to",
    ReturnReceiptTo = b"return-receipt-to",
    AutoSubmitted = b"auto-submitted",
    ResentDate = b"resent-date",
    ResentFrom = b"resent-from",
    ResentTo = b"resent-to",
    ResentMessageId = b"resent-message-id",
    UserAgent = b"user-agent",
    XMailer = b"x-mailer",
    Organization = b"organization",
    Lines = b"lines",
    XLabel = b"x-label",
    XDraftInfo = b"x-draft-info",
    XK9mailIdentity = b"x-k9mail-identity",
    XMozillaDraftInfo = b"x-mozilla-draft-info",
    XSpamFlag = b"x-spam-flag",
    XUniformTypeIdentifier = b"x-uniform-type-identifier",
    XUniversallyUniqueIdentifier = b"x-universally-unique-identifier",
    XForwardedMessageId = b"x-forwarded-message-id",
    XGmThrid = b"x-gm-thrid",
    ThreadTopic = b"thread-topic",
    ThreadIndex = b"thread-index",
}

const _: () = assert!(Field::ALL.len() <= 64, "FieldSet is a u64");

/// Longest known field name, in bytes.
const NAME_BYTES_MAX: usize = 32;

impl Field {
    /// The field of that name, in any case.
    pub fn of(name: &[u8]) -> Option<Field> {
        let mut lower = [0u8; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Field::of_lower(lower)
    }

    /// The field of that number.
    pub fn of_number(number: u8) -> Option<Field> {
        Field::ALL.get(usize::from(number)).copied()
    }
}

/// Known fields as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(pub u64);

impl FieldSet {
    /// Every known field.
    pub const ALL: FieldSet = FieldSet(if Field::ALL.len() == 64 {
        u64::MAX
    } else {
        (1u64 << (Field::ALL.len() as u32 & 63)) - 1
    });

    /// The set of all `names`; `None` when one of them is not a known field.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Option<FieldSet> {
        let mut set = FieldSet::default();
        for name in names {
            set.insert(Field::of(name)?);
        }
        Some(set)
    }

    /// Adds one field.
    pub fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u8;
    }

    /// Whether `field` is in the set.
    pub const fn contains(self, field: Field) -> bool {
        self.0 >> field as u8 & 1 == 1
    }
}

/// One header field as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawField<'a> {
    /// The name without trailing blanks, in its own case.
    pub name: &'a [u8],
    /// What follows the colon, folded, without the last line end.
    pub value: &'a [u8],
    /// The whole field with its line ends.
    pub raw: &'a [u8],
}

/// Iterates over the fields of a header block.
pub fn fields(block: &[u8]) -> Fields<'_> {
    Fields { rest: block }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = RawField<'a>;

    fn next(&mut self) -> Option<RawField<'a>> {
        loop {
            let line_end = line_length(self.rest);
            if strip_line_end(&self.rest[..line_end]).is_empty() {
                self.rest = &[];
                return None;
            }
            let mut end = line_end;
            while matches!(self.rest.get(end), Some(b' ' | b'\t')) {
                end += line_length(&self.rest[end..]);
            }
            let (raw, rest) = self.rest.split_at(end);
            self.rest = rest;
            if let Some((name, value)) = split_field(raw, line_end) {
                return Some(RawField { name, value, raw });
            }
        }
    }
}

/// Name and value of a field whose first line is `line_end` bytes long.
fn split_field(raw: &[u8], line_end: usize) -> Option<(&[u8], &[u8])> {
    let (name, value) = split_name(&raw[..line_end])?;
    Some((name, strip_line_end(&raw[value..])))
}

/// The name at the start of a field's first line, and where the value starts behind the colon.
fn split_name(line: &[u8]) -> Option<(&[u8], usize)> {
    let length = line.iter().position(|&b| b <= b' ' || b == b':' || b == 0x7f)?;
    let (name, rest) = line.split_at(length);
    let blanks = rest.iter().take_while(|b| is_blank(**b)).count();
    let fits = !name.is_empty() && rest.get(blanks) == Some(&b':');
    fits.then_some((name, length + blanks + 1))
}

/// A header as it was told line by line, and where its known fields are.
///
/// Invariants: every line ends with CRLF and none is empty; the known fields are those of
/// [`fields`] over [`Block::bytes`] for which there is a [`Field`], in their order.
#[derive(Clone, Debug, Default)]
pub struct Block {
    bytes: Vec<u8>,
    known: Vec<Place>,
    /// The last line belongs to the last of `known`, and so do its continuations.
    in_known: bool,
}

/// Where in a [`Block`] a known field is.
#[derive(Clone, Copy, Debug)]
struct Place {
    field: Field,
    start: u32,
    value: u32,
    /// Behind its last line end.
    end: u32,
}

impl Block {
    /// Octets that a block takes at most; whoever adds a line sees to it.
    pub(super) const BYTES_MAX: usize = u32::MAX as usize;

    pub(super) fn with_capacity(bytes: usize, fields: usize) -> Block {
        let (bytes, known) = (Vec::with_capacity(bytes), Vec::with_capacity(fields));
        Block { bytes, known, in_known: false }
    }

    /// Adds a line that is not empty, given without its line end.
    pub(super) fn push_line(&mut self, line: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.bytes.extend_from_slice(b"\r\n");
        let end = self.bytes.len() as u32;
        if !matches!(line.first(), Some(b' ' | b'\t')) {
            let known = split_name(line).and_then(|(name, at)| Some((Field::of(name)?, at)));
            self.in_known = known.is_some();
            self.known.extend(known.map(|(field, at)| {
                let value = (start + at) as u32;
                Place { field, start: start as u32, value, end }
            }));
        } else if self.in_known
            && let Some(last) = self.known.last_mut()
        {
            last.end = end;
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.known.clear();
        self.in_known = false;
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// All lines as they stand, with CRLF line ends.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The known fields in their order, each whole with its line ends.
    pub fn known(&self) -> impl Iterator<Item = (Field, &[u8])> {
        let raw = |place: &Place| &self.bytes[place.start as usize..place.end as usize];
        self.known.iter().map(move |place| (place.field, raw(place)))
    }

    /// The values of every `field`, folded.
    pub fn values(&self, field: Field) -> impl Iterator<Item = &[u8]> {
        let of_field = self.known.iter().filter(move |place| place.field == field);
        of_field.map(|place| self.value_at(place))
    }

    fn value_at(&self, place: &Place) -> &[u8] {
        &self.bytes[place.value as usize..place.end as usize - b"\r\n".len()]
    }

    /// The value of the first `field`, folded.
    pub fn value(&self, field: Field) -> Option<&[u8]> {
        self.values(field).next()
    }
}

/// Length of the first line with its line end.
fn line_length(bytes: &[u8]) -> usize {
    memchr(b'\n', bytes).map_or(bytes.len(), |i| i + 1)
}

/// `line` without its CRLF or LF.
pub(crate) fn strip_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

/// `bytes` without blanks and line ends on both sides.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    trim_end(bytes)
}

/// A field value with its line ends removed (the blank that follows each stays) and trimmed.
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = trim(value);
    if memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(i) = memchr(b'\n', rest) {
        out.extend_from_slice(strip_line_end(&rest[..=i]));
        rest = &rest[i + 1..];
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// The value of the first field called `name`, folded.
pub fn find<'a>(block: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    fields(block).find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
}

/// Appends the answer to `BODY[HEADER.FIELDS (names)]`, or to `HEADER.FIELDS.NOT` when `not`: the
/// matching fields in their order, as they stand, and the empty line that ends them.
pub fn select<'n>(
    block: &[u8],
    names: impl IntoIterator<Item = &'n [u8]> + Clone,
    not: bool,
    out: &mut Vec<u8>,
) {
    for field in fields(block) {
        let named = names.clone().into_iter().any(|n| n.eq_ignore_ascii_case(field.name));
        if named != not {
            out.extend_from_slice(field.raw);
            if !field.raw.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterates_over_folded_fields_and_skips_garbage() {
        let block =
            b"From x@y Mon Jan 1 00:00:00 2020\r\nSubject : a\r\n\tb\r\ngarbage\r\nTo:c\n\n\
                      not: seen\r\n";
        let seen: Vec<_> = fields(block).map(|f| (f.name, f.value)).collect();
        let expected: Vec<(&[u8], &[u8])> = vec![(b"Subject", b" a\r\n\tb"), (b"To", b"c")];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_block_knows_the_fields_that_a_walk_over_it_finds() {
        let lines: &[&[u8]] = &[
            b" \tfolded: before any field",
            b"Date: 1",
            b" 2",
            b"\t",
            b"received: x",
            b" To: not a field",
            b"To : a@b",
            b"To\r: c@d\r",
            b"garbage",
            b" of two lines",
            b"Sub ject: x",
            b"Subject\x7f: x",
            b": nameless",
            b"\r",
            b"Subject",
            b"CC:",
        ];
        for first in 0..lines.len() {
            let mut block = Block::default();
            lines[first..].iter().for_each(|line| block.push_line(line));
            let walked = fields(block.bytes())
                .filter_map(|raw| Some((Field::of(raw.name)?, raw.raw, raw.value)));
            let known = block.known().zip(&block.known).map(|((field, raw), place)| {
                assert!(block.values(field).any(|value| value == block.value_at(place)));
                (field, raw, block.value_at(place))
            });
            assert!(known.eq(walked));
            assert_eq!(block.value(Field::Cc), Some(&b""[..]));
            assert_eq!(block.value(Field::Subject), None);
        }
    }

    #[test]
    fn unfold_keeps_the_blank_and_drops_the_line_end() {
        assert_eq!(&*unfold(b" a\r\n\tb\n c \r\n"), b"a\tb c");
    }

    #[test]
    fn every_field_is_found_by_its_own_name() {
        for (i, &field) in Field::ALL.iter().enumerate() {
            assert_eq!(Field::of(field.name().to_uppercase().as_bytes()), Some(field));
            assert_eq!(Field::of_number(i as u8), Some(field));
        }
        assert_eq!(Field::of(b"received"), None);
        assert_eq!(Field::of(&[b'a'; 100]), None);
    }

    #[test]
    fn select_keeps_order_and_ends_with_an_empty_line() {
        let block = b"A: 1\r\nb: 2\r\n 3\r\nC: 4\r\n\r\nbody";
        let mut out = Vec::new();
        select(block, [b"C".as_slice(), b"B"], false, &mut out);
        assert_eq!(out, b"b: 2\r\n 3\r\nC: 4\r\n\r\n");
        out.clear();
        select(block, [b"C".as_slice(), b"B"], true, &mut out);
        assert_eq!(out, b"A: 1\r\n\r\n");
    }

    #[test]
    fn header_without_final_line_end_gets_one_in_a_selection() {
        let mut out = Vec::new();
        select(b"A: 1", [b"a".as_slice()], false, &mut out);
        assert_eq!(out, b"A: 1\r\n\r\n");
    }
}
