//! A user's subscriptions: keys of a database whose values are empty.
//!
//! To 3.4 a key is an internal name. Since 3.6 there is a record `1F VER 1F` with the version, and
//! keys are `N` and a database name, in which the user's own INBOX is `INBOX`.

use super::db::Pair;
use super::name::Name;
use super::{Damage, text};

const FORMAT: &str = "subscriptions";
const VERSION_KEY: &[u8] = b"\x1fVER\x1f";

/// Names that a user has subscribed to.
///
/// # Errors
/// Keys that are no names.
pub fn read(pairs: &[Pair], user: &str) -> Result<Vec<Name>, Damage> {
    let newer = pairs.iter().any(|(key, _)| key == VERSION_KEY);
    let mut names = Vec::new();
    for (key, _) in pairs.iter().filter(|(key, _)| key != VERSION_KEY) {
        let key = text(FORMAT, 0, key)?;
        if !newer {
            names.push(Name::from_internal(key)?);
            continue;
        }
        let Some(name) = key.strip_prefix('N') else { continue };
        let name = Name::from_database(name)?;
        names.push(match name.levels.split_first() {
            Some((first, below)) if first == "INBOX" && name.domain.is_none() => {
                Name::of_user(user, below)
            }
            _ => name,
        });
    }
    Ok(names)
}

/// All records as 3.6 has them, in the order of their keys.
pub fn write(names: &[Name], user: &str) -> Vec<Pair> {
    let inbox = Name::of_user(user, &[]);
    let key = |name: &Name| {
        let own = name.is_within(&inbox);
        let text = match name.levels.get(2..).filter(|_| own) {
            Some(below) => {
                let levels = std::iter::once("INBOX".to_owned()).chain(below.iter().cloned());
                Name { domain: None, levels: levels.collect() }.to_database()
            }
            None => name.to_database(),
        };
        format!("N{text}").into_bytes()
    };
    let mut keys: Vec<_> = names.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    let records = keys.into_iter().map(|key| (key, Vec::new()));
    std::iter::once((VERSION_KEY.to_vec(), b"2".to_vec())).chain(records).collect()
}
