//! Words of a line.

/// Takes words from a line, one by one.
#[derive(Clone, Debug)]
pub struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// The words of `line`.
    pub fn new(line: &'a str) -> Words<'a> {
        Words(line)
    }

    /// The next word; empty at the end, and for `""`.
    pub fn word(&mut self) -> String {
        let rest = self.0.trim_start_matches([' ', '\t', '\r']);
        let Some(mut rest) = rest.strip_prefix('"') else {
            let end = rest.find([' ', '\t', '\r']).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            self.0 = behind;
            return word.to_owned();
        };
        let mut word = String::new();
        while let Some((before, behind)) = rest.split_once('"') {
            word.push_str(before);
            match behind.strip_prefix('"') {
                Some(behind) => {
                    word.push('"');
                    rest = behind;
                }
                None => {
                    self.0 = behind;
                    return word;
                }
            }
        }
        // No closing quote: the line closes it.
        word.push_str(rest);
        self.0 = "";
        word
    }

    /// The next word that isn't empty.
    pub fn some(&mut self) -> Option<String> {
        Some(self.word()).filter(|w| !w.is_empty())
    }

    /// A folder: words up to an empty one.
    pub fn folder(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.some()).collect()
    }
}

/// A word in quotes, as the server writes it. Control characters become blanks: they would end the
/// line.
pub fn quoted(word: &str) -> String {
    let plain: String = word.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", plain.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_and_unquoted() {
        let mut words = Words::new("  OPEN\t\"a b\" \"say \"\"hi\"\"\" \"\" x\r");
        let all: Vec<_> = (0..6).map(|_| words.word()).collect();
        assert_eq!(all, ["OPEN", "a b", "say \"hi\"", "", "x", ""]);
        assert_eq!(Words::new("INBOX \"a b\" \"\" INBOX c").folder(), ["INBOX", "a b"]);
        assert_eq!(Words::new("\"open").word(), "open");
        assert_eq!(quoted("a\nb\"c"), "\"a b\"\"c\"");
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(word in "[^\\p{Cc}]{1,20}") {
            prop_assert_eq!(Words::new(&quoted(&word)).word(), word);
        }
    }
}
