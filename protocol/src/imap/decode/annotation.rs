//! Arguments that name annotations: RFC 5257 section 5.

use nom::Parser;
use nom::branch::alt;
use nom::character::complete::char;
use nom::combinator::map;
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded, separated_pair};

use super::super::annotation::{AnnotationAttribute, AnnotationKey, AnnotationSet, AnnotationSide};
use super::super::command::FetchItem;
use super::token::{Reject, Res, astring, entry_pattern, expect, literal8, nstring, sp, utf8};

/// Most values, entries or attributes in one list.
const LIST_MAX: usize = 1000;

fn entry(i: &[u8]) -> Res<'_, String> {
    expect("the name of an entry", utf8("a name in ASCII", astring)).parse(i)
}

/// An attribute's name, of those that there are.
fn attribute(i: &[u8]) -> Res<'_, AnnotationAttribute> {
    let (rest, name) = expect("the name of an attribute", astring).parse(i)?;
    let name = name.to_ascii_lowercase();
    let (stem, side) = if let Some(stem) = name.strip_suffix(b".priv") {
        (stem, AnnotationSide::Private)
    } else if let Some(stem) = name.strip_suffix(b".shared") {
        (stem, AnnotationSide::Shared)
    } else {
        (&name[..], AnnotationSide::Either)
    };
    match stem {
        b"value" => Ok((rest, AnnotationAttribute { size: false, side })),
        b"size" => Ok((rest, AnnotationAttribute { size: true, side })),
        _ => Err(Reject::error(i, "the attribute value or size")),
    }
}

/// `value.priv` (true) or `value.shared`.
fn one_value(i: &[u8]) -> Res<'_, bool> {
    let (rest, attribute) = attribute(i)?;
    match attribute {
        AnnotationAttribute { size: false, side: AnnotationSide::Private } => Ok((rest, true)),
        AnnotationAttribute { size: false, side: AnnotationSide::Shared } => Ok((rest, false)),
        _ => Err(Reject::error(i, "value.priv or value.shared")),
    }
}

/// `(/comment (value.priv "x" value.shared NIL) …)` of STORE and APPEND.
pub(super) fn values(i: &[u8]) -> Res<'_, Vec<AnnotationSet>> {
    let value = alt((map(literal8, Some), nstring));
    let pair = separated_pair(one_value, sp, expect("NIL or a string", value));
    let list = separated_list1(char(' '), pair);
    let pairs = delimited(expect("(", char('(')), list, expect(")", char(')')));
    let one = separated_pair(entry, sp, pairs);
    let list = separated_list1(char(' '), one);
    let (rest, entries) =
        delimited(expect("(", char('(')), list, expect(")", char(')'))).parse(i)?;
    let mut values = Vec::new();
    for (entry, pairs) in entries {
        for (private, value) in pairs {
            values.push(AnnotationSet { entry: entry.clone(), private, value });
        }
    }
    if values.len() > LIST_MAX {
        return Err(Reject::error(i, "at most 1000 values"));
    }
    Ok((rest, values))
}

/// ` (/% (value size.priv))` of FETCH.
pub(super) fn item(i: &[u8]) -> Res<'_, FetchItem> {
    let (i, _) = (sp, expect("(", char('('))).parse(i)?;
    let list = separated_list1(char(' '), entry_pattern);
    let (i, entries) = alt((
        delimited(char('('), list, expect(")", char(')'))),
        map(entry_pattern, |entry| vec![entry]),
    ))
    .parse(i)?;
    let (i, _) = sp(i)?;
    let list = separated_list1(char(' '), attribute);
    let (rest, attributes) = match i.first() {
        Some(b'(') => delimited(char('('), list, expect(")", char(')'))).parse(i)?,
        _ => map(attribute, |attribute| vec![attribute]).parse(i)?,
    };
    let (rest, _) = expect(")", char(')')).parse(rest)?;
    if entries.len() > LIST_MAX || attributes.len() > LIST_MAX {
        return Err(Reject::error(i, "at most 1000 entries and attributes"));
    }
    Ok((rest, FetchItem::Annotation { entries, attributes }))
}

/// ` /comment value` of SEARCH, whose string follows.
pub(super) fn searched(i: &[u8]) -> Res<'_, (String, AnnotationSide)> {
    let (i, entry) = preceded(sp, entry_pattern).parse(i)?;
    let (i, _) = sp(i)?;
    match attribute(i)? {
        (rest, AnnotationAttribute { size: false, side }) => Ok((rest, (entry, side))),
        _ => Err(Reject::error(i, "value, value.priv or value.shared")),
    }
}

/// ` /altsubject value.shared` of SORT.
pub(super) fn sorted(i: &[u8]) -> Res<'_, AnnotationKey> {
    let pair = separated_pair(entry, sp, one_value);
    map(preceded(sp, pair), |(entry, private)| AnnotationKey { entry, private }).parse(i)
}

#[cfg(test)]
mod tests {
    use super::super::super::command::{AppendItem, Body, SelectParameters};
    use super::super::super::search::SearchKey;
    use super::super::super::sort::{SortCriterion, SortKey};
    use super::super::{AppendText, Dialect, command};
    use super::*;

