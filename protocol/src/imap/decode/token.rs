//! What commands are made of: atoms, strings, numbers, sets, flags, dates, mailbox names.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, tag_no_case, take, take_while_m_n, take_while1};
use nom::character::complete::{char, digit1};
use nom::combinator::{map, opt, value};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{separated_list0, separated_list1};
use nom::sequence::{delimited, preceded, separated_pair};

use super::super::command::{Flags, SetArgument, Tag};
use super::super::mutf7::{self, Mutf7Error};
use super::super::search::Date;
use super::{DecodeErrorKind, Dialect};
use crate::types::{Keyword, ModSeq, PartialRange, SequenceSet, SetRange, SetValue, SystemFlags};

pub(super) type Res<'a, T> = nom::IResult<&'a [u8], T, Reject>;

/// Where decoding stopped and why. Among alternatives the one that got furthest is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reject {
    /// Bytes that were left then.
    left: usize,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Expected(&'static str),
    UnknownCommand,
    MailboxName(Option<Mutf7Error>),
    Charset,
    CharsetForbidden,
}

impl Reject {
    pub(super) fn error(i: &[u8], expected: &'static str) -> nom::Err<Reject> {
        nom::Err::Error(Reject { left: i.len(), why: Why::Expected(expected) })
    }

    /// An error that no alternative can mend.
    fn failure(i: &[u8], expected: &'static str) -> nom::Err<Reject> {
        nom::Err::Failure(Reject { left: i.len(), why: Why::Expected(expected) })
    }

    pub(super) fn unknown_command(i: &[u8]) -> nom::Err<Reject> {
        nom::Err::Failure(Reject { left: i.len(), why: Why::UnknownCommand })
    }

    pub(super) fn charset(i: &[u8]) -> nom::Err<Reject> {
        nom::Err::Failure(Reject { left: i.len(), why: Why::Charset })
    }

    pub(super) fn charset_forbidden(i: &[u8]) -> nom::Err<Reject> {
        nom::Err::Failure(Reject { left: i.len(), why: Why::CharsetForbidden })
    }

    fn mailbox_name(i: &[u8], error: Option<Mutf7Error>) -> nom::Err<Reject> {
        nom::Err::Failure(Reject { left: i.len(), why: Why::MailboxName(error) })
    }

    pub(super) fn kind(self, total: usize) -> DecodeErrorKind {
        match self.why {
            Why::Expected(expected) => {
                DecodeErrorKind::Syntax { expected, at: total.saturating_sub(self.left) }
            }
            Why::UnknownCommand => DecodeErrorKind::UnknownCommand,
            Why::MailboxName(error) => DecodeErrorKind::MailboxName(error),
            Why::Charset => DecodeErrorKind::Charset,
            Why::CharsetForbidden => DecodeErrorKind::CharsetForbidden,
        }
    }
}

impl ParseError<&[u8]> for Reject {
    fn from_error_kind(i: &[u8], _: ErrorKind) -> Reject {
        Reject { left: i.len(), why: Why::Expected("other arguments") }
    }

    fn append(_: &[u8], _: ErrorKind, inner: Reject) -> Reject {
        inner
    }

    fn or(self, other: Reject) -> Reject {
        if other.left <= self.left { other } else { self }
    }
}

/// Names what `parser` wanted when it fails at its first byte.
pub(super) fn expect<'a, T>(
    expected: &'static str,
    mut parser: impl Parser<&'a [u8], Output = T, Error = Reject>,
) -> impl FnMut(&'a [u8]) -> Res<'a, T> {
    move |i| match parser.parse(i) {
        Err(nom::Err::Error(reject)) if reject.left == i.len() => Err(Reject::error(i, expected)),
        other => other,
    }
}

pub(super) fn sp(i: &[u8]) -> Res<'_, char> {
    expect("a space", char(' ')).parse(i)
}

fn is_atom_char(b: u8) -> bool {
    b > b' ' && b < 0x7f && !b"(){%*\"\\]".contains(&b)
}

fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']'
}

fn ascii(bytes: &[u8]) -> &str {
    // Callers pass only bytes that a `take_while` has seen to be ASCII.
    std::str::from_utf8(bytes).unwrap_or_default()
}

pub(super) fn tag_word(i: &[u8]) -> Res<'_, Tag> {
    let tag_char = |b| is_astring_char(b) && b != b'+';
    let (i, word) = expect("a tag", take_while_m_n(1, Tag::BYTES_MAX, tag_char)).parse(i)?;
    Ok((i, Tag(ascii(word).to_owned())))
}

