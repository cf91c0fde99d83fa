//! From an address to a user's mailbox.
//!
//! `user+detail@domain` is looked up as, in this order: the whole address; the address without its
//! detail; and where the domain is one of `lmtp.domains` (or that list is empty), the whole local
//! part; the local part without its detail. A user whose name holds the separator thus comes
//! before another's detail. Before all that, `post_user+detail` is a shared mailbox
//! (`sharing.shared_user`).

use auth::{Account, Unavailable, UserName};
use config::{Detail, Lmtp};
use engine::{Mailbox, Principal, Rights, User, UserOptions, domain_of};
use protocol::lmtp::{RcptParams, Recipient, split_detail};
use thiserror::Error;

use crate::services::Services;

/// A recipient that mail can be stored for.
pub(super) struct Accepted {
    /// The address as given.
    pub(super) recipient: Recipient,
    pub(super) user: User,
    pub(super) mailbox: Mailbox,
    pub(super) mailbox_name: String,
    /// Limits don't count for it.
    pub(super) ignores_quota: bool,
}

impl Accepted {
    pub(super) fn user_name(&self) -> &str {
        self.user.name()
    }
}

/// Why there is no mailbox for an address.
#[derive(Debug, Error)]
pub(super) enum Refused {
    /// Nobody has this address.
    #[error("no such user")]
    Unknown,
    /// It isn't known now who has it.
    #[error("accounts unavailable: {0}")]
    Directory(#[from] Unavailable),
    /// The store can't open the mailbox.
    #[error("{0}")]
    Store(#[from] engine::Error),
}

/// Finds the mailbox, with room for a message of `size` bytes as far as the sender has said; gives
/// the address back if there is none.
pub(super) async fn accept(
    services: &Services,
    config: &Lmtp,
    recipient: Recipient,
    size: Option<u64>,
    RcptParams { ignore_quota: ignores_quota }: RcptParams,
) -> Result<Accepted, (Recipient, Refused)> {
    match find(services, config, &recipient).await {
        Ok((user, mailbox, mailbox_name)) => {
            user.look_at_maildirsize(false).await;
            match mailbox.check_quota(size.unwrap_or(0), 1) {
                Err(error) if !ignores_quota => Err((recipient, error.into())),
                _ => Ok(Accepted { recipient, user, mailbox, mailbox_name, ignores_quota }),
            }
        }
        Err(refused) => Err((recipient, refused)),
    }
}

async fn find(
    services: &Services,
    config: &Lmtp,
    recipient: &Recipient,
) -> Result<(User, Mailbox, String), Refused> {
    if let Some(found) = find_shared(services, config, recipient).await? {
        return Ok(found);
    }
    for Name { name, detail } in names(recipient, config) {
        let Ok(name) = UserName::new(&name) else { continue };
        let Some(account) = services.auth.lookup(&name).await? else { continue };
        let user = services.open_user(&account).await?;
        let detail = detail.filter(|_| allows_detail(&account, config));
        if let Some(detail) = detail
            && let Some(found) = open_detail(&user, &detail).await?
            && (config.detail != Detail::Post || may_post(&user, &found.1))
        {
            return Ok((user, found.0, found.1));
        }
        let inbox = user.mailbox("INBOX").await?;
        return Ok((user, inbox, "INBOX".to_owned()));
    }
    find_catch_all(services, config).await?.ok_or(Refused::Unknown)
}

/// The INBOX of whoever gets what is for nobody.
async fn find_catch_all(
    services: &Services,
    config: &Lmtp,
) -> Result<Option<(User, Mailbox, String)>, Refused> {
    let Ok(name) = UserName::new(&config.catch_all) else { return Ok(None) };
    let Some(account) = services.auth.lookup(&name).await? else { return Ok(None) };
    let user = services.open_user(&account).await?;
    let inbox = user.mailbox("INBOX").await?;
    Ok(Some((user, inbox, "INBOX".to_owned())))
}

fn allows_detail(account: &Account, config: &Lmtp) -> bool {
    account.attributes.detail.unwrap_or(config.detail != Detail::Ignore)
}

/// The shared mailbox that `post_user+detail` names. It has to be there and to let everybody post:
/// there is no INBOX to go to instead.
async fn find_shared(
    services: &Services,
    config: &Lmtp,
    recipient: &Recipient,
) -> Result<Option<(User, Mailbox, String)>, Refused> {
    let mut separator = [0u8; 4];
    let separator = config.detail_separator.encode_utf8(&mut separator);
    let Some(split) = split_detail(recipient.local(), separator) else { return Ok(None) };
    if config.post_user.is_empty() || !split.user.eq_ignore_ascii_case(&config.post_user) {
        return Ok(None);
    }
    let shared = services.config().sharing.shared_user.clone();
    let with_domain = recipient.domain().map(|domain| format!("{shared}@{domain}"));
    let alone = recipient.domain().is_none_or(|domain| ours(config, domain)).then_some(shared);
    for name in with_domain.into_iter().chain(alone) {
        let Ok(name) = UserName::new(&name) else { continue };
        let store = &services.store;
        if !store.has_user(name.as_str()).await? {
            continue;
        }
        let user = match services.auth.lookup(&name).await? {
            Some(account) => services.open_user(&account).await?,
            None => store.user(name.as_str(), &UserOptions::default()).await?,
        };
        // As addresses have it, and as Cyrus has it.
        for detail in [split.detail.to_owned(), split.detail.replace('.', "/")] {
            if let Some((mailbox, name)) = open_detail(&user, &detail).await?
                && may_post(&user, &name)
            {
                return Ok(Some((user, mailbox, name)));
            }
        }
    }
    Err(Refused::Unknown)
}

/// Whether senders whom nobody knows may post to a mailbox.
fn may_post(user: &User, mailbox: &str) -> bool {
    // Somebody of the owner's domain who has no name.
    let sender = Principal {
        user: format!("@{}", domain_of(user.name())),
        anonymous: true,
        ..Principal::default()
    };
    user.rights(mailbox, &sender).is_ok_and(|rights| rights.contains(Rights::POST))
}

/// The mailbox that a detail names: as it is written, else the only one that differs in case.
async fn open_detail(user: &User, detail: &str) -> engine::Result<Option<(Mailbox, String)>> {
    let namespace = user.namespace();
    let name = match namespace.mailboxes.contains_key(detail) {
        true => detail.to_owned(),
        false => {
            let alike = |name: &&String| name.eq_ignore_ascii_case(detail);
            let mut names = namespace.mailboxes.keys().filter(alike);
            match (names.next(), names.next()) {
                (Some(name), None) => name.clone(),
                _ => return Ok(None),
            }
        }
    };
    match user.mailbox(&name).await {
        // What others share is theirs to have mail delivered into.
        Ok(mailbox) if mailbox.is_copy() => Ok(None),
        Ok(mailbox) => Ok(Some((mailbox, name))),
        Err(engine::Error::NoSuchMailbox | engine::Error::MailboxGone) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A name under which the user may be known.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    name: String,
    detail: Option<String>,
}

/// Whether a local part alone is a user's name in this domain.
fn ours(config: &Lmtp, domain: &str) -> bool {
    config.domains.is_empty() || config.domains.iter().any(|d| d.eq_ignore_ascii_case(domain))
}

fn names(recipient: &Recipient, config: &Lmtp) -> Vec<Name> {
    let mut separator = [0u8; 4];
    let separator = config.detail_separator.encode_utf8(&mut separator);
    let local = recipient.local();
    let split = split_detail(local, separator);
    let mut names = Vec::with_capacity(4);
    let mut add = |name: String, detail: Option<&str>| {
        names.push(Name { name, detail: detail.map(str::to_owned) });
    };
    if let Some(domain) = recipient.domain() {
        add(format!("{local}@{domain}"), None);
        if let Some(split) = split {
            add(format!("{}@{domain}", split.user), Some(split.detail));
        }
    }
    if recipient.domain().is_none_or(|domain| ours(config, domain)) {
        add(local.to_owned(), None);
        if let Some(split) = split {
            add(split.user.to_owned(), Some(split.detail));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(address: &str, config: &Lmtp) -> Vec<(String, Option<String>)> {
        let recipient = Recipient::parse(address).unwrap();
        names(&recipient, config).into_iter().map(|n| (n.name, n.detail)).collect()
    }

    fn name(name: &str, detail: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), detail.map(str::to_owned))
    }

    #[test]
    fn whole_addresses_come_first_and_details_after_whole_names() {
        assert_eq!(
            named("jo+Lists@example.org", &Lmtp::default()),
            [
                name("jo+Lists@example.org", None),
                name("jo@example.org", Some("Lists")),
                name("jo+Lists", None),
                name("jo", Some("Lists")),
            ]
        );
        assert_eq!(named("jo", &Lmtp::default()), [name("jo", None)]);
    }

    #[test]
    fn a_local_part_alone_counts_in_our_domains_only() {
        let config = Lmtp { domains: vec!["Example.ORG".to_owned()], ..Lmtp::default() };
        assert_eq!(named("jo@example.org", &config).len(), 2);
        assert_eq!(named("jo@other.org", &config), [name("jo@other.org", None)]);
    }
}
