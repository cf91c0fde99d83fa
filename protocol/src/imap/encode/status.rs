//! Status responses, tagged and untagged, with their response codes: RFC 3501 section 7.1.

use super::{flags, print, string};
use crate::imap::command::Tag;
use crate::types::{Keyword, ModSeq, SequenceSet, SystemFlags, Uid, UidValidity};

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

#[cfg(test)]
mod tests {
    use super::super::tests::{tag, written};
    use super::*;

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
}
