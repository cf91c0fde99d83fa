//! Arguments of SORT and THREAD: RFC 5256, RETURN options of RFC 5267 section 3,
//! annotations of RFC 5257.

use nom::Parser;
use nom::character::complete::char;
use nom::combinator::{map, opt};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded};

use super::super::annotation::AnnotationKey;
use super::super::command::{Sort, Thread};
use super::super::sort::{SORT_CRITERIA_MAX, SortCriterion, SortKey, ThreadAlgorithm};
use super::annotation;
use super::search::{charset_and_keys, return_options};
use super::token::{Reject, Res, expect, keyword_upper, sp};

pub(super) fn sort(i: &[u8], uid: bool) -> Res<'_, Sort> {
    let (i, options) = opt(return_options).parse(i)?;
    let (i, _) = sp(i)?;
    let list = separated_list1(sp, criterion);
    let (rest, listed) =
        delimited(expect("(", char('(')), list, expect(")", char(')'))).parse(i)?;
    let (mut criteria, mut annotations) = (Vec::with_capacity(listed.len()), Vec::new());
    for (key, reverse) in listed.into_iter().take(SORT_CRITERIA_MAX + 1) {
        let key = match key {
            Key::Known(key) => key,
            Key::Annotation(key) => {
                annotations.push(key);
                SortKey::Annotation(annotations.len() as u8 - 1)
            }
        };
        criteria.push(SortCriterion { key, reverse });
    }
    if criteria.len() > SORT_CRITERIA_MAX {
        return Err(Reject::error(i, "at most 16 sort criteria"));
    }
    let (rest, key) = preceded(sp, charset_and_keys).parse(rest)?;
    // RFC 6203 sections 4 and 6.
    let by_relevancy = criteria.iter().any(|criterion| criterion.key == SortKey::Relevancy);
    let wants_scores = options.is_some_and(|options| options.relevancy);
    if (by_relevancy || wants_scores) && !key.is_fuzzy() {
        return Err(Reject::error(i, "a FUZZY key with RELEVANCY"));
    }
    Ok((rest, Sort { uid, options, criteria, annotations, key }))
}

enum Key {
    Known(SortKey),
    Annotation(AnnotationKey),
}

fn criterion(i: &[u8]) -> Res<'_, (Key, bool)> {
    let (rest, name) = expect("a sort key", keyword_upper).parse(i)?;
    let (at, rest, name, reverse) = match name.as_str() {
        "REVERSE" => {
            let (at, _) = sp(rest)?;
            let (rest, name) = expect("a sort key", keyword_upper).parse(at)?;
            (at, rest, name, true)
        }
        _ => (i, rest, name, false),
    };
    if name == "ANNOTATION" {
        let (rest, key) = annotation::sorted(rest)?;
        return Ok((rest, (Key::Annotation(key), reverse)));
    }
    let known = SortKey::ALL.iter().find(|(word, _)| *word == name);
    let key = known.map(|(_, key)| *key).ok_or(Reject::error(at, "a sort key"))?;
    Ok((rest, (Key::Known(key), reverse)))
}

pub(super) fn thread(i: &[u8], uid: bool) -> Res<'_, Thread> {
    let (i, _) = sp(i)?;
    let (rest, name) = expect("a threading algorithm", keyword_upper).parse(i)?;
    let known = ThreadAlgorithm::ALL.iter().find(|(word, _)| *word == name);
    let algorithm = known.map(|(_, algorithm)| *algorithm);
    let algorithm = algorithm.ok_or(Reject::error(i, "ORDEREDSUBJECT, REFERENCES or REFS"))?;
    map(preceded(sp, charset_and_keys), move |key| Thread { uid, algorithm, key }).parse(rest)
}
