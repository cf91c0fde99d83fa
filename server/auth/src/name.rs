//! The one canonical form of a user's name.
//!
//! Every name that enters (logins, recipients, the user file, the operator's commands) becomes a
//! [`UserName`] here, so that two spellings of one user can't become two users.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// A user's name in canonical form; cheap to clone.
///
/// SASLprep (RFC 4013: NFKC, no controls), then ASCII letters in lower case, so that
/// `Jo@Example.ORG` is `jo@example.org`. It holds no blank, control, `:`, `/`, `\`, `*`, `%`, `"`
/// and doesn't start with `.` or `#`: it can stand in the user file, in a mailbox name and,
/// as one component, in a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<str>);

/// Why a text names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("expected a user name")]
    Empty,
    /// Longer than [`UserName::BYTES_MAX`].
    #[error("expected a user name of at most {} bytes", UserName::BYTES_MAX)]
    TooLong,
    /// Something that no name may hold.
    #[error(
        "expected a user name without blanks, controls, any of : / \\ * % \", or a leading . or #"
    )]
    Character,
}

impl UserName {
    /// Longest name in bytes.
    pub const BYTES_MAX: usize = 255;

    /// The canonical form of `text`.
    pub fn new(text: &str) -> Result<UserName, NameError> {
        if text.len() > Self::BYTES_MAX * 4 {
            return Err(NameError::TooLong);
        }
        let mut name = stringprep::saslprep(text).map_err(|_| NameError::Character)?.into_owned();
        name.make_ascii_lowercase();
        let barred = |c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | '\\' | '*' | '%' | '"')
        };
        if name.is_empty() {
            Err(NameError::Empty)
        } else if name.len() > Self::BYTES_MAX {
            Err(NameError::TooLong)
        } else if name.starts_with(['.', '#']) || name.contains(barred) {
            Err(NameError::Character)
        } else {
            Ok(UserName(name.into()))
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a domain, or none, in a name that a client sends stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginDomains {
    /// The domain of names without one; empty: they have none.
    pub default: String,
    /// The domain whose users have names without it; empty: there is none.
    pub bare: String,
}

impl LoginDomains {
    /// The user whom a client names so.
    ///
    /// # Errors
    /// That is no user's name.
    pub fn user(&self, text: &str) -> Result<UserName, NameError> {
        match text.rsplit_once('@') {
            None if !self.default.is_empty() && !text.is_empty() => {
                UserName::new(&format!("{text}@{}", self.default))
            }
            Some((local, domain))
                if !self.bare.is_empty() && domain.eq_ignore_ascii_case(&self.bare) =>
            {
                UserName::new(local)
            }
            _ => UserName::new(text),
        }
    }
}

impl Borrow<str> for UserName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_meet_in_one_name() {
        let name = UserName::new("jo.doe@example.org").unwrap();
        assert_eq!(UserName::new("Jo.Doe@EXAMPLE.org"), Ok(name.clone()));
        assert_eq!(UserName::new("ｊo.doe@example.org"), Ok(name));
        assert_eq!(UserName::new("I\u{ad}X").unwrap().as_str(), "ix");
    }

    #[test]
    fn a_domain_is_added_or_taken_away() {
        let user =
            |domains: &LoginDomains, text: &str| domains.user(text).unwrap().as_str().to_owned();
        let adds = LoginDomains { default: "a.example".into(), bare: String::new() };
        assert_eq!(user(&adds, "jo"), "jo@a.example");
        assert_eq!(user(&adds, "jo@b.example"), "jo@b.example");
        assert_eq!(adds.user(""), Err(NameError::Empty));
        let takes = LoginDomains { default: String::new(), bare: "a.example".into() };
        assert_eq!(user(&takes, "jo@A.Example"), "jo");
        assert_eq!(user(&takes, "jo@b.example"), "jo@b.example");
        assert_eq!(user(&takes, "jo"), "jo");
    }

    #[test]
    fn names_that_would_escape_are_refused() {
        for text in ["", "a b", "a:b", "../x", ".hidden", "a/b", "a\0", "a\nb", "#x", "a%", "*"] {
            assert!(UserName::new(text).is_err(), "{text:?}");
        }
        assert!(UserName::new(&"a".repeat(255)).is_ok());
        assert_eq!(UserName::new(&"a".repeat(256)), Err(NameError::TooLong));
    }
}
