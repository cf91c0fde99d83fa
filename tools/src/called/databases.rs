//! `cyr_dbtool` and `cvt_cyrusdb`: Cyrus's database files, read, changed and converted, for a site before a
//! takeover or behind a hand-back.
//!
//! They work on the files that are named, and need no store. Which form a file has is seen by its
//! bytes. Invariants: a file is replaced as a whole, under Cyrus's lock on it, by one that is on disk; a file
//! whose keys are in another order than its form has is not written.

mod batch;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use foreign::cyrus::db::{self, Form, Pair};

use super::options::Given;
use super::{Stop, become_owner_of};
use crate::failure::{Failed, Kind};
use crate::takeover::cyrus::locks;

/// Those that can be named, as Cyrus's usage lists them.
const FORMS: &str = "flat, skiplist, twom, twoskip";
/// EX_CONFIG: Cyrus's exit status for a form that it does not know.
const STATUS_FORM: u8 = 78;
/// EX_TEMPFAIL: Cyrus's for a file that it cannot open.
const STATUS_NOT_OPENED: u8 = 75;
/// EX_OSERR: Cyrus's for a path that is not absolute.
const STATUS_RELATIVE: u8 = 71;
/// Of a new file.
const MODE: u32 = 0o600;
const RELATIVE: &str = "\nSorry, you cannot use this tool with relative path names.\n\
    This is because some database backends do not\nalways do what you would expect with them.\n\n\
    Please use absolute pathnames instead.\n\n";

fn form(name: &str) -> Result<Form, Stop> {
    Form::named(name).ok_or_else(|| {
        eprintln!("fatal error: cyrusdb backend {name} not supported");
        Stop::Status(STATUS_FORM)
    })
}

fn absolute(paths: &[&String]) -> Result<(), Stop> {
    match paths.iter().all(|path| path.starts_with('/')) {
        true => Ok(()),
        false => {
            super::cyrus::say(RELATIVE);
            Err(Stop::Status(STATUS_RELATIVE))
        }
    }
}

/// A database file, read.
struct Database {
    path: PathBuf,
    /// The form in which it is written.
    form: Form,
    /// As it was; empty: it is not there, or nothing is in it.
    bytes: Vec<u8>,
    /// In the file's order, or sorted for changes.
    pairs: Vec<Pair>,
}

impl Database {
    /// Reads a file that is said to have some form. One that is binary tells its own; what it tells is
    /// not taken for a flat one.
    ///
    /// # Errors
    /// There is none, or it is none of these.
    fn read(path: &Path, said: Form) -> Result<Database, String> {
        let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let pairs = db::read(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        let seen = Form::of(&bytes).filter(|_| !bytes.is_empty()).unwrap_or(said);
        if seen == Form::Flat && said != Form::Flat {
            return Err(format!("{}: it is flat", path.display()));
        }
        Ok(Database { path: path.to_owned(), form: seen, bytes, pairs })
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.pairs.iter().find(|(one, _)| one == key);
        found.map(|(_, value)| value.as_slice())
    }

    /// Sets a value, or with none removes the key.
    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let place = self.pairs.binary_search_by(|(one, _)| one.cmp(&key));
        match (place, value) {
            (Ok(at), Some(value)) => self.pairs[at].1 = value,
            (Ok(at), None) => drop(self.pairs.remove(at)),
            (Err(at), Some(value)) => self.pairs.insert(at, (key, value)),
            (Err(_), None) => {}
        }
    }

    /// Makes it ready for changes and conversions: records by the bytes of their keys.
    ///
    /// # Errors
    /// They were in an order in which Cyrus would not look for them.
    fn sort(&mut self) -> Result<(), String> {
        let seen = Form::of(&self.bytes).unwrap_or(self.form);
        if !db::is_in_order(seen, &self.pairs) {
            let line = "its keys are in another order than this form's (improved_mboxlist_sort?)";
            return Err(format!("{}: {line}", self.path.display()));
        }
        self.pairs.sort();
        Ok(())
    }

    /// Puts the file in its place, with the mode that it had.
    fn write(&self) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let bytes = db::write(self.form, &self.pairs, &self.bytes, now as u32);
        let mut beside = self.path.clone().into_os_string();
        beside.push(".NEW");
        let beside = PathBuf::from(beside);
        let mode = fs::metadata(&self.path).map_or(MODE, |meta| meta.permissions().mode());
        let put = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(MODE).open(&beside)?;
            file.write_all(&bytes)?;
            file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            let above = self.path.parent().unwrap_or(Path::new("/"));
            File::open(above)?.sync_all()
        };
        put().map_err(|e| {
            let _ = fs::remove_file(&beside);
            format!("{}: {e}", self.path.display())
        })
    }
}

