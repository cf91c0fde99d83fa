//! Mailboxes as Cyrus's administrators name them, and the programs that print them: `quota`, `mbpath`.
//!
//! | | with `unixhierarchysep: yes` | with `no` |
//! |---|---|---|
//! | john.doe's INBOX | `user/john.doe` | `user.john^doe` |
//! | dave@example.com's Work | `user/dave/Work@example.com` | `user.dave.Work@example.com` |

use admin::wire::QuotaLine;
use admin::{Reply, Request};
use config::Config;
use engine::{INBOX, QuotaLimits};
use foreign::cyrus::imapd_conf::ImapdConf;
use foreign::cyrus::name::{Name, Owner};
use protocol::imap::mutf7;
use serde_json::{Map, Value, json};

use super::options::Given;
use super::{Site, Stop};
use crate::failure::{Failed, Kind};
use crate::place::Place;
use crate::store::unexpected;
use crate::takeover::cyrus::given::{is_shared, name_of};
use crate::takeover::cyrus::source::Source;

/// Octets of a unit of limits on octets.
const KIB: u64 = 1024;
/// Of Cyrus's `mbpath`, where a mailbox is not there.
const STATUS_NO_MAILBOX: u8 = 65;

/// How names are written.
pub(super) struct Names<'a> {
    separator: char,
    shared_user: &'a str,
}

