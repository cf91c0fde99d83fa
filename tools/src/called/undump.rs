//! `ctl_mboxlist -u`: mailboxes of a list as `-d` prints it, made where they are missing, with its
//! access control lists and UIDVALIDITYs.
//!
//! Invariants: no mailbox is removed or renamed, and no message; a UIDVALIDITY is set only where nothing was
//! ever stored. Unlike Cyrus's, which writes list entries without directories, it makes mailboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use admin::{Reply, Request};
use engine::{MailboxToAdopt, Rights};
use foreign::cyrus::name::{Name, Owner};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::mailboxes::Names;
use super::{Site, Stop};
use crate::failure::{Failed, Kind};
use crate::place::Place;
use crate::store::unexpected;
use crate::takeover::cyrus::given::{identifier, rights_known};
use crate::takeover::cyrus::source::Source;

/// How much of standard input is read, in octets.
const INPUT_BYTES_MAX: u64 = 1 << 30;

/// What is read of a mailbox's line.
#[derive(Debug, Default, Deserialize)]
struct Line {
    #[serde(default)]
    uidvalidity: String,
    #[serde(default)]
    mbtype: String,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    acl: BTreeMap<String, String>,
    #[serde(default)]
    legacy_specialuse: Option<String>,
}

impl Line {
    /// Why no mailbox is made of it.
    fn left_out(&self, owner: &Owner) -> Option<&'static str> {
        if self.server.is_some() || self.mbtype.contains(['r', 'm']) {
            return Some("it is another server's");
        }
        if self.mbtype.contains('d') || *owner == Owner::Deleted {
            return Some("it was deleted");
        }
        match self.mbtype.as_str() {
            "" | "e" | "el" | "le" | "l" => None,
            _ => Some("it is not for mail"),
        }
    }
}

/// A mailbox as it is.
#[derive(Debug, Default)]
struct There {
    uid_validity: u32,
    uid_next: u32,
    /// By identifiers as Cyrus has them: our identifier, and its rights.
    acl: BTreeMap<String, (String, Rights)>,
}

struct Undump<'a> {
    names: Names<'a>,
    place: Place,
    /// By user and name.
    there: BTreeMap<String, BTreeMap<String, There>>,
    failures: usize,
}

pub(super) fn undump(site: &Site) -> Result<(), Stop> {
    let mut text = String::new();
    let read = std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|e| Failed::new(Kind::Data, format!("standard input: {e}")))?;
    let lines: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|e| Failed::new(Kind::Data, format!("parse error at line {}: {e}", e.line())))?;
    let mut run = Undump {
        names: Names::of(site),
        place: Place::find(&site.config)?,
        there: BTreeMap::new(),
        failures: 0,
    };
    let mut sorted: Vec<_> = lines.into_iter().collect();
    // Those above come first.
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (key, value) in sorted {
        if let Err(failed) = run.one(&key, value) {
            eprintln!("ctl_mboxlist: {key}: {failed}");
            run.failures += 1;
        }
    }
    run.place.close()?;
    if run.failures == 0 { Ok(()) } else { Err(Stop::Status(1)) }
}

