//! The embedded store's first start: a user with a generated password, and a message to read.
//!
//! Invariant: the password exists in clear only in this process and on its standard output; the
//! users file holds hashes.

use std::path::{Path, PathBuf};

use auth::users::{EditError, NewUser, edit};
use auth::{Account, Attributes, UserName};
use engine::io::Lane;
use engine::{Delivery, Target};
use protocol::types::SystemFlags;

use crate::services::Shared;

/// The first user's name.
pub const FIRST_USER: &str = "admin@localhost";

/// Letters and digits that are hard to confuse; 32 of them, so five bits each.
const PASSWORD_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// 100 bits.
const PASSWORD_LENGTH: usize = 20;

/// The first user, with the password that only its owner will know.
pub struct FirstUser {
    /// Who.
    pub name: UserName,
    /// To be shown once.
    pub password: String,
    /// The users file, until the password was shown.
    unseen: Option<PathBuf>,
}

impl FirstUser {
    /// The password was shown, so the user stays.
    pub fn shown(&mut self) {
        self.unseen = None;
    }
}

impl Drop for FirstUser {
    /// A start that failed leaves no user whose password nobody has seen.
    fn drop(&mut self) {
        if let Some(file) = self.unseen.take() {
            // If it is gone, so is the user.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Why there is no first user.
#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    /// No random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// The users file can't be written.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The users file can't be made.
    #[error("{}: {source}", file.display())]
    Users {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The name constant is wrong.
    #[error("first user: {0}")]
    Name(#[from] auth::name::NameError),
}

/// Makes the users file with one user, or does nothing if there is a file.
pub fn make_first_user(users_file: &Path) -> Result<Option<FirstUser>, FirstStartError> {
    if users_file.exists() {
        return Ok(None);
    }
    let mut random = [0; PASSWORD_LENGTH];
    getrandom::fill(&mut random)?;
    let letter = |byte: &u8| char::from(PASSWORD_LETTERS[usize::from(byte % 32)]);
    let password: String = random.iter().map(letter).collect();
    let name = UserName::new(FIRST_USER)?;
    let user = NewUser::with_password(name.clone(), &password, "", "", &[])?;
    edit(users_file, |document| document.add(user))?;
    Ok(Some(FirstUser { name, password, unseen: Some(users_file.to_owned()) }))
}

/// Makes an empty users file, or does nothing if there is a file: beside another server's files,
/// whose accounts are elsewhere, nobody has made one yet.
pub fn begin_users_file(users_file: &Path) -> Result<(), FirstStartError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(users_file) {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(FirstStartError::Users { file: users_file.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Delivers the welcome message to the user's INBOX.
pub async fn welcome(shared: &Shared, lane: &Lane, user: &UserName) -> Result<(), engine::Error> {
    let account = Account::new(user.clone(), Attributes::default());
    let store = &shared.store;
    let user = admin::store::open_user(store, &account, &shared.config()).await?;
    let mailbox = user.mailbox("INBOX").await?;
    let flags = SystemFlags::empty();
    let target = Target {
        user,
        mailbox,
        flags,
        keywords: Vec::new(),
        internal_date: None,
        annotations: vec![],
    };
    let mut delivery = Delivery::new(store, lane, vec![target])?;
    delivery.write(welcome_message(account.name.as_str()).as_bytes()).await?;
    delivery.commit().await.into_iter().try_for_each(|done| done.map(drop))
}

fn welcome_message(user: &str) -> String {
    let now = time::OffsetDateTime::now_utc();
    let date = now.format(&time::format_description::well_known::Rfc2822).unwrap_or_default();
    let stamp = now.unix_timestamp();
    let lines = [
        "From: Cursus <postmaster@localhost>".to_owned(),
        format!("To: <{user}>"),
        "Subject: Welcome to Cursus".to_owned(),
        format!("Date: {date}"),
        format!("Message-ID: <welcome.{stamp}@localhost>"),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        String::new(),
        "This is the first message in your store. It is a file below var/mail, and it".to_owned(),
        "came here by the same path that mail from LMTP takes.".to_owned(),
        String::new(),
        "  cursus user add NAME      another user".to_owned(),
        "  cursus mailbox list       what is in the store".to_owned(),
        "  cursus message import     bring mail from files".to_owned(),
        "  cursus status             how the server is".to_owned(),
        String::new(),
        "docs/configuration.md describes every setting.".to_owned(),
    ];
    lines.join("\r\n") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_user_is_made_once_and_the_password_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("users");
        drop(make_first_user(&file).unwrap().unwrap());
        assert!(!file.exists(), "a user whose password nobody saw");
        let mut first = make_first_user(&file).unwrap().unwrap();
        first.shown();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("admin@localhost:{"), "{text}");
        assert!(!text.contains(&first.password));
        assert_eq!(first.password.len(), PASSWORD_LENGTH);
        assert!(make_first_user(&file).unwrap().is_none());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
