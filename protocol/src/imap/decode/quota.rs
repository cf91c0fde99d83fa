//! Arguments of GETQUOTA, GETQUOTAROOT and SETQUOTA: RFC 9208 section 7.
//!
//! Names of quota roots are ours, and made of mailbox names: they are read as such.

use nom::Parser;
use nom::character::complete::char;
use nom::combinator::cut;
use nom::multi::separated_list0;
use nom::sequence::{delimited, preceded, separated_pair};

use super::super::command::Body;
use super::Dialect;
use super::token::{Reject, Res, atom, expect, mailbox, number64, sp};

/// Most resources in one SETQUOTA; four are known.
const RESOURCES_MAX: usize = 20;

pub(super) fn get(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, root) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    Ok((i, Body::GetQuota { root }))
}

pub(super) fn get_root(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, mailbox) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    Ok((i, Body::GetQuotaRoot { mailbox }))
}

pub(super) fn set(i: &[u8], dialect: Dialect) -> Res<'_, Body> {
    let (i, root) = preceded(sp, |i| mailbox(i, dialect)).parse(i)?;
    let (i, _) = sp(i)?;
    let list = separated_list0(sp, separated_pair(atom, cut(sp), cut(number64)));
    let (rest, limits) =
        delimited(expect("(", char('(')), list, expect(")", char(')'))).parse(i)?;
    if limits.len() > RESOURCES_MAX {
        return Err(Reject::error(i, "at most 20 resources"));
    }
    let limits = limits.into_iter().map(|(name, n)| (name.to_ascii_uppercase(), n)).collect();
    Ok((rest, Body::SetQuota { root, limits }))
}
