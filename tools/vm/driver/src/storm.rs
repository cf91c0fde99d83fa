//! Deliveries and IMAP commands from several connections at once, every answer kept in the ledger.
//!
//! A worker has one LMTP and one IMAP connection and changes only messages and mailboxes of its own,
//! so that what each of them must look like is known, while workers of one user share INBOX and
//! `shared` and so meet in the engine.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::{Flags, FolderId, InstanceId, Ledger, OperationId, message_text};
use crate::server::{IMAP_PORT, LMTP_PORT, PASSWORD, USERS};
use crate::wire::{Answer, Imap, Lmtp};
use powercut::disk::Recorder;
use powercut::random::Random;

/// Workers for each user.
pub(crate) const WORKERS_PER_USER: usize = 2;
/// Mailboxes that a worker makes for itself at most, at a time.
const FOLDERS_MAX: usize = 5;
/// Messages that one STORE, COPY, MOVE or EXPUNGE is about at most.
const SET_MAX: usize = 4;

/// What all workers share.
pub(crate) struct Scene {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) seed: u64,
    /// Operations that were answered.
    pub(crate) done: AtomicUsize,
    /// Set before the server is stopped: errors are no longer news.
    pub(crate) stopping: AtomicBool,
    /// Whether a plain STORE is answered before its sync.
    pub(crate) early: bool,
    /// INBOX and `shared` of each user.
    pub(crate) common: Vec<[FolderId; 2]>,
}

impl Scene {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, what: String, whole: bool) -> OperationId {
        self.ledger().begin(self.recorder.now(), what, whole)
    }
}

/// Makes the folders that all workers use, and tells the ledger.
pub(crate) fn prepare(recorder: Arc<Recorder>, seed: u64, early: bool) -> io::Result<Scene> {
    let mut ledger = Ledger::default();
    let mut common = Vec::new();
    for (number, user) in USERS.iter().enumerate() {
        let made = ledger.begin(recorder.now(), format!("{user} gets INBOX and shared"), true);
        let mut imap = Imap::login(IMAP_PORT, user, PASSWORD)?;
        imap.run("CREATE shared")?;
        let folders = ["INBOX", "shared"].map(|name| ledger.folder(number, name.to_owned(), made));
        ledger.sure(made, recorder.now());
        common.push(folders);
    }
    Ok(Scene {
        recorder,
        ledger: Mutex::new(ledger),
        seed,
        done: AtomicUsize::new(0),
        stopping: AtomicBool::new(false),
        early,
        common,
    })
}

/// One client.
pub(crate) struct Worker<'a> {
    scene: &'a Scene,
    name: String,
    user: usize,
    random: Random,
    imap: Imap,
    lmtp: Lmtp,
    selected: Option<FolderId>,
    /// Messages with a UID that I may change.
    mine: Vec<InstanceId>,
    /// Delivered ones whose UID I have not seen.
    unseen: Vec<InstanceId>,
    folders: Vec<FolderId>,
    names: usize,
    /// STOREs that were answered and not yet synced.
    early: Vec<OperationId>,
}

/// `1:3,5` as numbers.
fn numbers(set: &str) -> io::Result<Vec<u32>> {
    let number = |text: &str| text.parse::<u32>().map_err(io::Error::other);
    let mut all = Vec::new();
    for part in set.split(',') {
        match part.split_once(':') {
            Some((first, last)) => all.extend(number(first)?..=number(last)?),
            None => all.push(number(part)?),
        }
    }
    Ok(all)
}

impl<'a> Worker<'a> {
    pub(crate) fn new(scene: &'a Scene, number: usize) -> io::Result<Self> {
        let user = number % USERS.len();
        Ok(Self {
            scene,
            name: format!("w{number}"),
            user,
            random: Random::new(scene.seed).fork(1_000_000 + number as u64),
            imap: Imap::login(IMAP_PORT, USERS[user], PASSWORD)?,
            lmtp: Lmtp::connect(LMTP_PORT)?,
            selected: None,
            mine: Vec::new(),
            unseen: Vec::new(),
            folders: Vec::new(),
            names: 0,
            early: Vec::new(),
        })
    }

