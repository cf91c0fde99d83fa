//! UIDLs of old servers. Dovecot's list may have some, which were another server's before.
//!
//! Courier's UIDLs: its POP3 server numbers messages by itself, in `courierpop3dsizelist`.
//!
//! Where the list is there, it stays the truth while we serve: a session takes the UIDLs of known
//! messages from it, numbers new ones behind it, and writes it back before it answers, as Courier does.
//! So neither way costs a client a second download.
//!
//! UIDLs that messages had at a third server ([`crate::uidls`]) go before these, and into both files: as
//! numbers of Courier's, where they have that form.

use std::collections::HashMap;
use std::path::Path;

use foreign::courier::sizelist::{Message, SizeList};
use foreign::dovecot::uidlist::UidList;
use protocol::types::Uid;

use super::{OldServer, files};
use crate::error::{Error, Result};
use crate::layout::LayoutKind;
use crate::mailbox::{Mailbox, MailboxInner, View};

const NAME: &str = "courierpop3dsizelist";

impl Mailbox {
    /// UIDLs of the messages of an INBOX as Courier's list has them. `None` where there is no list,
    /// and none to be kept for Courier ([`crate::StoreConfig::hand_back`]).
    ///
    /// One caller at a time: who has the maildrop.
    pub async fn courier_uidls(&self, view: &View) -> Result<Option<HashMap<Uid, String>>> {
        let (inner, view) = (self.0.clone(), view.clone());
        let job = move || inner.courier_uidls(&view);
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }
}

impl Mailbox {
    /// UIDLs that Dovecot's list gives messages of an INBOX (its `P` extension, after a migration of
    /// Dovecot's own); the others have those of the form that is configured.
    pub async fn dovecot_uidls(&self, view: &View) -> Result<HashMap<Uid, String>> {
        let (inner, view) = (self.0.clone(), view.clone());
        let job = move || inner.dovecot_uidls(&view);
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }
}

impl MailboxInner {
    fn dovecot_uidls(&self, view: &View) -> Result<HashMap<Uid, String>> {
        let place = self.place.read().clone();
        let mut uidls = HashMap::new();
        if place.partition.layout.kind() != LayoutKind::Maildir {
            return Ok(uidls);
        }
        let path = place.dir.join(OldServer::Dovecot.uids_name());
        let Some(bytes) = files::read(&*self.shared.storage, &path)? else { return Ok(uidls) };
        // Most lists have none, and need not be taken apart.
        if memchr::memmem::find(&bytes, b" P").is_none() {
            return Ok(uidls);
        }
        let list = match UidList::read_begun(&bytes) {
            Ok((list, _)) => list,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "UIDLs of Dovecot are lost");
                return Ok(uidls);
            }
        };
        let told: HashMap<&[u8], &str> =
            list.messages.iter().filter_map(|m| Some((&m.base[..], m.uidl()?))).collect();
        for (_, uid) in view.uids() {
            if let Some(base) = view.file_name(uid)
                && let Some(uidl) = told.get(base.as_bytes())
            {
                uidls.insert(uid, (*uidl).to_owned());
            }
        }
        Ok(uidls)
    }

    fn courier_uidls(&self, view: &View) -> Result<Option<HashMap<Uid, String>>> {
        let place = self.place.read().clone();
        if place.partition.layout.kind() != LayoutKind::Maildir {
            return Ok(None);
        }
        let path = place.dir.join(NAME);
        let wanted = self.shared.config.hand_back.contains(&OldServer::Courier);
        let _one_at_a_time = self.size_list.lock();
        let Some(mut list) = self.read_size_list(&path, wanted)? else { return Ok(None) };
        let given = self.uidls_given()?;
        let known: HashMap<Vec<u8>, Message> =
            list.messages.drain(..).map(|m| (m.base().to_vec(), m)).collect();
        let mut uidls = HashMap::new();
        for (_, uid) in view.uids() {
            let (Some(base), Some((_, record))) = (view.file_name(uid), view.record_of(uid)) else {
                continue;
            };
            let mut message = known.get(base.as_bytes()).cloned().unwrap_or_else(|| {
                let number = list.next;
                list.next = list.next.saturating_add(1);
                Message {
                    file: format!("{base}:2,").into_bytes(),
                    size: u64::from(record.size),
                    number,
                    uid_validity: list.uid_validity,
                    utf8: false,
                }
            });
            if let Some(uidl) = given.get(&uid.0) {
                set_uidl(&mut list, &mut message, uidl);
            }
            uidls.insert(uid, message.uidl());
            list.messages.push(message);
        }
        files::update(&self.shared, &place.dir, &path, &list.write())?;
        Ok(Some(uidls))
    }

    /// Writes UIDLs of a third server into Courier's list. It numbers what is not in it by itself.
    pub(super) fn give_courier_uidls(&self, dir: &Path) -> Result<()> {
        let given = self.uidls_given()?;
        if given.is_empty() {
            return Ok(());
        }
        let path = dir.join(NAME);
        let _one_at_a_time = self.size_list.lock();
        let Some(mut list) = self.read_size_list(&path, true)? else { return Ok(()) };
        let mut known: HashMap<Vec<u8>, usize> =
            list.messages.iter().enumerate().map(|(at, m)| (m.base().to_vec(), at)).collect();
        let mut others = 0;
        for (uid, base, size) in self.living()? {
            let Some(uidl) = given.get(&uid) else { continue };
            let there = known.get(&base).and_then(|at| list.messages.get(*at)).cloned();
            let is_new = there.is_none();
            let mut message = there.unwrap_or_else(|| {
                let file = [&base[..], b":2,"].concat();
                Message { file, size, number: 0, uid_validity: 0, utf8: false }
            });
            if !set_uidl(&mut list, &mut message, uidl) {
                others += 1;
            } else if is_new {
                known.insert(base, list.messages.len());
                list.messages.push(message);
            } else if let Some(place) = known.get(&base).and_then(|at| list.messages.get_mut(*at)) {
                *place = message;
            }
        }
        if files::update(&self.shared, dir, &path, &list.write())? && others > 0 {
            tracing::warn!(
                dir = %dir.display(), others,
                "Courier makes UIDLs of numbers: these messages have others there than here"
            );
        }
        Ok(())
    }

    /// The list, or a new one where it is `wanted`.
    fn read_size_list(&self, path: &Path, wanted: bool) -> Result<Option<SizeList>> {
        let read = files::read(&*self.shared.storage, path)?.map(|bytes| SizeList::read(&bytes));
        match read {
            Some(Ok(list)) => return Ok(Some(list)),
            Some(Err(error)) => {
                tracing::error!(path = %path.display(), %error, "UIDLs of Courier are lost");
            }
            None => {}
        }
        let now = self.shared.now_seconds().clamp(1, i64::from(u32::MAX)) as u32;
        Ok(wanted.then(|| SizeList { next: 1, uid_validity: now, messages: Vec::new() }))
    }
}

/// Gives a message of a list a UIDL, if it can tell it. No other message gets its number later.
fn set_uidl(list: &mut SizeList, message: &mut Message, uidl: &str) -> bool {
    let is_told = message.set_uidl(uidl);
    if is_told && message.uid_validity == list.uid_validity {
        list.next = list.next.max(message.number.saturating_add(1));
    }
    is_told
}
