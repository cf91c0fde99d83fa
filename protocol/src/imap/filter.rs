//! Named searches: RFC 5466. A filter is a list of search keys that a user has stored under a name.
//!
//! A filter counts as one key however many it has, as if it stood in parentheses: `NOT FILTER x`
//! is the negation of all of it. Invariant: what comes out of [`substitute`] is a key tree within
//! the limits of [`super::search`].

use std::collections::BTreeMap;

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
pub fn substitute(key: SearchKey, values: &BTreeMap<String, SearchKey>) -> Option<SearchKey> {
    put(key, values, 1, &mut SEARCH_KEYS_MAX.clone())
}

fn put(
    key: SearchKey,
    values: &BTreeMap<String, SearchKey>,
    depth: usize,
    keys_left: &mut usize,
) -> Option<SearchKey> {
    if depth > SEARCH_DEPTH_MAX {
        return None;
    }
    *keys_left = keys_left.checked_sub(1)?;
    let mut boxed = |key: Box<SearchKey>| put(*key, values, depth + 1, keys_left).map(Box::new);
    Some(match key {
        SearchKey::Filter(name) => match values.get(&name) {
            Some(value) => {
                let none = BTreeMap::new();
                put(value.clone(), &none, depth, keys_left)?
            }
            None => SearchKey::Filter(name),
        },
        SearchKey::Not(key) => SearchKey::Not(boxed(key)?),
        SearchKey::Fuzzy(key) => SearchKey::Fuzzy(boxed(key)?),
        SearchKey::Or(a, b) => SearchKey::Or(boxed(a)?, boxed(b)?),
        SearchKey::And(keys) => {
            let put = |key| put(key, values, depth + 1, keys_left);
            SearchKey::And(keys.into_iter().map(put).collect::<Option<_>>()?)
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::super::decode::search_criteria;
    use super::*;

    fn key(text: &str) -> SearchKey {
        search_criteria(text.as_bytes()).expect(text)
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, SearchKey> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), key(text))).collect()
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
        assert_eq!(once, key("NOT (SEEN FILTER b)"));
        assert_eq!(substitute(once, &nested), Some(key("NOT (SEEN DELETED)")));
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
