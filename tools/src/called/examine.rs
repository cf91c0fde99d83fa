//! Cyrus's `mbexamine`: what is known of mailboxes and their messages, as Cyrus's files would say it after a
//! hand-back.

use std::fs;
use std::io::Write;

use foreign::cyrus::cache;
use foreign::cyrus::index::{Record, SHAPES, flag, option};
use foreign::cyrus::name::Name;
use protocol::imap::pattern::Pattern;

use super::dates::ctime;
use super::mailboxes::Names;
use super::options::Given;
use super::{Site, Stop};
use crate::place::Place;
use crate::takeover::cyrus::look::{self, Look};

/// Items of a cache record by their places, as they are called here.
const ITEMS: [(usize, &str); 9] = [
    (0, "Envel"),
    (1, "BdyStr"),
    (2, "Body"),
    (4, "CacHdr"),
    (5, "From"),
    (6, "To"),
    (7, "Cc"),
    (8, "Bcc"),
    (9, "Subjct"),
];
const OPTIONS: [(u32, &str); 4] = [
    (option::POP3_NEW_UIDL, "POP3_NEW_UIDL"),
    (option::SHARED_SEEN, "IMAP_SHAREDSEEN"),
    (1 << 3, "IMAP_DUPDELIVER"),
    (1 << 4, "IMAP_HAS_ALARMS"),
];
const INTERNAL: [(u32, &str); 5] = [
    (flag::EXPUNGED, "FLAG_INTERNAL_EXPUNGED"),
    (flag::UNLINKED, "FLAG_INTERNAL_UNLINKED"),
    (flag::ARCHIVED, "FLAG_INTERNAL_ARCHIVED"),
    (1 << 28, "FLAG_INTERNAL_NEEDS_CLEANUP"),
    (1 << 26, "FLAG_INTERNAL_SNOOZED"),
];
const SYSTEM: [(u32, &str); 5] = [
    (flag::SEEN, "FLAG_SEEN"),
    (flag::DRAFT, "FLAG_DRAFT"),
    (flag::DELETED, "FLAG_DELETED"),
    (flag::FLAGGED, "FLAG_FLAGGED"),
    (flag::ANSWERED, "FLAG_ANSWERED"),
];

/// Which messages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Uid(u32),
    /// Counted from 1.
    Number(u32),
}

impl Wanted {
    fn of(given: &Given) -> Result<Wanted, Stop> {
        let number = |letter| {
            let text = given.value(letter).unwrap_or_default();
            let number = text.parse().ok().filter(|number: &u32| *number > 0);
            number.ok_or_else(|| Stop::Usage(format!("-{letter}: expected a number: {text:?}")))
        };
        match (given.has('u'), given.has('s')) {
            (true, true) => Err(Stop::Usage("expected one of -u and -s".to_owned())),
            (true, false) => Ok(Wanted::Uid(number('u')?)),
            (false, true) => Ok(Wanted::Number(number('s')?)),
            (false, false) => Ok(Wanted::All),
        }
    }

    fn takes(self, number: u32, uid: u32) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Uid(wanted) => wanted == uid,
            Wanted::Number(wanted) => wanted == number,
        }
    }
}

pub(super) fn examine(arguments: &[String]) -> Result<(), Stop> {
    let compares = "`reconstruct -n` compares messages with what is known of them";
    let given = Given::read(arguments, "C:u:s:qc", &[("c", compares)])?;
    let wanted = Wanted::of(&given)?;
    let site = Site::find(given.value('C'))?;
    let names = Names::of(&site);
    let mut place = Place::find(&site.config)?;
    let all = ["*".to_owned()];
    let operands = if given.operands.is_empty() { &all[..] } else { &given.operands };
    let mut done = Ok(());
    for operand in operands {
        let pattern = Pattern::new("", operand, names.separator());
        let is_named = |name: &Name| {
            let external = names.external(name);
            pattern.matches(&external, external.len())
        };
        let mut failed = false;
        let mut sink = |name: &Name, look: Result<Look, String>| {
            let mut text = format!("Examining {}...", names.external(name)).into_bytes();
            match look {
                Ok(look) if given.has('q') => text.extend(quota(&look)),
                Ok(look) => whole(&mut text, &look, wanted),
                Err(reason) => {
                    eprintln!("mbexamine: {name}: {reason}");
                    failed = true;
                }
            }
            // A closed pipe means that nobody wants the rest.
            let _ = std::io::stdout().write_all(&text);
        };
        look::each(&site.imapd_conf, &site.config, &mut place, &is_named, &mut sink)?;
        if failed {
            done = Err(Stop::Status(1));
        }
    }
    place.close()?;
    done
}

/// Whether files have the sizes that records tell.
fn quota(look: &Look) -> Vec<u8> {
    for record in look.index.live() {
        // As Cyrus's, which passes over those that are missing.
        let file = fs::metadata(look.data.join(format!("{}.", record.uid)));
        if file.is_ok_and(|file| file.len() != record.size) {
            let uid = record.uid;
            return format!("  Message {uid} has INCORRECT size in index record\n").into_bytes();
        }
    }
    // Nothing is kept beside the records that could differ from their sum.
    b"  Mailbox has CORRECT total quota usage\n".to_vec()
}

