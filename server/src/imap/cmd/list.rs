//! LIST: RFC 3501 section 6.3.8, RFC 5258 (LIST-EXTENDED), RFC 5819 (STATUS), RFC 6154
//! (SPECIAL-USE), RFC 9051, RFC 9590 (METADATA), XLIST.
//!
//! Names that don't exist but have children are listed as `\NonExistent`, for clients that don't
//! know the word also as `\Noselect`.

use std::collections::{BTreeMap, BTreeSet};

use engine::Namespace;
use protocol::imap::command::List;
use protocol::imap::encode::{self, ListLine};

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::{metadata, status};

pub(in super::super) async fn run(session: &mut Session, list: &List) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    // RFC 3501: an empty pattern asks for the separator.
    if !list.extended && list.patterns.iter().all(String::is_empty) {
        session.conn.out.push(b"* LIST (\\Noselect) \"/\" \"\"\r\n");
        return Ok(Reply::ok("Completed"));
    }
    let namespace = user.namespace();
    let utf8 = session.features.utf8();
    let names = namespace.mailboxes.len() + namespace.subscriptions.len();
    let asked = list.clone();
    let find = move || listed(&namespace, &asked, utf8);
    let found = match names > INLINE_NAMES_MAX {
        true => session.services.store.helpers().run(find).await,
        false => Ok(find()),
    };
    let Ok(found) = found else {
        return Ok(session.failure("list mailboxes", &engine::Error::Closing, "NONEXISTENT"));
    };
    for turn in found.chunks(TURN) {
        let mut statuses = Vec::new();
        if !list.return_status.is_empty() {
            let exist = turn.iter().filter(|listed| listed.exists);
            let names: Vec<&str> = exist.map(|listed| listed.name.as_str()).collect();
            statuses = user.statuses(&names).await;
        }
        let mut statuses = statuses.into_iter();
        for listed in turn {
            session.conn.out.push(&listed.line);
            let mut status = listed.exists.then(|| statuses.next()).flatten();
            if let Some(Ok(found)) = &mut status {
                let whole = status::complete(&user, &listed.name, &list.return_status, found).await;
                status = whole.err().map(Err).or(status);
            }
            match status {
                Some(Ok(found)) => {
                    status::write(session, &listed.name, &list.return_status, &found);
                }
                // One that fails (deleted just now) has no line.
                Some(Err(error)) => {
                    session.failure("tell a mailbox's status", &error, "NONEXISTENT");
                }
                None => {}
            }
            if listed.exists && !list.return_metadata.is_empty() {
                metadata::listed(session, &user, &listed.name, &list.return_metadata).await?;
            }
        }
        session.breathe().await?;
        tokio::task::yield_now().await;
    }
    Ok(Reply::ok("Completed"))
}

/// Names listed before other sessions of the core have their turn.
const TURN: usize = 128;

/// Names that are looked through without a helper thread.
const INLINE_NAMES_MAX: usize = 256;

/// A line, ready to be sent.
struct Listed {
    name: String,
    exists: bool,
    line: Vec<u8>,
}

/// The lines of LIST.
fn listed(namespace: &Namespace, list: &List, utf8: bool) -> Vec<Listed> {
    let listed = |entry: &Entry<'_>| {
        let mut line = Vec::new();
        encode::list(&mut line, &entry.line(list, utf8), utf8);
        Listed { name: entry.name.to_owned(), exists: entry.exists, line }
    };
    entries(namespace, list).iter().map(listed).collect()
}

/// One name to be listed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry<'n> {
    name: &'n str,
    exists: bool,
    subscribed: bool,
    has_children: bool,
    special_use: Vec<&'static str>,
    child_info: bool,
}

impl Entry<'_> {
    fn line(&self, list: &List, rev2: bool) -> ListLine<'_> {
        let mut attributes = Vec::new();
        if !self.exists {
            attributes.push("\\NonExistent");
            if !rev2 {
                attributes.push("\\Noselect");
            }
        }
        if self.subscribed && (list.select_subscribed || list.return_subscribed) {
            attributes.push("\\Subscribed");
        }
        attributes.push(if self.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
        attributes.extend(&self.special_use);
        if list.xlist && self.name == engine::INBOX {
            attributes.push("\\Inbox");
        }
        let xlist = list.xlist;
        ListLine {
            attributes,
            xlist,
            name: self.name,
            child_info: self.child_info,
            ..ListLine::default()
        }
    }
}

/// What LIST has to list, by name.
fn entries<'n>(namespace: &'n Namespace, list: &List) -> Vec<Entry<'n>> {
    let patterns: Vec<Pattern> =
        list.patterns.iter().map(|p| Pattern::new(&list.reference, p)).collect();
    let matches = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
    // Every name that exists, or has a child that does.
    let mut names: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for (name, mailbox) in &namespace.mailboxes {
        let entry = names.entry(name).or_default();
        entry.name = name;
        entry.exists = true;
        entry.special_use = mailbox.special_use.iter().map(|use_| use_.as_str()).collect();
        for parent in parents(name) {
            let entry = names.entry(parent).or_default();
            entry.name = parent;
            entry.has_children = true;
        }
    }
    for name in &namespace.subscriptions {
        if list.select_subscribed && !names.contains_key(name.as_str()) {
            names.insert(name, Entry { name, ..Entry::default() });
        }
        if let Some(entry) = names.get_mut(name.as_str()) {
            entry.subscribed = true;
        }
    }
    let selected = |entry: &Entry<'_>| {
        (!list.select_subscribed || entry.subscribed)
            && (!list.select_special_use || !entry.special_use.is_empty())
    };
    // RECURSIVEMATCH: names above one that is selected and that no pattern shows; of others the
    // client can tell by itself (RFC 5258 section 3.5).
    let mut above: BTreeSet<&str> = BTreeSet::new();
    if list.recursive_match {
        let hidden = |entry: &&Entry<'_>| selected(entry) && !matches(entry.name);
        for entry in names.values().filter(hidden) {
            above.extend(parents(entry.name));
        }
    }
    for name in &above {
        names.entry(name).or_insert(Entry { name, has_children: true, ..Entry::default() });
    }
    let listed = names.into_values().filter_map(|mut entry| {
        entry.child_info = above.contains(entry.name);
        (matches(entry.name) && (selected(&entry) || entry.child_info)).then_some(entry)
    });
    listed.collect()
}

