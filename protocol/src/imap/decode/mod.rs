//! The command grammar: RFC 3501 section 9, RFC 9051 section 9, and the extensions that we offer.
//!
//! Takes whole commands as [`super::framing`] delivers them. Invariants: every decoder consumes its
//! input to the end or says what it expected and where; no input recurses deeper than
//! [`SEARCH_DEPTH_MAX`](super::search::SEARCH_DEPTH_MAX); strings are copied out, so that the
//! framer's buffer is free for the next command.
//!
//! | module | says |
//! |---|---|
//! | `token` | atoms, strings, numbers, sets, flags, dates, mailbox names |
//! | `append` | what stands around the messages of APPEND and REPLACE |
//! | `fetch` | FETCH and STORE arguments |
//! | `search` | SEARCH arguments |
//! | `select` | parameters of SELECT and EXAMINE |
//! | `sort` | SORT and THREAD arguments |
//! | `url` | GENURLAUTH, RESETKEY, URLFETCH arguments |
//! | `list` | LIST and STATUS arguments |
//! | `acl`, `quota`, `metadata`, `notify` | arguments of the commands of these names |

mod acl;
mod annotation;
mod append;
mod fetch;
mod list;
mod metadata;
mod notify;
mod quota;
mod search;
mod select;
mod sort;
mod token;
mod url;

use nom::Parser;
use nom::bytes::complete::{tag, tag_no_case, take_while};
use nom::combinator::{cut, opt, rest};
use nom::multi::{many0, many1};
use nom::sequence::{delimited, preceded};

pub use append::AppendText;

use super::command::{Body, Command, Copy, Section, Tag, UidBatches};
use super::mutf7::Mutf7Error;
use super::search::SearchKey;
use token::{
    Reject, Res, astring, atom, expect, mailbox, nstring, set_argument, sp, string, tag_word, utf8,
};

/// Most pairs that ID may have (RFC 2971 section 3.3).
pub const ID_PAIRS_MAX: usize = 30;

/// What the session has agreed on that changes the grammar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// IMAP4rev2 is enabled: mailbox names are UTF-8, not modified UTF-7.
    pub utf8_names: bool,
    /// UTF8=ACCEPT is enabled: SEARCH may name no charset (RFC 6855 section 3).
    pub no_charset: bool,
}

/// Why a command can't be carried out as written. All but `Charset` are answered with BAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// There is no such command.
    UnknownCommand,
    /// Not the grammar.
    Syntax {
        /// What the grammar wants.
        expected: &'static str,
        /// Where, in bytes from the start of the command.
        at: usize,
    },
    /// The mailbox name is not modified UTF-7, or not UTF-8.
    MailboxName(Option<Mutf7Error>),
    /// SEARCH names a charset that we don't know: answer NO with BADCHARSET.
    Charset,
    /// SEARCH names a charset where everything is UTF-8: BAD with BADCHARSET (RFC 5466 section 3.1).
    CharsetForbidden,
}

/// A command that was not understood, with its tag if that much was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Echoed in the answer.
    pub tag: Option<Tag>,
    /// What is wrong.
    pub kind: DecodeErrorKind,
}

impl std::fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownCommand => f.write_str("Unknown command"),
            Self::Syntax { expected, at } => write!(f, "Expected {expected} at byte {at}"),
            Self::MailboxName(Some(error)) => error.fmt(f),
            Self::MailboxName(None) => f.write_str("expected UTF-8 in a mailbox name"),
            Self::Charset => f.write_str("Unknown charset"),
            Self::CharsetForbidden => f.write_str("Strings are UTF-8 here: name no charset"),
        }
    }
}

/// Decodes one command (an [`Event::Command`](super::framing::Event)).
pub fn command(input: &[u8], dialect: Dialect) -> Result<Command, DecodeError> {
    let (after_tag, tag) = match tag_word(input) {
        Ok(ok) => ok,
        Err(error) => return Err(refusal(None, error, input)),
    };
    match body(after_tag, dialect) {
        Ok((_, body)) => Ok(Command { tag, body }),
        Err(error) => Err(refusal(Some(tag), error, input)),
    }
}

/// Whether `text` is APPEND or REPLACE, whose arguments [`AppendText`] reads.
pub fn is_append(text: &[u8]) -> bool {
    let Ok((i, _)) = tag_word(text) else { return false };
    append::name(i).is_ok()
}

