//! From Cyrus's files to what the engine adopts: names, flags, lists, limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use auth::UserName;
use config::{Config, LayoutKind};
use engine::{
    INBOX, MailboxToAdopt, MessageToAdopt, Namespace, QuotaLimits, SpecialUse, UserToAdopt,
};
use foreign::cyrus::annotations::{Annotation, OWNER};
use foreign::cyrus::db;
use foreign::cyrus::header::Header;
use foreign::cyrus::index::{Index, Record, flag, option};
use foreign::cyrus::mboxlist::{ALL_RIGHTS, Acl, Entry};
use foreign::cyrus::name::{Name, Owner};
use foreign::cyrus::quota::Quota;
use foreign::cyrus::seen::Seen;
use protocol::imap::mutf7;
use protocol::types::SystemFlags;

use super::archived::{self, Brought};
use super::site::{Site, read_if_any};
use crate::cli::TakeoverCyrus;
use crate::failure::{Failed, Kind};

/// Keywords of a mailbox at most.
const KEYWORDS_MAX: usize = 64;
/// What Cyrus computes where we do, or keeps for itself in its index.
const NOT_KEPT: [&str; 1] = ["/specialuse"];

/// What there is to do.
#[derive(Default)]
pub struct Plan<'a> {
    /// Mailboxes with their names here, by user.
    pub users: BTreeMap<String, Vec<(&'a Entry, String)>>,
    /// Mailboxes that are left alone, or not as they were, a line each.
    pub findings: Vec<String>,
    /// Mailboxes that Cyrus keeps for other purposes.
    pub left_alone: Vec<String>,
}

/// What there is of a user.
#[derive(Default)]
pub struct Read {
    /// To be adopted.
    pub user: UserToAdopt,
    /// Mailboxes that are left alone, or not as they were, a line each.
    pub findings: Vec<String>,
    /// What works otherwise from here on, a line each.
    pub notes: Vec<String>,
}

/// What a plan is made from.
pub struct Planner<'a> {
    site: &'a Site,
    config: &'a Config,
    seen: BTreeMap<String, Vec<(String, Seen)>>,
    /// Seconds since 1970; UIDVALIDITY of mailboxes that are begun anew.
    now: u64,
    args: &'a TakeoverCyrus,
    /// Our partitions by Cyrus's names for them.
    partitions: BTreeMap<String, String>,
}

