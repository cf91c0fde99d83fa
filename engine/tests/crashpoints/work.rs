//! Random operations of sessions on the store. [`crate::foreign`] has those of other programs.
//!
//! An operation is chosen against what the session saw, which may be stale when it runs.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;

use engine::io::Lane;
use engine::{
    AclEntry, Annotate, AnnotationValue, Appended, Delivery, Error, FirstLook, Identifier, Mailbox,
    MailboxId, Result, Rights, RightsChange, Store, StoreMode, StoreRequest, Target, UserOptions,
};
use protocol::types::{Keyword, SystemFlags, Uid};

use crate::bench::{Bench, USERS, options, text};
use crate::foreign;
use crate::model::{Chain, Effect, Msg, Place};

/// Names that mailboxes get.
const NAMES: [&str; 7] = ["A", "A/B", "A/B/C", "D", "E/F", "E", "G"];
const KEYWORDS: [&str; 4] = ["$Label", "work", "$Forwarded", "x"];
/// Letters of Maildir names and their flags.
pub const LETTERS: [(char, u8); 5] = [('D', 16), ('F', 4), ('R', 2), ('S', 1), ('T', 8)];

/// splitmix64.
#[derive(Clone)]
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

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }

    /// Some of them; often few.
    fn some<T: Clone>(&mut self, from: &[T]) -> Vec<T> {
        let of = 1 + self.below(5);
        from.iter().filter(|_| self.below(of) == 0).cloned().collect()
    }

    pub fn flags(&mut self) -> u8 {
        (self.next() & self.next() & 31) as u8
    }
}

/// What an operation said.
#[derive(Debug, Default)]
pub struct Outcome {
    pub error: Option<Error>,
    /// What it did, and whether it surely did.
    pub effects: Chain,
    /// Numbers that the session got: UIDNEXT is at least this, HIGHESTMODSEQ at least that.
    pub told: Vec<(MailboxId, u32, u64)>,
}

impl Outcome {
    /// An answer for one change. Where it was refused, nothing was begun.
    fn of<T>(result: &Result<T>, effect: Effect) -> Outcome {
        let mut outcome = Outcome::default();
        match result {
            Ok(_) => outcome.effects.push((effect, true)),
            Err(error) if refused(error) => {}
            Err(error) => {
                outcome.error = Some(error.clone());
                outcome.effects.push((effect, false));
            }
        }
        outcome
    }

    pub fn nothing(error: Option<Error>) -> Outcome {
        Outcome { error, ..Outcome::default() }
    }

    fn told(mut self, id: MailboxId, uid_next: u32, modseq: u64) -> Outcome {
        self.told.push((id, uid_next, modseq));
        self
    }
}

fn refused(error: &Error) -> bool {
    matches!(
        error,
        Error::NoSuchMailbox
            | Error::MailboxExists
            | Error::MailboxGone
            | Error::NotAllowed(_)
            | Error::Name(_)
            | Error::Expunged(_)
    )
}

/// What may have been done if no answer comes; an operation may add to it while it runs.
pub type Unanswered = Rc<RefCell<Chain>>;

/// An operation that waits to be run.
pub struct Op {
    pub what: String,
    pub unanswered: Unanswered,
    /// Mailboxes whose views are watched meanwhile.
    pub mailboxes: Vec<Mailbox>,
    pub run: Pin<Box<dyn Future<Output = Outcome>>>,
}

impl Op {
    pub fn new(
        what: &str,
        unanswered: Vec<Effect>,
        mailboxes: Vec<Mailbox>,
        run: impl Future<Output = Outcome> + 'static,
    ) -> Op {
        let unanswered = unanswered.into_iter().map(|effect| (effect, false)).collect();
        let unanswered = Rc::new(RefCell::new(unanswered));
        Op { what: what.into(), unanswered, mailboxes, run: Box::pin(run) }
    }
}