pub(super) fn atom(i: &[u8]) -> Res<'_, &str> {
    expect("an atom", map(take_while1(is_atom_char), ascii)).parse(i)
}

/// The name of a filter (RFC 5466 section 4).
pub(super) fn filter_name(i: &[u8]) -> Res<'_, &str> {
    let is_name_char = |b| is_atom_char(b) && b != b'/';
    expect("a filter's name", map(take_while1(is_name_char), ascii)).parse(i)
}

/// Longest object id, in bytes (RFC 8474 section 7).
const OBJECT_ID_BYTES_MAX: usize = 255;

pub(super) fn object_id(i: &[u8]) -> Res<'_, String> {
    let is_id_char = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let id = take_while_m_n(1, OBJECT_ID_BYTES_MAX, is_id_char);
    expect("an object id", map(id, |id| ascii(id).to_owned())).parse(i)
}

/// The word at the start, in upper case: letters, digits and dots.
pub(super) fn keyword_upper(i: &[u8]) -> Res<'_, String> {
    let word = take_while1(|b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    expect("a name", map(word, |w| ascii(w).to_ascii_uppercase())).parse(i)
}

fn quoted(i: &[u8]) -> Res<'_, Vec<u8>> {
    let (mut i, _) = char('"').parse(i)?;
    let mut out = Vec::new();
    loop {
        if let Ok((after, run)) = is_not::<_, _, Reject>(&b"\"\\\r\n\0"[..]).parse(i) {
            out.extend_from_slice(run);
            i = after;
        }
        match i {
            [b'"', after @ ..] => return Ok((after, out)),
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                out.push(*escaped);
                i = after;
            }
            _ => return Err(Reject::error(i, "the closing quote")),
        }
    }
}

fn literal(i: &[u8]) -> Res<'_, Vec<u8>> {
    let (i, _) = char('{').parse(i)?;
    let (i, bytes) = number64(i)?;
    let (i, _) = (opt(char('+')), expect("}", char('}')), opt(char('\r')), char('\n')).parse(i)?;
    let (i, value) = expect("the whole literal", take(bytes)).parse(i)?;
    if value.contains(&0) {
        return Err(Reject::error(i, "a literal without NUL"));
    }
    Ok((i, value.to_vec()))
}

/// `~{n}` of RFC 3516: NUL is allowed.
pub(super) fn literal8(i: &[u8]) -> Res<'_, Vec<u8>> {
    let (i, _) = (char('~'), char('{')).parse(i)?;
    let (i, bytes) = number64(i)?;
    let (i, _) = (opt(char('+')), expect("}", char('}')), opt(char('\r')), char('\n')).parse(i)?;
    let (i, value) = expect("the whole literal", take(bytes)).parse(i)?;
    Ok((i, value.to_vec()))
}

pub(super) fn string(i: &[u8]) -> Res<'_, Vec<u8>> {
    expect("a string", alt((quoted, literal))).parse(i)
}

pub(super) fn astring(i: &[u8]) -> Res<'_, Vec<u8>> {
    let bare = map(take_while1(is_astring_char), <[u8]>::to_vec);
    expect("an atom or a string", alt((bare, quoted, literal))).parse(i)
}

pub(super) fn nstring(i: &[u8]) -> Res<'_, Option<Vec<u8>>> {
    expect("NIL or a string", alt((value(None, tag_no_case("NIL")), map(string, Some)))).parse(i)
}

/// `parser`'s bytes as UTF-8.
pub(super) fn utf8<'a>(
    expected: &'static str,
    mut parser: impl Parser<&'a [u8], Output = Vec<u8>, Error = Reject>,
) -> impl FnMut(&'a [u8]) -> Res<'a, String> {
    move |i| {
        let (rest, bytes) = parser.parse(i)?;
        let text = String::from_utf8(bytes).map_err(|_| Reject::error(i, expected))?;
        Ok((rest, text))
    }
}

pub(super) fn number64(i: &[u8]) -> Res<'_, u64> {
    let (rest, digits) = expect("a number", digit1).parse(i)?;
    let number = ascii(digits).parse().ok().filter(|n| *n <= i64::MAX as u64);
    number.map(|n| (rest, n)).ok_or(Reject::error(i, "a number below 2^63"))
}

pub(super) fn number_nonzero(i: &[u8]) -> Res<'_, u32> {
    let (rest, number) = number64(i)?;
    let number = u32::try_from(number).ok().filter(|n| *n > 0);
    number.map(|n| (rest, n)).ok_or(Reject::error(i, "a number from 1 to 4294967295"))
}

