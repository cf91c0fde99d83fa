//! Access control lists (RFC 4314): who may do what with a mailbox.
//!
//! A mailbox without a list is its owner's alone. A list is a fact: a frame in the log with all of
//! its entries, a field of the mailbox's row in the catalog. It belongs to the mailbox's id, so it
//! follows a new name and goes with the mailbox; a new mailbox takes the list of the one above it.
//!
//! Rights are the union of what all entries give that the user meets, less the union of what the
//! negative ones take (ACL2=UNION). Two sets are beyond the list: an owner always has `l` and `a`,
//! or nobody could mend a list that locks him out; administrators have `l`, `k`, `x` and `a`, and
//! have to give themselves the rest where everybody can see it.
//!
//! **Domains.** Owner and user have the domain behind the `@` of their names, or none. `anyone`,
//! `authenticated` and groups mean those of the owner's domain; administrators of a domain are
//! administrators of its mailboxes alone.
//!
//! Which owners let whom see something (`l`) is an index in the catalog (`grants`), so that finding what
//! a user may see costs nothing for the owners who show nothing. It is derived from the lists; what
//! no checkpoint has written yet is in memory in front of it.

mod grants;
mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub(crate) use grants::Grants;
pub use rights::{FlagScope, Rights};

use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::namespace::{INBOX, Namespace, SEPARATOR};
use crate::user::{NewMailbox, User, UserInner};

/// The domain of owners who belong to nobody's domain, and to whose mailboxes users of all domains
/// are at home: Maildirs that Courier's shared index names and that are no account's. No domain can
/// have this name (RFC 6761 section 6.4).
pub const COMMON_DOMAIN: &str = "shared.invalid";

/// Entries of a list at most.
pub const ACL_ENTRIES_MAX: usize = 1000;

/// Whom an entry is about. Names are canonical and have their domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// The mailbox's owner.
    Owner,
    /// Whoever administers it.
    Administrators,
    /// One user.
    User(String),
    /// The users of a group.
    Group(String),
    /// All users of the owner's domain that are logged in with a name of their own.
    Authenticated,
    /// All users of the owner's domain.
    Anyone,
    /// Whoever is logged in without a name.
    Anonymous,
}

/// What stands for more than one user, and is therefore no user's name.
const WORDS: [(&str, Identifier); 5] = [
    ("owner", Identifier::Owner),
    ("administrators", Identifier::Administrators),
    ("authenticated", Identifier::Authenticated),
    ("anyone", Identifier::Anyone),
    ("anonymous", Identifier::Anonymous),
];

impl Identifier {
    /// Reads an identifier in any of the forms in use: `jo`, `user=jo` (Courier); `group:staff`
    /// (Cyrus), `group=staff` (Courier); `anyone` and the like. `canonical` makes a user's or
    /// group's name of what was written, and knows which names there can be.
    pub fn parse(text: &str, canonical: impl Fn(&str) -> Option<String>) -> Option<Identifier> {
        if let Some((_, word)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Some(word.clone());
        }
        if let Some(group) = text.strip_prefix("group:").or(text.strip_prefix("group=")) {
            return canonical(group).map(Identifier::Group);
        }
        let user = text.strip_prefix("user=").unwrap_or(text);
        canonical(user).map(Identifier::User)
    }

    /// Under which key the index has it, for mailboxes of an owner.
    fn key(&self, owner: &str) -> Option<String> {
        match self {
            Identifier::Owner | Identifier::Administrators => None,
            Identifier::User(_) | Identifier::Group(_) => Some(self.to_string()),
            Identifier::Authenticated | Identifier::Anyone | Identifier::Anonymous => {
                Some(format!("{self}@{}", domain_of(owner)))
            }
        }
    }
}

impl fmt::Display for Identifier {
    /// The form that [`Identifier::parse`] reads as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((word, _)) = WORDS.iter().find(|(_, who)| who == self) {
            return f.write_str(word);
        }
        match self {
            Identifier::Group(name) => write!(f, "group:{name}"),
            Identifier::User(name) => {
                let taken = WORDS.iter().any(|(word, _)| word == name)
                    || ["-", "user=", "group=", "group:"].iter().any(|p| name.starts_with(p));
                if taken { write!(f, "user={name}") } else { f.write_str(name) }
            }
            _ => Ok(()),
        }
    }
}

/// What an entry of a list is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclEntry {
    /// It takes rights.
    pub negative: bool,
    /// From whom, or to whom it gives them.
    pub who: Identifier,
}

impl AclEntry {
    /// Reads an identifier with `-` in front of a negative one.
    pub fn parse(text: &str, canonical: impl Fn(&str) -> Option<String>) -> Option<AclEntry> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Some(AclEntry { negative, who: Identifier::parse(text, canonical)? })
    }
}