impl<'a> Planner<'a> {
    /// With the partitions of the configuration that have the same roots.
    pub fn new(
        site: &'a mut Site,
        config: &'a Config,
        now: u64,
        args: &'a TakeoverCyrus,
    ) -> Result<Planner<'a>, Failed> {
        let seen = site.seen()?;
        let partitions = partitions(site, config)?;
        Ok(Planner { site, config, seen, now, args, partitions })
    }

    /// Whose the mailboxes are: names and owners only.
    pub fn plan(&self) -> Plan<'a> {
        let mut plan = Plan { findings: self.site.findings.clone(), ..Plan::default() };
        for entry in &self.site.mailboxes {
            let owner = entry.name.owner(&self.site.deleted_prefix);
            if !entry.is_served() || owner == Owner::Deleted {
                if entry.partition.is_some() {
                    plan.left_alone.push(format!("{} (type {})", entry.name, entry.kind));
                }
                continue;
            }
            match self.place_of(&entry.name) {
                Ok((user, name)) => plan.users.entry(user).or_default().push((entry, name)),
                Err(reason) => {
                    plan.findings.push(format!("{}: left alone: {reason}", entry.name));
                }
            }
        }
        plan
    }

    /// Reads all that there is of a user.
    pub fn user(&self, name: &str, mailboxes: &[(&Entry, String)]) -> Read {
        let mut read = Read::default();
        for (entry, mailbox) in mailboxes {
            match self.mailbox(entry, name, mailbox, &mut read) {
                Ok(adopted) => {
                    if *mailbox == INBOX || read.user.partition.is_empty() {
                        read.user.partition.clone_from(&adopted.partition);
                    }
                    read.user.mailboxes.push(adopted);
                }
                Err(reason) => read.findings.push(format!("{}: left alone: {reason}", entry.name)),
            }
        }
        read.user.quota = self.site.quota_of(&Name::of_user(name, &[])).and_then(limits);
        let subscribed = self.site.subscriptions(name).unwrap_or_else(|damage| {
            read.findings.push(damage.to_string());
            Vec::new()
        });
        for subscribed in subscribed {
            match self.place_of(&subscribed) {
                Ok((owner, mailbox)) if owner == *name => {
                    read.user.subscriptions.insert(mailbox);
                }
                Ok((owner, mailbox)) => {
                    read.user.subscriptions.insert(Namespace::name_of_others(&owner, &mailbox));
                }
                Err(reason) => {
                    read.findings.push(format!("subscription of {name} to {subscribed}: {reason}"));
                }
            }
        }
        read
    }

    /// Whose a mailbox is here, and under which name.
    fn place_of(&self, name: &Name) -> Result<(String, String), String> {
        let (user, levels) = match name.owner(&self.site.deleted_prefix) {
            Owner::User(user, below) => (user, below),
            Owner::Shared => {
                let shared = &self.config.sharing.shared_user;
                if shared.is_empty() {
                    return Err("shared mailboxes need sharing.shared_user".to_owned());
                }
                let user = match &name.domain {
                    Some(domain) => format!("{shared}@{domain}"),
                    None => shared.clone(),
                };
                (user, name.levels.clone())
            }
            Owner::Deleted => return Err("it was deleted".to_owned()),
        };
        match UserName::new(&user) {
            Ok(canonical) if canonical.as_str() == user => {}
            Ok(canonical) => return Err(format!("users are called {canonical} here")),
            Err(error) => return Err(error.to_string()),
        }
        if levels.is_empty() {
            return Ok((user, INBOX.to_owned()));
        }
        let mut decoded = Vec::new();
        for level in &levels {
            let text = mutf7::decode(level.as_bytes());
            let text = text.map_err(|_| format!("{level:?} is no modified UTF-7"))?;
            if text.is_empty() || text.contains('/') || text.chars().any(char::is_control) {
                return Err(format!("{text:?} cannot be a level of a name"));
            }
            decoded.push(text);
        }
        let mailbox = decoded.join("/");
        if mailbox.eq_ignore_ascii_case(INBOX) {
            return Err("a mailbox beside the INBOX has its name".to_owned());
        }
        Ok((user, Namespace::canonical(&mailbox)))
    }

    fn mailbox(
        &self,
        entry: &Entry,
        owner: &str,
        name: &str,
        read: &mut Read,
    ) -> Result<MailboxToAdopt, String> {
        let Read { findings, notes, .. } = read;
        let cyrus_partition = entry.partition.as_deref().unwrap_or("default");
        let dir =
            self.site.directory(entry).ok_or("it has no unique id that can be a directory")?;
        let root = |what| self.site.root(cyrus_partition, what).map_err(|e| e.to_string());
        let home = root("")?.join(&dir);
        let header_path = root("header")?.join(&dir).join("cyrus.header");
        let index_path = root("index")?.join(&dir).join("cyrus.index");
        let id = entry.unique_id.as_deref().unwrap_or_default();
        let _held = self.site.lock_mailbox(id, index_path.clone())?;
        let both = read_both(&header_path, &index_path);
        let (header, index) = match both {
            Ok(both) => both,
            Err(damage) if self.args.rebuild_damaged => {
                findings.push(format!("{}: begun anew, flags are lost: {damage}", entry.name));
                self.begun_anew(entry, &home)?
            }
            Err(damage) => return Err(format!("{damage} (--rebuild-damaged begins it anew)")),
        };
        if index.header.options & option::DELETED != 0 {
            return Err("its index says that it was deleted".to_owned());
        }
        self.bring_archived(entry, cyrus_partition, (&home, &dir), &index, findings, notes)?;
        let unique_id = entry.unique_id.clone().unwrap_or_else(|| header.unique_id.clone());
        if unique_id.is_empty() {
            return Err("it has no unique id".to_owned());
        }
        let states = self.seen.get(&unique_id).map(Vec::as_slice).unwrap_or_default();
        let own = states.iter().find(|(user, _)| user.as_str() == owner).map(|(_, seen)| seen);
        let (keywords, bits) = keywords(&header, &index)?;
        let message = |record: &Record| MessageToAdopt {
            uid: record.uid,
            modseq: record.modseq,
            internal_date: record.internal_date,
            save_date: record.save_date,
            flags: system_flags(record, index.header.minor, own),
            keywords: bits.iter().enumerate().fold(0, |all, (to, from)| {
                all | ((record.user_flags >> (from & 127)) as u64 & 1) << (to & 63)
            }),
            size: record.size,
        };
        let messages: Vec<_> = index.live().map(message).collect();
        let shared_seen = index.header.options & option::SHARED_SEEN != 0;
        let seen = self.others_seen(entry, owner, states, shared_seen.then_some(&messages[..]));
        if shared_seen {
            let line = "everybody had one \\Seen state; from here on each user has one";
            notes.push(format!("{}: {line}", entry.name));
        }
        let recent = match index.header.minor {
            12.. => index.header.recent_uid,
            _ => own.map_or(0, |seen| seen.last_uid),
        };
        let highest = index.records.iter().map(|record| record.modseq).max().unwrap_or(1);
        let is_root = name != INBOX;
        let mut mailbox = MailboxToAdopt {
            name: name.to_owned(),
            partition: self.partitions.get(cyrus_partition).cloned().unwrap_or_default(),
            dir,
            uid_validity: entry
                .uid_validity
                .filter(|_| index.header.uid_validity == 0)
                .unwrap_or(index.header.uid_validity)
                .max(1),
            uid_next: index.header.last_uid.saturating_add(1),
            modseq_highest: index.header.modseq_highest.max(highest),
            recent_uid: recent.saturating_add(1),
            special_use: entry.special_use.iter().flat_map(|uses| special_uses(uses)).collect(),
            keywords,
            messages,
            acl: acl(&entry.acl, owner, &entry.name, findings),
            quota: self.site.quota_of(&entry.name).filter(|_| is_root).and_then(limits),
            seen,
            unique_id,
            ..MailboxToAdopt::default()
        };
        self.annotate(entry, owner, &mut mailbox);
        let annotations = root("annotations")?.join(&mailbox.dir).join("cyrus.annotations");
        of_messages(&annotations, owner, &mut mailbox, findings);
        Ok(mailbox)
    }

    /// Brings messages from the archive partition, where that is wanted.
    fn bring_archived(
        &self,
        entry: &Entry,
        partition: &str,
        (home, dir): (&Path, &Path),
        index: &Index,
        findings: &mut Vec<String>,
        notes: &mut Vec<String>,
    ) -> Result<(), String> {
        let count = archived::of(index).count();
        if count == 0 {
            return Ok(());
        }
        let root = archived::root(self.site, partition);
        if !self.args.from_archive {
            let place = root.map_or_else(String::new, |root| format!(", {}", root.display()));
            return Err(format!(
                "{count} messages are in an archive partition (archivepartition-{partition}{place}): \
                 --from-archive copies them into the mailbox's own directory"
            ));
        }
        let archive = root.map(|root| root.join(dir));
        let dry_run = self.args.dry_run;
        let brought = archived::bring(index, home, archive.as_deref(), dry_run, findings)?;
        if brought.messages > 0 {
            let Brought { messages, octets } = brought;
            let verb = if dry_run { "to be copied" } else { "copied" };
            let line =
                format!("{messages} messages ({octets} octets) {verb} from the archive partition");
            notes.push(format!("{}: {line}", entry.name));
        }
        Ok(())
    }

    /// Header and index of a damaged mailbox as its message files would have them.
    fn begun_anew(&self, entry: &Entry, home: &Path) -> Result<(Header, Index), String> {
        let mut index = Index::default();
        index.header.uid_validity = u32::try_from(self.now).unwrap_or(u32::MAX);
        index.header.minor = 17;
        for file in fs::read_dir(home).map_err(|e| format!("{}: {e}", home.display()))? {
            let file = file.map_err(|e| format!("{}: {e}", home.display()))?;
            let name = file.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix('.'));
            let Some(uid) = digits.and_then(|digits| digits.parse().ok()) else { continue };
            let meta = file.metadata().map_err(|e| format!("{}: {e}", file.path().display()))?;
            let internal_date = meta.mtime();
            let modseq = 1;
            let size = meta.size();
            index.records.push(Record { uid, internal_date, size, modseq, ..Record::default() });
        }
        index.records.sort_by_key(|record| record.uid);
        index.header.last_uid = index.records.last().map_or(0, |record| record.uid);
        index.header.modseq_highest = 1;
        let unique_id = entry.unique_id.clone().unwrap_or_default();
        Ok((Header { unique_id, ..Header::default() }, index))
    }

    /// `\Seen` of users who are not the owner.
    fn others_seen(
        &self,
        entry: &Entry,
        owner: &str,
        states: &[(String, Seen)],
        shared: Option<&[MessageToAdopt]>,
    ) -> Vec<(String, Vec<(u32, u32)>)> {
        let Some(messages) = shared else {
            let others = states.iter().filter(|(user, _)| user != owner);
            return others.map(|(user, seen)| (user.clone(), seen.uids.clone())).collect();
        };
        let read = messages.iter().filter(|message| message.flags.contains(SystemFlags::SEEN));
        let ranges: Vec<_> = read.map(|message| (message.uid, message.uid)).collect();
        let users = entry.acl.iter().filter(|(who, rights)| {
            rights.contains('r')
                && !who.starts_with('-')
                && !who.starts_with("group:")
                && who != "anyone"
                && who != "anonymous"
                && who != owner
        });
        users.map(|(user, _)| (user.clone(), ranges.clone())).collect()
    }

    /// Annotations of a mailbox, and among them its special uses.
    fn annotate(&self, entry: &Entry, owner: &str, mailbox: &mut MailboxToAdopt) {
        let by_name = self.site.annotations_of(&entry.name.to_internal());
        let by_id = self.site.annotations_of(&mailbox.unique_id);
        for annotation in by_id.chain(by_name) {
            if annotation.is_deleted() {
                continue;
            }
            if annotation.entry == "/specialuse" {
                let uses = String::from_utf8_lossy(&annotation.value).into_owned();
                mailbox.special_use.extend(special_uses(&uses));
            }
            if NOT_KEPT.contains(&annotation.entry.as_str()) {
                continue;
            }
            let (whose, scope) = whose(&annotation.user, owner);
            if let Some(name) = engine::entry_name(&format!("{scope}{}", annotation.entry)) {
                mailbox.metadata.push((whose, name, annotation.value.clone()));
            }
        }
        mailbox.special_use.dedup();
    }
}

