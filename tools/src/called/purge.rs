//! Cyrus's `ipurge`: old or large messages removed for good, in mailboxes whose names match.
//!
//! Invariants: without `-f` nothing of a user's goes; a message whose date is not known has that of its
//! arrival; what is not a number removes nothing.

use std::fmt::Write as _;

use admin::wire::{MESSAGE_LINES_MAX, MailboxLine, MessageLine};
use admin::{Reply, Request};
use foreign::cyrus::name::{Name, Owner};
use protocol::imap::pattern::Pattern;
use time::OffsetDateTime;

use super::cyrus::say;
use super::mailboxes::Names;
use super::options::Given;
use super::{Site, Stop};
use crate::failure::{Failed, Kind};
use crate::place::Place;
use crate::store::unexpected;

const DAY: i64 = 86_400;

/// Which messages go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// Older than so many days.
    days: Option<i64>,
    /// Larger than so many octets.
    size: Option<u64>,
    /// Just so old, or so large.
    exact: bool,
    /// The others.
    invert: bool,
    /// None that are flagged.
    skip_flagged: bool,
    /// Only those that are marked as deleted.
    only_deleted: bool,
    /// By arrival rather than the Date header.
    by_arrival: bool,
}

impl Wanted {
    fn of(given: &Given) -> Result<Wanted, Stop> {
        let number = |letter: char| -> Result<Option<u64>, Stop> {
            let Some(text) = given.value(letter) else { return Ok(None) };
            let number = text.parse::<u32>().map(u64::from).map(Some);
            number.map_err(|_| Stop::Usage(format!("-{letter}: expected a number, found {text:?}")))
        };
        let units = |letter, unit: u64| Ok::<_, Stop>(number(letter)?.map(|n| n * unit));
        let size = units('b', 1)?.or(units('k', 1 << 10)?).or(units('m', 1 << 20)?);
        let days = number('d')?.map(|days| days as i64);
        if days.is_none() && size.is_none() {
            return Err(Stop::Usage("expected -d, -b, -k or -m".to_owned()));
        }
        Ok(Wanted {
            days,
            size,
            exact: given.has('x'),
            invert: given.has('i'),
            skip_flagged: given.has('s'),
            only_deleted: given.has('o'),
            by_arrival: given.has('X'),
        })
    }

    /// Whether a message goes; `now` in seconds since 1970.
    fn takes(&self, message: &MessageLine, now: i64) -> bool {
        let has = |flag: &str| message.flags.iter().any(|one| one.eq_ignore_ascii_case(flag));
        if (self.skip_flagged && has("\\Flagged")) || (self.only_deleted && !has("\\Deleted")) {
            return false;
        }
        let age = now - self.date(message);
        match (self.exact, self.days, self.size) {
            // As Cyrus: with both, the age alone is compared.
            (true, Some(days), _) => (age / DAY == days) != self.invert,
            (true, None, Some(size)) => (message.size == size) != self.invert,
            (true, None, None) => false,
            (false, days, size) => {
                let by_age = days.is_some_and(|days| match self.invert {
                    false => age > days * DAY,
                    true => age < days * DAY,
                });
                let by_size = size.is_some_and(|size| match self.invert {
                    false => message.size > size,
                    true => message.size < size,
                });
                by_age || by_size
            }
        }
    }

    fn date(&self, message: &MessageLine) -> i64 {
        let known = message.sent_date.filter(|_| !self.by_arrival);
        known.unwrap_or(message.internal_date)
    }
}

pub(super) fn ipurge(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:hxd:b:k:m:fsMXionv", &[])?;
    let wanted = Wanted::of(&given)?;
    let site = Site::find(given.value('C'))?;
    let names = Names::of(&site);
    let mut place = Place::find(&site.config)?;
    let done = all(&given, &wanted, &names, &mut place);
    place.close()?;
    done
}

fn all(given: &Given, wanted: &Wanted, names: &Names<'_>, place: &mut Place) -> Result<(), Stop> {
    let lines = match place.ask(Request::Mailboxes { user: None })? {
        Reply::Mailboxes(lines) => lines,
        other => return Err(unexpected(&other).into()),
    };
    let separator = names.separator();
    let patterns: Vec<_> =
        given.operands.iter().map(|one| Pattern::new("", one, separator)).collect();
    let is_named = |name: &Name| {
        let external = names.external(name);
        let named = match given.has('M') {
            true => given.operands.contains(&external),
            false => patterns.iter().any(|one| one.matches(&external, external.len())),
        };
        given.operands.is_empty() || named
    };
    let is_forced = |name: &Name| given.has('f') || name.owner("DELETED") == Owner::Shared;
    let mut chosen: Vec<(Name, MailboxLine)> = lines
        .into_iter()
        .filter_map(|line| Some((names.name(&line.user, &line.name)?, line)))
        .filter(|(name, _)| is_forced(name) && is_named(name))
        .collect();
    chosen.sort_by_key(|(name, _)| name.to_database());
    let mut done = Ok(());
    for (name, line) in &chosen {
        if given.has('v') {
            say(&format!("Working on {name}...\n"));
        }
        match one(place, line, wanted, given.has('n')) {
            Ok(text) => say(&text),
            // Mailboxes of somebody without an account are left, and the others are not.
            Err(failed) if failed.kind() == Kind::NoUser => {
                eprintln!("ipurge: {name}: {failed}");
                done = Err(Stop::Status(1));
            }
            Err(failed) => return Err(failed.into()),
        }
    }
    done
}