/// What cannot be opened or written, as Cyrus tells it.
fn not_opened(reason: String) -> Stop {
    eprintln!("fatal error: can't open database: {reason}");
    Stop::Status(STATUS_NOT_OPENED)
}

fn printed(pairs: &[Pair], prefix: &[u8]) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (key, value) in pairs.iter().filter(|(key, _)| key.starts_with(prefix)) {
        // A closed pipe means that nobody wants the rest.
        if out.write_all(&[key.as_slice(), b"\t", value, b"\n"].concat()).is_err() {
            return;
        }
    }
    let _ = out.flush();
}

/// Keys, and values behind a tab, of standard input; up to an empty line.
fn lines() -> Result<Vec<Pair>, Stop> {
    let mut pairs = Vec::new();
    for line in io::stdin().lock().split(b'\n') {
        let line = line.map_err(|e| Failed::new(Kind::Data, format!("standard input: {e}")))?;
        if line.is_empty() {
            break;
        }
        let at = line.iter().position(|byte| *byte == b'\t').unwrap_or(line.len());
        let value = line.get(at + 1..).unwrap_or_default().to_vec();
        pairs.push((line[..at].to_vec(), value));
    }
    Ok(pairs)
}

/// Cyrus's `cyr_dbtool`.
pub(super) fn dbtool(arguments: &[String]) -> Result<(), Stop> {
    let refused = [("M", "improved_mboxlist_sort is not supported")];
    let given = Given::read(arguments, "C:MntTc", &refused)?;
    let [path, name, action, rest @ ..] = given.operands.as_slice() else {
        return Err(Stop::Usage(format!(
            "expected DATABASE FORM ACTION [KEY] [VALUE]; forms: {FORMS}; actions: show, get, set, \
             delete, batch, consistent, repack"
        )));
    };
    absolute(&[path])?;
    let said = form(name)?;
    let changes =
        matches!(action.as_str(), "set" | "delete" | "repack" | "batch") || given.has('c');
    match (action.as_str(), rest) {
        ("show", [] | [_]) | ("get" | "delete", [] | [_]) | ("set", [] | [_, _]) => {}
        ("consistent" | "consistency" | "repack" | "batch", []) => {}
        ("dump", _) => {
            let why = "how a file is made up inside differs: `show` has the records";
            return Err(Stop::Refused(format!("{action}: {why}")));
        }
        ("damage", _) => {
            let why = "nobody wants that";
            return Err(Stop::Refused(format!("{action}: {why}")));
        }
        _ => return Err(Stop::Usage(format!("{action}: expected another action or operands"))),
    }
    let path = Path::new(path);
    become_owner_of(path)?;
    // What is to be set is read before anything is locked.
    let keys: Vec<Pair> = match (action.as_str(), rest) {
        ("get" | "set" | "delete", []) => lines()?,
        (_, [key]) => vec![(key.clone().into_bytes(), Vec::new())],
        (_, [key, value]) => vec![(key.clone().into_bytes(), value.clone().into_bytes())],
        _ => Vec::new(),
    };
    let mut input = Vec::new();
    if action == "batch" {
        let read = io::stdin().read_to_end(&mut input);
        read.map_err(|e| Failed::new(Kind::Data, format!("standard input: {e}")))?;
    }
    let _held = match changes {
        true => Some(locks::lock(&[path.to_owned()]).map_err(not_opened)?),
        false => None,
    };
    let is_new = !path.exists() && given.has('n');
    let mut database = match Database::read(path, said) {
        Ok(database) => database,
        Err(_) if is_new => {
            Database { path: path.to_owned(), form: said, bytes: Vec::new(), pairs: Vec::new() }
        }
        Err(reason) => return Err(consistency(action, reason)),
    };
    if changes {
        database.sort().map_err(not_opened)?;
    }
    if given.has('c') && database.form != said {
        // The other form's generation says nothing here.
        database = Database { form: said, bytes: Vec::new(), ..database };
    }
    let mut done = Ok(());
    match action.as_str() {
        "show" => printed(&database.pairs, keys.first().map_or(b"", |(key, _)| key)),
        "get" => {
            for (key, _) in &keys {
                let value = database.value(key).unwrap_or_default();
                let _ = io::stdout().write_all(&[value, b"\n"].concat());
            }
        }
        "consistent" => super::cyrus::say("Yes, consistent\n"),
        "set" => keys.into_iter().for_each(|(key, value)| database.set(key, Some(value))),
        "batch" => {
            let mut out = io::stdout().lock();
            done = batch::run(&input, database.form, &mut database.pairs, &mut out);
        }
        "delete" => keys.into_iter().for_each(|(key, _)| database.set(key, None)),
        _ => {}
    }
    if changes || is_new {
        database.write().map_err(|e| Failed::new(Kind::Incomplete, e))?;
    }
    done.map_err(|reason| {
        eprintln!("{reason}");
        Stop::Status(1)
    })
}

