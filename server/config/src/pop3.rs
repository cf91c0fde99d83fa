//! What POP3 sessions do.

use serde::{Deserialize, Serialize};

/// What POP3 sessions do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pop3 {
    /// Whether APOP is offered.
    pub apop: bool,
    /// The form of UIDLs: a name of [`Pop3::UIDL_NAMES`], or a form of one's own.
    pub uidl: String,
    /// Seconds between two logins of one user; 0: none.
    pub login_delay_seconds: u64,
    /// Days for which mail may be left on the server, as clients are told. Absent: for ever. 0: what
    /// was retrieved is removed by QUIT.
    pub expire_days: Option<u32>,
}

impl Default for Pop3 {
    fn default() -> Self {
        Pop3 { apop: false, uidl: "cursus".to_owned(), login_delay_seconds: 0, expire_days: None }
    }
}

impl Pop3 {
    /// Names for forms: of the servers that have them by default, and of Cyrus's `uidl_format`.
    pub const UIDL_NAMES: [(&'static str, &'static str); 8] = [
        ("cursus", "%08Xv%08Xu"),
        ("courier", "UID%u-%v"),
        ("courier-1", "UID%u"),
        ("courier-0", "%f"),
        ("cyrus", "%v.%u"),
        ("cyrus-uidonly", "%u"),
        ("cyrus-courier", "%v-%u"),
        ("dovecot", "%08Xu%08Xv"),
    ];

    /// The form, with a name replaced by what it stands for.
    pub fn uidl_form(&self) -> &str {
        let named = Self::UIDL_NAMES.iter().find(|(name, _)| *name == self.uidl);
        named.map_or(&*self.uidl, |(_, form)| form)
    }

    /// Whether a form tells all messages of a maildrop apart, and has only what is understood.
    pub(crate) fn is_form(form: &str) -> bool {
        let mut has_message = false;
        let mut pieces = form.split('%');
        let plain = |text: &str| text.bytes().all(|b| matches!(b, 0x21..=0x7e));
        if !pieces.next().is_some_and(plain) {
            return false;
        }
        for piece in pieces {
            let Some(at) = piece.find(|c: char| c.is_ascii_alphabetic() && c != 'X') else {
                return false;
            };
            let (modifiers, variable) = piece.split_at(at);
            let width = modifiers.strip_suffix('X').unwrap_or(modifiers);
            let width: Option<u8> = if width.is_empty() { Some(0) } else { width.parse().ok() };
            let fits = match variable.as_bytes().first() {
                Some(b'u' | b'v') => width.is_some_and(|w| w <= 20),
                Some(b'f') => modifiers.is_empty(),
                _ => false,
            };
            has_message |= matches!(variable.as_bytes().first(), Some(b'u' | b'f'));
            if !fits || !variable.get(1..).is_some_and(plain) {
                return false;
            }
        }
        has_message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_name_every_message() {
        for (_, form) in Pop3::UIDL_NAMES {
            assert!(Pop3::is_form(form), "{form}");
        }
        for bad in ["", "cyrs", "%v", "%", "%u%", "%08Xf", "%m%u", "a b%u", "%99u", "%u\u{e9}"] {
            assert!(!Pop3::is_form(bad), "{bad}");
        }
        assert_eq!(Pop3 { uidl: "dovecot".into(), ..Pop3::default() }.uidl_form(), "%08Xu%08Xv");
    }
}
