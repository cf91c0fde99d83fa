//! Message files under two names, as a power cut may leave them.
//!
//! A filesystem that keeps any of the changes of names that nobody synced can lose the rename of a
//! file from A to B and keep the one from B to C: then A and C are both there. A merge of letters
//! needs one name for each message, and an expunge would leave the other name behind, which looks
//! like a delivery once the tombstone is gone. So the first listing after a crash removes the
//! doubles.
//!
//! Invariant: a name goes only when another one, of the same base and the same inode, stays. Not
//! for listings while other programs run: they may link and unlink where others rename.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::Place;
use super::placing::is_same_file;
use crate::error::{Error, Result};
use crate::io::Storage;
use crate::layout::Found;

/// Removes the second names of files; of what is left there is one name each. A name in `cur/`
/// stays rather than one in `new/`, and rather than any other the one that the index `knows`: letters
/// of a name that it does not know would pass for another program's change.
pub(crate) fn drop_doubles(
    storage: &dyn Storage,
    place: &Place,
    found: Vec<Found>,
    knows: impl Fn(&Found) -> bool,
) -> Result<Vec<Found>> {
    let mut bases: HashSet<&[u8]> = HashSet::with_capacity(found.len());
    if found.iter().all(|file| bases.insert(&file.base)) {
        return Ok(found);
    }
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    let mut by_base: HashMap<Vec<u8>, usize> = HashMap::with_capacity(found.len());
    for file in found {
        let at = match by_base.entry(file.base.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(kept.len());
                kept.push(file);
                continue;
            }
            Entry::Occupied(entry) => *entry.get(),
        };
        let path = |file: &Found| place.partition.layout.path(&place.dir, file);
        let (first, second) = (path(&kept[at]), path(&file));
        let same = is_same_file(storage, &first, &second);
        if !same {
            // Two messages of one name, or gone meanwhile: not ours to judge.
            kept.push(file);
            continue;
        }
        let rank = |file: &Found| (knows(file), !file.in_new);
        let second_stays = rank(&file) > rank(&kept[at]);
        let gone = if second_stays { first } else { second };
        tracing::info!(path = %gone.display(), "removed a message file's second name");
        storage.unlink(&gone).map_err(Error::io("unlink", &gone))?;
        if second_stays {
            kept[at] = file;
        }
    }
    Ok(kept)
}
