//! Mailboxes on their way: how Cyrus calls them, what its list says of them, where it wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use config::Config;
use engine::{INBOX, MailboxToAdopt, Namespace, Rights};
use foreign::cyrus::annotations::OWNER;
use foreign::cyrus::mboxlist::{ALL_RIGHTS, Acl, Entry};
use foreign::cyrus::name::Name;
use protocol::imap::mutf7;

use super::moves::Wanted;
use super::plan::without_old;
use super::site::Site;
use crate::failure::{Failed, Kind};

/// One mailbox on its way.
pub struct Given {
    /// Its name in Cyrus.
    pub name: Name,
    /// Whose it is here.
    pub user: String,
    /// The user; for shared mailboxes none.
    pub owner: String,
    /// As the store has it, maybe without messages.
    pub mailbox: MailboxToAdopt,
    /// Its entry in `mailboxes.db`.
    pub entry: Entry,
    /// Where it is, below its partition's root.
    pub dir: PathBuf,
}

impl Given {
    /// Cyrus's name of its partition.
    pub fn partition(&self) -> &str {
        self.entry.partition.as_deref().unwrap_or("default")
    }

    /// Its own annotations with their values, special uses among them, by entry and user.
    pub fn annotations(&self) -> BTreeMap<(String, String), Vec<u8>> {
        let mut values = BTreeMap::new();
        for (whose, entry, value) in &self.mailbox.metadata {
            let user = match whose == &self.owner && !whose.is_empty() {
                true => OWNER.to_owned(),
                false => whose.clone(),
            };
            let scope = if whose.is_empty() { "/shared" } else { "/private" };
            let Some(entry) = entry.strip_prefix(scope) else { continue };
            values.insert((entry.to_owned(), user), value.clone());
        }
        if !self.mailbox.special_use.is_empty() {
            let uses: Vec<_> = self.mailbox.special_use.iter().map(|use_| use_.as_str()).collect();
            let user = if self.owner.is_empty() { String::new() } else { OWNER.to_owned() };
            values.insert(("/specialuse".to_owned(), user), uses.join(" ").into_bytes());
        }
        values
    }

    /// Octets of its own annotations.
    pub fn annotation_bytes(&self) -> u64 {
        self.annotations().values().map(|value| value.len() as u64).sum()
    }

    /// Its directories that have another place in Cyrus: that of the messages first.
    pub fn wanted(&self, site: &Site) -> Result<Vec<Wanted>, Failed> {
        let wanted = site.directory(&self.entry).ok_or_else(|| {
            let line = format!("{}: its unique id cannot be a directory", self.name);
            Failed::new(Kind::Incomplete, line)
        })?;
        let (mut all, mut roots) = (Vec::new(), Vec::new());
        if wanted == self.dir {
            return Ok(all);
        }
        for what in ["", "header", "index", "cache", "annotations"] {
            let root = site.root(self.partition(), what)?;
            if !roots.contains(&root) {
                let is_home = roots.is_empty();
                let unique_id = is_home.then(|| self.mailbox.unique_id.clone());
                all.push(Wanted {
                    unique_id: unique_id.unwrap_or_default(),
                    from: root.join(&self.dir),
                    to: root.join(&wanted),
                });
                roots.push(root);
            }
        }
        Ok(all)
    }
}

/// Where our mailboxes have their places in Cyrus.
pub struct Places<'a> {
    site: &'a Site,
    /// Whose mailboxes are Cyrus's shared ones, without domain; maybe nobody's.
    shared_user: &'a str,
    /// Here or in Cyrus.
    admins: BTreeSet<&'a str>,
    /// Cyrus's names of our partitions.
    partitions: BTreeMap<String, String>,
    /// Those of mailboxes in Cyrus's list by unique id.
    before: BTreeMap<&'a str, &'a Entry>,
}

impl<'a> Places<'a> {
    /// With our partitions by Cyrus's names for them.
    pub fn new(site: &'a Site, config: &'a Config, partitions: &BTreeMap<String, String>) -> Self {
        let swapped = |(theirs, ours): (&String, &String)| (ours.clone(), theirs.clone());
        let theirs = site.conf.get("admins").unwrap_or_default().split_ascii_whitespace();
        let listed = site.mailboxes.iter().filter(|entry| entry.is_served());
        Places {
            site,
            shared_user: &config.sharing.shared_user,
            admins: theirs.chain(config.auth.admins.iter().map(String::as_str)).collect(),
            partitions: partitions.iter().map(swapped).collect(),
            before: listed.filter_map(|entry| Some((entry.unique_id.as_deref()?, entry))).collect(),
        }
    }

    fn is_shared(&self, user: &str) -> bool {
        is_shared(self.shared_user, user)
    }

    /// The name of a user's mailbox; `None` for the stand-in INBOX of the shared user.
    fn name(&self, user: &str, mailbox: &str) -> Option<Name> {
        name_of(self.shared_user, user, mailbox)
    }

    /// The name of what a user subscribed to.
    pub fn subscribed(&self, user: &str, subscribed: &str) -> Name {
        match Namespace::of_others(subscribed) {
            None => Name::of_user(user, &levels(subscribed)),
            Some((owner, name)) => {
                self.name(owner, name).unwrap_or_else(|| Name::of_user(owner, &levels(name)))
            }
        }
    }

