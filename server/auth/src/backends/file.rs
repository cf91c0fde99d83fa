//! A back end whose users are in files: read whole, and again when one of them has changed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::table::{Record, Row, Table, WEAK};
use super::{Backend, Listed, Listing, on_a_thread};
use crate::directory::{Account, BoxFuture, Candidate, PassDb, Unavailable, UserDb};
use crate::name::UserName;
use crate::stamp::Stamp;

/// Files of at most so many bytes together are read on the caller's thread, larger ones on one of
/// their own.
const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Most bytes of one file: it is read into memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What users are in.
pub trait Format: Send + Sync + 'static {
    /// As `auth.backends` names it.
    const KIND: &'static str;

    /// The files, and directories with files.
    fn paths(&self) -> io::Result<Vec<PathBuf>>;

    /// Reads them. Blocks.
    fn read(&self, paths: &[PathBuf]) -> io::Result<Table>;

    /// Reads a row.
    fn record(&self, name: &UserName, row: &Row) -> Result<Record, String>;
}

struct Current {
    table: Arc<Table>,
    /// Of each path, or `None`: to be read again at the next look.
    stamps: Option<Vec<(PathBuf, Stamp)>>,
}

/// Users in files.
pub struct TableFile<F> {
    format: Arc<F>,
    current: RwLock<Current>,
    /// Held while reading, so that one change is read once.
    reading: tokio::sync::Mutex<()>,
}

/// The stamps now, if they can be had.
fn stamps_of<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> io::Result<Vec<(PathBuf, Stamp)>> {
    paths.map(|path| Ok((path.clone(), Stamp::of(path)?))).collect()
}

/// Reads a file whole, up to a limit.
pub(super) fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let error = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if std::fs::metadata(path).map_err(error)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{}: larger than 1 GiB", path.display())));
    }
    std::fs::read(path).map_err(error)
}

impl<F: Format> TableFile<F> {
    /// Opens and reads the files.
    ///
    /// # Errors
    /// They can't be read: with no users at all, mail would bounce.
    pub(super) fn with_format(format: F) -> io::Result<TableFile<F>> {
        let format = Arc::new(format);
        let current = Self::read(&format)?;
        tell_remarks(&format, &current.table)?;
        let current = RwLock::new(current);
        Ok(TableFile { format, current, reading: tokio::sync::Mutex::new(()) })
    }

    fn read(format: &F) -> io::Result<Current> {
        let paths = format.paths()?;
        // The stamps first: a change while reading then shows at the next look.
        let stamps = stamps_of(paths.iter())?;
        let table = format.read(&paths)?;
        for problem in &table.problems {
            tracing::warn!(backend = F::KIND, problem, "ignored");
        }
        let settled = stamps.iter().all(|(_, stamp)| stamp.is_settled());
        Ok(Current { table: Arc::new(table), stamps: settled.then_some(stamps) })
    }

    /// The users, after reading the files again if they have changed; and why they may not be all,
    /// if the files can't be read any more.
    async fn fresh(&self) -> (Arc<Table>, Option<String>) {
        let known = {
            let current = self.current.read();
            let known = current.stamps.clone();
            if let Some(stamps) = &known
                && stamps_of(stamps.iter().map(|(path, _)| path)).is_ok_and(|now| now == *stamps)
            {
                return (current.table.clone(), None);
            }
            known
        };
        let _reading = self.reading.lock().await;
        {
            // Somebody may have read them meanwhile.
            let current = self.current.read();
            if current.stamps.is_some() && current.stamps != known {
                return (current.table.clone(), None);
            }
        }
        let format = self.format.clone();
        let small = format.paths().and_then(|paths| stamps_of(paths.iter())).is_ok_and(|stamps| {
            stamps.iter().map(|(_, stamp)| stamp.size).sum::<u64>() <= INLINE_BYTES_MAX
        });
        let read = match small {
            true => Self::read(&format),
            false => on_a_thread(F::KIND, move || Self::read(&format)).await.flatten(),
        };
        match read {
            Ok(current) => {
                let table = current.table.clone();
                *self.current.write() = current;
                (table, None)
            }
            Err(error) => {
                tracing::error!(backend = F::KIND, %error, "users stay as they were");
                (self.current.read().table.clone(), Some(error.to_string()))
            }
        }
    }

