//! Courier's shared index: its names, and partitions for Maildirs that are nobody's of ours.
//!
//! An index is the file that `sharing.courier_index` names; users of the group `x` (Courier's account
//! option `sharedgroup`) have that with `x` at the end of its name. A Maildir that lies where one of
//! the configured partitions has a user's is that user's. Every other one that exists is that of a
//! user of [`engine::COMMON_DOMAIN`], on a partition of its own: the directory that the Maildir lies
//! in. Nothing is made where an index says that something is.
//!
//! Mistakes are lines of the log: as with Courier, a name that is wrong is a name that is not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth::UserName;
use config::{Config, LayoutKind};
use engine::layout::maildir::{Maildir, Names};
use engine::{MountOptions, Partition, SharedAccount, SharedIndex, SharedNames, common_user};
use foreign::courier::shared::{Indexed, read_index};

use crate::store::maildir_of;

/// Indexes within indexes at most.
const DEPTH_MAX: usize = 4;

/// Reads the indexes, if any are configured, and adds the partitions that their Maildirs need.
pub(crate) fn read(config: &Config, partitions: &mut Vec<Partition>) -> SharedIndex {
    let Some(file) = &config.sharing.courier_index else { return SharedIndex::default() };
    let mut reading = Reading { config, elsewhere: BTreeMap::new() };
    let mut groups = BTreeMap::new();
    for (group, path) in files(file) {
        let mut names = SharedNames::default();
        reading.index(&path, "", 0, &mut names);
        groups.insert(group, names);
    }
    let courier = config.partition.iter().find(|p| p.layout == LayoutKind::Maildir);
    let names = courier.map_or(Names::default(), |p| maildir_of(p).names);
    for (parent, homes) in reading.elsewhere {
        partitions.push(Partition {
            name: partition_name(&parent),
            path: parent,
            layout: Arc::new(Maildir { names, homes, ..Maildir::default() }),
            mount: MountOptions::default(),
        });
    }
    SharedIndex::new(groups)
}

/// The index of everybody, and those of groups beside it.
fn files(base: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::from([(String::new(), base.to_owned())]);
    let name = base.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let entries = base.parent().and_then(|dir| dir.read_dir().ok());
    for entry in entries.into_iter().flatten().flatten() {
        if let Some(file) = entry.file_name().to_str()
            && let Some(group) = file.strip_prefix(name)
            && group.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !group.ends_with(['~', '#'])
        {
            found.insert(group.to_owned(), entry.path());
        }
    }
    found
}

fn partition_name(parent: &Path) -> String {
    format!("shared:{}", parent.display())
}

struct Reading<'c> {
    config: &'c Config,
    /// By the directory that they lie in: Maildirs by the users that stand for them.
    elsewhere: BTreeMap<PathBuf, BTreeMap<String, String>>,
}

