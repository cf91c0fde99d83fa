//! Cyrus's `unexpunge`: what its delayed expunge kept before a takeover, listed and brought back.
//!
//! Beside `cursus unexpunge cyrus`, which does the same, this has Cyrus's options and lines.

use std::fmt::Write as _;

use admin::{Reply, Request};
use protocol::types::Keyword;

use super::cyrus::say;
use super::dates::ctime;
use super::mailboxes::Names;
use super::options::Given;
use super::{Site, Stop};
use crate::cli::UnexpungeCyrus;
use crate::place::Place;
use crate::takeover::cyrus::dump;
use crate::takeover::cyrus::unexpunge::{self, Kept, Summary};

/// Of Cyrus's, where it cannot open a mailbox to bring something back.
const STATUS_NO_MAILBOX: u8 = 20;
/// Of Cyrus's for a flag that is none of users: EX_SOFTWARE.
const STATUS_SYSTEM_FLAG: u8 = 70;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    List,
    All,
    /// Expunged within so many seconds.
    Within(u64),
    Uids,
}

impl Mode {
    fn of(given: &Given) -> Result<Mode, Stop> {
        let asked: Vec<char> = "latu".chars().filter(|letter| given.has(*letter)).collect();
        let [one] = asked.as_slice() else {
            return Err(Stop::Usage("expected one of -l, -a, -t and -u".to_owned()));
        };
        let mode = match one {
            'l' => Mode::List,
            'a' => Mode::All,
            'u' => Mode::Uids,
            _ => Mode::Within(seconds(given.value('t').unwrap_or_default())?),
        };
        let wanted = if mode == Mode::Uids { 2 } else { 1 };
        if given.operands.len() < wanted {
            let text = if wanted == 1 { "a mailbox" } else { "a mailbox and UIDs" };
            return Err(Stop::Usage(format!("expected {text}")));
        }
        Ok(mode)
    }
}

/// Seconds, or a number with m, h, d or w.
fn seconds(text: &str) -> Result<u64, Stop> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(604_800),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
    number.ok_or_else(|| Stop::Usage(format!("expected a time as 90m, 12h, 3d or 2w: {text:?}")))
}

fn uids(texts: &[String]) -> Result<Vec<u32>, Stop> {
    let one = |text: &String| {
        let number = text.parse().ok().filter(|uid: &u32| *uid > 0);
        number.ok_or_else(|| Stop::Usage(format!("expected a UID, found {text:?}")))
    };
    texts.iter().map(one).collect()
}

pub(super) fn unexpunge(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:laudt:f:v", &[])?;
    let mode = Mode::of(&given)?;
    let flag = given.value('f');
    if flag.is_some_and(|flag| flag.starts_with('\\')) {
        eprintln!("fatal error: can't set a system flag");
        return Err(Stop::Status(STATUS_SYSTEM_FLAG));
    }
    if let Some(flag) = flag.filter(|flag| Keyword::new(flag).is_none()) {
        return Err(Stop::Usage(format!("expected a keyword, found {flag:?}")));
    }
    // Mode::of has seen that there is one.
    let (text, behind) = given.operands.split_first().map_or(("", &[][..]), |(a, b)| (a, b));
    let uids = match mode {
        Mode::List | Mode::Uids => uids(behind)?,
        // As Cyrus's, which takes no notice of them.
        Mode::All | Mode::Within(_) => Vec::new(),
    };
    let site = Site::find(given.value('C'))?;
    let names = Names::of(&site);
    let name = names.read(text, true);
    let mut place = Place::find(&site.config)?;
    let there = match names.place(&name) {
        Some((user, mailbox)) => is_there(&mut place, &user, &mailbox)?.then_some((user, mailbox)),
        None => None,
    };
    place.close()?;
    let Some((user, mailbox)) = there else {
        if mode == Mode::List {
            // With no end of line, and no failure.
            say(&format!("Failed to open mailbox {}: Mailbox does not exist", name.to_internal()));
            return Ok(());
        }
        say(&format!("Failed to open mailbox '{}'\n", name.to_internal()));
        return Err(Stop::Status(STATUS_NO_MAILBOX));
    };
    let args = UnexpungeCyrus {
        user: Some(user),
        mailbox: Some(mailbox),
        uid: if mode == Mode::Uids { uids.clone() } else { Vec::new() },
        all: mode == Mode::All,
        within: if let Mode::Within(seconds) = mode { Some(seconds) } else { None },
        clear_deleted: given.has('d'),
        flag: flag.map(str::to_owned),
        deleted_mailboxes: false,
    };
    let external = names.external(&name);
    if mode != Mode::List {
        let all = if mode == Mode::All { "all " } else { "" };
        say(&format!("restoring {all}expunged messages in mailbox '{external}'\n"));
    }
    let done = match dump::has_list(&site.imapd_conf)? {
        true => unexpunge::find(&args, &site.imapd_conf, &site.config)?,
        false => Summary::default(),
    };
    done.findings.iter().for_each(|finding| eprintln!("unexpunge: {finding}"));
    if mode == Mode::List {
        let wanted = done.kept.iter().filter(|one| uids.is_empty() || uids.contains(&one.uid));
        say(&wanted.map(listed).collect::<String>());
    } else {
        let mut text = String::new();
        for one in done.restored.iter().filter(|_| given.has('v')) {
            // A string takes everything.
            let _ = writeln!(text, "Unexpunged {external}: {} => {}", one.before, one.uid);
        }
        say(&format!("{text}restored {} expunged messages\n", done.restored.len()));
    }
    if done.findings.is_empty() { Ok(()) } else { Err(Stop::Status(1)) }
}

fn is_there(place: &mut Place, user: &str, mailbox: &str) -> Result<bool, Stop> {
    match place.ask(Request::Mailboxes { user: None })? {
        Reply::Mailboxes(lines) => {
            Ok(lines.iter().any(|line| line.user == user && line.name == mailbox))
        }
        other => Err(crate::store::unexpected(&other).into()),
    }
}

fn listed(kept: &Kept) -> String {
    let Kept { uid, size, from, to, cc, bcc, subject, .. } = kept;
    let (sent, received) = (ctime(kept.sent), ctime(kept.received));
    let expunged = ctime(kept.expunged);
    format!(
        "UID: {uid}\n\tSize: {size}\n\tSent: {sent}\n\tRecv: {received}\n\tExpg: {expunged}\n\
         \tFrom: {from}\n\tTo  : {to}\n\tCc  : {cc}\n\tBcc : {bcc}\n\tSubj: {subject}\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mode_with_what_it_needs() {
        let mode = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Mode::of(&Given::read(&words, "C:laudt:f:v", &[]).unwrap())
        };
        for (line, wanted) in [
            ("-l user/a", Mode::List),
            ("-l user/a 4", Mode::List),
            ("-a -d user/a", Mode::All),
            ("-t 2h user/a", Mode::Within(7200)),
            ("-t90 user/a", Mode::Within(90)),
            ("-u user/a 4", Mode::Uids),
        ] {
            assert_eq!(mode(line).unwrap(), wanted, "{line}");
        }
        for line in ["user/a", "-l", "-a", "-u user/a", "-la user/a", "-t 3y user/a", "-t x user/a"]
        {
            assert!(matches!(mode(line), Err(Stop::Usage(_))), "{line}");
        }
        assert!(uids(&["0".to_owned()]).is_err() && uids(&["x".to_owned()]).is_err());
    }
}
