//! What migration, export and import ask of a store: messages as they are known, their octets, and
//! changes of flags, rights and uses that another server told.

use engine::{
    AclEntry, Error, Mailbox, MailboxId, MessageFile, Record, RightsChange, StoreMode,
    StoreRequest, View, domain_of,
};
use engine::{Rights, SpecialUse};
use protocol::imap::response::{self, Response, Value};
use protocol::types::{SystemFlags, Uid, UidValidity};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::operator::{Operator, failure, parse_flags, special};
use crate::wire::{
    Failure, FailureCode, FlagsChange, MESSAGE_LINES_MAX, MessageLine, READ_MESSAGES_MAX, Reply,
};

/// Locks that mailboxes share.
const TURNS: usize = 64;

/// Where the Message-ID is in an ENVELOPE.
const ENVELOPE_MESSAGE_ID: usize = 9;

/// One after the other, for imports that look at UIDNEXT first. A mailbox always has the same of
/// these locks.
pub struct Turns([tokio::sync::Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Turns {
        Turns(std::array::from_fn(|_| tokio::sync::Mutex::new(())))
    }
}

impl Turns {
    pub(crate) fn of(&self, mailbox: MailboxId) -> &tokio::sync::Mutex<()> {
        // The id is random, so any byte of it deals evenly.
        &self.0[usize::from(mailbox.0[0]) % TURNS]
    }
}

/// Messages that are open to be read.
pub struct Bodies(Vec<Option<(MessageFile, u64)>>);

impl Bodies {
    /// The answer that goes before the octets.
    pub fn reply(&self) -> Reply {
        let octets = self.0.iter().map(|one| one.as_ref().map(|(_, octets)| *octets)).collect();
        Reply::Bodies { octets }
    }

    /// Writes the octets of all of them, each as many as the answer says.
    ///
    /// # Errors
    /// A file that cannot be read, or is not as long as it was: what has been written is not all
    /// then, and nothing can follow it.
    pub async fn write(self, out: &mut (dyn AsyncWrite + Unpin)) -> std::io::Result<()> {
        for (file, octets) in self.0.into_iter().flatten() {
            let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
            let mut left = octets;
            while let Some(piece) = served.next().await.map_err(std::io::Error::other)? {
                left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                    std::io::Error::other("a message file is longer than when it was stored")
                })?;
                out.write_all(&piece).await?;
            }
            if left > 0 {
                let message = "a message file is shorter than when it was stored";
                return Err(std::io::Error::other(message));
            }
        }
        out.flush().await
    }
}

impl Operator {
    async fn open_mailbox(&self, user: &str, mailbox: &str) -> Result<Mailbox, Failure> {
        self.user(user).await?.mailbox(mailbox).await.map_err(failure)
    }

    pub(crate) async fn messages(
        &self,
        user: &str,
        mailbox: &str,
        (above, limit): (u32, u32),
        message_ids: bool,
    ) -> Result<Reply, Failure> {
        let mailbox = self.open_mailbox(user, mailbox).await?;
        let view = mailbox.refresh().await.map_err(failure)?;
        let limit = limit.min(MESSAGE_LINES_MAX) as usize;
        let first = above.saturating_add(1);
        let found: Vec<Record> = match view.seqs_in_uid_range((first, u32::MAX)) {
            Some((first, last)) => {
                let uids = view.uids_within(first, last).take(limit + 1);
                uids.filter_map(|uid| view.record_of(uid).map(|(_, record)| record)).collect()
            }
            None => Vec::new(),
        };
        let more = found.len() > limit;
        let mut messages = Vec::with_capacity(found.len().min(limit));
        for record in found.iter().take(limit) {
            let message_id = match message_ids {
                true => self.message_id(&mailbox, record).await?,
                false => None,
            };
            messages.push(MessageLine {
                uid: record.uid.0,
                flags: flags_of(&view, record),
                internal_date: record.internal_date,
                sent_date: Some(record.sent_date)
                    .filter(|date| !matches!(*date, 0 | u32::MAX))
                    .map(i64::from),
                size: u64::from(record.size),
                content_id: view.content_id(record.uid).unwrap_or_default(),
                message_id,
            });
        }
        let uid_next = view.uid_next().0;
        Ok(Reply::Messages { uid_validity: view.uid_validity().0, uid_next, messages, more })
    }

