//! SEARCH: which messages are looked at, then one key. Read into the tree that IMAP's SEARCH uses.

use super::set::MessageSet;
use super::word::Words;
use crate::imap::SearchKey;
use crate::imap::search::Date;
use crate::types::{Flag, Keyword, SequenceSet, SetRange, SetValue, SystemFlags};

/// Reads `MARKED|UNMARKED|ALL|set [NOT] key [argument]`.
pub(super) fn parse(words: &mut Words<'_>) -> Option<SearchKey> {
    let mut set = MessageSet::default();
    let mut word = words.word();
    let marked = || SearchKey::Flag(Flag::System(SystemFlags::FLAGGED));
    let among = match &*word.to_ascii_uppercase() {
        "MARKED" => Some(marked()),
        "UNMARKED" => Some(marked().negated()),
        "ALL" => None,
        _ => {
            set.push(&word)?.ok()?;
            let range = |&(first, last): &(u32, u32)| SetRange {
                first: SetValue::Number(first),
                last: SetValue::Number(last),
            };
            Some(SearchKey::SeqSet(SequenceSet { ranges: set.0.iter().map(range).collect() }))
        }
    };
    word = words.word().to_ascii_uppercase();
    let not = word == "NOT";
    if not {
        word = words.word().to_ascii_uppercase();
    }
    let key = key(&word, words)?;
    let key = if not { key.negated() } else { key };
    Some(match among {
        None => key,
        Some(among) => SearchKey::And(vec![among, key]),
    })
}

fn key(name: &str, words: &mut Words<'_>) -> Option<SearchKey> {
    let flag = |flag| Some(SearchKey::Flag(Flag::System(flag)));
    Some(match name {
        "REPLIED" => return flag(SystemFlags::ANSWERED),
        "DELETED" => return flag(SystemFlags::DELETED),
        "DRAFT" => return flag(SystemFlags::DRAFT),
        "SEEN" => return flag(SystemFlags::SEEN),
        "KEYWORD" => SearchKey::Flag(Flag::Keyword(Keyword::new(&words.word())?)),
        "FROM" => SearchKey::From(words.word()),
        "TO" => SearchKey::To(words.word()),
        "CC" => SearchKey::Cc(words.word()),
        "BCC" => SearchKey::Bcc(words.word()),
        "SUBJECT" => SearchKey::Subject(words.word()),
        "HEADER" => SearchKey::Header(words.some()?, words.word()),
        "BODY" => SearchKey::Body(words.word()),
        "TEXT" => SearchKey::Text(words.word()),
        "BEFORE" => SearchKey::Before(date(&words.word())?),
        "ON" => SearchKey::On(date(&words.word())?),
        "SINCE" => SearchKey::Since(date(&words.word())?),
        "SENTBEFORE" => SearchKey::SentBefore(date(&words.word())?),
        "SENTON" => SearchKey::SentOn(date(&words.word())?),
        "SENTSINCE" => SearchKey::SentSince(date(&words.word())?),
        "SMALLER" => SearchKey::Smaller(words.word().parse().ok()?),
        "LARGER" => SearchKey::Larger(words.word().parse().ok()?),
        _ => return None,
    })
}

/// `08-Aug-2003`
fn date(text: &str) -> Option<Date> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let mut fields = text.split('-');
    let day: u8 = fields.next()?.trim().parse().ok()?;
    let name = fields.next()?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|m| *m == name)?;
    let year: u16 = fields.next()?.parse().ok()?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 if leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    let good = fields.next().is_none() && (1..=days).contains(&day) && year <= 9999;
    good.then_some(Date { year, month: month as u8 + 1, day })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<SearchKey> {
        parse(&mut Words::new(line))
    }

    #[test]
    fn keys_stand_behind_what_they_look_at() {
        let flagged = SearchKey::Flag(Flag::System(SystemFlags::FLAGGED));
        let draft = SearchKey::Flag(Flag::System(SystemFlags::DRAFT));
        assert_eq!(read("ALL DRAFT"), Some(draft.clone()));
        assert_eq!(
            read("unmarked not draft"),
            Some(SearchKey::And(vec![flagged.clone().negated(), draft.negated()]))
        );
        assert_eq!(
            read("MARKED SUBJECT \"sâm x\""),
            Some(SearchKey::And(vec![flagged, SearchKey::Subject("sâm x".into())]))
        );
        assert!(matches!(read("1-3 SMALLER \"200\""), Some(SearchKey::And(keys))
            if matches!(&keys[..], [SearchKey::SeqSet(_), SearchKey::Smaller(200)])));
        assert!(matches!(
            read("ALL ON \"08-Aug-2003\""),
            Some(SearchKey::On(Date { year: 2003, month: 8, day: 8 }))
        ));
        for bad in
            ["", "ALL", "ALL INVALID", "x SEEN", "ALL ON 30-Feb-2004", "ALL SMALLER x", "3-2 SEEN"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
