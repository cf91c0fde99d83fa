//! Patterns with wildcards: of mailboxes (RFC 3501 section 6.3.8) and of annotations' entries (RFC 5257
//! section 4.3).

/// A reference and a pattern, put together.
#[derive(Debug)]
pub struct Pattern(Vec<char>, char);

impl Pattern {
    /// The reference is simply written before the pattern.
    pub fn new(reference: &str, pattern: &str, separator: char) -> Pattern {
        let mut whole = format!("{reference}{pattern}");
        // INBOX has no case, in patterns too.
        let first_level = whole.split(separator).next().unwrap_or_default();
        if first_level.eq_ignore_ascii_case("INBOX") {
            whole.replace_range(..5, "INBOX");
        }
        Pattern(whole.chars().collect(), separator)
    }

    /// Whether the pattern shows `name`: `*` stands for anything, `%` for anything but the
    /// separator. From `levels_end` on nothing separates levels.
    ///
    /// Takes time in proportion to pattern times name: the set of places in the pattern that the
    /// name read so far can lead to is carried along.
    pub fn matches(&self, name: &str, levels_end: usize) -> bool {
        let (pattern, separator) = (&self.0, self.1);
        match pattern[..] {
            ['*'] => return true,
            ['%'] => return !name[..levels_end].contains(separator),
            _ => {}
        }
        let mut places = vec![false; pattern.len() + 1];
        let mut next = places.clone();
        places[0] = true;
        let skip_wildcards = |places: &mut Vec<bool>| {
            for at in 0..pattern.len() {
                if places[at] && matches!(pattern[at], '*' | '%') {
                    places[at + 1] = true;
                }
            }
        };
        skip_wildcards(&mut places);
        for (place, c) in name.char_indices() {
            let ends_level = c == separator && place < levels_end;
            next.fill(false);
            for at in 0..pattern.len() {
                match pattern[at] {
                    _ if !places[at] => {}
                    '*' => next[at] = true,
                    '%' => next[at] |= !ends_level,
                    literal => next[at + 1] |= literal == c,
                }
            }
            skip_wildcards(&mut next);
            std::mem::swap(&mut places, &mut next);
        }
        places[pattern.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        let matches =
            |pattern: &str, name: &str| Pattern::new("", pattern, '/').matches(name, name.len());
        for (pattern, name, expected) in [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("%/%", "a/b", true),
            ("a*b", "a/x/b", true),
            ("a%b", "a/x/b", false),
            ("inbox", "INBOX", true),
            ("inbox/*", "INBOX/x", true),
            ("", "a", false),
            ("*%*%*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(Pattern::new("a/", "%", '/').matches("a/b", 3));
        assert!(Pattern::new("", "a/%", '/').matches("a/b@c/d", 3));
        let hostile = Pattern::new("", &"*%".repeat(2000), '/');
        assert!(hostile.matches(&"x".repeat(200), 200));
    }
}
