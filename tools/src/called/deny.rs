//! `cyr_deny`: users who may not log in.

use auth::deny::{ALL_SERVICES, Denial, MESSAGE};

use super::cyrus::say;
use super::options::Given;
use super::{Site, Stop};
use crate::user_deny;

const USAGE: &str =
    "expected [-s SERVICES] [-m MESSAGE] USER, -a USER to allow it again, or -l for the list";

pub(super) fn cyr_deny(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:alm:s:", &[])?;
    let changes = given.value('s').is_some() || given.value('m').is_some();
    let site = || Site::find(given.value('C'));
    match (given.has('l'), given.has('a'), given.operands.as_slice()) {
        (true, false, []) if !changes => list(&site()?),
        (false, true, [user]) if !changes => {
            user_deny::set(&site()?.config, user, None)?;
            Ok(())
        }
        (false, false, [user]) => {
            let or = |letter, other: &str| given.value(letter).unwrap_or(other).to_owned();
            let denial = Denial { services: or('s', ALL_SERVICES), message: or('m', MESSAGE) };
            user_deny::set(&site()?.config, user, Some(denial))?;
            Ok(())
        }
        _ => Err(Stop::Usage(USAGE.to_owned())),
    }
}

fn list(site: &Site) -> Result<(), Stop> {
    let line = |user: &str, services: &str, message: &str| {
        say(&format!("{user:<30} {services:<20} {message}\n"));
    };
    line("Username", "Service(s)", "Message");
    for (user, denial) in user_deny::entries(&site.config)? {
        let denial = denial.map_err(|damage| user_deny::bad_entry(&user, &damage))?;
        line(&user, &denial.services, &denial.message);
    }
    Ok(())
}
