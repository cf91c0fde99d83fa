//! Arguments of FETCH (RFC 3501 section 6.4.5, RFC 3516, 5257, 7162, 8474, 8514, 8970, 9394) and
//! STORE.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case};
use nom::character::complete::char;
use nom::combinator::{cut, map, opt, value};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded, terminated};

use super::super::command::{
    Fetch, FetchItem, Flags, Partial, Section, SectionText, Store, StoreMode,
};
use super::annotation;
use super::token::{
    Reject, Res, astring, expect, flags_argument, keyword_upper, modseq, number_nonzero, number64,
    partial_range, set_argument, sp, utf8,
};

/// Deepest part number, `1.1.1…`: deeper than any structure that the MIME reader follows.
const PART_LEVELS_MAX: usize = 1000;

pub(super) fn fetch(i: &[u8], uid: bool) -> Res<'_, Fetch> {
    let (i, set) = preceded(sp, set_argument).parse(i)?;
    let (i, _) = sp(i)?;
    let (i, items) = alt((macro_items, items, map(item, |item| vec![item]))).parse(i)?;
    let fetch = Fetch { uid, set, items, changed_since: None, vanished: false, partial: None };
    let (rest, fetch) = match i.first() {
        Some(b' ') => preceded(tag(" "), cut(|i| modifiers(i, fetch.clone()))).parse(i)?,
        _ => (i, fetch),
    };
    // RFC 7162 section 3.2.6.
    if fetch.vanished && (!uid || fetch.changed_since.is_none()) {
        return Err(Reject::error(i, "VANISHED beside CHANGEDSINCE in UID FETCH alone"));
    }
    if fetch.partial.is_some() && !uid {
        return Err(Reject::error(i, "PARTIAL in UID FETCH alone"));
    }
    Ok((rest, fetch))
}

/// `(CHANGEDSINCE 12345 VANISHED)`, added to `fetch`.
fn modifiers(i: &[u8], mut fetch: Fetch) -> Res<'_, Fetch> {
    let (mut i, _) = expect("(", char('(')).parse(i)?;
    loop {
        let (rest, name) = expect("a FETCH modifier", keyword_upper).parse(i)?;
        let rest = match name.as_str() {
            "CHANGEDSINCE" => {
                let (rest, since) = preceded(sp, modseq).parse(rest)?;
                fetch.changed_since = Some(since);
                rest
            }
            "VANISHED" => {
                fetch.vanished = true;
                rest
            }
            "PARTIAL" => {
                let (rest, partial) = preceded(sp, partial_range).parse(rest)?;
                fetch.partial = Some(partial);
                rest
            }
            _ => return Err(Reject::error(i, "CHANGEDSINCE, VANISHED or PARTIAL")),
        };
        match rest {
            [b' ', rest @ ..] => i = rest,
            _ => return expect(")", char(')')).parse(rest).map(|(rest, _)| (rest, fetch)),
        }
    }
}

/// Items in parentheses.
pub(super) fn items(i: &[u8]) -> Res<'_, Vec<FetchItem>> {
    delimited(char('('), separated_list1(sp, item), expect(")", char(')'))).parse(i)
}

fn macro_items(i: &[u8]) -> Res<'_, Vec<FetchItem>> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
    let (rest, name) = keyword_upper(i)?;
    let fast = [Flags, InternalDate, Rfc822Size];
    let more = match name.as_str() {
        "FAST" => vec![],
        "ALL" => vec![Envelope],
        "FULL" => vec![Envelope, Body],
        _ => return Err(Reject::error(i, "ALL, FULL or FAST")),
    };
    Ok((rest, fast.into_iter().chain(more).collect()))
}

fn item(i: &[u8]) -> Res<'_, FetchItem> {
    let (rest, name) = expect("a FETCH item", keyword_upper).parse(i)?;
    let item = match name.as_str() {
        "UID" => FetchItem::Uid,
        "FLAGS" => FetchItem::Flags,
        "INTERNALDATE" => FetchItem::InternalDate,
        "RFC822.SIZE" => FetchItem::Rfc822Size,
        "ENVELOPE" => FetchItem::Envelope,
        "BODYSTRUCTURE" => FetchItem::BodyStructure,
        "MODSEQ" => FetchItem::ModSeq,
        "EMAILID" => FetchItem::EmailId,
        "THREADID" => FetchItem::ThreadId,
        "SAVEDATE" => FetchItem::SaveDate,
        "DIGEST.SHA1" => FetchItem::DigestSha1,
        "PREVIEW" => {
            let (rest, lazy) = opt(tag_no_case(" (LAZY)")).parse(rest)?;
            return Ok((rest, FetchItem::Preview { lazy: lazy.is_some() }));
        }
        "ANNOTATION" => return annotation::item(rest),
        "RFC822" => FetchItem::Rfc822,
        "RFC822.HEADER" => FetchItem::Rfc822Header,
        "RFC822.TEXT" => FetchItem::Rfc822Text,
        "BODY" if rest.first() != Some(&b'[') => FetchItem::Body,
        "BODY" | "BODY.PEEK" => {
            let (rest, section) = section(rest)?;
            let (rest, partial) = opt(partial).parse(rest)?;
            return Ok((rest, FetchItem::Section { peek: name == "BODY.PEEK", section, partial }));
        }
        "BINARY" | "BINARY.PEEK" => {
            let (rest, part) = binary_part(rest)?;
            let (rest, partial) = opt(partial).parse(rest)?;
            return Ok((rest, FetchItem::Binary { peek: name == "BINARY.PEEK", part, partial }));
        }
        "BINARY.SIZE" => {
            let (rest, part) = binary_part(rest)?;
            return Ok((rest, FetchItem::BinarySize { part }));
        }
        _ => return Err(Reject::error(i, "a FETCH item")),
    };
    Ok((rest, item))
}

