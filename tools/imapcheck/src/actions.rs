//! What a client does next, by chance, and what it demands of the answer.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::session::{Answer, Command, Session, Stop};
use crate::value::{Value, numbers, set};
use crate::view::Wrong;

/// Messages that a mailbox has at most; above it clients remove more than they make.
const MESSAGES_MAX: usize = 400;
/// Messages of one STORE or COPY at most.
const SET_MAX: usize = 12;
const IDLE_MILLISECONDS_MAX: u64 = 30;

impl Session {
    /// One command, or a few that belong together.
    pub(crate) fn step(&mut self) -> Result<(), Stop> {
        self.learn()?;
        let Some(selected) = &self.selected else {
            let mailbox = self.random.usize(..self.shared.mailboxes.len());
            let read_only = self.random.u8(0..10) == 0;
            return self.select(mailbox, read_only);
        };
        let writable = !selected.read_only;
        let crowded = selected.view.messages.len() > MESSAGES_MAX;
        match self.random.u8(0..100) {
            0..14 if !crowded => self.append(),
            0..14 if writable => self.remove(),
            14..38 if writable => self.store(),
            38..44 if writable => self.mark(),
            44..50 if writable => self.remove(),
            50..55 => self.copy(false),
            55..59 if writable => self.copy(true),
            59..67 => self.fetch_contents(),
            67..73 => self.fetch_flags(),
            73..80 => self.search(),
            80..83 => self.status(),
            83..87 => {
                let wait = self.random.u64(1..=IDLE_MILLISECONDS_MAX);
                self.idle(Duration::from_millis(wait))
            }
            87..90 => self.together(),
            90..93 => {
                self.keep_or_close(writable)?;
                Ok(())
            }
            93 => {
                self.drop_connection();
                self.connect()
            }
            _ => self.noop(),
        }
    }

    /// UIDs in the view, by chance.
    fn some(&mut self, most: usize) -> Vec<u32> {
        let Some(uids) = self.selected.as_ref().and_then(|s| s.view.uids()) else { return vec![] };
        if uids.is_empty() {
            return uids;
        }
        let count = self.random.usize(1..=most.min(uids.len()));
        if self.random.bool() {
            // A run, as clients ask for.
            let start = self.random.usize(..=uids.len() - count);
            return uids[start..start + count].to_vec();
        }
        let mut chosen: BTreeSet<u32> = BTreeSet::new();
        for _ in 0..count {
            chosen.insert(uids[self.random.usize(..uids.len())]);
        }
        chosen.into_iter().collect()
    }

    /// Own messages in the view that are alive, by chance.
    fn some_own(&mut self, most: usize) -> Vec<u32> {
        let Some(selected) = &self.selected else { return vec![] };
        let mailbox = selected.mailbox;
        let own = |uid: &u32| self.own.contains(&(mailbox, *uid));
        let mut uids: Vec<u32> = selected.view.uids().unwrap_or_default();
        uids.retain(own);
        self.random.shuffle(&mut uids);
        uids.truncate(self.random.usize(1..=most));
        uids.sort_unstable();
        uids
    }

    /// The set as the command names it: UIDs or sequence numbers.
    fn named(&mut self, uids: &[u32]) -> (&'static str, String, bool) {
        let view = self.selected.as_ref().map(|s| &s.view);
        if let Some(view) = view
            && self.random.u8(0..3) == 0
        {
            let numbered = view.messages.iter().zip(1u32..);
            let of = |uid: Option<u32>| uid.is_some_and(|uid| uids.binary_search(&uid).is_ok());
            let seqs: Vec<u32> =
                numbered.filter(|(message, _)| of(message.uid)).map(|(_, seq)| seq).collect();
            if seqs.len() == uids.len() {
                return ("", set(&seqs), true);
            }
        }
        ("UID ", set(uids), false)
    }

