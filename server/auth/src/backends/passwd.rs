//! Files of the form of passwd: Dovecot's passwd-file, `/etc/shadow`, htpasswd.
//!
//! | line | whose |
//! |---|---|
//! | `name:hash` | htpasswd |
//! | `name:hash:uid:gid:gecos:home:shell:extra` | Dovecot; what is behind the hash may be missing |
//! | `name:hash:` and seven numbers | shadow: the last but one is the day of expiry |
//!
//! `extra` is Dovecot's: `key=value` or `key`, with blanks between. What would give a user more than
//! he had if it were passed over (`allow_nets`, `proxy`, …) makes him unavailable.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::file::{Format, TableFile, read_whole};
use super::table::{Passwords, Record, Row, Table};
use crate::credential::Credentials;
use crate::directory::{Account, Attributes};
use crate::name::UserName;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Users of a passwd-file.
pub type Passwd = TableFile<PasswdFormat>;

/// What a passwd-file looks like.
pub struct PasswdFormat {
    path: PathBuf,
}

impl Passwd {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Passwd> {
        TableFile::with_format(PasswdFormat { path: path.into() })
    }
}

impl Format for PasswdFormat {
    const KIND: &'static str = "passwd";

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        Ok(vec![self.path.clone()])
    }

    fn read(&self, paths: &[PathBuf]) -> io::Result<Table> {
        let mut table = Table::default();
        for path in paths {
            let bytes = read_whole(path)?;
            for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if line.trim_ascii().is_empty() || line.starts_with(b"#") {
                    continue;
                }
                let at = format!("{}:{}", path.display(), index + 1);
                match memchr::memchr(b':', line) {
                    None => table.problem(format!("{at}: expected name:hash")),
                    Some(colon) => {
                        let (name, fields) = line.split_at(colon);
                        let fields = fields.get(1..).unwrap_or_default().to_vec();
                        table.add(name, Row { at, fields });
                    }
                }
            }
        }
        Ok(table)
    }

    fn record(&self, name: &UserName, row: &Row) -> Result<Record, String> {
        let text = std::str::from_utf8(&row.fields).map_err(|_| "expected UTF-8".to_owned())?;
        let mut fields = text.splitn(7, ':');
        let credential = Passwords::read(fields.next().unwrap_or_default())?;
        let rest: Vec<&str> = fields.collect();
        let any = Credentials(credential.into_iter().collect());
        let mut record = Record {
            account: Account::new(name.clone(), Attributes::default()),
            passwords: Passwords { any, ..Passwords::default() },
            remarks: Vec::new(),
        };
        match expiry(&rest) {
            Some(day) => record.account.attributes.disabled = day.is_some_and(is_over),
            None => {
                let home = rest.get(3).copied().filter(|home| !home.is_empty());
                let extra = rest.get(5).copied().unwrap_or_default();
                Extra { name, home, record: &mut record }.take(extra)?;
            }
        }
        Ok(record)
    }
}

/// The day of expiry of a line of shadow: `None` if it is none of shadow's.
fn expiry(rest: &[&str]) -> Option<Option<u64>> {
    // The last field has what was not split: day of expiry is before the last colon.
    let [_, _, _, _, _, last] = rest else { return None };
    let (day, reserved) = last.split_once(':')?;
    let numbers = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
    let shadow = rest.iter().take(5).all(numbers) && numbers(&day) && numbers(&reserved);
    shadow.then(|| day.parse().ok())
}

fn is_over(day: u64) -> bool {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
    day <= now / DAY_SECONDS
}

/// Reads Dovecot's extra fields.
struct Extra<'r> {
    name: &'r UserName,
    home: Option<&'r str>,
    record: &'r mut Record,
}