impl<'a> Names<'a> {
    pub(super) fn of(site: &'a Site) -> Names<'a> {
        let text = std::fs::read_to_string(&site.imapd_conf).unwrap_or_default();
        let conf = ImapdConf::read(&text, &mut |name| std::fs::read_to_string(name));
        let slashes = conf.ok().and_then(|conf| conf.switch("unixhierarchysep", true).ok());
        let separator = if slashes.unwrap_or(true) { '/' } else { '.' };
        Names { separator, shared_user: &site.config.sharing.shared_user }
    }

    /// How Cyrus writes a user's mailbox; `None` for the stand-in INBOX of the shared user.
    pub(super) fn name(&self, user: &str, mailbox: &str) -> Option<Name> {
        name_of(self.shared_user, user, mailbox)
    }

    /// Whether a user's mailboxes are Cyrus's shared ones.
    pub(super) fn is_shared(&self, user: &str) -> bool {
        is_shared(self.shared_user, user)
    }

    pub(super) fn separator(&self) -> char {
        self.separator
    }

    pub(super) fn external(&self, name: &Name) -> String {
        let escaped = |level: &String| match self.separator {
            '.' => level.replace('.', "^"),
            _ => level.clone(),
        };
        let levels: Vec<String> = name.levels.iter().map(escaped).collect();
        let mut text = levels.join(&self.separator.to_string());
        if let Some(domain) = &name.domain {
            text.push('@');
            text.push_str(domain);
        }
        text
    }

    /// What an administrator wrote, in UTF-8 or not.
    pub(super) fn read(&self, text: &str, utf8: bool) -> Name {
        let (levels, domain) = match text.rsplit_once('@') {
            Some((levels, domain)) => (levels, Some(domain.to_owned())),
            None => (text, None),
        };
        let level = |level: &str| {
            let level =
                if self.separator == '.' { level.replace('^', ".") } else { level.to_owned() };
            if utf8 { mutf7::encode(&level) } else { level }
        };
        Name { domain, levels: levels.split(self.separator).map(level).collect() }
    }

    /// Whose mailbox of which name here.
    pub(super) fn place(&self, name: &Name) -> Option<(String, String)> {
        let (user, levels) = match name.owner("DELETED") {
            Owner::User(user, levels) => (user, levels),
            Owner::Shared if !self.shared_user.is_empty() => {
                let user = match &name.domain {
                    Some(domain) => format!("{}@{domain}", self.shared_user),
                    None => self.shared_user.to_owned(),
                };
                (user, name.levels.clone())
            }
            Owner::Shared | Owner::Deleted => return None,
        };
        let levels: Result<Vec<_>, _> =
            levels.iter().map(|l| mutf7::decode(l.as_bytes())).collect();
        let levels = levels.ok()?;
        Some((user, if levels.is_empty() { INBOX.to_owned() } else { levels.join("/") }))
    }

    /// The mailbox of an operand: with `-u` the user's INBOX.
    pub(super) fn operand(&self, given: &Given, text: &str) -> Name {
        match given.has('u') {
            true => Name::of_user(text, &[]),
            false => self.read(text, !given.has('7')),
        }
    }
}

/// Cyrus's `quota`: roots as it prints them. `-f` has nothing to correct.
pub(super) fn quota(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:d:fqJnuZ", &[])?;
    let site = Site::find(given.value('C'))?;
    let mut place = Place::find(&site.config)?;
    let asked = place.ask(Request::Quotas { user: None });
    place.close()?;
    let lines = match asked? {
        Reply::Quotas(lines) => lines,
        other => return Err(unexpected(&other).into()),
    };
    if given.has('f') && given.has('q') {
        return Ok(());
    }
    let names = Names::of(&site);
    let wanted = |name: &Name| {
        let of_domain = given.value('d').is_none_or(|d| name.domain.as_deref() == Some(d));
        let named = |text: &String| match given.has('u') {
            true => name.is_within(&names.operand(&given, text)),
            false => names.external(name).starts_with(text.as_str()),
        };
        of_domain && (given.operands.is_empty() || given.operands.iter().any(named))
    };
    let mut roots: Vec<(Name, QuotaLine)> = lines
        .into_iter()
        // Every user has a root here, and in Cyrus who has a limit.
        .filter(|line| line.mailbox.is_some() || line.limits != QuotaLimits::default())
        .filter_map(|line| {
            let mailbox = line.mailbox.as_deref().unwrap_or(INBOX);
            Some((names.name(&line.user, mailbox)?, line))
        })
        .filter(|(name, _)| wanted(name))
        .collect();
    roots.sort_by_key(|(name, _)| name.to_internal());
    let roots = roots.iter().map(|(name, line)| (names.external(name), line));
    super::cyrus::say(&if given.has('J') { quota_json(roots) } else { quota_lines(roots) });
    Ok(())
}

/// What is used of a resource, its limit, and the unit of the latter.
fn resources(line: &QuotaLine) -> [(&'static str, u64, Option<u64>, u64); 4] {
    [
        ("STORAGE", line.bytes, line.limits.bytes, KIB),
        ("MESSAGE", line.messages, line.limits.messages, 1),
        ("X-ANNOTATION-STORAGE", line.annotation_bytes, line.limits.annotation_bytes, KIB),
        ("X-NUM-FOLDERS", line.mailboxes, line.limits.mailboxes, 1),
    ]
}

fn quota_lines<'l>(roots: impl Iterator<Item = (String, &'l QuotaLine)>) -> String {
    let mut text = "   Quota   % Used     Used             Resource Root\n".to_owned();
    for (root, line) in roots {
        for (resource, used, limit, unit) in resources(line) {
            let (used, limit) = (used / unit, limit.map(|limit| limit / unit));
            text += &match limit {
                None => " ".repeat(17),
                Some(0) => "       0         ".to_owned(),
                Some(limit) => format!(" {limit:7} {:8}", used.saturating_mul(100) / limit),
            };
            text += &format!(" {used:8} {resource:>20} {root}\n");
        }
    }
    text
}

fn quota_json<'l>(roots: impl Iterator<Item = (String, &'l QuotaLine)>) -> String {
    let mut all = Map::new();
    for (root, line) in roots {
        let mut one = Map::new();
        for (resource, used, limit, _) in resources(line) {
            let mut value = json!({ "used": used });
            if let Some(limit) = limit.filter(|limit| *limit > 0) {
                value["limit"] = limit.into();
            }
            one.insert(resource.to_owned(), value);
        }
        all.insert(root, one.into());
    }
    // Plain values: nothing can be wrong with them.
    serde_json::to_string_pretty(&Value::from(all)).unwrap_or_default() + "\n"
}

