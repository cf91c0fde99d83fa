//! The text of an HTML document, for previews: character by character, with memory that is bounded
//! whatever comes.
//!
//! No parser of HTML: tags go, and with them what stands inside `script`, `style`, `head` and their
//! like; blocks and breaks leave a blank; entities become their characters.

/// Longest tag name and entity that are told from others, in characters.
const WORD_CHARS_MAX: usize = 16;

/// Elements whose content is no text.
const HIDDEN: [&str; 6] = ["script", "style", "head", "title", "template", "noscript"];

/// Elements within a line: they part no words.
const INLINE: [&str; 20] = [
    "a", "abbr", "b", "big", "code", "del", "em", "font", "i", "ins", "label", "mark", "o:p", "s",
    "small", "span", "strong", "sub", "sup", "u",
];

/// Entities by name, beside the numbers.
const ENTITIES: &[(&str, char)] = &[
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("iexcl", '\u{a1}'),
    ("cent", '\u{a2}'),
    ("pound", '\u{a3}'),
    ("yen", '\u{a5}'),
    ("sect", '\u{a7}'),
    ("copy", '\u{a9}'),
    ("laquo", '\u{ab}'),
    ("shy", '\u{ad}'),
    ("reg", '\u{ae}'),
    ("deg", '\u{b0}'),
    ("middot", '\u{b7}'),
    ("raquo", '\u{bb}'),
    ("iquest", '\u{bf}'),
    ("Agrave", '\u{c0}'),
    ("Aacute", '\u{c1}'),
    ("Acirc", '\u{c2}'),
    ("Atilde", '\u{c3}'),
    ("Auml", '\u{c4}'),
    ("Aring", '\u{c5}'),
    ("AElig", '\u{c6}'),
    ("Ccedil", '\u{c7}'),
    ("Egrave", '\u{c8}'),
    ("Eacute", '\u{c9}'),
    ("Ntilde", '\u{d1}'),
    ("Oacute", '\u{d3}'),
    ("Ouml", '\u{d6}'),
    ("Oslash", '\u{d8}'),
    ("Uuml", '\u{dc}'),
    ("szlig", '\u{df}'),
    ("agrave", '\u{e0}'),
    ("aacute", '\u{e1}'),
    ("acirc", '\u{e2}'),
    ("atilde", '\u{e3}'),
    ("auml", '\u{e4}'),
    ("aring", '\u{e5}'),
    ("aelig", '\u{e6}'),
    ("ccedil", '\u{e7}'),
    ("egrave", '\u{e8}'),
    ("eacute", '\u{e9}'),
    ("ecirc", '\u{ea}'),
    ("euml", '\u{eb}'),
    ("igrave", '\u{ec}'),
    ("iacute", '\u{ed}'),
    ("icirc", '\u{ee}'),
    ("iuml", '\u{ef}'),
    ("ntilde", '\u{f1}'),
    ("ograve", '\u{f2}'),
    ("oacute", '\u{f3}'),
    ("ocirc", '\u{f4}'),
    ("otilde", '\u{f5}'),
    ("ouml", '\u{f6}'),
    ("oslash", '\u{f8}'),
    ("ugrave", '\u{f9}'),
    ("uacute", '\u{fa}'),
    ("ucirc", '\u{fb}'),
    ("uuml", '\u{fc}'),
    ("ensp", '\u{2002}'),
    ("emsp", '\u{2003}'),
    ("thinsp", '\u{2009}'),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("ndash", '\u{2013}'),
    ("mdash", '\u{2014}'),
    ("lsquo", '\u{2018}'),
    ("rsquo", '\u{2019}'),
    ("ldquo", '\u{201c}'),
    ("rdquo", '\u{201d}'),
    ("bull", '\u{2022}'),
    ("hellip", '\u{2026}'),
    ("euro", '\u{20ac}'),
    ("trade", '\u{2122}'),
];

/// Takes a document character by character and gives its text; blanks are not put together.
#[derive(Debug, Default)]
pub struct Stripper {
    place: Place,
    /// Of the tag or the entity that is being read, as far as [`WORD_CHARS_MAX`].
    word: String,
    /// What the present tag closes or opens, once its name was read.
    is_named: bool,
    /// The element whose content is left out.
    hidden: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Place {
    #[default]
    Text,
    Tag,
    /// Within a tag, in an attribute's quotes.
    Quotes(char),
    /// How many of the characters that end it were just there.
    Comment(u8),
    Entity,
}

impl Stripper {
    /// Takes the next character; gives none or more to `text`.
    pub fn push(&mut self, c: char, text: &mut dyn FnMut(char)) {
        match self.place {
            Place::Text => match c {
                '<' => self.begin(Place::Tag),
                '&' if self.hidden.is_none() => self.begin(Place::Entity),
                _ => self.give(c, text),
            },
            Place::Tag => self.in_tag(c, text),
            Place::Quotes(quote) => {
                if c == quote {
                    self.place = Place::Tag;
                }
            }
            Place::Comment(dashes) => {
                self.place = match (c, dashes) {
                    ('>', 2..) => Place::Text,
                    ('-', _) => Place::Comment(dashes.saturating_add(1).min(2)),
                    _ => Place::Comment(0),
                };
            }
            Place::Entity => self.in_entity(c, text),
        }
    }

