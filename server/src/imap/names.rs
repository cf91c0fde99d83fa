//! Names of mailboxes as a client writes them, and whose mailboxes they are.
//!
//! The engine knows users and, of each, names with `/` between their levels. What a client sees of
//! that depends on its listener:
//!
//! | form | own | bob's | shared |
//! |---|---|---|---|
//! | alternate | `INBOX`, `Sent` | `Other Users/bob`, `Other Users/bob/Sent` | `Shared Folders/news` |
//! | internal | `INBOX`, `INBOX.Sent` | `user.bob`, `user.bob.Sent` | `news` |
//! | courier | `INBOX`, `INBOX.Sent` | `#shared.bob`, `#shared.bob.Sent` | `#shared.USER.news` |
//!
//! Where Courier's shared index is read, Courier's form has its names of accounts, which may have
//! several levels, and no others.
//!
//! Copies of folders that others share on the filesystem are the user's own for the engine, below
//! `#shared-folders`. Courier's form has them as `shared.NAME.folder`, the others not at all.
//!
//! Administrators see the internal form everywhere, as Cyrus has it. A user of one's own domain is
//! written without it; of another one whole, `bob@example.org`, or for an administrator who has no
//! domain as Cyrus does: `user.bob.Sent@example.org`.
//!
//! Where the separator is `.`, a dot within a level is written `^`; names with `^` of their own
//! cannot be reached there, and no name has a `/`.

use std::borrow::Cow;
use std::sync::Arc;

use auth::UserName;
use config::{Listener, NameForm, Sharing};
use engine::layout::maildir::SHARED_COPIES;
use engine::{INBOX, Namespace, SEPARATOR, SharedNames, domain_of};

/// What lies below this is other users', in the internal form.
const USERS: &str = "user";
/// And in Courier's.
const COURIER_SHARED: &str = "#shared";
/// And what others share on the filesystem.
const COURIER_COPIES: &str = "shared";

/// What a client's name of a mailbox means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// One of the user's own.
    Own(String),
    /// Another user's.
    Others {
        /// Canonical.
        owner: String,
        /// Internal name.
        mailbox: String,
    },
    /// No mailbox can have this name; there may be some below it.
    Root,
}

/// How mailboxes are called in a session.
#[derive(Debug)]
pub(super) struct Names {
    form: NameForm,
    /// Between levels.
    separator: char,
    /// Who looks; canonical.
    viewer: String,
    /// Whether there are others' mailboxes.
    others: bool,
    user_prefix: String,
    shared_prefix: String,
    /// User of the shared ones, without domain; empty: nobody.
    shared_user: String,
    /// Whether there are copies of what others share on the filesystem.
    copies: bool,
    /// Who is seen, in Courier's form.
    index: Option<Arc<SharedNames>>,
}

impl Names {
    /// For a session of `viewer`.
    pub(super) fn new(
        listener: &Listener,
        sharing: &Sharing,
        viewer: &str,
        administers: bool,
        others: bool,
    ) -> Names {
        let form = if administers { NameForm::Internal } else { listener.names };
        let shared = UserName::new(&sharing.shared_user).ok();
        Names {
            form,
            separator: listener.separator(),
            viewer: viewer.to_owned(),
            others,
            user_prefix: match form {
                NameForm::Alternate => sharing.user_prefix.clone(),
                NameForm::Internal => USERS.to_owned(),
                NameForm::Courier => COURIER_SHARED.to_owned(),
            },
            shared_prefix: sharing.shared_prefix.clone(),
            shared_user: shared.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            copies: sharing.courier_maildirs && others,
            index: None,
        }
    }

    /// Whether the user's mailboxes are the shared ones, of all or of a domain.
    pub(super) fn are_shared(&self, user: &str) -> bool {
        let bare = user.split_once('@').map_or(user, |(bare, _)| bare);
        !self.shared_user.is_empty() && [user, bare].contains(&self.shared_user.as_str())
    }

