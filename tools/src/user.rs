//! `cursus user`: works on the users file, and tells a running server.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use admin::Request;
use auth::UserName;
use auth::credential::Credentials;
use auth::users::{NewUser, Users, edit};
use config::Config;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;

use crate::cli::{UserAdd, UserCommand};
use crate::failure::{Failed, Kind};
use crate::output::{Output, Table};
use crate::place;

/// Does `cursus user …`.
pub fn run(command: &UserCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    let file = config.users_file();
    match command {
        UserCommand::Add(args) if args.bulk => add_bulk(args, &file, out)?,
        UserCommand::Add(args) => add(args, &file, out)?,
        UserCommand::Passwd { name } => {
            let name = UserName::new(name)?;
            let password = read_password(&format!("New password for {name}: "))?;
            let credentials =
                Credentials::for_password(&password).map_err(auth::users::EditError::from)?;
            edit(&file, |document| document.set_credentials(&name, credentials))?;
            out.line(&serde_json::json!({ "changed": name.as_str() }), &format!("changed {name}"));
        }
        UserCommand::List => return list(&file, out),
        UserCommand::Remove { name } => {
            let name = UserName::new(name)?;
            edit(&file, |document| document.remove(&name))?;
            out.line(&serde_json::json!({ "removed": name.as_str() }), &format!("removed {name}"));
        }
    }
    tell_server(config)
}

/// A running server would notice by itself; this way it has noticed when we return.
fn tell_server(config: &Config) -> Result<(), Failed> {
    let Some(mut client) = place::connect(config)? else { return Ok(()) };
    client.ask(Request::ReloadUsers)?;
    Ok(())
}

fn add(args: &UserAdd, file: &Path, out: &Output) -> Result<(), Failed> {
    let name = UserName::new(args.name.as_deref().unwrap_or_default())?;
    let secret = match args.hashed {
        true => read_line()?,
        false => read_password(&format!("Password for {name}: "))?,
    };
    let user = new_user(name.clone(), &secret, args)?;
    make_parent(file)?;
    edit(file, |document| document.add(user))?;
    out.line(&serde_json::json!({ "added": [name.as_str()] }), &format!("added {name}"));
    Ok(())
}

fn new_user(name: UserName, secret: &str, args: &UserAdd) -> Result<NewUser, Failed> {
    Ok(match args.hashed {
        true => NewUser::with_hash(name, secret, &args.attributes)?,
        false => NewUser::with_password(name, secret, &args.attributes)?,
    })
}

/// A users file can be written before the server has ever run.
fn make_parent(file: &Path) -> Result<(), Failed> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|e| Failed::new(Kind::Incomplete, format!("{}: {e}", parent.display())))
}

fn add_bulk(args: &UserAdd, file: &Path, out: &Output) -> Result<(), Failed> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Failed::new(Kind::Data, format!("standard input: {e}")))?;
    let pairs = parse_bulk(&text)?;
    let users = hash_all(&pairs, args, out)?;
    let count = users.len();
    make_parent(file)?;
    edit(file, |document| document.add_all(users))?;
    let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    out.line(&serde_json::json!({ "added": names }), &format!("added {count} users"));
    Ok(())
}

fn parse_bulk(text: &str) -> Result<Vec<(UserName, &str)>, Failed> {
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let bad = |what: String| Failed::new(Kind::Data, format!("line {}: {what}", index + 1));
        // No name holds either, so the first one is the separator whatever the password holds.
        let (name, secret) = line
            .split_once(['\t', ':'])
            .ok_or_else(|| bad("expected a name, a tab or colon, and a password".to_owned()))?;
        let name = UserName::new(name).map_err(|e| bad(format!("{name:?}: {e}")))?;
        pairs.push((name, secret));
    }
    Ok(pairs)
}

