//! The list of mailboxes in the text form of Cyrus 3.6's `ctl_mboxlist -d`, as its `mailboxes.db` would have
//! it after a hand-back: what its own says of mailboxes that are not served here stays.
//!
//! A JSON object, a mailbox a line; its printer's order and blanks, so that scripts and diffs see nothing
//! new. Numbers are strings in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use admin::{Reply, Request};
use config::Config;
use foreign::cyrus::mboxlist::Entry;
use foreign::cyrus::name::Owner;

use super::given::Places;
use super::site::Site;
use super::source::Source;
use super::{now, plan};
use crate::failure::Failed;
use crate::place::Place;
use crate::store::unexpected;

/// Whether Cyrus left a list of mailboxes.
pub fn has_list(imapd_conf: &Path) -> Result<bool, Failed> {
    if !imapd_conf.exists() {
        return Ok(false);
    }
    let (_, _, list) = Site::whereabouts(imapd_conf)?;
    Ok(list.exists())
}

/// All mailboxes, or those of one partition; names that only have others below them are in it where
/// `with_parents`.
pub fn mailboxes(
    imapd_conf: &Path,
    config: &Config,
    place: &mut Place,
    (partition, with_parents): (Option<&str>, bool),
) -> Result<String, Failed> {
    let listed = list(imapd_conf, config, place, with_parents)?;
    let entries = listed.values().map(|listed| &listed.entry);
    let of_partition =
        |entry: &&Entry| partition.is_none_or(|p| entry.partition.as_deref() == Some(p));
    let lines: Vec<String> = entries.filter(of_partition).map(line).collect();
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// A mailbox of the list, and where it is.
pub struct Listed {
    /// What the list says of it.
    pub entry: Entry,
    /// Directory of its messages; absent: it is only a name, or another server's.
    pub data: Option<PathBuf>,
    /// Directory of its other files, where `metapartition-…` has them.
    pub meta: Option<PathBuf>,
    /// Whose it is here, and its name; absent: it is left alone.
    pub ours: Option<(String, String)>,
}

impl Listed {
    fn new(
        site: &Site,
        entry: Entry,
        dir: Option<PathBuf>,
        ours: Option<(String, String)>,
    ) -> Listed {
        let partition = entry.partition.as_deref().unwrap_or_default();
        let root = |what: &str| site.conf.get(&format!("{what}-{partition}")).map(PathBuf::from);
        let below = |root: Option<PathBuf>| Some(root?.join(dir.as_ref()?));
        let data = below(root("partition"));
        let meta = below(root("metapartition")).or_else(|| data.clone());
        Listed { entry, data, meta, ours }
    }
}

/// Adds partitions of ours that imapd.conf may not know, under our names.
pub fn add_ours(partitions: &mut BTreeMap<String, String>, config: &Config) {
    for ours in &config.partition {
        if !partitions.values().any(|name| name == &ours.name) {
            partitions.insert(ours.name.clone(), ours.name.clone());
        }
    }
}

/// All mailboxes by name, in the list's order.
pub fn list(
    imapd_conf: &Path,
    config: &Config,
    place: &mut Place,
    with_parents: bool,
) -> Result<BTreeMap<String, Listed>, Failed> {
    let site = Site::read_if_any(imapd_conf)?;
    let mut partitions = plan::partitions(&site, config)?;
    add_ours(&mut partitions, config);
    let places = Places::new(&site, config, &partitions);
    let now = now();
    let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
    for entry in &site.mailboxes {
        let owner = entry.name.owner(&site.deleted_prefix);
        let ours = entry.is_served() && owner != Owner::Deleted && site.was_taken(entry);
        let parent = entry.kind.contains('i');
        if !ours && (!parent || with_parents) {
            let one = Listed::new(&site, entry.clone(), site.directory(entry), None);
            listed.insert(entry.name.to_database(), one);
        }
    }
    let users = match place.ask(Request::Mailboxes { user: None })? {
        Reply::Mailboxes(lines) => lines.into_iter().map(|l| l.user).collect::<BTreeSet<_>>(),
        other => return Err(unexpected(&other)),
    };
    for user in users {
        for mailbox in places.wanted_of(&user, place.heads(&user)?.mailboxes) {
            if let Some(one) = places.place(&user, mailbox, now)? {
                let ours = Some((user.clone(), one.mailbox.name));
                let listed_one = Listed::new(&site, one.entry, Some(one.dir), ours);
                listed.insert(one.name.to_database(), listed_one);
            }
        }
    }
    Ok(listed)
}

fn quoted(text: &str) -> String {
    // A string always can be written.
    serde_json::to_string(text).unwrap_or_default()
}

/// An object of strings.
fn object(fields: &[(&str, Option<String>)]) -> String {
    let there = fields.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let texts: Vec<_> = there.map(|(key, value)| format!("{}: {value}", quoted(key))).collect();
    format!("{{{}}}", texts.join(", "))
}

fn line(entry: &Entry) -> String {
    let number = |n: u64| Some(quoted(&n.to_string()));
    let text = |text: &Option<String>| text.as_deref().map(quoted);
    let name = quoted(&entry.name.to_internal());
    let acl: BTreeMap<&str, usize> =
        entry.acl.iter().enumerate().map(|(at, (who, _))| (who.as_str(), at)).collect();
    // Of two entries for somebody the last one counts.
    let acl: Vec<_> = entry
        .acl
        .iter()
        .enumerate()
        .filter(|(at, (who, _))| acl.get(who.as_str()) == Some(at))
        .map(|(_, (who, rights))| (who.as_str(), Some(quoted(rights))))
        .collect();
    let kind = if entry.kind.is_empty() { "e" } else { &entry.kind };
    let fields = [
        ("name", Some(name.clone())),
        ("mtime", number(entry.changed)),
        ("uidvalidity", number(entry.uid_validity.unwrap_or(0).into())),
        ("createdmodseq", number(entry.created_modseq)),
        ("foldermodseq", number(entry.folder_modseq)),
        ("mbtype", Some(quoted(kind))),
        ("partition", text(&entry.partition)),
        ("server", text(&entry.server)),
        ("acl", Some(object(&acl))),
        ("uniqueid", text(&entry.unique_id)),
        ("legacy_specialuse", text(&entry.special_use)),
        // Cyrus finds them by id only, and prints none.
        ("name_history", Some("[]".to_owned())),
    ];
    format!("{name}: {}", object(&fields))
}

#[cfg(test)]
mod tests {
    use foreign::cyrus::name::Name;

    use super::*;

    #[test]
    fn a_line_is_as_cyrus_writes_it() {
        let entry = Entry {
            name: Name::of_user("john.doe@example.com", &["W\"x".to_owned()]),
            kind: "el".into(),
            unique_id: Some("id1".into()),
            partition: Some("default".into()),
            uid_validity: Some(7),
            acl: vec![
                ("a".into(), "l".into()),
                ("john.doe@example.com".into(), "lrs".into()),
                ("a".into(), "lr".into()),
            ],
            changed: 5,
            created_modseq: 1,
            folder_modseq: 2,
            ..Entry::default()
        };
        assert_eq!(
            line(&entry),
            "\"example.com!user.john^doe.W\\\"x\": {\"name\": \"example.com!user.john^doe.W\\\"x\", \
             \"mtime\": \"5\", \"uidvalidity\": \"7\", \"createdmodseq\": \"1\", \
             \"foldermodseq\": \"2\", \"mbtype\": \"el\", \"partition\": \"default\", \
             \"acl\": {\"john.doe@example.com\": \"lrs\", \"a\": \"lr\"}, \"uniqueid\": \"id1\", \
             \"name_history\": []}"
        );
    }
}
