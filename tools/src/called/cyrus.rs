//! What Cyrus's programs do here, with their options.

use std::collections::BTreeSet;
use std::io::Write;

use admin::{Reply, Request};

use super::mailboxes::{self, Names};
use super::options::Given;
use super::{Site, Stop};
use crate::cli::{ExpireCyrus, ExpireOf, IndexArgs, IndexCommand};
use crate::deliver::{self, DeliverArgs};
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::place::{self, Place};
use crate::store::unexpected;
use crate::takeover::cyrus::{dump, expire};

/// How long one request of `reconstruct` may take.
const SLICE_SECONDS: u64 = 1;
const SECONDS_OF_A_DAY: f64 = 86_400.0;

/// Does what the program of this name does.
pub(super) fn run(name: &str, arguments: &[String]) -> Result<(), Stop> {
    match name {
        "chk_cyrus" => chk_cyrus(arguments),
        "ctl_cyrusdb" => ctl_cyrusdb(arguments),
        "ctl_mboxlist" => ctl_mboxlist(arguments),
        "cvt_cyrusdb" => super::databases::convert(arguments),
        "cyr_dbtool" => super::databases::dbtool(arguments),
        "cyr_deny" => super::deny::cyr_deny(arguments),
        "cyr_buildinfo" => super::info::buildinfo(arguments),
        "cyr_info" => super::info::info(arguments),
        "cyr_df" => super::listing::df(arguments),
        "cyr_ls" => super::listing::ls(arguments),
        "cyr_pwd" => super::listing::pwd(arguments),
        "cyr_expire" => cyr_expire(arguments),
        "cyrdeliver" | "deliver" => deliver(arguments),
        "cyrus" => cyrus(),
        "ipurge" => super::purge::ipurge(arguments),
        "mbexamine" => super::examine::examine(arguments),
        "mbpath" => mailboxes::mbpath(arguments),
        "quota" => mailboxes::quota(arguments),
        "reconstruct" => reconstruct(arguments),
        "squatter" => squatter(arguments),
        "unexpunge" => super::unexpunge::unexpunge(arguments),
        _ => Err(Stop::Refused("there is no such program".to_owned())),
    }
}

/// To standard output; a closed pipe means that nobody wants the rest.
pub(super) fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn cyrus() -> Result<(), Stop> {
    let names: Vec<&str> = super::table::honoured().collect();
    let text = format!("expected a command: {}", names.join(", "));
    Err(Stop::Usage(text))
}

/// `-X` and `-D`: as `cursus expire cyrus`. The rest concerns what is not kept here.
fn cyr_expire(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:D:E:X:A:p:u:vaxtch", &[])?;
    let nothing = !"ADEXt".chars().any(|letter| given.has(letter));
    if nothing || given.has('h') {
        return Err(Stop::Usage("expected -X, -D, -E, -A or -t".to_owned()));
    }
    if given.has('u') && given.has('p') {
        return Err(Stop::Usage("expected one of -u and -p".to_owned()));
    }
    let expunged = given.value('X').map(days).transpose()?.filter(|_| !given.has('x'));
    let deleted = given.value('D').map(days).transpose()?;
    given.value('E').map(days).transpose()?;
    let archived = given.value('A').map(days).transpose()?;
    let site = Site::find(given.value('C'))?;
    if archived.is_some() && archives(&site)? {
        let why = "messages are not moved to slower disks by age, and archive_enabled asks for it";
        return Err(Stop::Refused(format!("-A: {why}")));
    }
    let kept = dump::has_list(&site.imapd_conf)?;
    if !kept || (expunged.is_none() && deleted.is_none()) {
        return Ok(());
    }
    let of = match (given.value('u'), given.value('p')) {
        (Some(user), _) => ExpireOf::User(user.to_owned()),
        (_, Some(prefix)) => ExpireOf::Prefix(Names::of(&site).read(prefix, true).to_internal()),
        _ => ExpireOf::All,
    };
    let args = ExpireCyrus { expunged, deleted, dry_run: false, of };
    match given.has('v') {
        true => Ok(expire::expire(&args, &site.imapd_conf, &site.config, &Output::new(false))?),
        false => Ok(expire::expire(&args, &site.imapd_conf, &site.config, &Output::silent())?),
    }
}

/// Whether imapd.conf has messages moved to archive partitions.
fn archives(site: &Site) -> Result<bool, Failed> {
    let Some(conf) = site.imapd_conf()? else { return Ok(false) };
    let named = |e| Failed::new(Kind::Config, format!("{}: {e}", site.imapd_conf.display()));
    conf.switch("archive_enabled", false).map_err(named)
}

/// A number of days, or of d, h, m, s, in whole days: rather one more than removed too early.
fn days(text: &str) -> Result<u64, Stop> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'd')) => (&text[..at], SECONDS_OF_A_DAY),
        Some((at, 'h')) => (&text[..at], 3600.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 's')) => (&text[..at], 1.0),
        _ => (text, SECONDS_OF_A_DAY),
    };
    let number: Option<f64> = number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
    let number = number.ok_or_else(|| Stop::Usage(format!("expected a time, found {text:?}")))?;
    Ok((number * unit / SECONDS_OF_A_DAY).ceil() as u64)
}

