//! Which folder of the source becomes which mailbox.
//!
//! A name passes these steps: the personal prefix goes (`INBOX.`, where NAMESPACE or an option
//! says so); the source's separator becomes `/`, and a `/` that stood in a level becomes `_`; then
//! `--map` (the longest that fits), else the `--regex` rules in their order; then `--add-prefix`.
//! INBOX stays INBOX unless `--map` names it.

use regex::Regex;

use crate::failure::{Failed, Kind};

/// The rules.
#[derive(Debug, Default)]
pub struct Rules {
    /// Taken off the front of names; `None`: what NAMESPACE tells.
    pub strip_prefix: Option<String>,
    /// Set in front of all but INBOX, with `/` between.
    pub add_prefix: Option<String>,
    /// Names, with `/` between levels, and what they and those below them become; or a whole name as the
    /// source writes it.
    pub maps: Vec<(String, String)>,
    /// Patterns and replacements.
    pub patterns: Vec<(Regex, String)>,
    /// Only these and those below them; empty: all.
    pub only: Vec<String>,
    /// Not these nor those below them.
    pub exclude: Vec<String>,
    /// Several folders may become one mailbox.
    pub merge: bool,
}

/// What becomes of one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// With `/` between levels, without the prefix: what rules are about.
    pub plain: String,
    /// The mailbox; `None`: left out.
    pub target: Option<String>,
}

/// Reads `OLD=NEW`.
pub fn parse_map(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => {
            Ok((old.trim_matches('/').to_owned(), new.trim_matches('/').to_owned()))
        }
        _ => Err(format!("{text:?}, expected OLD=NEW")),
    }
}

/// Reads `PATTERN=>REPLACEMENT`; `$1` is what the first group matched.
pub fn parse_pattern(text: &str) -> Result<(Regex, String), String> {
    let Some((pattern, replacement)) = text.split_once("=>") else {
        return Err(format!("{text:?}, expected PATTERN=>REPLACEMENT"));
    };
    let regex = Regex::new(pattern).map_err(|e| e.to_string())?;
    Ok((regex, replacement.to_owned()))
}

fn at_or_below(name: &str, above: &str) -> bool {
    name.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn canonical(name: &str) -> String {
    match name.split_at_checked(5) {
        Some((inbox, rest))
            if inbox.eq_ignore_ascii_case("INBOX")
                && (rest.is_empty() || rest.starts_with('/')) =>
        {
            format!("INBOX{rest}")
        }
        _ => name.to_owned(),
    }
}

impl Rules {
    /// What becomes of a folder. `personal` is the prefix of NAMESPACE.
    pub fn map(&self, name: &str, separator: Option<char>, personal: &str) -> Mapped {
        let prefix = self.strip_prefix.as_deref().unwrap_or(personal);
        let is_inbox = name.eq_ignore_ascii_case("INBOX");
        let stripped = match (is_inbox, separator) {
            (true, _) => "INBOX",
            (false, Some(separator)) => {
                let bare = prefix.strip_suffix(separator).unwrap_or(prefix);
                let rest = strip_ignoring_inboxs_case(name, bare);
                let rest = rest.and_then(|rest| rest.strip_prefix(separator));
                // INBOX itself has that name.
                let is_free = |rest: &&str| !rest.is_empty() && !rest.eq_ignore_ascii_case("INBOX");
                rest.filter(|rest| is_free(rest) && !bare.is_empty()).unwrap_or(name)
            }
            (false, None) => name,
        };
        let levels = match separator {
            Some('/') => stripped.to_owned(),
            Some(separator) => stripped
                .chars()
                .map(|c| match c {
                    '/' => '_',
                    c if c == separator => '/',
                    c => c,
                })
                .collect(),
            None => stripped.replace('/', "_"),
        };
        let plain = canonical(&clean(&levels));
        if !self.wants(&plain) {
            return Mapped { plain, target: None };
        }
        // A name as the source writes it tells apart what is the same without prefix and separators.
        let whole = self.maps.iter().find(|(old, _)| old == name && *old != plain);
        let target = whole.map_or_else(|| self.renamed(&plain), |(_, new)| new.clone());
        Mapped { plain, target: Some(canonical(&clean(&target))) }
    }

    fn wants(&self, plain: &str) -> bool {
        let among = |names: &[String]| names.iter().any(|name| at_or_below(plain, name));
        (self.only.is_empty() || among(&self.only)) && !among(&self.exclude)
    }

    fn renamed(&self, plain: &str) -> String {
        let fits = self.maps.iter().filter(|(old, _)| at_or_below(plain, old));
        if let Some((old, new)) = fits.max_by_key(|(old, _)| old.len()) {
            return format!("{new}{}", &plain[old.len()..]);
        }
        if plain == "INBOX" {
            return plain.to_owned();
        }
        let mut name = plain.to_owned();
        for (regex, replacement) in &self.patterns {
            name = regex.replace_all(&name, replacement.as_str()).into_owned();
        }
        match &self.add_prefix {
            Some(prefix) => format!("{}/{name}", prefix.trim_matches('/')),
            None => name,
        }
    }

    /// Finds mailboxes that several folders would become.
    ///
    /// # Errors
    /// Where that is so and not allowed.
    pub fn check<'n>(
        &self,
        pairs: impl IntoIterator<Item = (&'n str, &'n str)>,
    ) -> Result<(), Failed> {
        if self.merge {
            return Ok(());
        }
        let mut by_target = std::collections::BTreeMap::<&str, Vec<&str>>::new();
        for (source, target) in pairs {
            by_target.entry(target).or_default().push(source);
        }
        let several = by_target.iter().filter(|(_, sources)| sources.len() > 1);
        let lines: Vec<String> = several
            .map(|(target, sources)| format!("{} would all become {target}", sources.join(", ")))
            .collect();
        match lines.is_empty() {
            true => Ok(()),
            false => {
                let hint = "name others with --map (a name as the source writes it does), or allow it with --merge";
                Err(Failed::new(Kind::Data, format!("{}: {hint}", lines.join("; "))))
            }
        }
    }
}

