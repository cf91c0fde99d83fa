//! Random operations on the store and, as another program, on its Maildir.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine::io::{Open, Storage};
use engine::{Delivery, Error, Mailbox, Result, StoreMode, StoreRequest, Target};
use protocol::types::{Keyword, SystemFlags, Uid};

use crate::bench::{Bench, USERS, maildir_of, text};
use crate::model::{Effect, Msg, Place};

/// Names that mailboxes get.
const NAMES: [&str; 7] = ["A", "A/B", "A/B/C", "D", "E/F", "E", "G"];
const KEYWORDS: [&str; 4] = ["$Label", "work", "$Forwarded", "x"];
/// Letters of Maildir names and their flags.
const LETTERS: [(char, u8); 5] = [('D', 16), ('F', 4), ('R', 2), ('S', 1), ('T', 8)];

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }

    /// Some of them; often few.
    fn some<T: Clone>(&mut self, from: &[T]) -> Vec<T> {
        let of = 1 + self.below(5);
        from.iter().filter(|_| self.below(of) == 0).cloned().collect()
    }

    fn flags(&mut self) -> u8 {
        (self.next() & self.next() & 31) as u8
    }
}

/// What an operation said.
#[derive(Default)]
pub struct Outcome {
    what: String,
    error: Option<Error>,
    /// Happened, in this order.
    pub sure: Vec<Effect>,
    /// Each may have happened, in this order.
    pub unsure: Vec<Effect>,
}

impl Outcome {
    pub fn text(&self) -> String {
        let Outcome { what, error, sure, unsure } = self;
        match error {
            None => format!("{what}: {sure:?} {unsure:?}"),
            Some(error) => format!("{what} FAILED {error}: {sure:?} {unsure:?}"),
        }
    }

    fn of<T>(what: &str, result: Result<T>, effect: impl FnOnce(Option<T>) -> Effect) -> Outcome {
        let mut outcome = Outcome { what: what.into(), ..Outcome::default() };
        match result {
            Ok(value) => outcome.sure.push(effect(Some(value))),
            // Refused: nothing was begun.
            Err(
                Error::NoSuchMailbox | Error::MailboxExists | Error::NotAllowed(_) | Error::Name(_),
            ) => {}
            Err(error) => {
                outcome.error = Some(error);
                outcome.unsure.push(effect(None));
            }
        }
        outcome
    }

    fn nothing(what: &str, error: Option<Error>) -> Outcome {
        Outcome { what: what.into(), error, ..Outcome::default() }
    }
}

fn place(bench: &Bench, random: &mut Random) -> Result<Place> {
    let (user, _) = USERS[random.below(2) as usize];
    let namespace = bench.user(user)?.namespace();
    let names: Vec<String> = namespace.mailboxes.keys().cloned().collect();
    // INBOX is where most happens.
    let name = match random.below(3) {
        0 => "INBOX".to_owned(),
        _ => random.pick(&names).cloned().unwrap_or_else(|| "INBOX".into()),
    };
    Ok((user.to_owned(), name))
}

fn uids(mailbox: &Mailbox) -> Vec<u32> {
    mailbox.view().uids().map(|(_, uid)| uid.0).collect()
}

fn keywords(random: &mut Random) -> BTreeSet<String> {
    random.some(&KEYWORDS).into_iter().map(str::to_owned).collect()
}

fn given(keywords: &BTreeSet<String>) -> Vec<Keyword> {
    keywords.iter().filter_map(|k| Keyword::new(k)).collect()
}

