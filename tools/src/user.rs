//! `cursus user`: works on the users file, and tells a running server.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use admin::Request;
use auth::UserName;
use auth::credential::{Credentials, SecretKind};
use auth::users::{NewUser, Users, edit};
use config::{AuthBackend, Config};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cli::{UserAdd, UserCommand};
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::{place, user_deny, user_elsewhere as elsewhere, user_list};

/// Does `cursus user …`.
pub fn run(command: &UserCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    let file = config.users_file();
    if matches!(command, UserCommand::Add(_) | UserCommand::Remove { .. }) {
        wants_own_file(config)?;
    }
    match command {
        UserCommand::Add(args) if args.bulk => add_bulk(args, config, out)?,
        UserCommand::Add(args) => add(args, config, out)?,
        UserCommand::Passwd { name, secrets } => {
            let name = UserName::new(name)?;
            if !is_ours(config, &name) {
                return elsewhere::passwd(config, &name, out);
            }
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
        UserCommand::Deny { name, services, message } => {
            let (services, message) = (services.as_deref(), message.as_deref());
            return user_deny::deny(&UserName::new(name)?, services, message, config, out);
        }
        UserCommand::Allow { name } => return user_deny::allow(&UserName::new(name)?, config, out),
        UserCommand::Denied => return user_deny::denied(config, out),
        UserCommand::List => return user_list::list(config, out),
        UserCommand::Check => return user_list::check(config, out),
        UserCommand::Remove { name } => {
            let name = UserName::new(name)?;
            edit(&file, |document| document.remove(&name))?;
            out.line(&serde_json::json!({ "removed": name.as_str() }), &format!("removed {name}"));
        }
    }
    tell_server(config)
}

/// Users are added to and removed from our own file only.
fn wants_own_file(config: &Config) -> Result<(), Failed> {
    match config.auth.backends.contains(&AuthBackend::Users) {
        true => Ok(()),
        false => Err(Failed::new(
            Kind::Config,
            "auth.backends has no \"users\": other servers' tools change what is in the others",
        )),
    }
}

/// Whether a new password goes into our own file.
fn is_ours(config: &Config, name: &UserName) -> bool {
    let only = config.auth.backends == [AuthBackend::Users];
    let users = || Users::parse(std::fs::read(config.users_file()).unwrap_or_default());
    let has_file = config.auth.backends.contains(&AuthBackend::Users);
    only || (has_file && users().find(name).is_some())
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
    // Before anybody is asked for a password in vain.
    NewUser::with_hash(name.clone(), "", &args.attributes)?;
    secret_kinds(&args.secrets)?;
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

/// One line of standard input, asked for twice and without echo on a terminal.
pub(crate) fn read_password(prompt: &str) -> Result<String, Failed> {
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

pub(crate) fn read_line() -> Result<String, Failed> {
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
