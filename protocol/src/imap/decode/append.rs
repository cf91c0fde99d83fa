//! What stands around the messages of APPEND and REPLACE: RFC 3501 section 6.3.11, several messages
//! by RFC 3502, CATENATE by RFC 4469, UTF8 by RFC 6855 section 4, REPLACE by RFC 8508, ANNOTATION by RFC 5257.
//!
//! The framer streams the literals; what it gives as text comes here in pieces, each but the last
//! with a literal behind it.

use nom::Parser;
use nom::bytes::complete::{tag, tag_no_case};
use nom::combinator::{cut, opt};
use nom::sequence::preceded;

use super::super::command::{AppendHead, AppendItem, AppendOptions, Replaced};
use super::annotation;
use super::token::{
    Reject, Res, astring, date_time, expect, flag_list, mailbox, number_nonzero, sp, tag_word, utf8,
};
use super::{DecodeError, DecodeErrorKind, Dialect, refusal};

/// Most pieces that are read out of one text: the line's limit bounds them too.
const ITEMS_MAX: usize = 1000;

/// Where in the grammar the last piece of text has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind the mailbox.
    Start,
    /// Behind a message that is one literal.
    AfterMessage,
    /// Behind a literal of UTF8, whose parenthesis is open.
    InUtf8,
    /// Behind a part of CATENATE.
    InCatenate,
    /// The same, with the parenthesis of UTF8 open.
    InCatenateUtf8,
}

/// Reads the texts of one command in their order.
#[derive(Debug)]
pub struct AppendText {
    place: Place,
}

impl AppendText {
    /// Reads the first text, up to the first literal of the messages, or if there is none
    /// (`literal` is false) to the end of the command.
    pub fn begin(
        text: &[u8],
        literal: bool,
        dialect: Dialect,
    ) -> Result<(AppendHead, AppendText, Vec<AppendItem>), DecodeError> {
        let (after_tag, tag) = match tag_word(text) {
            Ok(ok) => ok,
            Err(error) => return Err(refusal(None, error, text)),
        };
        let mut reader = AppendText { place: Place::Start };
        let mut read = |i| {
            let (i, replaced) = name(i)?;
            let (i, mailbox) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
            let (_, items) = reader.items(i, literal)?;
            Ok((replaced, mailbox, items))
        };
        match read(after_tag) {
            Ok((replaced, mailbox, items)) => {
                Ok((AppendHead { tag, replaced, mailbox }, reader, items))
            }
            Err(error) => Err(refusal(Some(tag), error, text)),
        }
    }

    /// Reads the text behind a literal.
    pub fn next(&mut self, text: &[u8], literal: bool) -> Result<Vec<AppendItem>, DecodeErrorKind> {
        match self.items(text, literal) {
            Ok((_, items)) => Ok(items),
            Err(error) => Err(refusal(None, error, text).kind),
        }
    }

