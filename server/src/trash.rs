//! Courier's magic trash: what is expunged is moved to a mailbox, from which it is removed by age.
//!
//! A message that the same session has copied somewhere is removed all the same: its client moves
//! messages by COPY and EXPUNGE. In the trash itself, and in mailboxes that are not the user's own,
//! EXPUNGE is what it always is.

use std::sync::Arc;
use std::time::Duration;

use engine::{Error, Mailbox, Namespace, Result, StoreMode, StoreRequest, User, View};
use protocol::types::{SeqNum, SystemFlags, Uid};

use crate::services::{Services, Shared};

/// Time from the start to the first look for old messages.
const FIRST_AFTER: Duration = Duration::from_secs(300);
/// Time from the end of a look to the next one.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// Between two users, for others' sake.
const PAUSE: Duration = Duration::from_millis(2);
/// Messages whose dates are read at once.
const DATES_TURN: u32 = 8192;

const DAY_SECONDS: i64 = 24 * 3600;

/// Removes messages from a session's mailbox, or moves them to the trash where that is set.
/// `copied`: those that the session has copied, as ascending ranges.
///
/// # Errors
/// What the store says; then some may have been moved, none removed.
pub(crate) async fn expunge(
    services: &Services,
    user: &User,
    mailbox: &Mailbox,
    view: &View,
    uids: Vec<Uid>,
    copied: &[(u32, u32)],
) -> Result<()> {
    let config = services.config();
    if !config.trash.move_expunged || !is_own(user, mailbox) {
        return mailbox.expunge(view, uids).await.map(|_| ());
    }
    let trash = open_or_make(user, &config.trash.mailbox).await?;
    if trash.id() == mailbox.id() {
        return mailbox.expunge(view, uids).await.map(|_| ());
    }
    let was_copied = |uid: &Uid| {
        let at = copied.partition_point(|range| range.1 < uid.0);
        copied.get(at).is_some_and(|range| range.0 <= uid.0)
    };
    let (copied, moved): (Vec<Uid>, Vec<Uid>) = uids.into_iter().partition(was_copied);
    if !moved.is_empty() {
        let moved = mailbox.move_to(view, moved, &trash).await?;
        let request = StoreRequest {
            uids: moved.pairs.iter().map(|(_, uid)| *uid).collect(),
            mode: StoreMode::Remove,
            flags: SystemFlags::DELETED.union(SystemFlags::DRAFT),
            keywords: Vec::new(),
            unchanged_since: None,
        };
        trash.store(request).await?;
    }
    if !copied.is_empty() {
        mailbox.expunge(view, copied).await?;
    }
    Ok(())
}

fn is_own(user: &User, mailbox: &Mailbox) -> bool {
    user.namespace().mailboxes.values().any(|entry| entry.id == mailbox.id())
}

async fn open_or_make(user: &User, name: &str) -> Result<Mailbox> {
    match user.mailbox(name).await {
        Err(Error::NoSuchMailbox) => {
            match user.create(name, &[]).await {
                // Another session was faster.
                Ok(()) | Err(Error::MailboxExists) => {}
                Err(error) => return Err(error),
            }
            user.mailbox(name).await
        }
        other => other,
    }
}

/// Looks for old messages from time to time, until the server stops.
pub(crate) async fn keep_emptying(shared: Arc<Shared>) {
    let mut wait = FIRST_AFTER;
    loop {
        tokio::select! {
            () = shared.draining() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
        empty(&shared, i64::try_from(now).unwrap_or(0)).await;
        wait = EVERY;
    }
}

/// Removes old messages of all users, as of `now` (seconds since 1970). Trouble with one user goes
/// to the log and leaves the others alone.
pub async fn empty(shared: &Shared, now: i64) {
    if shared.config().trash.empty.is_empty() {
        return;
    }
    let users = match shared.store.users().await {
        Ok(users) => users,
        Err(error) => {
            tracing::error!(target: "cursus::trash", reason = %error, "users cannot be listed");
            return;
        }
    };
    for name in users {
        if shared.is_draining() {
            return;
        }
        let user = match open(shared, &name).await {
            Ok(user) => user,
            Err(error) => {
                tracing::error!(target: "cursus::trash", user = ?name, reason = %error, "not emptied");
                continue;
            }
        };
        for expiry in &shared.config().trash.empty {
            let before = now - i64::from(expiry.days) * DAY_SECONDS;
            match empty_one(&user, &expiry.mailbox, before).await {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(target: "cursus::trash", user = ?name, mailbox = ?expiry.mailbox,
                        removed, days = expiry.days, "old messages removed");
                }
                Err(error) => {
                    tracing::error!(target: "cursus::trash", user = ?name, mailbox = ?expiry.mailbox,
                        reason = %error, "not emptied");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A user who has mailboxes, with the limits of the account, if it is still there.
async fn open(shared: &Shared, name: &str) -> Result<User> {
    let account = match auth::UserName::new(name) {
        Ok(name) => shared.auth.lookup(&name).await.ok().flatten(),
        Err(_) => None,
    };
    match account {
        Some(account) => admin::store::open_user(&shared.store, &account, &shared.config()).await,
        None => shared.store.user(name, &Default::default()).await,
    }
}

/// Removes what was saved before a moment; tells how many messages those were.
async fn empty_one(user: &User, name: &str, before: i64) -> Result<usize> {
    if !user.namespace().mailboxes.contains_key(&Namespace::canonical(name)) {
        return Ok(0);
    }
    let mailbox = user.mailbox(name).await?;
    // Also what other programs have put there.
    let view = mailbox.refresh().await?;
    let mut old = Vec::new();
    let mut first = 1;
    while first <= view.exists() {
        let last = view.exists().min(first.saturating_add(DATES_TURN - 1));
        let dates = mailbox.save_dates(&view, SeqNum(first), SeqNum(last)).await?;
        let messages = (first..=last).zip(dates);
        let messages = messages.filter(|(_, date)| date.is_some_and(|date| date < before));
        old.extend(messages.filter_map(|(seq, _)| view.uid(SeqNum(seq))));
        let Some(next) = last.checked_add(1) else { break };
        first = next;
    }
    let removed = old.len();
    if removed > 0 {
        mailbox.expunge(&view, old).await?;
    }
    Ok(removed)
}