    /// Works until the server goes away. An error before it was told to is handed back.
    pub(crate) fn run(mut self) -> io::Result<()> {
        loop {
            let result = match self.random.below(100) {
                0..24 => self.deliver(),
                24..38 => self.append(1),
                38..43 => self.append(3),
                43..63 => self.store(),
                63..71 => self.copy(),
                71..79 => self.shift(),
                79..87 => self.expunge(),
                87..91 => self.create(),
                91..95 => self.rename(),
                95..97 => self.delete(),
                _ => self.look(),
            };
            if self.scene.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            result.map_err(|error| io::Error::other(format!("{}: {error}", self.name)))?;
            self.scene.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Notes that `operation` was answered. The log is written in order, so whatever was answered
    /// early before it was sent is as sure.
    fn sure(&mut self, operation: OperationId) {
        let now = self.scene.recorder.now();
        let mut ledger = self.scene.ledger();
        for one in self.early.drain(..).chain([operation]) {
            ledger.sure(one, now);
        }
    }

    /// Runs a command as operation `operation`; when this returns it is sure.
    fn answered(&mut self, operation: OperationId, command: &[u8]) -> io::Result<Answer> {
        let answer = self.accepted(operation, command)?;
        self.sure(operation);
        Ok(answer)
    }

    /// Runs a command that must be answered OK.
    fn accepted(&mut self, operation: OperationId, command: &[u8]) -> io::Result<Answer> {
        let answer = self.imap.command(command)?;
        if !answer.status.starts_with("OK") {
            let what = self.scene.ledger().operation(operation).what.clone();
            return Err(io::Error::other(format!("{what}: {}", answer.status)));
        }
        Ok(answer)
    }

    fn any_folder(&mut self) -> FolderId {
        let common = self.scene.common[self.user];
        match self.random.below(4) {
            0 => common[0],
            1 => common[1],
            _ if self.folders.is_empty() => common[0],
            _ => self.folders[self.random.below(self.folders.len())],
        }
    }

    fn folder_name(&self, folder: FolderId) -> String {
        self.scene.ledger().folders[folder.0].name().to_owned()
    }

    fn select(&mut self, folder: FolderId) -> io::Result<()> {
        if self.selected == Some(folder) {
            return Ok(());
        }
        let answer = self.imap.run(&format!("SELECT {}", self.folder_name(folder)))?;
        self.selected = Some(folder);
        let validity = answer
            .code("UIDVALIDITY")
            .and_then(|words| words[0].parse().ok())
            .ok_or_else(|| io::Error::other("SELECT without UIDVALIDITY"))?;
        let now = self.scene.recorder.now();
        let known = &mut self.scene.ledger().folders[folder.0].validity;
        match known {
            Some((known, _)) if *known != validity => {
                Err(io::Error::other(format!("UIDVALIDITY {known} became {validity}")))
            }
            Some(_) => Ok(()),
            None => {
                *known = Some((validity, now));
                Ok(())
            }
        }
    }

    /// Some of my messages in one mailbox, which is selected then. Empty if I have none.
    fn some_of_mine(&mut self) -> io::Result<Vec<(InstanceId, u32)>> {
        if self.mine.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.mine[self.random.below(self.mine.len())];
        let size = 1 + self.random.below(SET_MAX);
        let (folder, chosen) = {
            let ledger = self.scene.ledger();
            let folder = ledger.instances[first.0].folder;
            let chosen: Vec<(InstanceId, u32)> = self
                .mine
                .iter()
                .filter(|one| ledger.instances[one.0].folder == folder)
                .filter_map(|one| Some((*one, ledger.instances[one.0].uid?.0)))
                .take(size)
                .collect();
            (folder, chosen)
        };
        self.select(folder)?;
        Ok(chosen)
    }

    fn deliver(&mut self) -> io::Result<()> {
        let mut users = vec![self.user];
        if self.random.chance(25) {
            users.push((self.user + 1) % USERS.len());
        }
        let (operation, message, instances) = {
            let mut ledger = self.scene.ledger();
            let message = ledger.message();
            let now = self.scene.recorder.now();
            let operation = ledger.begin(now, format!("{} delivers {message}", self.name), false);
            let instances: Vec<InstanceId> = users
                .iter()
                .map(|user| {
                    let inbox = self.scene.common[*user][0];
                    ledger.instance(message, inbox, operation, Flags::default())
                })
                .collect();
            (operation, message, instances)
        };
        let names: Vec<&str> = users.iter().map(|user| USERS[*user]).collect();
        let replies = self.lmtp.deliver(&names, &message_text(self.scene.seed, message))?;
        if let Some(refused) = replies.iter().find(|reply| !reply.starts_with("250")) {
            return Err(io::Error::other(format!("delivery answered {refused}")));
        }
        self.sure(operation);
        self.unseen.push(instances[0]);
        Ok(())
    }

    fn append(&mut self, count: usize) -> io::Result<()> {
        let folder = self.any_folder();
        let name = self.folder_name(folder);
        let mut command = format!("APPEND {name}").into_bytes();
        let (operation, instances) = {
            let mut ledger = self.scene.ledger();
            let what = format!("{} appends {count} to {name}", self.name);
            let operation = ledger.begin(self.scene.recorder.now(), what, true);
            let mut instances = Vec::new();
            for _ in 0..count {
                let message = ledger.message();
                let flags = Flags::any(&mut self.random);
                let text = message_text(self.scene.seed, message);
                command.extend_from_slice(format!(" {flags} {{{}+}}\r\n", text.len()).as_bytes());
                command.extend_from_slice(&text);
                instances.push(ledger.instance(message, folder, operation, flags));
            }
            (operation, instances)
        };
        let answer = self.answered(operation, &command)?;
        let uids = answer
            .code("APPENDUID")
            .ok_or_else(|| io::Error::other(format!("no APPENDUID: {}", answer.status)))?;
        self.learn(&instances, &numbers(uids[1])?)
    }

    /// Notes the UIDs that an answer named, in order.
    fn learn(&mut self, instances: &[InstanceId], uids: &[u32]) -> io::Result<()> {
        if instances.len() != uids.len() {
            return Err(io::Error::other(format!("{} UIDs for {}", uids.len(), instances.len())));
        }
        let now = self.scene.recorder.now();
        let mut ledger = self.scene.ledger();
        for (instance, uid) in instances.iter().zip(uids) {
            ledger.instances[instance.0].uid = Some((*uid, now));
            self.mine.push(*instance);
        }
        Ok(())
    }

    fn store(&mut self) -> io::Result<()> {
        let chosen = self.some_of_mine()?;
        if chosen.is_empty() {
            return Ok(());
        }
        let flags = Flags::any(&mut self.random);
        let item = ["FLAGS", "+FLAGS", "-FLAGS", "+FLAGS.SILENT"][self.random.below(4)];
        self.store_flags(&chosen, item, flags)
    }

    fn store_flags(
        &mut self,
        chosen: &[(InstanceId, u32)],
        item: &str,
        flags: Flags,
    ) -> io::Result<()> {
        let command = format!("UID STORE {} {item} {flags}", set(chosen));
        let operation = self.scene.begin(format!("{} {command}", self.name), false);
        {
            let mut ledger = self.scene.ledger();
            for (instance, _) in chosen {
                let history = &mut ledger.instances[instance.0].flags;
                let before = history[history.len() - 1].1;
                let after = match item.as_bytes()[0] {
                    b'+' => before.with(flags),
                    b'-' => before.without(flags),
                    _ => flags,
                };
                history.push((operation, after));
            }
        }
        if self.scene.early {
            self.accepted(operation, command.as_bytes())?;
            self.early.push(operation);
        } else {
            self.answered(operation, command.as_bytes())?;
        }
        Ok(())
    }

    fn copy(&mut self) -> io::Result<()> {
        self.copy_or_move("COPY")
    }

    fn shift(&mut self) -> io::Result<()> {
        self.copy_or_move("MOVE")
    }

    fn copy_or_move(&mut self, verb: &str) -> io::Result<()> {
        let chosen = self.some_of_mine()?;
        let target = self.any_folder();
        if chosen.is_empty() || self.selected == Some(target) {
            return Ok(());
        }
        let command = format!("UID {verb} {} {}", set(&chosen), self.folder_name(target));
        let operation = self.scene.begin(format!("{} {command}", self.name), true);
        let made: Vec<InstanceId> = {
            let mut ledger = self.scene.ledger();
            chosen
                .iter()
                .map(|(source, _)| {
                    let from = &mut ledger.instances[source.0];
                    let flags = from.flags[from.flags.len() - 1].1;
                    if verb == "MOVE" {
                        from.gone = Some(operation);
                    }
                    let message = from.message;
                    ledger.instance(message, target, operation, flags)
                })
                .collect()
        };
        let answer = self.answered(operation, command.as_bytes())?;
        let code = answer
            .code("COPYUID")
            .ok_or_else(|| io::Error::other(format!("{command}: no COPYUID")))?;
        let (sources, targets) = (numbers(code[1])?, numbers(code[2])?);
        let mut uids = Vec::new();
        for (_, source) in &chosen {
            let place = sources.iter().position(|one| one == source);
            uids.extend(place.and_then(|place| targets.get(place)));
        }
        if verb == "MOVE" {
            self.mine.retain(|one| !chosen.iter().any(|(gone, _)| gone == one));
        }
        self.learn(&made, &uids)
    }

    fn expunge(&mut self) -> io::Result<()> {
        let chosen = self.some_of_mine()?;
        if chosen.is_empty() {
            return Ok(());
        }
        self.store_flags(&chosen, "+FLAGS.SILENT", Flags::DELETED)?;
        let command = format!("UID EXPUNGE {}", set(&chosen));
        let operation = self.scene.begin(format!("{} {command}", self.name), false);
        for (instance, _) in &chosen {
            self.scene.ledger().instances[instance.0].gone = Some(operation);
        }
        self.answered(operation, command.as_bytes())?;
        self.mine.retain(|one| !chosen.iter().any(|(gone, _)| gone == one));
        Ok(())
    }

    /// A name that nobody had: plain, or below one of my folders.
    fn new_name(&mut self, parents: bool) -> String {
        self.names += 1;
        let leaf = format!("{}n{}", self.name, self.names);
        if parents && !self.folders.is_empty() && self.random.chance(40) {
            let parent = self.folders[self.random.below(self.folders.len())];
            return format!("{}/{leaf}", self.folder_name(parent));
        }
        leaf
    }

    fn create(&mut self) -> io::Result<()> {
        if self.folders.len() >= FOLDERS_MAX {
            return Ok(());
        }
        let name = self.new_name(true);
        let command = format!("CREATE {name}");
        let operation = self.scene.begin(format!("{} {command}", self.name), true);
        let folder = self.scene.ledger().folder(self.user, name, operation);
        self.answered(operation, command.as_bytes())?;
        self.folders.push(folder);
        Ok(())
    }

    fn unselect(&mut self) -> io::Result<()> {
        if self.selected.take().is_some() {
            self.imap.run("UNSELECT")?;
        }
        Ok(())
    }

    /// My folders below `name`, and the one that has it.
    fn tree(&self, name: &str) -> Vec<(FolderId, String)> {
        let below = format!("{name}/");
        let ledger = self.scene.ledger();
        self.folders
            .iter()
            .map(|folder| (*folder, ledger.folders[folder.0].name().to_owned()))
            .filter(|(_, one)| one == name || one.starts_with(&below))
            .collect()
    }

    fn rename(&mut self) -> io::Result<()> {
        if self.folders.is_empty() {
            return Ok(());
        }
        self.unselect()?;
        let chosen = self.folders[self.random.below(self.folders.len())];
        let old = self.folder_name(chosen);
        let new = self.new_name(false);
        let command = format!("RENAME {old} {new}");
        let operation = self.scene.begin(format!("{} {command}", self.name), true);
        for (folder, name) in self.tree(&old) {
            let moved = format!("{new}{}", &name[old.len()..]);
            self.scene.ledger().folders[folder.0].names.push((operation, moved));
        }
        self.answered(operation, command.as_bytes())?;
        Ok(())
    }

    fn delete(&mut self) -> io::Result<()> {
        if self.folders.is_empty() {
            return Ok(());
        }
        self.unselect()?;
        let place = self.random.below(self.folders.len());
        let folder = self.folders[place];
        let name = self.folder_name(folder);
        // A mailbox with others below it would stay as a name.
        if self.tree(&name).len() > 1 {
            return Ok(());
        }
        let command = format!("DELETE {name}");
        let operation = self.scene.begin(format!("{} {command}", self.name), true);
        self.scene.ledger().folders[folder.0].deleted = Some(operation);
        self.answered(operation, command.as_bytes())?;
        self.folders.remove(place);
        let ledger = self.scene.ledger();
        self.mine.retain(|one| ledger.instances[one.0].folder != folder);
        Ok(())
    }

    /// Learns the UIDs of what was delivered: a client that saw one relies on it.
    fn look(&mut self) -> io::Result<()> {
        if self.unseen.is_empty() {
            return Ok(());
        }
        self.select(self.scene.common[self.user][0])?;
        self.imap.run("NOOP")?;
        let mut found = Vec::new();
        let unseen = std::mem::take(&mut self.unseen);
        for instance in &unseen {
            let message = self.scene.ledger().instances[instance.0].message;
            let answer = self.imap.run(&format!(
                "UID SEARCH HEADER Message-ID \"<{message}.{}@example.org>\"",
                self.scene.seed
            ))?;
            let uid = answer
                .untagged
                .iter()
                .find(|one| one.text.starts_with("SEARCH"))
                .and_then(|one| one.text.split(' ').nth(1)?.parse().ok());
            let Some(uid) = uid else {
                return Err(io::Error::other(format!("message {message} can't be found")));
            };
            found.push(uid);
        }
        self.learn(&unseen, &found)
    }
}

fn set(chosen: &[(InstanceId, u32)]) -> String {
    let uids: Vec<String> = chosen.iter().map(|(_, uid)| uid.to_string()).collect();
    uids.join(",")
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn sets_are_read_in_order() {
        assert_eq!(numbers("7,3:5,9").unwrap(), [7, 3, 4, 5, 9]);
        assert!(numbers("7,x").is_err());
    }
}
