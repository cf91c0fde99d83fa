//! `cyr_ls`, `cyr_pwd`, `cyr_df`: mailboxes as directories, and the room on partitions.
//!
//! The list is that of `ctl_mboxlist -d`, so what Cyrus has and Cursus leaves alone is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::IsTerminal;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use foreign::cyrus::name::Name;
use protocol::imap::mutf7;

use super::cyrus::say;
use super::dates::local;
use super::mailboxes::Names;
use super::options::Given;
use super::{Site, Stop};
use crate::place::Place;
use crate::takeover::cyrus::dump::{self, Listed};

const SECONDS_PER_YEAR: i64 = 365 * 86_400;
/// What a name with one of these is quoted for.
const SPECIALS: &str = " !\"#$&'()*,;<>?[\\]^`{|}~";
/// Width of a list of several columns.
const WIDTH: usize = 76;

mod colour {
    pub const RESET: &str = "\x1b[0m";
    pub const MISSING: &str = "\x1b[31m";
    pub const OTHER: &str = "\x1b[35m";
    pub const MAIL: &str = "\x1b[94m";
}

/// All mailboxes but those that are no more, by name in databases.
fn all(site: &Site) -> Result<BTreeMap<String, Listed>, Stop> {
    let mut place = Place::find(&site.config)?;
    let listed = dump::list(&site.imapd_conf, &site.config, &mut place, false);
    place.close()?;
    let mut listed = listed?;
    listed.retain(|_, one| !one.entry.kind.contains('d'));
    Ok(listed)
}

/// The mailbox whose directory this is.
fn at(listed: &BTreeMap<String, Listed>, path: &Path) -> Option<Name> {
    let path = fs::canonicalize(path).ok()?;
    let is_it = |dir: &Option<PathBuf>| {
        dir.as_ref().and_then(|dir| fs::canonicalize(dir).ok()).is_some_and(|dir| dir == path)
    };
    listed
        .values()
        .find(|one| is_it(&one.data) || is_it(&one.meta))
        .map(|one| one.entry.name.clone())
}

/// Cyrus's `cyr_pwd`.
pub(super) fn pwd(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:", &[])?;
    // Seen as who called: its owner may not come here.
    let here = std::env::current_dir();
    let site = Site::find(given.value('C'))?;
    match here.ok().and_then(|here| Some(at(&all(&site).ok()?, &here))).flatten() {
        Some(name) => say(&format!("{}\n", Names::of(&site).external(&name))),
        None => eprintln!("ERROR: not in Cyrus UUID mailbox directory"),
    }
    Ok(())
}

/// What is shown of mailboxes.
struct Shown {
    utf8: bool,
    recurse: bool,
    ids: bool,
    long: bool,
    meta: bool,
    coloured: bool,
    columns: usize,
}

/// Cyrus's `cyr_ls`.
pub(super) fn ls(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:7milR1p", &[])?;
    let one_column = ['i', 'l', '1'].iter().any(|letter| given.has(*letter));
    let shown = Shown {
        utf8: !given.has('7'),
        recurse: given.has('R'),
        ids: given.has('i'),
        long: given.has('l'),
        meta: given.has('m'),
        coloured: std::io::stdout().is_terminal(),
        columns: if one_column { 1 } else { 4 },
    };
    let operand = given.operands.first();
    let path = std::path::absolute(operand.map_or(".", String::as_str));
    let site = Site::find(given.value('C'))?;
    let names = Names::of(&site);
    let listed = all(&site)?;
    let named = operand.filter(|_| !given.has('p')).map(|text| names.read(text, shown.utf8));
    let named = named.filter(|name| listed.contains_key(&name.to_database()));
    let found = named.or_else(|| path.ok().and_then(|path| at(&listed, &path)));
    let Some(name) = found else {
        // As Cyrus's, which fails by its words alone.
        eprintln!("Invalid mailbox name: '{}'", operand.map_or("(null)", String::as_str));
        return Ok(());
    };
    let mut text = String::new();
    list(&mut text, (&name, &listed), &names, &shown);
    say(&text);
    Ok(())
}

/// Those right below a mailbox, and with `-R` below them.
fn list(
    text: &mut String,
    (name, listed): (&Name, &BTreeMap<String, Listed>),
    names: &Names<'_>,
    shown: &Shown,
) {
    // A string takes everything.
    let _ = write!(text, "\n{}:\n", names.external(name));
    let below = |levels: usize| {
        listed.values().filter(move |one| {
            one.entry.name.is_within(name)
                && one.entry.name.levels.len() == name.levels.len() + levels
        })
    };
    let mut count = 0;
    let mut children = Vec::new();
    for one in below(1) {
        let last = one.entry.name.levels.last().map_or("", String::as_str);
        entry(text, &mut count, one, last, shown);
        children.push(&one.entry.name);
    }
    text.push('\n');
    if shown.recurse {
        for child in children {
            list(text, (child, listed), names, shown);
        }
    }
}

