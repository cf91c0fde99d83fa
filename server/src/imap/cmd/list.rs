//! LIST: RFC 3501 section 6.3.8, RFC 5258 (LIST-EXTENDED), RFC 5819 (STATUS), RFC 6154
//! (SPECIAL-USE), RFC 9051, RFC 9590 (METADATA), XLIST.
//!
//! Names that don't exist but have children are listed as `\NonExistent`, for clients that don't
//! know the word also as `\Noselect`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use engine::{INBOX, Namespace, Principal, Rights, User};
use protocol::imap::command::{List, StatusItem};
use protocol::imap::encode::{self, ListLine};

use super::super::names::Names;
use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;
use super::super::sharing::{COPY_RIGHTS, Place};
use super::{acl, metadata, status};
use protocol::imap::pattern::Pattern;

pub(in super::super) async fn run(session: &mut Session, list: &List) -> Outcome {
    let asked = match asked(session, list).await {
        Ok(asked) => asked,
        Err(reply) => return Ok(reply),
    };
    let separator = asked.names.separator();
    // RFC 3501: an empty pattern asks for the separator.
    if !list.extended && list.patterns.iter().all(String::is_empty) {
        let line = format!("* LIST (\\Noselect) \"{separator}\" \"\"\r\n");
        session.conn.out.push(line.as_bytes());
        return Ok(Reply::ok("Completed"));
    }
    let owners: Vec<String> = asked.sources.iter().map(|source| source.owner.clone()).collect();
    let found = match found(session, asked).await {
        Ok(found) => found,
        Err(reply) => return Ok(reply),
    };
    for turn in found.chunks(TURN) {
        tell(session, list, &owners, turn).await?;
        session.breathe().await?;
        tokio::task::yield_now().await;
    }
    Ok(Reply::ok("Completed"))
}

/// What a LIST has to tell, by name.
pub(super) async fn find(session: &Session, list: &List) -> Result<Vec<Listed>, Reply> {
    let asked = asked(session, list).await?;
    found(session, asked).await
}

async fn found(session: &Session, asked: Asked) -> Result<Vec<Listed>, Reply> {
    let many = asked.sources.iter().map(Source::names).sum::<usize>() > INLINE_NAMES_MAX;
    let find = move || asked.listed();
    let found = match many {
        true => session.services.store.helpers().run(find).await,
        false => Ok(find()),
    };
    found.map_err(|_| session.failure("list mailboxes", &engine::Error::Closing, "NONEXISTENT"))
}

/// Sends lines, each with what is to come behind it.
async fn tell(
    session: &mut Session,
    list: &List,
    owners: &[String],
    turn: &[Listed],
) -> Result<(), End> {
    let users = opened(session, list, owners, turn).await;
    let mut statuses: Vec<Option<engine::Result<_>>> = Vec::new();
    statuses.resize_with(turn.len(), || None);
    for (&source, user) in &users {
        if list.return_status.is_empty() {
            break;
        }
        let readable = |listed: &&Listed| {
            let mailbox = listed.mailbox.as_ref();
            mailbox.is_some_and(|m| m.source == source && m.rights.contains(Rights::READ))
        };
        let at = turn.iter().enumerate().filter(|(_, listed)| readable(listed));
        let (places, names): (Vec<usize>, Vec<&str>) = at
            .filter_map(|(at, listed)| Some((at, listed.mailbox.as_ref()?.name.as_str())))
            .unzip();
        if !names.is_empty() {
            for (at, status) in places.into_iter().zip(user.statuses(&names).await) {
                statuses[at] = Some(status);
            }
        }
    }
    for (listed, mut status) in turn.iter().zip(statuses) {
        session.conn.out.push(&listed.line);
        let Some(mailbox) = &listed.mailbox else { continue };
        if list.return_my_rights {
            let line = acl::my_rights(session, &listed.name, mailbox.rights);
            session.conn.out.push_vec(line);
        }
        let Some(user) = users.get(&mailbox.source) else { continue };
        if let Some(Ok(found)) = &mut status {
            let mut whole = status::complete(user, &mailbox.name, &list.return_status, found).await;
            if whole.is_ok() && list.return_status.contains(&StatusItem::Unseen) {
                let rights = Some(mailbox.rights);
                let (user, name, own) = (user.clone(), mailbox.name.clone(), mailbox.source == 0);
                whole = session.own_unseen(&Place { user, name, own, rights }, found).await;
            }
            status = whole.err().map(Err).or(status);
        }
        match status {
            Some(Ok(found)) => status::write(session, &listed.name, &list.return_status, &found),
            // One that fails (deleted just now) has no line.
            Some(Err(error)) => {
                session.failure("tell a mailbox's status", &error, "NONEXISTENT");
            }
            None => {}
        }
        let readable = mailbox.rights.intersects(metadata::READING);
        if readable && !list.return_metadata.is_empty() {
            let at = (user, mailbox.name.as_str());
            metadata::listed(session, at, &listed.name, &list.return_metadata).await?;
        }
    }
    Ok(())
}