impl fmt::Display for AclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negative { "-" } else { "" }, self.who)
    }
}

/// The access control list of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl(BTreeMap<AclEntry, Rights>);

impl Acl {
    /// What a mailbox has that nobody has given one: the owner may do everything.
    pub fn default_of_owner() -> Acl {
        let owner = AclEntry { negative: false, who: Identifier::Owner };
        Acl(BTreeMap::from([(owner, Rights::ALL)]))
    }

    /// Its entries, the owner's first.
    pub fn entries(&self) -> impl Iterator<Item = (&AclEntry, Rights)> {
        self.0.iter().map(|(entry, rights)| (entry, *rights))
    }

    /// The rights of an entry, as they were set.
    pub fn rights_of(&self, entry: &AclEntry) -> Rights {
        self.0.get(entry).copied().unwrap_or_default()
    }

    pub(crate) fn change(&mut self, entry: AclEntry, change: RightsChange) -> Result<()> {
        let before = self.rights_of(&entry);
        let after = match change {
            RightsChange::Replace(rights) => rights,
            RightsChange::Add(rights) => before.union(rights),
            RightsChange::Remove(rights) => before.without(rights),
        };
        if after.is_empty() {
            self.0.remove(&entry);
            return Ok(());
        }
        if !self.0.contains_key(&entry) && self.0.len() >= ACL_ENTRIES_MAX {
            return Err(Error::AclTooMany { max: ACL_ENTRIES_MAX });
        }
        self.0.insert(entry, after);
        Ok(())
    }

    /// In the form of frames, rows and backups.
    pub(crate) fn to_texts(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(entry, rights)| (entry.to_string(), rights.to_string())).collect()
    }

    /// Reads that form; `None` for what is none, since a list of which a part counts could give
    /// what another part takes.
    pub fn of_texts<'t>(texts: impl IntoIterator<Item = (&'t String, &'t String)>) -> Option<Acl> {
        let entry = |(entry, rights): (&String, &String)| {
            let entry = AclEntry::parse(entry, |name| Some(name.to_owned()))?;
            Some((entry, Rights::parse(rights)?))
        };
        texts.into_iter().map(entry).collect::<Option<BTreeMap<_, _>>>().map(Acl)
    }

    /// Keys of the index for those who may see the mailbox.
    fn keys<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = String> + use<'a> {
        let shown = self
            .entries()
            .filter(|(entry, rights)| !entry.negative && rights.contains(Rights::LOOKUP));
        shown.filter_map(move |(entry, _)| entry.who.key(owner))
    }
}

/// What SETACL does to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightsChange {
    /// These and no others; none: the entry goes.
    Replace(Rights),
    /// These, too.
    Add(Rights),
    /// All but these.
    Remove(Rights),
}

/// Whose mailboxes somebody administers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// Nobody's.
    #[default]
    Nothing,
    /// Those of the users of a domain.
    Domain(String),
    /// Everybody's.
    Everything,
}

/// Somebody whose rights are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// Canonical name, with its domain.
    pub user: String,
    /// Canonical names of groups, with their domain.
    pub groups: Vec<String>,
    /// As administrator.
    pub authority: Authority,
    /// Logged in without a name.
    pub anonymous: bool,
}

/// The domain of a user's name; empty for a name without one.
pub fn domain_of(name: &str) -> &str {
    name.rsplit_once('@').map_or("", |(_, domain)| domain)
}

impl Principal {
    /// A user without groups.
    pub fn of_user(name: &str) -> Principal {
        Principal { user: name.to_owned(), ..Principal::default() }
    }

    /// Whether this is an administrator of a user's mailboxes.
    pub fn administers(&self, owner: &str) -> bool {
        match &self.authority {
            Authority::Nothing => false,
            Authority::Domain(domain) => domain == domain_of(owner),
            Authority::Everything => true,
        }
    }

    /// The rights on a mailbox of `owner` with this list.
    pub fn rights(&self, owner: &str, acl: Option<&Acl>) -> Rights {
        let own = self.user == owner;
        let mut given = match acl {
            None if own => return Rights::ALL,
            None => Rights::NONE,
            Some(acl) => {
                let (mut given, mut taken) = (Rights::NONE, Rights::NONE);
                for (entry, rights) in acl.entries().filter(|(e, _)| self.is(&e.who, owner)) {
                    let side = if entry.negative { &mut taken } else { &mut given };
                    *side = side.union(rights);
                }
                given.without(taken)
            }
        };
        if own {
            given = given.union(Rights::OF_OWNER);
        }
        if self.administers(owner) {
            given = given.union(Rights::OF_ADMINISTRATORS);
        }
        given
    }