    /// Whether copies of what others share on the filesystem are seen.
    pub(super) fn shows_copies(&self) -> bool {
        self.copies && self.form == NameForm::Courier
    }

    /// Whether one of the user's own mailboxes is such a copy.
    pub(super) fn is_copy(&self, mailbox: &str) -> bool {
        self.copies && mailbox.starts_with(SHARED_COPIES)
    }

    /// What the copies' names begin with.
    pub(super) fn copies_prefix(&self) -> Option<String> {
        self.shows_copies().then(|| format!("{COURIER_COPIES}{}", self.separator))
    }

    /// Has Courier's form show whom this index names.
    pub(super) fn with_index(self, index: Option<Arc<SharedNames>>) -> Names {
        Names { index: index.filter(|_| self.form == NameForm::Courier), ..self }
    }

    /// Who is seen, if that is told by an index.
    pub(super) fn index(&self) -> Option<&SharedNames> {
        self.index.as_deref()
    }

    /// Levels that the index has above accounts, seen by everybody.
    pub(super) fn shared_levels(&self) -> impl Iterator<Item = String> + '_ {
        let levels = self.index.iter().flat_map(|index| index.levels());
        levels.map(|level| format!("{COURIER_SHARED}{}{}", self.separator, self.outward(&level)))
    }

    /// Whether a pattern that begins so cannot show this name: Courier's clients see what is below
    /// `#shared` only where they ask for it.
    pub(super) fn hides(&self, name: &str, pattern: &str) -> bool {
        let shared = |text: &str| {
            let rest = text.strip_prefix(COURIER_SHARED);
            rest.is_some_and(|rest| rest.starts_with(self.separator))
        };
        self.form == NameForm::Courier && name.starts_with(COURIER_SHARED) && !shared(pattern)
    }

    /// Between levels.
    pub(super) fn separator(&self) -> char {
        self.separator
    }

    /// Whether identifiers and the like are written as Courier does.
    pub(super) fn is_courier(&self) -> bool {
        self.form == NameForm::Courier
    }

    /// What a client's name means; `None` for what is no name here.
    pub(super) fn parse(&self, wire: &str) -> Option<Name> {
        let name = self.parse_whole(wire)?;
        match &name {
            Name::Own(own) if self.is_copy(own) && !self.is_copys_name(wire) => None,
            _ => Some(name),
        }
    }

    fn is_copys_name(&self, wire: &str) -> bool {
        self.copies_prefix().is_some_and(|prefix| wire.starts_with(&prefix))
    }

    fn parse_whole(&self, wire: &str) -> Option<Name> {
        if self.shows_copies()
            && let Some(rest) = wire.strip_prefix(COURIER_COPIES)
        {
            let levels = rest.strip_prefix(self.separator).map(|rest| self.levels(rest));
            match levels {
                None if rest.is_empty() => return Some(Name::Root),
                None => {}
                Some(levels) => {
                    let levels = levels?;
                    let is_whole = levels.split_once(SEPARATOR).is_some();
                    return Some(match is_whole {
                        true => Name::Own(format!("{SHARED_COPIES}{levels}")),
                        false => Name::Root,
                    });
                }
            }
        }
        if self.form == NameForm::Internal && domain_of(&self.viewer).is_empty() && self.others {
            let split = wire.rsplit_once('@').filter(|(_, domain)| is_domain(domain));
            if let Some((name, domain)) = split {
                let name = self.levels(name)?;
                if !name.starts_with(INBOX) {
                    return self.parse_levels(&name, domain);
                }
            }
        }
        let name = self.levels(wire)?;
        self.parse_levels(&name, domain_of(&self.viewer))
    }

    fn parse_levels(&self, name: &str, domain: &str) -> Option<Name> {
        if self.form != NameForm::Alternate {
            if name == INBOX {
                return Some(Name::Own(name.to_owned()));
            }
            if let Some(own) = below(name, INBOX) {
                return Some(Name::Own(Namespace::canonical(own)));
            }
        }
        if self.others {
            if name == self.user_prefix {
                return Some(Name::Root);
            }
            if let Some(rest) = below(name, &self.user_prefix) {
                if let Some(index) = &self.index {
                    let (account, mailbox) = index.find(rest)?;
                    if account.owner == self.viewer {
                        // Courier shows nobody himself.
                        return None;
                    }
                    let mailbox = Namespace::canonical(mailbox.unwrap_or(INBOX));
                    return Some(self.of(account.owner.clone(), mailbox));
                }
                let (user, mailbox) = rest.split_once(SEPARATOR).unwrap_or((rest, INBOX));
                let owner = qualified(user, domain)?;
                return Some(self.of(owner, Namespace::canonical(mailbox)));
            }
        }
        let shared = self.shared_owner(domain);
        match (self.form, shared) {
            (NameForm::Alternate, Some(_)) if name == self.shared_prefix => Some(Name::Root),
            (NameForm::Alternate, Some(owner)) if below(name, &self.shared_prefix).is_some() => {
                let mailbox = below(name, &self.shared_prefix)?;
                Some(self.of(owner, mailbox.to_owned()))
            }
            (NameForm::Alternate, _) => Some(Name::Own(name.to_owned())),
            (NameForm::Internal, Some(owner)) => Some(self.of(owner, name.to_owned())),
            (NameForm::Internal, None) | (NameForm::Courier, _) => None,
        }
    }

    fn of(&self, owner: String, mailbox: String) -> Name {
        match owner == self.viewer {
            true => Name::Own(mailbox),
            false => Name::Others { owner, mailbox },
        }
    }

    /// The owner of shared mailboxes in a domain.
    fn shared_owner(&self, domain: &str) -> Option<String> {
        let is_there = self.others && !self.shared_user.is_empty();
        is_there.then(|| qualified(&self.shared_user, domain)).flatten()
    }

    /// How one of the user's own mailboxes is called.
    pub(super) fn own<'n>(&self, mailbox: &'n str) -> Cow<'n, str> {
        if let Some(prefix) = self.copies_prefix()
            && let Some(copy) = mailbox.strip_prefix(SHARED_COPIES)
        {
            return format!("{prefix}{}", self.outward(copy)).into();
        }
        match self.form {
            NameForm::Alternate => self.outward(mailbox),
            NameForm::Internal | NameForm::Courier if mailbox == INBOX => mailbox.into(),
            NameForm::Internal | NameForm::Courier => {
                format!("{INBOX}{}{}", self.separator, self.outward(mailbox)).into()
            }
        }
    }

    /// How another user's mailbox is called; `None` for one that has no name here.
    pub(super) fn others(&self, owner: &str, mailbox: &str) -> Option<String> {
        if owner == self.viewer {
            return Some(self.own(mailbox).into_owned());
        }
        if !self.others {
            return None;
        }
        let (local, domain) = owner.rsplit_once('@').unwrap_or((owner, ""));
        let at_home = domain == domain_of(&self.viewer);
        let suffixed = self.form == NameForm::Internal && domain_of(&self.viewer).is_empty();
        let suffix = if suffixed && !at_home { format!("@{domain}") } else { String::new() };
        let separator = self.separator;
        let shared = self.shared_owner(domain).is_some_and(|shared| shared == owner);
        if shared && (at_home || suffixed) && mailbox != INBOX {
            match self.form {
                NameForm::Alternate => {
                    return Some(format!(
                        "{}{separator}{}",
                        self.shared_prefix,
                        self.outward(mailbox)
                    ));
                }
                NameForm::Internal => return Some(format!("{}{suffix}", self.outward(mailbox))),
                NameForm::Courier => {}
            }
        }
        let user = match &self.index {
            Some(index) => index.name_of(owner)?,
            None if at_home || suffixed => local,
            None => owner,
        };
        let mut name = format!("{}{separator}{}", self.user_prefix, self.outward(user));
        if mailbox != INBOX {
            name.push(separator);
            name.push_str(&self.outward(mailbox));
        }
        name.push_str(&suffix);
        Some(name)
    }

    /// What the names of another user's mailboxes begin with.
    pub(super) fn places(&self, owner: &str) -> Vec<String> {
        let (local, domain) = owner.rsplit_once('@').unwrap_or((owner, ""));
        if self.shared_owner(domain).is_some_and(|shared| shared == owner) {
            // They may be anywhere.
            return vec![String::new()];
        }
        // In the internal form the domain comes last.
        let whole = self.others(owner, INBOX);
        let short = format!("{}{}{}", self.user_prefix, self.separator, self.outward(local));
        whole
            .map(|whole| if whole.starts_with(&short) { short } else { whole })
            .into_iter()
            .collect()
    }

    /// Where the levels of a name end: before the domain that an administrator without one sees
    /// behind others' names.
    pub(super) fn levels_end(&self, name: &str) -> usize {
        let suffixed = self.form == NameForm::Internal && domain_of(&self.viewer).is_empty();
        let split = name.rsplit_once('@').filter(|(head, domain)| {
            suffixed && self.others && is_domain(domain) && !head.starts_with(INBOX)
        });
        split.map_or(name.len(), |(head, _)| head.len())
    }

    /// Calls `each` with the names above a name, outermost first.
    #[expect(clippy::ptr_arg, reason = "what is borrowed gives names that live as long")]
    pub(super) fn each_above<'n>(&self, name: &Cow<'n, str>, each: &mut dyn FnMut(Cow<'n, str>)) {
        let end = self.levels_end(name);
        let (levels, domain) = name.split_at(end);
        for (at, _) in levels.match_indices(self.separator).filter(|(at, _)| *at > 0) {
            each(match (domain, name) {
                // All users are below this, whatever their domain.
                (_, _) if !domain.is_empty() && levels[..at] == *USERS => USERS.into(),
                ("", Cow::Borrowed(name)) => Cow::Borrowed(&name[..at]),
                _ => Cow::Owned(format!("{}{domain}", &levels[..at])),
            });
        }
    }

    /// What is subscribed: copies of what others share on the filesystem are, too.
    pub(super) fn subscriptions<'n>(
        &self,
        namespace: &'n Namespace,
    ) -> impl Iterator<Item = &'n String> {
        let shows = self.shows_copies();
        let copies = namespace.mailboxes.keys().filter(move |name| shows && self.is_copy(name));
        namespace.subscriptions.iter().chain(copies)
    }

    /// How a subscribed name is called.
    pub(super) fn subscribed<'n>(&self, name: &'n str) -> Option<Cow<'n, str>> {
        match Namespace::of_others(name) {
            Some((owner, mailbox)) => self.others(owner, mailbox).map(Cow::Owned),
            None => Some(self.own(name)),
        }
    }

    /// Prefixes of the personal, other users' and shared namespace (RFC 2342).
    pub(super) fn prefixes(&self) -> [Option<String>; 3] {
        let below = |name: &str| format!("{name}{}", self.separator);
        let shared = self.shared_owner(domain_of(&self.viewer)).is_some();
        let users = self.others.then(|| below(&self.user_prefix));
        match self.form {
            NameForm::Alternate => {
                [Some(String::new()), users, shared.then(|| below(&self.shared_prefix))]
            }
            NameForm::Internal => [Some(below(INBOX)), users, shared.then(String::new)],
            NameForm::Courier => [Some(below(INBOX)), None, users],
        }
    }

    /// A client's name with the engine's separator.
    fn levels(&self, wire: &str) -> Option<String> {
        if self.separator == SEPARATOR {
            return Some(Namespace::canonical(wire));
        }
        if wire.contains(SEPARATOR) {
            return None;
        }
        let outer = |c: char| match c {
            '.' => SEPARATOR,
            '^' => '.',
            c => c,
        };
        Some(Namespace::canonical(&wire.chars().map(outer).collect::<String>()))
    }

    fn outward<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.separator == SEPARATOR || !name.contains([SEPARATOR, '.']) {
            return name.into();
        }
        let outer = |c: char| match c {
            SEPARATOR => '.',
            '.' => '^',
            c => c,
        };
        name.chars().map(outer).collect::<String>().into()
    }
}