impl Extra<'_> {
    fn take(mut self, extra: &str) -> Result<(), String> {
        // The last of several homes counts, whatever its place.
        let fields =
            || extra.split_ascii_whitespace().map(|f| f.split_once('=').unwrap_or((f, "")));
        let home = fields().rfind(|(key, _)| matches!(*key, "userdb_home" | "home"));
        let home = home.map(|(_, home)| home.to_owned()).or(self.home.map(str::to_owned));
        for (key, value) in fields() {
            self.field(key, value, home.as_deref())?;
        }
        Ok(())
    }

    fn field(&mut self, key: &str, value: &str, home: Option<&str>) -> Result<(), String> {
        let attributes = &mut self.record.account.attributes;
        let bare = key.strip_prefix("userdb_").unwrap_or(key);
        match bare {
            "nologin" => attributes.disabled = true,
            "nopassword" | "allow_nets" | "allow_real_nets" | "proxy" | "proxy_maybe" | "user"
            | "login_user" | "k5principals" | "nodelay_auth" => {
                return Err(format!("extra field {key} isn't taken"));
            }
            "mail" => match value.strip_prefix("maildir:") {
                Some(place) => {
                    self.record.account.attributes.maildir = self.maildir(place, home);
                }
                None => self.record.remarks.push(format!("mail is not in a Maildir: {value}")),
            },
            "acl_groups" => {
                for group in value.split(',').filter(|group| !group.is_empty()) {
                    match UserName::new(group) {
                        Ok(name) if !name.as_str().contains('@') => attributes.groups.push(name),
                        _ => self
                            .record
                            .remarks
                            .push(format!("group {group:?} is no name of a group")),
                    }
                }
            }
            // `quota_rule2` and so on as well: rules for folders are passed over.
            rule if rule.starts_with("quota_rule") => self.quota(value),
            "uid" | "gid" | "home" | "nodelay" | "nice" | "system_groups_user" => {}
            _ => self.record.remarks.push(format!("extra field {key} means nothing here")),
        }
        Ok(())
    }

    fn maildir(&self, place: &str, home: Option<&str>) -> Option<PathBuf> {
        // `maildir:path:INBOX=…:LAYOUT=fs`
        let path = place.split(':').next().unwrap_or_default();
        let name = self.name.as_str();
        let (local, domain) = name.split_once('@').unwrap_or((name, ""));
        let path = path.replace("%u", name).replace("%n", local).replace("%d", domain);
        let path = match path.strip_prefix("~/") {
            Some(below) => Path::new(home?).join(below),
            None => PathBuf::from(path),
        };
        // What has further variables can't be compared.
        let whole = path.is_absolute() && !path.to_string_lossy().contains('%');
        whole.then(|| path.components().collect())
    }

    /// `*:storage=1G:messages=1000`; numbers of storage without a unit are KiB.
    fn quota(&mut self, rule: &str) {
        let Some(limits) = rule.strip_prefix("*:") else {
            self.record.remarks.push(format!("quota rule {rule:?} is for a folder"));
            return;
        };
        for limit in limits.split(':') {
            let attributes = &mut self.record.account.attributes;
            match limit.split_once('=').map(|(kind, size)| (kind, number(size))) {
                Some(("storage", Some((size, has_unit)))) => {
                    let unit = if has_unit { 1 } else { 1024 };
                    attributes.quota_bytes = size.checked_mul(unit);
                }
                Some(("bytes", Some((size, _)))) => attributes.quota_bytes = Some(size),
                Some(("messages", Some((size, _)))) => attributes.quota_messages = Some(size),
                _ => self.record.remarks.push(format!("quota limit {limit:?} means nothing here")),
            }
        }
    }
}

/// A number, and whether it has a unit. Dovecot has `B`, too.
fn number(text: &str) -> Option<(u64, bool)> {
    let bare = text.trim_end_matches(['B', 'b']);
    let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    crate::users::parse_size(bare).map(|size| (size, has_unit))
}

#[cfg(test)]
mod tests {
    use super::super::Backend as _;
    use super::*;
    use crate::directory::{Candidate, PassDb as _, UserDb as _};
    use proptest::prelude::*;

