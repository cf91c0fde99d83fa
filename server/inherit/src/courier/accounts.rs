//! `authdaemonrc`, and where users' Maildirs are.

use std::path::{Path, PathBuf};

use foreign::courier::shared::{Indexed, read_index};
use toml::Value;

use super::Reading;
use super::shell::Variables;
use crate::draft::Set;

/// Indexes within indexes at most.
const DEPTH_MAX: usize = 4;

/// Which modules check accounts.
pub(super) fn map(reading: &mut Reading<'_>, rc: &Variables) {
    let directory = rc.get("authdaemonvar").map_or("/run/courier/authdaemon", |s| &s.value);
    let socket = format!("{directory}/socket");
    let Some(list) = rc.get("authmodulelist").cloned() else { return };
    let userdb = ["userdb", "userdb.dat"].map(|name| reading.dir.join(name));
    let userdb = userdb.into_iter().find(|file| reading.files.has(file));
    let mut backends: Vec<&str> = vec!["users"];
    let mut others: Vec<&str> = Vec::new();
    for module in list.value.split_whitespace() {
        match module {
            "authuserdb" if userdb.is_some() => backends.push("userdb"),
            "authuserdb" => reading.draft.not_served(&list, "there is no userdb beside this file"),
            "authpwd" | "authshadow" if backends.contains(&"passwd") => {}
            "authpwd" | "authshadow" => backends.push("passwd"),
            other => others.push(other),
        }
    }
    if !others.is_empty() {
        // In its order, which is that of the list.
        backends = vec!["users", "authdaemon"];
        let text = format!(
            "{} and all the list are asked of Courier's authdaemond at {socket}, which has to run",
            others.join(", ")
        );
        reading.draft.not_needed(&list, text);
    }
    let names: Vec<Value> = backends.iter().map(|name| Value::from(*name)).collect();
    reading.draft.set("auth.backends", names, &list);
    if backends.contains(&"passwd") {
        reading.draft.set("auth.passwd.path", "/etc/shadow", &list);
    }
    match rc.get("authdaemonvar") {
        Some(set) => reading.draft.set("auth.authdaemon.socket", socket, set),
        None => reading.draft.imply("auth.authdaemon.socket", socket, "Courier: authdaemonvar"),
    }
    if let Some(file) = userdb {
        let file = file.to_string_lossy().into_owned();
        reading.draft.imply("auth.userdb.path", file, "Courier: userdb beside its files");
    }
}

/// Where users' Maildirs are. Courier asks each account for its home directory; of those, only the
/// shared index is in a file.
pub(super) fn map_homes(reading: &mut Reading<'_>, main: &Variables) {
    reading.draft.imply("partition[0].name", "default", "Courier: one tree of Maildirs");
    let index = main.get("IMAP_SHAREDINDEXFILE").cloned();
    let maildir = main.get("MAILDIRPATH").cloned();
    if let Some(set) = &index
        && let Some(homes) = homes(reading, set, Path::new(&set.value), 0)
    {
        reading.draft.set("sharing.courier_index", set.value.clone(), set);
        match form(&homes) {
            Some((path, user_path)) => {
                reading.draft.set("partition[0].path", path, set);
                reading.draft.set("partition[0].user_path", user_path, set);
                return;
            }
            None if homes.is_empty() => {}
            None => reading.draft.not_served(
                set,
                "the home directories in it follow no common form: say where Maildirs are in a \
                 [[partition]] of cursus.toml",
            ),
        }
    }
    let what =
        "Courier: home directories of a Unix system; others need a [[partition]] in cursus.toml";
    reading.draft.imply("partition[0].path", "/home", what);
    let below = maildir.as_ref().map_or("Maildir", |set| &set.value).trim_start_matches("./");
    let user_path = format!("{{user}}/{}", below.trim_matches('/'));
    reading.draft.set_or_imply("partition[0].user_path", user_path, maildir.as_ref(), what);
}

/// A user's name and Maildir.
type Home = (String, PathBuf);

