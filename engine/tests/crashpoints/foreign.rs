//! What other programs do to the Maildir user's mailboxes, followed by a look of ours.
//!
//! Their effect stands when its names were synced, whatever we are told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine::format::index::{SLOT_BYTES, Slot};
use engine::io::sim::Sim;
use engine::io::{Open, Storage};
use engine::{Error, Mailbox, Result};

use crate::bench::{Bench, USERS, maildir_of, text};
use crate::model::{Effect, Msg, Place};
use crate::work::{LETTERS, Op, Outcome, Random, Unanswered, place, take};

/// A mailbox of the Maildir user.
fn maildir(bench: &Bench, random: &mut Random) -> Result<Place> {
    loop {
        let at = place(bench, random)?;
        if at.0 == USERS[0].0 {
            return Ok(at);
        }
    }
}

/// After a crash, our own changes of a letter win over those that we had not seen: each may be
/// lost by itself.
fn unsure(effect: &Effect) -> Vec<Effect> {
    let Effect::Merge { at, uid, set, clear } = effect else { return vec![effect.clone()] };
    let (at, uid) = (at.clone(), *uid);
    let bits = (0..5).map(|n| 1 << n).map(|bit| (set & bit, clear & bit));
    bits.filter(|(set, clear)| set | clear != 0)
        .map(|(set, clear)| Effect::Merge { at: at.clone(), uid, set, clear })
        .collect()
}

/// Another program acts, then we look. `act` says what it is about to do before it does it.
fn op(
    what: &str,
    mailbox: Mailbox,
    act: impl FnOnce(&mut dyn FnMut(Effect)) -> std::io::Result<()> + 'static,
) -> Op {
    let mut op = Op::new(what, vec![], vec![mailbox.clone()], async { Outcome::default() });
    let unanswered: Unanswered = op.unanswered.clone();
    op.run = Box::pin(async move {
        let mut effect = None;
        let done = act(&mut |coming: Effect| {
            unanswered.borrow_mut().extend(unsure(&coming).into_iter().map(|e| (e, false)));
            effect = Some(coming);
        });
        let Some(effect) = effect else { return Outcome::default() };
        let looked = match done {
            Ok(()) => mailbox.refresh().await.map(|_| ()),
            Err(error) => Err(Error::io("act as another program", "a Maildir")(error)),
        };
        let mut outcome = Outcome::nothing(looked.err());
        if outcome.error.is_some() && matches!(effect, Effect::Merge { .. }) {
            outcome.effects = unanswered.borrow().clone();
            return outcome;
        }
        let sure = outcome.error.is_none();
        outcome.effects.push((effect, sure));
        outcome
    });
    op
}

/// Durable names, also when a fault meets the first attempt: the other program is careful.
fn sync_names(sim: &Sim, dir: &Path) -> std::io::Result<()> {
    sim.sync_dir(dir).or_else(|_| sim.sync_dir(dir))
}