/// One random operation.
pub fn step(bench: &mut Bench, random: &mut Random, token: &mut u32) -> Outcome {
    let kind = random.below(29);
    let done = match kind {
        0..=6 => append(bench, random, token),
        7 => append_many(bench, random, token),
        8 => append_all(bench, random, token),
        9..=11 => store(bench, random),
        12..=13 => expunge(bench, random),
        14..=15 => transfer(bench, random, false),
        16..=17 => transfer(bench, random, true),
        18..=19 => create(bench, random),
        20 => delete(bench, random),
        21 => rename(bench, random),
        22 => subscribe(bench, random),
        23 => Ok(Outcome::nothing("checkpoint", bench.result(bench.store.checkpoint()).err())),
        24..=25 => foreign_delivery(bench, random, token),
        26 => foreign_flags(bench, random),
        27 => change_partition(bench, random),
        _ => foreign_removal(bench, random),
    };
    done.unwrap_or_else(|error| Outcome::nothing("did not begin", Some(error)))
}

/// A mailbox of the user whom no other program disturbs goes to the other partition, or back.
fn change_partition(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let user = bench.user("bob")?;
    let namespace = user.namespace();
    let at = random.below(namespace.mailboxes.len() as u64) as usize;
    let Some((name, entry)) = namespace.mailboxes.iter().nth(at) else {
        return Err(Error::NoSuchMailbox);
    };
    let to = if entry.partition == "cyrus" { "maildir" } else { "cyrus" };
    let moved = bench.result(user.change_partition(name, to));
    Ok(Outcome::nothing("change partition", moved.err()))
}

fn target(bench: &Bench, random: &mut Random, at: &Place, token: u32) -> Result<(Target, Msg)> {
    let keywords = keywords(random);
    let flags = random.flags();
    let target = Target {
        user: bench.user(&at.0)?,
        mailbox: bench.mailbox(at)?,
        flags: SystemFlags(flags),
        keywords: given(&keywords),
        internal_date: Some(1_700_000_000 + i64::from(token)),
        annotations: vec![],
    };
    Ok((target, Msg { token, flags, keywords }))
}

fn take(token: &mut u32) -> u32 {
    *token += 1;
    *token
}

async fn streamed(bench: &Bench, targets: Vec<Target>, token: u32) -> Result<Delivery> {
    let mut delivery = Delivery::new(&bench.store, bench.lane(), targets)?;
    delivery.write(text(token).as_bytes()).await?;
    Ok(delivery)
}