    async fn message_id(
        &self,
        mailbox: &Mailbox,
        record: &Record,
    ) -> Result<Option<String>, Failure> {
        let blob = match mailbox.extras(&self.lane, record).await {
            Ok(blob) => blob,
            Err(Error::Expunged(_)) => return Ok(None),
            Err(error) => return Err(failure(error)),
        };
        Ok(blob.extras().and_then(|extras| message_id_of(extras.envelope())))
    }

    /// Opens messages to be read.
    pub async fn bodies(&self, user: &str, mailbox: &str, uids: &[u32]) -> Result<Bodies, Failure> {
        if uids.len() > READ_MESSAGES_MAX {
            let message = format!("{} messages, expected at most {READ_MESSAGES_MAX}", uids.len());
            return Err(Failure::new(FailureCode::BadRequest, message));
        }
        let mailbox = self.open_mailbox(user, mailbox).await?;
        let view = mailbox.view();
        let mut found = Vec::with_capacity(uids.len());
        for uid in uids {
            let Some((_, record)) = view.record_of(Uid(*uid)) else {
                found.push(None);
                continue;
            };
            found.push(match mailbox.message(&self.lane, &record).await {
                Ok(file) => Some((file, u64::from(record.size))),
                Err(Error::Expunged(_)) => None,
                Err(error) => return Err(failure(error)),
            });
        }
        Ok(Bodies(found))
    }

    pub(crate) async fn same(
        &self,
        user: &str,
        mailbox: &str,
        uid_validity: u32,
    ) -> Result<Mailbox, Failure> {
        let open = self.open_mailbox(user, mailbox).await?;
        let found = open.uid_validity().0;
        if found != uid_validity {
            let message = format!("{mailbox}: UIDVALIDITY is {found}, expected {uid_validity}");
            return Err(Failure::new(FailureCode::Changed, message));
        }
        Ok(open)
    }

    pub(crate) async fn change_flags(
        &self,
        user: &str,
        mailbox: &str,
        uid_validity: u32,
        changes: Vec<FlagsChange>,
    ) -> Result<Reply, Failure> {
        let mailbox = self.same(user, mailbox, uid_validity).await?;
        for change in changes {
            let modes = [(StoreMode::Add, change.add), (StoreMode::Remove, change.remove)];
            for (mode, flags) in modes.into_iter().filter(|(_, flags)| !flags.is_empty()) {
                let (flags, keywords) = parse_flags(&flags)?;
                let uids = ascending(&change.uids);
                let unchanged_since = None;
                let request = StoreRequest { uids, mode, flags, keywords, unchanged_since };
                mailbox.store(request).await.map_err(failure)?;
            }
        }
        Ok(Reply::Done)
    }

    pub(crate) async fn expunge(
        &self,
        user: &str,
        mailbox: &str,
        uid_validity: u32,
        uids: Vec<u32>,
    ) -> Result<Reply, Failure> {
        let mailbox = self.same(user, mailbox, uid_validity).await?;
        mailbox.expunge(&mailbox.view(), ascending(&uids)).await.map_err(failure)?;
        Ok(Reply::Done)
    }

    /// A move within the mailbox: all or none of each transaction.
    pub(crate) async fn renumber(
        &self,
        user: &str,
        mailbox: &str,
        uid_validity: u32,
        uids: &[u32],
    ) -> Result<Reply, Failure> {
        let mailbox = self.same(user, mailbox, uid_validity).await?;
        let view = mailbox.refresh().await.map_err(failure)?;
        let moved = mailbox.move_to(&view, ascending(uids), &mailbox).await.map_err(failure)?;
        let uids = moved.pairs.iter().map(|(before, now)| (before.0, now.0)).collect();
        Ok(Reply::Renumbered { uids })
    }

