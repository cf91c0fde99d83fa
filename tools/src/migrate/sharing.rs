//! Access control lists: who may do what at the source, under the names that users have here.

use std::collections::BTreeMap;

use client::imap::{Command, Session, acl_of};

use super::Migration;
use super::state::Folder;
use super::stop::Stop;
use super::target::Target;
use super::users::Account;

/// Rights that the store knows (RFC 4314), without those of RFC 2086 that stand for several.
const RIGHTS: &str = "lrswipkxtean";

/// Copies the list of a folder; how many entries were set. Lists that the user may not see are left
/// alone.
pub fn copy(
    session: &mut Session,
    target: &mut Target<'_>,
    migration: &Migration,
    account: &Account,
    wire: &[u8],
    folder: &mut Folder,
) -> Result<u64, Stop> {
    if !session.has("ACL")? {
        return Ok(0);
    }
    let mut found: Option<Vec<(String, String)>> = None;
    let asked = session.run(Command::new("GETACL").mailbox(wire), &mut |response| {
        found = found.take().or_else(|| acl_of(&response));
        Ok(())
    });
    match asked {
        Ok(_) => {}
        Err(client::Error::No { .. }) => return Ok(0),
        Err(other) => return Err(other.into()),
    }
    let mut wanted = BTreeMap::new();
    for (identifier, rights) in found.unwrap_or_default() {
        if let Some(who) = here(&identifier, migration, account) {
            let rights: String = rights.chars().filter(|c| RIGHTS.contains(*c)).collect();
            wanted.insert(who, rights);
        }
    }
    let mut set = 0;
    let gone: Vec<String> =
        folder.acl.keys().filter(|who| !wanted.contains_key(*who)).cloned().collect();
    for who in gone {
        target.set_acl(&folder.target, &who, "")?;
        folder.acl.remove(&who);
        set += 1;
    }
    for (who, rights) in wanted {
        if folder.acl.get(&who) != Some(&rights) {
            target.set_acl(&folder.target, &who, &rights)?;
            folder.acl.insert(who, rights);
            set += 1;
        }
    }
    Ok(set)
}

/// The identifier here; `None` for the owner, whose rights are all, and for administrators.
fn here(identifier: &str, migration: &Migration, account: &Account) -> Option<String> {
    let (minus, who) = match identifier.strip_prefix('-') {
        Some(who) => ("-", who),
        None => ("", identifier),
    };
    if ["owner", "administrators"].contains(&who) {
        return None;
    }
    let name = who.strip_prefix("user=").unwrap_or(who);
    let local = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let owner = &account.source;
    if name.eq_ignore_ascii_case(owner) || name.eq_ignore_ascii_case(&local(owner)) {
        return None;
    }
    let mapped = migration.names.get(name).map_or(who, |target| target.as_str());
    Some(format!("{minus}{mapped}"))
}