fn homes(reading: &mut Reading<'_>, set: &Set, file: &Path, depth: usize) -> Option<Vec<Home>> {
    let text = match reading.files.text(file) {
        Ok(text) => text,
        Err(_) if depth == 0 => {
            reading.draft.not_needed(set, "there is no such file");
            return None;
        }
        Err(error) => {
            reading.draft.refuse(set, format!("{}: {error}", file.display()));
            return None;
        }
    };
    let entries = match read_index(text.as_bytes()) {
        Ok(entries) => entries,
        Err(bad) => {
            reading.draft.refuse(set, format!("{}: {bad}", file.display()));
            return None;
        }
    };
    let mut out = Vec::new();
    for entry in entries {
        match entry {
            Indexed::Account { name, home, maildir, .. } => {
                let maildir = maildir.trim_start_matches("./");
                out.push((name, Path::new(&home).join(maildir)));
            }
            Indexed::Below { file: inner, .. } if depth < DEPTH_MAX => {
                let inner = file.parent().unwrap_or(Path::new("")).join(inner);
                out.extend(homes(reading, set, &inner, depth + 1)?);
            }
            Indexed::Below { .. } => {
                reading.draft.refuse(set, "indexes lie in each other without an end");
                return None;
            }
        }
    }
    Some(out)
}

/// `partition.path` and `partition.user_path` that most Maildirs follow, if there are any. Others are
/// served below `#shared` alone.
fn form(homes: &[Home]) -> Option<(String, String)> {
    let forms = homes.iter().filter_map(|home| form_of(home, homes));
    let (fitting, form) = forms.max_by_key(|(fitting, _)| *fitting)?;
    (fitting * 2 > homes.len()).then_some(form)
}

/// The form of one Maildir that fits most of all, and how many.
fn form_of((name, first): &Home, homes: &[Home]) -> Option<(usize, (String, String))> {
    let (local, domain) = name.rsplit_once('@').unwrap_or((name, ""));
    let first = first.to_str()?;
    let patterns = [("{user}", name.to_owned()), ("{domain}/{local}", format!("{domain}/{local}"))];
    let mut best: Option<(usize, (String, String))> = None;
    for (pattern, text) in patterns {
        let Some((path, behind)) = first.split_once(&format!("/{text}/")) else { continue };
        let path = if path.is_empty() { "/" } else { path };
        let user_path = format!("{pattern}/{behind}");
        let fits = |(name, maildir): &Home| {
            let (local, domain) = name.rsplit_once('@').unwrap_or((name, ""));
            let own = user_path
                .replace("{user}", name)
                .replace("{local}", local)
                .replace("{domain}", domain);
            *maildir == Path::new(path).join(own)
        };
        let fitting = homes.iter().filter(|home| fits(home)).count();
        if best.as_ref().is_none_or(|(most, _)| fitting > *most) {
            best = Some((fitting, (path.to_owned(), user_path)));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(homes: &[(&str, &str)]) -> Option<(String, String)> {
        let homes: Vec<Home> = homes.iter().map(|(n, h)| ((*n).to_owned(), h.into())).collect();
        form(&homes)
    }

    #[test]
    fn homes_have_a_common_form_or_none() {
        let some = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        let unix = [("jo", "/home/jo/Maildir"), ("mo", "/home/mo/Maildir")];
        assert_eq!(of(&unix), some("/home", "{user}/Maildir"));
        let virtual_ones = [
            ("jo@a.example", "/v/a.example/jo/Maildir"),
            ("mo@b.example", "/v/b.example/mo/Maildir"),
        ];
        assert_eq!(of(&virtual_ones), some("/v", "{domain}/{local}/Maildir"));
        assert_eq!(of(&[("jo", "/home/jo/Maildir"), ("mo", "/srv/mo/Maildir")]), None);
        let lists = [unix[0], unix[1], ("lists", "/srv/lists")];
        assert_eq!(of(&lists), some("/home", "{user}/Maildir"));
        assert_eq!(of(&[("jo", "/home/other/Maildir")]), None);
        assert_eq!(of(&[]), None);
    }
}
