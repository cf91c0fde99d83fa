//! The locked snapshot of INBOX, and what QUIT does to it.

use std::collections::{HashMap, HashSet};

use auth::Account;
use engine::{Mailbox, MaildropLock, Record, StoreMode, StoreRequest, User, View};
use protocol::pop3::MessageNumber;
use protocol::types::{SeqNum, SystemFlags, Uid};

use super::uidl::{self, Names};
use crate::services::Services;

/// Why there is no maildrop.
pub(super) enum OpenError {
    /// Another POP3 session has it.
    InUse,
    /// The store says so.
    Store(engine::Error),
}

impl From<engine::Error> for OpenError {
    fn from(error: engine::Error) -> OpenError {
        OpenError::Store(error)
    }
}

/// Count and size of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// Why a message isn't given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMessage {
    /// The number is above the count.
    None,
    /// DELE was here.
    Deleted,
    /// The login may read and nothing else.
    ReadOnly,
}

impl NoMessage {
    pub(super) fn text(self) -> &'static str {
        match self {
            NoMessage::None => "no such message",
            NoMessage::Deleted => "message is deleted",
            NoMessage::ReadOnly => "this login can read and nothing else",
        }
    }
}

pub(super) struct Maildrop {
    pub(super) mailbox: Mailbox,
    view: View,
    user: User,
    read_only: bool,
    /// Retrieved messages go with QUIT.
    remove_retrieved: bool,
    /// The form of UIDLs.
    form: Box<str>,
    /// Those that an old server's list has, and those that messages had at another server.
    uidls: HashMap<Uid, String>,
    /// Of the latter, all that were ever given: no other message gets one of these.
    taken: HashSet<String>,
    /// The highest number that was asked for, for LAST.
    last: u32,
    /// Its value at the login.
    last_before: u32,
    deleted: Marks,
    retrieved: Marks,
    /// Of all messages, deleted or not.
    all: Totals,
    /// Of those marked as deleted.
    gone: Totals,
    _lock: MaildropLock,
}

impl Maildrop {
    pub(super) async fn open(
        services: &Services,
        account: &Account,
    ) -> Result<Maildrop, OpenError> {
        let user = services.open_user(account).await?;
        let lock = user.lock_maildrop().ok_or(OpenError::InUse)?;
        let mailbox = user.mailbox("INBOX").await?;
        let view = mailbox.refresh().await?;
        let pop3 = &services.config().pop3;
        let mut uidls = match pop3.uidl == "courier" {
            true => mailbox.courier_uidls(&view).await?.unwrap_or_default(),
            false => mailbox.dovecot_uidls(&view).await?,
        };
        let given = mailbox.given_uidls().await?;
        let taken = given.values().cloned().collect();
        uidls.extend(given);
        let mut all = Totals::default();
        let mut seen = 0;
        for (seq, record) in view.records(SeqNum(1), SeqNum(view.exists())) {
            all.messages += 1;
            all.bytes += u64::from(record.size);
            if record.flags.contains(SystemFlags::SEEN) {
                seen = seq.0;
            }
        }
        Ok(Maildrop {
            mailbox,
            view,
            user,
            read_only: account.attributes.read_only,
            remove_retrieved: pop3.expire_days == Some(0),
            form: pop3.uidl_form().into(),
            uidls,
            taken,
            last: seen,
            last_before: seen,
            deleted: Marks::default(),
            retrieved: Marks::default(),
            all,
            gone: Totals::default(),
            _lock: lock,
        })
    }

    /// Whose it is.
    pub(super) fn user(&self) -> &User {
        &self.user
    }

    /// Messages at the start of the session.
    pub(super) fn count(&self) -> u32 {
        self.view.exists()
    }

