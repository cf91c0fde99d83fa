//! The first SELECT of a Maildir that other programs filled: answered by what the listing told, while
//! the messages are still being read.
//!
//! A promise says of an empty index which UIDs the messages that were found will have, what UIDNEXT is
//! then, and which flags they have, where their names alone tell that. It is made by the rescan that
//! takes them in, between its listing and its reading, when somebody waits in a `first_look`, and kept
//! when all frames of that rescan are applied; where it is part of a takeover ([`crate::takeover`]),
//! when that is done.
//!
//! Invariants:
//! - A promised message gets the promised UID or none: one that vanished or cannot be read now burns
//!   it. No other message gets a UID below the promised UIDNEXT: whoever gives UIDs here waits
//!   ([`MailboxInner::appending`]) until the promise is kept.
//! - Whoever asks for the newest view waits likewise ([`Mailbox::refresh`]), so that UIDNEXT is told
//!   rising.
//! - Before anybody hears of a promise, its UIDNEXT is durable: after a crash what is not in the log
//!   gets UIDs behind it, since the promised ones were told for what was there then. Those that an old
//!   server's list gives are the same again.
//! - No MODSEQ of a message is told before it is durable and applied as ever. UIDs and flags may be
//!   ([`Promised::messages`]): after a crash such a UID has its message or, as UIDNEXT is durable, none for
//!   good; and whoever told flags tells those that are others when the promise is kept
//!   ([`Mailbox::told_otherwise`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use protocol::types::{SeqNum, SystemFlags, Uid};

use super::files::Files;
use super::ops::ranges;
use super::{Mailbox, MailboxInner, Place, View, settle};
use crate::error::{Error, Result};
use crate::layout::{Found, NameFlags};
use crate::shared::Drive;
use crate::takeover::{has_keywords, letter_bits, remember_promise};

/// Of a mailbox's state: who wants a promise, who stands in the way of one, and the one there is.
#[derive(Default)]
pub(crate) struct Naming {
    /// Callers of [`Mailbox::first_look`].
    wanted: u32,
    /// Changes on their way that will take UIDs.
    appending: u32,
    stage: Stage,
}

#[derive(Default)]
enum Stage {
    #[default]
    None,
    /// With this UIDNEXT, which is on its way to the disk.
    Begun(Uid),
    Made(Promised),
}

/// What was told of a mailbox's messages before they were read.
struct Promise {
    /// Ascending, inclusive.
    uids: Vec<(u32, u32)>,
    exists: u32,
    uid_next: Uid,
    first_unseen: Option<SeqNum>,
    /// Of each message, in order; `None` where more than names tells them.
    flags: Option<Vec<SystemFlags>>,
    /// More is being taken over than the messages.
    takes_over: AtomicBool,
    /// Why it was not kept.
    broken: OnceLock<Error>,
}

/// See [`crate::User::first_look`].
#[derive(Clone)]
pub struct Promised {
    what: Arc<Promise>,
    /// The mailbox without the messages.
    before: View,
}

/// The first view of a mailbox, or what can be told of it already.
pub enum FirstLook {
    /// As [`Mailbox::refresh`] gives it.
    Whole(View),
    /// The messages are being read.
    Promised(Promised),
}

impl Promised {
    /// Number of messages.
    pub fn exists(&self) -> u32 {
        self.what.exists
    }

    /// UIDNEXT.
    pub fn uid_next(&self) -> Uid {
        self.what.uid_next
    }

