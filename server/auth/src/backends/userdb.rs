//! Courier's userdb: `name<TAB>field=value|field=value…`.
//!
//! A file of such lines, a directory with such files (as `makeuserdb` reads it), or what
//! `makeuserdb` made of them: `userdb.dat` and, beside it, `userdbshadow.dat` with the passwords.
//!
//! | field | what becomes of it |
//! |---|---|
//! | `systempw` | the password, in any scheme of Courier's |
//! | `imappw`, `pop3pw`, `esmtppw` | the same, for that service alone |
//! | `hmac-md5pw`, `hmac-sha1pw`, `hmac-sha256pw` | for the CRAM mechanisms |
//! | `imap-hmac-md5pw`, … | the same, for that service alone |
//! | `home`, `mail` | where the Maildir is, to be compared with our own |
//! | `quota`, `options` | settings of the account |
//! | `uid`, `gid`, `shell` | nothing: one user of the system has all mail |

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{Format, TableFile, read_whole};
use super::table::{Passwords, Record, Row, Table};
use super::{berkeley, courier, gdbm};
use crate::credential::{Credential, Credentials};
use crate::directory::{Account, Attributes};
use crate::hash::{HashKind, HmacKey};
use crate::name::UserName;

/// Files of a userdb directory that are read.
const FILES_MAX: usize = 10_000;

/// Users of a userdb.
pub type Userdb = TableFile<UserdbFormat>;

/// What a userdb looks like.
pub struct UserdbFormat {
    path: PathBuf,
}

impl Userdb {
    /// Opens the userdb at `path`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Userdb> {
        TableFile::with_format(UserdbFormat { path: path.into() })
    }
}

/// `userdb.dat` has its passwords in `userdbshadow.dat`.
fn shadow(path: &Path) -> Option<PathBuf> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".dat")?;
    Some(path.with_file_name(format!("{stem}shadow.dat")))
}

/// Files below a directory, and the directories, whose times tell of new files.
fn below(dir: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    paths.push(dir.to_owned());
    let mut entries = std::fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        // What `userdb` writes and locks beside them.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if paths.len() >= FILES_MAX {
            return Err(io::Error::other(format!(
                "more than {FILES_MAX} files below {}",
                dir.display()
            )));
        }
        match entry.file_type()?.is_dir() {
            true => below(&entry.path(), paths)?,
            false => paths.push(entry.path()),
        }
    }
    Ok(())
}

impl Format for UserdbFormat {
    const KIND: &'static str = "userdb";

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let error =
            |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.path.display()));
        let mut paths = Vec::new();
        if std::fs::metadata(&self.path).map_err(error)?.is_dir() {
            below(&self.path, &mut paths).map_err(error)?;
        } else {
            paths.push(self.path.clone());
            paths.extend(shadow(&self.path).filter(|path| path.exists()));
        }
        Ok(paths)
    }

    fn read(&self, paths: &[PathBuf]) -> io::Result<Table> {
        let mut table = Table::default();
        // Of a database and its shadow: one row for each name.
        let mut joined: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
        for path in paths {
            if std::fs::metadata(path)?.is_dir() {
                continue;
            }
            let bytes = read_whole(path)?;
            match database(&bytes) {
                None => lines(path, &bytes, &mut table),
                Some(Err(damage)) => {
                    return Err(io::Error::other(format!("{}: {damage}", path.display())));
                }
                Some(Ok(pairs)) => {
                    let at = path.display().to_string();
                    for (name, fields) in pairs {
                        let row = joined
                            .entry(name)
                            .or_insert_with(|| Row { at: at.clone(), fields: Vec::new() });
                        row.fields.push(b'|');
                        row.fields.extend(fields);
                    }
                }
            }
        }
        for (name, row) in joined {
            if !is_uid(&name) {
                table.add(&name, row);
            }
        }
        Ok(table)
    }

    fn record(&self, name: &UserName, row: &Row) -> Result<Record, String> {
        let text = std::str::from_utf8(&row.fields).map_err(|_| "expected UTF-8".to_owned())?;
        let (mut attributes, mut remarks) = (Attributes::default(), Vec::new());
        let (mut home, mut mail) = (None, None);
        let mut passwords = Passwords::default();
        for field in text.split('|').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "home" => home = Some(value),
                "mail" => mail = Some(value),
                "quota" => courier::quota(value, &mut attributes, &mut remarks),
                "options" => courier::options(value, &mut attributes, &mut remarks),
                // `_` is where makeuserdb found it.
                "uid" | "gid" | "shell" | "_" => {}
                key => match key.strip_suffix("pw") {
                    Some(kind) => {
                        password(kind, value, &mut passwords).map_err(|e| format!("{key}: {e}"))?
                    }
                    None => remarks.push(format!("field {key} means nothing here")),
                },
            }
        }
        attributes.maildir = courier::maildir(home, mail);
        Ok(Record { account: Account::new(name.clone(), attributes), passwords, remarks })
    }
}