    fn is(&self, who: &Identifier, owner: &str) -> bool {
        let at_home = || [domain_of(&self.user), COMMON_DOMAIN].contains(&domain_of(owner));
        match who {
            Identifier::Owner => self.user == owner,
            Identifier::Administrators => self.administers(owner),
            Identifier::User(name) => *name == self.user,
            Identifier::Group(name) => self.groups.contains(name),
            Identifier::Authenticated => !self.anonymous && at_home(),
            Identifier::Anyone => at_home(),
            Identifier::Anonymous => self.anonymous && at_home(),
        }
    }

    /// Keys of the index under which this user may have been let see something.
    fn keys(&self) -> Vec<String> {
        let user = Identifier::User(self.user.clone());
        let groups = self.groups.iter().map(|name| Identifier::Group(name.clone()));
        let words = [Identifier::Authenticated, Identifier::Anyone, Identifier::Anonymous];
        let common = words.clone().into_iter().map(|word| format!("{word}@{COMMON_DOMAIN}"));
        let all = std::iter::once(user).chain(groups).chain(words);
        all.filter_map(|who| who.key(&self.user)).chain(common).collect()
    }
}

impl Namespace {
    /// The list of a mailbox, if it was given one.
    pub fn acl(&self, id: MailboxId) -> Option<&Acl> {
        self.acls.get(&id).map(|acl| &**acl)
    }

    /// The mailbox whose rights decide over a name that is to be made: the nearest one above it,
    /// else the INBOX, which stands for the user.
    pub fn above<'n>(&self, name: &'n str) -> &'n str {
        let mut rest = name;
        while let Some((above, _)) = rest.rsplit_once(SEPARATOR) {
            if self.mailboxes.contains_key(above) {
                return above;
            }
            rest = above;
        }
        INBOX
    }

    /// Keys of the index that lead to this user.
    pub(crate) fn grants(&self, owner: &str) -> BTreeSet<String> {
        self.acls.values().flat_map(|acl| acl.keys(owner)).collect()
    }
}
impl User {
    /// The rights on one of the user's mailboxes.
    ///
    /// # Errors
    /// [`Error::NoSuchMailbox`]
    pub fn rights(&self, name: &str, principal: &Principal) -> Result<Rights> {
        let namespace = self.0.namespace.load();
        let name = Namespace::canonical(name);
        let entry = namespace.mailboxes.get(&name).ok_or(Error::NoSuchMailbox)?;
        Ok(principal.rights(self.name(), namespace.acl(entry.id)))
    }

    /// The access control list of one of the user's mailboxes.
    ///
    /// # Errors
    /// [`Error::NoSuchMailbox`]
    pub fn acl(&self, name: &str) -> Result<Acl> {
        let namespace = self.0.namespace.load();
        let name = Namespace::canonical(name);
        let entry = namespace.mailboxes.get(&name).ok_or(Error::NoSuchMailbox)?;
        Ok(namespace.acl(entry.id).cloned().unwrap_or_else(Acl::default_of_owner))
    }

    /// Changes one entry of a mailbox's list. An entry without rights is none.
    ///
    /// # Errors
    /// [`Error::NoSuchMailbox`], [`Error::AclTooMany`]
    pub async fn set_acl(&self, name: &str, entry: AclEntry, change: RightsChange) -> Result<()> {
        let name = Namespace::canonical(name);
        if let Identifier::User(who) = &entry.who {
            // A new one of that name is not to lose this.
            self.settle_departed(who).await?;
        }
        self.change(move |user| user.set_acl(&name, entry, change)).await
    }
}

impl UserInner {
    fn set_acl(self: &Arc<Self>, name: &str, entry: AclEntry, change: RightsChange) -> Result<()> {
        let namespace = self.namespace.load_full();
        let id = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?.id;
        let before = namespace.acl(id).cloned().unwrap_or_else(Acl::default_of_owner);
        let mut after = before.clone();
        let entry = match entry.who {
            Identifier::User(who) if who == self.name => {
                AclEntry { negative: entry.negative, who: Identifier::Owner }
            }
            _ => entry,
        };
        after.change(entry, change)?;
        if after == before {
            return Ok(());
        }
        let acl = (after != Acl::default_of_owner()).then_some(after);
        let frames = vec![(id, Frame::Acl { user: self.name.clone(), acl: acl.map(Arc::new) })];
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        self.applied(lsn);
        self.events.post(&Event::Rights(name.to_owned()));
        Ok(())
    }

