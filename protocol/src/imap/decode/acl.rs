//! Arguments of GETACL, SETACL, DELETEACL, LISTRIGHTS and MYRIGHTS: RFC 4314 section 7.

use nom::Parser;
use nom::sequence::preceded;

use super::super::command::Body;
use super::Dialect;
use super::token::{Reject, Res, astring, mailbox, sp, utf8};

/// Longest identifier, in bytes.
const IDENTIFIER_BYTES_MAX: usize = 1024;

fn name(i: &[u8], dialect: Dialect) -> Res<'_, String> {
    preceded(sp, |i| mailbox(i, dialect)).parse(i)
}

fn identifier(i: &[u8]) -> Res<'_, String> {
    let (rest, identifier) = preceded(sp, utf8("an identifier in UTF-8", astring)).parse(i)?;
    if identifier.len() > IDENTIFIER_BYTES_MAX {
        return Err(Reject::error(i, "an identifier of at most 1024 bytes"));
    }
    Ok((rest, identifier))
}

pub(super) fn get(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = name(i, dialect)?;
    Ok((i, Body::GetAcl { mailbox }))
}

pub(super) fn set(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = name(i, dialect)?;
    let (i, identifier) = identifier(i)?;
    let (i, rights) = preceded(sp, utf8("rights", astring)).parse(i)?;
    Ok((i, Body::SetAcl { mailbox, identifier, rights }))
}

pub(super) fn delete(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = name(i, dialect)?;
    let (i, identifier) = identifier(i)?;
    Ok((i, Body::DeleteAcl { mailbox, identifier }))
}

pub(super) fn list_rights(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = name(i, dialect)?;
    let (i, identifier) = identifier(i)?;
    Ok((i, Body::ListRights { mailbox, identifier }))
}

pub(super) fn my_rights(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = name(i, dialect)?;
    Ok((i, Body::MyRights { mailbox }))
}