pub fn delivery(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Op> {
    let at = maildir(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let token = take(token);
    let flags = if random.once_in(2) { 0 } else { random.flags() };
    let base = format!("{}.foreign{token}.host", 1_600_000_000 + token);
    let (sub, name) = match flags {
        0 => ("new", base.clone()),
        _ => ("cur", format!("{base}:2,{}", letters(flags))),
    };
    let sim = bench.sim.clone();
    Ok(op("foreign delivery", mailbox.clone(), move |coming| {
        let Some(dir) = dir_now(&sim, &at, &mailbox) else { return Ok(()) };
        let tmp = dir.join("tmp").join(&base);
        let file = sim.open(&tmp, Open::CreateNew)?;
        file.write_at(text(token).replace("\r\n", "\n").as_bytes(), 0)?;
        file.sync_all()?;
        let message = Msg { token, flags, keywords: BTreeSet::new(), comment: None };
        coming(Effect::Append { at, messages: vec![(None, message)] });
        rename(&sim, &tmp, &dir.join(sub).join(&name))?;
        sync_names(&sim, &dir.join(sub))
    }))
}

/// The mailbox's directory, unless it is on its way to another name or to its end.
fn dir_now(sim: &Sim, at: &Place, mailbox: &Mailbox) -> Option<PathBuf> {
    let dir = maildir_of(at);
    let index = sim.open(&dir.join("cursus.index"), Open::Read).ok()?;
    let mut bytes = [0; 512];
    let stamped = [0, SLOT_BYTES].into_iter().any(|at| {
        let slot =
            index.read_exact_at(&mut bytes, at).ok().and_then(|()| Slot::decode(&bytes).ok());
        slot.is_some_and(|slot| slot.mailbox_id == mailbox.id().0)
    });
    (stamped && !mailbox.is_gone()).then_some(dir)
}

fn letters(flags: u8) -> String {
    LETTERS.iter().filter(|(_, bit)| flags & bit != 0).map(|(letter, _)| *letter).collect()
}

/// A message of which there is one file and one record: its UID and the file's base name.
fn one_message(bench: &Bench, random: &mut Random, at: &Place) -> Result<Option<(u32, String)>> {
    let mailbox = bench.mailbox(at)?;
    let mut files = Bench::maildir_files(&bench.sim, at);
    let mut candidates: Vec<(u32, u32)> = Vec::new();
    for (_, record) in mailbox.view().all() {
        let Some(token) = bench.token_read(mailbox.id(), record.uid.0) else { continue };
        match files.remove(&token) {
            Some(found) if found.len() == 1 => candidates.push((record.uid.0, token)),
            // Met again: another record has the same text.
            _ => candidates.retain(|(_, one)| *one != token),
        }
    }
    let Some((uid, token)) = random.pick(&candidates).copied() else { return Ok(None) };
    let mut files = Bench::maildir_files(&bench.sim, at).remove(&token).unwrap_or_default();
    Ok(files.pop().map(|(path, _)| (uid, base_of(&path))))
}

fn base_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(":2,").next().unwrap_or_default().to_owned()
}

/// The only file of this base name as it is now. By the name and not by the text: a MOVE within
/// the mailbox makes another message of the same text meanwhile.
fn only_file(sim: &Sim, at: &Place, base: &str) -> Option<(PathBuf, String)> {
    let files = Bench::maildir_files(sim, at).into_values().flatten();
    let mut found = files.filter(|(path, _)| base_of(path) == base);
    let first = found.next();
    if found.next().is_none() { first } else { None }
}

pub fn flags(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = maildir(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let message = one_message(bench, random, &at)?;
    let (sim, flags) = (bench.sim.clone(), random.flags());
    // A letter that means nothing to us, as other servers use for keywords.
    let other = if random.once_in(3) { "a" } else { "" };
    Ok(op("foreign flags", mailbox.clone(), move |coming| {
        let Some((uid, base)) = message else { return Ok(()) };
        let Some(dir) = dir_now(&sim, &at, &mailbox) else { return Ok(()) };
        let Some((path, old)) = only_file(&sim, &at, &base) else { return Ok(()) };
        let set = LETTERS.iter().filter(|(letter, _)| old.contains(*letter));
        let before: u8 = set.fold(0, |bits, (_, bit)| bits | bit);
        let passed = if old.contains('P') { "P" } else { "" };
        let mut sorted: Vec<char> = format!("{}{passed}{other}", letters(flags)).chars().collect();
        sorted.sort_unstable();
        let cur = dir.join("cur");
        let to = cur.join(format!("{base}:2,{}", sorted.into_iter().collect::<String>()));
        coming(Effect::Merge { at, uid, set: flags & !before, clear: before & !flags });
        rename(&sim, &path, &to)?;
        sync_names(&sim, &cur)
    }))
}

pub fn removal(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = maildir(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let message = one_message(bench, random, &at)?;
    let sim = bench.sim.clone();
    Ok(op("foreign removal", mailbox.clone(), move |coming| {
        let Some((uid, base)) = message else { return Ok(()) };
        let Some(_) = dir_now(&sim, &at, &mailbox) else { return Ok(()) };
        let Some((path, _)) = only_file(&sim, &at, &base) else { return Ok(()) };
        coming(Effect::Expunge { at, uids: vec![uid] });
        sim.unlink(&path)?;
        sync_names(&sim, path.parent().unwrap_or(Path::new("/")))
    }))
}

/// Renames a file as those do who know of the filesystem: without a journal a plain rename may lose it,
/// which no server could mend. A name that everybody sees is made durable whatever the first attempt
/// says: one that its maker gave up may be gone behind a cut, which is no loss.
fn rename(sim: &Sim, from: &Path, to: &Path) -> std::io::Result<()> {
    if sim.filesystem(to)?.renames_are_whole {
        return sim.rename(from, to);
    }
    sim.link(from, to)?;
    to.parent().map_or(Ok(()), |dir| sync_names(sim, dir))?;
    sim.unlink(from)
}