    fn append(&mut self) -> Result<(), Stop> {
        let mailbox = self.random.usize(..self.shared.mailboxes.len());
        let count = if self.has("MULTIAPPEND") { self.random.usize(1..=3) } else { 1 };
        let mut command = format!("APPEND {}", self.shared.mailboxes[mailbox]).into_bytes();
        let (mut markers, mut keyed) = (Vec::new(), Vec::new());
        for _ in 0..count {
            self.made += 1;
            let marker = format!("c{}-{}", self.id, self.made);
            let filling = "All happy families are alike.\r\n".repeat(self.random.usize(1..60));
            let text = format!(
                "From: c{}@example.org\r\nSubject: {marker}\r\nX-Marker: {marker}\r\n\r\n{filling}",
                self.id
            );
            let with_keyword = self.random.bool();
            let flags = if with_keyword { self.keyword() } else { String::new() };
            command.extend(format!(" ({flags}) {{{}+}}\r\n{text}", text.len()).into_bytes());
            markers.push(marker);
            keyed.push(with_keyword);
        }
        let answer = self.command(Command { bytes: command, holds: false })?.ok("APPEND")?;
        let Some([validity, uids]) = answer.code("APPENDUID") else {
            return Err(format!("APPENDUID is missing: {:?}", answer.condition).into());
        };
        let uids = uids.atom().and_then(numbers).unwrap_or_default();
        if uids.len() != count {
            return Err(format!("{count} messages got UIDs {uids:?}").into());
        }
        self.shared.ledger.uid_validity(mailbox, validity.number().unwrap_or(0) as u32)?;
        for ((uid, marker), on) in uids.into_iter().zip(markers).zip(keyed) {
            self.shared.ledger.made(mailbox, uid, &marker)?;
            self.own.insert((mailbox, uid));
            self.keywords.insert((mailbox, uid), on);
        }
        Ok(())
    }

    /// Sets or clears the own keyword, or a system flag that everybody changes.
    fn store(&mut self) -> Result<(), Stop> {
        let uids = self.some(SET_MAX);
        let Some(mailbox) = self.selected.as_ref().map(|s| s.mailbox) else { return Ok(()) };
        if uids.is_empty() {
            return Ok(());
        }
        let (prefix, named, holds) = self.named(&uids);
        let on = self.random.bool();
        let sign = if on { '+' } else { '-' };
        let silent = if self.random.bool() { ".SILENT" } else { "" };
        if self.random.u8(0..4) == 0 {
            let flag = ["\\Seen", "\\Flagged", "\\Answered", "$Junk"][self.random.usize(..4)];
            let command = format!("{prefix}STORE {named} {sign}FLAGS{silent} ({flag})");
            self.command(held(command, holds))?.ok_or_expunged("STORE")?;
            return self.after_silent(silent, &uids);
        }
        let (modifier, since) = self.unchanged_since(&uids);
        let keyword = self.keyword();
        let command = format!("{prefix}STORE {named} {modifier}{sign}FLAGS{silent} ({keyword})");
        self.changing = uids.iter().copied().collect();
        let answer = self.command(held(command, holds));
        self.changing.clear();
        let answer = match answer {
            Ok(answer) => answer,
            Err(stop) => {
                // It may have happened or not.
                self.forget_keywords(mailbox, &uids);
                return Err(stop);
            }
        };
        if answer.condition.word != "OK" {
            self.forget_keywords(mailbox, &uids);
            answer.ok_or_expunged("STORE")?;
            return Ok(());
        }
        let modified = self.modified(&answer, holds)?;
        if since.is_none() && !modified.is_empty() {
            return Err(format!("MODIFIED {modified:?} without UNCHANGEDSINCE").into());
        }
        let mut changed = Vec::new();
        for &uid in uids.iter().filter(|uid| !modified.contains(uid)) {
            // A change that changes nothing needs no MODSEQ.
            if self.keywords.insert((mailbox, uid), on) == Some(!on) {
                changed.push(uid);
            }
        }
        if let Some(since) = since {
            self.check_raised(&changed, since)?;
        }
        self.after_silent(silent, &uids)
    }

    fn forget_keywords(&mut self, mailbox: usize, uids: &[u32]) {
        for &uid in uids {
            self.keywords.remove(&(mailbox, uid));
        }
    }

    /// A third of the conditional ones are bound to fail.
    fn unchanged_since(&mut self, uids: &[u32]) -> (String, Option<u64>) {
        if !self.enabled.condstore || self.random.u8(0..3) > 0 {
            return (String::new(), None);
        }
        let Some(selected) = &self.selected else { return (String::new(), None) };
        let known = uids.iter().filter_map(|&uid| Some(selected.view.find(uid)?.modseq));
        let Some(most) = known.max().filter(|&most| most > 1) else { return (String::new(), None) };
        let since = if self.random.u8(0..3) == 0 { most - 1 } else { most };
        (format!("(UNCHANGEDSINCE {since}) "), Some(since))
    }