/// The user, and mostly INBOX, where most happens.
pub fn place(bench: &Bench, random: &mut Random) -> Result<Place> {
    let (user, _) = USERS[random.below(2) as usize];
    let namespace = bench.user(user)?.namespace();
    let names: Vec<String> = namespace.mailboxes.keys().cloned().collect();
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

/// Chooses an operation.
pub fn choose(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Op> {
    match random.below(36) {
        0..=6 => append(bench, random, token),
        7..=8 => append_many(bench, random, token),
        9 => append_all(bench, random, token),
        10..=12 => store(bench, random),
        13..=15 => expunge(bench, random),
        16..=17 => transfer(bench, random, false),
        18..=19 => transfer(bench, random, true),
        20..=21 => create(bench, random),
        22 => delete(bench, random),
        23 => rename(bench, random),
        24 => subscribe(bench, random),
        25..=26 => Ok(checkpoint(bench)),
        27 => append_within_limit(bench, random, token),
        28..=29 => foreign::delivery(bench, random, token),
        30 => foreign::flags(bench, random),
        31 => foreign::removal(bench, random),
        32 => set_acl(bench, random),
        33..=34 => annotate(bench, random),
        _ => claim(bench, random),
    }
}

pub fn checkpoint(bench: &Bench) -> Op {
    let store = bench.store.clone();
    Op::new("checkpoint", vec![], vec![], async move {
        Outcome::nothing(store.checkpoint().await.err())
    })
}

fn some_comment(random: &mut Random) -> Option<String> {
    let n = random.below(5);
    (n > 0).then(|| "c".repeat(n as usize))
}

fn value(comment: Option<&String>) -> AnnotationValue {
    let value = comment.map(|comment| comment.as_bytes().into());
    AnnotationValue { whose: String::new(), entry: "/comment".into(), value }
}

fn target(bench: &Bench, random: &mut Random, at: &Place, token: u32) -> Result<(Target, Msg)> {
    let keywords = keywords(random);
    let flags = random.flags();
    let comment = if random.once_in(4) { some_comment(random) } else { None };
    let target = Target {
        user: bench.user(&at.0)?,
        mailbox: bench.mailbox(at)?,
        flags: SystemFlags(flags),
        keywords: given(&keywords),
        internal_date: Some(1_700_000_000 + i64::from(token)),
        annotations: comment.iter().map(|comment| value(Some(comment))).collect(),
    };
    Ok((target, Msg { token, flags, keywords, comment }))
}

pub fn take(token: &mut u32) -> u32 {
    *token += 1;
    *token
}

async fn streamed(
    store: &Store,
    lane: &Lane,
    targets: Vec<Target>,
    token: u32,
) -> Result<Delivery> {
    let mut delivery = Delivery::new(store, lane, targets)?;
    delivery.write(text(token).as_bytes()).await?;
    Ok(delivery)
}

fn appended(at: Place, messages: Vec<(Option<u32>, Msg)>) -> Effect {
    Effect::Append { at, messages }
}

fn append(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Op> {
    let at = place(bench, random)?;
    let token = take(token);
    to_each(bench, "append", token, vec![(at.clone(), target(bench, random, &at, token)?)])
}

/// One message for several mailboxes, of both users: a transaction for each.
fn append_many(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Op> {
    let token = take(token);
    let mut each = Vec::new();
    for _ in 0..1 + random.below(4) {
        let at = place(bench, random)?;
        each.push((at.clone(), target(bench, random, &at, token)?));
    }
    to_each(bench, "append to many", token, each)
}

fn to_each(bench: &Bench, what: &str, token: u32, each: Vec<(Place, (Target, Msg))>) -> Result<Op> {
    let (store, lane) = (bench.store.clone(), bench.lane().clone());
    let (mut targets, mut effects) = (Vec::new(), Vec::new());
    for (at, (target, message)) in each {
        targets.push(target);
        effects.push((at, message));
    }
    let mailboxes: Vec<Mailbox> = targets.iter().map(|t| t.mailbox.clone()).collect();
    let unanswered =
        effects.iter().map(|(at, m)| appended(at.clone(), vec![(None, m.clone())])).collect();
    let held = mailboxes.clone();
    Ok(Op::new(what, unanswered, mailboxes, async move {
        let results = match streamed(&store, &lane, targets, token).await {
            Ok(delivery) => delivery.commit().await,
            Err(error) => effects.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut outcome = Outcome::default();
        for (((at, message), result), mailbox) in effects.into_iter().zip(results).zip(held) {
            let uid = result.as_ref().ok().map(|a: &Appended| a.uid.0);
            let one = Outcome::of(&result, appended(at, vec![(uid, message)]));
            outcome.effects.extend(one.effects);
            outcome.error = outcome.error.or(one.error);
            if let Ok(a) = result {
                outcome = outcome.told(mailbox.id(), a.uid.0 + 1, a.modseq.0);
            }
        }
        outcome
    }))
}

/// MULTIAPPEND.
fn append_all(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Op> {
    let at = place(bench, random)?;
    let mut each = Vec::new();
    for _ in 0..2 + random.below(3) {
        each.push(target(bench, random, &at, take(token))?);
    }
    let (store, lane) = (bench.store.clone(), bench.lane().clone());
    let mailbox = bench.mailbox(&at)?;
    let nameless = each.iter().map(|(_, message)| (None, message.clone())).collect();
    let unanswered = vec![appended(at.clone(), nameless)];
    Ok(Op::new("multiappend", unanswered, vec![mailbox.clone()], async move {
        let mut messages: Vec<(Option<u32>, Msg)> =
            each.iter().map(|(_, message)| (None, message.clone())).collect();
        let result = async {
            let mut deliveries = Vec::new();
            for (target, message) in each {
                deliveries.push(streamed(&store, &lane, vec![target], message.token).await?);
            }
            Delivery::commit_all(deliveries).await
        }
        .await;
        let last = result.as_ref().ok().and_then(|all| all.last().copied());
        for (slot, a) in messages.iter_mut().zip(result.iter().flatten()) {
            slot.0 = Some(a.uid.0);
        }
        let outcome = Outcome::of(&result, appended(at, messages));
        match last {
            Some(a) => outcome.told(mailbox.id(), a.uid.0 + 1, a.modseq.0),
            None => outcome,
        }
    }))
}

/// A message for a user who may keep so many more. Refused, it leaves nothing.
fn append_within_limit(bench: &Bench, random: &mut Random, token: &mut u32) -> Result<Op> {
    let at = place(bench, random)?;
    let token = take(token);
    let (target, message) = target(bench, random, &at, token)?;
    let room = random.below(2);
    let (store, lane) = (bench.store.clone(), bench.lane().clone());
    let mailbox = target.mailbox.clone();
    let unanswered = vec![appended(at.clone(), vec![(None, message.clone())])];
    let what = format!("append with room for {room}");
    Ok(Op::new(&what, unanswered, vec![mailbox.clone()], async move {
        let most = target.user.usage().messages + room;
        let limited = UserOptions { quota_messages: Some(most), ..options(&at.0) };
        let result = async {
            store.user(&at.0, &limited).await?;
            let one = streamed(&store, &lane, vec![target], token).await?.commit().await.remove(0);
            store.user(&at.0, &options(&at.0)).await?;
            one
        }
        .await;
        let uid = result.as_ref().ok().map(|a| a.uid.0);
        let effect = appended(at, vec![(uid, message)]);
        match &result {
            // By a fault it may be the disk's limit, met on the way to the log.
            Err(Error::OverQuota) if room == 0 => Outcome::nothing(None),
            Ok(a) => Outcome::of(&result, effect).told(mailbox.id(), a.uid.0 + 1, a.modseq.0),
            Err(_) => Outcome::of(&result, effect),
        }
    }))
}

fn store(bench: &Bench, random: &mut Random) -> Result<Op> {
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
    let effect = Effect::Flags { at, uids, mode, flags, keywords };
    Ok(Op::new("store", vec![effect.clone()], vec![mailbox.clone()], async move {
        let result = mailbox.store(request).await;
        let outcome = Outcome::of(&result, effect);
        match result {
            Ok(stored) => outcome.told(mailbox.id(), 0, stored.modseq.0),
            Err(_) => outcome,
        }
    }))
}

fn annotate(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = place(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let uids = random.some(&uids(&mailbox));
    let comment = some_comment(random);
    let request = Annotate {
        uids: uids.iter().map(|u| Uid(*u)).collect(),
        values: vec![value(comment.as_ref())],
        unchanged_since: None,
    };
    let effect = Effect::Annotate { at, uids, comment };
    Ok(Op::new("annotate", vec![effect.clone()], vec![mailbox.clone()], async move {
        let result = mailbox.annotate(request, None).await;
        let outcome = Outcome::of(&result, effect);
        match result {
            Ok(stored) => outcome.told(mailbox.id(), 0, stored.modseq.0),
            Err(_) => outcome,
        }
    }))
}

fn expunge(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = place(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let uids = random.some(&uids(&mailbox));
    let (view, doomed) = (mailbox.view(), uids.iter().map(|u| Uid(*u)).collect());
    let effect = Effect::Expunge { at, uids };
    Ok(Op::new("expunge", vec![effect.clone()], vec![mailbox.clone()], async move {
        let result = mailbox.expunge(&view, doomed).await;
        let outcome = Outcome::of(&result, effect);
        match result {
            Ok(modseq) => outcome.told(mailbox.id(), 0, modseq.0),
            Err(_) => outcome,
        }
    }))
}

fn transfer(bench: &Bench, random: &mut Random, remove: bool) -> Result<Op> {
    let (from, to) = (place(bench, random)?, place(bench, random)?);
    let (source, target) = (bench.mailbox(&from)?, bench.mailbox(&to)?);
    let uids = random.some(&uids(&source));
    let (view, list) = (source.view(), uids.iter().map(|u| Uid(*u)).collect());
    let effect = |pairs| Effect::Transfer { from: from.clone(), to: to.clone(), pairs, remove };
    let unanswered = vec![effect(uids.iter().map(|uid| (*uid, None)).collect())];
    let mailboxes = vec![source.clone(), target.clone()];
    let what = if remove { "move" } else { "copy" };
    Ok(Op::new(what, unanswered.clone(), mailboxes, async move {
        let result = match remove {
            true => source.move_to(&view, list, &target).await,
            false => source.copy(&view, list, &target).await,
        };
        match result {
            Ok(copied) => {
                let last = copied.pairs.iter().map(|(_, new)| new.0 + 1).max().unwrap_or(0);
                let pairs = copied.pairs.iter().map(|(a, b)| (a.0, Some(b.0))).collect();
                let effect = Effect::Transfer { from, to, pairs, remove };
                Outcome::of(&Ok(()), effect).told(target.id(), last, 0)
            }
            Err(error) => Outcome::of::<()>(&Err(error), unanswered[0].clone()),
        }
    }))
}

fn a_name(random: &mut Random) -> String {
    NAMES[random.below(NAMES.len() as u64) as usize].to_owned()
}

fn create(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = (USERS[random.below(2) as usize].0.to_owned(), a_name(random));
    let user = bench.user(&at.0)?;
    let effect = Effect::Create { at: at.clone() };
    Ok(Op::new("create", vec![effect.clone()], vec![], async move {
        Outcome::of(&user.create(&at.1, &[]).await, effect)
    }))
}

fn delete(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = place(bench, random)?;
    let user = bench.user(&at.0)?;
    let effect = Effect::Delete { at: at.clone() };
    Ok(Op::new("delete", vec![effect.clone()], vec![], async move {
        Outcome::of(&user.delete(&at.1).await, effect)
    }))
}

fn rename(bench: &Bench, random: &mut Random) -> Result<Op> {
    let (user, from) = place(bench, random)?;
    let to = a_name(random);
    let holder = bench.user(&user)?;
    let mut effects = Vec::new();
    if from == "INBOX" {
        let (inbox, there) = ((user.clone(), from.clone()), (user, to.clone()));
        let since = bench.mailbox(&inbox)?.view().uid_next().0;
        effects.push(Effect::Create { at: there.clone() });
        effects.push(Effect::MoveAll { from: inbox, to: there, since });
    } else {
        effects.push(Effect::Rename { user, from: from.clone(), to: to.clone() });
    }
    Ok(Op::new("rename", effects.clone(), vec![], async move {
        let result = holder.rename(&from, &to).await;
        let mut outcome = Outcome::default();
        for effect in effects {
            let one = Outcome::of(&result, effect);
            outcome.effects.extend(one.effects);
            outcome.error = one.error;
        }
        if from == "INBOX" && matches!(result, Err(Error::MailboxGone | Error::NoSuchMailbox)) {
            // Made, then taken away by another session before the messages came.
            let made = Effect::Create { at: (holder.name().to_owned(), to) };
            outcome.effects.push((made, true));
        }
        outcome
    }))
}

fn subscribe(bench: &Bench, random: &mut Random) -> Result<Op> {
    let (user, _) = place(bench, random)?;
    let at = (user, a_name(random));
    let on = !random.once_in(3);
    let holder = bench.user(&at.0)?;
    let effect = Effect::Subscribe { at: at.clone(), on };
    Ok(Op::new("subscribe", vec![effect.clone()], vec![], async move {
        Outcome::of(&holder.subscribe(&at.1, on).await, effect)
    }))
}

fn set_acl(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = place(bench, random)?;
    let who = Identifier::User(["fred", "eve"][random.below(2) as usize].to_owned());
    let entry = AclEntry { negative: random.once_in(3), who };
    let rights = [Rights::NONE, Rights::LOOKUP, Rights::ALL][random.below(3) as usize];
    let holder = bench.user(&at.0)?;
    let (who, change) = (entry.to_string(), RightsChange::Replace(rights));
    let effect = Effect::SetAcl { at: at.clone(), who, rights: rights.to_string() };
    Ok(Op::new("set rights", vec![effect.clone()], vec![], async move {
        Outcome::of(&holder.set_acl(&at.1, entry, change).await, effect)
    }))
}

/// A session that selects: it claims what is recent, and looks for other programs' changes.
fn claim(bench: &Bench, random: &mut Random) -> Result<Op> {
    let at = place(bench, random)?;
    let mailbox = bench.mailbox(&at)?;
    let waits = random.once_in(2);
    Ok(Op::new("select", vec![], vec![mailbox.clone()], async move {
        let mut outcome = Outcome::default();
        let view = match mailbox.first_look().await {
            Ok(FirstLook::Whole(view)) => Ok(view),
            Ok(FirstLook::Promised(promised)) => {
                let modseq = promised.before().modseq_highest().0;
                outcome = outcome.told(mailbox.id(), promised.uid_next().0, modseq);
                if !waits {
                    return outcome;
                }
                mailbox.kept(&promised).await
            }
            Err(error) => Err(error),
        };
        match view {
            Ok(view) => {
                mailbox.claim_recent(&view, true);
                let (next, modseq) = (view.uid_next().0, view.modseq_highest().0);
                outcome.told(mailbox.id(), next, modseq)
            }
            Err(error) => Outcome { error: Some(error), ..outcome },
        }
    }))
}

/// Puts so many messages into a mailbox, in large transactions.
pub fn fill(bench: &Bench, at: &Place, count: u32) {
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
                let one = streamed(&bench.store, bench.lane(), vec![target], token).await?;
                deliveries.push(one);
            }
            Delivery::commit_all(deliveries).await
        });
        token += done.expect("messages are stored").len() as u32;
    }
}