    const DIALECT: Dialect = Dialect { utf8_names: false, no_charset: false };

    fn body(text: &str) -> Option<Body> {
        command(format!("t {text}").as_bytes(), DIALECT).ok().map(|command| command.body)
    }

    fn set(entry: &str, private: bool, value: Option<&[u8]>) -> AnnotationSet {
        AnnotationSet { entry: entry.into(), private, value: value.map(<[u8]>::to_vec) }
    }

    #[test]
    fn what_fetch_asks_for() {
        let item = |text: &str| match body(&format!("FETCH 1 (ANNOTATION {text})")) {
            Some(Body::Fetch(fetch)) => fetch.items.into_iter().next(),
            _ => None,
        };
        let both = AnnotationAttribute { size: false, side: AnnotationSide::Either };
        let sizes = AnnotationAttribute { size: true, side: AnnotationSide::Private };
        let asked = |entries: &[&str], attributes: &[AnnotationAttribute]| {
            let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
            Some(FetchItem::Annotation { entries, attributes: attributes.to_vec() })
        };
        assert_eq!(item("(/comment value)"), asked(&["/comment"], &[both]));
        assert_eq!(item("(/* (VALUE size.priv))"), asked(&["/*"], &[both, sizes]));
        assert_eq!(item("((/% \"/x y\") value)"), asked(&["/%", "/x y"], &[both]));
        for bad in ["/comment value", "(/comment)", "(() value)", "(/comment ())", "(/c date)"] {
            assert_eq!(item(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_store_and_append_set() {
        let store = |text: &str| match body(&format!("STORE 1 {text}")) {
            Some(Body::Store(store)) => Some(store.annotations),
            _ => None,
        };
        assert_eq!(
            store(
                "ANNOTATION (/comment (value.priv \"x\" value.shared NIL) /a (value.priv {1+}\r\ny))"
            ),
            Some(vec![
                set("/comment", true, Some(b"x")),
                set("/comment", false, None),
                set("/a", true, Some(b"y")),
            ])
        );
        assert_eq!(
            store("(UNCHANGEDSINCE 4) ANNOTATION (/a (value.shared ~{2+}\r\n\0b))"),
            Some(vec![set("/a", false, Some(b"\0b"))])
        );
        for bad in [
            "ANNOTATION (/a (value \"x\"))",
            "ANNOTATION (/a (size.priv \"x\"))",
            "ANNOTATION (/a (value.priv))",
            "ANNOTATION (/a value.priv \"x\")",
            "ANNOTATION ()",
            "+ANNOTATION (/a (value.priv \"x\"))",
        ] {
            assert_eq!(store(bad), None, "{bad}");
        }
        let text = b"a APPEND x (\\Seen) ANNOTATION (/a (value.priv {1+}\r\nz)) ";
        let (_, _, items) = AppendText::begin(text, true, DIALECT).unwrap();
        let AppendItem::Message(options) = &items[0] else { panic!("{items:?}") };
        assert_eq!(options.annotations, [set("/a", true, Some(b"z"))]);
        let unfinished = b"a APPEND x ANNOTATION (/a (value.priv \"z\") ";
        assert!(AppendText::begin(unfinished, true, DIALECT).is_err());
    }

    #[test]
    fn what_is_searched_sorted_and_selected_by() {
        let key = |text: &str| match body(&format!("SEARCH {text}")) {
            Some(Body::Search(search)) => Some(search.key),
            _ => None,
        };
        let annotation = |entry: &str, side, text: &str| SearchKey::Annotation {
            entry: entry.into(),
            side,
            text: text.into(),
        };
        assert_eq!(
            key("ANNOTATION /comment value \"IMAP4\""),
            Some(annotation("/comment", AnnotationSide::Either, "IMAP4"))
        );
        assert_eq!(
            key("ANNOTATION * value.priv NIL"),
            Some(annotation("*", AnnotationSide::Private, "").negated())
        );
        assert_eq!(key("ANNOTATION /a size \"1\""), None);
        assert!(key("NOT ANNOTATION /a value x").unwrap().names_annotations());
        let sort = |text: &str| match body(&format!("SORT ({text}) UTF-8 ALL")) {
            Some(Body::Sort(sort)) => Some((sort.criteria, sort.annotations)),
            _ => None,
        };
        let criterion = |key, reverse| SortCriterion { key, reverse };
        assert_eq!(
            sort("SUBJECT REVERSE ANNOTATION /altsubject value.shared"),
            Some((
                vec![criterion(SortKey::Subject, false), criterion(SortKey::Annotation(0), true)],
                vec![AnnotationKey { entry: "/altsubject".into(), private: false }],
            ))
        );
        assert_eq!(sort("ANNOTATION /altsubject value"), None);
        let parameters = SelectParameters { annotate: true, ..SelectParameters::default() };
        let selected = Body::Select { mailbox: "INBOX".into(), read_only: false, parameters };
        assert_eq!(body("SELECT INBOX (ANNOTATE)"), Some(selected));
    }
}
