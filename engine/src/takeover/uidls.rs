//! UIDLs of old servers. Dovecot's list may have some, which were another server's before.
//!
//! Courier's UIDLs: its POP3 server numbers messages by itself, in `courierpop3dsizelist`.
//!
//! Where the list is there, it stays the truth while we serve: a session takes the UIDLs of known
//! messages from it, numbers new ones behind it, and writes it back before it answers, as Courier does.
//! So neither way costs a client a second download.

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
        let Some(mut list) = self.size_list(&path, wanted)? else { return Ok(None) };
        let known: HashMap<Vec<u8>, Message> =
            list.messages.drain(..).map(|m| (m.base().to_vec(), m)).collect();
        let mut uidls = HashMap::new();
        for (_, uid) in view.uids() {
            let (Some(base), Some((_, record))) = (view.file_name(uid), view.record_of(uid)) else {
                continue;
            };
            let message = known.get(base.as_bytes()).cloned().unwrap_or_else(|| {
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
            uidls.insert(uid, message.uidl());
            list.messages.push(message);
        }
        files::update(&self.shared, &place.dir, &path, &list.write())?;
        Ok(Some(uidls))
    }

    /// The list, or a new one where it is `wanted`.
    fn size_list(&self, path: &Path, wanted: bool) -> Result<Option<SizeList>> {
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