fn append(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Outcome> {
    let at = place(bench, random)?;
    let (target, message) = target(bench, random, &at, take(token))?;
    let result = bench.result(async {
        streamed(bench, vec![target], message.token).await?.commit().await.remove(0)
    });
    Ok(Outcome::of("append", result, |appended| {
        let uid = appended.map(|a| a.uid.0);
        Effect::Append { at, messages: vec![(uid, message)] }
    }))
}

/// One message for several mailboxes, of both users: a transaction for each.
fn append_many(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Outcome> {
    let token = take(token);
    let (mut targets, mut each) = (Vec::new(), Vec::new());
    for _ in 0..1 + random.below(4) {
        let at = place(bench, random)?;
        let (target, message) = target(bench, random, &at, token)?;
        targets.push(target);
        each.push((at, message));
    }
    let results = bench.wait(async {
        match streamed(bench, targets, token).await {
            Ok(delivery) => delivery.commit().await,
            Err(error) => each.iter().map(|_| Err(error.clone())).collect(),
        }
    });
    let results = results.unwrap_or_else(|| each.iter().map(|_| Err(Error::Closing)).collect());
    let mut outcome = Outcome::nothing("append to many", None);
    for ((at, message), result) in each.into_iter().zip(results) {
        let uid = result.as_ref().ok().map(|a| a.uid.0);
        let effect = Effect::Append { at, messages: vec![(uid, message)] };
        match result {
            Ok(_) => outcome.sure.push(effect),
            Err(error) => {
                outcome.error = Some(error);
                outcome.unsure.push(effect);
            }
        }
    }
    Ok(outcome)
}

/// MULTIAPPEND.
fn append_all(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Outcome> {
    let at = place(bench, random)?;
    let mut each = Vec::new();
    for _ in 0..2 + random.below(3) {
        each.push(target(bench, random, &at, take(token))?);
    }
    let messages: Vec<Msg> = each.iter().map(|(_, message)| message.clone()).collect();
    let result = bench.result(async {
        let mut deliveries = Vec::new();
        for (target, message) in each {
            deliveries.push(streamed(bench, vec![target], message.token).await?);
        }
        Delivery::commit_all(deliveries).await
    });
    Ok(Outcome::of("multiappend", result, |appended| {
        let uids: Vec<Option<u32>> = match appended {
            Some(appended) => appended.iter().map(|a| Some(a.uid.0)).collect(),
            None => vec![None; messages.len()],
        };
        Effect::Append { at, messages: uids.into_iter().zip(messages).collect() }
    }))
}

fn store(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let at = place(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let uids = random.some(&uids(&mailbox));
    let mode = [StoreMode::Replace, StoreMode::Add, StoreMode::Remove][random.below(3) as usize];
    let (flags, keywords) = (random.flags(), keywords(random));
    let request = StoreRequest {
        uids: uids.iter().map(|u| Uid(*u)).collect(),
        mode,
        flags: SystemFlags(flags),
        keywords: given(&keywords),
        unchanged_since: None,
    };
    if random.below(3) == 0 {
        // Answered before it is durable: until somebody looks, a crash may undo it.
        let result = bench.result(mailbox.store_early(request));
        let is_durable = result.as_ref().is_ok_and(|outcome| outcome.answered.is_none());
        let effect = |_| Effect::Flags { at, uids, mode, flags, keywords };
        let mut outcome = Outcome::of("store early", result, effect);
        if !is_durable {
            outcome.unsure.append(&mut outcome.sure);
        }
        return Ok(outcome);
    }
    let result = bench.result(mailbox.store(request));
    Ok(Outcome::of("store", result, |_| Effect::Flags { at, uids, mode, flags, keywords }))
}

fn expunge(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let at = place(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let uids = random.some(&uids(&mailbox));
    let doomed = uids.iter().map(|u| Uid(*u)).collect();
    let result = bench.result(mailbox.expunge(&mailbox.view(), doomed));
    Ok(Outcome::of("expunge", result, |_| Effect::Expunge { at, uids }))
}

fn transfer(bench: &Bench, random: &mut Random, remove: bool) -> Result<Outcome> {
    let (from, to) = (place(bench, random)?, place(bench, random)?);
    let (source, target) = (bench.mailbox(&from)?, bench.mailbox(&to)?);
    let uids = random.some(&uids(&source));
    let (view, list) = (source.view(), uids.iter().map(|u| Uid(*u)).collect());
    let result = if remove {
        bench.result(source.move_to(&view, list, &target))
    } else {
        bench.result(source.copy(&view, list, &target))
    };
    Ok(Outcome::of(if remove { "move" } else { "copy" }, result, |copied| {
        let pairs = match copied {
            Some(copied) => copied.pairs.iter().map(|(a, b)| (a.0, Some(b.0))).collect(),
            None => uids.iter().map(|uid| (*uid, None)).collect(),
        };
        Effect::Transfer { from, to, pairs, remove }
    }))
}

fn a_name(random: &mut Random) -> String {
    NAMES[random.below(NAMES.len() as u64) as usize].to_owned()
}

fn create(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let at = (USERS[random.below(2) as usize].0.to_owned(), a_name(random));
    let user = bench.user(&at.0)?;
    let result = bench.result(user.create(&at.1, &[]));
    Ok(Outcome::of("create", result, |_| Effect::Create { at }))
}

fn delete(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let at = place(bench, random)?;
    let user = bench.user(&at.0)?;
    let result = bench.result(user.delete(&at.1));
    Ok(Outcome::of("delete", result, |_| Effect::Delete { at }))
}

fn rename(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let (user, from) = place(bench, random)?;
    let to = a_name(random);
    let holder = bench.user(&user)?;
    if from == "INBOX" {
        let inbox = bench.mailbox(&(user.clone(), from.clone()))?;
        let pairs = uids(&inbox).into_iter().map(|uid| (uid, None)).collect();
        let result = bench.result(holder.rename(&from, &to));
        let there = (user.clone(), to);
        let moved = Effect::Transfer { from: (user, from), to: there.clone(), pairs, remove: true };
        let made = Effect::Create { at: there };
        let mut outcome = Outcome::nothing("rename INBOX", None);
        match result {
            Ok(()) => outcome.sure = vec![made, moved],
            Err(Error::MailboxExists | Error::NotAllowed(_) | Error::Name(_)) => {}
            Err(error) => {
                outcome.error = Some(error);
                outcome.unsure = vec![made, moved];
            }
        }
        return Ok(outcome);
    }
    let result = bench.result(holder.rename(&from, &to));
    Ok(Outcome::of("rename", result, |_| Effect::Rename { user, from, to }))
}

fn subscribe(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let (user, _) = place(bench, random)?;
    let at = (user, a_name(random));
    let on = random.below(3) > 0;
    let holder = bench.user(&at.0)?;
    let result = bench.result(holder.subscribe(&at.1, on));
    Ok(Outcome::of("subscribe", result, |_| Effect::Subscribe { at, on }))
}

/// A mailbox of the Maildir user.
fn maildir(bench: &Bench, random: &mut Random) -> Result<Place> {
    loop {
        let at = place(bench, random)?;
        if at.0 == USERS[0].0 {
            return Ok(at);
        }
    }
}

/// What another program did, then a look by us: the effect stands when its names were synced,
/// whatever we are told.
fn foreign(
    bench: &Bench,
    what: &str,
    at: &Place,
    done: std::io::Result<()>,
    effect: Effect,
) -> Result<Outcome> {
    let mut outcome = Outcome::nothing(what, None);
    if let Err(error) = done {
        outcome.error = Some(Error::io("act as another program", what)(error));
        outcome.unsure.push(effect);
        return Ok(outcome);
    }
    let mailbox = bench.mailbox(at);
    outcome.error = mailbox.and_then(|m| bench.result(m.refresh())).err();
    match effect {
        // After a crash, our own changes of a letter win over those that we had not seen.
        Effect::Merge { at, uid, set, clear } if outcome.error.is_some() => {
            for bit in (0..5).map(|n| 1 << n) {
                let (at, set, clear) = (at.clone(), set & bit, clear & bit);
                if set | clear != 0 {
                    outcome.unsure.push(Effect::Merge { at, uid, set, clear });
                }
            }
        }
        // Before we saw it: recovery links a copy again whose link it misses.
        effect @ Effect::Expunge { .. } if outcome.error.is_some() => outcome.unsure.push(effect),
        effect => outcome.sure.push(effect),
    }
    Ok(outcome)
}

/// Durable names, also when a fault meets the first attempt: the other program is careful.
fn sync_names(bench: &Bench, dir: &Path) -> std::io::Result<()> {
    bench.sim.sync_dir(dir).or_else(|_| bench.sim.sync_dir(dir))
}

fn foreign_delivery(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Outcome> {
    let at = maildir(bench, random)?;
    let token = take(token);
    let flags = if random.below(2) == 0 { 0 } else { random.flags() };
    let dir = maildir_of(&at);
    let base = format!("{}.foreign{token}.host", 1_600_000_000 + token);
    let (sub, name) = match flags {
        0 => ("new", base.clone()),
        _ => ("cur", format!("{base}:2,{}", letters(flags))),
    };
    let deliver = || {
        let tmp = dir.join("tmp").join(&base);
        let file = bench.sim.open(&tmp, Open::CreateNew)?;
        file.write_at(text(token).replace("\r\n", "\n").as_bytes(), 0)?;
        file.sync_all()?;
        bench.sim.rename(&tmp, &dir.join(sub).join(&name))?;
        sync_names(bench, &dir.join(sub))
    };
    let message = Msg { token, flags, keywords: BTreeSet::new() };
    let effect = Effect::Append { at: at.clone(), messages: vec![(None, message)] };
    foreign(bench, "foreign delivery", &at, deliver(), effect)
}

fn letters(flags: u8) -> String {
    LETTERS.iter().filter(|(_, bit)| flags & bit != 0).map(|(letter, _)| *letter).collect()
}

/// A message of which there is one file and one record: its UID, path, letters.
fn one_file(
    bench: &Bench,
    random: &mut Random,
    at: &Place,
) -> Result<Option<(u32, PathBuf, String)>> {
    let mailbox = bench.mailbox(at)?;
    let mut files = bench.maildir_files(at);
    let mut candidates = Vec::new();
    for (_, record) in mailbox.view().all() {
        let Some(token) = bench.token_read(mailbox.id(), record.uid.0) else { continue };
        match files.remove(&token) {
            Some(found) if found.len() == 1 => candidates.push((record.uid.0, found[0].clone())),
            // Met again: another record has the same text.
            _ => candidates.retain(|(uid, _)| bench.token_read(mailbox.id(), *uid) != Some(token)),
        }
    }
    Ok(random.pick(&candidates).map(|(uid, (path, letters))| (*uid, path.clone(), letters.clone())))
}

fn foreign_flags(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let at = maildir(bench, random)?;
    let Some((uid, path, old)) = one_file(bench, random, &at)? else {
        return Ok(Outcome::nothing("foreign flags: none", None));
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let base = name.split(":2,").next().unwrap_or_default();
    let flags = random.flags();
    let bits = |l: &str| LETTERS.iter().filter(|(c, _)| l.contains(*c)).fold(0, |n, (_, b)| n | b);
    let before: u8 = bits(&old);
    let passed = if old.contains('P') { "P" } else { "" };
    let mut sorted: Vec<char> = format!("{}{passed}", letters(flags)).chars().collect();
    sorted.sort_unstable();
    let cur = maildir_of(&at).join("cur");
    let to = cur.join(format!("{base}:2,{}", sorted.into_iter().collect::<String>()));
    let rename = || {
        bench.sim.rename(&path, &to)?;
        sync_names(bench, &cur)
    };
    let (set, clear) = (flags & !before, before & !flags);
    let effect = Effect::Merge { at: at.clone(), uid, set, clear };
    foreign(bench, "foreign flags", &at, rename(), effect)
}

fn foreign_removal(bench: &Bench, random: &mut Random) -> Result<Outcome> {
    let at = maildir(bench, random)?;
    let Some((uid, path, _)) = one_file(bench, random, &at)? else {
        return Ok(Outcome::nothing("foreign removal: none", None));
    };
    let remove = || {
        bench.sim.unlink(&path)?;
        sync_names(bench, path.parent().unwrap_or(Path::new("/")))
    };
    let effect = Effect::Expunge { at: at.clone(), uids: vec![uid] };
    foreign(bench, "foreign removal", &at, remove(), effect)
}

/// Puts so many messages into a mailbox, in large transactions.
pub fn fill(bench: &mut Bench, at: &Place, count: u32) {
    let mut token = 0;
    while token < count {
        let done = bench.result(async {
            let mut deliveries = Vec::new();
            for token in token + 1..=count.min(token + 100) {
                let target = Target {
                    user: bench.user(&at.0)?,
                    mailbox: bench.mailbox(at)?,
                    flags: SystemFlags::SEEN,
                    keywords: Vec::new(),
                    internal_date: None,
                    annotations: vec![],
                };
                deliveries.push(streamed(bench, vec![target], token).await?);
            }
            Delivery::commit_all(deliveries).await
        });
        token += done.expect("messages are stored").len() as u32;
    }
}
