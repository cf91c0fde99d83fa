//! Escaping of user names for use in paths, shared by the layouts.
//!
//! Invariants: the escaped form is one path component, never `.` or `..`, and different names
//! have different forms.

use super::NameError;

/// Longest name of one file or directory that every supported filesystem takes, in bytes.
pub(super) const FILE_NAME_BYTES_MAX: usize = 255;

/// Escapes a part of a user name: `%XX` for `/`, `%`, control characters, a leading dot and
/// whatever `also` names; an empty part is `%0`.
pub(super) fn escape_user_part(part: &str, also: &[char]) -> String {
    if part.is_empty() {
        return "%0".to_owned();
    }
    let mut out = String::with_capacity(part.len());
    for (at, c) in part.char_indices() {
        let leading_dot = c == '.' && at == 0;
        if matches!(c, '/' | '%') || c.is_control() || leading_dot || also.contains(&c) {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Splits a canonical user name at its last `@`.
pub(super) fn split_user(user: &str) -> (&str, Option<&str>) {
    match user.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (user, None),
    }
}

/// The levels of a mailbox name, or why there are none; what both layouts refuse.
pub(super) fn levels(
    mailbox: &str,
    refuse: impl Fn(&'static str) -> NameError,
) -> Result<Vec<&str>, NameError> {
    let levels: Vec<&str> = mailbox.split('/').collect();
    if levels.iter().any(|level| level.is_empty()) {
        return Err(refuse("every level of the name needs at least one character"));
    }
    if mailbox.chars().any(char::is_control) {
        return Err(refuse("control characters are not allowed"));
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_users_are_single_components_and_differ() {
        let hostile =
            ["", ".", "..", "../x", "a/b", "a%2Fb", "%", "%2E", "a\0b", ".x", "x.", "ü", "a\nb"];
        let mut seen = std::collections::HashSet::new();
        for user in hostile {
            let escaped = escape_user_part(user, &[]);
            assert!(!escaped.is_empty() && !escaped.contains('/') && !escaped.starts_with('.'));
            assert!(!escaped.chars().any(char::is_control), "{escaped:?}");
            assert!(seen.insert(escaped.clone()), "{user:?} and another give {escaped:?}");
        }
    }
}
