//! Whose mail comes over: lines of source user, password, target user.

use std::collections::HashMap;
use std::path::Path;

use auth::UserName;
use client::imap::{Bearer, Login};

use crate::failure::{Failed, Kind};

/// One user under way.
#[derive(Clone)]
pub struct Account {
    /// Name at the source.
    pub source: String,
    /// How to log in there.
    pub login: Login,
    /// Name here, canonical.
    pub target: String,
}

/// How the source is logged in to for somebody else.
#[derive(Clone)]
pub struct Master {
    /// The master user.
    pub name: String,
    /// Its password.
    pub password: String,
    /// LOGIN as `user*master` instead of PLAIN with an authorization identity.
    pub star: bool,
}

/// Reads a users file: on each line source user, password and target user, with a tab between
/// them, or blanks where there is no tab. Without a target user it is the source's. With a master
/// user, a line is source user and target user. Empty lines and those with `#` in front count for
/// nothing.
pub fn parse(
    text: &str,
    master: Option<&Master>,
    bearer: Option<Bearer>,
) -> Result<Vec<Account>, Failed> {
    let mut accounts: Vec<Account> = Vec::new();
    let mut targets: HashMap<String, String> = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_end_matches('\r');
        if trimmed.trim().is_empty() || trimmed.starts_with('#') {
            continue;
        }
        // The password is not to be seen in a message.
        let bad =
            |what: &str| Failed::new(Kind::Data, format!("users, line {}: {what}", number + 1));
        let fields: Vec<&str> = match trimmed.contains('\t') {
            true => trimmed.split('\t').collect(),
            false => trimmed.split_whitespace().collect(),
        };
        let (source, password, target) = match (master, fields.as_slice()) {
            (None, [source, password]) => (*source, *password, *source),
            (None, [source, password, target]) => (*source, *password, *target),
            (Some(_), [source]) => (*source, "", *source),
            (Some(_), [source, target]) => (*source, "", *target),
            (None, _) => return Err(bad("expected source user, password, target user")),
            (Some(_), _) => return Err(bad("expected source user, target user")),
        };
        let account = account(source, password, target, master, bearer);
        let account = account.map_err(|failed| bad(&failed.to_string()))?;
        if let Some(other) = targets.insert(account.target.clone(), source.to_owned()) {
            return Err(bad(&format!("{other} and {source} would have one mail")));
        }
        accounts.push(account);
    }
    match accounts.is_empty() {
        true => Err(Failed::new(Kind::Data, "no users")),
        false => Ok(accounts),
    }
}

/// One account.
pub fn account(
    source: &str,
    password: &str,
    target: &str,
    master: Option<&Master>,
    bearer: Option<Bearer>,
) -> Result<Account, Failed> {
    if source.is_empty() {
        return Err(Failed::new(Kind::Data, "expected a user"));
    }
    let login = match master {
        None => {
            Login { user: source.to_owned(), master: None, secret: password.to_owned(), bearer }
        }
        Some(master) => Login {
            user: match master.star {
                true => format!("{source}*{}", master.name),
                false => source.to_owned(),
            },
            master: (!master.star).then(|| master.name.clone()),
            secret: master.password.clone(),
            bearer: None,
        },
    };
    let target = UserName::new(target)?.as_str().to_owned();
    Ok(Account { source: source.to_owned(), login, target })
}

/// Reads a file with secrets; one that others can read is refused.
pub fn read_secret(path: &Path) -> Result<String, Failed> {
    use std::os::unix::fs::MetadataExt;
    let bad = |e: std::io::Error| Failed::new(Kind::Data, format!("{}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(bad)?;
    let metadata = file.metadata().map_err(bad)?;
    if metadata.is_file() && metadata.mode() & 0o007 != 0 {
        let message = format!("{}: anybody can read it; chmod o= first", path.display());
        return Err(Failed::new(Kind::Data, message));
    }
    std::io::read_to_string(file).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_source_password_target() {
        let text = "# who\n\nann\tpass word\tAnn@Example.org\nbob secret\r\n";
        let accounts = parse(text, None, None).unwrap();
        assert_eq!(accounts[0].login.secret, "pass word");
        assert_eq!(accounts[0].target, "ann@example.org");
        assert_eq!(
            (accounts[1].login.secret.as_str(), accounts[1].target.as_str()),
            ("secret", "bob")
        );
        let told = parse("ann\n", None, None).err().unwrap().to_string();
        assert!(told.contains("line 1"), "{told}");
        let twice = parse("a x jo\nb hidden jo\n", None, None).err().unwrap().to_string();
        assert!(twice.contains("one mail") && !twice.contains("hidden"), "{twice}");
        assert!(parse("# nobody\n", None, None).is_err());
    }

    #[test]
    fn a_master_logs_in_for_others() {
        let (name, password) = ("root".to_owned(), "p".to_owned());
        let mut master = Master { name, password, star: false };
        let plain = parse("ann\tann@x\n", Some(&master), None).unwrap();
        assert_eq!(plain[0].login.user, "ann");
        assert_eq!(plain[0].login.master.as_deref(), Some("root"));
        master.star = true;
        let star = parse("ann\n", Some(&master), None).unwrap();
        assert_eq!((star[0].login.user.as_str(), &star[0].login.master), ("ann*root", &None));
    }
}