/// The users of a turn's mailboxes, if what is told of these needs more than their names.
async fn opened(
    session: &Session,
    list: &List,
    owners: &[String],
    turn: &[Listed],
) -> BTreeMap<usize, User> {
    let mut users = BTreeMap::new();
    if list.return_status.is_empty() && list.return_metadata.is_empty() {
        return users;
    }
    for source in turn.iter().filter_map(|listed| Some(listed.mailbox.as_ref()?.source)) {
        if let btree_map::Entry::Vacant(place) = users.entry(source)
            // The mailboxes of one that can't be opened now have their names alone.
            && let Ok(user) = session.open_user(&owners[source]).await
        {
            place.insert(user);
        }
    }
    users
}

/// Names listed before other sessions of the core have their turn.
const TURN: usize = 128;

/// Names that are looked through without a helper thread.
const INLINE_NAMES_MAX: usize = 256;

/// A line, ready to be sent.
pub(super) struct Listed {
    /// As the client calls it.
    pub(super) name: String,
    /// `None` for a name that does not exist.
    pub(super) mailbox: Option<ListedMailbox>,
    pub(super) line: Vec<u8>,
}

/// What is so called.
pub(super) struct ListedMailbox {
    /// Among the sources.
    source: usize,
    /// Internal name.
    name: String,
    pub(super) rights: Rights,
}

/// A user whose mailboxes are looked through; the first one is the session's.
struct Source {
    owner: String,
    namespace: Arc<Namespace>,
}

impl Source {
    fn names(&self) -> usize {
        self.namespace.mailboxes.len() + self.namespace.subscriptions.len()
    }
}

/// What LIST looks at.
struct Asked {
    list: List,
    names: Arc<Names>,
    principal: Arc<Principal>,
    sources: Vec<Source>,
    /// What others share on the filesystem, by internal name.
    offered: Vec<String>,
    utf8: bool,
}

async fn asked(session: &Session, list: &List) -> Result<Asked, Reply> {
    let user = session.user()?;
    let viewer = session.viewer()?;
    let names = viewer.names.clone();
    // What a pattern may show lies below one of these.
    let heads = list.patterns.iter().map(|pattern| {
        let whole = format!("{}{pattern}", list.reference);
        whole.split(['*', '%']).next().unwrap_or_default().to_owned()
    });
    let heads: Vec<String> = heads.collect();
    let may_show = |below: &str| {
        list.recursive_match
            || heads.iter().any(|head| below.starts_with(head.as_str()) || head.starts_with(below))
    };
    let [_, users, shared] = names.prefixes();
    let mut prefixes = [users, shared].into_iter().flatten();
    // In Courier's form, what is not asked for by its prefix is not shown.
    let is_hidden = |prefix: &str| heads.iter().all(|head| names.hides(prefix, head));
    let reaches_others = prefixes.any(|prefix| may_show(&prefix) && !is_hidden(&prefix));
    let namespace = user.namespace();
    let mut sources = vec![Source { owner: user.name().to_owned(), namespace }];
    if reaches_others {
        let shown = |owner: &&String| names.places(owner).iter().any(|place| may_show(place));
        let owners: Vec<String> = session.others().await?.iter().filter(shown).cloned().collect();
        let failed = |error| session.failure("look up shared mailboxes", &error, "NONEXISTENT");
        // An administrator has many, whose names alone are looked at.
        let found = session.services.store.namespaces(owners).await.map_err(failed)?;
        sources.extend(found.into_iter().map(|(owner, namespace)| Source { owner, namespace }));
    }
    let mut offered = Vec::new();
    if names.copies_prefix().is_some_and(|prefix| may_show(&prefix)) {
        let failed = |error| session.failure("look up shared folders", &error, "NONEXISTENT");
        offered = user.shared_folders().await.map_err(failed)?;
    }
    let utf8 = session.features.utf8();
    Ok(Asked {
        list: list.clone(),
        names,
        principal: viewer.principal.clone(),
        sources,
        offered,
        utf8,
    })
}