/// Where a mailbox's messages are; `None` where there is no such mailbox.
fn directory(
    config: &Config,
    place: &mut Place,
    (user, mailbox): (&str, &str),
) -> Result<Option<String>, Failed> {
    let described = match place.heads(user) {
        Ok(described) => described,
        Err(failed) if failed.kind() == Kind::NoUser => return Ok(None),
        Err(failed) => return Err(failed),
    };
    let one = described.mailboxes.into_iter().find(|one| one.name == mailbox);
    Ok(one.and_then(|one| {
        let partition = config.partition.iter().find(|p| p.name == one.partition)?;
        Some(partition.path.join(one.dir).display().to_string())
    }))
}

/// Cyrus's `mbpath`: directories of mailboxes, a line each.
pub(super) fn mbpath(arguments: &[String]) -> Result<(), Stop> {
    let elsewhere = "Sieve scripts, archive partitions and files of users are not here: `mbpath` has \
                     the directory of messages alone";
    let refused = [("p", "name mailboxes, not paths"), ("aASUj", elsewhere)];
    let given = Given::read(arguments, "C:7ajlmqsupADMSU", &refused)?;
    let site = Site::find(given.value('C'))?;
    let names = Names::of(&site);
    let mut place = Place::find(&site.config)?;
    let mut last = Ok(());
    for text in &given.operands {
        let name = names.operand(&given, text);
        let found = match names.place(&name) {
            None => None,
            Some((user, mailbox)) => directory(&site.config, &mut place, (&user, &mailbox))?,
        };
        last = match found {
            Some(directory) => {
                super::cyrus::say(&format!("{directory}\n"));
                Ok(())
            }
            None => {
                if !given.has('q') {
                    eprintln!("Invalid mailbox name: '{text}'");
                }
                Err(Stop::Status(STATUS_NO_MAILBOX))
            }
        };
        if last.is_err() && given.has('s') {
            break;
        }
    }
    place.close()?;
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_in_both_forms() {
        for (separator, user, mailbox, text) in [
            ('/', "john.doe", INBOX, "user/john.doe"),
            ('.', "john.doe", INBOX, "user.john^doe"),
            ('/', "dave@example.com", "Work/x.y", "user/dave/Work/x.y@example.com"),
            ('.', "dave@example.com", "Work/x.y", "user.dave.Work.x^y@example.com"),
            ('/', "alice", "Entwürfe", "user/alice/Entw&APw-rfe"),
            ('/', "bb", "lists/a", "lists/a"),
            ('.', "bb@example.com", "lists", "lists@example.com"),
        ] {
            let names = Names { separator, shared_user: "bb" };
            let name = names.name(user, mailbox).unwrap();
            assert_eq!(names.external(&name), text);
            assert_eq!(names.read(text, false), name);
            assert_eq!(names.place(&name).unwrap(), (user.to_owned(), mailbox.to_owned()));
        }
        let names = Names { separator: '/', shared_user: "" };
        assert_eq!(names.read("user/alice/Entwürfe", true).levels[2], "Entw&APw-rfe");
        assert_eq!(names.place(&names.read("lists", true)), None);
        assert_eq!(names.place(&names.read("DELETED/user/a/0", true)), None);
    }

    #[test]
    fn quotas_look_as_cyrus_prints_them() {
        let limits =
            QuotaLimits { bytes: Some(100 << 10), messages: Some(0), ..QuotaLimits::default() };
        let line = QuotaLine {
            user: "alice".into(),
            mailbox: None,
            limits,
            bytes: 12_345,
            messages: 7,
            mailboxes: 3,
            annotation_bytes: 0,
        };
        let text = quota_lines([("user/alice".to_owned(), &line)].into_iter());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "   Quota   % Used     Used             Resource Root",
                "     100       12       12              STORAGE user/alice",
                "       0                 7              MESSAGE user/alice",
                "                         0 X-ANNOTATION-STORAGE user/alice",
                "                         3        X-NUM-FOLDERS user/alice",
            ]
        );
    }
}