/// Whose an annotation is, and how its entry begins here.
pub(super) fn whose(user: &str, owner: &str) -> (String, &'static str) {
    match user {
        "" => (String::new(), "/shared"),
        OWNER => (owner.to_owned(), "/private"),
        other => (other.to_owned(), "/private"),
    }
}

fn special_uses(text: &str) -> Vec<SpecialUse> {
    text.split_ascii_whitespace().filter_map(SpecialUse::parse).collect()
}

/// Annotations of messages.
fn of_messages(path: &Path, owner: &str, mailbox: &mut MailboxToAdopt, findings: &mut Vec<String>) {
    let read = || -> Result<Vec<Annotation>, String> {
        let bytes = read_if_any(path).map_err(|e| e.to_string())?.unwrap_or_default();
        let named = |e: foreign::cyrus::Damage| format!("{}: {e}", path.display());
        let pairs = db::read(&bytes).map_err(named)?;
        pairs.iter().map(|pair| Annotation::read(pair).map_err(named)).collect()
    };
    let annotations = match read() {
        Ok(annotations) => annotations,
        Err(damage) => return findings.push(format!("annotations are lost: {damage}")),
    };
    for annotation in annotations {
        let uid = annotation.of.parse().unwrap_or(0);
        let served = mailbox.messages.binary_search_by_key(&uid, |message| message.uid).is_ok();
        if served && is_kept(&annotation) {
            let (whose, _) = whose(&annotation.user, owner);
            mailbox.annotations.push((uid, whose, annotation.entry, annotation.value));
        }
    }
}

