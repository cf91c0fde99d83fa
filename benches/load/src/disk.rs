//! What the disk itself allows: the file work of a delivery without any server around it.
//!
//! Each thread writes a file below `tmp`, syncs it and renames it into `new`, as a Maildir delivery
//! does. With the directory's fsync this is the classic durable delivery; without it, the name's
//! durability must come from elsewhere (a log), and this is the floor for such a store.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result, check_equal};
use crate::message::{Generator, MESSAGE_BYTES_MEAN};
use crate::report::Better;
use crate::workload::Run;

/// Options of `disk`.
#[derive(Debug, clap::Args)]
pub(crate) struct Disk {
    /// Directory on the filesystem to measure; a subdirectory is made and removed.
    #[arg(long)]
    directory: PathBuf,
    /// Leave the files there. On ext4 without a journal whoever makes files in the minutes after a removal
    /// passes over each inode that became free: what is measured next would pay for it.
    #[arg(long)]
    keep: bool,
    /// Numbers of threads to measure with.
    #[arg(long, value_delimiter = ',', default_value = "1,8,16,64")]
    threads: Vec<u32>,
    /// Files in a round, over all threads.
    #[arg(long, default_value_t = 2_000)]
    count: u64,
    /// Mean size of a file in bytes; sizes are drawn as messages' are.
    #[arg(long, default_value_t = MESSAGE_BYTES_MEAN)]
    size: u32,
}

impl Disk {
    pub(crate) fn run(&self, run: &mut Run) -> Result<String> {
        let root = self.directory.join(format!("cursus-load-disk-{}", std::process::id()));
        let generator = Generator::new(run.seed, self.size);
        let result = self.rounds(run, &root, &generator);
        let removed = if self.keep { Ok(()) } else { fs::remove_dir_all(&root) };
        result?;
        removed.map_err(|source| Error::File { path: root, source })?;
        run.findings.checked("every file was there at the end");
        run.findings.parameter("count", self.count);
        run.findings.parameter("size", self.size);
        Ok(self.directory.display().to_string())
    }

    fn rounds(&self, run: &mut Run, root: &Path, generator: &Generator) -> Result<()> {
        for round in 0..run.rounds {
            for &threads in &self.threads {
                for (name, with_directory) in [("files", false), ("files+directory", true)] {
                    let place = root.join(format!("{round}-{threads}-{name}"));
                    for part in ["tmp", "new"] {
                        at(&place, fs::create_dir_all(place.join(part)))?;
                    }
                    let section = run.meter.begin();
                    self.write(&place, threads, with_directory, generator)?;
                    let wall = run.meter.end(&section).as_secs_f64();
                    let found = at(&place, fs::read_dir(place.join("new")))?.count();
                    check_equal("files", self.count, found as u64)?;
                    let name = format!("{name}, {threads} threads");
                    run.findings.sample(&name, "1/s", Better::Higher, self.count as f64 / wall);
                }
            }
        }
        Ok(())
    }

    fn write(
        &self,
        place: &Path,
        threads: u32,
        with_directory: bool,
        generator: &Generator,
    ) -> Result<()> {
        let next = AtomicU64::new(0);
        let work = || -> std::io::Result<()> {
            let directory = File::open(place.join("new"))?;
            let mut message = Vec::new();
            loop {
                let serial = next.fetch_add(1, Ordering::Relaxed);
                if serial >= self.count {
                    return Ok(());
                }
                message.clear();
                generator.write(serial, &mut message);
                let name = serial.to_string();
                let temporary = place.join("tmp").join(&name);
                let mut file = File::create_new(&temporary)?;
                file.write_all(&message)?;
                file.sync_all()?;
                fs::rename(&temporary, place.join("new").join(&name))?;
                if with_directory {
                    directory.sync_all()?;
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                let result = worker
                    .join()
                    .unwrap_or_else(|_| Err(std::io::Error::other("a writer thread died")));
                at(place, result)?;
            }
            Ok(())
        })
    }
}

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::File { path: path.to_owned(), source })
}