    const FILE: &str = "\
# Dovecot's
jo@example.org:{SSHA256}XF2ZLKPUUO2OKpn9utIv8LFrKnkaF2IjTYbXDFmJ3kXTR1t3:1000:1000:Jo:/home/jo:/bin/sh:userdb_quota_rule=*:storage=1G:messages=100 userdb_mail=maildir:~/Mail userdb_acl_groups=staff,b
plain:{PLAIN}geheim
digest@example.org:{DIGEST-MD5}%DIGEST%::::::
kb:{PLAIN}geheim::::::userdb_quota_rule=*:storage=1024 nodelay color=red
nets:{PLAIN}geheim::::::allow_nets=10.0.0.0/8
off:{PLAIN}geheim::::::nologin
apache:$apr1$abcdefgh$bw9gEObk10asetVLiysIZ0
bcrypt:$2y$05$IgbU9X8zBwnIe0NtFCQdoeY8A48GLLTa9mvw31tbLh37TzAWdjSKa
shadow:$y$j9T$F5Jx5fExrKuPp53xLKQ..1$iLMagHjBvrahXhlULvb9yW5faxBRfc3sREKM24WCe2C:19000:0:99999:7:::
expired:TiNSDm4PpIhEA:19000:0:99999:7::100:
locked:!TiNSDm4PpIhEA:19000:0:99999:7:::
system:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
no colon
";

    fn file(text: &str) -> (tempfile::TempDir, Passwd) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        std::fs::write(&path, text).unwrap();
        let passwd = Passwd::open(&path).unwrap();
        (dir, passwd)
    }

    #[tokio::test]
    async fn lines_of_every_kind_log_in() {
        // `doveadm pw -s DIGEST-MD5 -u digest@example.org -p geheim`
        let digest =
            crate::hash::hex(&crate::digest_md5::secret("digest", "example.org", "geheim"));
        let (_dir, passwd) = file(&FILE.replace("%DIGEST%", &digest));
        for (user, fits) in [
            ("jo@example.org", true),
            ("plain", true),
            ("digest@example.org", true),
            ("apache", true),
            ("bcrypt", true),
            ("shadow", true),
            ("expired", true),
            ("locked", false),
            ("system", false),
        ] {
            let user = UserName::new(user).unwrap();
            let Candidate::Known { check, .. } = passwd.find(&user, "imap").await.unwrap() else {
                panic!("{user}: unknown")
            };
            assert_eq!(
                (check.check(b"geheim"), check.check(b"x")),
                (Ok(fits), Ok(false)),
                "{user}"
            );
        }
        let account = |user| {
            let user = UserName::new(user).unwrap();
            let passwd = &passwd;
            async move { passwd.lookup(&user).await.map(|a| a.unwrap().attributes) }
        };
        let jo = account("jo@example.org").await.unwrap();
        assert_eq!(
            (jo.quota_bytes, jo.quota_messages, jo.groups.len()),
            (Some(1 << 30), Some(100), 2)
        );
        assert_eq!(jo.maildir.as_deref(), Some(Path::new("/home/jo/Mail")));
        assert_eq!(account("kb").await.unwrap().quota_bytes, Some(1 << 20));
        assert!(
            account("off").await.unwrap().disabled && account("expired").await.unwrap().disabled
        );
        assert!(!account("shadow").await.unwrap().disabled);
        assert!(account("nets").await.unwrap_err().to_string().contains("allow_nets"));
        let listing = passwd.list().await.unwrap();
        assert_eq!(
            (listing.users.len(), listing.problems.len()),
            (11, 2),
            "{:?}",
            listing.problems
        );
        let remarks = |user: &str| {
            let found = listing.users.iter().find(|listed| listed.name.as_str() == user);
            found.unwrap().remarks.clone()
        };
        assert_eq!(remarks("kb").len(), 2, "{:?}", remarks("kb"));
        assert!(remarks("bcrypt").is_empty() && remarks("shadow").is_empty());
        assert_eq!(remarks("apache"), ["weak password scheme MD5-CRYPT"]);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_named(fields in "[a-z=:{}*~/%A-Z0-9\\- ]{0,80}") {
            let format = PasswdFormat { path: PathBuf::new() };
            let row = Row { at: String::new(), fields: fields.into_bytes() };
            if let Ok(record) = format.record(&UserName::new("jo").unwrap(), &row) {
                let _ = record.check("imap").0.check(b"x");
            }
        }
    }
}