    /// The UIDs of MODIFIED, which names messages as the command did.
    fn modified(&self, answer: &Answer, by_sequence: bool) -> Result<BTreeSet<u32>, Wrong> {
        let Some(arguments) = answer.condition.code("MODIFIED") else { return Ok(BTreeSet::new()) };
        let named = arguments.first().and_then(Value::atom).and_then(numbers);
        let named = named.ok_or_else(|| format!("MODIFIED names no set: {arguments:?}"))?;
        if !by_sequence {
            return Ok(named.into_iter().collect());
        }
        let view = self.selected.as_ref().map(|s| &s.view);
        let uid_of = |seq: u32| view?.messages.get(seq.checked_sub(1)? as usize)?.uid;
        let uids: Option<BTreeSet<u32>> = named.iter().map(|&seq| uid_of(seq)).collect();
        uids.ok_or_else(|| format!("MODIFIED {named:?} is beyond the view"))
    }

    /// What a conditional STORE has changed has a newer MODSEQ, if it is there at all.
    fn check_raised(&mut self, uids: &[u32], since: u64) -> Result<(), Stop> {
        let Some(selected) = &self.selected else { return Ok(()) };
        for &uid in uids {
            if let Some(message) = selected.view.find(uid)
                && message.modseq != 0
                && message.modseq <= since
                && self.shared.ledger.is_alive(selected.mailbox, uid)
            {
                let modseq = message.modseq;
                return Err(
                    format!("UID {uid}: STORE gave no MODSEQ above {since}: {modseq}").into()
                );
            }
        }
        Ok(())
    }

    /// A silent STORE leaves the client to know the flags by itself; here it asks.
    fn after_silent(&mut self, silent: &str, uids: &[u32]) -> Result<(), Stop> {
        if silent.is_empty() {
            return Ok(());
        }
        self.command(Command::new(format!("UID FETCH {} (FLAGS)", set(uids))))?
            .ok_or_expunged("UID FETCH")?;
        Ok(())
    }

    /// Marks own messages as deleted.
    fn mark(&mut self) -> Result<(), Stop> {
        let uids = self.some_own(3);
        let Some(mailbox) = self.selected.as_ref().map(|s| s.mailbox) else { return Ok(()) };
        if uids.is_empty() {
            return Ok(());
        }
        for &uid in &uids {
            self.shared.ledger.doom(mailbox, uid);
            self.own.remove(&(mailbox, uid));
        }
        let (prefix, named, holds) = self.named(&uids);
        let command = format!("{prefix}STORE {named} +FLAGS (\\Deleted)");
        if self.command(held(command, holds))?.ok_or_expunged("STORE")?.is_some() {
            self.marked.extend(uids.iter().map(|&uid| (mailbox, uid)));
        }
        Ok(())
    }

    /// EXPUNGE, or UID EXPUNGE of what this client has marked.
    fn remove(&mut self) -> Result<(), Stop> {
        let Some(mailbox) = self.selected.as_ref().map(|s| s.mailbox) else { return Ok(()) };
        let marked = self.marked_in(mailbox);
        let by_uid = self.has("UIDPLUS") && self.random.bool();
        if by_uid && marked.is_empty() {
            return self.mark();
        }
        let command =
            if by_uid { format!("UID EXPUNGE {}", set(&marked)) } else { "EXPUNGE".to_owned() };
        self.command(Command::new(&command))?.ok(&command)?;
        self.removed(mailbox, &marked);
        if let Some(view) = self.selected.as_ref().map(|s| &s.view)
            && let Some(uid) = marked.iter().find(|&&uid| view.find(uid).is_some())
        {
            return Err(format!("UID {uid} is still in the view after {command}").into());
        }
        Ok(())
    }

    /// UIDs that this client has marked, ascending.
    fn marked_in(&self, mailbox: usize) -> Vec<u32> {
        let all = (mailbox, 0)..=(mailbox, u32::MAX);
        self.marked.range(all).map(|&(_, uid)| uid).collect()
    }

    fn removed(&mut self, mailbox: usize, uids: &[u32]) {
        for &uid in uids {
            self.shared.ledger.gone(mailbox, uid);
            self.marked.remove(&(mailbox, uid));
            self.keywords.remove(&(mailbox, uid));
        }
    }