    fn begin(&mut self, place: Place) {
        self.place = place;
        self.word.clear();
        self.is_named = false;
    }

    fn give(&self, c: char, text: &mut dyn FnMut(char)) {
        if self.hidden.is_none() {
            text(c);
        }
    }

    fn in_tag(&mut self, c: char, text: &mut dyn FnMut(char)) {
        match c {
            '>' => {
                self.place = Place::Text;
                self.end_of_tag(text);
            }
            // Within what is hidden, quotes are mostly apostrophes.
            '"' | '\'' if self.is_named && self.hidden.is_none() => self.place = Place::Quotes(c),
            '-' if self.word == "!-" && !self.is_named => self.place = Place::Comment(0),
            _ if c.is_whitespace() => {
                if self.word.is_empty() {
                    // `a < b` is no tag.
                    self.place = Place::Text;
                    self.give('<', text);
                    self.give(c, text);
                }
                self.is_named = true;
            }
            _ if !self.is_named && self.word.len() < WORD_CHARS_MAX => {
                self.word.extend(c.to_lowercase());
            }
            _ => {}
        }
    }

    fn end_of_tag(&mut self, text: &mut dyn FnMut(char)) {
        let name = self.word.trim_end_matches('/');
        if let Some(hidden) = self.hidden {
            if name.strip_prefix('/') == Some(hidden) {
                self.hidden = None;
                text(' ');
            }
            return;
        }
        if let Some(hidden) = HIDDEN.iter().find(|hidden| **hidden == name) {
            self.hidden = Some(hidden);
            return;
        }
        if !INLINE.contains(&name.trim_start_matches('/')) {
            text(' ');
        }
    }

    fn in_entity(&mut self, c: char, text: &mut dyn FnMut(char)) {
        let is_part = c.is_ascii_alphanumeric() || (c == '#' && self.word.is_empty());
        if is_part && self.word.len() < WORD_CHARS_MAX {
            self.word.push(c);
            return;
        }
        self.place = Place::Text;
        match entity(&self.word) {
            Some(found) => {
                text(found);
                if c == ';' {
                    return;
                }
            }
            None => {
                text('&');
                self.word.chars().for_each(&mut *text);
            }
        }
        self.push(c, text);
    }
}

fn entity(word: &str) -> Option<char> {
    if let Some(number) = word.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| *c != '\0');
    }
    ENTITIES.iter().find(|(name, _)| *name == word).map(|(_, c)| *c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(html: &str) -> String {
        let mut stripper = Stripper::default();
        let mut out = String::new();
        html.chars().for_each(|c| stripper.push(c, &mut |c| out.push(c)));
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tags_go_and_blocks_part_words() {
        assert_eq!(text("<p>one</p><p>two <b>bo</b>ld</p>a<br/>b"), "one two bold a b");
        assert_eq!(text("<a href=\"x>y\" title='<b>'>link</a>"), "link");
        assert_eq!(text("3 < 4 and <i>5</i>"), "3 < 4 and 5");
    }

    #[test]
    fn what_is_no_text_is_left_out() {
        assert_eq!(text("<html><HEAD><title>t</title><style>a > b{}</style></HEAD><body>x"), "x");
        assert_eq!(text("<script>if (a<b) { \"</p>\" }</script>x<!-- <b> -- > --->y"), "xy");
        assert_eq!(text("<!DOCTYPE html><!--[if mso]>no<![endif]-->yes"), "yes");
    }

    #[test]
    fn entities_become_characters() {
        assert_eq!(
            text("a&amp;b &lt;&#228;&#xE4;&auml;&gt; &frob; x & y&"),
            "a&b <äää> &frob; x & y"
        );
        assert_eq!(text("&#x110000;&#0;"), "&#x110000;&#0;");
    }

    proptest! {
        #[test]
        fn any_input_is_survived(html in "[<>&;a-z!\\-#x0-9 \"'/]{0,200}") {
            let _ = text(&html);
        }
    }
}