/// Hashes on every core: one password takes a good part of a second.
fn hash_all(
    pairs: &[(UserName, &str)],
    args: &UserAdd,
    out: &Output,
) -> Result<Vec<NewUser>, Failed> {
    let bar = out.progress(pairs.len() as u64, "hashing");
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(pairs.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(pairs.len()) {
            scope.spawn(|| {
                while let Some((name, secret)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let user = new_user(name.clone(), secret, args)
                        .map_err(|e| Failed::new(e.kind(), format!("{name}: {e}")));
                    if let Ok(mut done) = done.lock() {
                        done.push(user);
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut users =
        done.into_inner().unwrap_or_default().into_iter().collect::<Result<Vec<_>, _>>()?;
    // Threads finish in any order; the file has the order of the input's names all the same.
    users.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(users)
}

#[derive(Serialize)]
struct UserLine {
    name: String,
    schemes: Vec<&'static str>,
    quota_bytes: Option<u64>,
    quota_messages: Option<u64>,
    partition: Option<String>,
    detail: Option<bool>,
    disabled: bool,
}

fn list(file: &Path, out: &Output) -> Result<(), Failed> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            return Err(Failed::new(Kind::Unreachable, format!("{}: {e}", file.display())));
        }
    };
    let users = Users::parse(bytes);
    for problem in users.check().problems {
        eprintln!("cursus: {}: {problem}", file.display());
    }
    let mut lines: Vec<_> = users
        .iter()
        .map(|record| UserLine {
            name: record.account.name.as_str().to_owned(),
            schemes: record.credentials.0.iter().map(|c| c.scheme()).collect(),
            quota_bytes: record.account.attributes.quota_bytes,
            quota_messages: record.account.attributes.quota_messages,
            partition: record.account.attributes.partition.clone(),
            detail: record.account.attributes.detail,
            disabled: record.account.attributes.disabled,
        })
        .collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    out.table(&lines, || Table {
        headings: &["user", "credentials", "settings"],
        rows: lines
            .iter()
            .map(|l| vec![l.name.clone(), l.schemes.join(" "), settings(l)])
            .collect(),
    });
    Ok(())
}

fn settings(line: &UserLine) -> String {
    let mut settings = Vec::new();
    settings.extend(line.quota_bytes.map(|n| format!("quota_bytes={n}")));
    settings.extend(line.quota_messages.map(|n| format!("quota_messages={n}")));
    settings.extend(line.partition.as_ref().map(|p| format!("partition={p}")));
    settings.extend(line.detail.map(|d| format!("detail={}", if d { "yes" } else { "no" })));
    settings.extend(line.disabled.then(|| "disabled=yes".to_owned()));
    settings.join(",")
}

/// One line of standard input, asked for twice and without echo on a terminal.
fn read_password(prompt: &str) -> Result<String, Failed> {
    if !std::io::stdin().is_terminal() {
        return read_line();
    }
    let first = read_silently(prompt)?;
    if read_silently("Once more: ")? != first {
        return Err(Failed::new(Kind::Data, "the two passwords differ"));
    }
    Ok(first)
}

fn read_silently(prompt: &str) -> Result<String, Failed> {
    let terminal = std::io::stdin();
    let failed = |e: rustix::io::Errno| Failed::new(Kind::Incomplete, format!("terminal: {e}"));
    let before = tcgetattr(&terminal).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(failed)?;
    eprint!("{prompt}");
    let line = read_line();
    eprintln!();
    tcsetattr(&terminal, OptionalActions::Flush, &before).map_err(failed)?;
    line
}

fn read_line() -> Result<String, Failed> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|e| Failed::new(Kind::Data, format!("standard input: {e}")))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Failed::new(Kind::Data, "expected a password on standard input"));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_bulk_line_is_named_by_its_number() {
        assert_eq!(parse_bulk("a\tx y\n\nb\tz\n").unwrap().len(), 2);
        assert_eq!(parse_bulk("a\tx y").unwrap()[0].1, "x y");
        assert_eq!(parse_bulk("a:x:\ty").unwrap()[0].1, "x:\ty");
        let error = parse_bulk("a\tx\nb z\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2: expected"), "{error}");
        assert!(parse_bulk("../a\tx\n").unwrap_err().to_string().starts_with("line 1:"));
    }
}
