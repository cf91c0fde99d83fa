//! Header blocks: field names, iteration, unfolding, and the HEADER.FIELDS selection.
//!
//! Works on any bytes. A line that is neither a field nor a continuation (an mbox `From ` line,
//! garbage) is skipped; the block ends at its first empty line or at the end of the bytes.

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
                match self { $(Field::$name => $text,)* }
            }

            fn of_lower(name: &str) -> Option<Field> {
                match name { $($text => Some(Field::$name),)* _ => None }
            }
        }
    };
}

fields! {
    Date = "date",
    Subject = "subject",
    From = "from",
    Sender = "sender",
    ReplyTo = "reply-to",
    To = "to",
    Cc = "cc",
    Bcc = "bcc",
    MessageId = "message-id",
    InReplyTo = "in-reply-to",
    References = "references",
    ContentType = "content-type",
    ContentTransferEncoding = "content-transfer-encoding",
    ContentDisposition = "content-disposition",
    ContentId = "content-id",
    ContentDescription = "content-description",
    ContentLanguage = "content-language",
    ContentLocation = "content-location",
    ContentMd5 = "content-md5",
    ContentClass = "content-class",
    MimeVersion = "mime-version",
    ListId = "list-id",
    ListPost = "list-post",
    ListUnsubscribe = "list-unsubscribe",
    ListUnsubscribePost = "list-unsubscribe-post",
    ListSubscribe = "list-subscribe",
    ListHelp = "list-help",
    ListArchive = "list-archive",
    ListOwner = "list-owner",
    Priority = "priority",
    XPriority = "x-priority",
    XMsmailPriority = "x-msmail-priority",
    Importance = "importance",
    Precedence = "precedence",
    DeliveredTo = "delivered-to",
    XOriginalTo = "x-original-to",
    EnvelopeTo = "envelope-to",
    ReturnPath = "return-path",
    Newsgroups = "newsgroups",
    FollowupTo = "followup-to",
    MailFollowupTo = "mail-followup-to",
    MailReplyTo = "mail-reply-to",
    DispositionNotificationTo = "disposition-notification-to",
    ReturnReceiptTo = "return-receipt-to",
    AutoSubmitted = "auto-submitted",
    ResentDate = "resent-date",
    ResentFrom = "resent-from",
    ResentTo = "resent-to",
    ResentMessageId = "resent-message-id",
    UserAgent = "user-agent",
    XMailer = "x-mailer",
    Organization = "organization",
    Lines = "lines",
    XLabel = "x-label",
    XDraftInfo = "x-draft-info",
    XK9mailIdentity = "x-k9mail-identity",
    XMozillaDraftInfo = "x-mozilla-draft-info",
    XSpamFlag = "x-spam-flag",
    XUniformTypeIdentifier = "x-uniform-type-identifier",
    XUniversallyUniqueIdentifier = "x-universally-unique-identifier",
    XForwardedMessageId = "x-forwarded-message-id",
    XGmThrid = "x-gm-thrid",
    ThreadTopic = "thread-topic",
    ThreadIndex = "thread-index",
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
        Field::of_lower(std::str::from_utf8(lower).ok()?)
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
    let colon = memchr(b':', &raw[..line_end])?;
    let name = trim_end(&raw[..colon]);
    let fits = !name.is_empty() && name.iter().all(|&b| b > b' ' && b != 0x7f);
    fits.then(|| (name, strip_line_end(&raw[colon + 1..])))
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