/// Whether an annotation of a message is one here. Cyrus keeps the thread's id and the like under names
/// of its own.
pub(super) fn is_kept(annotation: &Annotation) -> bool {
    let entry = &annotation.entry;
    !annotation.is_deleted() && entry.starts_with('/') && !entry.starts_with("/vendor/cmu/")
}

fn read_both(header_path: &Path, index_path: &Path) -> Result<(Header, Index), String> {
    let bytes = |path: &PathBuf| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let (header_path, index_path) = (header_path.to_owned(), index_path.to_owned());
    let (header_bytes, index_bytes) = (bytes(&header_path)?, bytes(&index_path)?);
    let named = |path: &Path, e| format!("{}: {e}", path.display());
    let index = Index::read(&index_bytes).map_err(|e| named(&index_path, e))?;
    let header = Header::read(&header_bytes).map_err(|e| named(&header_path, e))?;
    if index.header.minor >= 12 && index.header.header_file_crc != crc32fast::hash(&header_bytes) {
        let what = "its checksum is not the one that the index has of it";
        return Err(format!("{}: {what}", header_path.display()));
    }
    Ok((header, index))
}

/// Names of the keyword bits here, and the number that each has in Cyrus: as they are where there
/// is room for all, else those in use.
fn keywords(header: &Header, index: &Index) -> Result<(Vec<String>, Vec<usize>), String> {
    let used = index.live().fold(0, |all, record| all | record.user_flags);
    let numbered = header.keywords.iter().enumerate().filter(|(_, name)| !name.is_empty());
    let mut kept: Vec<(usize, &String)> = numbered.collect();
    if kept.len() > KEYWORDS_MAX {
        kept.retain(|(number, _)| used >> (number & 127) & 1 != 0);
    }
    if kept.len() > KEYWORDS_MAX {
        return Err(format!("{} keywords are in use, {KEYWORDS_MAX} can be", kept.len()));
    }
    Ok((
        kept.iter().map(|(_, name)| (*name).clone()).collect(),
        kept.iter().map(|(n, _)| *n).collect(),
    ))
}