    /// The first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<SeqNum> {
        self.what.first_unseen
    }

    /// The mailbox as it was without the messages: empty. It has its keywords and HIGHESTMODSEQ.
    pub fn before(&self) -> &View {
        &self.before
    }

    /// The last promised UID.
    pub fn uid_last(&self) -> Uid {
        Uid(self.what.uids.last().map_or(0, |&(_, last)| last))
    }

    /// The promised messages with UIDs from `first` to `last`, inclusive.
    pub fn seqs_in_uid_range(&self, (first, last): (u32, u32)) -> Option<(SeqNum, SeqNum)> {
        let mut before = 0;
        let mut found: Option<(u32, u32)> = None;
        for &(from, to) in &self.what.uids {
            if from.max(first) <= to.min(last) {
                let seq = |uid: u32| before + uid - from + 1;
                let (low, high) = (seq(from.max(first)), seq(to.min(last)));
                found = Some((found.map_or(low, |(low, _)| low), high));
            }
            before += to - from + 1;
        }
        found.map(|(low, high)| (SeqNum(low), SeqNum(high)))
    }

    /// UIDs and flags of the messages from `first` to `last`, inclusive, as far as there are any; `None`
    /// if only the messages themselves or an old server's files tell their flags. They have no keywords.
    pub fn messages(
        &self,
        first: SeqNum,
        last: SeqNum,
    ) -> Option<impl Iterator<Item = (SeqNum, Uid, SystemFlags)> + '_> {
        let flags = self.what.flags.as_ref()?;
        let mut skipped = first.0.saturating_sub(1);
        let parts = self.what.uids.iter().map(move |&(from, to)| {
            let skip = skipped.min(to - from + 1);
            skipped -= skip;
            from + skip..=to
        });
        let uids = parts.flatten().zip(first.0.max(1)..=last.0);
        Some(
            uids.zip(flags.iter().skip(first.0.saturating_sub(1) as usize))
                .map(|((uid, seq), &flags)| (SeqNum(seq), Uid(uid), flags)),
        )
    }

    /// Promised messages that `view`, of [`Mailbox::kept`], has not: where they were, ascending, and
    /// their UIDs. Little to do where none is missing.
    pub fn missing(&self, view: &View) -> Vec<(SeqNum, Uid)> {
        // Nothing else has UIDs below: the mailbox was empty.
        let there = view.seqs_in_uid_range((1, self.what.uid_next.0.saturating_sub(1)));
        if there.is_some_and(|(first, last)| last.0 - first.0 + 1 == self.exists()) {
            return Vec::new();
        }
        let mut now = view.uids().map(|(_, uid)| uid).peekable();
        let promised = self.what.uids.iter().flat_map(|&(first, last)| first..=last);
        let missing = promised.enumerate().filter(|(_, uid)| {
            while now.next_if(|there| there.0 < *uid).is_some() {}
            now.next_if_eq(&Uid(*uid)).is_none()
        });
        missing.map(|(at, uid)| (SeqNum(at as u32 + 1), Uid(uid))).collect()
    }
}

/// While it lives, somebody wants a promise.
pub(crate) struct Wants(Arc<MailboxInner>);

impl Wants {
    pub(crate) fn of(inner: &Arc<MailboxInner>) -> Wants {
        inner.state.lock().naming.wanted += 1;
        Wants(inner.clone())
    }
}

impl Drop for Wants {
    fn drop(&mut self) {
        self.0.state.lock().naming.wanted -= 1;
    }
}

/// While it lives no promise is made: its owner is about to take UIDs.
pub(crate) struct Appending(Arc<MailboxInner>);

impl Drop for Appending {
    fn drop(&mut self) {
        self.0.state.lock().naming.appending -= 1;
    }
}

impl Mailbox {
    /// As [`Mailbox::refresh`], for a first answer that needs no message: of many messages that
    /// another program put into an empty Maildir it may be told how many they are before they are
    /// read. [`Mailbox::kept`] is the rest.
    ///
    /// # Errors
    /// As [`Mailbox::refresh`].
    pub async fn first_look(&self) -> Result<FirstLook> {
        let inner = &self.0;
        if inner.shared.drive == Drive::Inline {
            return self.refresh().await.map(FirstLook::Whole);
        }
        self.settled().await;
        if let Some(what) = inner.promise() {
            return Ok(FirstLook::Promised(what));
        }
        inner.named().await;
        if !inner.may_differ() {
            return Ok(FirstLook::Whole(self.view()));
        }
        let _wants = Wants::of(inner);
        let Some(heard) = inner.ask_rescan() else { return Ok(FirstLook::Whole(self.view())) };
        tokio::select! {
            promised = self.promised() => Ok(FirstLook::Promised(promised)),
            done = settle(&inner.shared, heard) => {
                done.map(|()| FirstLook::Whole(self.view()))
            }
        }
    }