impl Asked {
    /// The lines of LIST.
    fn listed(&self) -> Vec<Listed> {
        let separator = Some(self.names.separator());
        let listed = |entry: Entry<'_>| {
            let mut line = Vec::new();
            let shown = ListLine { separator, ..entry.line(&self.list, self.utf8) };
            encode::list(&mut line, &shown, self.utf8);
            let mailbox = entry.mailbox.map(|(source, name, rights)| ListedMailbox {
                source,
                name: name.to_owned(),
                rights,
            });
            Listed { name: entry.name.into_owned(), mailbox, line }
        };
        let namespaces =
            self.sources.iter().map(|source| (source.owner.as_str(), &*source.namespace));
        let namespaces: Vec<_> = namespaces.collect();
        let offered = &self.offered;
        let found = entries(&namespaces, offered, &self.names, &self.principal, &self.list);
        found.into_iter().map(listed).collect()
    }
}

/// One name to be listed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry<'n> {
    name: Cow<'n, str>,
    /// Source, internal name, rights; `None`: there is no such mailbox.
    mailbox: Option<(usize, &'n str, Rights)>,
    /// Another user's folder on the filesystem, of which there is no copy yet.
    offered: bool,
    subscribed: bool,
    has_children: bool,
    special_use: Vec<&'static str>,
    child_info: bool,
}

impl Entry<'_> {
    fn line(&self, list: &List, rev2: bool) -> ListLine<'_> {
        let mut attributes = Vec::new();
        if self.mailbox.is_none() && !self.offered {
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
        if list.xlist && self.name == INBOX {
            attributes.push("\\Inbox");
        }
        let xlist = list.xlist;
        ListLine {
            attributes,
            xlist,
            name: &self.name,
            child_info: self.child_info,
            ..ListLine::default()
        }
    }
}

