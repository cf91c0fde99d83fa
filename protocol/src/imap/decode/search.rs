//! Arguments of SEARCH: RFC 3501 and 9051 section 6.4.4, RFC 4731, 5032, 5182, 5267, 6203, 7162,
//! 9394, 9738; FILTER of RFC 5466; of ESEARCH: RFC 7377.

use std::cell::Cell;

use encoding_rs::Encoding;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::tag_no_case;
use nom::character::complete::char;
use nom::combinator::{cut, map, opt};
use nom::multi::{separated_list0, separated_list1};
use nom::sequence::{delimited, preceded};

use super::super::command::{MultiSearch, Search, SearchReturn, SearchSource};
use super::super::search::{SEARCH_DEPTH_MAX, SEARCH_KEYS_MAX, SearchKey};
use super::token::{
    Reject, Res, astring, date, expect, filter_name, flag_keyword, keyword_upper, literal8,
    mailbox, modseq, modseq_entry, number_nonzero, number64, object_id, partial_range,
    sequence_set, sp,
};
use super::{Dialect, annotation};
use crate::types::{Flag, SequenceSet, SetRange, SetValue, SystemFlags};

pub(super) fn search(i: &[u8], uid: bool, dialect: Dialect) -> Res<'_, Search> {
    let (before, options) = opt(return_options).parse(i)?;
    let (i, charset) = opt(preceded((sp, tag_no_case("CHARSET"), sp), charset)).parse(before)?;
    if charset.is_some() && dialect.no_charset {
        return Err(Reject::charset_forbidden(before));
    }
    let (i, _) = sp(i)?;
    let (rest, key) = Context::new(charset).keys(i, 1)?;
    // RFC 6203 section 4.
    if options.is_some_and(|options| options.relevancy) && !key.is_fuzzy() {
        return Err(Reject::error(i, "a FUZZY key with RELEVANCY"));
    }
    let i = rest;
    Ok((i, Search { uid, options, key }))
}

/// The arguments of ESEARCH: RFC 7377 section 4.
pub(super) fn multi_search(i: &[u8], dialect: Dialect) -> Res<'_, MultiSearch> {
    let (i, sources) =
        opt(preceded((sp, tag_no_case("IN"), sp), cut(|i| sources(i, dialect)))).parse(i)?;
    let (rest, Search { options, key, .. }) = search(i, true, dialect)?;
    let all = SearchReturn { all: true, ..SearchReturn::default() };
    Ok((rest, MultiSearch { sources, options: options.unwrap_or(all), key }))
}

fn sources(i: &[u8], dialect: Dialect) -> Res<'_, Vec<SearchSource>> {
    let list = separated_list1(sp, |i| search_source(i, dialect));
    delimited(expect("(", char('(')), list, expect(")", char(')'))).parse(i)
}

fn search_source(i: &[u8], dialect: Dialect) -> Res<'_, SearchSource> {
    let (rest, name) = expect("a mailbox specifier", keyword_upper).parse(i)?;
    let names = |kind: fn(Vec<String>) -> SearchSource| {
        let one = map(|i| mailbox(i, dialect), |name| vec![name]);
        let many = separated_list1(sp, |i| mailbox(i, dialect));
        let many = delimited(char('('), many, expect(")", char(')')));
        map(preceded(sp, alt((many, one))), kind).parse(rest)
    };
    match name.as_str() {
        "SELECTED" => Ok((rest, SearchSource::Selected)),
        "INBOXES" => Ok((rest, SearchSource::Inboxes)),
        "PERSONAL" => Ok((rest, SearchSource::Personal)),
        "SUBSCRIBED" => Ok((rest, SearchSource::Subscribed)),
        "SUBTREE" => names(SearchSource::Subtree),
        "SUBTREE-ONE" => names(SearchSource::SubtreeOne),
        "MAILBOXES" => names(SearchSource::Mailboxes),
        _ => Err(Reject::error(i, "a mailbox specifier")),
    }
}

/// The charset and what messages have to meet, as SORT and THREAD have them.
pub(super) fn charset_and_keys(i: &[u8]) -> Res<'_, SearchKey> {
    let (i, charset) = charset(i)?;
    let (i, _) = sp(i)?;
    Context::new(Some(charset)).keys(i, 1)
}