    /// COPY or MOVE of own messages.
    fn copy(&mut self, moves: bool) -> Result<(), Stop> {
        let uids = self.some_own(SET_MAX);
        let Some(from) = self.selected.as_ref().map(|s| s.mailbox) else { return Ok(()) };
        let to = self.random.usize(..self.shared.mailboxes.len());
        if uids.is_empty() || to == from || moves && !self.has("MOVE") {
            return Ok(());
        }
        if moves {
            for &uid in &uids {
                self.shared.ledger.doom(from, uid);
                self.own.remove(&(from, uid));
            }
        }
        let (prefix, named, _) = self.named(&uids);
        let verb = if moves { "MOVE" } else { "COPY" };
        let command = format!("{prefix}{verb} {named} {}", self.shared.mailboxes[to]);
        let Some(answer) = self.command(Command::new(&command))?.ok_or_expunged(&command)? else {
            return Ok(());
        };
        let Some([validity, sources, copies]) = answer.code("COPYUID") else {
            return Err(format!("{command}: COPYUID is missing: {:?}", answer.condition).into());
        };
        self.shared.ledger.uid_validity(to, validity.number().unwrap_or(0) as u32)?;
        let sources = sources.atom().and_then(numbers).unwrap_or_default();
        let copies = copies.atom().and_then(numbers).unwrap_or_default();
        if sources.len() != copies.len() || sources != uids {
            return Err(format!("{command} of {uids:?}: COPYUID {sources:?} {copies:?}").into());
        }
        for (source, copy) in sources.into_iter().zip(copies) {
            let marker = self.shared.ledger.marker(from, source).unwrap_or_default();
            self.shared.ledger.made(to, copy, &marker)?;
            self.own.insert((to, copy));
            if let Some(&on) = self.keywords.get(&(from, source)) {
                self.keywords.insert((to, copy), on);
            }
            if moves {
                self.removed(from, &[source]);
                if self.selected.as_ref().is_some_and(|s| s.view.find(source).is_some()) {
                    return Err(format!("UID {source} is still in the view after MOVE").into());
                }
            }
        }
        Ok(())
    }

    /// Headers and sizes: contents never change, and UIDs name the same message for ever.
    fn fetch_contents(&mut self) -> Result<(), Stop> {
        let uids = self.some(SET_MAX);
        if uids.is_empty() {
            return Ok(());
        }
        let (prefix, named, holds) = self.named(&uids);
        let items = "(UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (X-Marker)])";
        self.command(held(format!("{prefix}FETCH {named} {items}"), holds))?
            .ok_or_expunged("FETCH")?;
        Ok(())
    }

    fn fetch_flags(&mut self) -> Result<(), Stop> {
        let uids = self.some(SET_MAX * 4);
        let synced = self.selected.as_ref().map_or(0, |s| s.synced);
        if uids.is_empty() {
            return Ok(());
        }
        let (prefix, named, holds) = self.named(&uids);
        if self.enabled.condstore && synced > 0 && self.random.bool() {
            let vanished = if self.enabled.qresync && prefix == "UID " { " VANISHED" } else { "" };
            let command =
                format!("{prefix}FETCH {named} (FLAGS) (CHANGEDSINCE {synced}{vanished})");
            let answer = self.command(held(command, holds))?.ok_or_expunged("FETCH")?;
            let told = answer.iter().flat_map(|a| &a.data).filter(|v| v[0].is("VANISHED"));
            let sets = told.filter_map(|v| v.get(2)?.atom().and_then(numbers));
            let there = self.selected.as_ref().and_then(|s| s.view.uids()).unwrap_or_default();
            let alive = sets.flatten().find(|uid| {
                there.binary_search(uid).is_ok()
                    && self
                        .selected
                        .as_ref()
                        .is_some_and(|s| self.shared.ledger.is_alive(s.mailbox, *uid))
            });
            if let Some(uid) = alive {
                return Err(format!("VANISHED (EARLIER) {uid}, which is there").into());
            }
            return Ok(());
        }
        let modseq = if self.enabled.condstore && self.random.bool() { " MODSEQ" } else { "" };
        self.command(held(format!("{prefix}FETCH {named} (UID FLAGS{modseq})"), holds))?
            .ok_or_expunged("FETCH")?;
        Ok(())
    }

    /// SEARCH for the own keyword, which nobody else changes, and for everything.
    fn search(&mut self) -> Result<(), Stop> {
        let Some(selected) = &self.selected else { return Ok(()) };
        let mailbox = selected.mailbox;
        let Some(before) = selected.view.uids() else { return Ok(()) };
        let keyword = self.keyword();
        if self.random.bool() {
            let by_uid = self.random.bool();
            let prefix = if by_uid { "UID " } else { "" };
            let command = held(format!("{prefix}SEARCH KEYWORD {keyword}"), !by_uid);
            let mut found = self.command(command)?.ok("SEARCH")?.search()?;
            if !by_uid {
                let beyond = found.iter().find(|&&seq| seq as usize > before.len());
                if let Some(seq) = beyond {
                    return Err(format!("SEARCH gave {seq} of {}", before.len()).into());
                }
                found = found.into_iter().map(|seq| before[seq as usize - 1]).collect();
            }
            for uid in before {
                let known = self.keywords.get(&(mailbox, uid)).copied();
                let there = self.shared.ledger.is_alive(mailbox, uid);
                if let Some(on) = known
                    && there
                    && found.contains(&uid) != on
                {
                    return Err(format!("SEARCH KEYWORD {keyword} is wrong about UID {uid}").into());
                }
            }
            return Ok(());
        }
        let found = self.command(Command::new("UID SEARCH ALL"))?.ok("SEARCH")?.search()?;
        let after: BTreeSet<u32> = self
            .selected
            .iter()
            .flat_map(|s| s.view.messages.iter().filter_map(|m| m.uid))
            .collect();
        let missing = before.iter().find(|uid| after.contains(uid) && !found.contains(uid));
        if let Some(uid) = missing {
            return Err(format!("SEARCH ALL lacks UID {uid}").into());
        }
        Ok(())
    }

