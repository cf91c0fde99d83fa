//! Addresses in MAIL FROM and RCPT TO: RFC 5321 section 4.1.2, UTF-8 by RFC 6531.
//!
//! Invariants: a parsed address holds no control character, so it can be written into a header
//! line or a log as it is; the local part is kept without its quoting and quoted again on writing.

use std::fmt;

use thiserror::Error;

/// Longest local part in bytes. RFC 5321 says 64; real lists' bounce addresses are longer.
const LOCAL_BYTES_MAX: usize = 256;
/// Longest domain in bytes: RFC 5321 section 4.5.3.1.2.
const DOMAIN_BYTES_MAX: usize = 255;

/// Why a path in `<>` is no address. Its text is what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not in angle brackets.
    #[error("expected an address in <>")]
    Brackets,
    /// The local part is empty or badly quoted, or holds what no local part can.
    #[error("bad local part: expected an atom or a quoted string before @")]
    Local,
    /// The domain is empty or holds what no domain can.
    #[error("bad domain: expected a name or an address literal after @")]
    Domain,
    /// A part is longer than any address may be.
    #[error("address too long")]
    TooLong,
    /// Bytes above 127 that are not UTF-8.
    #[error("address is not UTF-8")]
    Utf8,
}

/// `local@domain`; the domain may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipient {
    local: String,
    domain: Option<String>,
}

impl Recipient {
    /// Reads an address without brackets, as it stands in a command line.
    pub fn parse(text: &str) -> Result<Recipient, AddressError> {
        let (recipient, rest) = mailbox(text)?;
        match rest {
            "" => Ok(recipient),
            _ => Err(AddressError::Domain),
        }
    }

    /// The local part without its quoting, in the case given.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain in the case given; address literals in their brackets.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Whether it can only be sent under SMTPUTF8.
    pub fn is_utf8(&self) -> bool {
        !self.local.is_ascii() || self.domain.as_deref().is_some_and(|d| !d.is_ascii())
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot_string = self.local.split('.').all(|a| !a.is_empty() && a.chars().all(is_atext));
        if dot_string {
            f.write_str(&self.local)?;
        } else {
            f.write_str("\"")?;
            for c in self.local.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            f.write_str("\"")?;
        }
        match &self.domain {
            Some(domain) => write!(f, "@{domain}"),
            None => Ok(()),
        }
    }
}

/// The envelope sender. `None` inside is `<>`, as bounces have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReturnPath(pub Option<Recipient>);

impl fmt::Display for ReturnPath {
    /// With its brackets, as the Return-Path header line has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(address) => write!(f, "<{address}>"),
            None => f.write_str("<>"),
        }
    }
}

/// A local part cut at the delimiter between user and detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailSplit<'a> {
    /// What is left of the delimiter.
    pub user: &'a str,
    /// What is right of it.
    pub detail: &'a str,
}

/// Cuts `local` at the first of the characters in `delimiters`.
///
/// `None` if there is none, or nothing on its left or right: then the whole names the user.
pub fn split_detail<'a>(local: &'a str, delimiters: &str) -> Option<DetailSplit<'a>> {
    let (user, detail) = local.split_once(|c| delimiters.contains(c))?;
    (!user.is_empty() && !detail.is_empty()).then_some(DetailSplit { user, detail })
}

/// Reads `<...>` at the start of `text`; also gives what follows the bracket.
/// `None` for `<>`.
pub(super) fn path(text: &str) -> Result<(Option<Recipient>, &str), AddressError> {
    let inner = text.strip_prefix('<').ok_or(AddressError::Brackets)?;
    if let Some(rest) = inner.strip_prefix('>') {
        return Ok((None, rest));
    }
    let (recipient, rest) = mailbox(source_route(inner)?)?;
    Ok((Some(recipient), rest.strip_prefix('>').ok_or(AddressError::Brackets)?))
}

/// Skips `@a,@b:`, which RFC 5321 section 4.1.2 asks to accept and ignore.
fn source_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    // A colon may stand in an address literal, so hop by hop.
    let mut text = text;
    loop {
        let hop = text.strip_prefix('@').ok_or(AddressError::Domain)?;
        let (_, rest) = domain(hop)?;
        match rest.as_bytes().first() {
            Some(b',') => text = rest.get(1..).unwrap_or_default(),
            Some(b':') => return Ok(rest.get(1..).unwrap_or_default()),
            _ => return Err(AddressError::Domain),
        }
    }
}

fn mailbox(text: &str) -> Result<(Recipient, &str), AddressError> {
    let (local, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_local(quoted)?,
        None => dot_local(text)?,
    };
    if local.is_empty() {
        return Err(AddressError::Local);
    }
    if local.len() > LOCAL_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    let Some(rest) = rest.strip_prefix('@') else {
        return Ok((Recipient { local, domain: None }, rest));
    };
    let (domain, rest) = domain(rest)?;
    Ok((Recipient { local, domain: Some(domain.to_owned()) }, rest))
}