    /// Waits for a promise. Cancel-safe.
    pub(crate) async fn promised(&self) -> Promised {
        let mut version = self.0.version.subscribe();
        loop {
            if let Some(promised) = self.0.promise() {
                return promised;
            }
            // The sender lives in the mailbox.
            let _ = version.changed().await;
        }
    }

    /// The messages of `view`, of [`Mailbox::kept`], that have other flags than [`Promised::messages`] told,
    /// or keywords.
    ///
    /// # Errors
    /// When the store is closing.
    pub async fn told_otherwise(&self, promised: &Promised, view: &View) -> Result<Vec<SeqNum>> {
        let (promised, view) = (promised.clone(), view.clone());
        let compare = move || {
            let Some(told) = promised.messages(SeqNum(1), SeqNum(u32::MAX)) else {
                return Vec::new();
            };
            let mut told = told.map(|(_, uid, flags)| (uid, flags)).peekable();
            let last = SeqNum(view.exists());
            let records = view.records(SeqNum(1), last).filter(|(_, record)| {
                while told.next_if(|(uid, _)| *uid < record.uid).is_some() {}
                // One that was not promised is told as new.
                let as_told = told.next_if(|(uid, _)| *uid == record.uid);
                as_told.is_some_and(|(_, flags)| flags != record.flags || record.keywords != 0)
            });
            records.map(|(seq, _)| seq).collect()
        };
        self.0.shared.helpers.run(compare).await.map_err(|_| Error::Closing)
    }

    /// The view with the promised messages, once they are read. Some may be missing from it, and
    /// others may be there too.
    ///
    /// # Errors
    /// What kept them from being taken in.
    pub async fn kept(&self, promised: &Promised) -> Result<View> {
        let is_it = |made: &Promised| Arc::ptr_eq(&made.what, &promised.what);
        self.0.wait_while(|stage| matches!(stage, Stage::Made(made) if is_it(made))).await;
        match promised.what.broken.get() {
            Some(error) => Err(error.clone()),
            None => Ok(self.view()),
        }
    }
}

impl MailboxInner {
    /// The promise that is to be kept.
    pub(crate) fn promise(&self) -> Option<Promised> {
        match &self.state.lock().naming.stage {
            Stage::Made(promised) => Some(promised.clone()),
            Stage::None | Stage::Begun(_) => None,
        }
    }

    async fn wait_while(&self, is_so: impl Fn(&Stage) -> bool) {
        let mut version = self.version.subscribe();
        while is_so(&self.state.lock().naming.stage) {
            // The sender lives in the mailbox.
            let _ = version.changed().await;
        }
    }

    /// Returns when no promise is to be kept any more. Cancel-safe.
    pub(super) async fn named(&self) {
        self.wait_while(|stage| !matches!(stage, Stage::None)).await;
    }

    /// For who is about to take UIDs: waits until no promise stands against it, and keeps new ones
    /// away. Never over a wait for what a rescan does.
    pub(crate) async fn appending(self: &Arc<Self>) -> Appending {
        loop {
            {
                let mut state = self.state.lock();
                if matches!(state.naming.stage, Stage::None) {
                    state.naming.appending += 1;
                    return Appending(self.clone());
                }
            }
            self.named().await;
        }
    }

