//! Responses as bytes: RFC 3501 section 7, RFC 9051 section 7, RFC 4731, 5258, 5819, 7162.
//!
//! Everything appends to a `Vec<u8>`. Invariants: what is written is one well-formed piece of the
//! grammar whatever the values hold (strings that quotes can't carry become literals; texts for
//! people lose control characters), and a line is ended by whoever began it.

use std::io::Write;

use super::command::{StatusItem, Tag};
use super::mutf7;
use super::sort::ThreadNode;
use crate::types::{Keyword, ModSeq, PartialRange, SequenceSet, SystemFlags, Uid, UidValidity};

/// Ranges of one VANISHED line.
const VANISHED_RANGES_MAX: usize = 1000;

/// Longest string that is written in quotes, in bytes; longer ones become literals.
pub const QUOTED_BYTES_MAX: usize = 1000;

/// What a tagged or untagged status response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Not done.
    No,
    /// Not understood.
    Bad,
    /// The connection ends.
    Bye,
    /// The connection is authenticated from the start.
    PreAuth,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::No => "NO",
            Status::Bad => "BAD",
            Status::Bye => "BYE",
            Status::PreAuth => "PREAUTH",
        }
    }
}

/// A response code: what stands in brackets before the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// One that has no arguments, such as `ALREADYEXISTS` (RFC 5530).
    Word(&'static str),
    /// `UIDVALIDITY n`
    UidValidity(UidValidity),
    /// `UIDNEXT n`
    UidNext(Uid),
    /// `UNSEEN n`
    Unseen(u32),
    /// `HIGHESTMODSEQ n`
    HighestModSeq(ModSeq),
    /// `APPENDUID validity uids`
    AppendUid(UidValidity, SequenceSet),
    /// `COPYUID validity sources targets`
    CopyUid(UidValidity, SequenceSet, SequenceSet),
    /// `MODIFIED set`
    Modified(SequenceSet),
    /// `PERMANENTFLAGS (…)`; with `\*` at the end when clients may add keywords.
    PermanentFlags(SystemFlags, Vec<Keyword>, bool),
    /// `BADCHARSET (UTF-8 …)`: the charsets that are known.
    BadCharset(&'static [&'static str]),
    /// `REFERRAL url` (RFC 2221)
    Referral(String),
    /// `URLMECH INTERNAL`: how URLs are authorised (RFC 4467).
    UrlMechanism,
    /// `BADURL url` (RFC 4469)
    BadUrl(String),
    /// `CAPABILITY …`
    Capability(String),
    /// `NOUPDATE "tag"` (RFC 5267)
    NoUpdate(Tag),
    /// `INPROGRESS ("tag" done total)` (RFC 9585)
    InProgress(Option<Tag>, Option<(u64, u64)>),
    /// `MESSAGELIMIT limit uid` (RFC 9738): the lowest UID that was worked on, unless none was.
    MessageLimit(u32, Option<Uid>),
    /// `MAILBOXID (id)` (RFC 8474)
    MailboxId(String),
    /// One that is written as it is, such as `METADATA MAXSIZE 1024`: without control characters
    /// and brackets.
    Text(String),
}

