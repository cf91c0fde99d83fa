//! `cursus user deny`, `allow` and `denied`: the deny list, which a running server looks at by itself.

use auth::UserName;
use auth::deny::{self, ALL_SERVICES, Denial, MESSAGE};
use config::Config;
use foreign::cyrus::Damage;
use serde_json::json;

use crate::failure::{Failed, Kind};
use crate::output::Output;

/// Denies a user services.
pub fn deny(
    name: &UserName,
    services: Option<&str>,
    message: Option<&str>,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    let services = services.unwrap_or(ALL_SERVICES).to_owned();
    let message = message.unwrap_or(MESSAGE).to_owned();
    let line = format!("denied {services} to {name}");
    set(config, name.as_str(), Some(Denial { services, message }))?;
    out.line(&json!({ "denied": name.as_str() }), &line);
    Ok(())
}

/// Takes back what is denied to a user.
pub fn allow(name: &UserName, config: &Config, out: &Output) -> Result<(), Failed> {
    let text = match set(config, name.as_str(), None)? {
        true => format!("allowed {name}"),
        false => format!("nothing was denied to {name}"),
    };
    out.line(&json!({ "allowed": name.as_str() }), &text);
    Ok(())
}

/// Lists who is denied what.
pub fn denied(config: &Config, out: &Output) -> Result<(), Failed> {
    for (user, denial) in entries(config)? {
        match denial {
            Ok(Denial { services, message }) => {
                let object = json!({ "user": user, "services": services, "message": message });
                out.line(&object, &format!("{user}\t{services}\t{message}"));
            }
            Err(damage) => return Err(bad_entry(&user, &damage)),
        }
    }
    Ok(())
}

/// What is wrong with a user's entry.
pub fn bad_entry(user: &str, damage: &Damage) -> Failed {
    Failed::new(Kind::Data, format!("{user}: {damage}"))
}

/// The whole list.
pub fn entries(config: &Config) -> Result<deny::Entries, Failed> {
    deny::read(&config.deny_file()).map_err(failed)
}

/// Writes what is denied to a user; whether that changed anything.
pub fn set(config: &Config, user: &str, denial: Option<Denial>) -> Result<bool, Failed> {
    deny::set(&config.deny_file(), user, denial).map_err(failed)
}

fn failed(error: deny::DenyError) -> Failed {
    let kind = match &error {
        deny::DenyError::Damage { .. } => Kind::Data,
        deny::DenyError::Io { .. } => Kind::Incomplete,
    };
    Failed::new(kind, error.to_string())
}
