//! What a store holds after a cut, against what the ledger says it must.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use crate::ledger::{
    Certainty, Flags, FolderId, ID_HEADER, InstanceId, Ledger, OperationId, message_text,
};
use crate::server::{IMAP_PORT, LMTP_PORT, PASSWORD, USERS};
use crate::wire::{Imap, Lmtp};

/// A message as a client sees it.
#[derive(Debug)]
struct Seen {
    uid: u32,
    message: u64,
    flags: Flags,
}

/// A mailbox as a client sees it.
#[derive(Debug)]
struct SeenFolder {
    validity: u32,
    uidnext: u32,
    messages: Vec<Seen>,
}

/// What a cut's check counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Messages that had been acknowledged and were found.
    pub(crate) acknowledged: usize,
    /// Of what was under way: found.
    pub(crate) under_way: usize,
}

/// Compares the running store with `ledger` as of `cut`. Hands back what is wrong, a line each.
pub(crate) fn verify(ledger: &Ledger, cut: usize, seed: u64) -> io::Result<(Counts, Vec<String>)> {
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<(usize, String), SeenFolder> = BTreeMap::new();
    for (number, user) in USERS.iter().enumerate() {
        let mut imap = Imap::login(IMAP_PORT, user, PASSWORD)?;
        let listing = imap.run("LIST \"\" *")?;
        for one in &listing.untagged {
            let Some(name) =
                one.text.strip_prefix("LIST ").and_then(|_| one.text.rsplit(' ').next())
            else {
                continue;
            };
            if one.text.contains("\\Noselect") || one.text.contains("\\NonExistent") {
                continue;
            }
            let name = name.trim_matches('"').to_owned();
            let folder = read_folder(&mut imap, user, &name, seed, &mut wrong)?;
            seen.insert((number, name), folder);
        }
    }
    let mut matching =
        Matching { ledger, cut, found: BTreeSet::new(), wrong, counts: Counts::default() };
    let mut names: HashMap<(usize, &str), FolderId> = HashMap::new();
    for (place, folder) in ledger.folders.iter().enumerate() {
        for name in ledger.names_possible(FolderId(place), cut) {
            names.insert((folder.user, name), FolderId(place));
        }
    }
    let mut present: BTreeMap<FolderId, &str> = BTreeMap::new();
    for ((user, name), contents) in &seen {
        let Some(folder) = names.get(&(*user, name.as_str())) else {
            matching.wrong.push(format!("{}: {name} must not exist", USERS[*user]));
            continue;
        };
        if let Some(other) = present.insert(*folder, name) {
            matching.wrong.push(format!("{}: {name} is also there as {other}", USERS[*user]));
        }
        matching.folder(*folder, name, contents);
    }
    matching.absent_folders(&present);
    matching.whole_operations(&present);
    let Matching { mut wrong, counts, .. } = matching;
    go_on(ledger, cut, &seen, &names, &mut wrong)?;
    Ok((counts, wrong))
}

fn read_folder(
    imap: &mut Imap,
    user: &str,
    name: &str,
    seed: u64,
    wrong: &mut Vec<String>,
) -> io::Result<SeenFolder> {
    let selected = imap.run(&format!("SELECT \"{name}\""))?;
    let number = |code: &str| {
        selected
            .code(code)
            .and_then(|words| words[0].parse().ok())
            .ok_or_else(|| io::Error::other(format!("{user}: SELECT {name} without {code}")))
    };
    let mut folder = SeenFolder {
        validity: number("UIDVALIDITY")?,
        uidnext: number("UIDNEXT")?,
        messages: Vec::new(),
    };
    let answer = imap.command(b"UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[])")?;
    if !answer.status.starts_with("OK") {
        wrong.push(format!("{user}: {name}: FETCH answered {}", answer.status));
    }
    for one in answer.untagged.iter().filter(|one| one.text.contains(" FETCH (")) {
        let uid = one.after("UID ").and_then(|uid| uid.parse().ok()).unwrap_or(0);
        let text = one.literals.first().map_or(&[][..], Vec::as_slice);
        if one.after("RFC822.SIZE ") != Some(text.len().to_string().as_str()) {
            wrong.push(format!("{user}: {name}: UID {uid} has another size than RFC822.SIZE"));
        }
        match identify(text, seed) {
            Ok(message) => folder.messages.push(Seen {
                uid,
                message,
                flags: Flags::parse(&one.list("FLAGS ").unwrap_or_default()),
            }),
            Err(why) => wrong.push(format!("{user}: {name}: UID {uid}: {why}")),
        }
    }
    Ok(folder)
}

