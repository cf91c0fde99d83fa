//! Mailboxes as Cyrus would see them: of ours, what its files would say after a hand-back; of those that
//! were left alone, what they say.

use std::path::{Path, PathBuf};

use config::Config;
use engine::MailboxToAdopt;
use foreign::cyrus::header::Header;
use foreign::cyrus::index::{Index, MINOR_WRITTEN};
use foreign::cyrus::mboxlist::Acl;
use foreign::cyrus::name::{Name, Owner};

use super::dump;
use super::given::Places;
use super::mailbox::Target;
use super::site::{Site, read_if_any};
use super::source::Source;
use super::{now, plan};
use crate::failure::{Failed, Kind};
use crate::place::Place;

/// A mailbox.
pub struct Look {
    /// Directory of its messages.
    pub data: PathBuf,
    /// Who may do what.
    pub acl: Acl,
    /// By which it is known.
    pub unique_id: String,
    /// Names by number; an empty one is not used.
    pub keywords: Vec<String>,
    /// `cyrus.index`
    pub index: Index,
    /// `cyrus.cache`
    pub cache: Vec<u8>,
}

/// Looks at all mailboxes with a wanted name, in the list's order, users' first and deleted ones last; `sink` gets each, or why it cannot be
/// seen.
pub fn each(
    imapd_conf: &Path,
    config: &Config,
    place: &mut Place,
    wanted: &dyn Fn(&Name) -> bool,
    sink: &mut dyn FnMut(&Name, Result<Look, String>),
) -> Result<(), Failed> {
    let listed = dump::list(imapd_conf, config, place, false)?;
    let site = Site::read_if_any(imapd_conf)?;
    let mut partitions = plan::partitions(&site, config)?;
    dump::add_ours(&mut partitions, config);
    let places = Places::new(&site, config, &partitions);
    let class = |one: &dump::Listed| match one.entry.name.owner(&site.deleted_prefix) {
        Owner::User(..) => 0,
        Owner::Shared => 1,
        Owner::Deleted => 2,
    };
    let mut listed: Vec<_> = listed.into_values().collect();
    listed.sort_by_key(class);
    for one in listed {
        let entry = &one.entry;
        let (false, Some(data)) = (entry.kind.contains('d') || !wanted(&entry.name), &one.data)
        else {
            continue;
        };
        let found = match &one.ours {
            None => left_alone(&site, &one),
            Some((user, name)) => match place.mailbox(user, name)? {
                // It went meanwhile.
                None => continue,
                Some(mailbox) => ours(&site, &places, user, &mailbox),
            },
        };
        let look = found.map(|(keywords, index, cache)| Look {
            data: data.clone(),
            acl: entry.acl.clone(),
            unique_id: entry.unique_id.clone().unwrap_or_default(),
            keywords,
            index,
            cache,
        });
        sink(&entry.name, look);
    }
    Ok(())
}

type Files = (Vec<String>, Index, Vec<u8>);

fn ours(
    site: &Site,
    places: &Places<'_>,
    user: &str,
    mailbox: &MailboxToAdopt,
) -> Result<Files, String> {
    let given = places.place(user, mailbox.clone(), now()).map_err(|e| e.to_string())?;
    let given = given.ok_or_else(|| "it has no place in Cyrus".to_owned())?;
    let target = Target {
        mailbox,
        name: &given.name,
        kind: &given.entry.kind,
        owner: &given.owner,
        acl: &given.entry.acl,
        quota_root: None,
        annotation_bytes: given.annotation_bytes(),
        dir: &given.dir,
        partition: given.partition(),
        now: now(),
    };
    let (keywords, mut index, cache) = target.seen(site)?;
    index.header.minor = MINOR_WRITTEN;
    Ok((keywords, index, cache))
}

fn left_alone(site: &Site, one: &dump::Listed) -> Result<Files, String> {
    let partition = one.entry.partition.as_deref().unwrap_or_default();
    let dir = site.directory(&one.entry).ok_or_else(|| "it has no directory".to_owned())?;
    let read = |what: &str| -> Result<Vec<u8>, Failed> {
        let path = site.root(partition, what)?.join(&dir).join(format!("cyrus.{what}"));
        let missing = || Failed::new(Kind::Data, format!("{}: it is missing", path.display()));
        read_if_any(&path)?.ok_or_else(missing)
    };
    let header = read("header").map_err(|e| e.to_string())?;
    let header = Header::read(&header).map_err(|e| e.to_string())?;
    let index = read("index").map_err(|e| e.to_string())?;
    let index = Index::read(&index).map_err(|e| e.to_string())?;
    Ok((header.keywords, index, read("cache").unwrap_or_default()))
}
