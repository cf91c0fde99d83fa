//! Messages that IMAP URLs name: relative ones of this session's user (RFC 5092), and those that
//! their owner authorised (RFC 4467).

use std::time::{SystemTime, UNIX_EPOCH};

use auth::UserName;
use engine::{Mailbox, Rights, UrlKey, User, View};
use hmac::{Hmac, KeyInit, Mac};
use protocol::imap::command::{Section, SectionText};
use protocol::imap::url::{Access, ImapUrl};
use sha2::Sha256;

use super::fetch::Part;
use super::session::Session;

/// How the tokens of this version begin.
const TOKEN_VERSION: u8 = 1;

/// Why a URL can't be followed.
pub(super) enum NotFollowed {
    /// It is no URL of ours, or names nothing.
    BadUrl,
    /// The store has a problem.
    Store(engine::Error),
}

impl From<engine::Error> for NotFollowed {
    fn from(error: engine::Error) -> NotFollowed {
        match error {
            engine::Error::NoSuchMailbox | engine::Error::MailboxGone => NotFollowed::BadUrl,
            engine::Error::Name(_) | engine::Error::Expunged(_) => NotFollowed::BadUrl,
            error => NotFollowed::Store(error),
        }
    }
}

/// Opens the message or part that a relative URL names.
pub(super) async fn follow(session: &Session, text: &str) -> Result<Part, NotFollowed> {
    let url = ImapUrl::parse(text).map_err(|_| NotFollowed::BadUrl)?;
    // RFC 4469 section 3: those of other servers and users are not for us.
    if url.server.is_some() || url.auth.is_some() {
        return Err(NotFollowed::BadUrl);
    }
    let (mailbox, view) = match &url.mailbox {
        Some(name) => {
            let opened = session.mailbox(name, Rights::READ, "NONEXISTENT").await;
            let (_, mailbox) = opened.map_err(|_| NotFollowed::BadUrl)?;
            let view = mailbox.refresh().await?;
            (mailbox, view)
        }
        None => {
            let selected = session.selected.as_ref().ok_or(NotFollowed::BadUrl)?;
            (selected.mailbox.clone(), selected.mailbox.view())
        }
    };
    open_part(session, &url, &mailbox, &view).await
}

/// Opens what a URL names in its mailbox.
async fn open_part(
    session: &Session,
    url: &ImapUrl,
    mailbox: &Mailbox,
    view: &View,
) -> Result<Part, NotFollowed> {
    let stale = |validity| validity != view.uid_validity();
    let Some(uid) = url.uid else { return Err(NotFollowed::BadUrl) };
    if url.uid_validity.is_some_and(stale) {
        return Err(NotFollowed::BadUrl);
    }
    let section = section_of(url);
    let partial = url.partial.unwrap_or((0, None));
    let lane = &session.services.lane;
    let part = Part::open(lane, (mailbox, view), uid, &section, partial).await?;
    part.ok_or(NotFollowed::BadUrl)
}

/// The section that a URL names: without one, the whole message.
pub(super) fn section_of(url: &ImapUrl) -> Section {
    url.section.clone().unwrap_or(Section { part: vec![], text: SectionText::Whole })
}

/// Whether a URL is one of this server.
pub(super) fn is_here(session: &Session, url: &ImapUrl) -> bool {
    let host = url.server.as_ref().map(|server| server.host.as_str());
    host.is_some_and(|host| host.eq_ignore_ascii_case(session.services.hostname()))
}

/// The INTERNAL token of a URL: a version, and the HMAC-SHA256 of the text up to and with the access
/// identifier under the mailbox's key.
pub(super) fn token(key: &UrlKey, rump: &str) -> Vec<u8> {
    let mut token = vec![TOKEN_VERSION];
    token.extend_from_slice(&mac(key, rump).finalize().into_bytes());
    token
}

fn mac(key: &UrlKey, rump: &str) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .expect("HMAC takes keys of every length (RFC 2104)");
    mac.update(rump.as_bytes());
    mac
}

/// Compares in constant time.
fn is_valid(key: &UrlKey, rump: &str, token: &[u8]) -> bool {
    let Some((&TOKEN_VERSION, digest)) = token.split_first() else { return false };
    mac(key, rump).verify_slice(digest).is_ok()
}

/// The mailbox of a URL that its owner authorised for this session (RFC 4467 section 7).
pub(super) async fn authorised(
    session: &Session,
    text: &str,
) -> Result<(ImapUrl, Mailbox, View), NotFollowed> {
    let url = ImapUrl::parse(text).map_err(|_| NotFollowed::BadUrl)?;
    let owner = url.server.as_ref().and_then(|server| server.user.as_deref());
    let (Some(owner), Some(name), Some(auth)) = (owner, &url.mailbox, &url.auth) else {
        return Err(NotFollowed::BadUrl);
    };
    let token = auth.token.as_ref().filter(|token| token.mechanism == "INTERNAL");
    let (Some(token), true) = (token, is_here(session, &url)) else {
        return Err(NotFollowed::BadUrl);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    if auth.expire.is_some_and(|expire| expire <= now) || !may_follow(session, &auth.access) {
        return Err(NotFollowed::BadUrl);
    }
    let owner = owner_of(session, owner).await?;
    let namespace = owner.namespace();
    let key = namespace.url_key(name).ok_or(NotFollowed::BadUrl)?;
    if !is_valid(key, &text[..auth.rump_bytes], &token.bytes) {
        return Err(NotFollowed::BadUrl);
    }
    let mailbox = owner.mailbox(name).await?;
    let view = mailbox.refresh().await?;
    if url.uid_validity.is_some_and(|validity| validity != view.uid_validity()) {
        return Err(NotFollowed::BadUrl);
    }
    Ok((url, mailbox, view))
}

fn may_follow(session: &Session, access: &Access) -> bool {
    let Some(user) = session.user.as_ref().map(User::name) else { return false };
    let is_user = |name: &str| UserName::new(name).is_ok_and(|name| name.as_str() == user);
    match access {
        Access::Anonymous | Access::AuthUser => true,
        Access::User(name) => is_user(name),
        Access::Submit(_) => {
            let config = session.services.config();
            config.imap.submission_users.iter().any(|name| is_user(name))
        }
    }
}

async fn owner_of(session: &Session, name: &str) -> Result<User, NotFollowed> {
    let name = UserName::new(name).map_err(|_| NotFollowed::BadUrl)?;
    match session.services.auth.lookup(&name).await {
        Ok(Some(account)) => Ok(session.services.open_user(&account).await?),
        Ok(None) => Err(NotFollowed::BadUrl),
        Err(unavailable) => {
            let user = session.user.as_ref().map(User::name);
            session.services.log_error(&session.conn, user, "look up a URL's owner", &unavailable);
            Err(NotFollowed::BadUrl)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_text_and_key_alone() {
        let good = token(&[1; 16], "imap://a");
        assert_eq!(good.len(), 33);
        assert!(is_valid(&[1; 16], "imap://a", &good));
        assert!(!is_valid(&[2; 16], "imap://a", &good) && !is_valid(&[1; 16], "imap://b", &good));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!is_valid(&[1; 16], "imap://a", &bad), "{at}");
            assert!(!is_valid(&[1; 16], "imap://a", &good[..at]), "{at}");
        }
    }
}
