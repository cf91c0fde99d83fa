//! The open folder: its message list, what changed in it, and the commands that change it.

use std::fmt::Write as _;

use engine::{
    Carried, CarriedAnnotations, Collation, FlagScope, Mailbox, Record, StoreMode, StoreRequest,
    View,
};
use protocol::imap::SearchKey;
use protocol::smap::{MessageSet, Store, StoreWhat};
use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

use super::folder::mailbox_name;
use super::{Answer, Session, Stop};
use crate::trash;

/// Ranges on one line of EXPUNGE or SEARCH.
const RANGES_PER_LINE: usize = 100;

/// Messages told between two looks at the output queue.
const TURN: usize = 1024;

/// The open folder.
pub(super) struct Open {
    pub(super) mailbox: Mailbox,
    /// What the client's numbers mean.
    pub(super) view: View,
    /// Its internal name.
    pub(super) name: String,
}

impl Open {
    /// The messages of a set that there are.
    pub(super) fn records<'o>(
        &'o self,
        set: &'o MessageSet,
    ) -> impl Iterator<Item = (SeqNum, Record)> + 'o {
        let exists = self.view.exists();
        set.0.iter().flat_map(move |&(first, last)| {
            let last = last.min(exists);
            (first <= last)
                .then(|| self.view.records(SeqNum(first), SeqNum(last)))
                .into_iter()
                .flatten()
        })
    }

    fn uids(&self, set: &MessageSet) -> Vec<Uid> {
        self.records(set).map(|(_, record)| record.uid).collect()
    }

    /// `FLAGS=SEEN,REPLIED`
    pub(super) fn flags(record: &Record) -> String {
        const NAMES: [(SystemFlags, &str); 5] = [
            (SystemFlags::SEEN, "SEEN"),
            (SystemFlags::ANSWERED, "REPLIED"),
            (SystemFlags::DRAFT, "DRAFT"),
            (SystemFlags::DELETED, "DELETED"),
            (SystemFlags::FLAGGED, "MARKED"),
        ];
        let set = NAMES.iter().filter(|(flag, _)| record.flags.contains(*flag));
        format!("FLAGS={}", set.map(|(_, name)| *name).collect::<Vec<_>>().join(","))
    }

    /// `"KEYWORDS=a,b"`
    pub(super) fn keywords(&self, record: &Record) -> String {
        let names: Vec<_> =
            self.view.keywords().of_bits(record.keywords).map(|k| k.as_str()).collect();
        protocol::smap::quoted(&format!("KEYWORDS={}", names.join(",")))
    }
}

/// What every command for an open folder says without one.
pub(super) fn not_open() -> String {
    "open a folder first".to_owned()
}

impl Session {
    pub(super) async fn open(&mut self, folder: &[String]) -> Answer {
        self.open = None;
        let name = match mailbox_name(folder) {
            Ok(name) => name,
            Err(text) => return Ok(Err(text)),
        };
        let opened = async {
            let mailbox = self.user.mailbox(&name).await?;
            let view = mailbox.refresh().await?;
            Ok(Open { mailbox, view, name })
        };
        match opened.await {
            Ok(open) => {
                self.say(&format!("* EXISTS {}", open.view.exists()));
                self.open = Some(Box::new(open));
                Ok(Ok("Folder opened"))
            }
            Err(error) => Ok(Err(self.failure("open a folder", &error))),
        }
    }

    pub(super) async fn noop(&mut self) -> Answer {
        self.tell_changes(true).await?;
        Ok(Ok("Folder updated"))
    }