    pub(crate) async fn uidls(
        &self,
        user: &str,
        mailbox: &str,
        above: u32,
    ) -> Result<Reply, Failure> {
        let given = self.open_mailbox(user, mailbox).await?.given_uidls().await;
        let given = given.map_err(failure)?.into_iter().map(|(uid, uidl)| (uid.0, uidl));
        let mut uidls: Vec<(u32, String)> = given.filter(|(uid, _)| *uid > above).collect();
        uidls.sort_unstable();
        let more = uidls.len() > MESSAGE_LINES_MAX as usize;
        uidls.truncate(MESSAGE_LINES_MAX as usize);
        Ok(Reply::Uidls { uidls, more })
    }

    pub(crate) async fn set_uidls(
        &self,
        user: &str,
        mailbox: &str,
        uid_validity: u32,
        uidls: Vec<(u32, String)>,
    ) -> Result<Reply, Failure> {
        self.same(user, mailbox, uid_validity).await?;
        let uidls = uidls.into_iter().map(|(uid, uidl)| (Uid(uid), uidl)).collect();
        let owner = self.user(user).await?;
        owner.set_uidls(mailbox, UidValidity(uid_validity), uidls).await.map_err(failure)?;
        Ok(Reply::Done)
    }

    pub(crate) async fn set_acl(
        &self,
        user: &str,
        mailbox: &str,
        identifier: &str,
        rights: &str,
    ) -> Result<Reply, Failure> {
        let owner = self.user(user).await?;
        let domain = domain_of(owner.name()).to_owned();
        let bad = |what: String| Failure::new(FailureCode::BadRequest, what);
        let rights = Rights::parse(rights)
            .ok_or_else(|| bad(format!("rights {rights:?}, expected letters of lrswipkxtecdan")))?;
        let canonical = |name: &str| {
            let whole = match name.contains('@') || domain.is_empty() {
                true => name.to_owned(),
                false => format!("{name}@{domain}"),
            };
            auth::UserName::new(&whole).ok().map(|name| name.as_str().to_owned())
        };
        let entry = AclEntry::parse(identifier, canonical)
            .ok_or_else(|| bad(format!("identifier {identifier:?}, expected a name")))?;
        let change = RightsChange::Replace(rights);
        owner.set_acl(mailbox, entry, change).await.map_err(failure)?;
        Ok(Reply::Done)
    }

    pub(crate) async fn set_special_use(
        &self,
        user: &str,
        mailbox: &str,
        special_use: &[String],
    ) -> Result<Reply, Failure> {
        let uses = special_use.iter().map(|u| special(u)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = uses.iter().map(|one: &SpecialUse| one.as_str()).collect();
        let value = Some(names.join(" ").into_bytes());
        let user = self.user(user).await?;
        let changes = vec![("/private/specialuse".to_owned(), value)];
        user.set_metadata(Some(mailbox), user.name(), changes).await.map_err(failure)?;
        Ok(Reply::Done)
    }
}

fn ascending(uids: &[u32]) -> Vec<Uid> {
    let mut uids: Vec<Uid> = uids.iter().map(|uid| Uid(*uid)).collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

/// Flags and keywords of a message as IMAP writes them.
pub fn flags_of(view: &View, record: &Record) -> Vec<String> {
    let system = SystemFlags::NAMES.iter().filter(|(flag, _)| record.flags.contains(*flag));
    let mut flags: Vec<String> = system.map(|(_, name)| (*name).to_owned()).collect();
    flags.extend(view.keywords().of_bits(record.keywords).map(|k| k.as_str().to_owned()));
    flags
}

/// The Message-ID in an ENVELOPE as FETCH sends it.
fn message_id_of(envelope: &[u8]) -> Option<String> {
    let line = [b"* ", envelope].concat();
    let Ok(Response::Data(values)) = response::parse(&line) else { return None };
    let id = values.first().and_then(Value::list)?.get(ENVELOPE_MESSAGE_ID)?.bytes()?;
    let id = String::from_utf8_lossy(id).trim().to_owned();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_end_with_the_message_id() {
        let envelope = b"(NIL \"a (b\" NIL NIL NIL NIL NIL NIL NIL \" <x@y> \")";
        assert_eq!(message_id_of(envelope).as_deref(), Some("<x@y>"));
        assert_eq!(message_id_of(b"(NIL {3}\r\nabc NIL NIL NIL NIL NIL NIL NIL NIL)"), None);
        assert_eq!(message_id_of(b"junk"), None);
    }
}
