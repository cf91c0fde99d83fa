//! Arguments of LIST (RFC 3501 section 6.3.8, RFC 5258, 5819, 6154), LSUB, SCAN and STATUS.

use nom::Parser;
use nom::bytes::complete::tag_no_case;
use nom::character::complete::char;
use nom::combinator::{cut, opt};
use nom::multi::{separated_list0, separated_list1};
use nom::sequence::{delimited, preceded};

use super::super::command::{Body, List, StatusItem};
use super::Dialect;
use super::metadata::listed_entries;
use super::token::{Reject, Res, astring, expect, keyword_upper, list_pattern, mailbox, sp, utf8};

/// Most patterns in one LIST.
const LIST_PATTERNS_MAX: usize = 100;

pub(super) fn list(i: &[u8], dialect: Dialect) -> Res<'_, List> {
    let mut list = List::default();
    let (i, _) = sp(i)?;
    let selection = delimited(char('('), separated_list0(sp, keyword_upper), char(')'));
    let (i, selected) = opt(selection).parse(i)?;
    let mut i = i;
    if let Some(options) = selected {
        list.extended = true;
        select(i, &options, &mut list)?;
        i = sp(i)?.0;
    }
    let (i, reference) = mailbox(i, dialect)?;
    list.reference = reference;
    let (i, _) = sp(i)?;
    let pattern = |i| list_pattern(i, dialect);
    let (i, patterns) = if i.first() == Some(&b'(') {
        list.extended = true;
        delimited(char('('), separated_list1(sp, pattern), expect(")", char(')'))).parse(i)?
    } else {
        pattern(i).map(|(i, pattern)| (i, vec![pattern]))?
    };
    if patterns.len() > LIST_PATTERNS_MAX {
        return Err(Reject::error(i, "at most 100 patterns"));
    }
    list.patterns = patterns;
    let (i, returned) = opt(preceded(sp, cut(|i| returns(i, list.clone())))).parse(i)?;
    if let Some(returned) = returned {
        list = List { extended: true, ..returned };
    }
    Ok((i, list))
}

fn select(i: &[u8], options: &[String], list: &mut List) -> Result<(), nom::Err<Reject>> {
    for option in options {
        match option.as_str() {
            "SUBSCRIBED" => list.select_subscribed = true,
            "REMOTE" => list.select_remote = true,
            "SPECIAL-USE" => list.select_special_use = true,
            "RECURSIVEMATCH" => list.recursive_match = true,
            _ => {
                let known = "SUBSCRIBED, REMOTE, SPECIAL-USE or RECURSIVEMATCH";
                return Err(Reject::error(i, known));
            }
        }
    }
    if list.recursive_match && !list.select_subscribed {
        return Err(Reject::error(i, "SUBSCRIBED beside RECURSIVEMATCH"));
    }
    Ok(())
}

/// `RETURN (…)`, added to `list`.
fn returns(i: &[u8], mut list: List) -> Res<'_, List> {
    let (i, _) = (expect("RETURN", tag_no_case("RETURN")), sp, expect("(", char('('))).parse(i)?;
    let mut i = i;
    while i.first() != Some(&b')') {
        let (rest, name) = expect("a return option", keyword_upper).parse(i)?;
        let mut rest = rest;
        match name.as_str() {
            "SUBSCRIBED" => list.return_subscribed = true,
            "CHILDREN" => list.return_children = true,
            "SPECIAL-USE" => list.return_special_use = true,
            "MYRIGHTS" => list.return_my_rights = true,
            "STATUS" => {
                let (after, items) = preceded(sp, status_items).parse(rest)?;
                list.return_status = items;
                rest = after;
            }
            "METADATA" => {
                let (after, entries) = preceded(sp, listed_entries).parse(rest)?;
                list.return_metadata = entries;
                rest = after;
            }
            _ => {
                let known = "SUBSCRIBED, CHILDREN, SPECIAL-USE, MYRIGHTS, STATUS or METADATA";
                return Err(Reject::error(i, known));
            }
        }
        i = match rest {
            [b' ', after @ ..] if after.first() != Some(&b')') => after,
            [b')', ..] => rest,
            _ => return Err(Reject::error(rest, ")")),
        };
    }
    Ok((&i[1..], list))
}

/// XLIST: plain LIST with other attributes.
pub(super) fn xlist(i: &[u8], dialect: Dialect) -> Res<'_, List> {
    let (i, reference) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    let (i, pattern) = preceded(sp, |i| list_pattern(i, dialect)).parse(i)?;
    let patterns = vec![pattern];
    Ok((i, List { xlist: true, reference, patterns, ..List::default() }))
}

pub(super) fn lsub(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, reference) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    let (i, pattern) = preceded(sp, |i| list_pattern(i, dialect)).parse(i)?;
    Ok((i, Body::Lsub { reference, pattern }))
}

/// SCAN, of c-client and Cyrus: LSUB's arguments and a text.
pub(super) fn scan(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, reference) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    let (i, pattern) = preceded(sp, |i| list_pattern(i, dialect)).parse(i)?;
    let (i, text) = preceded(sp, utf8("a text in UTF-8", astring)).parse(i)?;
    Ok((i, Body::Scan { reference, pattern, text }))
}

pub(super) fn status(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    let (i, items) = preceded(sp, status_items).parse(i)?;
    Ok((i, Body::Status { mailbox, items }))
}

fn status_items(i: &[u8]) -> Res<'_, Vec<StatusItem>> {
    let list = separated_list1(sp, status_item);
    delimited(expect("(", char('(')), list, expect(")", char(')'))).parse(i)
}

fn status_item(i: &[u8]) -> Res<'_, StatusItem> {
    let (rest, name) = keyword_upper(i)?;
    let item = match name.as_str() {
        "MESSAGES" => StatusItem::Messages,
        "RECENT" => StatusItem::Recent,
        "UIDNEXT" => StatusItem::UidNext,
        "UIDVALIDITY" => StatusItem::UidValidity,
        "UNSEEN" => StatusItem::Unseen,
        "DELETED" => StatusItem::Deleted,
        "DELETED-STORAGE" => StatusItem::DeletedStorage,
        "SIZE" => StatusItem::Size,
        "HIGHESTMODSEQ" => StatusItem::HighestModSeq,
        "APPENDLIMIT" => StatusItem::AppendLimit,
        "MAILBOXID" => StatusItem::MailboxId,
        _ => return Err(Reject::error(i, "a STATUS item")),
    };
    Ok((rest, item))
}
