//! Transactions of the catalog's database, and its panics.
//!
//! redb checks what it reads by checksums of pages when it opens a file that was not closed, and
//! takes it as right otherwise: on a page that was damaged since, it panics. Here that becomes an error
//! which names the file.
//!
//! Invariants: nothing of redb is called but from here or within [`Catalog::read`] and
//! [`Catalog::write`]; after a panic in a write nothing is written any more, since the database may
//! still hold that transaction.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::{Catalog, failed};
use crate::error::{Error, Result};

/// The database, and whether a write in it went wrong beyond repair.
pub(super) struct Guarded {
    database: ManuallyDrop<Database>,
    broken: AtomicBool,
}

impl Guarded {
    /// Takes the database that `open` gives.
    pub(super) fn open(open: impl FnOnce() -> Result<Database>) -> Result<Guarded> {
        let database = ManuallyDrop::new(caught(open)?);
        Ok(Guarded { database, broken: AtomicBool::new(false) })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // It would wait for a transaction that nobody ends.
        if *self.broken.get_mut() {
            return;
        }
        // SAFETY: this is the only place that takes it, and it is not used after this.
        let database = unsafe { ManuallyDrop::take(&mut self.database) };
        let closed = caught(move || {
            drop(database);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::error!(%error, "the catalog was not closed");
        }
    }
}

impl Catalog {
    /// Reads from one commit.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        caught(|| {
            let begun = self.0.database.begin_read();
            work(&begun.map_err(|error| failed("read")(error.into()))?)
        })
    }

    /// Writes and commits.
    pub(super) fn write(
        &self,
        work: impl FnOnce(&mut WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        if self.0.broken.load(Ordering::Acquire) {
            return Err(corrupt("a write that failed before"));
        }
        let mut ended = false;
        let written = caught(|| {
            let failed = failed("write");
            let begun = self.0.database.begin_write();
            let result = (|| {
                let mut write = begun.map_err(|error| failed(error.into()))?;
                work(&mut write)?;
                write.commit().map_err(|error| failed(error.into()))
            })();
            ended = true;
            result
        });
        if !ended {
            self.0.broken.store(true, Ordering::Release);
        }
        written
    }
}

/// Carries out what may panic on a damaged file.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What is left half done belongs to a transaction, which ends with it, or to a database that is
    // not used again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(corrupt(&words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("damaged pages: {}", text.as_deref().unwrap_or("no reason was given"))
}

fn corrupt(found: &str) -> Error {
    Error::Corrupt {
        path: "catalog.redb".into(),
        expected: "a readable catalog",
        found: found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::io::sim::Sim;

    #[test]
    fn a_panic_is_an_error_that_names_the_file() {
        let sim = Arc::new(Sim::new(1));
        let (catalog, _) = Catalog::open(&*sim, Path::new("/catalog.redb")).unwrap();
        let read = catalog.read(|_| -> Result<()> { panic!("page {} is odd", 7) });
        let text = read.unwrap_err().to_string();
        assert!(text.contains("catalog.redb") && text.contains("page 7 is odd"), "{text}");
        assert_eq!(catalog.users().unwrap_or_default(), Vec::<String>::new());
        let written = catalog.write(|_| panic!("half done"));
        assert!(written.unwrap_err().to_string().contains("half done"));
        let again = catalog.write(|_| Ok(()));
        assert!(again.unwrap_err().to_string().contains("failed before"));
    }
}