    async fn record(&self, user: &UserName) -> Result<(Option<Record>, Arc<Table>), Unavailable> {
        let (table, trouble) = self.fresh().await;
        let record = match (table.rows.get(user), trouble) {
            (Some(row), _) => {
                let bad = |e| Unavailable(format!("{}: user {user} at {}: {e}", F::KIND, row.at));
                Some(self.format.record(user, row).map_err(bad)?)
            }
            (None, Some(trouble)) => return Err(Unavailable(format!("{}: {trouble}", F::KIND))),
            (None, None) => None,
        };
        Ok((record, table))
    }
}

impl<F: Format> UserDb for TableFile<F> {
    fn lookup<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        Box::pin(async move { Ok(self.record(user).await?.0.map(|record| record.account)) })
    }
}

impl<F: Format> PassDb for TableFile<F> {
    fn find<'a>(
        &'a self,
        user: &'a UserName,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Candidate, Unavailable>> {
        Box::pin(async move {
            let (record, table) = self.record(user).await?;
            if let Some(record) = record {
                let (check, version) = record.check(service);
                return Ok(Candidate::Known { check, version });
            }
            // Somebody who is there, the same for one name, so that the time tells nothing.
            let start =
                user.as_str().bytes().fold(0usize, |h, b| h.wrapping_mul(31) ^ usize::from(b));
            let other = table.rows.iter().nth(start % table.rows.len().clamp(1, 64));
            let decoy = other.and_then(|(name, row)| self.format.record(name, row).ok());
            Ok(Candidate::Unknown { decoy: decoy.map(|record| record.check(service).0) })
        })
    }
}

impl<F: Format> Backend for TableFile<F> {
    fn kind(&self) -> &'static str {
        F::KIND
    }

    fn reload(&self) -> Result<(), String> {
        let current = Self::read(&self.format).map_err(|e| format!("{}: {e}", F::KIND))?;
        *self.current.write() = current;
        Ok(())
    }

    fn list<'a>(&'a self) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        Box::pin(async move {
            let (table, trouble) = self.fresh().await;
            let format = self.format.clone();
            let list = move || listing(&*format, &table, trouble);
            let listed = on_a_thread("users-list", list).await;
            listed.map_err(|e| Unavailable(format!("{}: {e}", F::KIND)))
        })
    }
}

/// Says in the log what the operator should know, a while after the return: that takes long where
/// there are many users.
fn tell_remarks<F: Format>(format: &Arc<F>, table: &Arc<Table>) -> io::Result<()> {
    let (format, table) = (format.clone(), table.clone());
    let tell = move || {
        let listing = listing(&*format, &table, None);
        for problem in listing.problems.iter().skip(table.problems.len()) {
            tracing::warn!(backend = F::KIND, problem, "user is unavailable");
        }
        let weak = |user: &&Listed| user.remarks.iter().any(|r| r.starts_with(WEAK));
        let count = listing.users.iter().filter(weak).count();
        if let Some(first) = listing.users.iter().find(weak) {
            tracing::warn!(backend = F::KIND, users = count, first = %first.name,
                "weak password schemes; `cursus user check` names all such users");
        }
    };
    std::thread::Builder::new().name("users-check".into()).spawn(tell).map(drop)
}

/// Reads every row.
fn listing<F: Format>(format: &F, table: &Table, trouble: Option<String>) -> Listing {
    let mut listing = Listing::default();
    listing.problems.extend(trouble);
    listing.problems.extend(table.problems.iter().cloned());
    for (name, row) in &table.rows {
        match format.record(name, row) {
            Err(error) => {
                listing.problems.push(format!("{}: user {name}: {error}", row.at));
            }
            Ok(record) => listing.users.push(Listed {
                name: name.clone(),
                schemes: record.passwords.all().map(|c| c.scheme()).collect(),
                remarks: record.remarks(),
                attributes: record.account.attributes,
            }),
        }
    }
    listing
}
