//! What the store should hold: worlds, and what operations do to them.
//!
//! An operation that was not answered leaves two possible worlds, with and without it; operations
//! that ran side by side leave one for every order of theirs. A look at the store picks the one
//! that is real; when it is none of them, durability is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::{MailboxId, StoreMode};

/// User and mailbox name.
pub type Place = (String, String);

/// One message: which text, its flags, and its shared comment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Msg {
    pub token: u32,
    pub flags: u8,
    pub keywords: BTreeSet<String>,
    pub comment: Option<String>,
}

/// One mailbox. Messages whose UIDs nobody was told are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    pub id: Option<MailboxId>,
    pub messages: BTreeMap<u32, Msg>,
    pub nameless: Vec<Msg>,
    /// Rights of others than the owner.
    pub acl: BTreeMap<String, String>,
}

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub folders: BTreeMap<String, Arc<Folder>>,
    pub subscriptions: BTreeSet<String>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    pub users: BTreeMap<String, Space>,
}

/// What one transaction does.
#[derive(Clone, Debug)]
pub enum Effect {
    Append {
        at: Place,
        messages: Vec<(Option<u32>, Msg)>,
    },
    Flags {
        at: Place,
        uids: Vec<u32>,
        mode: StoreMode,
        flags: u8,
        keywords: BTreeSet<String>,
    },
    /// Shared comments (RFC 5257); none: they go.
    Annotate {
        at: Place,
        uids: Vec<u32>,
        comment: Option<String>,
    },
    /// Another program set these letters and took those away.
    Merge {
        at: Place,
        uid: u32,
        set: u8,
        clear: u8,
    },
    Expunge {
        at: Place,
        uids: Vec<u32>,
    },
    /// Where the new UID was told, the message was there; others are passed over when gone.
    Transfer {
        from: Place,
        to: Place,
        pairs: Vec<(u32, Option<u32>)>,
        remove: bool,
    },
    /// RENAME of an INBOX: a MOVE of all that was there when the new mailbox was made. What comes
    /// while it runs may stay, as a COPY beside a MOVE of its source does.
    MoveAll {
        from: Place,
        to: Place,
        /// UIDNEXT before it began: messages below it were there.
        since: u32,
    },
    Create {
        at: Place,
    },
    Delete {
        at: Place,
    },
    Rename {
        user: String,
        from: String,
        to: String,
    },
    Subscribe {
        at: Place,
        on: bool,
    },
    /// An entry of an access control list; no rights: it goes.
    SetAcl {
        at: Place,
        who: String,
        rights: String,
    },
}

impl World {
    pub fn folder(&self, at: &Place) -> Option<&Folder> {
        self.users.get(&at.0)?.folders.get(&at.1).map(Arc::as_ref)
    }

    fn folder_mut(&mut self, at: &Place) -> Option<&mut Folder> {
        self.users.get_mut(&at.0)?.folders.get_mut(&at.1).map(Arc::make_mut)
    }

    /// The worlds that an effect may lead to; none where it cannot happen.
    pub fn after(&self, effect: &Effect) -> Vec<World> {
        match effect {
            Effect::MoveAll { from, to, since } => self.moved_all(from, to, *since),
            other => self.changed(other).into_iter().collect(),
        }
    }

    /// Messages leave by rising UID up to some place, as a view shows them; of those whose UIDs
    /// nobody was told, any may have come too late.
    fn moved_all(&self, from: &Place, to: &Place, since: u32) -> Vec<World> {
        let Some(inbox) = self.folder(from).filter(|_| self.folder(to).is_some()) else {
            return Vec::new();
        };
        let later = inbox.messages.range(since..).map(|(uid, _)| uid + 1);
        let ends: Vec<u32> = [since].into_iter().chain(later).collect();
        let mut worlds = Vec::new();
        for (end, nameless) in
            ends.iter().flat_map(|end| (0..1 << inbox.nameless.len()).map(move |n: u32| (end, n)))
        {
            let mut world = self.clone();
            let mut all = Vec::new();
            if let Some(folder) = world.folder_mut(from) {
                let stay = folder.messages.split_off(end);
                all.extend(std::mem::replace(&mut folder.messages, stay).into_values());
                let (go, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut folder.nameless)
                    .into_iter()
                    .enumerate()
                    .partition(|(i, _)| nameless & (1 << i) != 0);
                all.extend(go.into_iter().map(|(_, message)| message));
                folder.nameless = stay.into_iter().map(|(_, message)| message).collect();
            }
            if let Some(folder) = world.folder_mut(to) {
                folder.nameless.extend(all);
            }
            worlds.push(world);
        }
        worlds
    }