fn named(bits: u32, names: &[(u32, &str)]) -> String {
    let there = names.iter().filter(|(bit, _)| bits & bit != 0);
    there.map(|(_, name)| format!(" {name}")).collect()
}

fn whole(text: &mut Vec<u8>, look: &Look, wanted: Wanted) {
    text.extend(heads(look).into_bytes());
    let mut met = false;
    for (number, record) in (1..).zip(look.index.live()) {
        if wanted.takes(number, record.uid) {
            message(text, look, (number, record));
            met = true;
        }
    }
    if !met && wanted != Wanted::All {
        text.extend(b"Desired message not found\n");
    }
}

fn heads(look: &Look) -> String {
    let header = &look.index.header;
    let acl: String = look.acl.iter().map(|(who, rights)| format!("{who}\t{rights}\t")).collect();
    let used = look.keywords.iter().take_while(|name| !name.is_empty());
    let keywords: String = used.map(|name| format!("{name} ")).collect();
    let keywords = if keywords.is_empty() { "[none]" } else { &keywords };
    let live = || look.index.live();
    let count = |bit: u32| live().filter(|record| record.system_flags & bit != 0).count();
    let bytes: u64 = live().map(|record| record.size).sum();
    let shape = SHAPES.iter().find(|shape| shape.minor == header.minor);
    let (start, size) = shape.map_or((0, 0), |shape| (shape.header, shape.record));
    let options = named(header.options, &OPTIONS);
    let options = if header.options == 0 { " NONE" } else { &options };
    format!(
        " Mailbox Header Info:\n  Path to mailbox: {}\n  Mailbox ACL: {acl}\n  Unique ID: {}\n  \
         User Flags: {keywords}\n\n Index Header Info:\n  Generation Number: {}\n  Minor Version: {}\n  \
         Header Size: {start} bytes  Record Size: {size} bytes\n  Number of Messages: {}  Mailbox Size: \
         {bytes} bytes  Annotations Size: {} bytes\n  Last Append Date: ({}) {}\n  UIDValidity: {}  Last \
         UID: {}\n  Deleted: {}  Answered: {}  Flagged: {}\n  Mailbox Options:{options}\n  Last POP3 Login: \
         ({}) {}\n  Highest Mod Sequence: {}\n\n Message Info:\n",
        look.data.display(),
        look.unique_id,
        header.generation,
        header.minor,
        live().count(),
        header.annotation_bytes,
        header.last_append,
        ctime(header.last_append as i64),
        header.uid_validity,
        header.last_uid,
        count(flag::DELETED),
        count(flag::ANSWERED),
        count(flag::FLAGGED),
        header.pop3_last_login,
        ctime(header.pop3_last_login as i64),
        header.modseq_highest,
    )
}

fn message(text: &mut Vec<u8>, look: &Look, (number, record): (u32, &Record)) {
    let guid: String = record.guid.iter().map(|byte| format!("{byte:02x}")).collect();
    let words = (0..4).rev().map(|word| (record.user_flags >> (32 * word)) as u32);
    let users: String = words.map(|word| format!(" {word:08X}")).collect();
    let system = record.system_flags & !flag::INTERNAL;
    let lines = format!(
        "{number:06}> UID:{:08}   INT_DATE:{} SENTDATE:{} SAVEDATE:{} SIZE:{:<6}\n      > HDRSIZE:{:<6} \
         LASTUPD :{} SYSFLAGS:{system:08X}      > CACHEVER:{:<2} GUID:{guid} MODSEQ:{}  THRID: {:x}\n      > \
         INTERNALFLAGS:{}      > SYSTEMFLAGS:{}\n      > USERFLAGS:{users}\n",
        record.uid,
        record.internal_date,
        record.sent_date,
        record.save_date.unwrap_or(0),
        record.size,
        record.header_size,
        record.last_updated,
        record.cache_version,
        record.modseq,
        record.conversation,
        named(record.system_flags, &INTERNAL),
        named(system, &SYSTEM),
    );
    text.extend(lines.into_bytes());
    let Ok(bytes) = cache::record(&look.cache, record.cache_offset) else { return };
    let items = cache::items(bytes);
    for (place, name) in ITEMS {
        let item = items.get(place).copied().unwrap_or_default();
        text.extend(format!(" {name}>{{{}}}", item.len()).into_bytes());
        text.extend(item);
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_chosen_by_uid_or_number() {
        let wanted = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Wanted::of(&Given::read(&words, "u:s:", &[]).unwrap())
        };
        assert!(wanted("").unwrap().takes(3, 9));
        assert!(wanted("-u 9").unwrap().takes(3, 9) && !wanted("-u 3").unwrap().takes(3, 9));
        assert!(wanted("-s 3").unwrap().takes(3, 9) && !wanted("-s 9").unwrap().takes(3, 9));
        for line in ["-u 1 -s 1", "-u 0", "-s x"] {
            assert!(matches!(wanted(line), Err(Stop::Usage(_))), "{line}");
        }
    }
}
