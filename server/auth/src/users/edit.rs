//! Changing the user file: under a lock, line by line, replaced by a rename after an fsync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::line::{self, LineError, UserRecord};
use crate::credential::{Credential, Credentials, PasswordError, SecretKind};
use crate::directory::{Account, Attributes};
use crate::name::UserName;
use crate::replaced;

/// Why the user file isn't changed.
#[derive(Debug, Error)]
pub enum EditError {
    /// Such a user exists.
    #[error("user {0} exists already")]
    Exists(UserName),
    /// No such user.
    #[error("user {0} doesn't exist")]
    Unknown(UserName),
    /// The password can't be stored.
    #[error("{0}")]
    Password(#[from] PasswordError),
    /// A given line, credential or attribute is bad.
    #[error("{0}")]
    Line(#[from] LineError),
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A user to be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Who.
    pub name: UserName,
    /// What the password is checked against; see [`Credentials::for_password`].
    pub credentials: Credentials,
    /// The user's settings.
    pub attributes: Attributes,
}

impl NewUser {
    /// Reads ready credentials (`{SCHEME}hash`, several separated by blanks) and attributes
    /// (`key=value,...`), as a line of the user file has them.
    pub fn with_hash(
        name: UserName,
        credentials: &str,
        attributes: &str,
    ) -> Result<NewUser, EditError> {
        let credentials: Result<Vec<_>, _> =
            credentials.split_ascii_whitespace().map(Credential::parse).collect();
        Ok(NewUser {
            name,
            credentials: Credentials(credentials.map_err(LineError::from)?),
            attributes: line::parse_attributes(attributes)?,
        })
    }

    /// Hashes a password. Takes a good part of a second, so a bulk import does it on many threads
    /// and before it takes the file's lock. See [`Credentials::with_secrets`].
    pub fn with_password(
        name: UserName,
        password: &str,
        attributes: &str,
        realm: &str,
        secrets: &[SecretKind],
    ) -> Result<NewUser, EditError> {
        let attributes = line::parse_attributes(attributes)?;
        let credentials = Credentials::with_secrets(&name, realm, password, secrets)?;
        Ok(NewUser { name, credentials, attributes })
    }
}

/// The file's lines, open for changes.
pub struct Document {
    lines: Vec<DocumentLine>,
}

struct DocumentLine {
    text: Vec<u8>,
    user: Option<UserName>,
}

impl Document {
    fn parse(bytes: &[u8]) -> Document {
        let line = |text: &[u8]| DocumentLine {
            text: text.to_vec(),
            user: match line::parse(text) {
                Ok(record) => record.map(|r| r.account.name),
                Err((user, _)) => user,
            },
        };
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let lines = match body {
            b"" => Vec::new(),
            body => body.split(|&b| b == b'\n').map(line).collect(),
        };
        Document { lines }
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|l| l.text.iter().copied().chain([b'\n'])).collect()
    }

    fn position(&self, user: &UserName) -> Result<usize, EditError> {
        let found = self.lines.iter().position(|l| l.user.as_ref() == Some(user));
        found.ok_or_else(|| EditError::Unknown(user.clone()))
    }

    /// Adds a user at the end.
    pub fn add(&mut self, user: NewUser) -> Result<(), EditError> {
        self.add_all([user])
    }

    /// Adds many users at the end, or none if one of them exists.
    pub fn add_all(&mut self, users: impl IntoIterator<Item = NewUser>) -> Result<(), EditError> {
        let mut known: std::collections::HashSet<UserName> =
            self.lines.iter().filter_map(|l| l.user.clone()).collect();
        let mut added = Vec::new();
        for user in users {
            if !known.insert(user.name.clone()) {
                return Err(EditError::Exists(user.name));
            }
            let account = Account::new(user.name, user.attributes);
            added.push(Self::line_of(UserRecord {
                account,
                credentials: Arc::new(user.credentials),
            }));
        }
        self.lines.extend(added);
        Ok(())
    }

    /// Whether a user has credentials. A line that is bad has some.
    ///
    /// # Errors
    /// [`EditError::Unknown`]
    pub fn has_credentials(&self, user: &UserName) -> Result<bool, EditError> {
        let at = self.position(user)?;
        let record = self.lines.get(at).map(|one| line::parse(&one.text));
        Ok(!matches!(record, Some(Ok(Some(record))) if record.credentials.0.is_empty()))
    }

    /// Gives a user other credentials; attributes stay. Also mends a line that was bad.
    pub fn set_credentials(
        &mut self,
        user: &UserName,
        credentials: Credentials,
    ) -> Result<(), EditError> {
        let at = self.position(user)?;
        let mut record = self.record_or_blank(at, user);
        record.credentials = Arc::new(credentials);
        self.put(at, record);
        Ok(())
    }

    /// Gives a user other attributes; credentials stay.
    pub fn set_attributes(
        &mut self,
        user: &UserName,
        attributes: Attributes,
    ) -> Result<(), EditError> {
        let at = self.position(user)?;
        let mut record = match self.lines.get(at).map(|l| line::parse(&l.text)) {
            Some(Ok(Some(record))) => record,
            Some(Err((_, error))) => return Err(error.into()),
            _ => return Err(EditError::Unknown(user.clone())),
        };
        record.account.attributes = attributes;
        self.put(at, record);
        Ok(())
    }

    /// Removes every line of a user.
    pub fn remove(&mut self, user: &UserName) -> Result<(), EditError> {
        self.position(user)?;
        self.lines.retain(|l| l.user.as_ref() != Some(user));
        Ok(())
    }

    fn record_or_blank(&self, at: usize, user: &UserName) -> UserRecord {
        match self.lines.get(at).map(|l| line::parse(&l.text)) {
            Some(Ok(Some(record))) => record,
            _ => UserRecord {
                account: Account::new(user.clone(), Attributes::default()),
                credentials: Arc::default(),
            },
        }
    }

    fn put(&mut self, at: usize, record: UserRecord) {
        if let Some(line) = self.lines.get_mut(at) {
            *line = Self::line_of(record);
        }
    }

    fn line_of(record: UserRecord) -> DocumentLine {
        DocumentLine { text: record.to_string().into_bytes(), user: Some(record.account.name) }
    }
}

/// Changes the file at `path` (a missing one is empty) under its lock.
///
/// When this returns `Ok`, the change is durable; when `change` fails, nothing has changed.
pub fn edit<T>(
    path: &Path,
    change: impl FnOnce(&mut Document) -> Result<T, EditError>,
) -> Result<T, EditError> {
    replaced::replace(
        path,
        |path, error| EditError::Io { path, error },
        |bytes| {
            let mut document = Document::parse(bytes);
            let result = change(&mut document)?;
            Ok((document.to_bytes(), result))
        },
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;
    use crate::users::Users;

    fn name(text: &str) -> UserName {
        UserName::new(text).unwrap()
    }

    fn blank(text: &str) -> NewUser {
        NewUser {
            name: name(text),
            credentials: Credentials::default(),
            attributes: Attributes::default(),
        }
    }

    #[test]
    fn edits_keep_comments_bad_lines_and_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, "# staff\njo:\n\nmo:geheim\nflo::detail=yes").unwrap();
        edit(&path, |d| d.add(blank("zoe"))).unwrap();
        edit(&path, |d| d.remove(&name("JO"))).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "# staff\n\nmo:geheim\nflo::detail=yes\nzoe:\n"
        );
        let hash = "{SCRAM-SHA-256}4096,AAAA,c3Rvcmsfa2V5c3Rvcmsfa2V5c3Rvcmsfa2V5c3Rvcms=,\
                    c3Rvcmsfa2V5c3Rvcmsfa2V5c3Rvcmsfa2V5c3Rvcms=";
        let credentials = NewUser::with_hash(name("x"), hash, "").unwrap().credentials;
        edit(&path, |d| {
            d.set_credentials(&name("flo"), credentials.clone())?;
            d.set_credentials(&name("mo"), Credentials::default())
        })
        .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("flo:{hash}:detail=yes\n")), "{text}");
        assert!(Users::parse(text.as_bytes()).check().problems.is_empty());
    }

    #[test]
    fn a_failed_edit_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        edit(&path, |d| d.add_all([blank("jo"), blank("mo")])).unwrap();
        let twice = edit(&path, |d| d.add_all([blank("flo"), blank("mo")]));
        assert!(matches!(twice, Err(EditError::Exists(n)) if n == name("mo")));
        assert!(matches!(edit(&path, |d| d.remove(&name("x"))), Err(EditError::Unknown(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "jo:\nmo:\n");
    }

    #[test]
    fn permissions_survive_an_edit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        edit(&path, |d| d.add(blank("jo"))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        edit(&path, |d| d.add(blank("mo"))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn concurrent_edits_all_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || edit(path, |d| d.add(blank(&format!("user{n}")))).unwrap());
            }
        });
        assert_eq!(Users::parse(fs::read(&path).unwrap()).iter().count(), 8);
    }
}