/// ` RETURN (…)`
pub(super) fn return_options(i: &[u8]) -> Res<'_, SearchReturn> {
    preceded((sp, tag_no_case("RETURN"), sp), cut(option_list)).parse(i)
}

fn option_list(i: &[u8]) -> Res<'_, SearchReturn> {
    let one = |i| {
        let (rest, name) = keyword_upper(i)?;
        let (rest, partial) = match name.as_str() {
            "PARTIAL" => {
                let (rest, _) = sp(rest)?;
                partial_range(rest).map(|(rest, range)| (rest, Some(range)))?
            }
            _ => (rest, None),
        };
        Ok((rest, (name, partial)))
    };
    let list = separated_list0(sp, one);
    let (rest, named) = delimited(expect("(", char('(')), list, expect(")", char(')'))).parse(i)?;
    let mut options = SearchReturn { all: named.is_empty(), ..SearchReturn::default() };
    for (name, partial) in named {
        match name.as_str() {
            // RFC 9394 section 3.1.
            "PARTIAL" | "ALL"
                if options.partial.is_some() || (options.all && partial.is_some()) =>
            {
                return Err(Reject::error(i, "one PARTIAL or one ALL"));
            }
            "PARTIAL" => options.partial = partial,
            "MIN" => options.min = true,
            "MAX" => options.max = true,
            "ALL" => options.all = true,
            "COUNT" => options.count = true,
            "SAVE" => options.save = true,
            "RELEVANCY" => options.relevancy = true,
            "CONTEXT" => options.context = true,
            "UPDATE" => options.update = true,
            _ => return Err(Reject::error(i, "a RETURN option that is known")),
        }
    }
    Ok((rest, options))
}

/// The keys of a filter: RFC 5466 section 4.
pub(super) fn criteria(i: &[u8]) -> Res<'_, Vec<SearchKey>> {
    Context::new(None).list(i, 1)
}

/// What the strings of a command are in.
#[derive(Clone, Copy)]
struct Charset {
    encoding: &'static Encoding,
    /// UTF-8 or a part of it, as FILTER wants it (RFC 5466 section 3.1). Not to be seen in
    /// `encoding`, which has Windows-1252 for US-ASCII.
    is_utf8: bool,
}

impl Default for Charset {
    fn default() -> Charset {
        Charset { encoding: encoding_rs::UTF_8, is_utf8: true }
    }
}

fn charset(i: &[u8]) -> Res<'_, Charset> {
    let (rest, label) = astring(i)?;
    let is_utf8 = [&b"UTF-8"[..], b"US-ASCII"].iter().any(|one| label.eq_ignore_ascii_case(one));
    match Encoding::for_label(&label) {
        // RFC 3501 strings can't hold NUL, so UTF-16 has no use; `replacement` is no charset.
        Some(encoding)
            if encoding.is_ascii_compatible() && encoding != encoding_rs::REPLACEMENT =>
        {
            Ok((rest, Charset { encoding, is_utf8 }))
        }
        _ => Err(Reject::charset(i)),
    }
}

struct Context {
    charset: Charset,
    keys_left: Cell<usize>,
}

impl Context {
    fn new(charset: Option<Charset>) -> Context {
        let charset = charset.unwrap_or_default();
        Context { charset, keys_left: Cell::new(SEARCH_KEYS_MAX) }
    }