    fn changed(&self, effect: &Effect) -> Option<World> {
        let mut world = self.clone();
        match effect {
            Effect::Append { at, messages } => {
                let folder = world.folder_mut(at)?;
                for (uid, message) in messages {
                    folder.add(*uid, message.clone())?;
                }
            }
            Effect::Flags { at, uids, mode, flags, keywords } => {
                let folder = world.folder_mut(at)?;
                for uid in uids {
                    let Some(message) = folder.messages.get_mut(uid) else { continue };
                    match mode {
                        StoreMode::Replace => {
                            (message.flags, message.keywords) = (*flags, keywords.clone());
                        }
                        StoreMode::Add => {
                            message.flags |= flags;
                            message.keywords.extend(keywords.iter().cloned());
                        }
                        StoreMode::Remove => {
                            message.flags &= !flags;
                            message.keywords.retain(|k| !keywords.contains(k));
                        }
                        // Of shared mailboxes, which this work has none of.
                        StoreMode::ReplaceWithin(_) | StoreMode::Touch(_) => {}
                    }
                }
            }
            Effect::Annotate { at, uids, comment } => {
                let folder = world.folder_mut(at)?;
                for uid in uids {
                    if let Some(message) = folder.messages.get_mut(uid) {
                        message.comment = comment.clone();
                    }
                }
            }
            Effect::Merge { at, uid, set, clear } => {
                // Of a message that is gone the file may still be there: it goes after the
                // removal's commit, and a MOVE has its link of it before that. Another program
                // that renames it meanwhile changes no message any more.
                if let Some(message) = world.folder_mut(at)?.messages.get_mut(uid) {
                    message.flags = message.flags & !clear | set;
                }
            }
            Effect::Expunge { at, uids } => {
                let folder = world.folder_mut(at)?;
                folder.messages.retain(|uid, _| !uids.contains(uid));
            }
            Effect::Transfer { from, to, pairs, remove } => {
                for (uid, new) in pairs {
                    let message = match (world.folder(from)?.messages.get(uid), new) {
                        (Some(message), _) => message.clone(),
                        (None, None) => continue,
                        (None, Some(_)) => return None,
                    };
                    world.folder_mut(to)?.add(*new, message)?;
                    if *remove {
                        world.folder_mut(from)?.messages.remove(uid);
                    }
                }
            }
            Effect::MoveAll { .. } => return None,
            Effect::Create { at } => {
                let space = world.users.get_mut(&at.0)?;
                let mut above = at.1.as_str();
                let mut folder = Folder::default();
                while let Some((name, _)) = above.rsplit_once('/') {
                    if let Some(there) = space.folders.get(name) {
                        folder.acl = there.acl.clone();
                        break;
                    }
                    above = name;
                }
                if space.folders.insert(at.1.clone(), Arc::new(folder)).is_some() {
                    return None;
                }
            }
            Effect::Delete { at } => {
                world.users.get_mut(&at.0)?.folders.remove(&at.1)?;
            }
            Effect::Rename { user, from, to } => {
                let folders = &mut world.users.get_mut(user)?.folders;
                let below = format!("{from}/");
                let moving: Vec<String> = folders
                    .keys()
                    .filter(|n| *n == from || n.starts_with(&below))
                    .cloned()
                    .collect();
                for old in moving {
                    let folder = folders.remove(&old)?;
                    folders.insert(format!("{to}{}", &old[from.len()..]), folder);
                }
            }
            Effect::SetAcl { at, who, rights } => {
                let acl = &mut world.folder_mut(at)?.acl;
                if rights.is_empty() {
                    acl.remove(who);
                } else {
                    acl.insert(who.clone(), rights.clone());
                }
            }
            Effect::Subscribe { at, on } => {
                let subscriptions = &mut world.users.get_mut(&at.0)?.subscriptions;
                if *on {
                    subscriptions.insert(at.1.clone());
                } else {
                    subscriptions.remove(&at.1);
                }
            }
        }
        Some(world)
    }

    /// How `actual`, in which everything has a name, differs from this; `None` when it fits.
    pub fn misfit(&self, actual: &World) -> Option<String> {
        for (user, space) in &actual.users {
            let Some(mine) = self.users.get(user) else { return Some(format!("user {user}")) };
            if mine.subscriptions != space.subscriptions {
                let (is, should) = (&space.subscriptions, &mine.subscriptions);
                return Some(format!("{user}: subscriptions {is:?}, expected {should:?}"));
            }
            let (is, should): (Vec<_>, Vec<_>) =
                (space.folders.keys().collect(), mine.folders.keys().collect());
            if is != should {
                return Some(format!("{user}: mailboxes {is:?}, expected {should:?}"));
            }
            for (name, folder) in &space.folders {
                if let Some(text) = mine.folders[name].misfit(folder) {
                    return Some(format!("{user} {name}: {text}"));
                }
            }
        }
        None
    }
}

impl Folder {
    fn add(&mut self, uid: Option<u32>, message: Msg) -> Option<()> {
        match uid {
            None => self.nameless.push(message),
            Some(uid) => {
                if self.messages.insert(uid, message).is_some() {
                    return None;
                }
            }
        }
        Some(())
    }