/// Atoms and dots. Dots at the ends or doubled are no Dot-string, yet such addresses exist and
/// reach us unquoted, so they are taken.
fn dot_local(text: &str) -> Result<(String, &str), AddressError> {
    let end = text.find(|c| !is_atext(c) && c != '.').unwrap_or(text.len());
    let (local, rest) = text.split_at(end);
    match rest.chars().next() {
        None | Some('@' | '>') => Ok((local.to_owned(), rest)),
        Some(_) => Err(AddressError::Local),
    }
}

/// The inside of a quoted string, and what follows its closing quote.
fn quoted_local(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let c = match c {
            '"' => return Ok((local, text.get(at + 1..).unwrap_or_default())),
            '\\' => chars.next().ok_or(AddressError::Local)?.1,
            c => c,
        };
        if c.is_control() {
            return Err(AddressError::Local);
        }
        local.push(c);
    }
    Err(AddressError::Local)
}

fn domain(text: &str) -> Result<(&str, &str), AddressError> {
    let end = match text.starts_with('[') {
        true => text.find(']').ok_or(AddressError::Domain)? + 1,
        false => text.find(|c| !is_domain_char(c)).unwrap_or(text.len()),
    };
    let (domain, rest) = text.split_at(end);
    if domain.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    let literal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '[' | ']' | '.' | ':' | '-');
    let good = match domain.starts_with('[') {
        true => domain.len() > 2 && domain.chars().all(literal),
        false => domain.split('.').all(|label| !label.is_empty()),
    };
    if good { Ok((domain, rest)) } else { Err(AddressError::Domain) }
}

fn is_domain_char(c: char) -> bool {
    // An underscore is in no host name, but is in mail domains that exist.
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') || (!c.is_ascii() && !c.is_control())
}

/// `atext` of RFC 5322 and RFC 6532.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Result<Recipient, AddressError> {
        match path(text)? {
            (Some(recipient), "") => Ok(recipient),
            _ => Err(AddressError::Brackets),
        }
    }

    #[test]
    fn plain_quoted_and_utf8_addresses() {
        let a = one("<Jo.Doe+x@Example.ORG>").unwrap();
        assert_eq!((a.local(), a.domain()), ("Jo.Doe+x", Some("Example.ORG")));
        let a = one(r#"<"jo \"x\" > doe"@[IPv6:::1]>"#).unwrap();
        assert_eq!((a.local(), a.domain()), (r#"jo "x" > doe"#, Some("[IPv6:::1]")));
        assert_eq!(a.to_string(), r#""jo \"x\" > doe"@[IPv6:::1]"#);
        let a = one("<дед@почта.рф>").unwrap();
        assert!(a.is_utf8());
        assert_eq!(one("<postmaster>").unwrap().domain(), None);
        assert_eq!(path("<> SIZE=1").unwrap(), (None, " SIZE=1"));
    }

    #[test]
    fn source_routes_are_ignored() {
        let a = one("<@a.example,@[IPv6:::1]:jo@b.example>").unwrap();
        assert_eq!(a.to_string(), "jo@b.example");
        assert_eq!(one("<@a.example jo@b>"), Err(AddressError::Domain));
    }

    #[test]
    fn bad_addresses_say_which_part_is_bad() {
        for (text, error) in [
            ("jo@b.example", AddressError::Brackets),
            ("<jo@b.example", AddressError::Brackets),
            ("<@>", AddressError::Domain),
            ("<jo@>", AddressError::Domain),
            ("<jo@a..b>", AddressError::Domain),
            ("<jo@[]>", AddressError::Domain),
            ("<jo doe@b>", AddressError::Local),
            ("<\"jo@b>", AddressError::Local),
            ("<\"\"@b>", AddressError::Local),
            ("<\"a\u{7}\"@b>", AddressError::Local),
            ("<jo@b c>", AddressError::Brackets),
        ] {
            assert_eq!(one(text), Err(error), "{text}");
        }
    }

    #[test]
    fn local_part_limit_at_and_one_past() {
        let local = "a".repeat(LOCAL_BYTES_MAX);
        assert!(one(&format!("<{local}@b>")).is_ok());
        assert_eq!(one(&format!("<{local}a@b>")), Err(AddressError::TooLong));
    }

    #[test]
    fn detail_is_cut_at_the_first_delimiter() {
        let split = split_detail("jo+lists+rust", "+").unwrap();
        assert_eq!((split.user, split.detail), ("jo", "lists+rust"));
        assert_eq!(split_detail("jo-x+y", "+-").unwrap().user, "jo");
        for whole in ["jo", "+jo", "jo+"] {
            assert_eq!(split_detail(whole, "+"), None);
        }
        assert_eq!(split_detail("jo+x", ""), None);
    }

    proptest! {
        #[test]
        fn written_addresses_read_back(local in "[^\\p{C}]{1,60}", domain in "[a-z]{1,9}\\.[a-z]{2}") {
            let recipient = Recipient { local, domain: Some(domain) };
            prop_assert_eq!(one(&format!("<{recipient}>")), Ok(recipient));
        }

        #[test]
        fn any_text_parses_or_errs(text in "\\PC{0,40}") {
            if let Ok(address) = one(&format!("<{text}>")) {
                prop_assert_eq!(one(&format!("<{address}>")), Ok(address));
            }
        }
    }
}