/// `-r`: a start recovers by itself. `-c`: a checkpoint, where a server runs.
fn ctl_cyrusdb(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:rxc", &[])?;
    match (given.has('r'), given.has('c')) {
        (true, false) => Ok(()),
        (false, true) => {
            let site = Site::find(given.value('C'))?;
            match place::connect(&site.config)? {
                Some(mut client) => {
                    client.ask(Request::Checkpoint).map_err(Failed::from)?;
                    Ok(())
                }
                // A clean stop has made one.
                None => Ok(()),
            }
        }
        _ => Err(Stop::Usage("expected -r or -c".to_owned())),
    }
}

/// `-d`: the list as Cyrus's own prints it, for its `ctl_mboxlist -u`. `-v`: compares list and files.
fn ctl_mboxlist(arguments: &[String]) -> Result<(), Stop> {
    let refused = [
        ("L", "lists of old releases are read by their own"),
        ("mawi", "clusters (murder) are not served"),
        ("x", "mailboxes are not removed from the list without their messages"),
        ("f", "there is no database to be named"),
    ];
    let given = Given::read(arguments, "C:Lawmdurcxf:p:viy", &refused)?;
    let site = || Site::find(given.value('C'));
    if given.has('u') {
        if given.has('d') || given.has('v') {
            return Err(Stop::Usage("expected one of -d, -u and -v".to_owned()));
        }
        return super::undump::undump(&site()?);
    }
    match (given.has('d'), given.has('v')) {
        (true, false) => {
            let site = site()?;
            let mut place = Place::find(&site.config)?;
            let text = dump::mailboxes(
                &site.imapd_conf,
                &site.config,
                &mut place,
                (given.value('p'), given.has('y')),
            );
            place.close()?;
            say(&text?);
            Ok(())
        }
        (false, true) => check(&site()?),
        _ => Err(Stop::Usage("expected one of -d, -u and -v".to_owned())),
    }
}

fn check(site: &Site) -> Result<(), Stop> {
    let mut place = Place::find(&site.config)?;
    let asked = place.ask(Request::Check { user: None });
    place.close()?;
    match asked? {
        Reply::Checked { findings, .. } => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            if findings.is_empty() { Ok(()) } else { Err(Stop::Status(1)) }
        }
        other => Err(unexpected(&other).into()),
    }
}

/// Compares indexes with files, and says what is wrong.
fn chk_cyrus(arguments: &[String]) -> Result<(), Stop> {
    let why = "`cursus check USER` looks at one user's mailboxes";
    let given = Given::read(arguments, "C:P:M:", &[("PM", why)])?;
    check(&Site::find(given.value('C'))?)
}

/// Reads the messages of mailboxes, and mends index, facts, names and cache, but with `-n`.
fn reconstruct(arguments: &[String]) -> Result<(), Stop> {
    let refused = [
        ("f", "mailboxes come from the list; bring others in by `cursus import`"),
        ("m", "there is no list to be made anew"),
        ("p", "mailboxes are moved by RENAME of an administrator"),
        ("xUIdP", "there is nothing of this kind here"),
    ];
    let given = Given::read(arguments, "C:kp:rmfsxdgGqRUMIoOnV:uP7", &refused)?;
    let site = Site::find(given.value('C'))?;
    let names = Names::of(&site);
    let mut place = Place::find(&site.config)?;
    let lines = match place.ask(Request::Mailboxes { user: None })? {
        Reply::Mailboxes(lines) => lines,
        other => return Err(unexpected(&other).into()),
    };
    let wanted: Vec<_> = given.operands.iter().map(|text| names.operand(&given, text)).collect();
    let below = given.has('r') || given.has('u');
    let mut chosen = BTreeSet::new();
    for line in &lines {
        let Some(name) = names.name(&line.user, &line.name) else { continue };
        let is_named = |one| &name == one || (below && name.is_within(one));
        if wanted.is_empty() || wanted.iter().any(is_named) {
            chosen.insert((name.to_internal(), names.external(&name), &line.user, &line.name));
        }
    }
    for (text, one) in given.operands.iter().zip(&wanted) {
        let internal = one.to_internal();
        if !chosen.iter().any(|(name, ..)| name.starts_with(&internal)) {
            eprintln!("{text}: Mailbox does not exist");
        }
    }
    let mut damaged = 0;
    for (_, external, user, mailbox) in chosen {
        damaged += scrub(&mut place, (user, mailbox), !given.has('n'))?;
        if !given.has('q') {
            say(&format!("{external}\n"));
        }
    }
    place.close()?;
    if damaged == 0 { Ok(()) } else { Err(Stop::Status(1)) }
}