/// The canonical name of a user, of this domain if the name says none.
pub(super) fn qualified(user: &str, domain: &str) -> Option<String> {
    let whole = match user.contains('@') || domain.is_empty() {
        true => user.to_owned(),
        false => format!("{user}@{domain}"),
    };
    UserName::new(&whole).ok().map(|name| name.as_str().to_owned())
}

fn below<'n>(name: &'n str, above: &str) -> Option<&'n str> {
    name.strip_prefix(above)?.strip_prefix(SEPARATOR)
}

fn is_domain(text: &str) -> bool {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
    !text.is_empty() && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{PlainLogin, Protocol, Separator, TlsMode};

    fn names(form: NameForm, separator: Option<Separator>, viewer: &str, admin: bool) -> Names {
        let listener = Listener {
            tls: TlsMode::None,
            plain_login: PlainLogin::Loopback,
            names: form,
            separator,
            ..Listener::new(Protocol::Imap, "127.0.0.1:143".to_owned().into())
        };
        let sharing = Sharing { shared_user: "bb".into(), ..Sharing::default() };
        Names::new(&listener, &sharing, viewer, admin, true)
    }

    fn own(mailbox: &str) -> Option<Name> {
        Some(Name::Own(mailbox.into()))
    }

    fn of(owner: &str, mailbox: &str) -> Option<Name> {
        Some(Name::Others { owner: owner.into(), mailbox: mailbox.into() })
    }

    /// Each name means what is behind it, and that is so called.
    fn both_ways(names: &Names, pairs: &[(&str, Option<Name>)]) {
        for (wire, name) in pairs {
            assert_eq!(names.parse(wire), *name, "{wire}");
            let back = match name {
                Some(Name::Own(mailbox)) => names.own(mailbox).into_owned(),
                Some(Name::Others { owner, mailbox }) => names.others(owner, mailbox).unwrap(),
                Some(Name::Root) | None => continue,
            };
            assert_eq!(back, *wire);
        }
    }

    #[test]
    fn alternate_names() {
        let slash = names(NameForm::Alternate, None, "jo@a.org", false);
        both_ways(
            &slash,
            &[
                ("INBOX", own("INBOX")),
                ("INBOX/x", own("INBOX/x")),
                ("a.b/c", own("a.b/c")),
                ("user/bob", own("user/bob")),
                ("Other Users", Some(Name::Root)),
                ("Other Users/bob", of("bob@a.org", "INBOX")),
                ("Other Users/bob/x.y/z", of("bob@a.org", "x.y/z")),
                ("Other Users/bob@b.org/x", of("bob@b.org", "x")),
                ("Shared Folders", Some(Name::Root)),
                ("Shared Folders/news", of("bb@a.org", "news")),
                ("Other Users/b*b", None),
            ],
        );
        assert_eq!(slash.parse("inbox"), own("INBOX"));
        assert_eq!(slash.parse("Other Users/jo/x"), own("x"));
        let dot = names(NameForm::Alternate, Some(Separator::Dot), "jo", false);
        both_ways(
            &dot,
            &[
                ("a^b.c", own("a.b/c")),
                ("a/b", None),
                ("Other Users.jo^doe.x", of("jo.doe", "x")),
                ("Shared Folders.a.b", of("bb", "a/b")),
            ],
        );
    }

    #[test]
    fn internal_names() {
        let user = names(NameForm::Internal, Some(Separator::Dot), "jo@a.org", false);
        both_ways(
            &user,
            &[
                ("INBOX", own("INBOX")),
                ("INBOX.Sent", own("Sent")),
                ("INBOX.INBOX.x", own("INBOX/x")),
                ("user.bob", of("bob@a.org", "INBOX")),
                ("user.bob.x", of("bob@a.org", "x")),
                ("user.bob@b^org.x", of("bob@b.org", "x")),
                ("news.x", of("bb@a.org", "news/x")),
                ("user", Some(Name::Root)),
            ],
        );
        assert_eq!(user.parse("user.jo.x"), own("x"));
        let admin = names(NameForm::Alternate, Some(Separator::Dot), "cyrus", true);
        both_ways(
            &admin,
            &[
                ("user.bob", of("bob", "INBOX")),
                ("user.bob.x", of("bob", "x")),
                ("user.bob@b.org", of("bob@b.org", "INBOX")),
                ("user.bob.x.y@b.org", of("bob@b.org", "x/y")),
                ("news@b.org", of("bb@b.org", "news")),
                ("INBOX.a@b", own("a@b")),
            ],
        );
        assert_eq!(admin.parse("user.bob@b^org.x"), of("bob@b.org", "x"));
        let above = |names: &Names, name: &str| {
            let mut all = Vec::new();
            names.each_above(&Cow::Borrowed(name), &mut |above| all.push(above.into_owned()));
            all
        };
        assert_eq!(
            above(&admin, "user.bob.x.y@b.org"),
            ["user", "user.bob@b.org", "user.bob.x@b.org"]
        );
        assert_eq!(above(&admin, "INBOX.x@b.org"), ["INBOX", "INBOX.x@b"]);
        assert_eq!(above(&user, "user.bob.x"), ["user", "user.bob"]);
    }

    #[test]
    fn copies_of_shared_folders_have_names_in_couriers_form_alone() {
        let listener = |form| Listener {
            tls: TlsMode::None,
            plain_login: PlainLogin::Loopback,
            names: form,
            ..Listener::new(Protocol::Imap, "127.0.0.1:143".to_owned().into())
        };
        let sharing = Sharing { courier_maildirs: true, ..Sharing::default() };
        let names = |form, others| Names::new(&listener(form), &sharing, "jo", false, others);
        let courier = names(NameForm::Courier, true);
        both_ways(
            &courier,
            &[
                ("shared", Some(Name::Root)),
                ("shared.team", Some(Name::Root)),
                ("shared.team.Open.Deep", own("#shared-folders/team/Open/Deep")),
                ("shared.team/x", None),
                ("sharedx", None),
                ("INBOX.shared.team.Open", own("shared/team/Open")),
                ("INBOX.#shared-folders.team.Open", None),
            ],
        );
        assert_eq!(courier.copies_prefix(), Some("shared.".into()));
        let alternate = names(NameForm::Alternate, true);
        assert_eq!(alternate.parse("#shared-folders/team/Open"), None);
        assert_eq!(alternate.parse("shared/team/Open"), own("shared/team/Open"));
        assert_eq!(names(NameForm::Courier, false).parse("shared.team.Open"), None);
        // Where nothing is shared so, the name is one as any other.
        let off = super::Names::new(
            &listener(NameForm::Alternate),
            &Sharing::default(),
            "jo",
            false,
            true,
        );
        assert_eq!(off.parse("#shared-folders/x/y"), own("#shared-folders/x/y"));
    }

    #[test]
    fn courier_names_and_prefixes() {
        let courier = names(NameForm::Courier, None, "jo", false);
        both_ways(
            &courier,
            &[
                ("INBOX", own("INBOX")),
                ("INBOX.Sent.x", own("Sent/x")),
                ("#shared.bob.x", of("bob", "x")),
                ("#shared.bob", of("bob", "INBOX")),
                ("#shared.bb.news", of("bb", "news")),
                ("Sent", None),
            ],
        );
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(courier.prefixes(), [some("INBOX."), None, some("#shared.")]);
        let internal = names(NameForm::Internal, None, "jo", false);
        assert_eq!(internal.prefixes(), [some("INBOX/"), some("user/"), some("")]);
        let alternate = names(NameForm::Alternate, None, "jo", false);
        assert_eq!(alternate.prefixes(), [some(""), some("Other Users/"), some("Shared Folders/")]);
    }
}
