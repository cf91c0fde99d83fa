//! `cursus folders rename --map FILE`: folders of many users get other names, and a file undoes it.
//!
//! All lines are looked at before anything changes: of a name that is there already, of any user,
//! nothing is done. Each user's renames are one transaction of the store. The undo file gets a user's
//! lines, durably, before they are done, so that whatever was done can be undone; both files are read
//! in the same form, and a line that has been done is passed over, so that a run that was stopped is
//! made again with the same map.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use admin::wire::MailboxLine;
use admin::{Reply, Request};
use config::Config;
use serde::Serialize;

use crate::cli::{FoldersCommand, FoldersRename};
use crate::failure::{Failed, Kind};
use crate::output::{Output, Table};
use crate::place::Place;
use crate::store::unexpected;

/// One rename of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Rename {
    user: String,
    from: String,
    to: String,
    /// `planned`, `done`, `was done` or why not.
    state: String,
}

/// What a user's mailboxes are: by name, whether subscribed.
type Names = BTreeMap<String, bool>;

/// Does `cursus folders …`.
pub fn run(command: &FoldersCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    match command {
        FoldersCommand::Rename(args) => rename(args, config, out),
    }
}

fn rename(args: &FoldersRename, config: &Config, out: &Output) -> Result<(), Failed> {
    let text = std::fs::read_to_string(&args.map)
        .map_err(|e| Failed::new(Kind::Data, format!("{}: {e}", args.map.display())))?;
    let map = parse(&text)?;
    let mut place = Place::find(config)?;
    let done = perform(args, &map, &mut place, out);
    let closed = place.close();
    done.and(closed)
}

/// Lines of user, old name, new name. What begins with `#` and empty lines count for nothing.
fn parse(text: &str) -> Result<Vec<(String, String, String)>, Failed> {
    let mut map = Vec::new();
    // A run that was stopped and made again writes its undo lines twice.
    let mut known = BTreeSet::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') || !known.insert(line) {
            continue;
        }
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            [user, from, to] if ![*user, *from, *to].contains(&"") => {
                map.push(((*user).to_owned(), (*from).to_owned(), (*to).to_owned()));
            }
            _ => {
                let message = format!(
                    "map, line {}: expected user, old name, new name, with tabs between them",
                    n + 1
                );
                return Err(Failed::new(Kind::Data, message));
            }
        }
    }
    match map.is_empty() {
        true => Err(Failed::new(Kind::Data, "map: no lines")),
        false => Ok(map),
    }
}

fn perform(
    args: &FoldersRename,
    map: &[(String, String, String)],
    place: &mut Place,
    out: &Output,
) -> Result<(), Failed> {
    let users = names(map, place)?;
    let mut plan = Vec::new();
    let mut collisions = Vec::new();
    for (user, names) in &users {
        let own: Vec<(&str, &str)> = map
            .iter()
            .filter(|(whose, from, _)| whose == user || whose == "*" && is_there(names, from))
            .map(|(_, from, to)| (from.as_str(), to.as_str()))
            .collect();
        match planned(user, names, &own) {
            Ok(renames) => plan.extend(renames),
            Err(found) => collisions.extend(found),
        }
    }
    if !collisions.is_empty() {
        collisions.iter().for_each(|line| eprintln!("cursus: {line}"));
        let message = format!("{} collisions: nothing is renamed", collisions.len());
        return Err(Failed::new(Kind::Data, message));
    }
    let mut failures = 0;
    if !args.dry_run {
        let path = undo_path(args);
        let mut undo = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| Failed::new(Kind::Incomplete, format!("{}: {e}", path.display())))?;
        for (user, names) in &users {
            let open = |one: &&mut Rename| one.user == *user && one.state == "planned";
            let mut own: Vec<&mut Rename> = plan.iter_mut().filter(open).collect();
            if own.is_empty() {
                continue;
            }
            let state = match of_user(user, names, &own, place, &mut undo) {
                Ok(()) => "done".to_owned(),
                Err(failed) => {
                    failures += 1;
                    eprintln!("cursus: {user}: {failed}");
                    failed.to_string()
                }
            };
            own.iter_mut().for_each(|one| one.state.clone_from(&state));
        }
    }
    out.table(&plan, || Table {
        headings: &["user", "folder", "new name", "state"],
        rows: plan
            .iter()
            .map(|one| vec![one.user.clone(), one.from.clone(), one.to.clone(), one.state.clone()])
            .collect(),
    });
    match failures {
        0 => Ok(()),
        n => Err(Failed::new(Kind::Incomplete, format!("nothing is renamed of {n} users"))),
    }
}

fn undo_path(args: &FoldersRename) -> PathBuf {
    args.undo.clone().unwrap_or_else(|| {
        let mut name = args.map.clone().into_os_string();
        name.push(".undo");
        name.into()
    })
}