/// Decodes the value of a filter, one or more search keys: `search-criteria` of RFC 5466 section 4.
pub fn search_criteria(value: &[u8]) -> Option<Vec<SearchKey>> {
    search::criteria(value).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, keys)| keys)
}

/// Whether a filter may have this name (RFC 5466 section 4).
pub fn is_filter_name(name: &str) -> bool {
    matches!(token::filter_name(name.as_bytes()), Ok((b"", _)))
}

/// Decodes what stands in brackets in `BODY[…]`.
pub fn section(text: &[u8]) -> Option<Section> {
    fetch::section_of_all(text)
}

/// Decodes a date as INTERNALDATE has it, without the quotes, as Unix seconds.
pub fn date_time(text: &[u8]) -> Option<i64> {
    let quoted = [b"\"", text, b"\""].concat();
    let (rest, seconds) = token::date_time(&quoted).ok()?;
    rest.is_empty().then_some(seconds)
}

/// The tag at the start of a command that can't be decoded as a whole.
pub fn tag_of(head: &[u8]) -> Option<Tag> {
    tag_word(head).ok().map(|(_, tag)| tag)
}

fn refusal(tag: Option<Tag>, error: nom::Err<Reject>, input: &[u8]) -> DecodeError {
    let kind = match error {
        nom::Err::Error(reject) | nom::Err::Failure(reject) => reject.kind(input.len()),
        nom::Err::Incomplete(_) => {
            DecodeErrorKind::Syntax { expected: "the rest of the command", at: input.len() }
        }
    };
    DecodeError { tag, kind }
}

fn end(i: &[u8]) -> Res<'_, ()> {
    if i.is_empty() { Ok((i, ())) } else { Err(Reject::error(i, "the end of the command")) }
}

fn body(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, word) = preceded(sp, expect("a command", take_while(is_command_char))).parse(i)?;
    let mut name = word.to_ascii_uppercase();
    let mut i = i;
    let uid = name == b"UID";
    if uid {
        let (after, word) =
            preceded(sp, expect("a command", take_while(is_command_char))).parse(i)?;
        name = word.to_ascii_uppercase();
        i = after;
    }
    let (i, body) = match uid {
        true => uid_command(&name, i, dialect)?,
        false => plain_command(&name, i, dialect)?,
    };
    let (i, body) = match body {
        Some(body) => (i, body),
        None => mailbox_command(&name, uid, i, dialect)?,
    };
    end(i)?;
    Ok((i, body))
}

fn is_command_char(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

/// The commands that take UIDs or sequence numbers; `None` if `name` is not among them.
fn message_command<'a>(
    name: &[u8],
    uid: bool,
    i: &'a [u8],
    dialect: Dialect,
) -> Res<'a, Option<Body>> {
    let (i, body) = match name {
        b"FETCH" => fetch::fetch(i, uid).map(|(i, fetch)| (i, Body::Fetch(fetch)))?,
        b"STORE" => fetch::store(i, uid).map(|(i, store)| (i, Body::Store(store)))?,
        b"SEARCH" => {
            search::search(i, uid, dialect).map(|(i, search)| (i, Body::Search(search)))?
        }
        b"SORT" => sort::sort(i, uid).map(|(i, sort)| (i, Body::Sort(Box::new(sort))))?,
        b"THREAD" => sort::thread(i, uid).map(|(i, thread)| (i, Body::Thread(thread)))?,
        _ => return Ok((i, None)),
    };
    Ok((i, Some(body)))
}

fn uid_command<'a>(name: &[u8], i: &'a [u8], dialect: Dialect) -> Res<'a, Option<Body>> {
    match name {
        b"EXPUNGE" => {
            let (i, set) = preceded(sp, set_argument).parse(i)?;
            Ok((i, Some(Body::UidExpunge(set))))
        }
        _ => message_command(name, true, i, dialect),
    }
}