fn database(bytes: &[u8]) -> Option<Result<Vec<berkeley::Pair>, berkeley::Damage>> {
    if gdbm::is_gdbm(bytes) {
        Some(gdbm::read(bytes))
    } else {
        berkeley::is_berkeley(bytes).then(|| berkeley::read(bytes))
    }
}

fn lines(path: &Path, bytes: &[u8], table: &mut Table) {
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let at = format!("{}:{}", path.display(), index + 1);
        let Some(tab) = memchr::memchr(b'\t', line) else {
            table.problem(format!("{at}: expected a name, a tab, and fields"));
            continue;
        };
        let (name, fields) = line.split_at(tab);
        if !is_uid(name) {
            let fields = fields.get(1..).unwrap_or_default().to_vec();
            table.add(name, Row { at, fields });
        }
    }
}

/// `1000=` leads from a uid to a name; it is no user.
fn is_uid(name: &[u8]) -> bool {
    name.strip_suffix(b"=").is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

/// A field that ends in `pw`, without these letters.
fn password(kind: &str, value: &str, passwords: &mut Passwords) -> Result<(), String> {
    let (service, hash) = match kind.strip_prefix("hmac-") {
        Some(hash) => (None, Some(hash)),
        None => match kind.split_once("-hmac-") {
            Some((service, hash)) => (Some(service), Some(hash)),
            None => (Some(kind).filter(|kind| *kind != "system"), None),
        },
    };
    let service = service.map(|name| if name == "esmtp" { "smtp" } else { name });
    let credential = match hash {
        None => Passwords::read(value)?,
        Some(hash) => {
            let kind = match hash {
                "md5" => HashKind::Md5,
                "sha1" => HashKind::Sha1,
                "sha256" => HashKind::Sha256,
                _ => return Err("expected hmac-md5, hmac-sha1 or hmac-sha256".to_owned()),
            };
            let key = HmacKey::parse(kind, value)
                .ok_or("expected hexadecimal digits, four for each byte of the hash")?;
            Some(Credential::Hmac(key))
        }
    };
    match service {
        None => passwords.any.0.extend(credential),
        Some(service) => {
            if credential.is_none() {
                passwords.locked.push(service.to_owned());
            }
            match passwords.by_service.iter_mut().find(|(name, _)| name == service) {
                Some((_, known)) => known.0.extend(credential),
                None => passwords
                    .by_service
                    .push((service.to_owned(), Credentials(credential.into_iter().collect()))),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Backend as _;
    use super::*;
    use crate::directory::{Candidate, PassDb as _, PasswordCheck, UserDb as _};
    use proptest::prelude::*;
    use std::sync::Arc;

    const TEXT: &[u8] = include_bytes!("../../tests/fixtures/userdb");
    const DAT: &[u8] = include_bytes!("../../tests/fixtures/userdb.dat");
    const SHADOW: &[u8] = include_bytes!("../../tests/fixtures/userdbshadow.dat");

    fn name(text: &str) -> UserName {
        UserName::new(text).unwrap()
    }

    async fn check(userdb: &Userdb, user: &str, service: &str) -> Option<Arc<dyn PasswordCheck>> {
        match userdb.find(&name(user), service).await.unwrap() {
            Candidate::Known { check, .. } => Some(check),
            Candidate::Unknown { .. } => None,
        }
    }

    async fn all_is_there(userdb: &Userdb) {
        let jo = userdb.lookup(&name("jo@example.org")).await.unwrap().unwrap();
        let Attributes { quota_bytes, quota_messages, maildir, groups, .. } = &jo.attributes;
        assert_eq!((*quota_bytes, *quota_messages), (Some(10_000_000), Some(1000)));
        assert_eq!(maildir.as_deref(), Some(Path::new("/home/vmail/jo/Maildir")));
        assert_eq!(groups.len(), 1);
        assert!(jo.attributes.disablepop3 && !jo.attributes.disableimap);
        for (service, scheme) in
            [("imap", "MD5-CRYPT"), ("pop3", "DES-CRYPT"), ("smap", "MD5-CRYPT")]
        {
            let check = check(userdb, "jo@example.org", service).await.unwrap();
            assert_eq!(check.check(b"geheim"), Ok(true), "{service} {scheme}");
            assert_eq!(check.check(b"Geheim"), Ok(false), "{service}");
            assert!(check.hmac_key(HashKind::Md5).unwrap().check(b"geheim"));
        }
        let mo = |service| check(userdb, "mo", service);
        assert!(mo("imap").await.unwrap().hmac_key(HashKind::Md5).is_some());
        assert!(mo("pop3").await.unwrap().hmac_key(HashKind::Md5).is_none());
        let nopw = check(userdb, "nopw", "imap").await.unwrap();
        assert_eq!(nopw.check(b""), Ok(false));
        assert!(check(userdb, "nobody", "imap").await.is_none());
        assert_eq!(userdb.lookup(&name("nobody")).await, Ok(None));
        let listing = userdb.list().await.unwrap();
        assert_eq!((listing.users.len(), listing.problems), (203, vec![]));
        let weak = listing.users.iter().filter(|user| !user.remarks.is_empty()).count();
        assert_eq!(weak, 202);
    }

    #[tokio::test]
    async fn a_text_a_directory_and_the_database_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("userdb");
        std::fs::write(&path, TEXT).unwrap();
        all_is_there(&Userdb::open(&path).unwrap()).await;

        std::fs::write(dir.path().join("userdb.dat"), DAT).unwrap();
        std::fs::write(dir.path().join("userdbshadow.dat"), SHADOW).unwrap();
        all_is_there(&Userdb::open(dir.path().join("userdb.dat")).unwrap()).await;

        let many = dir.path().join("many");
        std::fs::create_dir_all(many.join("sub")).unwrap();
        let half = TEXT.iter().position(|&b| b == b'\n').unwrap() + 1;
        std::fs::write(many.join("a"), &TEXT[..half]).unwrap();
        std::fs::write(many.join("sub/b"), &TEXT[half..]).unwrap();
        std::fs::write(many.join(".lock.a"), "x").unwrap();
        let userdb = Userdb::open(&many).unwrap();
        all_is_there(&userdb).await;
        std::fs::write(many.join("c"), "zoe\thome=/home/zoe\n").unwrap();
        assert!(userdb.lookup(&name("zoe")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_bad_field_makes_its_user_unavailable_and_a_lost_file_unknown_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("userdb");
        let lines = "jo\tsystempw={NTLM}x\nmo\tsystempw=*|imappw=TiNSDm4PpIhEA|pop3pw=!x\n1000=\tjo\nbad line\na b\tuid=1\nmo\tuid=2\n";
        std::fs::write(&path, lines).unwrap();
        let userdb = Userdb::open(&path).unwrap();
        let error = userdb.lookup(&name("jo")).await.unwrap_err().to_string();
        assert!(error.contains("NTLM") && error.contains(":1"), "{error}");
        for (service, fits) in [("imap", true), ("pop3", false), ("lmtp", false)] {
            let mo = check(&userdb, "mo", service).await.unwrap();
            assert_eq!(mo.check(b"geheim"), Ok(fits), "{service}");
        }
        assert_eq!(userdb.list().await.unwrap().problems.len(), 4);
        std::fs::remove_file(&path).unwrap();
        assert!(userdb.lookup(&name("mo")).await.unwrap().is_some());
        assert!(userdb.lookup(&name("flo")).await.is_err());
        assert!(userdb.reload().is_err() && Userdb::open(&path).is_err());
    }

    proptest! {
        #[test]
        fn any_fields_are_read_or_named(fields in "[a-z=|$,{}A-Z0-9\\-äß]{0,60}") {
            let format = UserdbFormat { path: PathBuf::new() };
            let row = Row { at: String::new(), fields: fields.into_bytes() };
            if let Ok(record) = format.record(&name("jo"), &row) {
                let _ = record.check("imap").0.check(b"x");
            }
        }
    }
}
