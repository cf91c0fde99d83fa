//! What others measure filesystems with, on the same places in the same rounds: fio and postmark,
//! as far as they can be told to do what a mail store does.
//!
//! Both are asked for messages of the corpus's mean size. fio writes each as a file of its own and
//! syncs it, which is most of a delivery by hand; postmark creates, reads, appends to and removes
//! files in one directory and syncs nothing. They tell no latency that could be compared with ours,
//! so only rates are kept.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Bench, Measured, Workload};
use crate::error::{Error, Result, has_program, run_program};

/// Files that postmark has at a time.
const POSTMARK_FILES: usize = 500;
/// postmark's transactions for an operation of ours: it syncs nothing, and would be over too soon.
const POSTMARK_TRANSACTIONS: usize = 50;

/// The workloads of ours that do what another program's does, the closest first.
pub fn twins(of: Workload) -> &'static [Workload] {
    match of {
        Workload::Fio => &[Workload::DeliverRename, Workload::DeliverLog],
        Workload::Postmark => &[Workload::DeliverUnsynced, Workload::Flags, Workload::Expunge],
        _ => &[],
    }
}

fn needed(program: &str) -> Result<()> {
    match has_program(program) {
        true => Ok(()),
        false => Err(Error::Usage(format!("{program} is not installed"))),
    }
}

/// Mean size of the messages that this measurement would deliver, bytes.
fn message_bytes(bench: &Bench<'_>) -> usize {
    let count = bench.operations.max(1);
    (0..count).map(|n| bench.corpus.stored(n).len()).sum::<usize>() / count
}

fn measured(units: u64, elapsed: Duration, note: String) -> Measured {
    Measured { units, elapsed, cache: "warm", notes: vec![note], ..Measured::default() }
}

/// Files of a message's size, each synced when it is closed.
pub(super) fn fio(bench: &Bench<'_>) -> Result<Measured> {
    needed("fio")?;
    let (bytes, files) = (message_bytes(bench), bench.operations);
    let options = [
        "--name=mail".to_owned(),
        format!("--directory={}", bench.dir.display()),
        format!("--bs={bytes}"),
        format!("--filesize={bytes}"),
        format!("--size={}", bytes * files),
        format!("--nrfiles={files}"),
        format!("--runtime={}", bench.limit.as_secs().max(1)),
        "--rw=write".to_owned(),
        "--ioengine=psync".to_owned(),
        "--openfiles=1".to_owned(),
        "--file_service_type=sequential".to_owned(),
        "--create_on_open=1".to_owned(),
        "--fallocate=none".to_owned(),
        "--fsync_on_close=1".to_owned(),
        "--output-format=json".to_owned(),
    ];
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    bench.watched(|| {
        let said = run_program("fio", &words)?;
        let (files, elapsed) = fio_figures(&said)?;
        Ok(measured(files, elapsed, format!("fio {}", words[6..].join(" "))))
    })
}

/// Files written and the time they took, of what fio says.
fn fio_figures(said: &str) -> Result<(u64, Duration)> {
    #[derive(Deserialize)]
    struct Output {
        jobs: Vec<Job>,
    }
    #[derive(Deserialize)]
    struct Job {
        /// Milliseconds.
        job_runtime: u64,
        write: Direction,
    }
    #[derive(Deserialize)]
    struct Direction {
        total_ios: u64,
    }
    let wrong = |said: String| Error::Program { command: "fio".to_owned(), said };
    // Notes may stand before the JSON.
    let json = said.find('{').map_or("", |at| &said[at..]);
    let output: Output = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    let job = output.jobs.first().ok_or_else(|| wrong("it did no job".to_owned()))?;
    if job.write.total_ios == 0 || job.job_runtime == 0 {
        return Err(wrong("it wrote nothing".to_owned()));
    }
    Ok((job.write.total_ios, Duration::from_millis(job.job_runtime)))
}

/// A pool of files that are created, read, appended to and removed, without a sync.
pub(super) fn postmark(bench: &Bench<'_>) -> Result<Measured> {
    needed("postmark")?;
    let (bytes, transactions) = (message_bytes(bench), bench.operations * POSTMARK_TRANSACTIONS);
    let pool = bench.dir.join("pool");
    std::fs::create_dir(&pool).map_err(Error::io("create", &pool))?;
    let script = bench.dir.join("script");
    let text = postmark_script(&pool, bytes, transactions, bench.seed);
    std::fs::write(&script, text).map_err(Error::io("write", &script))?;
    let began = Instant::now();
    let said = run_program("postmark", &[&script.display().to_string()])?;
    // Its own clock has whole seconds only.
    let elapsed = began.elapsed();
    if !said.contains("transactions") {
        return Err(Error::Program { command: "postmark".to_owned(), said });
    }
    let note = format!(
        "postmark: {POSTMARK_FILES} files of {bytes} bytes on average, {transactions} transactions"
    );
    Ok(measured((POSTMARK_FILES + transactions) as u64, elapsed, note))
}

fn postmark_script(pool: &Path, bytes: usize, transactions: usize, seed: u64) -> String {
    let (low, high) = (bytes / 5, bytes * 2 - bytes / 5);
    format!(
        "set location {}\nset number {POSTMARK_FILES}\nset transactions {transactions}\n\
         set size {low} {high}\nset read 4096\nset write 4096\nset buffering false\n\
         set seed {}\nrun\nquit\n",
        pool.display(),
        seed % 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_fio_are_found_behind_its_notes_and_nothing_is_an_error() {
        let said = "note: both iodepth >= 1\n{\"jobs\": [{\"job_runtime\": 500, \"write\": \
                    {\"total_ios\": 40, \"runtime\": 499}, \"read\": {}}], \"fio version\": \"3\"}";
        assert_eq!(fio_figures(said).unwrap(), (40, Duration::from_millis(500)));
        for nothing in ["", "{}", "{\"jobs\": []}", &said.replace("40", "0")] {
            assert!(fio_figures(nothing).is_err(), "{nothing}");
        }
    }

    #[test]
    fn postmark_is_told_sizes_around_the_mean() {
        let script = postmark_script(Path::new("/m"), 15_000, 400, 7);
        assert!(script.contains("set size 3000 27000\n") && script.ends_with("run\nquit\n"));
    }
}