    fn status(&mut self) -> Result<(), Stop> {
        let mailbox = self.random.usize(..self.shared.mailboxes.len());
        let (modseq, uid_next) = self.shared.ledger.floor(mailbox);
        let alive = self.shared.ledger.alive(mailbox);
        let items = if self.has("CONDSTORE") { " HIGHESTMODSEQ" } else { "" };
        let name = &self.shared.mailboxes[mailbox];
        let command = format!("STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN{items})");
        if !items.is_empty() {
            self.enabled.condstore = true;
        }
        let answer = self.command(Command::new(&command))?.ok(&command)?;
        let list = answer.data.iter().find(|values| values[0].is("STATUS"));
        let list = list.and_then(|values| values.last()?.list());
        let list = list.ok_or_else(|| format!("{command} gave no STATUS"))?;
        let item = |name: &str| {
            list.chunks_exact(2).find(|pair| pair[0].is(name)).and_then(|pair| pair[1].number())
        };
        let (Some(messages), Some(next), Some(validity)) =
            (item("MESSAGES"), item("UIDNEXT"), item("UIDVALIDITY"))
        else {
            return Err(format!("{command} lacks items: {list:?}").into());
        };
        self.shared.ledger.uid_validity(mailbox, validity as u32)?;
        let highest = item("HIGHESTMODSEQ").unwrap_or(0);
        if next < u64::from(uid_next) || highest != 0 && highest < modseq {
            return Err(format!(
                "STATUS: UIDNEXT {next} after {uid_next}, HIGHESTMODSEQ {highest} after {modseq}"
            )
            .into());
        }
        self.shared.ledger.raise(mailbox, highest, next as u32);
        let still = alive.iter().filter(|&&uid| self.shared.ledger.is_alive(mailbox, uid)).count();
        if (messages as usize) < still {
            return Err(format!("STATUS counts {messages} messages, {still} are there").into());
        }
        Ok(())
    }

    /// Several commands in one packet.
    fn together(&mut self) -> Result<(), Stop> {
        let uids = self.some(SET_MAX);
        if uids.is_empty() {
            return Ok(());
        }
        let named = set(&uids);
        let commands = vec![
            Command::new(format!("UID FETCH {named} (FLAGS)")),
            Command::new("NOOP"),
            Command::new(format!("UID FETCH {named} (UID BODY.PEEK[HEADER.FIELDS (X-Marker)])")),
            Command::new("UID SEARCH UNSEEN"),
            Command::new("CHECK"),
        ];
        for answer in self.pipeline(commands)? {
            answer.ok_or_expunged("a pipelined command")?;
        }
        Ok(())
    }

    /// Leaves the mailbox by CLOSE, UNSELECT or another SELECT.
    fn keep_or_close(&mut self, writable: bool) -> Result<(), Stop> {
        let Some(mailbox) = self.selected.as_ref().map(|s| s.mailbox) else { return Ok(()) };
        match self.random.u8(0..3) {
            0 if writable => {
                let marked = self.marked_in(mailbox);
                // What CLOSE expunges is not told, so the cache would have to be asked again.
                self.selected = None;
                self.command(Command::new("CLOSE"))?.ok("CLOSE")?;
                self.removed(mailbox, &marked);
            }
            1 if self.has("UNSELECT") => {
                self.keep_cache();
                self.command(Command::new("UNSELECT"))?.ok("UNSELECT")?;
            }
            _ => {
                let mailbox = self.random.usize(..self.shared.mailboxes.len());
                self.select(mailbox, false)?;
            }
        }
        Ok(())
    }
}

fn held(text: String, holds: bool) -> Command {
    if holds { Command::holding(text) } else { Command::new(text) }
}