    /// One or more keys, all of which have to hold.
    fn keys<'a>(&self, i: &'a [u8], depth: usize) -> Res<'a, SearchKey> {
        map(|i| self.list(i, depth), SearchKey::all).parse(i)
    }

    /// The same, one by one.
    fn list<'a>(&self, i: &'a [u8], depth: usize) -> Res<'a, Vec<SearchKey>> {
        let (mut i, first) = self.key(i, depth + 1)?;
        let mut keys = vec![first];
        while let [b' ', rest @ ..] = i {
            let (after, key) = self.key(rest, depth + 1)?;
            keys.push(key);
            i = after;
        }
        Ok((i, keys))
    }

    fn string<'a>(&self, i: &'a [u8]) -> Res<'a, String> {
        let (rest, bytes) = preceded(sp, astring).parse(i)?;
        self.decoded(i, rest, &bytes)
    }

    /// A value of an annotation, which may be a literal8.
    fn value<'a>(&self, i: &'a [u8]) -> Res<'a, String> {
        let (rest, bytes) = preceded(sp, alt((literal8, astring))).parse(i)?;
        self.decoded(i, rest, &bytes)
    }

    fn decoded<'a>(&self, i: &'a [u8], rest: &'a [u8], bytes: &[u8]) -> Res<'a, String> {
        match self.charset.encoding.decode_without_bom_handling_and_without_replacement(bytes) {
            Some(text) => Ok((rest, text.into_owned())),
            None => Err(Reject::error(i, "a string in the charset")),
        }
    }

    fn key<'a>(&self, i: &'a [u8], depth: usize) -> Res<'a, SearchKey> {
        if depth > SEARCH_DEPTH_MAX {
            return Err(Reject::error(i, "search keys nested less deep"));
        }
        let Some(left) = self.keys_left.get().checked_sub(1) else {
            return Err(Reject::error(i, "at most 2000 search keys"));
        };
        self.keys_left.set(left);
        match i.first() {
            Some(b'(') => {
                let (i, key) = self.keys(&i[1..], depth)?;
                let (i, _) = expect(")", char(')')).parse(i)?;
                Ok((i, key))
            }
            Some(b'$') => Ok((&i[1..], SearchKey::SavedResult)),
            Some(b'*' | b'0'..=b'9') => sequence_set(i).map(|(i, set)| (i, SearchKey::SeqSet(set))),
            _ => self.named_key(i, depth),
        }
    }

    fn named_key<'a>(&self, i: &'a [u8], depth: usize) -> Res<'a, SearchKey> {
        let (rest, name) = expect("a search key", keyword_upper).parse(i)?;
        if let Some(key) = bare_key(&name) {
            return Ok((rest, key));
        }
        let string =
            |key: fn(String) -> SearchKey| self.string(rest).map(|(rest, text)| (rest, key(text)));
        let day = |key: fn(super::super::search::Date) -> SearchKey| {
            preceded(sp, date).parse(rest).map(|(rest, day)| (rest, key(day)))
        };
        match name.as_str() {
            "FROM" => string(SearchKey::From),
            "TO" => string(SearchKey::To),
            "CC" => string(SearchKey::Cc),
            "BCC" => string(SearchKey::Bcc),
            "SUBJECT" => string(SearchKey::Subject),
            "BODY" => string(SearchKey::Body),
            "TEXT" => string(SearchKey::Text),
            "HEADER" => {
                let (rest, field) = self.string(rest)?;
                let (rest, text) = self.string(rest)?;
                Ok((rest, SearchKey::Header(field, text)))
            }
            "BEFORE" => day(SearchKey::Before),
            "ON" => day(SearchKey::On),
            "SINCE" => day(SearchKey::Since),
            "SAVEDBEFORE" => day(SearchKey::SavedBefore),
            "SAVEDON" => day(SearchKey::SavedOn),
            "SAVEDSINCE" => day(SearchKey::SavedSince),
            "EMAILID" | "THREADID" => {
                let (rest, id) = preceded(sp, object_id).parse(rest)?;
                let email = name == "EMAILID";
                Ok((rest, if email { SearchKey::EmailId(id) } else { SearchKey::ThreadId(id) }))
            }
            "SENTBEFORE" => day(SearchKey::SentBefore),
            "SENTON" => day(SearchKey::SentOn),
            "SENTSINCE" => day(SearchKey::SentSince),
            "LARGER" | "SMALLER" => {
                let (rest, bytes) = preceded(sp, number64).parse(rest)?;
                let larger = name == "LARGER";
                Ok((
                    rest,
                    if larger { SearchKey::Larger(bytes) } else { SearchKey::Smaller(bytes) },
                ))
            }
            "YOUNGER" | "OLDER" => {
                let (rest, seconds) = preceded(sp, number_nonzero).parse(rest)?;
                let key = if name == "YOUNGER" { SearchKey::Younger } else { SearchKey::Older };
                Ok((rest, key(seconds)))
            }
            "KEYWORD" | "UNKEYWORD" => {
                let (rest, keyword) = preceded(sp, flag_keyword).parse(rest)?;
                let key = SearchKey::Flag(Flag::Keyword(keyword));
                Ok((rest, if name == "KEYWORD" { key } else { key.negated() }))
            }
            "MODSEQ" => {
                let (rest, _) = opt(preceded(sp, modseq_entry)).parse(rest)?;
                let (rest, modseq) = preceded(sp, modseq).parse(rest)?;
                Ok((rest, SearchKey::ModSeq(modseq)))
            }
            "UID" => {
                let (rest, _) = sp(rest)?;
                if let [b'$', rest @ ..] = rest {
                    return Ok((rest, SearchKey::SavedResult));
                }
                sequence_set(rest).map(|(rest, set)| (rest, SearchKey::UidSet(set)))
            }
            "UIDAFTER" | "UIDBEFORE" => {
                let (rest, uid) = preceded(sp, number_nonzero).parse(rest)?;
                Ok((rest, beside(uid, name == "UIDAFTER")))
            }
            "FILTER" if !self.charset.is_utf8 => Err(Reject::charset_forbidden(i)),
            "FILTER" => {
                let (rest, name) = preceded(sp, filter_name).parse(rest)?;
                Ok((rest, SearchKey::Filter(name.to_ascii_lowercase())))
            }
            "ANNOTATION" => {
                let (rest, (entry, side)) = annotation::searched(rest)?;
                // RFC 5257 has NIL for no value at all.
                if let Ok((rest, _)) = preceded(sp, tag_no_case("NIL")).parse(rest)
                    && matches!(rest.first(), None | Some(b' ' | b')'))
                {
                    let any = SearchKey::Annotation { entry, side, text: String::new() };
                    return Ok((rest, any.negated()));
                }
                let (rest, text) = self.value(rest)?;
                Ok((rest, SearchKey::Annotation { entry, side, text }))
            }
            "NOT" => {
                let (rest, _) = sp(rest)?;
                self.key(rest, depth + 1).map(|(rest, key)| (rest, key.negated()))
            }
            "FUZZY" => {
                let (rest, _) = sp(rest)?;
                let (rest, key) = self.key(rest, depth + 1)?;
                Ok((rest, SearchKey::Fuzzy(Box::new(key))))
            }
            "OR" => {
                let (rest, _) = sp(rest)?;
                let (rest, left) = self.key(rest, depth + 1)?;
                let (rest, _) = sp(rest)?;
                let (rest, right) = self.key(rest, depth + 1)?;
                Ok((rest, SearchKey::Or(Box::new(left), Box::new(right))))
            }
            _ => Err(Reject::error(i, "a search key")),
        }
    }
}

