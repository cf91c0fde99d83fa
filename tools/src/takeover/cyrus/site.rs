//! Cyrus's files as a whole: what imapd.conf names, read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use foreign::cyrus::annotations::Annotation;
use foreign::cyrus::db::{self, Pair};
use foreign::cyrus::imapd_conf::ImapdConf;
use foreign::cyrus::mboxlist::{self, Entry};
use foreign::cyrus::name::{Name, Owner};
use foreign::cyrus::paths::{self, Spread};
use foreign::cyrus::quota::Quota;
use foreign::cyrus::seen::Seen;
use foreign::cyrus::subscriptions;

use super::locks::{self, Held};
use crate::failure::{Failed, Kind};

/// A stopped Cyrus server's files.
pub struct Site {
    /// Its options.
    pub conf: ImapdConf,
    /// `configdirectory`
    pub config_dir: PathBuf,
    /// How directories are spread.
    pub spread: Spread,
    /// `deletedprefix`
    pub deleted_prefix: String,
    /// [`Site::is_by_id`]
    by_id: bool,
    /// `metapartition_files`
    meta_files: BTreeSet<String>,
    /// Records of `mailboxes.db`, as they are.
    pub list: Vec<Pair>,
    /// The mailboxes in it.
    pub mailboxes: Vec<Entry>,
    /// Quota roots, by name.
    pub quotas: BTreeMap<Name, Quota>,
    /// Annotations of mailboxes and of the server.
    pub annotations: Vec<Annotation>,
    /// Places of annotations by what they are of.
    annotations_by: BTreeMap<String, Vec<usize>>,
    /// Unique ids of INBOXes that have one, and whether their directories have names; by user.
    inboxes: BTreeMap<String, (String, bool)>,
    /// What is wrong with files that the rest can do without.
    pub findings: Vec<String>,
}

fn bad(path: &Path, error: impl std::fmt::Display) -> Failed {
    Failed::new(Kind::Data, format!("{}: {error}", path.display()))
}

/// The bytes of a file; `None` where there is none.
pub fn read_if_any(path: &Path) -> Result<Option<Vec<u8>>, Failed> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(bad(path, e)),
    }
}

impl Site {
    /// Options, `configdirectory` and the path of the list of mailboxes.
    pub fn whereabouts(imapd_conf: &Path) -> Result<(ImapdConf, PathBuf, PathBuf), Failed> {
        let text = fs::read_to_string(imapd_conf).map_err(|e| bad(imapd_conf, e))?;
        let mut load = |name: &str| fs::read_to_string(name);
        let conf = ImapdConf::read(&text, &mut load).map_err(|e| bad(imapd_conf, e))?;
        let config_dir = conf.config_directory().map_err(|e| bad(imapd_conf, e))?;
        let list = conf.database("mboxlist_db_path", "mailboxes.db");
        let list = list.map_err(|e| bad(imapd_conf, e))?;
        Ok((conf, config_dir, list))
    }

    /// Reads what is the server's, not a user's.
    pub fn read(imapd_conf: &Path) -> Result<Site, Failed> {
        let (_, _, list_path) = Site::whereabouts(imapd_conf)?;
        let bytes = fs::read(&list_path).map_err(|e| bad(&list_path, e))?;
        Site::of_list(imapd_conf, &bytes)
    }

    /// The same, where Cyrus may never have run.
    pub fn read_if_any(imapd_conf: &Path) -> Result<Site, Failed> {
        let (_, _, list_path) = Site::whereabouts(imapd_conf)?;
        Site::of_list(imapd_conf, &read_if_any(&list_path)?.unwrap_or_default())
    }

    fn of_list(imapd_conf: &Path, bytes: &[u8]) -> Result<Site, Failed> {
        let (conf, config_dir, list_path) = Site::whereabouts(imapd_conf)?;
        let spread = conf.spread().map_err(|e| bad(imapd_conf, e))?;
        let words = conf.get("metapartition_files").unwrap_or_default();
        let meta_files = words.split_ascii_whitespace().map(str::to_owned).collect();
        let list = db::read(bytes).map_err(|e| bad(&list_path, e))?;
        let mailboxes = mboxlist::read(&list).map_err(|e| bad(&list_path, e))?;
        let annotations_path = conf.database("annotation_db_path", "annotations.db");
        let annotations_path = annotations_path.map_err(|e| bad(imapd_conf, e))?;
        let bytes = read_if_any(&annotations_path)?.unwrap_or_default();
        let pairs = db::read(&bytes).map_err(|e| bad(&annotations_path, e))?;
        let read: Result<_, _> = pairs.iter().map(Annotation::read).collect();
        let annotations = read.map_err(|e| bad(&annotations_path, e))?;
        let deleted_prefix = conf.get("deletedprefix").unwrap_or("DELETED").to_owned();
        let mut site = Site {
            conf,
            config_dir,
            spread,
            deleted_prefix,
            by_id: mboxlist::is_newer(&list),
            meta_files,
            list,
            mailboxes,
            quotas: BTreeMap::new(),
            annotations,
            annotations_by: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            findings: Vec::new(),
        };
        for (place, annotation) in site.annotations.iter().enumerate() {
            site.annotations_by.entry(annotation.of.clone()).or_default().push(place);
        }
        for entry in site.mailboxes.iter().filter(|entry| entry.is_served()) {
            if let Owner::User(user, below) = entry.name.owner(&site.deleted_prefix)
                && below.is_empty()
                && let Some(id) = &entry.unique_id
            {
                site.inboxes.insert(user, (id.clone(), entry.kind.contains('l')));
            }
        }
        site.read_quotas()?;
        Ok(site)
    }

