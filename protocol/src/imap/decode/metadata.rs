//! Arguments of GETMETADATA and SETMETADATA: RFC 5464 section 5.
//!
//! Names of entries are not looked into here: they are the store's affair.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::tag_no_case;
use nom::character::complete::char;
use nom::combinator::{map, opt, value};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded, separated_pair};

use super::super::command::{Body, GetMetadata, MetadataDepth};
use super::Dialect;
use super::token::{
    Reject, Res, astring, expect, keyword_upper, literal8, mailbox, nstring, number64, sp, utf8,
};

/// Most entries in one command.
const ENTRIES_MAX: usize = 1000;

/// The options stand before the mailbox in the grammar, and behind it in the RFC's examples.
pub(super) fn get(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let mut get = GetMetadata::default();
    let (i, _) = sp(i)?;
    let i = match options(i, &mut get) {
        Ok((i, ())) => sp(i)?.0,
        Err(nom::Err::Error(_)) if i.first() != Some(&b'(') => i,
        Err(error) => return Err(error),
    };
    let (i, name) = mailbox(i, dialect)?;
    get.mailbox = Some(name).filter(|name| !name.is_empty());
    let (mut i, _) = sp(i)?;
    if looks_like_options(i) {
        i = options(i, &mut get)?.0;
        i = sp(i)?.0;
    }
    let (rest, entries) = entries(i)?;
    if entries.len() > ENTRIES_MAX {
        return Err(Reject::error(i, "at most 1000 entries"));
    }
    get.entries = entries;
    Ok((rest, Body::GetMetadata(get)))
}

/// Entries begin with a slash, options do not.
fn looks_like_options(i: &[u8]) -> bool {
    matches!(i, [b'(', b'A'..=b'Z' | b'a'..=b'z', ..])
}

fn options<'a>(i: &'a [u8], get: &mut GetMetadata) -> Res<'a, ()> {
    let (mut i, _) = expect("(", char('(')).parse(i)?;
    loop {
        let (rest, name) = keyword_upper(i)?;
        let (rest, _) = sp(rest)?;
        let rest = match name.as_str() {
            "MAXSIZE" => {
                let (rest, max) = number64(rest)?;
                get.max_size = Some(max);
                rest
            }
            "DEPTH" => {
                let depth = alt((
                    value(MetadataDepth::Zero, char('0')),
                    value(MetadataDepth::One, char('1')),
                    value(MetadataDepth::Infinity, tag_no_case("infinity")),
                ));
                let (rest, depth) = expect("0, 1 or infinity", depth).parse(rest)?;
                get.depth = depth;
                rest
            }
            _ => return Err(Reject::error(i, "MAXSIZE or DEPTH")),
        };
        i = match rest {
            [b' ', after @ ..] => after,
            [b')', after @ ..] => return Ok((after, ())),
            _ => return Err(Reject::error(rest, ")")),
        };
    }
}

fn entry(i: &[u8]) -> Res<'_, String> {
    // A pattern, as Cyrus's administrators send it, is no astring without its quotes.
    expect("the name of an entry", utf8("a name in ASCII", astring)).parse(i)
}

/// Entries in parentheses.
pub(super) fn listed_entries(i: &[u8]) -> Res<'_, Vec<String>> {
    let list = separated_list1(sp, entry);
    delimited(expect("(", char('(')), list, expect(")", char(')'))).parse(i)
}

fn entries(i: &[u8]) -> Res<'_, Vec<String>> {
    let list = listed_entries;
    // RFC 5464 section 4.4.1 shows several without parentheses.
    alt((list, separated_list1(char(' '), entry))).parse(i)
}

pub(super) fn set(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, name) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    let (i, _) = sp(i)?;
    let pair = separated_pair(entry, sp, alt((map(literal8, Some), nstring)));
    let list = separated_list1(sp, pair);
    let (rest, changes) =
        delimited(expect("(", char('(')), list, expect(")", (opt(char(' ')), char(')'))))
            .parse(i)?;
    if changes.len() > ENTRIES_MAX {
        return Err(Reject::error(i, "at most 1000 entries"));
    }
    let mailbox = Some(name).filter(|name| !name.is_empty());
    Ok((rest, Body::SetMetadata { mailbox, changes }))
}
