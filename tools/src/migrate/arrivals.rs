//! Messages that are new at the source: looked at in chunks, found among copies that are here
//! already, else fetched and imported. Small ones go in batches, large ones stream through.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::atomic::Ordering;

use admin::wire::{ImportMessage, MessageLine};
use client::Error;
use client::imap::Fetched;
use protocol::mime::header;

use super::flags::{Differences, joined, split, taken};
use super::folder::Work;
use super::progress::{Progress, Throttle};
use super::state::{Folder, Intended, Intent, Known};
use super::stop::Stop;
use crate::failure::{Failed, Kind};

/// Messages whose facts are asked for at once.
const CHUNK_MESSAGES: usize = 256;
/// Messages in one import, at most.
const BATCH_MESSAGES_MAX: usize = 32;
/// A batch of so many octets gets no further message.
const BATCH_BYTES_HIGH: u64 = 4 << 20;
/// Larger messages stream from one server to the other.
const STREAM_BYTES_MIN: u64 = 1 << 20;
/// So many after a connection that broke without anything done, and one alone after the next such.
const CHUNK_MESSAGES_FRUITLESS: usize = 16;
/// A message that breaks the connection so often, asked for alone, is passed over.
pub(super) const BREAKS_MAX: u32 = 3;
/// How often an import is tried that finds other messages arriving.
const TRIES_MAX: usize = 50;

/// What is known of a message before its octets.
#[derive(Clone, Debug)]
struct Facts {
    uid: u32,
    size: u64,
    internal_date: Option<i64>,
    flags: Vec<String>,
}

impl Facts {
    fn known(&self, target: u32, size: u64) -> Known {
        let (internal_date, flags) = (self.internal_date, joined(&self.flags));
        Known { target, size, internal_date, flags }
    }

    fn line(&self, bytes: u64, flags: Vec<String>, keeps_uid: bool) -> ImportMessage {
        let (internal_date, uid) = (self.internal_date, keeps_uid.then_some(self.uid));
        ImportMessage { bytes, flags, internal_date, uid, annotations_bytes: 0 }
    }
}

/// What a message was asked for when the connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// Its size, date and flags.
    Facts,
    /// Its octets.
    Octets,
}

/// A message with its octets.
struct Ready {
    facts: Facts,
    octets: Vec<u8>,
}

/// Copies that may be those of messages at the source.
#[derive(Default)]
struct Copies {
    by_id: HashMap<String, Vec<MessageLine>>,
    by_facts: HashMap<(u64, i64), Vec<MessageLine>>,
}

impl Copies {
    fn of(lines: Vec<MessageLine>, taken: &BTreeSet<u32>) -> Copies {
        let mut copies = Copies::default();
        // The first one is to be taken first.
        for line in lines.into_iter().rev().filter(|line| !taken.contains(&line.uid)) {
            match &line.message_id {
                Some(id) => copies.by_id.entry(id.clone()).or_default().push(line),
                None => {
                    let key = (line.size, line.internal_date);
                    copies.by_facts.entry(key).or_default().push(line);
                }
            }
        }
        copies
    }

    fn take(&mut self, id: Option<&str>, facts: &Facts) -> Option<MessageLine> {
        match id {
            Some(id) => self.by_id.get_mut(id)?.pop(),
            None => self.by_facts.get_mut(&(facts.size, facts.internal_date?))?.pop(),
        }
    }
}

/// Counts what passes, and holds it back where there is a rate.
struct Metered<'r> {
    from: &'r mut dyn Read,
    /// What is still to come: an end before that is an error, or the target would wait for it.
    left: u64,
    progress: &'r Progress,
    throttle: &'r Throttle,
}

