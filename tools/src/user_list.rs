//! `cursus user list` and `cursus user check`: users of all back ends.

use std::collections::HashSet;

use admin::accounts::{self, MaildirPlace};
use auth::backends::{Listed, Listing};
use auth::directory::Unavailable;
use auth::{Account, UserName};
use config::{AuthBackend, Config};
use serde::Serialize;

use crate::failure::{Failed, Kind};
use crate::output::{Output, Table};

#[derive(Serialize)]
struct UserLine {
    name: String,
    backend: &'static str,
    schemes: Vec<&'static str>,
    quota_bytes: Option<u64>,
    quota_messages: Option<u64>,
    partition: Option<String>,
    detail: Option<bool>,
    disabled: bool,
    /// All of them, as the users file has them.
    settings: String,
}

type Lists = Vec<(&'static str, Result<Listing, Unavailable>)>;

fn lists(config: &Config) -> Result<Lists, Failed> {
    // Before the first user there is no file.
    if config.auth.backends == [AuthBackend::Users] && !config.users_file().exists() {
        return Ok(Vec::new());
    }
    let chain =
        accounts::open(config).map_err(|e| Failed::new(Kind::Unreachable, e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failed::new(Kind::Incomplete, e.to_string()))?;
    Ok(runtime.block_on(chain.list()))
}

/// Lists users; of a name that several back ends know, the first one's.
///
/// # Errors
/// A back end can't be opened.
pub fn list(config: &Config, out: &Output) -> Result<(), Failed> {
    let mut known: HashSet<UserName> = HashSet::new();
    let mut lines = Vec::new();
    for (backend, listing) in lists(config)? {
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => {
                eprintln!("cursus: {error}");
                continue;
            }
        };
        for problem in &listing.problems {
            eprintln!("cursus: {problem}");
        }
        if listing.is_partial {
            eprintln!("cursus: {backend}: can't name its users");
        }
        let first = listing.users.into_iter().filter(|user| known.insert(user.name.clone()));
        lines.extend(first.map(|user| line(backend, user)));
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    let several = config.auth.backends.len() > 1;
    out.table(&lines, || {
        let row = |l: &UserLine| {
            let backend = several.then(|| l.backend.to_owned());
            let rest = [l.schemes.join(" "), l.settings.clone()];
            std::iter::once(l.name.clone()).chain(backend).chain(rest).collect()
        };
        Table {
            headings: match several {
                true => &["user", "back end", "credentials", "settings"],
                false => &["user", "credentials", "settings"],
            },
            rows: lines.iter().map(row).collect(),
        }
    });
    Ok(())
}

fn line(backend: &'static str, user: Listed) -> UserLine {
    UserLine {
        name: user.name.as_str().to_owned(),
        backend,
        schemes: user.schemes,
        settings: user.attributes.to_string(),
        quota_bytes: user.attributes.quota_bytes,
        quota_messages: user.attributes.quota_messages,
        partition: user.attributes.partition,
        detail: user.attributes.detail,
        disabled: user.attributes.disabled,
    }
}

#[derive(Default, Serialize)]
struct Checked {
    /// Users in all back ends together.
    users: u64,
    /// What keeps somebody from mail.
    problems: Vec<String>,
    /// What else the operator should look at.
    remarks: Vec<String>,
}

/// Says what is wrong with users.
///
/// # Errors
/// Something keeps somebody from mail.
pub fn check(config: &Config, out: &Output) -> Result<(), Failed> {
    let mut checked = Checked::default();
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for (backend, listing) in lists(config)? {
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => {
                checked.problems.push(error.to_string());
                continue;
            }
        };
        checked.users += listing.users.len() as u64;
        checked.problems.extend(listing.problems);
        if listing.is_partial {
            checked.remarks.push(format!("{backend}: can't name its users"));
        }
        for user in listing.users {
            let remarks =
                user.remarks.iter().map(|r| format!("{backend}: user {}: {r}", user.name));
            checked.remarks.extend(remarks);
            let theirs = user.attributes.maildir.clone().unwrap_or_default();
            let account = Account::new(user.name, user.attributes);
            if let Some(MaildirPlace::Elsewhere(ours)) =
                accounts::maildir_place(config, &hostname, &account)
            {
                checked.problems.push(format!(
                    "{backend}: user {}: Maildir {}, but the store has {}: set user_path",
                    account.name,
                    theirs.display(),
                    ours.display()
                ));
            }
        }
    }
    checked.problems.sort();
    checked.remarks.sort();
    let mut text: Vec<&str> = checked.problems.iter().map(String::as_str).collect();
    text.extend(checked.remarks.iter().map(String::as_str));
    let count = format!("{} users, {} problems", checked.users, checked.problems.len());
    text.push(&count);
    out.line(&serde_json::to_value(&checked).unwrap_or_default(), &text.join("\n"));
    match checked.problems.len() {
        0 => Ok(()),
        n => Err(Failed::new(Kind::Incomplete, format!("{n} problems"))),
    }
}
