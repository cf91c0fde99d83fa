//! The program from outside: a run on two directories, its refusals, Ctrl-C, reports.

mod common;

use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use common::{program, said};
use fstests::schema::Results;
use rustix::process::{Pid, Signal, kill_process};

/// A short run on two directories of `root`.
fn run(root: &Path, workloads: &str) -> Output {
    for place in ["a", "b"] {
        std::fs::create_dir_all(root.join(place)).unwrap();
    }
    program()
        .current_dir(root)
        .args(["run", "a", "b", "--rounds", "3", "--operations", "20", "--folder", "30,60"])
        .args(["--message-bytes", "3000", "--warm-up", "0", "--concurrency", "1,3"])
        .args(["--workload", workloads])
        .output()
        .unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_run_measures_every_workload_at_both_places_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let all = "deliver-rename,deliver-link,deliver-log,deliver-cyrus,list,stat-storm,read-warm,\
               read-cold,read-random-warm,read-random-cold,flags,expunge,index-update,index-scan,\
               pop3-drain,backup-walk,mixed-day";
    let output = run(root.path(), all);
    assert!(output.status.success(), "{}", said(&output));
    let results = Results::read(&root.path().join("fstests.json")).unwrap();
    assert!(results.impossible.is_empty(), "{:?}", results.impossible);
    for workload in all.split(',') {
        for place in ["a", "b"] {
            let mut figures =
                results.figures.iter().filter(|f| f.workload == workload && f.place == place);
            let first = figures.next().unwrap_or_else(|| panic!("{workload} at {place}"));
            assert_eq!(first.per_second.len(), 3, "{workload}");
            assert!(first.per_second.iter().all(|rate| *rate > 0.0), "{workload}");
            let latency = first.latency.as_ref().unwrap();
            assert!(latency.p50_us > 0.0 && latency.p50_us <= latency.p999_us, "{workload}");
        }
    }
    let scaled: Vec<_> = results
        .figures
        .iter()
        .filter(|f| f.workload == "deliver-rename" && f.place == "a")
        .map(|f| (f.folder, f.concurrency))
        .collect();
    assert_eq!(scaled, [(30, 1), (30, 3), (60, 1)]);
    assert!(results.places[0].flush.is_some() && !results.places[0].options.is_empty());
    for place in ["a", "b"] {
        assert!(entries(&root.path().join(place)).is_empty());
    }
}

#[test]
fn the_ring_is_measured_or_the_reason_is_told() {
    let root = tempfile::tempdir().unwrap();
    let output = run(root.path(), "deliver-log-ring,read-random-ring");
    assert!(output.status.success(), "{}", said(&output));
    let results = Results::read(&root.path().join("fstests.json")).unwrap();
    for workload in ["deliver-log-ring", "read-random-ring"] {
        let measured = results.figures.iter().any(|f| f.workload == workload);
        let refused = results
            .impossible
            .iter()
            .any(|i| i.name.starts_with(workload) && i.reason.contains("io_uring"));
        assert!(measured != refused, "{workload}: {:?}", results.impossible);
    }
}

#[test]
fn fio_and_postmark_are_measured_in_turns_with_ours_and_compared() {
    let root = tempfile::tempdir().unwrap();
    let output = run(root.path(), "deliver-rename,deliver-unsynced,fio,postmark");
    assert!(output.status.success(), "{}", said(&output));
    let results = Results::read(&root.path().join("fstests.json")).unwrap();
    let report = program().current_dir(root.path()).args(["report", "fstests.json"]).output();
    assert!(report.unwrap().status.success());
    let text = std::fs::read_to_string(root.path().join("fstests.md")).unwrap();
    for (theirs, ours) in [("fio", "deliver-rename"), ("postmark", "deliver-unsynced")] {
        if !fstests::error::has_program(theirs) {
            println!("skipped: beside {theirs}: it is not installed");
            let missing = |i: &fstests::schema::Impossible| i.name.starts_with(theirs);
            assert!(results.impossible.iter().any(missing), "{:?}", results.impossible);
            continue;
        }
        let mut figures = results.figures.iter().filter(|f| f.workload == theirs);
        assert!(figures.clone().count() == 2, "{:?}", results.impossible);
        assert!(figures.all(|f| f.per_second.len() == 3 && f.per_second[0] > 0.0));
        let mut pairs = text.lines().filter(|line| line.starts_with("| b to a |"));
        let theirs = format!("| {theirs} |");
        assert!(pairs.any(|line| line.contains(&theirs) && line.contains(ours)), "{text}");
    }
}

#[test]
fn a_trace_is_replayed() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(
        root.path().join("trace"),
        "cursus-trace 1\ndeliver a 900\ndeliver a 5000\nflag a 0\nread a 1\nlist a\nremove a 0\n",
    )
    .unwrap();
    std::fs::create_dir(root.path().join("a")).unwrap();
    let args = ["run", "a", "--workload", "replay", "--trace", "trace", "--rounds", "3"];
    let output = program().current_dir(root.path()).args(args).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let results = Results::read(&root.path().join("fstests.json")).unwrap();
    assert_eq!(results.figures[0].per_second.len(), 3);
}

#[test]
fn a_directory_that_holds_data_is_refused_and_untouched() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("a")).unwrap();
    std::fs::write(root.path().join("a/precious"), "mail").unwrap();
    let output = run(root.path(), "list");
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("it holds data (precious)"), "{text}");
    assert!(text.contains("mkdir a/measure"), "{text}");
    assert_eq!(entries(&root.path().join("a")), ["precious"]);
    assert!(entries(&root.path().join("b")).is_empty());
}

/// A run in `a` that does not end by itself while a test looks at it.
fn long_run(root: &Path) -> Child {
    program()
        .current_dir(root)
        .args(["run", "a", "--operations", "1000000", "--seconds", "600"])
        .args(["--workload", "deliver-rename"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_until(begun: impl Fn() -> bool) {
    let began = Instant::now();
    while !begun() {
        assert!(began.elapsed() < Duration::from_secs(30), "nothing begins");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ctrl_c_ends_a_long_run_soon_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("a");
    std::fs::create_dir(&place).unwrap();
    let mut child = long_run(root.path());
    wait_until(|| !entries(&place).is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let began = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(entries(&place).is_empty());
}

#[test]
fn what_a_killed_run_left_the_next_one_removes() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("a");
    std::fs::create_dir(&place).unwrap();
    let mut child = long_run(root.path());
    wait_until(|| entries(&place).iter().any(|e| place.join(e).join("owner").exists()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!entries(&place).is_empty());
    let output = run(root.path(), "list");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("which a run left that was killed"), "{}", said(&output));
    assert!(entries(&place).is_empty());
}

#[test]
fn a_report_is_made_of_saved_results_and_a_newer_form_is_refused() {
    let root = tempfile::tempdir().unwrap();
    assert!(run(root.path(), "list,deliver-rename").status.success());
    let report =
        |file: &str| program().current_dir(root.path()).args(["report", file]).output().unwrap();
    let output = report("fstests.json");
    assert!(output.status.success(), "{}", said(&output));
    for extension in ["html", "md", "csv"] {
        let path = root.path().join(format!("fstests.{extension}"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("deliver-rename"), "{extension}");
    }
    std::fs::write(root.path().join("new.json"), "{\"schema\": 999}").unwrap();
    let output = report("new.json");
    assert!(!output.status.success() && said(&output).contains("written in form 999"));
}
