//! GENURLAUTH, RESETKEY and URLFETCH: RFC 4467 section 9, RFC 5524 section 6.

use nom::Parser;
use nom::bytes::complete::tag;
use nom::combinator::{map, opt};
use nom::multi::{many0, many1};
use nom::sequence::{delimited, preceded};

use super::super::command::{Body, UrlFetch, UrlItem};
use super::Dialect;
use super::token::{Reject, Res, astring, atom, expect, keyword_upper, mailbox, sp, utf8};

fn url(i: &[u8]) -> Res<'_, String> {
    utf8("a URL", astring).parse(i)
}

fn mechanism(i: &[u8]) -> Res<'_, String> {
    map(expect("a mechanism", atom), str::to_ascii_uppercase).parse(i)
}

pub(super) fn gen_url_auth(i: &[u8]) -> Res<'_, Body> {
    let pair = (preceded(sp, url), preceded(sp, mechanism));
    map(many1(pair), Body::GenUrlAuth).parse(i)
}

pub(super) fn reset_key(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = opt(preceded(sp, |i| mailbox(i, dialect))).parse(i)?;
    let (i, mechanisms) = many0(preceded(sp, mechanism)).parse(i)?;
    Ok((i, Body::ResetKey { mailbox, mechanisms }))
}

pub(super) fn url_fetch(i: &[u8]) -> Res<'_, Body> {
    let extended = map(
        delimited(tag("("), (url, many0(preceded(sp, item))), expect(")", tag(")"))),
        |(url, items)| UrlFetch { url, items: Some(items) },
    );
    let simple = map(url, |url| UrlFetch { url, items: None });
    map(many1(preceded(sp, nom::branch::alt((extended, simple)))), Body::UrlFetch).parse(i)
}

fn item(i: &[u8]) -> Res<'_, UrlItem> {
    let (rest, name) = keyword_upper(i)?;
    match name.as_str() {
        "BODY" => Ok((rest, UrlItem::Body)),
        "BINARY" => Ok((rest, UrlItem::Binary)),
        "BODYPARTSTRUCTURE" => Ok((rest, UrlItem::Structure)),
        _ => Err(Reject::error(i, "BODY, BINARY or BODYPARTSTRUCTURE")),
    }
}
