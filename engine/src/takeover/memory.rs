//! `cursus.foreign` in a mailbox's directory: what was last seen of the old servers' files, JSON.
//! `cursus.foreign.keywords` beside it: the keywords that Courier's files last had, in the form of
//! its `:list`. In a user's main Maildir, `cursus.foreign.account` is the same of what is the account's,
//! and `cursus.foreign.subscriptions` the names that were subscribed, one a line.
//!
//! Losing them costs a look, or that changes of keywords count as theirs.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::types::Uid;
use serde::{Deserialize, Serialize};

use super::files::{self, Stamp};
use super::lists::ListMemory;
use crate::error::Result;
use crate::shared::Shared;

/// Of a mailbox.
pub(super) const OF_MAILBOX: &str = "cursus.foreign";
/// Of an account.
pub(super) const OF_ACCOUNT: &str = "cursus.foreign.account";
pub(super) const KEYWORDS_NAME: &str = "cursus.foreign.keywords";
pub(super) const SUBSCRIPTIONS_NAME: &str = "cursus.foreign.subscriptions";

/// What was last seen, or written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Messages are being taken over: what the files say counts until all are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) adopting: bool,
    /// UIDNEXT when they were taken over: no frame of the log tells of it.
    #[serde(default)]
    pub(super) uid_next: u32,
    /// UIDNEXT that was told before the messages below it were in the log.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) promised: u32,
    /// `courierimapuiddb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) courier: Option<Stamp>,
    /// The directory `courierimapkeywords`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) courier_keywords: Option<Stamp>,
    /// `dovecot-uidlist`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dovecot: Option<Stamp>,
    /// The subscriptions of either server, of a user's Maildir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) courier_subscriptions: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dovecot_subscriptions: Option<Stamp>,
    /// Access control lists by mailbox id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) lists: BTreeMap<String, ListMemory>,
    /// Whether lists were looked at since the takeover.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) lists_known: bool,
    /// The quota's definition as `maildirsize` last had it, read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<String>,
    /// The user's limits were set here, and are not those of the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) quota_here: bool,
    /// The owner epoch of a run that knew the sums there to be true: a crash of a later one may have
    /// left lines out.
    #[serde(default)]
    pub(super) quota_epoch: u32,
    /// Mailboxes that an account had when it was last given back: one whose directory is gone was
    /// deleted by the old server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mailboxes: Vec<String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Makes a UIDNEXT durable that is told before the messages below it are in the log: whatever a
/// crash leaves of these, new ones get UIDs from there on.
pub(crate) fn remember_promise(shared: &Shared, dir: &Path, uid_next: Uid) -> Result<()> {
    let known = Memory::read(shared, dir, OF_MAILBOX)?.unwrap_or_default();
    let promised = known.promised.max(uid_next.0);
    Memory { promised, ..known }.write(shared, dir, OF_MAILBOX)
}

impl Memory {
    /// Whether it says nothing of an old server.
    pub(super) fn is_promise_alone(&self) -> bool {
        Memory { promised: 0, ..self.clone() } == Memory::default()
    }

    /// `None` where nothing is remembered, or nothing that makes sense.
    ///
    /// # Errors
    /// A file that cannot be read now: what it says may still count.
    pub(super) fn read(shared: &Shared, dir: &Path, name: &str) -> Result<Option<Memory>> {
        let bytes = files::read(&*shared.storage, &dir.join(name))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Durable when it returns.
    pub(super) fn write(&self, shared: &Shared, dir: &Path, name: &str) -> Result<()> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        if files::update(shared, dir, &dir.join(name), &bytes)? {
            let sync = shared.storage.sync_dir(dir);
            sync.map_err(crate::error::Error::io("sync", dir))?;
        }
        Ok(())
    }
}