    /// Tells what went, came and changed; `look` also for what other programs did.
    pub(super) async fn tell_changes(&mut self, look: bool) -> Result<(), Stop> {
        let Some(open) = self.open.as_ref() else { return Ok(()) };
        let mut newest = open.mailbox.view();
        if look {
            match open.mailbox.refresh().await {
                Ok(view) => newest = view,
                Err(error) => drop(self.failure("look at a folder", &error)),
            }
        }
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if open.mailbox.is_gone() {
            self.open = None;
            return Ok(());
        }
        if newest.is_same(&open.view) {
            return Ok(());
        }
        let changes = open.mailbox.changes(&newest, &open.view, ModSeq(0)).await;
        let changes = changes.map_err(|_| Stop::Cut("server stops".to_owned()))?;
        let gone = MessageSet::write(changes.expunged.iter().map(|seq| seq.0));
        // The last ranges first: numbers of a line are those before it.
        for ranges in gone.rchunks(RANGES_PER_LINE) {
            self.conn.out.push(format!("* EXPUNGE {}\n", ranges.join(" ")).as_bytes());
        }
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        open.view = newest;
        if let Some(exists) = changes.exists {
            self.conn.out.push(format!("* EXISTS {exists}\n").as_bytes());
        }
        self.tell_flags(&changes.flags).await
    }

    async fn tell_flags(&mut self, uids: &[Uid]) -> Result<(), Stop> {
        for some in uids.chunks(TURN) {
            let Some(open) = self.open.as_ref() else { return Ok(()) };
            let mut lines = String::new();
            for (seq, record) in some.iter().filter_map(|uid| open.view.record_of(*uid)) {
                let (flags, keywords) = (Open::flags(&record), open.keywords(&record));
                let _ = writeln!(lines, "* FETCH {seq} {flags} {keywords}");
            }
            self.conn.out.push(lines.as_bytes());
            self.breathe().await?;
        }
        Ok(())
    }

    /// Sends what is queued when it is much, and lets other sessions run.
    pub(super) async fn breathe(&mut self) -> Result<(), Stop> {
        if self.conn.out.is_high() {
            self.conn.flush().await?;
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    pub(super) async fn store(&mut self, set: &MessageSet, changes: Vec<Store>) -> Answer {
        let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
        let uids = open.uids(set);
        if uids.is_empty() {
            return Ok(Err("no such messages".to_owned()));
        }
        for Store { sign, what } in changes {
            let mode = match sign {
                None => StoreMode::Replace,
                Some(true) => StoreMode::Add,
                Some(false) => StoreMode::Remove,
            };
            let done = match (what, sign) {
                (StoreWhat::InternalDate, _) => {
                    return Ok(Err("the date of arrival stays what it is".to_owned()));
                }
                (StoreWhat::Flags(flags), Some(_)) => {
                    self.store_one(uids.clone(), mode, flags, Vec::new()).await
                }
                (StoreWhat::Keywords(keywords), Some(_)) => {
                    self.store_one(uids.clone(), mode, SystemFlags::empty(), keywords).await
                }
                // Replaces the one kind and leaves the other: in two steps, the first removing.
                (StoreWhat::Flags(flags), None) => {
                    let others = SystemFlags(!flags.0 & ALL_FLAGS);
                    let removed =
                        self.store_one(uids.clone(), StoreMode::Remove, others, Vec::new()).await;
                    match (removed, flags == SystemFlags::empty()) {
                        (Ok(()), false) => {
                            self.store_one(uids.clone(), StoreMode::Add, flags, Vec::new()).await
                        }
                        (removed, _) => removed,
                    }
                }
                (StoreWhat::Keywords(keywords), None) => {
                    let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
                    let others = open.view.keywords().names().iter();
                    let others: Vec<_> =
                        others.filter(|name| !keywords.contains(name)).cloned().collect();
                    let none = SystemFlags::empty();
                    let removed = match others.is_empty() {
                        true => Ok(()),
                        false => {
                            self.store_one(uids.clone(), StoreMode::Remove, none, others).await
                        }
                    };
                    match (removed, keywords.is_empty()) {
                        (Ok(()), false) => {
                            self.store_one(uids.clone(), StoreMode::Add, none, keywords).await
                        }
                        (removed, _) => removed,
                    }
                }
            };
            if let Err(text) = done {
                return Ok(Err(text));
            }
        }
        self.tell_stored(&uids).await?;
        Ok(Ok("Folder status updated"))
    }

    /// The new flags of messages that were changed here; and of others, where numbers can hold still:
    /// else those wait for NOOP.
    pub(super) async fn tell_stored(&mut self, uids: &[Uid]) -> Result<(), Stop> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let newest = open.mailbox.view();
        let changes = open.mailbox.changes(&newest, &open.view, ModSeq(0)).await;
        let changes = changes.map_err(|_| Stop::Cut("server stops".to_owned()))?;
        if changes.expunged.is_empty() && changes.exists.is_none() {
            open.view = newest;
        }
        let others = changes.flags.into_iter().filter(|uid| uids.binary_search(uid).is_err());
        let told: Vec<Uid> = uids.iter().copied().chain(others).collect();
        self.tell_flags(&told).await
    }

    async fn store_one(
        &mut self,
        uids: Vec<Uid>,
        mode: StoreMode,
        flags: SystemFlags,
        keywords: Vec<protocol::types::Keyword>,
    ) -> Result<(), String> {
        let open = self.open.as_ref().ok_or_else(not_open)?;
        let request = StoreRequest { uids, mode, flags, keywords, unchanged_since: None };
        match open.mailbox.store(request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure("store flags", &error)),
        }
    }

