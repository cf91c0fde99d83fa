//! `cursus` called by the name of a program of Cyrus's or Courier's, by a link: scripts, cron jobs and
//! habits of operators stay.
//!
//! | module | says |
//! |---|---|
//! | [`table`] | every name, and what becomes of it |
//! | `options` | command lines as getopt(3) reads them |
//! | `cyrus` | what Cyrus's programs do here |
//! | `mailboxes` | names as Cyrus's administrators write them; `quota`, `mbpath` |
//! | `purge` | `ipurge` |
//! | `undump` | `ctl_mboxlist -u` |
//! | `unexpunge` | `unexpunge` |
//! | `databases` | `cyr_dbtool`, `cvt_cyrusdb` |
//! | `examine` | `mbexamine` |
//! | `info` | `cyr_info`, `cyr_buildinfo` |
//! | `listing` | `cyr_ls`, `cyr_pwd`, `cyr_df` |
//! | `dates` | dates as C prints them |
//! | `deny` | `cyr_deny` |
//! | `links` | the links themselves |
//!
//! Invariant: an option or a program that would mean something else here is refused by name; none is
//! passed over that would have changed or removed something.

mod cyrus;
mod databases;
mod dates;
mod deny;
mod examine;
mod info;
mod links;
mod listing;
mod mailboxes;
mod options;
mod purge;
pub mod table;
mod undump;
mod unexpunge;

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::Config;
use foreign::cyrus::imapd_conf::ImapdConf;
use inherit::{Disk, Sources};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::cli::CommandsCommand;
use crate::failure::{Failed, Kind};
use crate::output::Output;
use table::{Fate, Known};

/// A command line that is no command's.
const STATUS_USAGE: u8 = 64;
/// What there is no such thing here.
const STATUS_REFUSED: u8 = 69;
/// Our own configuration, where nothing names another one.
const CONFIG: &str = "/etc/cursus/cursus.toml";
/// Names it.
const CONFIG_VARIABLE: &str = "CURSUS_CONFIG";

/// Why a program does not do what was asked.
#[derive(Debug)]
enum Stop {
    /// The command line is wrong.
    Usage(String),
    /// There is no such thing here.
    Refused(String),
    /// It was tried.
    Failed(Failed),
    /// Said already.
    Status(u8),
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Stop {
        Stop::Failed(failed)
    }
}

/// The name that the process was called by, if it is one of those, and its arguments.
pub fn by_name(
    mut arguments: impl Iterator<Item = OsString>,
) -> Option<(&'static Known, Vec<String>)> {
    let called = PathBuf::from(arguments.next()?);
    let name = called.file_name()?.to_str()?;
    let mut rest = arguments.map(|argument| argument.to_string_lossy().into_owned());
    // Debian's program that runs the others: `cyrus quota`.
    let known = match name {
        "cyrus" => match rest.next() {
            Some(first) => table::of_cyrus(&first).or_else(|| table::known("cyrus")),
            None => table::known("cyrus"),
        },
        _ => table::known(name),
    }?;
    Some((known, rest.collect()))
}

/// Does `cursus commands …`.
pub fn of_others(command: &CommandsCommand, json: bool) -> Result<(), Failed> {
    let out = Output::new(json);
    match command {
        CommandsCommand::List => {
            let text = table::document();
            out.line(&serde_json::json!({ "markdown": text }), text.trim_end());
            Ok(())
        }
        CommandsCommand::Install { directory, names } => links::install(directory, names, &out),
    }
}

/// Does what the program of that name does.
pub fn run(known: &Known, arguments: &[String]) -> ExitCode {
    let done = match known.fate {
        Fate::Honoured(_) => cyrus::run(known.name, arguments),
        Fate::NotNeeded(_) => Ok(()),
        Fate::Refused(text) | Fate::Original(text) => Err(Stop::Refused(text.to_owned())),
    };
    let name = known.name;
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Status(status)) => ExitCode::from(status),
        Err(Stop::Usage(text)) => {
            eprintln!("{name}: {text}");
            ExitCode::from(STATUS_USAGE)
        }
        Err(Stop::Refused(text)) => {
            eprintln!("{name}: not done by Cursus: {text}");
            ExitCode::from(STATUS_REFUSED)
        }
        Err(Stop::Failed(failed)) => failed.report(false),
    }
}

/// What the store is served with, and Cyrus's imapd.conf.
struct Site {
    config: Config,
    imapd_conf: PathBuf,
}

impl Site {
    /// From the files at their usual places, or the imapd.conf that `-C` names; root has become the
    /// store's user then.
    fn find(imapd_conf: Option<&str>) -> Result<Site, Failed> {
        let site = Site::read(imapd_conf)?;
        become_owner(&site.config.state_dir)?;
        Ok(site)
    }

    /// What Cyrus's imapd.conf says; `None` where there is none.
    fn imapd_conf(&self) -> Result<Option<ImapdConf>, Failed> {
        let named = |e: &dyn std::fmt::Display| {
            Failed::new(Kind::Config, format!("{}: {e}", self.imapd_conf.display()))
        };
        let text = match std::fs::read_to_string(&self.imapd_conf) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| named(&e))?,
        };
        let conf = ImapdConf::read(&text, &mut |name| std::fs::read_to_string(name));
        conf.map(Some).map_err(|e| named(&e))
    }

    /// A file of our own that is whole decides alone, as imapd.conf then only says where Cyrus's store is.
    fn read(imapd_conf: Option<&str>) -> Result<Site, Failed> {
        let named = std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
        let usual = || Some(PathBuf::from(CONFIG)).filter(|path| path.exists());
        let own = named.or_else(usual);
        let conf = PathBuf::from(imapd_conf.unwrap_or("/etc/imapd.conf"));
        if let Some(own) = &own {
            let alone = Sources { config: Some(own.clone()), ..Sources::default() };
            if let Ok(read) = alone.read(&Disk) {
                return Ok(Site { config: read.loaded.config, imapd_conf: conf });
            }
        }
        let there = |path: &Path| Some(path.to_owned()).filter(|path| path.exists());
        if own.is_none() && !conf.exists() {
            let message = format!("neither {CONFIG} nor {} is there", conf.display());
            return Err(Failed::new(Kind::Config, message));
        }
        let cyrus_conf = there(&conf.with_file_name("cyrus.conf"));
        let imapd_conf = there(&conf);
        let sources = Sources { config: own, courier: None, imapd_conf, cyrus_conf };
        Ok(Site { config: sources.read(&Disk)?.loaded.config, imapd_conf: conf })
    }
}

/// Has root go on as the owner of a directory, as Cyrus's programs become its user: files that root
/// made in the store would be none that the server can write. Before there is a second thread.
fn become_owner(directory: &Path) -> Result<(), Failed> {
    // Where there is none, there is no store: whoever opens it says so.
    if !directory.exists() {
        return Ok(());
    }
    become_owner_of(directory)
}

/// The same of a file; of one that is not there, the owner of its directory.
fn become_owner_of(path: &Path) -> Result<(), Failed> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let above = || std::fs::metadata(path.parent()?).ok();
    let Some(owner) = std::fs::metadata(path).ok().or_else(above) else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if uid.is_root() {
        return Ok(());
    }
    set_thread_groups(&[gid])
        .and_then(|()| set_thread_gid(gid))
        .and_then(|()| set_thread_uid(uid))
        .map_err(|e| {
            let message = format!("becoming the owner of {}: {e}", path.display());
            Failed::new(Kind::Incomplete, message)
        })
}