/// The mailboxes of all users that the map is about.
fn names(
    map: &[(String, String, String)],
    place: &mut Place,
) -> Result<BTreeMap<String, Names>, Failed> {
    let all = map.iter().any(|(user, ..)| user == "*");
    let named: BTreeSet<&str> =
        map.iter().map(|(user, ..)| user.as_str()).filter(|user| *user != "*").collect();
    let mut users: BTreeMap<String, Names> = BTreeMap::new();
    let asked: Vec<Option<String>> = match all {
        true => vec![None],
        false => named.iter().map(|user| Some((*user).to_owned())).collect(),
    };
    for user in asked {
        let lines: Vec<MailboxLine> = match place.ask(Request::Mailboxes { user })? {
            Reply::Mailboxes(lines) => lines,
            other => return Err(unexpected(&other)),
        };
        for line in lines {
            users.entry(line.user).or_default().insert(line.name, line.subscribed);
        }
    }
    if let Some(missing) = named.iter().find(|user| !users.contains_key(**user)) {
        return Err(Failed::new(Kind::NoUser, format!("no mail of a user named {missing}")));
    }
    Ok(users)
}

fn is_there(names: &Names, name: &str) -> bool {
    names.contains_key(name) || below(names, name).next().is_some()
}

fn below<'n>(names: &'n Names, name: &str) -> impl Iterator<Item = &'n String> {
    let prefix = format!("{name}/");
    let names = names.range(prefix.clone()..).map(|(name, _)| name);
    names.take_while(move |one| one.starts_with(&prefix))
}

/// What is to be done of one user; or what stands against it.
fn planned(user: &str, names: &Names, own: &[(&str, &str)]) -> Result<Vec<Rename>, Vec<String>> {
    let (mut renames, mut against) = (Vec::new(), Vec::new());
    let mut targets = BTreeSet::new();
    for (from, to) in own {
        let (old, new) = (is_there(names, from), is_there(names, to));
        let state = match (old, new) {
            (true, false) if !targets.insert(*to) => {
                against.push(format!("{user}: two folders would become {to}"));
                continue;
            }
            (true, false) => "planned",
            (false, true) => "was done",
            (true, true) => {
                against.push(format!("{user}: {from} cannot become {to}, which is there"));
                continue;
            }
            (false, false) => {
                against.push(format!("{user}: there is no {from}"));
                continue;
            }
        };
        let (user, from, to) = (user.to_owned(), (*from).to_owned(), (*to).to_owned());
        renames.push(Rename { user, from, to, state: state.to_owned() });
    }
    match against.is_empty() {
        true => Ok(renames),
        false => Err(against),
    }
}

/// Renames one user's folders.
fn of_user(
    user: &str,
    names: &Names,
    own: &[&mut Rename],
    place: &mut Place,
    undo: &mut std::fs::File,
) -> Result<(), Failed> {
    let io = |e: std::io::Error| Failed::new(Kind::Incomplete, format!("undo file: {e}"));
    // What was below another one's old name goes back from where it is before that does.
    let lines: String =
        own.iter().rev().map(|one| format!("{user}\t{}\t{}\n", one.to, one.from)).collect();
    undo.write_all(lines.as_bytes()).map_err(io)?;
    undo.sync_data().map_err(io)?;
    let renames: Vec<(String, String)> =
        own.iter().map(|one| (one.from.clone(), one.to.clone())).collect();
    place.ask(Request::MailboxesRename { user: user.to_owned(), renames: renames.clone() })?;
    for (name, _) in names.iter().filter(|(_, subscribed)| **subscribed) {
        let at_or_below = |(from, _): &&(String, String)| {
            name.strip_prefix(from.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        let Some((from, to)) = renames.iter().filter(at_or_below).max_by_key(|(f, _)| f.len())
        else {
            continue;
        };
        let now = format!("{to}{}", &name[from.len()..]);
        for (name, on) in [(now, true), (name.clone(), false)] {
            place.ask(Request::MailboxSubscribe { user: user.to_owned(), name, on })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Names {
        of.iter().map(|name| ((*name).to_owned(), false)).collect()
    }

    #[test]
    fn lines_have_three_fields() {
        let map = parse("# x\n\njo\tSent Items\tSent\r\n*\tA\tB\n").unwrap();
        assert_eq!(map[0], ("jo".to_owned(), "Sent Items".to_owned(), "Sent".to_owned()));
        assert_eq!(map.len(), 2);
        let told = parse("jo\tA\n").unwrap_err().to_string();
        assert!(told.contains("line 1"), "{told}");
        assert!(parse("# nothing\n").is_err() && parse("jo\t\tB\n").is_err());
    }

    #[test]
    fn collisions_are_found_before_anything_changes() {
        let have = names(&["A", "A/x", "B", "Deep/er"]);
        let plan = planned("jo", &have, &[("A", "New"), ("Deep", "D")]).unwrap();
        assert!(plan.iter().all(|one| one.state == "planned"), "{plan:?}");
        let plan = planned("jo", &have, &[("Old", "B")]).unwrap();
        assert_eq!(plan[0].state, "was done");
        let against = planned("jo", &have, &[("A", "B"), ("X", "Y"), ("B", "Deep")]).unwrap_err();
        assert_eq!(against.len(), 3, "{against:?}");
        let twice = planned("jo", &have, &[("A", "N"), ("B", "N")]).unwrap_err();
        assert!(twice[0].contains("two folders"));
    }
}
