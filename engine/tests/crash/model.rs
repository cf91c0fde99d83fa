//! What the store should hold: worlds, and what operations do to them.
//!
//! An operation that was not answered leaves two possible worlds, with and without it. A look at
//! the store picks the one that is real; when it is none of them, durability is broken.

use std::collections::{BTreeMap, BTreeSet};

use engine::{MailboxId, StoreMode};

/// User and mailbox name.
pub type Place = (String, String);

/// One message: which text, and its flags.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Msg {
    pub token: u32,
    pub flags: u8,
    pub keywords: BTreeSet<String>,
}

/// One mailbox. Messages whose UIDs nobody was told are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    pub id: Option<MailboxId>,
    pub messages: BTreeMap<u32, Msg>,
    pub nameless: Vec<Msg>,
}

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub folders: BTreeMap<String, Folder>,
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
    Transfer {
        from: Place,
        to: Place,
        pairs: Vec<(u32, Option<u32>)>,
        remove: bool,
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
}

impl World {
    pub fn folder(&self, at: &Place) -> Option<&Folder> {
        self.users.get(&at.0)?.folders.get(&at.1)
    }

    fn folder_mut(&mut self, at: &Place) -> Option<&mut Folder> {
        self.users.get_mut(&at.0)?.folders.get_mut(&at.1)
    }

    /// The world after an effect; `None` where it cannot happen.
    pub fn after(&self, effect: &Effect) -> Option<World> {
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
            Effect::Merge { at, uid, set, clear } => {
                let message = world.folder_mut(at)?.messages.get_mut(uid)?;
                message.flags = message.flags & !clear | set;
            }
            Effect::Expunge { at, uids } => {
                let folder = world.folder_mut(at)?;
                folder.messages.retain(|uid, _| !uids.contains(uid));
            }
            Effect::Transfer { from, to, pairs, remove } => {
                for (uid, new) in pairs {
                    let message = world.folder(from)?.messages.get(uid)?.clone();
                    world.folder_mut(to)?.add(*new, message)?;
                    if *remove {
                        world.folder_mut(from)?.messages.remove(uid);
                    }
                }
            }
            Effect::Create { at } => {
                let space = world.users.get_mut(&at.0)?;
                if space.folders.insert(at.1.clone(), Folder::default()).is_some() {
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

/// The worlds that may be real after effects that surely happened and effects that may have.
pub fn possible(worlds: &[World], sure: &[Effect], unsure: &[Effect]) -> Vec<World> {
    let mut out: Vec<World> = worlds
        .iter()
        .filter_map(|world| sure.iter().try_fold(world.clone(), |w, effect| w.after(effect)))
        .collect();
    for effect in unsure {
        let with: Vec<World> = out.iter().filter_map(|world| world.after(effect)).collect();
        out.extend(with);
    }
    out.dedup();
    out
}