/// The names above `name`, outermost first.
pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at]).filter(|parent| !parent.is_empty())
}

/// A reference and a pattern, put together.
pub(super) struct Pattern(Vec<char>);

impl Pattern {
    /// The reference is simply written before the pattern.
    pub(super) fn new(reference: &str, pattern: &str) -> Pattern {
        let mut whole = format!("{reference}{pattern}");
        // INBOX has no case, in patterns too.
        let first_level = whole.split('/').next().unwrap_or_default();
        if first_level.eq_ignore_ascii_case("INBOX") {
            whole.replace_range(..5, "INBOX");
        }
        Pattern(whole.chars().collect())
    }

    /// Whether the pattern shows `name`: `*` stands for anything, `%` for anything but `/`.
    ///
    /// Takes time in proportion to pattern times name: the set of places in the pattern that the
    /// name read so far can lead to is carried along.
    pub(super) fn matches(&self, name: &str) -> bool {
        let pattern = &self.0;
        match pattern[..] {
            ['*'] => return true,
            ['%'] => return !name.contains('/'),
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
        for c in name.chars() {
            next.fill(false);
            for at in 0..pattern.len() {
                match pattern[at] {
                    _ if !places[at] => {}
                    '*' => next[at] = true,
                    '%' => next[at] |= c != '/',
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
    use engine::{MailboxEntry, MailboxId, SpecialUse};
    use protocol::types::UidValidity;

    fn namespace(mailboxes: &[&str], subscriptions: &[&str]) -> Namespace {
        let entry = |name: &str| MailboxEntry {
            id: MailboxId::default(),
            uid_validity: UidValidity(1),
            special_use: if name == "Sent" { vec![SpecialUse::Sent] } else { vec![] },
            partition: "default".into(),
            quota: None,
        };
        let mut namespace = Namespace::default();
        namespace.mailboxes = mailboxes.iter().map(|&n| (n.to_owned(), entry(n))).collect();
        namespace.subscriptions = subscriptions.iter().map(|&n| n.to_owned()).collect();
        namespace
    }

    fn lines(namespace: &Namespace, list: &List) -> Vec<String> {
        let line = |entry: &Entry<'_>| {
            let line = entry.line(list, true);
            let info = if line.child_info { " CHILDINFO" } else { "" };
            format!("{} {}{info}", line.name, line.attributes.join(" "))
        };
        entries(namespace, list).iter().map(line).collect()
    }

    #[test]
    fn wildcards() {
        let matches = |pattern: &str, name: &str| Pattern::new("", pattern).matches(name);
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
        assert!(Pattern::new("a/", "%").matches("a/b"));
        let hostile = Pattern::new("", &"*%".repeat(2000));
        assert!(hostile.matches(&"x".repeat(200)));
    }

    #[test]
    fn missing_parents_are_listed_as_such() {
        let namespace = namespace(&["INBOX", "a/b/c", "Sent"], &[]);
        let list = List { patterns: vec!["%".into()], ..List::default() };
        assert_eq!(
            lines(&namespace, &list),
            [
                "INBOX \\HasNoChildren",
                "Sent \\HasNoChildren \\Sent",
                "a \\NonExistent \\HasChildren"
            ]
        );
    }

    /// RFC 5258 section 5, example 9 and 10: a subscribed child makes its parent appear.
    #[test]
    fn recursive_match_shows_parents_of_subscribed_names() {
        let namespace = namespace(&["Foo", "Foo/Bar", "Foo/Baz", "Moo"], &["Foo/Baz", "Gone"]);
        let list = List {
            extended: true,
            select_subscribed: true,
            recursive_match: true,
            patterns: vec!["%".into()],
            ..List::default()
        };
        assert_eq!(
            lines(&namespace, &list),
            ["Foo \\HasChildren CHILDINFO", "Gone \\NonExistent \\Subscribed \\HasNoChildren"]
        );
        let flat = List { recursive_match: false, patterns: vec!["*".into()], ..list };
        assert_eq!(
            lines(&namespace, &flat),
            [
                "Foo/Baz \\Subscribed \\HasNoChildren",
                "Gone \\NonExistent \\Subscribed \\HasNoChildren"
            ]
        );
    }

    #[test]
    fn special_use_selects() {
        let namespace = namespace(&["INBOX", "Sent"], &[]);
        let list = List {
            extended: true,
            select_special_use: true,
            patterns: vec!["*".into()],
            ..List::default()
        };
        assert_eq!(lines(&namespace, &list), ["Sent \\HasNoChildren \\Sent"]);
    }
}
