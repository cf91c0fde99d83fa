//! A disk on which messages of some names cannot be looked at before the test says so.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use engine::io::blocking::Blocking;
use engine::io::layer::Layer;
use engine::io::{Open, Stat, Storage, StoredFile};

/// Names with this in them wait.
pub(crate) const GATED: &str = "gated";

#[derive(Clone)]
pub(crate) struct Gate {
    disk: Arc<Blocking>,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// Closed.
    pub(crate) fn new() -> Gate {
        Gate { disk: Arc::new(Blocking::new()), is_open: Arc::default() }
    }

    pub(crate) fn open_it(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }

    fn pass(&self, path: &Path) {
        if path.to_string_lossy().contains(GATED) {
            let is_open = self.is_open.0.lock().unwrap();
            drop(self.is_open.1.wait_while(is_open, |is_open| !*is_open).unwrap());
        }
    }
}

impl Layer for Gate {
    fn below(&self) -> &dyn Storage {
        &*self.disk
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        self.pass(path);
        self.disk.open(path, how)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.pass(path);
        self.disk.stat(path)
    }
}