    /// What is left.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            messages: self.all.messages.saturating_sub(self.gone.messages),
            bytes: self.all.bytes.saturating_sub(self.gone.bytes),
        }
    }

    /// Every message that is left, from `first` on.
    pub(super) fn left_from(
        &self,
        first: u32,
        last: u32,
    ) -> impl Iterator<Item = (SeqNum, Record)> + '_ {
        let last = last.min(self.view.exists());
        let records = self.view.records(SeqNum(first), SeqNum(last));
        records.filter(|(seq, _)| !self.deleted.contains(seq.index()))
    }

    /// One message that is left.
    pub(super) fn find(&self, message: MessageNumber) -> Result<Record, NoMessage> {
        if self.deleted.contains(message.index()) {
            return Err(NoMessage::Deleted);
        }
        let seq = u32::try_from(message.index() + 1).map_err(|_| NoMessage::None)?;
        if seq > self.view.exists() {
            return Err(NoMessage::None);
        }
        self.view.record(SeqNum(seq)).ok_or(NoMessage::None)
    }

    /// The name of a message that never changes.
    pub(super) fn uidl(&self, uid: Uid) -> String {
        if let Some(known) = self.uidls.get(&uid) {
            return known.clone();
        }
        let file = match uidl::needs_file(&self.form) {
            true => self.view.file_name(uid),
            false => None,
        };
        let validity = self.view.uid_validity();
        let names = Names { validity, uid, file: file.as_deref() };
        uidl::distinct(uidl::write(&self.form, names), |uidl| self.taken.contains(uidl))
    }

    pub(super) fn delete(&mut self, message: MessageNumber) -> Result<(), NoMessage> {
        let record = self.find(message)?;
        if self.read_only {
            return Err(NoMessage::ReadOnly);
        }
        self.deleted.insert(message.index());
        self.gone.messages += 1;
        self.gone.bytes += u64::from(record.size);
        Ok(())
    }

    /// The highest number that was asked for, now or before: RFC 1460.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Notes that the whole message was given.
    pub(super) fn retrieved(&mut self, message: MessageNumber) {
        let number = u32::try_from(message.index() + 1).unwrap_or(u32::MAX);
        self.last = self.last.max(number);
        if !self.read_only {
            self.retrieved.insert(message.index());
        }
    }

    pub(super) fn reset(&mut self) {
        self.last = self.last_before;
        self.deleted = Marks::default();
        self.gone = Totals::default();
    }

    /// The UPDATE state: what was deleted is removed, durably; what was read is marked as seen.
    pub(super) async fn update(&mut self) -> engine::Result<()> {
        if self.remove_retrieved {
            let retrieved = std::mem::take(&mut self.retrieved);
            retrieved.iter().for_each(|index| self.deleted.insert(index));
        }
        let uid =
            |index: usize| u32::try_from(index + 1).ok().and_then(|n| self.view.uid(SeqNum(n)));
        let deleted: Vec<Uid> = self.deleted.iter().filter_map(uid).collect();
        let seen: Vec<Uid> = self
            .retrieved
            .iter()
            .filter(|&index| !self.deleted.contains(index))
            .filter_map(uid)
            .collect();
        if !seen.is_empty() {
            let request = StoreRequest {
                uids: seen,
                mode: StoreMode::Add,
                flags: SystemFlags::SEEN,
                keywords: Vec::new(),
                unchanged_since: None,
            };
            self.mailbox.store(request).await?;
        }
        if !deleted.is_empty() {
            self.mailbox.expunge(&self.view, deleted).await?;
        }
        Ok(())
    }
}

/// A set of message positions; takes memory only as far as it is used.
#[derive(Default)]
struct Marks(Vec<u64>);

impl Marks {
    fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn insert(&mut self, index: usize) {
        if self.0.len() <= index / 64 {
            self.0.resize(index / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|&index| self.contains(index))
    }
}

#[cfg(test)]
mod tests {
    use super::Marks;

    #[test]
    fn marks_hold_what_was_put_in() {
        let mut marks = Marks::default();
        for index in [0, 63, 64, 1000] {
            assert!(!marks.contains(index));
            marks.insert(index);
            assert!(marks.contains(index));
        }
        assert_eq!(marks.iter().collect::<Vec<_>>(), [0, 63, 64, 1000]);
        assert!(!marks.contains(1001));
        assert!(!marks.contains(100_000));
    }
}