/// INBOX in a prefix is compared without case, as everywhere.
fn strip_ignoring_inboxs_case<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    let same = start == prefix
        || prefix.eq_ignore_ascii_case("INBOX") && start.eq_ignore_ascii_case(prefix);
    same.then_some(rest)
}

/// Without empty levels and control characters, which no mailbox of ours has.
fn clean(name: &str) -> String {
    let levels = name.split('/').filter(|level| !level.is_empty());
    let clean = |level: &str| -> String {
        level.chars().map(|c| if c.is_control() { '_' } else { c }).collect()
    };
    let name = levels.map(clean).collect::<Vec<_>>().join("/");
    if name.is_empty() { "_".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(rules: &Rules, name: &str, separator: char, personal: &str) -> String {
        rules.map(name, Some(separator), personal).target.unwrap_or_default()
    }

    #[test]
    fn prefixes_and_separators_become_ours() {
        let rules = Rules::default();
        assert_eq!(target(&rules, "INBOX.Sent.2020", '.', "INBOX."), "Sent/2020");
        assert_eq!(target(&rules, "inbox.Sent", '.', "INBOX."), "Sent");
        assert_eq!(target(&rules, "INBOX", '.', "INBOX."), "INBOX");
        assert_eq!(target(&rules, "a/b.c", '.', ""), "a_b/c");
        assert_eq!(target(&rules, "a.b/c", '/', ""), "a.b/c");
        assert_eq!(target(&rules, "INBOXES.a", '.', "INBOX."), "INBOXES/a");
        assert_eq!(target(&rules, "Inbox.a", '.', ""), "INBOX/a");
        assert_eq!(rules.map("a/b", None, "").target.as_deref(), Some("a_b"));
        assert_eq!(target(&rules, "a..b", '.', ""), "a/b");
        // Courier has these beside INBOX.
        assert_eq!(target(&rules, "INBOX.INBOX", '.', "INBOX."), "INBOX/INBOX");
        assert_eq!(target(&rules, "INBOX.inbox.a", '.', "INBOX."), "INBOX/a");
    }

    #[test]
    fn rules_rename_and_leave_out() {
        let rules = Rules {
            maps: vec![parse_map("Sent Items=Sent").unwrap(), parse_map("A/B=C").unwrap()],
            patterns: vec![parse_pattern("^old-(.*)$=>Archive/$1").unwrap()],
            exclude: vec!["Junk".to_owned()],
            ..Rules::default()
        };
        assert_eq!(target(&rules, "Sent Items.2020", '.', ""), "Sent/2020");
        assert_eq!(target(&rules, "A.B.D", '.', ""), "C/D");
        assert_eq!(target(&rules, "old-2020", '.', ""), "Archive/2020");
        assert_eq!(rules.map("Junk.x", Some('.'), "").target, None);
        assert_eq!(target(&rules, "Junky", '.', ""), "Junky");
        let apart = Rules { maps: vec![parse_map("a/b=a-b").unwrap()], ..Rules::default() };
        assert_eq!(target(&apart, "a/b", '.', ""), "a-b");
        assert_eq!(target(&apart, "a_b", '.', ""), "a_b");
        let prefixed = Rules { add_prefix: Some("Old".to_owned()), ..Rules::default() };
        assert_eq!(target(&prefixed, "a.b", '.', ""), "Old/a/b");
        assert_eq!(target(&prefixed, "INBOX", '.', ""), "INBOX");
        let stripped = Rules { strip_prefix: Some("mail/".to_owned()), ..Rules::default() };
        assert_eq!(target(&stripped, "mail/a", '/', "INBOX."), "a");
        assert!(parse_map("a").is_err() && parse_pattern("(=>x").is_err());
    }

    #[test]
    fn two_folders_do_not_become_one_unasked() {
        let pairs = [("Sent", "Sent"), ("Sent Items", "Sent"), ("a", "a")];
        let told = Rules::default().check(pairs).unwrap_err().to_string();
        assert!(told.contains("Sent, Sent Items would all become Sent"), "{told}");
        assert!(Rules { merge: true, ..Rules::default() }.check(pairs).is_ok());
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_that_is_allowed(
            name in any::<String>(), separator in any::<Option<char>>(), personal in any::<String>(),
        ) {
            let target = Rules::default().map(&name, separator, &personal).target.unwrap();
            prop_assert!(!target.is_empty());
            prop_assert!(target.split('/').all(|level| !level.is_empty()));
            prop_assert!(!target.chars().any(char::is_control));
        }
    }
}