pub(super) fn modseq(i: &[u8]) -> Res<'_, ModSeq> {
    map(number64, ModSeq).parse(i)
}

pub(super) fn sequence_set(i: &[u8]) -> Res<'_, SequenceSet> {
    let number = || alt((value(SetValue::Star, char('*')), map(number_nonzero, SetValue::Number)));
    let range = map((number(), opt(preceded(char(':'), number()))), |(first, last)| SetRange {
        first,
        last: last.unwrap_or(first),
    });
    let ranges = expect("a sequence set", separated_list1(char(','), range));
    map(ranges, |ranges| SequenceSet { ranges }).parse(i)
}

/// `1:500` or `-1:-500` of PARTIAL.
pub(super) fn partial_range(i: &[u8]) -> Res<'_, PartialRange> {
    let from_end = i.first() == Some(&b'-');
    let (i, first) = place(i, from_end)?;
    let (i, _) = expect(":", char(':')).parse(i)?;
    let (i, last) = place(i, from_end)?;
    Ok((i, PartialRange { from_end, first, last }))
}

/// A number of PARTIAL, with a minus where it counts from the end.
fn place(i: &[u8], from_end: bool) -> Res<'_, u32> {
    if from_end { preceded(char('-'), number_nonzero).parse(i) } else { number_nonzero(i) }
}

pub(super) fn set_argument(i: &[u8]) -> Res<'_, SetArgument> {
    let saved = value(SetArgument::Saved, char('$'));
    expect("a sequence set", alt((saved, map(sequence_set, SetArgument::Set)))).parse(i)
}

enum OneFlag {
    System(SystemFlags),
    Recent,
    Keyword(Keyword),
}

fn flag(i: &[u8]) -> Res<'_, OneFlag> {
    if let Ok((rest, name)) = preceded(char('\\'), atom).parse(i) {
        if name.eq_ignore_ascii_case("Recent") {
            return Ok((rest, OneFlag::Recent));
        }
        let known = SystemFlags::NAMES.iter().find(|(_, n)| n[1..].eq_ignore_ascii_case(name));
        let system = known.map(|(flag, _)| OneFlag::System(*flag));
        return system.map(|f| (rest, f)).ok_or(Reject::failure(i, "a known system flag"));
    }
    map(flag_keyword, OneFlag::Keyword).parse(i)
}

pub(super) fn flag_keyword(i: &[u8]) -> Res<'_, Keyword> {
    let (rest, name) = expect("a flag", atom).parse(i)?;
    Keyword::new(name).map(|k| (rest, k)).ok_or(Reject::error(i, "a keyword of 256 bytes at most"))
}

fn collect_flags(list: Vec<OneFlag>) -> Flags {
    let mut flags = Flags::default();
    for flag in list {
        match flag {
            OneFlag::System(flag) => flags.system = flags.system.union(flag),
            OneFlag::Recent => {}
            OneFlag::Keyword(keyword) if flags.keywords.contains(&keyword) => {}
            OneFlag::Keyword(keyword) => flags.keywords.push(keyword),
        }
    }
    flags
}

/// `(\Seen $Forwarded)`
pub(super) fn flag_list(i: &[u8]) -> Res<'_, Flags> {
    let list = separated_list0(sp, flag);
    map(delimited(char('('), list, expect(")", char(')'))), collect_flags).parse(i)
}

/// A flag list, or flags without parentheses.
pub(super) fn flags_argument(i: &[u8]) -> Res<'_, Flags> {
    let bare = map(separated_list1(sp, flag), collect_flags);
    expect("flags", alt((flag_list, bare))).parse(i)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn month(i: &[u8]) -> Res<'_, u8> {
    let (rest, name) = expect("a month", take(3usize)).parse(i)?;
    let at = MONTHS.iter().position(|m| m.as_bytes().eq_ignore_ascii_case(name));
    at.map(|at| (rest, at as u8 + 1)).ok_or(Reject::error(i, "a month"))
}

/// `min` to `max` digits as a number.
fn digits(min: usize, max: usize) -> impl FnMut(&[u8]) -> Res<'_, u16> {
    move |i| {
        let (rest, text) =
            expect("digits", take_while_m_n(min, max, |b: u8| b.is_ascii_digit())).parse(i)?;
        ascii(text).parse().map(|n| (rest, n)).map_err(|_| Reject::error(i, "digits"))
    }
}

fn date_text(i: &[u8]) -> Res<'_, Date> {
    let (rest, (day, month, year)) =
        (digits(1, 2), delimited(char('-'), month, char('-')), digits(4, 4)).parse(i)?;
    calendar_day(year, month, day)
        .map(|_| (rest, Date { year, month, day: day as u8 }))
        .ok_or(Reject::error(i, "a day that exists"))
}

