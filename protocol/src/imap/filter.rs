//! Named searches: RFC 5466. A filter is a list of search keys that a user has stored under a name.
//!
//! What is stored stands in the place of `FILTER x` word for word (RFC 5466 section 3.1): of several
//! keys, NOT and OR before it have the first as theirs. Invariant: what comes out of [`substitute`] is a key tree within
//! the limits of [`super::search`].

use std::collections::{BTreeMap, VecDeque};

use super::search::{SEARCH_DEPTH_MAX, SEARCH_KEYS_MAX, SearchKey};

/// How often what stands in place of filters may have filters in it. Who goes round in a circle
/// ends here. RFC 5466 section 3.1 asks for 3.
pub const FILTER_PASSES_MAX: usize = 8;

/// The names of filters in a key, each once.
pub fn names(key: &SearchKey) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![key];
    while let Some(key) = open.pop() {
        match key {
            SearchKey::Filter(name) if !names.contains(name) => names.push(name.clone()),
            SearchKey::Not(key) | SearchKey::Fuzzy(key) => open.push(key),
            SearchKey::Or(a, b) => open.extend([&**b, &**a]),
            SearchKey::And(keys) => open.extend(keys.iter().rev()),
            _ => {}
        }
    }
    names
}

/// Puts the values of filters in their places, once: filters in those stay. `None` if the key
/// would pass the limits of key trees; a filter without a value stays, too.
pub fn substitute(key: SearchKey, values: &BTreeMap<String, Vec<SearchKey>>) -> Option<SearchKey> {
    let keys = match key {
        SearchKey::And(keys) => keys,
        other => vec![other],
    };
    let put = put(keys, values, &mut SEARCH_KEYS_MAX.clone())?;
    Some(put).filter(|key| depth(key) <= SEARCH_DEPTH_MAX)
}

/// What a list of keys is written with.
enum Token {
    Not,
    Fuzzy,
    Or,
    /// A key by itself, or what stands in parentheses.
    Key(SearchKey),
}

/// Writes keys down with the values in their places, and reads that again.
fn put(
    keys: Vec<SearchKey>,
    values: &BTreeMap<String, Vec<SearchKey>>,
    keys_left: &mut usize,
) -> Option<SearchKey> {
    let mut tokens = VecDeque::new();
    for key in keys {
        write(key, values, keys_left, &mut tokens)?;
    }
    let mut keys = Vec::new();
    while !tokens.is_empty() {
        keys.push(read(&mut tokens)?);
    }
    Some(SearchKey::all(keys))
}

fn write(
    key: SearchKey,
    values: &BTreeMap<String, Vec<SearchKey>>,
    keys_left: &mut usize,
    out: &mut VecDeque<Token>,
) -> Option<()> {
    *keys_left = keys_left.checked_sub(1)?;
    match key {
        SearchKey::Filter(name) if values.contains_key(&name) => {
            for key in &values[&name] {
                write(key.clone(), &BTreeMap::new(), keys_left, out)?;
            }
        }
        SearchKey::Not(key) => {
            out.push_back(Token::Not);
            write(*key, values, keys_left, out)?;
        }
        SearchKey::Fuzzy(key) => {
            out.push_back(Token::Fuzzy);
            write(*key, values, keys_left, out)?;
        }
        SearchKey::Or(a, b) => {
            out.push_back(Token::Or);
            write(*a, values, keys_left, out)?;
            write(*b, values, keys_left, out)?;
        }
        SearchKey::And(keys) => out.push_back(Token::Key(put(keys, values, keys_left)?)),
        other => out.push_back(Token::Key(other)),
    }
    Some(())
}

/// Each value has a key at least, so that there is always one to read.
fn read(tokens: &mut VecDeque<Token>) -> Option<SearchKey> {
    Some(match tokens.pop_front()? {
        Token::Not => SearchKey::Not(Box::new(read(tokens)?)),
        Token::Fuzzy => SearchKey::Fuzzy(Box::new(read(tokens)?)),
        Token::Or => SearchKey::Or(Box::new(read(tokens)?), Box::new(read(tokens)?)),
        Token::Key(key) => key,
    })
}

fn depth(key: &SearchKey) -> usize {
    1 + match key {
        SearchKey::Not(key) | SearchKey::Fuzzy(key) => depth(key),
        SearchKey::Or(a, b) => depth(a).max(depth(b)),
        SearchKey::And(keys) => keys.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::search_criteria;
    use super::*;

    fn key(text: &str) -> SearchKey {
        SearchKey::all(search_criteria(text.as_bytes()).expect(text))
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<SearchKey>> {
        let keys = |text: &str| search_criteria(text.as_bytes()).expect(text);
        pairs.iter().map(|(name, text)| ((*name).to_owned(), keys(text))).collect()
    }

    /// RFC 5466 section 3.1.
    #[test]
    fn values_are_put_in_the_places_of_filters() {
        let road = values(&[("on-the-road", r#"OR SMALLER 5000 FROM "boss@example.com""#)]);
        let asked = key("UID 300:900 FILTER On-The-Road SINCE 3-Dec-2002");
        assert_eq!(names(&asked), ["on-the-road"]);
        let meant = key(r#"UID 300:900 OR SMALLER 5000 FROM "boss@example.com" SINCE 3-Dec-2002"#);
        assert_eq!(substitute(asked, &road), Some(meant));

        let nested = values(&[("a", "SEEN FILTER b"), ("b", "DELETED")]);
        let once = substitute(key("NOT FILTER a"), &nested).unwrap();
        assert_eq!(once, key("NOT SEEN FILTER b"));
        assert_eq!(substitute(once, &nested), Some(key("NOT SEEN DELETED")));
        let several = values(&[("two", "SEEN DELETED"), ("group", "(SEEN DELETED)")]);
        for (asked, meant) in [
            ("OR FILTER two FLAGGED", "OR SEEN DELETED FLAGGED"),
            ("OR FLAGGED NOT FILTER two", "OR FLAGGED NOT SEEN DELETED"),
            ("OR FILTER group FLAGGED", "OR (SEEN DELETED) FLAGGED"),
            ("NOT (FILTER two DRAFT)", "NOT (SEEN DELETED DRAFT)"),
            ("FUZZY FILTER two", "FUZZY SEEN DELETED"),
        ] {
            assert_eq!(substitute(key(asked), &several), Some(key(meant)), "{asked}");
        }
        assert_eq!(names(&key("OR FILTER b NOT (FILTER a FUZZY FILTER b)")), ["b", "a"]);
    }

    #[test]
    fn trees_stay_within_their_limits() {
        let many = "SEEN ".repeat(99) + "SEEN";
        let many = values(&[("many", &many)]);
        let asked = |count: usize| key(&vec!["FILTER many"; count].join(" "));
        assert!(substitute(asked(19), &many).is_some());
        assert_eq!(substitute(asked(20), &many), None);

        let nots = |count: usize| "NOT ".repeat(count);
        let deep = values(&[("deep", &(nots(SEARCH_DEPTH_MAX / 2) + "SEEN"))]);
        let asked = |count| key(&(nots(count) + "FILTER deep"));
        assert!(substitute(asked(SEARCH_DEPTH_MAX / 2 - 1), &deep).is_some());
        assert_eq!(substitute(asked(SEARCH_DEPTH_MAX / 2), &deep), None);
    }
}