/// System flags of a record; `own` is what its owner has read, which old versions do not know.
pub(super) fn system_flags(record: &Record, minor: u32, own: Option<&Seen>) -> SystemFlags {
    let seen = match minor {
        12.. => record.system_flags & flag::SEEN != 0,
        _ => own.is_some_and(|seen| seen.contains(record.uid)),
    };
    let has = |bit| record.system_flags & bit != 0;
    let flags = [
        (has(flag::ANSWERED), SystemFlags::ANSWERED),
        (has(flag::FLAGGED), SystemFlags::FLAGGED),
        (has(flag::DELETED), SystemFlags::DELETED),
        (has(flag::DRAFT), SystemFlags::DRAFT),
        (seen, SystemFlags::SEEN),
    ];
    let set = flags.into_iter().filter(|(has, _)| *has);
    set.fold(SystemFlags::empty(), |all, (_, flag)| all.union(flag))
}

/// A list as the engine has it; `None` for one that gives the owner everything and others nothing.
fn acl(
    acl: &Acl,
    owner: &str,
    name: &Name,
    findings: &mut Vec<String>,
) -> Option<BTreeMap<String, String>> {
    if let [(who, rights)] = acl.as_slice()
        && who == owner
        && ALL_RIGHTS.chars().all(|letter| rights.contains(letter))
    {
        return None;
    }
    let mut texts = BTreeMap::new();
    for (who, rights) in acl {
        let rights = without_old(rights);
        let known: String = rights.chars().filter(|letter| ALL_RIGHTS.contains(*letter)).collect();
        if known.len() < rights.len() {
            let line = "rights that are not known here are left out";
            findings.push(format!("{name}: {who} {rights}: {line}"));
        }
        match engine::acl_entry(who) {
            Some(who) => drop(texts.insert(who, known)),
            None => findings.push(format!("{name}: {who:?} is no identifier here: left out")),
        }
    }
    Some(texts)
}

/// Our partitions by Cyrus's names for those that it has mailboxes on: they have the same roots.
///
/// # Errors
/// What the configuration lacks.
pub fn partitions(site: &Site, config: &Config) -> Result<BTreeMap<String, String>, Failed> {
    let same = |a: &Path, b: &Path| match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    let mut partitions = BTreeMap::new();
    let mut missing = Vec::new();
    let served = site.mailboxes.iter().filter(|entry| entry.is_served());
    let used: BTreeSet<String> = served.filter_map(|entry| entry.partition.clone()).collect();
    for name in used {
        let root = site.root(&name, "")?;
        let ours = config.partition.iter().find(|p| same(&p.path, &root));
        match ours {
            Some(ours) if ours.layout == LayoutKind::Cyrus => {
                partitions.insert(name, ours.name.clone());
            }
            Some(ours) => {
                missing.push(format!("layout = \"cyrus\" in the partition {:?}", ours.name))
            }
            None => missing.push(format!(
                "[[partition]] name = {name:?}, path = {:?}, layout = \"cyrus\"",
                root.display().to_string()
            )),
        }
    }
    if !missing.is_empty() {
        let message = format!("the configuration lacks: {}", missing.join("; "));
        return Err(Failed::new(Kind::Config, message));
    }
    Ok(partitions)
}

/// Rights without the letters of RFC 2086 where those that took their place are there, too: Cyrus
/// writes both.
pub fn without_old(rights: &str) -> String {
    let replaced = |letter: char| match letter {
        'c' => rights.contains(['k', 'x']),
        'd' => rights.contains(['t', 'e']),
        _ => false,
    };
    rights.chars().filter(|letter| !replaced(*letter)).collect()
}

fn limits(quota: &Quota) -> Option<QuotaLimits> {
    let limits = QuotaLimits {
        bytes: quota.storage.limit,
        messages: quota.messages.limit,
        mailboxes: quota.mailboxes.limit,
        annotation_bytes: quota.annotations.limit,
    };
    Some(limits)
}
