//! Cyrus SASL's `sasldb2`: passwords in clear, under `user NUL realm NUL property`.
//!
//! Berkeley DB or GDBM, whichever the file is. With them CRAM, DIGEST-MD5 and APOP work, too.

use std::io;
use std::path::PathBuf;

use super::file::{Format, TableFile, read_whole};
use super::table::{Passwords, Record, Row, Table};
use super::{berkeley, gdbm};
use crate::credential::{Credential, Credentials, is_possible};
use crate::directory::{Account, Attributes};
use crate::name::UserName;

/// The property with the password.
const PROPERTY: &[u8] = b"userPassword";

/// Users of a sasldb.
pub type Sasldb = TableFile<SasldbFormat>;

/// What a sasldb looks like.
pub struct SasldbFormat {
    path: PathBuf,
    /// Users of this realm have no domain in their name.
    realm: String,
}

impl Sasldb {
    /// Opens the sasldb at `path`. Users of `realm` are known by their bare name, others as
    /// `user@realm`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(path: impl Into<PathBuf>, realm: &str) -> io::Result<Sasldb> {
        TableFile::with_format(SasldbFormat { path: path.into(), realm: realm.to_owned() })
    }
}

impl Format for SasldbFormat {
    const KIND: &'static str = "sasldb";

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        Ok(vec![self.path.clone()])
    }

    fn read(&self, paths: &[PathBuf]) -> io::Result<Table> {
        let mut table = Table::default();
        for path in paths {
            let bytes = read_whole(path)?;
            let pairs = match gdbm::is_gdbm(&bytes) {
                true => gdbm::read(&bytes),
                false => berkeley::read(&bytes),
            };
            let pairs = pairs.map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
            let at = path.display().to_string();
            for (key, value) in pairs {
                let mut parts = key.split(|&b| b == 0);
                let parts = (parts.next(), parts.next(), parts.next(), parts.next());
                let (Some(user), Some(realm), Some(property), None) = parts else {
                    table.problem(format!("{at}: a key that is no user, realm and property"));
                    continue;
                };
                if property != PROPERTY {
                    // Secrets of older releases for one mechanism, of no use without it.
                    continue;
                }
                let bare = realm.is_empty()
                    || user.contains(&b'@')
                    || realm.eq_ignore_ascii_case(self.realm.as_bytes());
                let name = match bare {
                    true => user.to_vec(),
                    false => [user, b"@", realm].concat(),
                };
                table.add(&name, Row { at: at.clone(), fields: value });
            }
        }
        Ok(table)
    }

    fn record(&self, name: &UserName, row: &Row) -> Result<Record, String> {
        let password = std::str::from_utf8(&row.fields).map_err(|_| "expected UTF-8".to_owned())?;
        // Some programs kept the NUL of C strings.
        let password = password.strip_suffix('\0').unwrap_or(password);
        is_possible(password).map_err(|e| e.to_string())?;
        let any = Credentials(vec![Credential::Clear(password.to_owned())]);
        Ok(Record {
            account: Account::new(name.clone(), Attributes::default()),
            passwords: Passwords { any, ..Passwords::default() },
            remarks: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Backend as _;
    use super::*;
    use crate::directory::{Candidate, PassDb as _, UserDb as _};

    #[tokio::test]
    async fn what_saslpasswd2_wrote_logs_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sasldb2");
        std::fs::write(&path, include_bytes!("../../tests/fixtures/sasldb2")).unwrap();
        for (realm, user) in
            [("", "jo@example.org"), ("Example.org", "jo"), ("other", "jo@example.org")]
        {
            let sasldb = Sasldb::open(&path, realm).unwrap();
            let user = UserName::new(user).unwrap();
            let Candidate::Known { check, .. } = sasldb.find(&user, "imap").await.unwrap() else {
                panic!("{realm}: unknown")
            };
            assert_eq!((check.check(b"geheim"), check.check(b"x")), (Ok(true), Ok(false)));
            assert_eq!(check.password(), Some("geheim"));
            assert_eq!(sasldb.lookup(&UserName::new("nobody").unwrap()).await, Ok(None));
            // A password that no client may send is named.
            let listing = sasldb.list().await.unwrap();
            assert_eq!((listing.users.len(), listing.problems.len()), (102, 1));
        }
        std::fs::write(&path, "text").unwrap();
        assert!(Sasldb::open(&path, "").is_err());
    }
}