impl Code {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Code::Word(word) => out.extend_from_slice(word.as_bytes()),
            Code::UidValidity(n) => print(out, format_args!("UIDVALIDITY {n}")),
            Code::UidNext(n) => print(out, format_args!("UIDNEXT {n}")),
            Code::Unseen(n) => print(out, format_args!("UNSEEN {n}")),
            Code::HighestModSeq(n) => print(out, format_args!("HIGHESTMODSEQ {n}")),
            Code::AppendUid(v, uids) => print(out, format_args!("APPENDUID {v} {uids}")),
            Code::CopyUid(v, from, to) => print(out, format_args!("COPYUID {v} {from} {to}")),
            Code::Modified(set) => print(out, format_args!("MODIFIED {set}")),
            Code::PermanentFlags(system, keywords, more) => {
                out.extend_from_slice(b"PERMANENTFLAGS ");
                let more = more.then_some("\\*");
                flags(out, *system, keywords, more);
            }
            Code::BadCharset(names) => {
                print(out, format_args!("BADCHARSET ({})", names.join(" ")));
            }
            Code::NoUpdate(tag) => {
                out.extend_from_slice(b"NOUPDATE ");
                string(out, tag.as_str().as_bytes(), false);
            }
            Code::Referral(url) => print(out, format_args!("REFERRAL {url}")),
            Code::UrlMechanism => out.extend_from_slice(b"URLMECH INTERNAL"),
            Code::BadUrl(url) => {
                out.extend_from_slice(b"BADURL ");
                let plain = |b: u8| (b'!'..0x7f).contains(&b) && b != b']';
                out.extend(url.bytes().map(|b| if plain(b) { b } else { b'?' }));
            }
            Code::Capability(list) => print(out, format_args!("CAPABILITY {list}")),
            Code::InProgress(tag, counted) => {
                out.extend_from_slice(b"INPROGRESS (");
                match tag {
                    Some(tag) => string(out, tag.as_str().as_bytes(), false),
                    None => out.extend_from_slice(b"NIL"),
                }
                match counted {
                    Some((done, total)) => print(out, format_args!(" {done} {total})")),
                    None => out.extend_from_slice(b" NIL NIL)"),
                }
            }
            Code::MessageLimit(limit, None) => print(out, format_args!("MESSAGELIMIT {limit}")),
            Code::MessageLimit(limit, Some(uid)) => {
                print(out, format_args!("MESSAGELIMIT {limit} {uid}"));
            }
            Code::MailboxId(id) => print(out, format_args!("MAILBOXID ({id})")),
            Code::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

/// Appends formatted text. Writing to a `Vec` can't fail.
pub fn print(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// A decimal number, faster than by [`print`].
pub fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while n >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&DIGIT_PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    if n > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// `00` to `99`.
const DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// `tag OK [code] text`, with its line end. `None` as tag writes `*`.
pub fn status(
    out: &mut Vec<u8>,
    tag: Option<&Tag>,
    status: Status,
    code: Option<&Code>,
    text: &str,
) {
    begin_status(out, tag, status, code);
    let plain = |b| if (b' '..0x7f).contains(&b) { b } else { b'?' };
    out.extend(text_of_status(text).bytes().map(plain));
    out.extend_from_slice(b"\r\n");
}

/// As [`status`], with a text in UTF-8: for clients that chose a language (RFC 5255 section 3.5).
pub fn status_utf8(
    out: &mut Vec<u8>,
    tag: Option<&Tag>,
    status: Status,
    code: Option<&Code>,
    text: &str,
) {
    begin_status(out, tag, status, code);
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let text: String = text_of_status(text).chars().map(plain).collect();
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn begin_status(out: &mut Vec<u8>, tag: Option<&Tag>, status: Status, code: Option<&Code>) {
    out.extend_from_slice(tag.map_or("*", Tag::as_str).as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    if let Some(code) = code {
        out.push(b'[');
        code.write(out);
        out.extend_from_slice(b"] ");
    }
}

/// resp-text must not be empty, nor begin with a bracket that is no code.
fn text_of_status(text: &str) -> &str {
    let text = text.trim_start_matches('[');
    if text.is_empty() { "-" } else { text }
}

/// `+ text` with its line end.
pub fn continuation(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"+ ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A literal's announcement: its `bytes` bytes have to follow.
pub fn literal_start(out: &mut Vec<u8>, bytes: u64) {
    out.push(b'{');
    number(out, bytes);
    out.extend_from_slice(b"}\r\n");
}

fn quotable(bytes: &[u8], utf8: bool) -> bool {
    let plain = |&b: &u8| (b' '..0x7f).contains(&b) || (utf8 && b >= 0x80) || b == b'\t';
    bytes.len() <= QUOTED_BYTES_MAX
        && bytes.iter().all(plain)
        && (!utf8 || std::str::from_utf8(bytes).is_ok())
}

/// `string`: quoted if it can be, else a literal. `utf8`: rev2, whose quotes carry UTF-8.
pub fn string(out: &mut Vec<u8>, bytes: &[u8], utf8: bool) {
    if !quotable(bytes, utf8) {
        literal_start(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
        return;
    }
    out.push(b'"');
    for &b in bytes {
        if b == b'"' || b == b'\\' {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

/// `nstring`: NIL for nothing.
pub fn nstring(out: &mut Vec<u8>, bytes: Option<&[u8]>, utf8: bool) {
    match bytes {
        Some(bytes) => string(out, bytes, utf8),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `astring`: bare where it can be.
pub fn astring(out: &mut Vec<u8>, bytes: &[u8], utf8: bool) {
    let bare = |b: &u8| *b > b' ' && *b < 0x7f && !b"(){%*\"\\]".contains(b);
    if !bytes.is_empty() && bytes.iter().all(bare) && !bytes.eq_ignore_ascii_case(b"NIL") {
        out.extend_from_slice(bytes);
    } else {
        string(out, bytes, utf8);
    }
}

/// A mailbox name (UTF-8 inside) as the session writes it: modified UTF-7, or in rev2 as it is.
pub fn mailbox(out: &mut Vec<u8>, name: &str, utf8: bool) {
    if utf8 {
        astring(out, name.as_bytes(), true);
    } else {
        astring(out, mutf7::encode(name).as_bytes(), false);
    }
}

/// `(\Seen $Forwarded)`; `last` is one more flag such as `\Recent`.
pub fn flags<'k>(
    out: &mut Vec<u8>,
    system: SystemFlags,
    keywords: impl IntoIterator<Item = &'k Keyword>,
    last: Option<&'k str>,
) {
    out.push(b'(');
    let start = out.len();
    let named = SystemFlags::NAMES.iter().filter(|(flag, _)| system.contains(*flag));
    let names = named.map(|(_, name)| *name);
    for name in names.chain(keywords.into_iter().map(Keyword::as_str)).chain(last) {
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b')');
}

/// A set of ascending numbers in its shortest form.
pub fn set(out: &mut Vec<u8>, ascending: impl IntoIterator<Item = u32>) {
    print(out, format_args!("{}", SequenceSet::from_ascending(ascending)));
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `"17-Jul-1996 02:44:25 +0000"`. Times that no `date-time` can hold read as the epoch.
pub fn date_time(out: &mut Vec<u8>, unix_seconds: i64) {
    let at = time::OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .filter(|at| (0..=9999).contains(&at.year()))
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let month = MONTHS[usize::from(u8::from(at.month())) - 1];
    let (day, year) = (at.day(), at.year());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    print(
        out,
        format_args!("\"{day:02}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} +0000\""),
    );
}

/// One LIST or LSUB line.
#[derive(Clone, Debug, Default)]
pub struct ListLine<'a> {
    /// `LSUB` instead of `LIST`.
    pub lsub: bool,
    /// `XLIST` instead of `LIST`.
    pub xlist: bool,
    /// Attributes with their backslash, in order.
    pub attributes: Vec<&'a str>,
    /// The mailbox.
    pub name: &'a str,
    /// CHILDINFO ("SUBSCRIBED"): a child matched though the name itself does not.
    pub child_info: bool,
    /// OLDNAME, what the mailbox was called before (rev2).
    pub old_name: Option<&'a str>,
}

/// Writes a LIST line. The separator is `/`.
pub fn list(out: &mut Vec<u8>, line: &ListLine<'_>, utf8: bool) {
    let word: &[u8] = match (line.lsub, line.xlist) {
        (true, _) => b"* LSUB (",
        (_, true) => b"* XLIST (",
        _ => b"* LIST (",
    };
    out.extend_from_slice(word);
    out.extend_from_slice(line.attributes.join(" ").as_bytes());
    out.extend_from_slice(b") \"/\" ");
    mailbox(out, line.name, utf8);
    if line.child_info {
        out.extend_from_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    }
    if let Some(old) = line.old_name {
        out.extend_from_slice(b" (\"OLDNAME\" (");
        mailbox(out, old, utf8);
        out.extend_from_slice(b"))");
    }
    out.extend_from_slice(b"\r\n");
}

/// What STATUS tells of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusValue {
    /// A number.
    Number(u64),
    /// An id, in parentheses.
    Id(String),
}

/// `* STATUS name (ITEM value …)`
pub fn mailbox_status(
    out: &mut Vec<u8>,
    name: &str,
    items: impl IntoIterator<Item = (StatusItem, StatusValue)>,
    utf8: bool,
) {
    out.extend_from_slice(b"* STATUS ");
    mailbox(out, name, utf8);
    out.extend_from_slice(b" (");
    for (i, (item, value)) in items.into_iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        print(out, format_args!("{space}{} ", status_item(item)));
        match value {
            StatusValue::Number(value) => number(out, value),
            StatusValue::Id(id) => print(out, format_args!("({id})")),
        }
    }
    out.extend_from_slice(b")\r\n");
}

fn status_item(item: StatusItem) -> &'static str {
    match item {
        StatusItem::Messages => "MESSAGES",
        StatusItem::Recent => "RECENT",
        StatusItem::UidNext => "UIDNEXT",
        StatusItem::UidValidity => "UIDVALIDITY",
        StatusItem::Unseen => "UNSEEN",
        StatusItem::Deleted => "DELETED",
        StatusItem::DeletedStorage => "DELETED-STORAGE",
        StatusItem::Size => "SIZE",
        StatusItem::HighestModSeq => "HIGHESTMODSEQ",
        StatusItem::AppendLimit => "APPENDLIMIT",
        StatusItem::MailboxId => "MAILBOXID",
    }
}

/// `* ID ("name" "value" …)`, RFC 2971 section 3.2; NIL for no pairs.
pub fn id<'a>(out: &mut Vec<u8>, pairs: impl IntoIterator<Item = (&'a str, &'a str)>, utf8: bool) {
    out.extend_from_slice(b"* ID ");
    let mut opening = b'(';
    for (name, value) in pairs {
        out.push(std::mem::replace(&mut opening, b' '));
        string(out, name.as_bytes(), utf8);
        out.push(b' ');
        string(out, value.as_bytes(), utf8);
    }
    out.extend_from_slice(if opening == b'(' { b"NIL\r\n" } else { b")\r\n" });
}

/// What one ESEARCH response tells; absent parts are not written.
#[derive(Clone, Debug, Default)]
pub struct ESearch {
    /// The mailbox's name as [`mailbox`] writes it, where several are searched (RFC 7377).
    pub mailbox: Option<(Vec<u8>, UidValidity)>,
    /// The numbers are UIDs.
    pub uid: bool,
    /// The least match.
    pub min: Option<u32>,
    /// The greatest match.
    pub max: Option<u32>,
    /// How many match.
    pub count: Option<u32>,
    /// All matches; an empty set is not written.
    pub all: Option<SequenceSet>,
    /// A window and the matches in it (RFC 9394).
    pub partial: Option<(PartialRange, SequenceSet)>,
    /// The highest MODSEQ among what is told.
    pub modseq: Option<ModSeq>,
    /// Scores of 1 to 100 for all matches, in their order (RFC 6203).
    pub relevancy: Option<Vec<u8>>,
}

/// `* ESEARCH (TAG "t") UID MIN 1 … ALL 1:3`, RFC 4731 section 3.1.
pub fn esearch(out: &mut Vec<u8>, tag: &Tag, result: &ESearch) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    string(out, tag.as_str().as_bytes(), false);
    if let Some((name, uid_validity)) = &result.mailbox {
        out.extend_from_slice(b" MAILBOX ");
        out.extend_from_slice(name);
        print(out, format_args!(" UIDVALIDITY {uid_validity}"));
    }
    out.push(b')');
    if result.uid {
        out.extend_from_slice(b" UID");
    }
    let numbers = [("MIN", result.min), ("MAX", result.max), ("COUNT", result.count)];
    for (name, value) in numbers {
        if let Some(value) = value {
            print(out, format_args!(" {name} {value}"));
        }
    }
    if let Some(set) = result.all.as_ref().filter(|set| !set.ranges.is_empty()) {
        print(out, format_args!(" ALL {set}"));
    }
    if let Some((range, set)) = &result.partial {
        if set.ranges.is_empty() {
            print(out, format_args!(" PARTIAL ({range} NIL)"));
        } else {
            print(out, format_args!(" PARTIAL ({range} {set})"));
        }
    }
    if let Some(modseq) = result.modseq {
        print(out, format_args!(" MODSEQ {modseq}"));
    }
    if let Some(scores) = &result.relevancy {
        out.extend_from_slice(b" RELEVANCY (");
        for (i, score) in scores.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            number(out, u64::from(*score));
        }
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// `* ESEARCH (TAG "t") UID ADDTO (0 32768:32769)`, RFC 5267 section 4.3: positions, each with what
/// comes there; or REMOVEFROM.
pub fn context_update(
    out: &mut Vec<u8>,
    tag: &Tag,
    uid: bool,
    what: &str,
    pairs: &[(u32, SequenceSet)],
) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    string(out, tag.as_str().as_bytes(), false);
    print(out, format_args!(") {}{what} (", if uid { "UID " } else { "" }));
    for (i, (position, set)) in pairs.iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        print(out, format_args!("{space}{position} {set}"));
    }
    out.extend_from_slice(b")\r\n");
}

/// `M6d99ac32`: an object id (RFC 8474 section 3) of a letter that tells the kind, and hexadecimal
/// digits.
pub fn object_id(out: &mut Vec<u8>, kind: u8, id: &[u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(kind);
    out.extend(id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|n| DIGITS[usize::from(n)]));
}

/// `* UIDBATCHES (TAG "A143") 215295:99696,99695:1`: ranges from the highest UID to the lowest.
pub fn uid_batches(out: &mut Vec<u8>, tag: &Tag, descending: &[(u32, u32)]) {
    out.extend_from_slice(b"* UIDBATCHES (TAG ");
    string(out, tag.as_str().as_bytes(), false);
    out.push(b')');
    for (i, (high, low)) in descending.iter().enumerate() {
        out.push(if i == 0 { b' ' } else { b',' });
        number(out, u64::from(*high));
        out.push(b':');
        number(out, u64::from(*low));
    }
    out.extend_from_slice(b"\r\n");
}

/// `* VANISHED 405,407`, or with `(EARLIER)`: RFC 7162 section 3.2.10. In lines of bounded length.
pub fn vanished(out: &mut Vec<u8>, earlier: bool, ranges: &[(u32, u32)]) {
    for some in ranges.chunks(VANISHED_RANGES_MAX) {
        out.extend_from_slice(if earlier { b"* VANISHED (EARLIER) " } else { b"* VANISHED " });
        for (i, &(first, last)) in some.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            number(out, u64::from(first));
            if last > first {
                out.push(b':');
                number(out, u64::from(last));
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// `* SEARCH 1 2 3 (MODSEQ n)`
pub fn search(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>, modseq: Option<ModSeq>) {
    found(out, b"* SEARCH", numbers, modseq);
}

fn found(
    out: &mut Vec<u8>,
    what: &[u8],
    numbers: impl IntoIterator<Item = u32>,
    modseq: Option<ModSeq>,
) {
    out.extend_from_slice(what);
    for n in numbers {
        out.push(b' ');
        number(out, u64::from(n));
    }
    if let Some(modseq) = modseq {
        print(out, format_args!(" (MODSEQ {modseq})"));
    }
    out.extend_from_slice(b"\r\n");
}

/// `* SORT 5 3 4 (MODSEQ n)`, RFC 5256 and RFC 7162 section 3.1.6.
pub fn sort(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>, modseq: Option<ModSeq>) {
    found(out, b"* SORT", numbers, modseq);
}

/// A parent whose children are being written.
struct OpenThread {
    left: u32,
    /// Each child has parentheses of its own.
    splits: bool,
    /// It stands in parentheses.
    enclosed: bool,
    /// A blank comes before its first child's parenthesis.
    blank: bool,
}

/// `* THREAD (2)(3 6 (4 23)(44 7 96))`. However deep threads are, the stack is not.
pub fn threads(out: &mut Vec<u8>, nodes: impl IntoIterator<Item = ThreadNode<u32>>) {
    out.extend_from_slice(b"* THREAD");
    let mut open: Vec<OpenThread> = Vec::new();
    let mut is_first = true;
    for node in nodes {
        let enclosed = open.last().is_none_or(|parent| parent.splits);
        let blank = match open.last_mut() {
            None => std::mem::take(&mut is_first),
            Some(parent) if parent.splits => std::mem::take(&mut parent.blank),
            Some(_) => true,
        };
        if blank {
            out.push(b' ');
        }
        if enclosed {
            out.push(b'(');
        }
        if let Some(n) = node.message {
            number(out, u64::from(n));
        }
        if node.children > 0 {
            let (left, splits) = (node.children, node.children > 1 || node.message.is_none());
            open.push(OpenThread { left, splits, enclosed, blank: node.message.is_some() });
            continue;
        }
        if enclosed {
            out.push(b')');
        }
        while let Some(parent) = open.last_mut() {
            parent.left -= 1;
            if parent.left > 0 {
                break;
            }
            if parent.enclosed {
                out.push(b')');
            }
            open.pop();
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;
    use crate::imap::command::{AppendItem, AppendOptions, Body};
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn tag() -> Tag {
        decode::tag_of(b"A282 ").unwrap()
    }

    #[test]
    fn status_responses_and_codes() {
        let line =
            |code: Code| written(|out| status(out, Some(&tag()), Status::Ok, Some(&code), "Done"));
        let set = |numbers: &[u32]| SequenceSet::from_ascending(numbers.iter().copied());
        for (code, text) in [
            (Code::Word("READ-WRITE"), "READ-WRITE"),
            (
                Code::CopyUid(UidValidity(38505), set(&[304, 319, 320]), set(&[3956, 3957, 3958])),
                "COPYUID 38505 304,319:320 3956:3958",
            ),
            (Code::AppendUid(UidValidity(1), set(&[4])), "APPENDUID 1 4"),
            (
                Code::PermanentFlags(SystemFlags::DELETED, vec![], true),
                "PERMANENTFLAGS (\\Deleted \\*)",
            ),
            (Code::BadCharset(&["UTF-8"]), "BADCHARSET (UTF-8)"),
            (Code::Modified(set(&[7, 9])), "MODIFIED 7,9"),
            (Code::InProgress(Some(tag()), Some((454, 1000))), "INPROGRESS (\"A282\" 454 1000)"),
            (Code::InProgress(None, None), "INPROGRESS (NIL NIL NIL)"),
            (Code::MessageLimit(1000, Some(Uid(23221))), "MESSAGELIMIT 1000 23221"),
            (Code::MessageLimit(1000, None), "MESSAGELIMIT 1000"),
        ] {
            assert_eq!(line(code), format!("A282 OK [{text}] Done\r\n"));
        }
        let hostile = written(|out| status(out, None, Status::Bye, None, "[x\r\n* OK é"));
        assert_eq!(hostile, "* BYE x??* OK ??\r\n");
        let utf8 = written(|out| status_utf8(out, None, Status::No, None, "[é\r\n* OK ü"));
        assert_eq!(utf8, "* NO é??* OK ü\r\n");
    }

    #[test]
    fn strings_take_the_form_that_can_carry_them() {
        assert_eq!(written(|out| string(out, b"a\"b\\", false)), r#""a\"b\\""#);
        assert_eq!(written(|out| string(out, "é".as_bytes(), false)), "{2}\r\né");
        assert_eq!(written(|out| string(out, "é".as_bytes(), true)), "\"é\"");
        assert_eq!(written(|out| string(out, b"a\nb", true)), "{3}\r\na\nb");
        let long = vec![b'x'; QUOTED_BYTES_MAX];
        assert!(written(|out| string(out, &long, false)).starts_with('"'));
        let longer = vec![b'x'; QUOTED_BYTES_MAX + 1];
        assert!(written(|out| string(out, &longer, false)).starts_with("{1001}"));
        assert_eq!(written(|out| astring(out, b"INBOX", false)), "INBOX");
        assert_eq!(written(|out| astring(out, b"nil", false)), "\"nil\"");
        assert_eq!(written(|out| astring(out, b"", false)), "\"\"");
        assert_eq!(written(|out| nstring(out, None, false)), "NIL");
    }

    #[test]
    fn list_status_search_lines() {
        let line = ListLine {
            attributes: vec!["\\NonExistent", "\\HasChildren"],
            name: "Entwürfe/x y",
            child_info: true,
            ..ListLine::default()
        };
        assert_eq!(
            written(|out| list(out, &line, false)),
            "* LIST (\\NonExistent \\HasChildren) \"/\" \"Entw&APw-rfe/x y\" \
             (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"
        );
        let renamed = ListLine { name: "new", old_name: Some("öld"), ..ListLine::default() };
        assert_eq!(
            written(|out| list(out, &renamed, true)),
            "* LIST () \"/\" new (\"OLDNAME\" (\"öld\"))\r\n"
        );
        let number = StatusValue::Number;
        let items = [(StatusItem::Messages, number(231)), (StatusItem::UidNext, number(44292))];
        assert_eq!(
            written(|out| mailbox_status(out, "blurdybloop", items, false)),
            "* STATUS blurdybloop (MESSAGES 231 UIDNEXT 44292)\r\n"
        );
        let id = [(StatusItem::MailboxId, StatusValue::Id("F2212ea87".into()))];
        assert_eq!(
            written(|out| mailbox_status(out, "foo", id, false)),
            "* STATUS foo (MAILBOXID (F2212ea87))\r\n"
        );
        let result = ESearch {
            uid: true,
            min: Some(7),
            max: Some(3800),
            count: Some(15),
            modseq: Some(ModSeq(9)),
            ..ESearch::default()
        };
        assert_eq!(
            written(|out| esearch(out, &tag(), &result)),
            "* ESEARCH (TAG \"A282\") UID MIN 7 MAX 3800 COUNT 15 MODSEQ 9\r\n"
        );
        assert_eq!(
            written(|out| search(out, [2, 84, 882], Some(ModSeq(5)))),
            "* SEARCH 2 84 882 (MODSEQ 5)\r\n"
        );
        assert_eq!(written(|out| search(out, [], None)), "* SEARCH\r\n");
    }

    /// RFC 5256, BASE.7.2.THREAD.
    #[test]
    fn threads_nest_as_in_the_rfc() {
        let node = |n: u32, children| ThreadNode { message: (n > 0).then_some(n), children };
        let told = [(2, 0), (3, 1), (6, 2), (4, 1), (23, 0), (44, 1), (7, 1), (96, 0)];
        let told = told.map(|(n, children)| node(n, children));
        assert_eq!(written(|out| threads(out, told)), "* THREAD (2)(3 6 (4 23)(44 7 96))\r\n");
        let siblings = [node(0, 2), node(3, 0), node(5, 0)];
        assert_eq!(written(|out| threads(out, siblings)), "* THREAD ((3)(5))\r\n");
        assert_eq!(written(|out| threads(out, [])), "* THREAD\r\n");
        let deep = (1..=200_000).map(|n| node(n, u32::from(n < 200_000)));
        assert!(written(|out| threads(out, deep)).ends_with(" 200000)\r\n"));
        assert_eq!(written(|out| sort(out, [5, 3, 4], None)), "* SORT 5 3 4\r\n");
    }

    #[test]
    fn batches_and_windows() {
        let batches = [(215295, 99696), (99695, 20351), (20350, 7830), (7829, 1)];
        assert_eq!(
            written(|out| uid_batches(out, &tag(), &batches)),
            "* UIDBATCHES (TAG \"A282\") 215295:99696,99695:20351,20350:7830,7829:1\r\n"
        );
        assert_eq!(written(|out| uid_batches(out, &tag(), &[])), "* UIDBATCHES (TAG \"A282\")\r\n");
        let range = PartialRange { from_end: true, first: 1, last: 100 };
        let window = |numbers: &[u32]| {
            let set = SequenceSet::from_ascending(numbers.iter().copied());
            let partial = Some((range, set));
            let result = ESearch { uid: true, partial, ..ESearch::default() };
            written(|out| esearch(out, &tag(), &result))
        };
        let start = "* ESEARCH (TAG \"A282\") UID PARTIAL (-1:-100";
        assert_eq!(window(&[4, 5, 9]), format!("{start} 4:5,9)\r\n"));
        assert_eq!(window(&[]), format!("{start} NIL)\r\n"));
    }

    #[test]
    fn vanished_lines() {
        let line = |earlier, ranges: &[_]| written(|out| vanished(out, earlier, ranges));
        assert_eq!(line(false, &[(405, 405), (407, 410)]), "* VANISHED 405,407:410\r\n");
        assert_eq!(line(true, &[(300, 310)]), "* VANISHED (EARLIER) 300:310\r\n");
        assert_eq!(line(true, &[]), "");
        let many: Vec<_> = (1..=VANISHED_RANGES_MAX as u32 + 1).map(|n| (2 * n, 2 * n)).collect();
        let lines = line(true, &many);
        assert_eq!(lines.matches("* VANISHED (EARLIER) ").count(), 2);
        assert!(lines.ends_with("* VANISHED (EARLIER) 2002\r\n"), "{lines}");
    }

    #[test]
    fn id_lines() {
        let pairs = [("name", "Cursus"), ("os", "Bäume")];
        assert_eq!(
            written(|out| id(out, pairs, true)),
            "* ID (\"name\" \"Cursus\" \"os\" \"Bäume\")\r\n"
        );
        assert_eq!(
            written(|out| id(out, pairs, false)),
            "* ID (\"name\" \"Cursus\" \"os\" {6}\r\nBäume)\r\n"
        );
        assert_eq!(written(|out| id(out, [], false)), "* ID NIL\r\n");
    }

    #[test]
    fn dates_are_written_as_read() {
        let text = written(|out| date_time(out, 837_596_665));
        assert_eq!(text, "\"17-Jul-1996 09:44:25 +0000\"");
        assert_eq!(written(|out| date_time(out, i64::MAX)), "\"01-Jan-1970 00:00:00 +0000\"");
    }

    proptest! {
        #[test]
        fn strings_decode_to_themselves(bytes in prop::collection::vec(1u8.., 0..40), utf8: bool) {
            let mut input = b"t LOGIN x ".to_vec();
            astring(&mut input, &bytes, utf8);
            let body = decode::command(&input, decode::Dialect::default()).unwrap().body;
            prop_assert_eq!(body, Body::Login { user: "x".into(), password: bytes });
        }

        #[test]
        fn mailbox_names_decode_to_themselves(name in "[^\0]{1,20}", utf8_names: bool) {
            prop_assume!(!name.to_ascii_uppercase().starts_with("INBOX"));
            let mut input = b"t DELETE ".to_vec();
            mailbox(&mut input, &name, utf8_names);
            let body = decode::command(&input, decode::Dialect { utf8_names }).unwrap().body;
            prop_assert_eq!(body, Body::Delete { mailbox: name });
        }

        #[test]
        fn dates_decode_to_themselves(seconds in 0i64..250_000_000_000) {
            let mut input = b"t APPEND x ".to_vec();
            date_time(&mut input, seconds);
            input.push(b' ');
            let read = decode::AppendText::begin(&input, true, decode::Dialect::default());
            let (_, _, items) = read.unwrap();
            let options = AppendOptions { internal_date: Some(seconds), ..Default::default() };
            prop_assert_eq!(&items[0], &AppendItem::Message(options));
        }

        #[test]
        fn numbers_are_decimal(n: u64, shift in 0..64) {
            let n = n >> shift;
            prop_assert_eq!(written(|out| number(out, n)), n.to_string());
        }
    }
}