fn entry(text: &mut String, count: &mut usize, one: &Listed, name: &str, shown: &Shown) {
    text.push_str(if (*count).is_multiple_of(shown.columns) { "\n" } else { "    " });
    *count += 1;
    if shown.ids {
        let _ = write!(text, "{:<40} ", one.entry.unique_id.as_deref().unwrap_or_default());
    }
    let directory = if shown.meta { &one.meta } else { &one.data };
    let meta = directory.as_ref().and_then(|path| fs::metadata(path).ok());
    if shown.long {
        text.push_str(&meta.as_ref().map_or_else(String::new, long));
    }
    let colour = match (shown.coloured, &meta) {
        (false, _) => "",
        (true, None) => colour::MISSING,
        (true, Some(_)) if !one.entry.is_served() => colour::OTHER,
        (true, Some(_)) => colour::MAIL,
    };
    text.push_str(colour);
    let quoted = quoted(name, shown.utf8);
    text.push_str(&quoted);
    if !colour.is_empty() {
        text.push_str(colour::RESET);
    }
    if shown.columns > 1 {
        let fill = (WIDTH / shown.columns).saturating_sub(quoted.len());
        text.push_str(&" ".repeat(fill));
    }
}

/// A name as a shell wants it, with a blank where no quote is before it.
fn quoted(name: &str, utf8: bool) -> String {
    let decoded = if utf8 { mutf7::decode(name.as_bytes()).ok() } else { None };
    let name = decoded.as_deref().unwrap_or(name);
    match (name.contains(|c| SPECIALS.contains(c)), name.contains('\''), name.contains('"')) {
        (false, ..) => format!(" {name}"),
        (true, true, true) => format!("'{}'", name.replace('\'', "\\'")),
        (true, true, false) => format!("\"{name}\""),
        (true, false, _) => format!("'{name}'"),
    }
}

/// The columns of `-l`.
fn long(meta: &Metadata) -> String {
    let mode = meta.permissions().mode();
    let mut bits = String::from(if meta.is_dir() { "d" } else { "-" });
    for place in (0..9).rev() {
        let letter = ["x", "w", "r"][place % 3];
        bits.push_str(if mode >> place & 1 == 1 { letter } else { "-" });
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let date = match local(meta.ctime()) {
        Some(at) => {
            let month = at.month().to_string();
            let (day, year) = (at.day(), at.year());
            match now - meta.ctime() > SECONDS_PER_YEAR {
                true => format!("{month:.3} {day:02}  {year}"),
                false => format!("{month:.3} {day:02} {:2}:{:02}", at.hour(), at.minute()),
            }
        }
        None => meta.ctime().to_string(),
    };
    let user = named("/etc/passwd", meta.uid());
    let group = named("/etc/group", meta.gid());
    format!("{bits} {} {user:<8} {group:<8} {:>10} {date} ", meta.nlink(), meta.size())
}

/// The name of a user or group by the third column of its file; the number where it has none.
fn named(file: &str, id: u32) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let id = id.to_string();
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(id.as_str()));
    line.and_then(|line| line.split(':').next()).map_or(id, str::to_owned)
}

/// Cyrus's `cyr_df`.
pub(super) fn df(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:m", &[])?;
    let site = Site::find(given.value('C'))?;
    let conf = site.imapd_conf()?;
    let partitions: Vec<(String, PathBuf)> = match given.has('m') {
        false => site.config.partition.iter().map(|p| (p.name.clone(), p.path.clone())).collect(),
        true => conf
            .iter()
            .flat_map(|conf| conf.options())
            .filter_map(|(key, value)| {
                Some((key.strip_prefix("metapartition-")?.to_owned(), PathBuf::from(value)))
            })
            .collect(),
    };
    let mut text = format!(
        "{:<12} {:>12} {:>12} {:>12} {:>3} {}\n",
        "Partition", "1k-blocks", "Used", "Available", "Use%", "Location"
    );
    for (name, path) in partitions {
        let Ok(stat) = rustix::fs::statvfs(&path) else { continue };
        let kib = |blocks: u64| (blocks as f64 * (stat.f_frsize as f64 / 1024.0)) as u64;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let of = (used + stat.f_bavail).max(1);
        let percent = (used as f64 * 100.0 / of as f64 + 0.5) as u64;
        let _ = writeln!(
            text,
            "{name:<12} {:>12} {:>12} {:>12} {percent:>3}% {}",
            kib(stat.f_blocks),
            kib(used),
            kib(stat.f_bavail),
            path.display()
        );
    }
    say(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_cyrus_quotes_them() {
        for (name, wanted) in [
            ("Work", " Work"),
            ("a b", "'a b'"),
            ("#sieve", "'#sieve'"),
            ("it's", "\"it's\""),
            ("it's \"x\"", "'it\\'s \"x\"'"),
            ("Entw&APw-rfe", " Entwürfe"),
        ] {
            assert_eq!(quoted(name, true), wanted);
        }
        assert_eq!(quoted("Entw&APw-rfe", false), "'Entw&APw-rfe'");
    }

    #[test]
    fn who_has_no_name_is_a_number() {
        assert_eq!(named("/etc/passwd", 0), "root");
        assert_eq!(named("/etc/passwd", 4_000_000_000), "4000000000");
    }
}