/// Removes messages of a mailbox, or lists them; gives what Cyrus prints of it.
fn one(
    place: &mut Place,
    mailbox: &MailboxLine,
    wanted: &Wanted,
    dry: bool,
) -> Result<String, Failed> {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let (mut above, mut text) = (0, String::new());
    let (mut total, mut gone) = ((0u64, 0u64), (0u64, 0u64));
    loop {
        let reply = place.ask(Request::Messages {
            user: mailbox.user.clone(),
            mailbox: mailbox.name.clone(),
            above,
            limit: MESSAGE_LINES_MAX,
            message_ids: false,
        })?;
        let Reply::Messages { uid_validity, messages, more, .. } = reply else {
            return Err(unexpected(&reply));
        };
        let mut uids = Vec::new();
        for message in &messages {
            total = (total.0 + 1, total.1 + message.size);
            if wanted.takes(message, now) {
                gone = (gone.0 + 1, gone.1 + message.size);
                uids.push(message.uid);
                if dry {
                    record(&mut text, message);
                }
            }
        }
        if !dry && !uids.is_empty() {
            place.ask(Request::Expunge {
                user: mailbox.user.clone(),
                mailbox: mailbox.name.clone(),
                uid_validity,
                uids,
            })?;
        }
        match messages.last() {
            Some(last) if more => above = last.uid,
            _ => break,
        }
    }
    for (what, number) in [
        ("Total messages    ", total.0),
        ("Total bytes       ", total.1),
        ("Deleted messages  ", gone.0),
        ("Deleted bytes     ", gone.1),
        ("Remaining messages", total.0 - gone.0),
        ("Remaining bytes   ", total.1 - gone.1),
    ] {
        // A string takes everything.
        let _ = writeln!(text, "{what}\t\t {number}");
    }
    Ok(text)
}

fn record(text: &mut String, message: &MessageLine) {
    let day = |seconds: i64| match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => {
            format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second())
        }
        Err(_) => seconds.to_string(),
    };
    let sent = message.sent_date.unwrap_or(message.internal_date);
    let _ = write!(
        text,
        "UID: {}\n\tSize: {}\n\tSent: {}\n\tRecv: {}\n\n",
        message.uid,
        message.size,
        day(sent),
        day(message.internal_date)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_as_with_cyrus() {
        let now = 1_000 * DAY;
        let message = |days: i64, size: u64, flags: &[&str]| MessageLine {
            uid: 1,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            internal_date: now - DAY,
            sent_date: Some(now - days * DAY),
            size,
            content_id: String::new(),
            message_id: None,
        };
        let wanted = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Wanted::of(&Given::read(&arguments, "xd:b:k:m:sXio", &[]).unwrap())
        };
        for (line, days, size, flags, goes) in [
            ("-d 30", 31, 5, &[][..], true),
            ("-d 30", 30, 5, &[], false),
            ("-d 30 -i", 29, 5, &[], true),
            ("-d 30 -X", 31, 5, &[], false),
            ("-d 30 -x", 30, 5, &[], true),
            ("-d 30 -xi", 30, 5, &[], false),
            ("-d 30 -s", 31, 5, &["\\Flagged"], false),
            ("-d 30 -o", 31, 5, &[], false),
            ("-d 30 -o", 31, 5, &["\\Deleted"], true),
            ("-k 1", 1, 1025, &[], true),
            ("-k 1", 1, 1024, &[], false),
            ("-m 1 -d 3", 4, 1, &[], true),
            ("-b 7 -x", 1, 7, &[], true),
        ] {
            let took = wanted(line).unwrap().takes(&message(days, size, flags), now);
            assert_eq!(took, goes, "{line}, {days} days, {size}, {flags:?}");
        }
        let unknown = MessageLine { sent_date: None, ..message(0, 1, &[]) };
        assert!(!wanted("-d 30").unwrap().takes(&unknown, now), "arrived a day ago");
        for line in ["-d x", "-d -1", "-b 99999999999", "-x"] {
            assert!(matches!(wanted(line), Err(Stop::Usage(_))), "{line}");
        }
    }
}