fn plain_command<'a>(name: &[u8], i: &'a [u8], dialect: Dialect) -> Res<'a, Option<Body>> {
    let (i, body) = match name {
        b"CAPABILITY" => (i, Body::Capability),
        b"NOOP" => (i, Body::Noop),
        b"LOGOUT" => (i, Body::Logout),
        b"STARTTLS" => (i, Body::StartTls),
        b"UNAUTHENTICATE" => (i, Body::Unauthenticate),
        b"COMPRESS" => {
            let (i, algorithm) = preceded(sp, atom).parse(i)?;
            (i, Body::Compress { algorithm: algorithm.to_ascii_uppercase() })
        }
        b"NAMESPACE" => (i, Body::Namespace),
        b"IDLE" => (i, Body::Idle),
        b"CHECK" => (i, Body::Check),
        b"CLOSE" => (i, Body::Close),
        b"UNSELECT" => (i, Body::Unselect),
        b"EXPUNGE" => (i, Body::Expunge),
        b"LOGIN" => login(i)?,
        b"AUTHENTICATE" => authenticate(i)?,
        b"LANGUAGE" => {
            let range = utf8("a language range", astring);
            let (i, ranges) = many0(preceded(sp, range)).parse(i)?;
            (i, Body::Language(ranges))
        }
        b"GENURLAUTH" => url::gen_url_auth(i)?,
        b"URLFETCH" => url::url_fetch(i)?,
        b"RESETKEY" => url::reset_key(i, dialect)?,
        b"ENABLE" => {
            let (i, names) = many1(preceded(sp, atom)).parse(i)?;
            (i, Body::Enable(names.into_iter().map(str::to_ascii_uppercase).collect()))
        }
        b"ID" => id(i)?,
        b"ESEARCH" => {
            search::multi_search(i, dialect).map(|(i, s)| (i, Body::MultiSearch(Box::new(s))))?
        }
        b"CANCELUPDATE" => {
            let (i, tags) = many1(preceded(sp, utf8("a tag", string))).parse(i)?;
            (i, Body::CancelUpdate(tags))
        }
        b"COMPARATOR" => {
            let (i, names) = many0(preceded(sp, utf8("a comparator", astring))).parse(i)?;
            (i, Body::Comparator(names))
        }
        b"UIDBATCHES" => uid_batches(i)?,
        b"LIST" | b"RLIST" => list::list(i, dialect).map(|(i, list)| (i, Body::List(list)))?,
        b"XLIST" => list::xlist(i, dialect).map(|(i, list)| (i, Body::List(list)))?,
        b"LSUB" | b"RLSUB" => list::lsub(i, dialect)?,
        b"SCAN" => list::scan(i, dialect)?,
        b"STATUS" => list::status(i, dialect)?,
        b"NOTIFY" => notify::notify(i, dialect)?,
        b"GETMETADATA" => metadata::get(i, dialect)?,
        b"SETMETADATA" => metadata::set(i, dialect)?,
        b"GETACL" => acl::get(i, dialect)?,
        b"SETACL" => acl::set(i, dialect)?,
        b"DELETEACL" => acl::delete(i, dialect)?,
        b"LISTRIGHTS" => acl::list_rights(i, dialect)?,
        b"MYRIGHTS" => acl::my_rights(i, dialect)?,
        b"GETQUOTA" => quota::get(i, dialect)?,
        b"GETQUOTAROOT" => quota::get_root(i, dialect)?,
        b"SETQUOTA" => quota::set(i, dialect)?,
        _ => return message_command(name, false, i, dialect),
    };
    Ok((i, Some(body)))
}

/// The commands with a mailbox name in them.
fn mailbox_command<'a>(name: &[u8], uid: bool, i: &'a [u8], dialect: Dialect) -> Res<'a, Body> {
    let name_of = |i| preceded(sp, |i| mailbox(i, dialect)).parse(i);
    let copy = |i| -> Res<'a, Copy> {
        let (i, set) = preceded(sp, set_argument).parse(i)?;
        let (i, mailbox) = name_of(i)?;
        Ok((i, Copy { uid, set, mailbox }))
    };
    match (name, uid) {
        (b"COPY", _) => copy(i).map(|(i, copy)| (i, Body::Copy(copy))),
        (b"MOVE", _) => copy(i).map(|(i, copy)| (i, Body::Move(copy))),
        (_, true) => Err(Reject::unknown_command(i)),
        (b"SELECT" | b"EXAMINE", _) => {
            let (i, mailbox) = name_of(i)?;
            let (i, parameters) = opt(preceded(tag(" ("), cut(select::parameters))).parse(i)?;
            let parameters = parameters.unwrap_or_default();
            let read_only = name == b"EXAMINE";
            Ok((i, Body::Select { mailbox, read_only, parameters }))
        }
        (b"CREATE", _) => {
            let (i, mailbox) = name_of(i)?;
            let (i, special_use) = opt(preceded(tag(" ("), cut(use_parameter))).parse(i)?;
            let (i, partition) = partition(i)?;
            let special_use = special_use.unwrap_or_default();
            Ok((i, Body::Create { mailbox, partition, special_use }))
        }
        (b"DELETE", _) => name_of(i).map(|(i, mailbox)| (i, Body::Delete { mailbox })),
        (b"SUBSCRIBE", _) => name_of(i).map(|(i, mailbox)| (i, Body::Subscribe { mailbox })),
        (b"UNSUBSCRIBE", _) => name_of(i).map(|(i, mailbox)| (i, Body::Unsubscribe { mailbox })),
        (b"RENAME", _) => {
            let (i, from) = name_of(i)?;
            let (i, to) = name_of(i)?;
            let (i, partition) = partition(i)?;
            Ok((i, Body::Rename { from, to, partition }))
        }
        (b"APPEND", _) => {
            let (i, _) = name_of(i)?;
            Err(Reject::error(i, "a message literal"))
        }
        _ => Err(Reject::unknown_command(i)),
    }
}