impl Read for Metered<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(room)?;
        if read == 0 && self.left > 0 && !room.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        self.throttle.take(read as u64);
        self.progress.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Work<'_, '_> {
    /// Brings over what is new, and what was refused before.
    pub(super) fn arrivals(&mut self, folder: &mut Folder) -> Result<(), Stop> {
        let last = folder.uid_last;
        let mut uids = std::mem::take(&mut folder.failed);
        let again = uids.clone();
        let newer = self.search(&format!("UID {}:*", u64::from(last) + 1))?;
        // `*` may be a message that is known.
        uids.extend(newer.into_iter().filter(|uid| *uid > last));
        folder.failed = again;
        let mut copies = match folder.matching && !uids.is_empty() {
            true => {
                let lines = self.target.messages(&folder.target, 0, true)?;
                let known = self.state.messages(folder.id)?;
                Some(Copies::of(lines, &known.values().map(|one| one.target).collect()))
            }
            false => None,
        };
        uids.sort_unstable();
        // Those that were found to break connections are not asked for again by this run.
        let (broken, uids): (Vec<u32>, Vec<u32>) =
            uids.into_iter().partition(|uid| self.is_found_to_break(folder, *uid));
        for uid in &broken {
            self.passed_over(folder, *uid);
        }
        let messages_max = match self.fruitless {
            0 => CHUNK_MESSAGES,
            1 => CHUNK_MESSAGES_FRUITLESS,
            _ => 1,
        };
        for chunk in uids.chunks(messages_max) {
            if let [uid] = chunk
                && self.is_given_up(folder, *uid, Asked::Facts)
            {
                continue;
            }
            let mut facts = self.all_facts(folder, chunk)?;
            if let Some(copies) = &mut copies {
                facts = self.matched(folder, facts, copies)?;
            }
            if let [uid] = chunk {
                self.is_answered(folder, *uid, Asked::Facts);
            }
            self.bring(folder, facts)?;
            // Those that are gone by now never come.
            folder.uid_last = folder.uid_last.max(chunk.last().copied().unwrap_or(0));
        }
        if !uids.is_empty() || !broken.is_empty() {
            self.store(folder)?;
        }
        Ok(())
    }

    fn is_found_to_break(&self, folder: &Folder, uid: u32) -> bool {
        let times = |asked| self.breaks.get(&(folder.source.clone(), uid, asked)).copied();
        [Asked::Facts, Asked::Octets].into_iter().any(|one| times(one) >= Some(BREAKS_MAX))
    }

    fn passed_over(&mut self, folder: &mut Folder, uid: u32) {
        let reason = format!("the connection broke {BREAKS_MAX} times when it was asked for");
        self.refused(folder, uid, reason);
        folder.uid_last = folder.uid_last.max(uid);
    }

    /// Facts of messages; those that the source has and tells nothing of are noted as refused.
    fn all_facts(&mut self, folder: &mut Folder, uids: &[u32]) -> Result<Vec<Facts>, Stop> {
        match self.facts(uids) {
            Ok(found) => {
                if found.len() < uids.len() {
                    let known: BTreeSet<u32> = found.iter().map(|one| one.uid).collect();
                    let missing = uids.iter().filter(|uid| !known.contains(uid)).copied();
                    self.not_given(folder, missing.collect())?;
                }
                Ok(found)
            }
            Err(error) => match (refusal(&error), uids) {
                (None, _) => Err(error.into()),
                (Some(text), [uid]) => {
                    self.refused(folder, *uid, format!("the source tells nothing of it: {text}"));
                    Ok(Vec::new())
                }
                (Some(_), _) => {
                    let (first, second) = uids.split_at(uids.len() / 2);
                    let mut found = self.all_facts(folder, first)?;
                    found.extend(self.all_facts(folder, second)?);
                    Ok(found)
                }
            },
        }
    }

    /// Of messages that were asked for and did not come, those that are still there are refused; the
    /// others were expunged meanwhile.
    fn not_given(&mut self, folder: &mut Folder, uids: Vec<u32>) -> Result<(), Stop> {
        if uids.is_empty() {
            return Ok(());
        }
        for uid in self.search(&format!("UID {}", set_of(&uids)))? {
            if uids.contains(&uid) {
                self.refused(folder, uid, "the source does not give it".to_owned());
            }
        }
        Ok(())
    }

    /// Whether a message that is asked for alone broke the connection too often; else the next break is
    /// its own until [`Work::is_answered`].
    fn is_given_up(&mut self, folder: &mut Folder, uid: u32, asked: Asked) -> bool {
        let times = self.breaks.entry((folder.source.clone(), uid, asked)).or_default();
        if *times < BREAKS_MAX {
            *times += 1;
            return false;
        }
        self.passed_over(folder, uid);
        self.progress_add(1);
        true
    }

    fn is_answered(&mut self, folder: &Folder, uid: u32, asked: Asked) {
        self.breaks.remove(&(folder.source.clone(), uid, asked));
    }

    fn facts(&mut self, uids: &[u32]) -> Result<Vec<Facts>, Error> {
        let mut found: Vec<Facts> = Vec::with_capacity(uids.len());
        let dropped = &mut *self.dropped;
        self.session.fetch(
            &set_of(uids),
            "(UID FLAGS INTERNALDATE RFC822.SIZE)",
            &mut |fetched| {
                let Fetched { uid: Some(uid), size: Some(size), internal_date, flags, .. } =
                    fetched
                else {
                    return Ok(());
                };
                let flags = taken(&flags.unwrap_or_default(), dropped);
                found.push(Facts { uid, size, internal_date, flags });
                Ok(())
            },
            &mut |_| {},
        )?;
        found.sort_by_key(|one| one.uid);
        found.dedup_by_key(|one| one.uid);
        found.retain(|one| uids.binary_search(&one.uid).is_ok());
        Ok(found)
    }

    /// Takes copies that are here for messages of the source. What is left has none.
    fn matched(
        &mut self,
        folder: &mut Folder,
        facts: Vec<Facts>,
        copies: &mut Copies,
    ) -> Result<Vec<Facts>, Stop> {
        let uids: Vec<u32> = facts.iter().map(|one| one.uid).collect();
        let mut ids: HashMap<u32, String> = HashMap::new();
        self.session.fetch(
            &set_of(&uids),
            "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])",
            &mut |fetched| {
                if let (Some(uid), Some(header)) = (fetched.uid, fetched.header)
                    && let Some(id) = message_id(&header)
                {
                    ids.insert(uid, id);
                }
                Ok(())
            },
            &mut |_| {},
        )?;
        let mut differences = Differences::default();
        let mut left = Vec::new();
        for one in facts {
            let Some(copy) = copies.take(ids.get(&one.uid).map(String::as_str), &one) else {
                left.push(one);
                continue;
            };
            match self.former.get(&copy.uid) {
                Some(before) => differences.add(copy.uid, &split(before), &one.flags),
                // What the source has is added; what was set here stays.
                None => {
                    let both = [copy.flags.as_slice(), &one.flags].concat();
                    differences.add(copy.uid, &copy.flags, &both);
                }
            }
            self.pending.push((one.uid, Some(one.known(copy.uid, one.size))));
            folder.failed.retain(|uid| *uid != one.uid);
            self.report.matched += 1;
            self.progress_add(1);
        }
        let changes = differences.changes();
        self.target.change_flags(&folder.target, folder.target_uid_validity, changes)?;
        self.store(folder)?;
        Ok(left)
    }

    fn bring(&mut self, folder: &mut Folder, facts: Vec<Facts>) -> Result<(), Stop> {
        let mut batch: Vec<Facts> = Vec::new();
        let mut bytes = 0;
        // Which message it is, is to be found in few attempts.
        let smaller = self.fruitless.saturating_mul(3).min(5);
        let (messages_max, bytes_high) =
            (BATCH_MESSAGES_MAX >> smaller, BATCH_BYTES_HIGH >> (2 * smaller));
        for one in facts {
            if one.size >= STREAM_BYTES_MIN {
                self.batch(folder, std::mem::take(&mut batch))?;
                bytes = 0;
                self.stream(folder, one)?;
                continue;
            }
            bytes += one.size;
            batch.push(one);
            if batch.len() >= messages_max || bytes >= bytes_high {
                self.batch(folder, std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.batch(folder, batch)
    }

    /// Fetches small messages together, and imports them in one transaction.
    fn batch(&mut self, folder: &mut Folder, batch: Vec<Facts>) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        let uids: Vec<u32> = batch.iter().map(|one| one.uid).collect();
        if let [uid] = uids[..]
            && self.is_given_up(folder, uid, Asked::Octets)
        {
            return Ok(());
        }
        let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
        let fetched = self.session.fetch(
            &set_of(&uids),
            "(UID BODY.PEEK[])",
            &mut |fetched| {
                if let (Some(uid), Some(octets)) = (fetched.uid, fetched.body) {
                    bodies.insert(uid, octets);
                }
                Ok(())
            },
            &mut |_| {},
        );
        if let Err(error) = fetched {
            return match (refusal(&error), uids.as_slice()) {
                (None, _) => Err(error.into()),
                (Some(text), [uid]) => {
                    self.is_answered(folder, *uid, Asked::Octets);
                    self.refused(folder, *uid, format!("the source does not give it: {text}"));
                    folder.uid_last = folder.uid_last.max(*uid);
                    self.progress_add(1);
                    Ok(())
                }
                // One that cannot be read keeps no other from coming.
                (Some(_), _) => batch.into_iter().try_for_each(|one| self.batch(folder, vec![one])),
            };
        }
        if let [uid] = uids[..] {
            self.is_answered(folder, uid, Asked::Octets);
        }
        let missing = uids.iter().filter(|uid| !bodies.contains_key(uid)).copied().collect();
        self.not_given(folder, missing)?;
        let octets: u64 = bodies.values().map(|one| one.len() as u64).sum();
        self.throttle.take(octets);
        self.progress.bytes.fetch_add(octets, Ordering::Relaxed);
        let ready = batch.into_iter().filter_map(|facts| {
            let octets = bodies.remove(&facts.uid)?;
            Some(Ready { facts, octets })
        });
        self.import(folder, ready.collect())?;
        self.progress_add(uids.len() as u64);
        Ok(())
    }

    fn import(&mut self, folder: &mut Folder, mut batch: Vec<Ready>) -> Result<(), Stop> {
        let mut plain_flags = false;
        for _ in 0..TRIES_MAX {
            let Some(last) = batch.last().map(|one| one.facts.uid) else { return Ok(()) };
            let empty = |one: &Ready| one.octets.is_empty();
            if let Some(at) = batch.iter().position(empty) {
                let uid = batch.remove(at).facts.uid;
                self.refused(folder, uid, "the source gave an empty message".to_owned());
                continue;
            }
            let intended = |one: &Ready| Intended {
                uid: one.facts.uid,
                size: one.octets.len() as u64,
                internal_date: one.facts.internal_date,
                flags: joined(&one.facts.flags),
                content_id: content_id(&one.octets),
            };
            let first = batch.first().map_or(last, |one| one.facts.uid);
            let keeps_uid = self.keeps_uid(folder, first)?;
            let uid_next = self.intend(folder, batch.iter().map(intended).collect())?;
            let lines = batch.iter().map(|one| {
                let system = |flag: &&String| !plain_flags || flag.starts_with('\\');
                let flags = one.facts.flags.iter().filter(system).cloned().collect();
                one.facts.line(one.octets.len() as u64, flags, keeps_uid)
            });
            let empty: Box<dyn Read + '_> = Box::new(std::io::empty());
            let mut body =
                batch.iter().fold(empty, |body, m| Box::new(body.chain(m.octets.as_slice())) as _);
            let done = self.target.import(&folder.target, uid_next, lines.collect(), &mut body);
            drop(body);
            match done {
                Ok(uids) => {
                    for (one, uid) in batch.iter().zip(&uids) {
                        let octets = one.octets.len() as u64;
                        self.imported(folder, &one.facts, *uid, octets);
                    }
                    self.unkept += u64::from(folder.keeps_uids && !keeps_uid) * uids.len() as u64;
                    self.uid_next = uids.last().map(|uid| uid + 1);
                    folder.uid_last = folder.uid_last.max(last);
                    return Ok(());
                }
                Err(failed) if failed.kind() == Kind::Changed => {
                    let made = self.others_import(folder)?;
                    batch.retain(|one| !made.contains(&one.facts.uid));
                }
                Err(failed) if failed.kind() == Kind::Data && batch.len() > 1 => {
                    folder.intent = None;
                    for one in std::mem::take(&mut batch) {
                        self.import(folder, vec![one])?;
                    }
                    return Ok(());
                }
                Err(failed) if failed.kind() == Kind::Data && !plain_flags => {
                    // There may be no room for its keywords.
                    folder.intent = None;
                    let keywords =
                        batch.iter().any(|m| m.facts.flags.iter().any(|f| !f.starts_with('\\')));
                    if !keywords {
                        self.refused(folder, last, failed.to_string());
                        return Ok(());
                    }
                    plain_flags = true;
                    let note =
                        format!("{} UID {last}: without its keywords: {failed}", folder.source);
                    self.report.notes.push(note);
                }
                Err(failed) if failed.kind() == Kind::Data => {
                    folder.intent = None;
                    self.refused(folder, last, failed.to_string());
                    return Ok(());
                }
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(Stop::Moment("the mailbox does not hold still for an import".to_owned()))
    }

    fn imported(&mut self, folder: &mut Folder, facts: &Facts, uid: u32, octets: u64) {
        self.pending.push((facts.uid, Some(facts.known(uid, octets))));
        folder.failed.retain(|one| *one != facts.uid);
        folder.intent = None;
        self.report.messages += 1;
        self.report.bytes += octets;
    }

    /// Stores what is about to be imported, durably, and gives the UIDNEXT that it depends on.
    fn intend(&mut self, folder: &mut Folder, messages: Vec<Intended>) -> Result<u32, Stop> {
        let uid_next = match self.uid_next {
            Some(uid_next) => uid_next,
            None => self.target.numbers(&folder.target)?.1,
        };
        self.uid_next = Some(uid_next);
        folder.intent = Some(Intent { uid_next, messages });
        self.store(folder)?;
        Ok(uid_next)
    }

    /// Something came between: mail, or an import of an earlier run that was still under way.
    /// Gives what that one made.
    fn others_import(&mut self, folder: &mut Folder) -> Result<BTreeSet<u32>, Stop> {
        self.uid_next = None;
        folder.intent = None;
        match self.suspect.take() {
            Some(suspect) => self.settle(&suspect, folder),
            None => Ok(BTreeSet::new()),
        }
    }

    /// Finds out whether an import was made, and gives the UIDs of the source that it brought.
    pub(super) fn settle(
        &mut self,
        intent: &Intent,
        folder: &mut Folder,
    ) -> Result<BTreeSet<u32>, Stop> {
        let above = intent.uid_next.saturating_sub(1);
        let lines = self.target.messages(&folder.target, above, false)?;
        let same = |(line, one): (&MessageLine, &Intended)| match one.content_id.is_empty() {
            false => line.content_id == one.content_id,
            true => {
                line.size == one.size && one.internal_date.is_none_or(|d| d == line.internal_date)
            }
        };
        let count = intent.messages.len();
        let made = |part: &&[MessageLine]| part.iter().zip(&intent.messages).all(same);
        // All or none, one behind the other.
        let made = lines.windows(count.max(1)).find(made);
        let mut brought = BTreeSet::new();
        for (line, one) in made.unwrap_or_default().iter().zip(&intent.messages) {
            let known = Known {
                target: line.uid,
                size: one.size,
                internal_date: one.internal_date,
                flags: one.flags.clone(),
            };
            self.pending.push((one.uid, Some(known)));
            folder.failed.retain(|uid| *uid != one.uid);
            folder.uid_last = folder.uid_last.max(one.uid);
            brought.insert(one.uid);
        }
        self.uid_next = None;
        if !brought.is_empty() {
            self.store(folder)?;
        }
        Ok(brought)
    }

    /// Fetches a large message and imports it while it comes.
    fn stream(&mut self, folder: &mut Folder, facts: Facts) -> Result<(), Stop> {
        if self.is_given_up(folder, facts.uid, Asked::Octets) {
            return Ok(());
        }
        for _ in 0..TRIES_MAX {
            let mut outcome: Option<Result<(u32, u64), Failed>> = None;
            let mut stopped: Option<Stop> = None;
            // Asked for before the message comes, so that no other answers are between.
            self.uid_next = Some(self.target.numbers(&folder.target)?.1);
            let keeps_uid = self.keeps_uid(folder, facts.uid)?;
            let intended = Intended {
                uid: facts.uid,
                size: facts.size,
                internal_date: facts.internal_date,
                flags: joined(&facts.flags),
                content_id: String::new(),
            };
            let uid_next = self.intend(folder, vec![intended.clone()])?;
            let (state, account, target) = (self.state, self.account, &mut *self.target);
            let (progress, throttle) = (self.progress, self.throttle);
            let there = self.session.fetch_message(facts.uid, &mut |octets, from| {
                if octets != facts.size {
                    // The source's size was wrong; a later look must find the right one.
                    let messages = vec![Intended { size: octets, ..intended.clone() }];
                    folder.intent = Some(Intent { uid_next, messages });
                    if let Err(failed) = state.store(account, folder, None, &[]) {
                        stopped = Some(failed.into());
                        return Err(Error::Sink("the state cannot be stored".to_owned()));
                    }
                }
                let lines = vec![facts.line(octets, facts.flags.clone(), keeps_uid)];
                let mut body = Metered { from, left: octets, progress, throttle };
                match target.import(&folder.target, uid_next, lines, &mut body) {
                    Ok(uids) => outcome = uids.first().map(|uid| Ok((*uid, octets))),
                    Err(failed) if matches!(failed.kind(), Kind::Changed | Kind::Data) => {
                        outcome = Some(Err(failed));
                    }
                    Err(failed) => {
                        let message = failed.to_string();
                        stopped = Some(failed.into());
                        return Err(Error::Sink(message));
                    }
                }
                Ok(())
            });
            self.uid_next = None;
            if let Some(stopped) = stopped {
                // Not the source's fault.
                self.is_answered(folder, facts.uid, Asked::Octets);
                return Err(stopped);
            }
            let there = match there {
                Err(error) => match refusal(&error) {
                    None => return Err(error.into()),
                    Some(text) => {
                        self.is_answered(folder, facts.uid, Asked::Octets);
                        folder.intent = None;
                        let reason = format!("the source does not give it: {text}");
                        self.refused(folder, facts.uid, reason);
                        folder.uid_last = folder.uid_last.max(facts.uid);
                        self.progress_add(1);
                        return Ok(());
                    }
                },
                Ok(there) => there,
            };
            self.is_answered(folder, facts.uid, Asked::Octets);
            if !there {
                folder.intent = None;
                return self.not_given(folder, vec![facts.uid]);
            }
            match outcome {
                Some(Ok((uid, octets))) => {
                    self.unkept += u64::from(folder.keeps_uids && !keeps_uid);
                    self.imported(folder, &facts, uid, octets);
                    folder.uid_last = folder.uid_last.max(facts.uid);
                    self.progress_add(1);
                    return Ok(());
                }
                Some(Err(failed)) if failed.kind() == Kind::Changed => {
                    if self.others_import(folder)?.contains(&facts.uid) {
                        return Ok(());
                    }
                }
                Some(Err(failed)) => {
                    folder.intent = None;
                    self.refused(folder, facts.uid, failed.to_string());
                    folder.uid_last = folder.uid_last.max(facts.uid);
                    self.progress_add(1);
                    return Ok(());
                }
                None => return Err(Stop::Moment("an import without an answer".to_owned())),
            }
        }
        Err(Stop::Moment("the mailbox does not hold still for an import".to_owned()))
    }
}

/// What the source says where it refuses messages that were asked for. Dovecot calls what it cannot
/// read a bug of its own; the other codes are those of a moment.
fn refusal(error: &Error) -> Option<String> {
    match error {
        Error::No { code, text, .. } if code == "SERVERBUG" || !error.is_temporary() => {
            Some(text.clone())
        }
        _ => None,
    }
}

/// Ascending UIDs as IMAP writes them.
pub(super) fn set_of(uids: &[u32]) -> String {
    let mut set = Vec::new();
    protocol::imap::encode::set(&mut set, uids.iter().copied());
    String::from_utf8(set).unwrap_or_default()
}

/// As the store makes it: the first half of BLAKE3.
pub(crate) fn content_id(octets: &[u8]) -> String {
    let hash = blake3::hash(octets);
    hash.as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn message_id(fields: &[u8]) -> Option<String> {
    let field = header::fields(fields).find(|one| one.name.eq_ignore_ascii_case(b"Message-ID"))?;
    let value = header::unfold(field.value);
    let id = String::from_utf8_lossy(&value).trim().to_owned();
    (!id.is_empty()).then_some(id)
}