/// `1.2.3`; may be absent.
fn part_numbers(i: &[u8]) -> Res<'_, Vec<u32>> {
    let mut part = Vec::new();
    let mut rest = i;
    while rest.first().is_some_and(u8::is_ascii_digit) {
        let (after, number) = number_nonzero(rest)?;
        part.push(number);
        if part.len() > PART_LEVELS_MAX {
            return Err(Reject::error(i, "a part number of 1000 levels at most"));
        }
        // A dot is ours only if another number follows; else it leads to HEADER, TEXT or MIME.
        match after {
            [b'.', next, ..] if next.is_ascii_digit() => rest = &after[1..],
            _ => rest = after,
        }
    }
    Ok((rest, part))
}

fn binary_part(i: &[u8]) -> Res<'_, Vec<u32>> {
    delimited(expect("[", char('[')), part_numbers, expect("]", char(']'))).parse(i)
}

fn section(i: &[u8]) -> Res<'_, Section> {
    let (i, _) = expect("[", char('[')).parse(i)?;
    let (i, part) = part_numbers(i)?;
    let (i, text) = if part.is_empty() {
        section_text(i, false)?
    } else if let Ok((i, _)) = char::<_, Reject>('.').parse(i) {
        section_text(i, true)?
    } else {
        (i, SectionText::Whole)
    };
    let (i, _) = expect("]", char(']')).parse(i)?;
    Ok((i, Section { part, text }))
}

/// A section without its brackets.
pub(super) fn section_of_all(text: &[u8]) -> Option<Section> {
    let in_brackets = [b"[", text, b"]"].concat();
    let (rest, section) = section(&in_brackets).ok()?;
    rest.is_empty().then_some(section)
}

/// What stands behind the part numbers; `named`: something has to.
fn section_text(i: &[u8], named: bool) -> Res<'_, SectionText> {
    if !named && i.first() == Some(&b']') {
        return Ok((i, SectionText::Whole));
    }
    let (rest, name) = expect("a section", keyword_upper).parse(i)?;
    let fields = |i| {
        let field = utf8("a field name", astring);
        let list = delimited(expect("(", char('(')), separated_list1(sp, field), char(')'));
        preceded(sp, list).parse(i)
    };
    match name.as_str() {
        "HEADER" => Ok((rest, SectionText::Header)),
        "TEXT" => Ok((rest, SectionText::Text)),
        "MIME" if named => Ok((rest, SectionText::Mime)),
        "HEADER.FIELDS" => map(fields, SectionText::HeaderFields).parse(rest),
        "HEADER.FIELDS.NOT" => map(fields, SectionText::HeaderFieldsNot).parse(rest),
        _ => Err(Reject::error(i, "HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME")),
    }
}

fn partial(i: &[u8]) -> Res<'_, Partial> {
    let (rest, (offset, _, length)) =
        delimited(char('<'), (number64, char('.'), number64), expect(">", char('>'))).parse(i)?;
    if length == 0 {
        return Err(Reject::error(i, "a length above 0"));
    }
    Ok((rest, Partial { offset, length }))
}

pub(super) fn store(i: &[u8], uid: bool) -> Res<'_, Store> {
    let (i, set) = preceded(sp, set_argument).parse(i)?;
    let modifier = preceded((expect("UNCHANGEDSINCE", tag_no_case("UNCHANGEDSINCE")), sp), modseq);
    let (i, unchanged_since) =
        opt(preceded(tag(" ("), cut(terminated(modifier, expect(")", char(')')))))).parse(i)?;
    let sign = alt((value(StoreMode::Add, char('+')), value(StoreMode::Remove, char('-'))));
    let (i, mode) = preceded(sp, opt(sign)).parse(i)?;
    let (rest, name) = expect("FLAGS", keyword_upper).parse(i)?;
    let silent = match name.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        "ANNOTATION" if mode.is_none() => {
            let (i, annotations) = preceded(sp, annotation::values).parse(rest)?;
            let (mode, flags) = (StoreMode::Replace, Flags::default());
            let silent = true;
            return Ok((i, Store { uid, set, unchanged_since, mode, silent, flags, annotations }));
        }
        _ => return Err(Reject::error(i, "FLAGS, FLAGS.SILENT or ANNOTATION")),
    };
    let (i, flags) = preceded(sp, flags_argument).parse(rest)?;
    let (mode, annotations) = (mode.unwrap_or(StoreMode::Replace), Vec::new());
    Ok((i, Store { uid, set, unchanged_since, mode, silent, flags, annotations }))
}