    /// Promises `fresh`, which are in the order in which they will be taken in, their UIDs, if that is
    /// wanted and can be held. Under the file lock, in a rescan.
    pub(super) fn make_promise(
        self: &Arc<Self>,
        files: &Files,
        place: &Place,
        fresh: &mut [Found],
    ) {
        if files.head.count > 0 || fresh.len() < self.shared.config.promise_messages_min {
            return;
        }
        // Met twice while another program moves it.
        if fresh.windows(2).any(|pair| pair[0].base == pair[1].base) {
            return;
        }
        let Some((uids, uid_next)) = self.begin_promise(fresh) else { return };
        let takes_over = !self.looked.load(Ordering::Acquire);
        let flags = self.flags_by_names(place, fresh, takes_over);
        if let Err(error) = remember_promise(&self.shared, &place.dir, uid_next) {
            tracing::warn!(mailbox = %self.id, %error, "messages are read before their number is told");
            self.state.lock().naming.stage = Stage::None;
            return self.wake();
        }
        for (file, uid) in fresh.iter_mut().zip(&uids) {
            file.uid = *uid;
        }
        let unseen = |file: &Found| !file.flags.system().contains(SystemFlags::SEEN);
        let what = Promise {
            exists: uids.len() as u32,
            uids: ranges(&uids),
            uid_next,
            first_unseen: fresh.iter().position(unseen).map(|at| SeqNum(at as u32 + 1)),
            flags,
            takes_over: AtomicBool::new(takes_over),
            broken: OnceLock::new(),
        };
        let promised = Promised { what: Arc::new(what), before: self.view() };
        self.state.lock().naming.stage = Stage::Made(promised);
        self.wake();
    }

    /// The flags of files whose names tell all: none of them has a letter that stands for a keyword, and
    /// no old server keeps keywords elsewhere.
    fn flags_by_names(
        &self,
        place: &Place,
        fresh: &[Found],
        takes_over: bool,
    ) -> Option<Vec<SystemFlags>> {
        let lettered =
            |file: &Found| letter_bits(file) | u32::from(file.flags.0 & NameFlags::PASSED) != 0;
        if takes_over && has_keywords(&*self.shared.storage, &place.dir)
            || fresh.iter().any(lettered)
        {
            return None;
        }
        Some(fresh.iter().map(|file| file.flags.system()).collect())
    }

    /// UIDs in the order of `fresh`, and UIDNEXT behind them.
    fn begin_promise(&self, fresh: &[Found]) -> Option<(Vec<Uid>, Uid)> {
        let told = self.foreign.lock().told.clone();
        let mut state = self.open_state().ok()?;
        let naming = &state.naming;
        let hindered = naming.appending > 0 || !matches!(naming.stage, Stage::None);
        if naming.wanted == 0 || hindered || !state.queue.is_empty() {
            return None;
        }
        let mut next = state.uid_next;
        let mut uids = Vec::with_capacity(fresh.len());
        for file in fresh {
            let uid = told.as_ref().map_or(next, |told| told.next(&file.base, next));
            uids.push(uid);
            next = Uid(uid.0.checked_add(1)?);
        }
        let uid_next = told.map_or(next, |told| next.max(told.uid_next()));
        state.naming.stage = Stage::Begun(uid_next);
        Some((uids, uid_next))
    }

    /// What an old server left is taken over, or cannot be: a promise of messages ends, too.
    pub(crate) fn taken_over(self: &Arc<Self>, failed: Option<&Error>) {
        if let Some(error) = failed {
            self.break_promise(error);
        }
        if let Stage::Made(promised) = &self.state.lock().naming.stage {
            promised.what.takes_over.store(false, Ordering::Release);
        }
        self.keep_promise(&mut self.files.lock());
    }

    /// The messages could not be taken in, or not all.
    pub(super) fn break_promise(&self, error: &Error) {
        if let Stage::Made(promised) = &self.state.lock().naming.stage {
            // The first error tells more.
            let _ = promised.what.broken.set(error.clone());
        }
    }

    /// Ends a promise when nothing of its rescan is on its way any more. Under the file lock.
    pub(super) fn keep_promise(self: &Arc<Self>, files: &mut Files) {
        let mut state = self.state.lock();
        let uid_next = match &state.naming.stage {
            Stage::None => return,
            _ if state.rescan_frames > 0 => return,
            Stage::Begun(uid_next) => *uid_next,
            Stage::Made(promised) if promised.what.takes_over.load(Ordering::Acquire) => return,
            Stage::Made(promised) => promised.what.uid_next,
        };
        // The last ones may have vanished.
        state.uid_next = state.uid_next.max(uid_next);
        files.head.uid_next = files.head.uid_next.max(uid_next);
        self.publish(files);
        // Whom that wakes waits for the state lock.
        state.naming.stage = Stage::None;
        drop(state);
        self.mark_dirty();
    }
}
