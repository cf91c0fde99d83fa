//! `cursus user`: works on the users file, and tells a running server.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use admin::Request;
use auth::UserName;
use auth::credential::{Credentials, SecretKind};
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
        UserCommand::Add(args) if args.bulk => add_bulk(args, config, out)?,
        UserCommand::Add(args) => add(args, config, out)?,
        UserCommand::Passwd { name, secrets } => {
            let name = UserName::new(name)?;
            let password = read_password(&format!("New password for {name}: "))?;
            let kinds = match secrets {
                Some(list) => secret_kinds(list)?,
                None => kinds_of(&file, &name),
            };
            let credentials = Credentials::with_secrets(&name, &realm(config), &password, &kinds)
                .map_err(auth::users::EditError::from)?;
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

/// Reads a list as the option has it; an empty one asks for none.
fn secret_kinds(list: &str) -> Result<Vec<SecretKind>, Failed> {
    let kinds = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let read = |word: &str| {
        word.parse().map_err(|e| Failed::new(Kind::Data, format!("--secrets: {word:?}: {e}")))
    };
    kinds.map(read).collect()
}

/// What the user has now: a new password brings new secrets of the same kinds.
fn kinds_of(file: &Path, name: &UserName) -> Vec<SecretKind> {
    let users = Users::parse(std::fs::read(file).unwrap_or_default());
    users.find(name).and_then(Result::ok).map_or(Vec::new(), |r| r.credentials.secret_kinds())
}

/// The realm of DIGEST-MD5, as the server takes it.
fn realm(config: &Config) -> String {
    let named = [&config.auth.realm, &config.server.hostname];
    let named = named.into_iter().find(|n| !n.is_empty()).cloned();
    named.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// A running server would notice by itself; this way it has noticed when we return.
fn tell_server(config: &Config) -> Result<(), Failed> {
    let Some(mut client) = place::connect(config)? else { return Ok(()) };
    client.ask(Request::ReloadUsers)?;
    Ok(())
}

fn add(args: &UserAdd, config: &Config, out: &Output) -> Result<(), Failed> {
    let file = &config.users_file();
    let name = UserName::new(args.name.as_deref().unwrap_or_default())?;
    let secret = match args.hashed {
        true => read_line()?,
        false => read_password(&format!("Password for {name}: "))?,
    };
    let user = new_user(name.clone(), &secret, args, &realm(config))?;
    make_parent(file)?;
    edit(file, |document| document.add(user))?;
    out.line(&serde_json::json!({ "added": [name.as_str()] }), &format!("added {name}"));
    Ok(())
}

fn new_user(name: UserName, secret: &str, args: &UserAdd, realm: &str) -> Result<NewUser, Failed> {
    let kinds = secret_kinds(&args.secrets)?;
    Ok(match args.hashed {
        true => NewUser::with_hash(name, secret, &args.attributes)?,
        false => NewUser::with_password(name, secret, &args.attributes, realm, &kinds)?,
    })
}

/// A users file can be written before the server has ever run.
fn make_parent(file: &Path) -> Result<(), Failed> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|e| Failed::new(Kind::Incomplete, format!("{}: {e}", parent.display())))
}

fn add_bulk(args: &UserAdd, config: &Config, out: &Output) -> Result<(), Failed> {
    let file = &config.users_file();
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Failed::new(Kind::Data, format!("standard input: {e}")))?;
    let pairs = parse_bulk(&text)?;
    let users = hash_all(&pairs, args, &realm(config), out)?;
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
    realm: &str,
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
                    let user = new_user(name.clone(), secret, args, realm)
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
    /// All of them, as the users file has them.
    settings: String,
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
            settings: record.account.attributes.to_string(),
        })
        .collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    out.table(&lines, || Table {
        headings: &["user", "credentials", "settings"],
        rows: lines
            .iter()
            .map(|l| vec![l.name.clone(), l.schemes.join(" "), l.settings.clone()])
            .collect(),
    });
    Ok(())
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
