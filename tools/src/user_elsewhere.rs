//! `cursus user passwd` for users of another back end: those of authdaemond, which can be asked.

use admin::accounts;
use auth::UserName;
use auth::backends::Authdaemon;
use auth::directory::Unavailable;
use config::{AuthBackend, Config};

use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::user::{read_line, read_password};

fn unavailable(error: Unavailable) -> Failed {
    Failed::new(Kind::Temporary, error.to_string())
}

/// Gives a user another password who is not in our own file.
///
/// # Errors
/// No back end knows the user, or the one that does can't be told.
pub fn passwd(config: &Config, name: &UserName, out: &Output) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failed::new(Kind::Incomplete, e.to_string()))?;
    let chain =
        accounts::open(config).map_err(|e| Failed::new(Kind::Unreachable, e.to_string()))?;
    for backend in chain.backends() {
        let found = runtime.block_on(backend.lookup(name)).map_err(unavailable)?;
        if found.is_none() {
            continue;
        }
        if backend.kind() != AuthBackend::Authdaemon.as_str() {
            let message = format!("{name} is in {}: that server's tools change it", backend.kind());
            return Err(Failed::new(Kind::Data, message));
        }
        // On a terminal the second question has its own prompt.
        eprintln!("authdaemond wants the old password in the first line, then the new one.");
        let old = read_line()?;
        let new = read_password(&format!("New password for {name}: "))?;
        let daemon = Authdaemon::new(&config.auth.authdaemon.socket);
        let set = runtime.block_on(daemon.set_password(name, &old, &new)).map_err(unavailable)?;
        if !set {
            let message = "authdaemond refused: the old password is wrong, or it can't change it";
            return Err(Failed::new(Kind::Data, message));
        }
        out.line(&serde_json::json!({ "changed": name.as_str() }), &format!("changed {name}"));
        return Ok(());
    }
    Err(Failed::new(Kind::NoUser, format!("no user named {name}")))
}