fn calendar_day(year: u16, month: u8, day: u16) -> Option<time::Date> {
    let month = time::Month::try_from(month).ok()?;
    time::Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()
}

/// SEARCH's date, with or without quotes.
pub(super) fn date(i: &[u8]) -> Res<'_, Date> {
    let quoted = delimited(char('"'), date_text, char('"'));
    expect("a date such as 1-Feb-1994", alt((quoted, date_text))).parse(i)
}

/// `"17-Jul-1996 02:44:25 -0700"` as Unix seconds.
pub(super) fn date_time(i: &[u8]) -> Res<'_, i64> {
    let (rest, _) = char('"').parse(i)?;
    let (rest, _) = opt(char(' ')).parse(rest)?;
    let (rest, date) = date_text(rest)?;
    let (rest, _) = sp(rest)?;
    let (rest, (hour, _, minute, _, second)) =
        (digits(2, 2), char(':'), digits(2, 2), char(':'), digits(2, 2)).parse(rest)?;
    let (rest, _) = sp(rest)?;
    let sign = expect("a zone such as +0100", alt((value(1, char('+')), value(-1, char('-')))));
    let (rest, (sign, zone_hours, zone_minutes)) =
        (sign, digits(2, 2), digits(2, 2)).parse(rest)?;
    let (rest, _) = expect("the closing quote", char('"')).parse(rest)?;
    // A leap second counts as the second before it.
    let second = if second == 60 { 59 } else { second };
    let seconds = (|| {
        let day = calendar_day(date.year, date.month, u16::from(date.day))?;
        let [hour, minute, second] = [hour, minute, second].map(|n| n as u8);
        let local = day.with_hms(hour, minute, second).ok()?.assume_utc().unix_timestamp();
        let zone = i64::from(zone_hours) * 3600 + i64::from(zone_minutes) * 60;
        (zone_minutes < 60).then_some(local - sign * zone)
    })();
    seconds.map(|s| (rest, s)).ok_or(Reject::error(i, "a date and time that exist"))
}

fn mailbox_text(i: &[u8], bytes: Vec<u8>, dialect: Dialect) -> Result<String, nom::Err<Reject>> {
    // RFC 6855 section 3: UTF-8 in quotes is understood before it is enabled too.
    if dialect.utf8_names || !bytes.is_ascii() {
        String::from_utf8(bytes).map_err(|_| Reject::mailbox_name(i, None))
    } else {
        mutf7::decode(&bytes).map_err(|error| Reject::mailbox_name(i, Some(error)))
    }
}

/// A mailbox name in UTF-8; `inbox`, alone or as the first level, in upper case.
pub(super) fn mailbox(i: &[u8], dialect: Dialect) -> Res<'_, String> {
    let (rest, bytes) = expect("a mailbox name", astring).parse(i)?;
    let mut name = mailbox_text(i, bytes, dialect)?;
    let first_level = name.split('/').next().unwrap_or_default();
    if first_level.eq_ignore_ascii_case("INBOX") {
        name.replace_range(..5, "INBOX");
    }
    Ok((rest, name))
}

/// A mailbox name with wildcards, in UTF-8.
pub(super) fn list_pattern(i: &[u8], dialect: Dialect) -> Res<'_, String> {
    let bare = take_while1(|b| is_astring_char(b) || b == b'%' || b == b'*');
    let (rest, bytes) =
        expect("a mailbox pattern", alt((map(bare, <[u8]>::to_vec), string))).parse(i)?;
    Ok((rest, mailbox_text(i, bytes, dialect)?))
}

/// The name of an annotation's entry, maybe with wildcards.
pub(super) fn entry_pattern(i: &[u8]) -> Res<'_, String> {
    let bare = take_while1(|b| is_astring_char(b) || b == b'%' || b == b'*');
    let pattern = alt((map(bare, <[u8]>::to_vec), string));
    expect("the name of an entry", utf8("a name in ASCII", pattern)).parse(i)
}

/// `("/flags/\\draft" all) 12` of MODSEQ: the entry is read and dropped, see `SearchKey::ModSeq`.
pub(super) fn modseq_entry(i: &[u8]) -> Res<'_, ()> {
    let kind = alt((tag_no_case("priv"), tag_no_case("shared"), tag_no_case("all")));
    value((), separated_pair(quoted, tag(" "), expect("priv, shared or all", kind))).parse(i)
}