    /// What Cyrus is to have of a user's mailboxes. An administrator gets an INBOX here at the first
    /// login, and none in Cyrus: unless mail came into it, or there are others.
    pub fn wanted_of(&self, user: &str, mailboxes: Vec<MailboxToAdopt>) -> Vec<MailboxToAdopt> {
        let is_bare = matches!(mailboxes.as_slice(), [inbox] if inbox.name == INBOX
            && inbox.uid_next <= 1
            && !self.before.contains_key(inbox.unique_id.as_str()));
        match is_bare && self.admins.contains(user) {
            true => Vec::new(),
            false => mailboxes,
        }
    }

    /// A mailbox with its name and entry in Cyrus; `None` for the stand-in INBOX of the shared user.
    ///
    /// # Errors
    /// Its partition is none of Cyrus's.
    pub fn place(
        &self,
        user: &str,
        mailbox: MailboxToAdopt,
        now: u64,
    ) -> Result<Option<Given>, Failed> {
        let Some(name) = self.name(user, &mailbox.name) else { return Ok(None) };
        let Some(partition) = self.partitions.get(&mailbox.partition) else {
            let line = "imapd.conf has no partition with this root";
            let message = format!("{name}: partition {}: {line}", mailbox.partition);
            return Err(Failed::new(Kind::Incomplete, message));
        };
        let before = self.before.get(mailbox.unique_id.as_str()).copied();
        let owner = if self.is_shared(user) { String::new() } else { user.to_owned() };
        let mut entry = before.cloned().unwrap_or_else(|| Entry {
            created_modseq: 1,
            folder_modseq: 1,
            // Our directories have the names of mailboxes.
            kind: "el".to_owned(),
            ..Entry::default()
        });
        if !self.site.is_by_id() {
            entry.kind = "el".to_owned();
        }
        entry.name = name.clone();
        entry.unique_id = Some(mailbox.unique_id.clone());
        entry.partition = Some(partition.clone());
        entry.uid_validity = Some(mailbox.uid_validity);
        entry.acl = acl(&mailbox, &owner, before.map(|entry| &entry.acl));
        entry.special_use = None;
        if before != Some(&entry) {
            entry.changed = now;
        }
        let dir = mailbox.dir.clone();
        Ok(Some(Given { name, user: user.to_owned(), owner, mailbox, entry, dir }))
    }
}

/// Whether these mailboxes are Cyrus's shared ones.
pub fn is_shared(shared_user: &str, user: &str) -> bool {
    let local = user.rsplit_once('@').map_or(user, |(local, _)| local);
    !shared_user.is_empty() && local == shared_user
}

fn levels(name: &str) -> Vec<String> {
    name.split('/').filter(|_| name != INBOX).map(mutf7::encode).collect()
}

/// Cyrus's name of a user's mailbox; `None` for the stand-in INBOX of the user whose mailboxes are
/// Cyrus's shared ones.
pub fn name_of(shared_user: &str, user: &str, mailbox: &str) -> Option<Name> {
    let levels = levels(mailbox);
    let of_user = Name::of_user(user, &levels);
    match is_shared(shared_user, user) {
        true if levels.is_empty() => None,
        true => Some(Name { domain: of_user.domain, levels }),
        false => Some(of_user),
    }
}

/// How Cyrus calls an identifier of ours, with the minus sign of a negative one; `None` for those that have
/// no entry there.
pub fn identifier(who: &str, owner: &str) -> Option<String> {
    let (minus, word) = match who.strip_prefix('-') {
        Some(word) => ("-", word),
        None => ("", who),
    };
    let word = match word {
        // Administrators have their rights without an entry.
        "administrators" => return None,
        "owner" if owner.is_empty() => return None,
        "owner" => owner,
        "authenticated" => "anyone",
        other => other.strip_prefix("user=").unwrap_or(other),
    };
    Some(format!("{minus}{word}"))
}

/// What is known here of the rights of an entry.
pub fn rights_known(rights: &str) -> Rights {
    let kept = without_old(rights);
    let kept: String = kept.chars().filter(|c| ALL_RIGHTS.contains(*c)).collect();
    Rights::parse(&kept).unwrap_or_default()
}

/// The list as Cyrus writes it; as it was, where it says the same.
fn acl(mailbox: &MailboxToAdopt, owner: &str, before: Option<&Acl>) -> Acl {
    let mut acl = Acl::new();
    match &mailbox.acl {
        None if owner.is_empty() => {}
        None => acl.push((owner.to_owned(), ALL_RIGHTS.to_owned())),
        Some(texts) => {
            for (who, rights) in texts {
                let Some(who) = identifier(who, owner) else { continue };
                acl.push((who, Rights::parse(rights).unwrap_or_default().wire()));
            }
        }
    }
    let plain = |acl: &Acl| -> BTreeMap<String, Rights> {
        acl.iter().map(|(who, rights)| (who.clone(), rights_known(rights))).collect()
    };
    match before {
        Some(before) if plain(before) == plain(&acl) => before.clone(),
        _ => acl,
    }
}