    /// The list that a mailbox begins with: that of the mailbox above it. The INBOX is above all
    /// others only where `from_inbox`.
    pub(crate) fn inherited(
        &self,
        namespace: &Namespace,
        name: &str,
        options: &NewMailbox,
    ) -> Option<Frame> {
        let above = namespace.above(name);
        let acl = if above == INBOX && !options.inherits_inbox && !name.starts_with("INBOX/") {
            options.acl_without_parent.as_ref()?
        } else {
            namespace.acls.get(&namespace.mailboxes.get(above)?.id)?
        };
        Some(Frame::Acl { user: self.name.clone(), acl: Some(acl.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(&str, &str)]) -> Acl {
        let texts: Vec<_> =
            entries.iter().map(|(who, rights)| (who.to_string(), rights.to_string())).collect();
        Acl::of_texts(texts.iter().map(|(a, b)| (a, b))).unwrap()
    }

    fn rights(principal: &Principal, owner: &str, entries: &[(&str, &str)]) -> String {
        principal.rights(owner, Some(&acl(entries))).to_string()
    }

    #[test]
    fn rights_are_letters() {
        assert_eq!(Rights::ALL.to_string(), "lrswipkxtean");
        assert_eq!(Rights::ALL.wire(), "lrswipkxtecdan");
        assert_eq!(Rights::parse("cd").unwrap().to_string(), "kxte");
        assert_eq!(Rights::parse("lrx").unwrap().wire(), "lrxc");
        assert_eq!(Rights::parse("lrz"), None);
        assert_eq!(Rights::parse(""), Some(Rights::NONE));
    }

    #[test]
    fn identifiers_of_all_forms_meet_in_one() {
        let parse = |text: &str| {
            let canonical = |name: &str| Some(name.to_ascii_lowercase());
            AclEntry::parse(text, canonical).unwrap()
        };
        for (written, text) in [
            ("Jo", "jo"),
            ("user=jo", "jo"),
            ("-user=Jo", "-jo"),
            ("group=Staff", "group:staff"),
            ("-group:staff", "-group:staff"),
            ("anyone", "anyone"),
            ("user=anyone", "user=anyone"),
            ("user=-x", "user=-x"),
            ("--x", "-user=-x"),
            ("owner", "owner"),
        ] {
            assert_eq!(parse(written).to_string(), text, "{written}");
            assert_eq!(parse(text), parse(written), "{written}");
        }
        assert_eq!(AclEntry::parse("jo", |_| None), None);
    }

    #[test]
    fn rights_are_the_union_less_what_is_taken() {
        let mut jo = Principal::of_user("jo");
        jo.groups.push("staff".into());
        let given = [("anyone", "lr"), ("group:staff", "s"), ("jo", "i"), ("bob", "x")];
        assert_eq!(rights(&jo, "owner1", &given), "lrsi");
        let taken = [("anyone", "lrsw"), ("-group:staff", "s"), ("-jo", "w"), ("-bob", "l")];
        assert_eq!(rights(&jo, "owner1", &taken), "lr");
        assert_eq!(jo.rights("owner1", None), Rights::NONE);
        assert_eq!(jo.rights("jo", None), Rights::ALL);
    }

    #[test]
    fn owners_and_administrators_are_never_locked_out() {
        let mut jo = Principal::of_user("jo");
        assert_eq!(rights(&jo, "jo", &[]), "la");
        assert_eq!(rights(&jo, "jo", &[("owner", "lrs"), ("-anyone", "lr")]), "lsa");
        jo.authority = Authority::Everything;
        assert_eq!(rights(&jo, "bob", &[("-administrators", "lkxa")]), "lkxa");
        assert_eq!(rights(&jo, "bob@x", &[("administrators", "r")]), "lrkxa");
    }

    #[test]
    fn nothing_leaks_from_one_domain_into_another() {
        let mut jo = Principal::of_user("jo@a");
        jo.groups.push("staff@a".into());
        jo.authority = Authority::Domain("a".into());
        let everybody = [
            ("anyone", "l"),
            ("authenticated", "r"),
            ("administrators", "s"),
            ("group:staff", "w"),
        ];
        assert_eq!(rights(&jo, "bob@b", &everybody), "");
        assert_eq!(rights(&jo, "bob", &everybody), "");
        assert_eq!(rights(&jo, "bob@a", &everybody), "lrskxa");
        assert_eq!(rights(&jo, "bob@b", &[("jo@a", "lr"), ("jo", "s")]), "lr");
        jo.anonymous = true;
        assert_eq!(rights(&jo, "bob@a", &[("authenticated", "r"), ("anonymous", "s")]), "lskxa");
    }

    #[test]
    fn the_index_has_who_may_see_something() {
        let mut namespace = Namespace::default();
        let list =
            acl(&[("owner", "l"), ("-bob", "r"), ("jo@a", "l"), ("anyone", "l"), ("eve@b", "rp")]);
        namespace.acls.insert(MailboxId([1; 16]), Arc::new(list));
        let keys = namespace.grants("fred@b");
        assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), ["anyone@b", "jo@a"]);
        assert!(Principal::of_user("jo@a").keys().contains(&"jo@a".to_owned()));
        assert!(Principal::of_user("x@b").keys().contains(&"anyone@b".to_owned()));
    }
}