    fn items<'a>(&mut self, i: &'a [u8], literal: bool) -> Res<'a, Vec<AppendItem>> {
        let mut items = Vec::new();
        let mut i = i;
        if matches!(self.place, Place::InUtf8 | Place::InCatenateUtf8) {
            i = expect(")", tag(")")).parse(i)?.0;
            self.place = match self.place {
                Place::InUtf8 => Place::AfterMessage,
                _ => Place::InCatenate,
            };
        }
        while items.len() < ITEMS_MAX {
            if self.place == Place::InCatenate {
                if let Ok((rest, _)) = tag::<_, _, Reject>(")").parse(i) {
                    self.place = Place::AfterMessage;
                    i = rest;
                    continue;
                }
                i = sp(i)?.0;
                let (rest, done) = self.part(i, literal, &mut items)?;
                if done {
                    return Ok((rest, items));
                }
                i = rest;
                continue;
            }
            if i.is_empty() && !literal {
                return match self.place {
                    Place::AfterMessage => Ok((i, items)),
                    _ => Err(Reject::error(i, "a message literal")),
                };
            }
            let (rest, options) = options(i)?;
            items.push(AppendItem::Message(options));
            if let Ok((rest, _)) = tag_no_case::<_, _, Reject>("CATENATE (").parse(rest) {
                let (rest, done) = self.part(rest, literal, &mut items)?;
                self.place = if self.place == Place::InCatenateUtf8 {
                    self.place
                } else {
                    Place::InCatenate
                };
                if done {
                    return Ok((rest, items));
                }
                i = rest;
                continue;
            }
            let utf8 = tag_no_case::<_, _, Reject>("UTF8 (").parse(rest);
            let rest = utf8.as_ref().map_or(rest, |(rest, _)| *rest);
            if !literal || !rest.is_empty() {
                return Err(Reject::error(rest, "a message literal"));
            }
            self.place = if utf8.is_ok() { Place::InUtf8 } else { Place::AfterMessage };
            items.push(AppendItem::Text { utf8: utf8.is_ok() });
            return Ok((rest, items));
        }
        Err(Reject::error(i, "fewer parts of a message"))
    }

    /// One part of CATENATE; `true`: its literal follows, and the text is over.
    fn part<'a>(
        &mut self,
        i: &'a [u8],
        literal: bool,
        items: &mut Vec<AppendItem>,
    ) -> Res<'a, bool> {
        let at_end = |rest: &[u8]| literal && rest.is_empty();
        if let Ok((rest, _)) = tag_no_case::<_, _, Reject>("URL ").parse(i) {
            if at_end(rest) {
                items.push(AppendItem::UrlLiteral);
                return Ok((rest, true));
            }
            let (rest, url) = utf8("a URL", astring).parse(rest)?;
            items.push(AppendItem::Url(url));
            return Ok((rest, false));
        }
        for (word, utf8) in [("TEXT ", false), ("UTF8 (", true)] {
            if let Ok((rest, _)) = tag_no_case::<_, _, Reject>(word).parse(i) {
                if !at_end(rest) {
                    return Err(Reject::error(rest, "a literal"));
                }
                if utf8 {
                    self.place = Place::InCatenateUtf8;
                }
                items.push(AppendItem::Text { utf8 });
                return Ok((rest, true));
            }
        }
        Err(Reject::error(i, "TEXT, UTF8 or URL"))
    }
}

/// ` APPEND`, ` REPLACE 4`, ` UID REPLACE 4`
pub(super) fn name(i: &[u8]) -> Res<'_, Option<Replaced>> {
    let (i, _) = sp(i)?;
    if let Ok((i, _)) = tag_no_case::<_, _, Reject>("APPEND").parse(i) {
        return Ok((i, None));
    }
    let (i, uid) = opt(tag_no_case("UID ")).parse(i)?;
    let (i, _) = expect("APPEND or REPLACE", tag_no_case("REPLACE")).parse(i)?;
    let (i, number) = preceded(sp, number_nonzero).parse(i)?;
    let replaced = if uid.is_some() { Replaced::Uid(number) } else { Replaced::Seq(number) };
    Ok((i, Some(replaced)))
}

/// ` [flags ][date-time ][ANNOTATION (…) ]` with the spaces of the grammar: each item is followed by one.
fn options(i: &[u8]) -> Res<'_, AppendOptions> {
    let (i, _) = sp(i)?;
    let (i, flags) = opt(|i| {
        let (i, flags) = flag_list(i)?;
        Ok((sp(i)?.0, flags))
    })
    .parse(i)?;
    let (i, internal_date) = opt(|i| {
        let (i, date) = date_time(i)?;
        Ok((sp(i)?.0, date))
    })
    .parse(i)?;
    let (i, annotations) = opt(|i| {
        let (i, _) = tag_no_case("ANNOTATION ").parse(i)?;
        let (i, values) = cut(annotation::values).parse(i)?;
        Ok((sp(i)?.0, values))
    })
    .parse(i)?;
    let (flags, annotations) = (flags.unwrap_or_default(), annotations.unwrap_or_default());
    Ok((i, AppendOptions { flags, internal_date, annotations }))
}