impl Reading<'_> {
    fn index(&mut self, path: &Path, above: &str, depth: usize, names: &mut SharedNames) {
        let read = std::fs::read(path).map_err(|error| error.to_string());
        let read = read.and_then(|bytes| read_index(&bytes).map_err(|error| error.to_string()));
        let entries = match read {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(file = %path.display(), error, "a shared index cannot be read");
                return;
            }
        };
        for entry in entries {
            match entry {
                Indexed::Account { name, home, maildir, .. } => {
                    let name = format!("{above}{}", level(&name));
                    let maildir: PathBuf = Path::new(&home).join(maildir).components().collect();
                    let Some(account) = self.account(&name, &maildir) else { continue };
                    if !names.add(&name, account) {
                        tracing::warn!(
                            file = %path.display(),
                            name,
                            "a name in a shared index that is there already, or none: left out"
                        );
                    }
                }
                Indexed::Below { name, file } if depth < DEPTH_MAX => {
                    let inner = path.with_file_name(file);
                    self.index(&inner, &format!("{above}{}/", level(&name)), depth + 1, names);
                }
                Indexed::Below { name, .. } => tracing::error!(
                    file = %path.display(),
                    name,
                    "shared indexes lie in each other more than {DEPTH_MAX} deep: left out"
                ),
            }
        }
    }

    /// Whose a Maildir is.
    fn account(&mut self, name: &str, maildir: &Path) -> Option<SharedAccount> {
        let maildirs = self.config.partition.iter().filter(|p| p.layout == LayoutKind::Maildir);
        for partition in maildirs {
            let user = maildir_of(partition).user_of(&partition.path, maildir);
            let user = user.filter(|user| is_canonical(user));
            if let Some(owner) = user {
                let (partition, maildir) = (partition.name.clone(), maildir.to_owned());
                return Some(SharedAccount { owner, partition, maildir });
            }
        }
        let owner = common_user(name);
        let (parent, last) = (maildir.parent()?, maildir.file_name()?.to_str()?);
        let refused = |reason: &str| {
            let path = maildir.display();
            tracing::warn!(name, %path, "a shared index names a Maildir that is not served: {reason}");
            None
        };
        if !maildir.is_absolute() || parent.parent().is_none() {
            return refused("expected a Maildir in a directory other than /");
        }
        if !is_canonical(&owner) {
            return refused("its name can be no user's");
        }
        if self.config.partition.iter().any(|p| p.path == parent && p.layout == LayoutKind::Cyrus) {
            return refused("it lies in a partition of Cyrus's layout");
        }
        match maildir.join("cur").metadata() {
            Ok(found) if found.is_dir() => {}
            _ => return refused("there is no Maildir, or it may not be read"),
        }
        let homes = self.elsewhere.entry(parent.to_owned()).or_default();
        // Of two names of one Maildir, the first one's user stands for it.
        if let Some((owner, _)) = homes.iter().find(|(_, home)| *home == last) {
            let (owner, partition) = (owner.clone(), partition_name(parent));
            return Some(SharedAccount { owner, partition, maildir: maildir.to_owned() });
        }
        if homes.contains_key(&owner) {
            return refused("another one has the same name but for its signs");
        }
        homes.insert(owner.clone(), last.to_owned());
        let partition = partition_name(parent);
        Some(SharedAccount { owner, partition, maildir: maildir.to_owned() })
    }
}

/// A level of a name, as Courier tells it.
fn level(name: &str) -> String {
    name.replace('.', " ")
}

fn is_canonical(user: &str) -> bool {
    UserName::new(user).is_ok_and(|name| name.as_str() == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maildir(path: &Path) {
        std::fs::create_dir_all(path.join("cur")).unwrap();
    }

    #[test]
    fn names_are_of_accounts_or_of_maildirs_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mut config = Config::embedded(root);
        config.partition[0].path = root.join("home");
        config.partition[0].user_path = "{user}/Maildir".into();
        maildir(&root.join("home/jo/Maildir"));
        maildir(&root.join("lists/a"));
        maildir(&root.join("lists/b"));
        let r = root.display();
        let texts = [
            (
                "index",
                format!(
                    "# all\njo\t8\t8\t{r}/home/jo\nboss\t8\t8\t{r}/home/mo\t./Maildir\n\
                 a.b@c\t8\t8\t{r}/lists\ta\nnone\t8\t8\t{r}/lists\tnowhere\nst\t*\tindex-st\n"
                ),
            ),
            ("index-st", format!("b\t8\t8\t{r}/lists\t./b\nagain\t8\t8\t{r}/lists\ta\n")),
            ("indexx", format!("jo\t8\t8\t{r}/home/jo\n")),
            ("indexbad", "jo\t0\n".to_owned()),
        ];
        for (name, text) in texts {
            std::fs::write(root.join(name), text).unwrap();
        }
        config.sharing.courier_index = Some(root.join("index"));
        let mut partitions = Vec::new();
        let index = read(&config, &mut partitions);
        let names = index.of_group("").unwrap();
        let owner = |name: &str| names.find(name).map(|(account, _)| account.owner.as_str());
        assert_eq!(owner("jo"), Some("jo"));
        assert_eq!(owner("boss"), Some("mo"));
        assert_eq!(owner("a b@c"), Some("a_b_c@shared.invalid"));
        assert_eq!(owner("st/b"), Some("st.b@shared.invalid"));
        assert_eq!(owner("st/again"), Some("a_b_c@shared.invalid"));
        assert_eq!(owner("none"), None);
        assert_eq!(index.of_group("x").unwrap().accounts().count(), 1);
        assert_eq!(index.of_group("bad").unwrap().accounts().count(), 0);
        let [partition] = &partitions[..] else { panic!("{} partitions", partitions.len()) };
        let of = |user: &str| partition.layout.mailbox_dir(&partition.path, user, "INBOX");
        assert_eq!(of("st.b@shared.invalid").unwrap(), root.join("lists/b"));
        assert!(of("jo").is_err());
        assert!(!root.join("lists/nowhere").exists());
    }
}