/// The partition that Cyrus's administrators name behind a new mailbox.
fn partition(i: &[u8]) -> Res<'_, Option<String>> {
    opt(preceded(sp, utf8("a partition", astring))).parse(i)
}

/// `2000 1:10`, RFC 10022 section 3.
fn uid_batches(i: &[u8]) -> Res<'_, Body> {
    let (i, size) = preceded(sp, token::number_nonzero).parse(i)?;
    let ends = (token::number_nonzero, expect(":", tag(":")), token::number_nonzero);
    let (i, wanted) = opt(preceded(sp, ends)).parse(i)?;
    let wanted = wanted.map(|(first, _, last)| (first, last));
    Ok((i, Body::UidBatches(UidBatches { size, wanted })))
}

/// `USE (\Sent))`, RFC 6154 section 3.
fn use_parameter(i: &[u8]) -> Res<'_, Vec<String>> {
    let (i, _) = (expect("USE", tag_no_case("USE")), sp).parse(i)?;
    let flag = expect("a special-use attribute", preceded(tag("\\"), atom));
    let (i, uses) =
        delimited(expect("(", tag("(")), nom::multi::separated_list0(sp, flag), tag("))"))
            .parse(i)?;
    Ok((i, uses.into_iter().map(|name| format!("\\{name}")).collect()))
}

fn login(i: &[u8]) -> Res<'_, Body> {
    let (i, user) = preceded(sp, utf8("a user name in UTF-8", astring)).parse(i)?;
    let (i, password) = preceded(sp, astring).parse(i)?;
    Ok((i, Body::Login { user, password }))
}

fn authenticate(i: &[u8]) -> Res<'_, Body> {
    let (i, mechanism) = preceded(sp, atom).parse(i)?;
    let (i, initial) = opt(preceded(sp, rest)).parse(i)?;
    let initial = match initial {
        // Mutt sends a space behind CRAM-MD5 and nothing else.
        None | Some(b"") => None,
        Some(b"=") => Some(Vec::new()),
        Some(text) => Some(base64(text).ok_or(Reject::error(i, "base64"))?),
    };
    Ok((i, Body::Authenticate { mechanism: mechanism.to_ascii_uppercase(), initial }))
}

/// A SASL response, RFC 4648 base64 with padding. `None`: it is not.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn id(i: &[u8]) -> Res<'_, Body> {
    let (i, _) = sp(i)?;
    if let Ok((i, _)) = tag_no_case::<_, _, Reject>("NIL").parse(i) {
        return Ok((i, Body::Id(Vec::new())));
    }
    let pair = (utf8("a field name in UTF-8", string), preceded(sp, nstring));
    let (i, pairs) = delimited(
        expect("( or NIL", tag("(")),
        nom::multi::separated_list0(sp, pair),
        expect(")", tag(")")),
    )
    .parse(i)?;
    if pairs.len() > ID_PAIRS_MAX {
        return Err(Reject::error(i, "at most 30 pairs"));
    }
    let lossy = |value: Option<Vec<u8>>| value.map(|v| String::from_utf8_lossy(&v).into_owned());
    let pairs = pairs.into_iter().map(|(name, value)| (name, lossy(value))).collect();
    Ok((i, Body::Id(pairs)))
}

#[cfg(test)]
mod tests;