/// What LIST has to list, by name. Of others, what the user may see (`l`).
fn entries<'n>(
    sources: &[(&str, &'n Namespace)],
    offered: &'n [String],
    names: &Names,
    principal: &Principal,
    list: &List,
) -> Vec<Entry<'n>> {
    let separator = names.separator();
    let patterns: Vec<Pattern> =
        list.patterns.iter().map(|p| Pattern::new(&list.reference, p, separator)).collect();
    let heads: Vec<String> =
        list.patterns.iter().map(|p| format!("{}{p}", list.reference)).collect();
    let matches = |name: &str| {
        let end = names.levels_end(name);
        let shows = |(pattern, head): (&Pattern, &String)| {
            !names.hides(name, head) && pattern.matches(name, end)
        };
        patterns.iter().zip(&heads).any(shows)
    };
    // Every name that exists, or has a child that does.
    let mut found: BTreeMap<Cow<'n, str>, Entry<'n>> = BTreeMap::new();
    for (source, (owner, namespace)) in sources.iter().enumerate() {
        for (name, mailbox) in &namespace.mailboxes {
            let rights = match source == 0 && names.is_copy(name) {
                true if !names.shows_copies() => continue,
                true => COPY_RIGHTS,
                false => principal.rights(owner, namespace.acl(mailbox.id)),
            };
            let shown = match source {
                0 => Some(names.own(name)),
                _ => names.others(owner, name).map(Cow::Owned),
            };
            let Some(shown) = shown.filter(|_| rights.contains(Rights::LOOKUP)) else { continue };
            names.each_above(&shown, &mut |parent| {
                let entry = found.entry(parent.clone()).or_default();
                entry.name = parent;
                entry.has_children = true;
            });
            let entry = found.entry(shown.clone()).or_default();
            entry.name = shown;
            entry.mailbox = Some((source, name, rights));
            if source == 0 {
                entry.special_use = mailbox.special_use.iter().map(|use_| use_.as_str()).collect();
            }
        }
    }
    for shown in offered.iter().map(|name| names.own(name)) {
        names.each_above(&shown, &mut |parent| {
            let entry = found.entry(parent.clone()).or_default();
            entry.name = parent;
            entry.has_children = true;
        });
        let entry = found.entry(shown.clone()).or_default();
        (entry.name, entry.offered) = (shown, true);
    }
    for name in names.shared_levels() {
        let name: Cow<'n, str> = Cow::Owned(name);
        let entry = found.entry(name.clone()).or_default();
        (entry.name, entry.has_children) = (name, true);
    }
    let own = sources.first().into_iter();
    let subscriptions = own.flat_map(|(_, own)| names.subscriptions(own));
    for name in subscriptions.filter_map(|name| names.subscribed(name)) {
        if list.select_subscribed && !found.contains_key(&name) {
            found.insert(name.clone(), Entry { name: name.clone(), ..Entry::default() });
        }
        if let Some(entry) = found.get_mut(&name) {
            entry.subscribed = true;
        }
    }
    let selected = |entry: &Entry<'_>| {
        (!list.select_subscribed || entry.subscribed)
            && (!list.select_special_use || !entry.special_use.is_empty())
    };
    // RECURSIVEMATCH: names above one that is selected and that no pattern shows; of others the
    // client can tell by itself (RFC 5258 section 3.5).
    let mut above: BTreeSet<Cow<'n, str>> = BTreeSet::new();
    if list.recursive_match {
        let hidden = |entry: &&Entry<'_>| selected(entry) && !matches(&entry.name);
        for entry in found.values().filter(hidden) {
            names.each_above(&entry.name, &mut |parent| {
                above.insert(parent);
            });
        }
    }
    for name in &above {
        let fresh = || Entry { name: name.clone(), has_children: true, ..Entry::default() };
        found.entry(name.clone()).or_insert_with(fresh);
    }
    let listed = found.into_values().filter_map(|mut entry| {
        entry.child_info = above.contains(&entry.name);
        (matches(&entry.name) && (selected(&entry) || entry.child_info)).then_some(entry)
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Listener, PlainLogin, Protocol, Sharing, TlsMode};
    use engine::{MailboxEntry, MailboxId, SpecialUse};
    use protocol::types::UidValidity;

    fn namespace(mailboxes: &[&str], subscriptions: &[&str]) -> Namespace {
        let entry = |name: &str| MailboxEntry {
            id: MailboxId::default(),
            uid_validity: UidValidity(1),
            special_use: if name == "Sent" { vec![SpecialUse::Sent] } else { vec![] },
            partition: "default".into(),
            quota: None,
            adopted: None,
        };
        let mut namespace = Namespace::default();
        namespace.mailboxes = mailboxes.iter().map(|&n| (n.to_owned(), entry(n))).collect();
        namespace.subscriptions = subscriptions.iter().map(|&n| n.to_owned()).collect();
        namespace
    }

    fn names(viewer: &str) -> Names {
        let listener = Listener {
            tls: TlsMode::None,
            plain_login: PlainLogin::Loopback,
            ..Listener::new(Protocol::Imap, "127.0.0.1:143".to_owned().into())
        };
        Names::new(&listener, &Sharing::default(), viewer, false, true)
    }

    fn lines(namespace: &Namespace, list: &List) -> Vec<String> {
        let line = |entry: &Entry<'_>| {
            let line = entry.line(list, true);
            let info = if line.child_info { " CHILDINFO" } else { "" };
            format!("{} {}{info}", line.name, line.attributes.join(" "))
        };
        let principal = Principal::of_user("jo");
        let names = names("jo");
        entries(&[("jo", namespace)], &[], &names, &principal, list).iter().map(line).collect()
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
