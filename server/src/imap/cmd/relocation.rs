//! RENAME by administrators to another partition or user. Mailboxes go one by one, those below first
//! where a name is left, so that a failure leaves some here and some there; the same command goes on
//! with the rest of a change of partition.

use engine::{Error, INBOX, Namespace, Result, SEPARATOR};

use super::super::sharing::Place;

/// A mailbox and all below it; of an INBOX, all that the user has.
fn moving(namespace: &Namespace, name: &str) -> Vec<String> {
    let below = |other: &&String| match name {
        INBOX => true,
        _ => other
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR)),
    };
    namespace.mailboxes.keys().filter(below).cloned().collect()
}

/// Moves a mailbox and all below it to another partition.
pub(super) async fn to_partition(place: &Place, partition: &str) -> Result<()> {
    for name in moving(&place.user.namespace(), &place.name) {
        place.user.change_partition(&name, partition).await?;
    }
    Ok(())
}

/// Gives a mailbox and all below it to another user. With an INBOX that becomes another user's, that
/// user gets subscriptions too, and the first one is removed.
pub(super) async fn to_user(from: &Place, to: &Place, partition: Option<&str>) -> Result<()> {
    let (source, target) = (&from.user, &to.user);
    let (there, namespace) = (target.namespace(), source.namespace());
    let whole = from.name == INBOX && to.name == INBOX;
    let names = match from.name == INBOX && !whole {
        true => vec![from.name.clone()],
        false => moving(&namespace, &from.name),
    };
    let renamed = |old: &String| match whole {
        true => old.clone(),
        false => format!("{}{}", to.name, &old[from.name.len()..]),
    };
    if names.is_empty() {
        return Err(Error::NoSuchMailbox);
    }
    let taken = |old: &String| *old != INBOX && there.mailboxes.contains_key(&renamed(old));
    let begun = if whole { there.mailboxes.len() > 1 } else { taken(&from.name) };
    if begun || names.iter().any(taken) {
        return Err(Error::MailboxExists);
    }
    for old in names.iter().rev() {
        let partition = partition.map(str::to_owned);
        source.give(old, target, &renamed(old), partition).await?;
    }
    if whole {
        for name in &namespace.subscriptions {
            target.subscribe(name, true).await?;
        }
        if let Some(limits) = namespace.quota {
            target.set_quota(None, Some(limits)).await?;
        }
        if let Some(partition) = partition {
            target.change_partition(INBOX, partition).await?;
        }
        // What comes meanwhile comes along.
        while !source.remove_empty(Some(target)).await? {
            source.give(INBOX, target, INBOX, None).await?;
        }
    }
    Ok(())
}