    fn read_quotas(&mut self) -> Result<(), Failed> {
        let mut found: Vec<(Name, PathBuf, Vec<u8>)> = Vec::new();
        let mut dirs = vec![(None, self.config_dir.join("quota"))];
        for (domain, dir) in self.domains()? {
            dirs.push((Some(domain), dir.join("quota")));
        }
        for (domain, dir) in dirs {
            for path in files_two_down(&dir)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if name.ends_with(".NEW") {
                    continue;
                }
                let name = Name::from_internal(name).map_err(|e| bad(&path, e))?;
                let bytes = fs::read(&path).map_err(|e| bad(&path, e))?;
                found.push((Name { domain: domain.clone(), ..name }, path, bytes));
            }
        }
        let path = self.database("quota_db_path", "quotas.db");
        if let Some(bytes) = read_if_any(&path)? {
            for (key, value) in db::read(&bytes).map_err(|e| bad(&path, e))? {
                let key = String::from_utf8_lossy(&key).into_owned();
                let name = Name::from_internal(&key).map_err(|e| bad(&path, e))?;
                found.push((name, path.clone(), value));
            }
        }
        for (name, path, bytes) in found {
            match Quota::read(&bytes) {
                Ok(quota) => drop(self.quotas.insert(name, quota)),
                Err(damage) => self.findings.push(format!("{}: {damage}", path.display())),
            }
        }
        Ok(())
    }

    /// Virtual domains with their directories below `configdirectory`.
    fn domains(&self) -> Result<Vec<(String, PathBuf)>, Failed> {
        let dirs = directories_two_down(&self.config_dir.join("domain"))?;
        let named = |dir: PathBuf| Some((dir.file_name()?.to_str()?.to_owned(), dir));
        Ok(dirs.into_iter().filter_map(named).collect())
    }

    /// The path of a database, where an option names it; else below `configdirectory`.
    pub fn database(&self, option: &str, name: &str) -> PathBuf {
        let path = self.conf.get(option).map(PathBuf::from);
        path.unwrap_or_else(|| self.config_dir.join(name))
    }

    /// The root that a file of a partition's mailboxes lies below: `what` as `metapartition_files`
    /// calls it.
    pub fn root(&self, partition: &str, what: &str) -> Result<PathBuf, Failed> {
        let meta = self.conf.get(&format!("metapartition-{partition}"));
        let plain = self.conf.get(&format!("partition-{partition}"));
        let chosen = meta.filter(|_| self.meta_files.contains(what)).or(plain);
        let message = || format!("imapd.conf has no partition-{partition}");
        chosen.map(PathBuf::from).ok_or_else(|| Failed::new(Kind::Config, message()))
    }

    /// A mailbox's directory below its partition's root; `None` without a usable id.
    pub fn directory(&self, entry: &Entry) -> Option<PathBuf> {
        if self.is_by_id() && !entry.kind.contains('l') {
            return paths::by_id(entry.unique_id.as_deref()?);
        }
        Some(self.spread.by_name(&entry.name))
    }

    /// Whether a mailbox was ours: one that was left alone has its own directory as it was.
    pub fn was_taken(&self, entry: &Entry) -> bool {
        let Some(partition) = &entry.partition else { return false };
        let Ok(root) = self.root(partition, "") else { return false };
        let Some(dir) = self.directory(entry) else { return false };
        let dir = root.join(dir);
        // Ours to serve, or ours and deleted since.
        dir.join("cursus.index").exists() || !dir.join("cyrus.header").exists()
    }

    /// Locks a mailbox that Cyrus may have open: its name, where 3.6 locks that, and its index.
    ///
    /// # Errors
    /// Which file is locked, and by whom.
    pub fn lock_mailbox(&self, unique_id: &str, index: PathBuf) -> Result<Held, String> {
        let dir = self.conf.get("mboxname_lockpath").map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| self.config_dir.join("lock"));
        let by_id = paths::by_id(unique_id).map(|path| {
            let mut name = dir.join(path).into_os_string();
            name.push(".lock");
            PathBuf::from(name)
        });
        let both: Vec<_> = by_id.into_iter().chain([index]).collect();
        locks::lock(&both)
    }

    /// Whether directories have the names of ids: the list has the form of 3.6. There `l` tells
    /// those that have not.
    pub fn is_by_id(&self) -> bool {
        self.by_id
    }

    /// Annotations of a mailbox, by its unique id or, before 3.6, its name.
    pub fn annotations_of<'s>(
        &'s self,
        of: &str,
    ) -> impl Iterator<Item = &'s Annotation> + use<'s> {
        let places = self.annotations_by.get(of).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.annotations.get(*place))
    }

    /// A user's file: by the id of the INBOX where that is there, else by name.
    pub fn user_file(&self, user: &str, suffix: &str) -> PathBuf {
        let by_name = self.config_dir.join(self.spread.user_file(user, suffix));
        let inbox = self.inboxes.get(user);
        let by_id = inbox.and_then(|(id, _)| paths::user_file_by_id(id, suffix));
        let is_legacy = inbox.is_some_and(|(_, is_legacy)| *is_legacy);
        match by_id.map(|path| self.config_dir.join(path)) {
            Some(path) if path.exists() => path,
            Some(path) if self.by_id && !is_legacy => match by_name.exists() {
                true => by_name,
                false => path,
            },
            _ => by_name,
        }
    }

    /// What a user has subscribed to.
    pub fn subscriptions(&self, user: &str) -> Result<Vec<Name>, Failed> {
        let path = self.user_file(user, "sub");
        let bytes = read_if_any(&path)?.unwrap_or_default();
        let pairs = db::read(&bytes).map_err(|e| bad(&path, e))?;
        subscriptions::read(&pairs, user).map_err(|e| bad(&path, e))
    }

    /// Everybody's seen state, by the unique id of the mailbox. Users who have no mailbox of their
    /// own may have some, too.
    pub fn seen(&mut self) -> Result<BTreeMap<String, Vec<(String, Seen)>>, Failed> {
        let mut users: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut dirs = vec![(None, self.config_dir.join("user"))];
        for (domain, dir) in self.domains()? {
            dirs.push((Some(domain), dir.join("user")));
        }
        for (domain, dir) in dirs {
            for path in files_two_down(&dir)? {
                let name = path.file_name().and_then(|name| name.to_str());
                let Some(user) = name.and_then(|name| name.strip_suffix(".seen")) else { continue };
                let user = user.replace('^', ".");
                let user = match &domain {
                    Some(domain) => format!("{user}@{domain}"),
                    None => user,
                };
                users.insert(user, path);
            }
        }
        for entry in self.mailboxes.iter().filter(|entry| entry.is_served()) {
            if let Owner::User(user, below) = entry.name.owner(&self.deleted_prefix)
                && below.is_empty()
            {
                let path = self.user_file(&user, "seen");
                users.insert(user, path);
            }
        }
        let mut seen: BTreeMap<String, Vec<(String, Seen)>> = BTreeMap::new();
        for (user, path) in users {
            let Some(bytes) = read_if_any(&path)? else { continue };
            for (key, value) in db::read(&bytes).map_err(|e| bad(&path, e))? {
                let id = String::from_utf8_lossy(&key).into_owned();
                match Seen::read(&value) {
                    Ok(one) => seen.entry(id).or_default().push((user.clone(), one)),
                    Err(damage) => {
                        self.findings.push(format!("{}, {id}: {damage}", path.display()));
                    }
                }
            }
        }
        Ok(seen)
    }

    /// Roots of quotas that a mailbox could have: its own name, if it is one.
    pub fn quota_of(&self, name: &Name) -> Option<&Quota> {
        self.quotas.get(name)
    }
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, Failed> {
    match fs::read_dir(dir) {
        Ok(found) => found.collect::<Result<_, _>>().map_err(|e| bad(dir, e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(bad(dir, e)),
    }
}

/// Paths below the directories of a directory, in order: directories with `wanted`, else files.
fn two_down(dir: &Path, wanted: bool) -> Result<Vec<PathBuf>, Failed> {
    let mut found = Vec::new();
    for letter in entries(dir)? {
        let letter = letter.path();
        if !letter.is_dir() {
            continue;
        }
        for entry in entries(&letter)? {
            if entry.path().is_dir() == wanted {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn files_two_down(dir: &Path) -> Result<Vec<PathBuf>, Failed> {
    two_down(dir, false)
}

fn directories_two_down(dir: &Path) -> Result<Vec<PathBuf>, Failed> {
    two_down(dir, true)
}