/// Reads one mailbox; gives how many damages are left.
fn scrub(place: &mut Place, (user, mailbox): (&str, &str), repair: bool) -> Result<usize, Failed> {
    let (mut resume, mut left) = (false, 0);
    loop {
        let reply = place.ask(Request::Scrub {
            user: Some(user.to_owned()),
            mailbox: Some(mailbox.to_owned()),
            rate_bytes: None,
            resume,
            repair,
            seconds: SLICE_SECONDS,
        })?;
        let Reply::Scrubbed { damaged, mended, done, .. } = reply else {
            return Err(unexpected(&reply));
        };
        mended.iter().for_each(|line| eprintln!("mended: {line}"));
        damaged.iter().for_each(|line| eprintln!("damaged: {line}"));
        left += damaged.len();
        resume = true;
        if done {
            return Ok(left);
        }
    }
}

/// Brings full-text indexes up to date; where the server does so itself, nothing is left to do.
fn squatter(arguments: &[String]) -> Result<(), Stop> {
    let refused = [
        ("ABDFLNPTUXZefhlmoptz", "indexes are files of Cursus: `cursus index` looks after them"),
        ("d", "`cursus index status` shows what there is"),
    ];
    let letters = "ABC:DFL:N:PRS:T:UXZade:f:hilmn:oprs:t:uvz:";
    let given = Given::read(arguments, letters, &refused)?;
    if given.has('R') {
        // What came in is indexed by the server as it comes.
        return Ok(());
    }
    let site = Site::find(given.value('C'))?;
    let names = Names::of(&site);
    let update = |user: Option<String>, mailbox: Option<String>| {
        let command = IndexCommand::Update(IndexArgs { user, mailbox });
        crate::index::run(&command, &site.config, &Output::silent())
    };
    if given.operands.is_empty() {
        return Ok(update(None, None)?);
    }
    for text in &given.operands {
        let name = names.operand(&given, text);
        let found = names.place(&name);
        let (user, mailbox) =
            found.ok_or_else(|| Failed::new(Kind::Data, format!("{text}: no such mailbox")))?;
        // With those below.
        let all = given.has('u') || (given.has('r') && mailbox == engine::INBOX);
        update(Some(user), Some(mailbox).filter(|_| !all))?;
    }
    Ok(())
}

/// As `cursus deliver`.
fn deliver(arguments: &[String]) -> Result<(), Stop> {
    let flags = "messages come without flags";
    let given = Given::read(arguments, "C:df:r:m:a:F:eE:lqD", &[("F", flags)]);
    // No mistake on a command line may make mail bounce.
    let later = |stop| match stop {
        Stop::Usage(text) | Stop::Refused(text) => {
            eprintln!("deliver: {text}");
            Stop::Status(deliver::STATUS_USAGE)
        }
        other => other,
    };
    let given = given.map_err(later)?;
    if given.has('e') || given.has('E') {
        // No list of duplicates is kept.
        return Ok(());
    }
    let text = |letter| given.value(letter).map(str::to_owned);
    let args = DeliverArgs {
        users: given.operands.clone(),
        user: Vec::new(),
        mailbox: text('m'),
        sender: text('f').or_else(|| text('r')),
        auth: text('a'),
        ignore_quota: given.has('q'),
        lmtp: given.has('l'),
        warn_percent: None,
        warning: None,
        qmail: false,
        socket: None,
    };
    match deliver::status(&args, || Ok(Site::find(given.value('C'))?.config)) {
        0 => Ok(()),
        status => Err(Stop::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_days_and_never_less() {
        for (text, wanted) in [("28", 28), ("3d", 3), ("0", 0), ("36h", 2), ("1s", 1), ("0.5", 1)] {
            assert_eq!(days(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "d", "-1", "1w", "nan", "inf"] {
            assert!(matches!(days(text), Err(Stop::Usage(_))), "{text}");
        }
    }

    #[test]
    fn what_would_remove_or_change_otherwise_is_refused() {
        let run = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let name = words.next().unwrap();
            run(&name, &words.collect::<Vec<_>>())
        };
        for line in [
            "ctl_mboxlist -uL",
            "ctl_mboxlist -mw",
            "ctl_mboxlist -dx",
            "reconstruct -f user/alice",
            "chk_cyrus -P default",
            "squatter -t x",
            "mbpath -S user/alice",
        ] {
            assert!(matches!(run(line), Err(Stop::Refused(_))), "{line}");
        }
        for line in [
            "cyr_expire",
            "cyr_expire -X 1 -u a -p b",
            "ctl_mboxlist -du",
            "ipurge -f",
            "ctl_cyrusdb",
            "ctl_mboxlist -dv",
            "quota -k",
            "cyrus",
        ] {
            assert!(matches!(run(line), Err(Stop::Usage(_))), "{line}");
        }
        // Of a delivery, none of these is for ever.
        for line in ["deliver -F x jo", "deliver -k jo"] {
            assert!(matches!(run(line), Err(Stop::Status(75))), "{line}");
        }
        for line in ["ctl_cyrusdb -r", "deliver -E 3", "squatter -R"] {
            assert!(run(line).is_ok(), "{line}");
        }
    }
}