    fn misfit(&self, actual: &Folder) -> Option<String> {
        if self.id.is_some() && self.id != actual.id {
            return Some("another mailbox has its name".into());
        }
        if self.acl != actual.acl {
            return Some(format!("rights {:?}, expected {:?}", actual.acl, self.acl));
        }
        for (uid, message) in &self.messages {
            match actual.messages.get(uid) {
                None => return Some(format!("UID {uid} is missing: {message:?}")),
                Some(is) if is != message => {
                    return Some(format!("UID {uid}: {is:?}, expected {message:?}"));
                }
                Some(_) => {}
            }
        }
        let mut more: Vec<&Msg> = actual
            .messages
            .iter()
            .filter(|(uid, _)| !self.messages.contains_key(uid))
            .map(|(_, message)| message)
            .collect();
        let mut nameless: Vec<&Msg> = self.nameless.iter().collect();
        more.sort();
        nameless.sort();
        (more != nameless).then(|| format!("also {more:?}, expected {nameless:?}"))
    }
}

/// What one operation may have done, in order, and whether it surely did.
pub type Chain = Vec<(Effect, bool)>;

/// The worlds that may be real after operations that ran side by side.
pub fn possible(worlds: &[World], chains: &[Chain]) -> Vec<World> {
    let mut known = BTreeMap::from([(vec![0; chains.len()], worlds.to_vec())]);
    reached(chains, chains.iter().map(Vec::len).collect(), &mut known)
}

/// The worlds after so many effects of each chain, whatever their order.
fn reached(
    chains: &[Chain],
    progress: Vec<usize>,
    known: &mut BTreeMap<Vec<usize>, Vec<World>>,
) -> Vec<World> {
    if let Some(worlds) = known.get(&progress) {
        return worlds.clone();
    }
    let mut out: Vec<World> = Vec::new();
    for (i, chain) in chains.iter().enumerate().filter(|(i, _)| progress[*i] > 0) {
        let mut before = progress.clone();
        before[i] -= 1;
        let (effect, sure) = &chain[before[i]];
        for world in reached(chains, before, known) {
            let after = world.after(effect);
            for one in after.into_iter().chain((!sure).then_some(world)) {
                if !out.contains(&one) {
                    out.push(one);
                }
            }
        }
    }
    known.insert(progress, out.clone());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        ("u".into(), "A".into())
    }

    fn append(uid: u32) -> Effect {
        let message = Msg { token: uid, flags: 0, keywords: BTreeSet::new(), comment: None };
        Effect::Append { at: place(), messages: vec![(Some(uid), message)] }
    }

    fn begin() -> Vec<World> {
        let mut world = World::default();
        world.users.insert("u".into(), Space::default());
        world.after(&Effect::Create { at: place() }).into_iter().collect()
    }

    #[test]
    fn unanswered_operations_leave_every_subset_and_answered_ones_every_order() {
        let unsure: Vec<Chain> = (1..4).map(|uid| vec![(append(uid), false)]).collect();
        assert_eq!(possible(&begin(), &unsure).len(), 8);
        let sure: Vec<Chain> = (1..4).map(|uid| vec![(append(uid), true)]).collect();
        assert_eq!(possible(&begin(), &sure).len(), 1);
        let gone = vec![(Effect::Expunge { at: place(), uids: vec![1] }, true)];
        let both = possible(&begin(), &[sure[0].clone(), gone]);
        let counts: BTreeSet<usize> =
            both.iter().map(|w| w.folder(&place()).unwrap().messages.len()).collect();
        assert_eq!(counts, BTreeSet::from([0, 1]));
    }

    #[test]
    fn renaming_an_inbox_may_leave_what_comes_meanwhile() {
        let world = begin().remove(0).after(&append(1)).remove(0).after(&append(5)).remove(0);
        let to = ("u".to_owned(), "B".to_owned());
        let world = world.after(&Effect::Create { at: to.clone() }).remove(0);
        let left = |since| -> BTreeSet<usize> {
            let worlds = world.after(&Effect::MoveAll { from: place(), to: to.clone(), since });
            worlds.iter().map(|w| w.folder(&place()).unwrap().messages.len()).collect()
        };
        assert_eq!(left(6), BTreeSet::from([0]));
        assert_eq!(left(5), BTreeSet::from([0, 1]));
    }

    #[test]
    fn flags_of_a_file_whose_message_was_moved_may_change_nothing() {
        let to = ("u".to_owned(), "B".to_owned());
        let world = begin().remove(0).after(&append(1)).remove(0);
        let world = world.after(&Effect::Create { at: to.clone() });
        let pairs = vec![(1, Some(1))];
        let moved = Effect::Transfer { from: place(), to: to.clone(), pairs, remove: true };
        let merged = Effect::Merge { at: place(), uid: 1, set: 8, clear: 0 };
        let worlds = possible(&world, &[vec![(moved, true)], vec![(merged, true)]]);
        let flags: BTreeSet<u8> =
            worlds.iter().map(|w| w.folder(&to).unwrap().messages[&1].flags).collect();
        assert_eq!(flags, BTreeSet::from([0, 8]));
    }

    #[test]
    fn a_contradiction_leaves_no_world() {
        let twice = vec![vec![(append(1), true)], vec![(append(1), true)]];
        assert!(possible(&begin(), &twice).is_empty());
    }
}