/// Which message `text` is, if it is that one byte for byte. Delivery puts header lines before it.
fn identify(text: &[u8], seed: u64) -> Result<u64, String> {
    let printable = || String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
    let at = text
        .windows(ID_HEADER.len())
        .position(|window| window == ID_HEADER.as_bytes())
        .ok_or_else(|| format!("{} bytes of no message of ours: {:?}", text.len(), printable()))?;
    let id: u64 = text[at + ID_HEADER.len()..]
        .split(|byte| *byte == b'\r')
        .next()
        .and_then(|number| std::str::from_utf8(number).ok()?.parse().ok())
        .ok_or_else(|| format!("its id can't be read: {:?}", printable()))?;
    let expected = message_text(seed, id);
    let Some(added) = text.strip_suffix(expected.as_slice()) else {
        return Err(format!(
            "message {id} is damaged: {} bytes, {} expected",
            text.len(),
            expected.len()
        ));
    };
    let names = ["Return-Path:", "Received:", "Delivered-To:", "\t", " "];
    for line in String::from_utf8_lossy(added).lines() {
        if !names.iter().any(|name| line.starts_with(name)) {
            return Err(format!("message {id} has {line:?} before it"));
        }
    }
    Ok(id)
}

struct Matching<'a> {
    ledger: &'a Ledger,
    cut: usize,
    found: BTreeSet<InstanceId>,
    wrong: Vec<String>,
    counts: Counts,
}

impl Matching<'_> {
    fn at(&self, operation: OperationId) -> Certainty {
        self.ledger.certainty(operation, self.cut)
    }

    /// Whether an instance must, may or must not be in its folder, if the folder is there.
    fn instance(&self, id: InstanceId) -> Certainty {
        let one = &self.ledger.instances[id.0];
        let gone = one.gone.map_or(Certainty::Never, |gone| self.at(gone));
        match (self.at(one.made), gone) {
            (Certainty::Never, _) | (_, Certainty::Sure) => Certainty::Never,
            (Certainty::Sure, Certainty::Never) => Certainty::Sure,
            _ => Certainty::Unsure,
        }
    }

    fn known_uid(&self, id: InstanceId) -> Option<u32> {
        self.ledger.instances[id.0].uid.filter(|(_, since)| *since <= self.cut).map(|(uid, _)| uid)
    }

    fn folder(&mut self, folder: FolderId, name: &str, contents: &SeenFolder) {
        let ledger = self.ledger;
        let user = USERS[ledger.folders[folder.0].user];
        if let Some((validity, since)) = ledger.folders[folder.0].validity
            && since <= self.cut
            && validity != contents.validity
        {
            self.wrong.push(format!(
                "{user}: {name}: UIDVALIDITY {validity} became {}",
                contents.validity
            ));
        }
        if ledger.folders[folder.0].deleted.is_some_and(|gone| self.at(gone) == Certainty::Sure) {
            self.wrong.push(format!("{user}: {name} had been deleted"));
        }
        let candidates: Vec<InstanceId> = (0..ledger.instances.len())
            .map(InstanceId)
            .filter(|id| ledger.instances[id.0].folder == folder)
            .filter(|id| self.at(ledger.instances[id.0].made) != Certainty::Never)
            .collect();
        for one in &contents.messages {
            let by_uid = candidates.iter().find(|id| self.known_uid(**id) == Some(one.uid));
            let by_message = || {
                candidates.iter().find(|id| {
                    self.known_uid(**id).is_none()
                        && ledger.instances[id.0].message == one.message
                        && !self.found.contains(id)
                })
            };
            let Some(id) = by_uid.or_else(by_message).copied() else {
                self.wrong.push(format!(
                    "{user}: {name}: UID {} is message {}, which nobody put there under it, or twice",
                    one.uid, one.message
                ));
                continue;
            };
            let instance = &ledger.instances[id.0];
            if instance.message != one.message {
                self.wrong.push(format!(
                    "{user}: {name}: UID {} was message {} and is {}",
                    one.uid, instance.message, one.message
                ));
                continue;
            }
            if !self.found.insert(id) {
                self.wrong.push(format!("{user}: {name}: UID {} is there twice", one.uid));
            }
            match self.instance(id) {
                Certainty::Sure => self.counts.acknowledged += 1,
                Certainty::Unsure => self.counts.under_way += 1,
                Certainty::Never => self.wrong.push(format!(
                    "{user}: {name}: UID {} (message {}) is back, removed by {:?}",
                    one.uid,
                    one.message,
                    instance.gone.map(|gone| ledger.operation(gone))
                )),
            }
            let possible = ledger.flags_possible(id, self.cut);
            if !possible.contains(&one.flags) {
                let expected: Vec<String> = possible.iter().map(Flags::to_string).collect();
                self.wrong.push(format!(
                    "{user}: {name}: UID {} has flags {}, not {}",
                    one.uid,
                    one.flags,
                    expected.join(" or ")
                ));
            }
        }
        for id in candidates {
            if self.instance(id) == Certainty::Sure && !self.found.contains(&id) {
                let instance = &ledger.instances[id.0];
                self.wrong.push(format!(
                    "{user}: {name}: LOST message {}, UID {:?}, acknowledged by {:?}",
                    instance.message,
                    self.known_uid(id),
                    ledger.operation(instance.made)
                ));
            }
        }
    }

    /// Folders that must be there and aren't.
    fn absent_folders(&mut self, present: &BTreeMap<FolderId, &str>) {
        for (place, folder) in self.ledger.folders.iter().enumerate() {
            let made = self.at(folder.names[0].0) == Certainty::Sure;
            let kept = folder.deleted.is_none_or(|gone| self.at(gone) == Certainty::Never);
            if made && kept && !present.contains_key(&FolderId(place)) {
                self.wrong.push(format!(
                    "{}: LOST mailbox {}",
                    USERS[folder.user],
                    self.ledger.names_possible(FolderId(place), self.cut).join(" or ")
                ));
            }
        }
    }

    /// Operations under way that show all of themselves or nothing, or else are half done.
    fn whole_operations(&mut self, present: &BTreeMap<FolderId, &str>) {
        let ledger = self.ledger;
        for id in ledger.operation_ids() {
            let operation = ledger.operation(id);
            if operation.at(self.cut) != Certainty::Unsure || !operation.whole {
                continue;
            }
            // True for each part that shows the state after the operation.
            let mut after: Vec<bool> = Vec::new();
            for (place, one) in ledger.instances.iter().enumerate() {
                let found = self.found.contains(&InstanceId(place));
                if one.made == id {
                    after.push(found);
                }
                if one.gone == Some(id) {
                    after.push(!found);
                }
            }
            for (place, folder) in ledger.folders.iter().enumerate() {
                for (renamed, name) in &folder.names[1..] {
                    if *renamed == id {
                        after.push(present.get(&FolderId(place)) == Some(&name.as_str()));
                    }
                }
            }
            if after.contains(&true) && after.contains(&false) {
                self.wrong.push(format!("half done: {operation:?}: {after:?}"));
            }
        }
    }
}