/// The UIDs above or below one (RFC 9738 section 3.3).
fn beside(uid: u32, above: bool) -> SearchKey {
    let (first, last) = if above { (uid.checked_add(1), u32::MAX) } else { (Some(1), uid - 1) };
    let Some(first) = first.filter(|first| *first <= last) else {
        return SearchKey::All.negated();
    };
    let (first, last) = (SetValue::Number(first), SetValue::Number(last));
    SearchKey::UidSet(SequenceSet { ranges: vec![SetRange { first, last }] })
}

/// The keys without an argument.
fn bare_key(name: &str) -> Option<SearchKey> {
    let flag = |flag| SearchKey::Flag(Flag::System(flag));
    Some(match name {
        "ALL" => SearchKey::All,
        "SAVEDATESUPPORTED" => SearchKey::SaveDateSupported,
        "ANSWERED" => flag(SystemFlags::ANSWERED),
        "DELETED" => flag(SystemFlags::DELETED),
        "DRAFT" => flag(SystemFlags::DRAFT),
        "FLAGGED" => flag(SystemFlags::FLAGGED),
        "SEEN" => flag(SystemFlags::SEEN),
        "UNANSWERED" => flag(SystemFlags::ANSWERED).negated(),
        "UNDELETED" => flag(SystemFlags::DELETED).negated(),
        "UNDRAFT" => flag(SystemFlags::DRAFT).negated(),
        "UNFLAGGED" => flag(SystemFlags::FLAGGED).negated(),
        "UNSEEN" => flag(SystemFlags::SEEN).negated(),
        "RECENT" => SearchKey::Recent,
        "OLD" => SearchKey::Recent.negated(),
        "NEW" => SearchKey::And(vec![SearchKey::Recent, flag(SystemFlags::SEEN).negated()]),
        _ => return None,
    })
}
