//! Parameters of SELECT and EXAMINE: CONDSTORE and QRESYNC of RFC 7162, ANNOTATE of RFC 5257.

use nom::Parser;
use nom::character::complete::char;
use nom::combinator::opt;
use nom::sequence::{delimited, preceded};

use super::super::command::{QResync, SelectParameters};
use super::token::{Reject, Res, expect, keyword_upper, modseq, number_nonzero, sequence_set, sp};
use crate::types::{SequenceSet, SetValue, UidValidity};

/// What stands behind `(`, up to and with `)`.
pub(super) fn parameters(i: &[u8]) -> Res<'_, SelectParameters> {
    let mut found = SelectParameters::default();
    let mut i = i;
    loop {
        let (rest, name) = expect("CONDSTORE, QRESYNC or ANNOTATE", keyword_upper).parse(i)?;
        let rest = match name.as_str() {
            "CONDSTORE" => {
                found.condstore = true;
                rest
            }
            "ANNOTATE" => {
                found.annotate = true;
                rest
            }
            "QRESYNC" => {
                let (rest, known) = preceded(sp, known_state).parse(rest)?;
                found.qresync = Some(Box::new(known));
                rest
            }
            _ => return Err(Reject::error(i, "CONDSTORE, QRESYNC or ANNOTATE")),
        };
        match rest {
            [b' ', rest @ ..] => i = rest,
            _ => {
                let (rest, _) = expect(")", char(')')).parse(rest)?;
                return Ok((rest, found));
            }
        }
    }
}

/// `(67890007 20050715194045000 41,43:211 (1,2 41,43))`
fn known_state(i: &[u8]) -> Res<'_, QResync> {
    let (i, (_, uid_validity, _, modseq)) =
        (expect("(", char('(')), number_nonzero, sp, modseq).parse(i)?;
    let (i, known) = match i {
        [b' ', rest @ ..] if rest.first() != Some(&b'(') => {
            let (i, set) = plain_set(rest)?;
            (i, Some(set))
        }
        _ => (i, None),
    };
    let pair = (plain_set, preceded(sp, plain_set));
    let matched = delimited(char('('), pair, expect(")", char(')')));
    let (i, matched) = opt(preceded(sp, matched)).parse(i)?;
    let (i, _) = expect(")", char(')')).parse(i)?;
    Ok((i, QResync { uid_validity: UidValidity(uid_validity), modseq, known, matched }))
}

/// A set in which `*` has no place.
fn plain_set(i: &[u8]) -> Res<'_, SequenceSet> {
    let (rest, set) = sequence_set(i)?;
    let has_star = |value| value == SetValue::Star;
    if set.ranges.iter().any(|range| has_star(range.first) || has_star(range.last)) {
        return Err(Reject::error(i, "a set without *"));
    }
    Ok((rest, set))
}