/// New mail arrives, and under UIDs that nobody has heard of.
fn go_on(
    ledger: &Ledger,
    cut: usize,
    seen: &BTreeMap<(usize, String), SeenFolder>,
    names: &HashMap<(usize, &str), FolderId>,
    wrong: &mut Vec<String>,
) -> io::Result<()> {
    let mut lmtp = Lmtp::connect(LMTP_PORT)?;
    for reply in lmtp.deliver(&USERS, b"Subject: after the cut\r\n\r\nstill here\r\n")? {
        if !reply.starts_with("250") {
            wrong.push(format!("delivery after the cut: {reply}"));
        }
    }
    for (number, user) in USERS.iter().enumerate() {
        let mut imap = Imap::login(IMAP_PORT, user, PASSWORD)?;
        for ((_, name), contents) in seen.iter().filter(|((owner, _), _)| *owner == number) {
            let known = names.get(&(number, name.as_str())).map_or(0, |folder| {
                let told = ledger.instances.iter().filter(|one| one.folder == *folder);
                told.filter_map(|one| one.uid)
                    .filter(|(_, since)| *since <= cut)
                    .map(|(uid, _)| uid)
                    .max()
                    .unwrap_or(0)
            });
            let shown = contents.messages.iter().map(|one| one.uid).max().unwrap_or(0);
            if contents.uidnext <= known.max(shown) {
                wrong.push(format!(
                    "{user}: {name}: UIDNEXT {} after UID {known}",
                    contents.uidnext
                ));
            }
            let answer = imap
                .command(format!("APPEND \"{name}\" {{13+}}\r\nSubject: on\r\n\r\n").as_bytes())?;
            let uid = answer.code("APPENDUID").and_then(|words| words[1].parse::<u32>().ok());
            match uid {
                Some(uid) if uid > known.max(shown) && uid >= contents.uidnext => {}
                other => wrong.push(format!(
                    "{user}: {name}: a new message got UID {other:?} after {}: {}",
                    known.max(shown),
                    answer.status
                )),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_only_when_whole() {
        let text = message_text(3, 17);
        assert_eq!(identify(&text, 3), Ok(17));
        let delivered =
            [b"Return-Path: <a@b>\r\nReceived: x\r\n\ty\r\n".as_slice(), &text].concat();
        assert_eq!(identify(&delivered, 3), Ok(17));
        assert!(identify(&text[..text.len() - 1], 3).is_err());
        let mut flipped = text.clone();
        flipped[text.len() - 9] ^= 1;
        assert!(identify(&flipped, 3).is_err());
        assert!(identify(&[b"half a message".as_slice(), &text].concat(), 3).is_err());
        assert!(identify(&vec![0; 4096], 3).is_err());
    }
}