/// A file that cannot be read, as an action tells it.
fn consistency(action: &str, reason: String) -> Stop {
    match action {
        "consistent" => {
            super::cyrus::say("No, not consistent\n");
            eprintln!("cyr_dbtool: {reason}");
            Stop::Status(1)
        }
        _ => not_opened(reason),
    }
}

/// Cyrus's `cvt_cyrusdb`.
pub(super) fn convert(arguments: &[String]) -> Result<(), Stop> {
    let given = Given::read(arguments, "C:", &[])?;
    let [old, old_name, new, new_name] = given.operands.as_slice() else {
        let text = format!("expected OLD-DATABASE FORM NEW-DATABASE FORM; forms: {FORMS}");
        return Err(Stop::Usage(text));
    };
    absolute(&[old, new])?;
    super::cyrus::say(&format!("Converting from {old} ({old_name}) to {new} ({new_name})\n"));
    let (old_form, new_form) = (form(old_name)?, form(new_name)?);
    become_owner_of(Path::new(old))?;
    let done = converted((Path::new(old), old_form), (Path::new(new), new_form));
    done.map_err(|reason| {
        super::cyrus::say("\nDBERROR: Conversion failed.\n");
        Stop::Failed(Failed::new(Kind::Incomplete, reason))
    })
}

fn converted((old, old_form): (&Path, Form), (new, form): (&Path, Form)) -> Result<(), String> {
    // Cyrus would write into what is there.
    if fs::metadata(new).is_ok_and(|meta| meta.len() > 0) {
        return Err(format!("{}: it is there already: move it away", new.display()));
    }
    let _held = locks::lock(&[old.to_owned()])?;
    let mut read = Database::read(old, old_form)?;
    read.sort()?;
    let made = Database { path: new.to_owned(), form, bytes: Vec::new(), pairs: read.pairs };
    made.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<(), Stop> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        dbtool(&words)
    }

    #[test]
    fn values_are_set_and_removed_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["flat", "skiplist", "twoskip", "twom"] {
            let path = dir.path().join(name);
            let shown = path.display();
            let read = || db::read(&fs::read(&path).unwrap()).unwrap();
            assert!(matches!(run(&format!("{shown} {name} show")), Err(Stop::Status(75))));
            run(&format!("-n {shown} {name} set b 2")).unwrap();
            run(&format!("{shown} {name} set a 1")).unwrap();
            run(&format!("{shown} {name} set c 3")).unwrap();
            run(&format!("{shown} {name} set b 4")).unwrap();
            run(&format!("{shown} {name} delete c")).unwrap();
            run(&format!("{shown} {name} delete nothing")).unwrap();
            let wanted = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"4".to_vec())];
            assert_eq!(read(), wanted, "{name}");
            assert_eq!(Form::of(&fs::read(&path).unwrap()), Form::named(name));
            run(&format!("-c {shown} skiplist repack")).unwrap_or_else(|_| {
                assert_eq!(name, "flat", "a flat file is none of the others");
            });
        }
    }

    #[test]
    fn nothing_is_written_over_and_unsorted_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "b\t1\na\t2\n").unwrap();
        let before = fs::read(&one).unwrap();
        assert!(run(&format!("{} flat set c 1", one.display())).is_err());
        assert!(converted((&one, Form::Flat), (&two, Form::Twoskip)).is_err());
        assert_eq!(fs::read(&one).unwrap(), before);
        fs::write(&one, "a\t2\n").unwrap();
        converted((&one, Form::Flat), (&two, Form::Twoskip)).unwrap();
        let again = converted((&one, Form::Flat), (&two, Form::Skiplist)).unwrap_err();
        assert!(again.contains("move it away"), "{again}");
        assert_eq!(db::read(&fs::read(&two).unwrap()).unwrap(), [(b"a".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn what_is_no_action_here_is_refused() {
        for (line, refused) in [
            ("/x flat dump", true),
            ("/x flat damage", true),
            ("-M /x flat show", true),
            ("/x flat", false),
            ("/x flat zork", false),
            ("/x flat set onlykey", false),
        ] {
            match run(line) {
                Err(Stop::Refused(_)) => assert!(refused, "{line}"),
                Err(Stop::Usage(_)) => assert!(!refused, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(run("x flat show"), Err(Stop::Status(71))));
        assert!(matches!(run("/x berkeley show"), Err(Stop::Status(78))));
    }
}