    /// EXPUNGE: the messages of a set whatever their flags, or all that are marked as deleted.
    pub(super) async fn expunge(&mut self, set: &MessageSet) -> Answer {
        let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
        let uids = match set.is_empty() {
            false => open.uids(set),
            true => {
                let all = open.view.all();
                let deleted = all.filter(|(_, record)| record.flags.contains(SystemFlags::DELETED));
                deleted.map(|(_, record)| record.uid).collect()
            }
        };
        if !uids.is_empty()
            && let Err(error) =
                trash::expunge(&self.services, &self.user, &open.mailbox, &open.view, uids, &[])
                    .await
        {
            return Ok(Err(self.failure("expunge messages", &error)));
        }
        self.tell_changes(false).await?;
        Ok(Ok("Folder updated"))
    }

    pub(super) async fn copy(
        &mut self,
        set: &MessageSet,
        folder: &[String],
        moves: bool,
    ) -> Answer {
        let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
        let name = match mailbox_name(folder) {
            Ok(name) => name,
            Err(text) => return Ok(Err(text)),
        };
        let uids = open.uids(set);
        if uids.is_empty() {
            return Ok(Err("no such messages".to_owned()));
        }
        let copied = async {
            let target = self.user.mailbox(&name).await?;
            let private = Some(self.user.name().to_owned());
            let annotations = CarriedAnnotations::Of { shared: true, private };
            let carried = Carried { flags: FlagScope::ALL, annotations };
            open.mailbox.transfer(&open.view, uids, &target, moves, carried).await
        };
        match copied.await {
            Ok(copied) => {
                let validity = copied.uid_validity.0;
                let mut lines = String::new();
                for (from, to) in &copied.pairs {
                    if let Some(seq) = open.view.seq(*from) {
                        let _ = writeln!(lines, "* COPY {seq} \"NEWUID={validity}/{}\"", to.0);
                    }
                }
                self.conn.out.push(lines.as_bytes());
            }
            Err(error) => return Ok(Err(self.failure("copy messages", &error))),
        }
        if moves {
            self.tell_changes(false).await?;
        }
        Ok(Ok("Messages copied"))
    }

    pub(super) async fn search(&mut self, key: &SearchKey) -> Answer {
        let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
        match open.mailbox.search(&open.view, key, Collation::default()).await {
            Ok(found) => {
                let ranges = MessageSet::write(found.iter().map(|(seq, _)| seq.0));
                for some in ranges.chunks(RANGES_PER_LINE) {
                    self.conn.out.push(format!("* SEARCH {}\n", some.join(" ")).as_bytes());
                }
                Ok(Ok("Search completed"))
            }
            Err(error) => Ok(Err(self.failure("search a folder", &error))),
        }
    }
}

/// The flags that SMAP knows, which are all.
const ALL_FLAGS: u8 = SystemFlags::SEEN.0
    | SystemFlags::ANSWERED.0
    | SystemFlags::FLAGGED.0
    | SystemFlags::DELETED.0
    | SystemFlags::DRAFT.0;