impl Undump<'_> {
    fn done(&mut self, request: Request) -> Result<(), Failed> {
        match self.place.ask(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn one(&mut self, key: &str, value: Value) -> Result<(), Failed> {
        let bad = |e: String| Failed::new(Kind::Data, e);
        let line: Line = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;
        let name = Name::from_internal(key).map_err(|e| bad(e.to_string()))?;
        if let Some(why) = line.left_out(&name.owner("DELETED")) {
            eprintln!("ctl_mboxlist: {key}: left out: {why}");
            return Ok(());
        }
        let found = self.names.place(&name);
        let (user, mailbox) =
            found.ok_or_else(|| bad("shared mailboxes need sharing.shared_user".to_owned()))?;
        if !self.there.contains_key(&user) {
            let there = self.read(&user)?;
            self.there.insert(user.clone(), there);
        }
        if !self.is_there(&user, &mailbox) {
            let special_use = line.legacy_specialuse.iter().flat_map(|uses| uses.split(' '));
            let request = Request::MailboxCreate {
                user: user.clone(),
                name: mailbox.clone(),
                special_use: special_use.map(str::to_owned).collect(),
            };
            match self.done(request) {
                // An INBOX comes with its user.
                Err(failed) if failed.kind() != Kind::Exists => return Err(failed),
                _ => {}
            }
            let there = self.read(&user)?;
            self.there.insert(user.clone(), there);
        }
        self.uid_validity(&user, &mailbox, &line)?;
        self.acl(&user, &mailbox, &line)
    }

    fn is_there(&self, user: &str, mailbox: &str) -> bool {
        self.there.get(user).is_some_and(|there| there.contains_key(mailbox))
    }

    fn read(&mut self, user: &str) -> Result<BTreeMap<String, There>, Failed> {
        let described = match self.place.heads(user) {
            Ok(described) => described.mailboxes,
            Err(failed) if failed.kind() == Kind::NoUser => Vec::new(),
            Err(failed) => return Err(failed),
        };
        let owner = if self.names.is_shared(user) { "" } else { user };
        let one = |mailbox: MailboxToAdopt| {
            let texts = mailbox
                .acl
                .unwrap_or_else(|| BTreeMap::from([("owner".to_owned(), Rights::ALL.to_string())]));
            let entry = |(who, rights): (String, String)| {
                let rights = Rights::parse(&rights).unwrap_or_default();
                Some((identifier(&who, owner)?, (who, rights)))
            };
            let there = There {
                uid_validity: mailbox.uid_validity,
                uid_next: mailbox.uid_next,
                acl: texts.into_iter().filter_map(entry).collect(),
            };
            (mailbox.name, there)
        };
        Ok(described.into_iter().map(one).collect())
    }

    fn uid_validity(&mut self, user: &str, mailbox: &str, line: &Line) -> Result<(), Failed> {
        let there = self.there.get(user).and_then(|there| there.get(mailbox));
        let Some(There { uid_validity: now, uid_next, .. }) = there else { return Ok(()) };
        let wanted: u32 = line.uidvalidity.parse().unwrap_or(0);
        if wanted == 0 || wanted == *now {
            return Ok(());
        }
        if *uid_next > 1 {
            let text = format!("it has UIDVALIDITY {now} and had messages: it stays so");
            return Err(Failed::new(Kind::Incomplete, text));
        }
        let (user, mailbox) = (user.to_owned(), mailbox.to_owned());
        self.done(Request::UidValiditySet { user, mailbox, uid_validity: wanted })
    }

    fn acl(&mut self, user: &str, mailbox: &str, line: &Line) -> Result<(), Failed> {
        let there = self.there.get(user).and_then(|there| there.get(mailbox));
        let Some(There { acl: now, .. }) = there else { return Ok(()) };
        let wanted: BTreeMap<&String, Rights> =
            line.acl.iter().map(|(who, rights)| (who, rights_known(rights))).collect();
        let mut changes = Vec::new();
        for who in wanted.keys().copied().chain(now.keys()).collect::<BTreeSet<_>>() {
            let rights = wanted.get(who).copied().unwrap_or_default();
            let ours = now.get(who).map_or(who, |(ours, _)| ours);
            if now.get(who).map_or(Rights::default(), |(_, rights)| *rights) != rights {
                let ours = if ours == user { "owner" } else { ours };
                changes.push((ours.to_owned(), rights));
            }
        }
        for (identifier, rights) in changes {
            let (user, mailbox) = (user.to_owned(), mailbox.to_owned());
            let rights = rights.to_string();
            self.done(Request::AclSet { user, mailbox, identifier, rights })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mailbox_for_mail_here_is_left_out() {
        let line = |text: &str| serde_json::from_str::<Line>(text).unwrap();
        let of = |text: &str| line(text).left_out(&Owner::Shared);
        assert_eq!(of(r#"{"mbtype": "e", "acl": {"a": "lr"}, "uidvalidity": "7"}"#), None);
        assert_eq!(of(r#"{"mbtype": "el", "name_history": []}"#), None);
        for text in [r#"{"mbtype": "d"}"#, r#"{"mbtype": "ic"}"#, r#"{"server": "a.test"}"#] {
            assert!(of(text).is_some(), "{text}");
        }
        assert!(line("{}").left_out(&Owner::Deleted).is_some());
    }
}
