//! `matrix` on loop files: figures for all that can be made, reasons for the rest, nothing left
//! behind, also after Ctrl-C and after kill -9.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Mounted, in_use, may_mount, program, said};
use fstests::schema::Results;
use rustix::process::{Pid, Signal, kill_process};

/// A small matrix below `root`.
fn matrix(root: &Path, only: &str) -> Command {
    let mut command = program();
    command
        .current_dir(root)
        .args(["matrix", "--profile", "book", "--size", "400", "--only", only])
        // A relative path, as people type them.
        .args(["--in", "."])
        .args(["--rounds", "3", "--warm-up", "0", "--operations", "30", "--folder", "50"])
        .args(["--message-bytes", "5000", "--workload", "deliver-rename,deliver-log,flags"]);
    command
}

fn ground() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_small_matrix_has_a_figure_or_a_reason_for_every_place_and_leaves_nothing() {
    if !may_mount("a small matrix") {
        return;
    }
    let root = ground();
    let names = [
        "ext4",
        "ext4 noatime",
        "ext4 data=journal",
        "ext4 without dir_index",
        "ext4 no journal",
        "ext4 external journal",
        "ext4 ACL entries",
        "xfs",
        "btrfs",
        "btrfs raid1",
        "ext2",
        "ext3",
        "ext4 on md RAID 5",
        "reiserfs",
    ];
    let output = matrix(root.path(), &names.join(",")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let results = Results::read(&root.path().join("fstests.json")).unwrap();
    let mut done = 0;
    for name in names {
        if let Some(place) = results.places.iter().find(|place| place.name == name) {
            done += 1;
            assert!(!place.mkfs.is_empty() && place.mount.starts_with("mount "), "{place:?}");
            for workload in ["deliver-rename", "deliver-log", "flags"] {
                let figures = results.figures.iter();
                let of = figures.filter(|f| f.place == name && f.workload == workload).count();
                assert_eq!(of, 1, "{workload} on {name}: {:?}", results.impossible);
            }
        } else {
            let reason = results.impossible.iter().find(|i| i.name == name);
            println!("skipped: {name} in a matrix: {}", reason.map_or("", |i| i.reason.trim()));
            assert!(reason.is_some_and(|i| !i.reason.is_empty()), "{name}");
        }
    }
    assert!(done >= 6, "{:?}", results.impossible);
    let of = |name: &str| results.places.iter().find(|place| place.name == name).unwrap();
    assert!(of("ext4 data=journal").options.contains("data=journal"));
    assert!(of("ext4 data=journal").neighbour.as_deref() == Some("ext4"));
    assert_eq!(in_use(root.path()), Vec::<String>::new());
    assert_eq!(entries(root.path()), ["fstests.json"]);
}

#[test]
fn large_folders_are_filled_with_an_index_and_measured_without() {
    if !may_mount("scaling with the folder") {
        return;
    }
    let root = ground();
    let output = program()
        .current_dir(root.path())
        .args(["matrix", "--profile", "scaling", "--only", "ext4 without dir_index", "--in", "."])
        .args(["--folder", "100,15000", "--rounds", "3", "--warm-up", "0", "--operations", "40"])
        .args(["--workload", "look-missing,create,deliver-rename"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let results = Results::read(&root.path().join("fstests.json")).unwrap();
    assert!(results.impossible.is_empty(), "{}", said(&output));
    let rate = |place: &str, workload: &str, folder: usize| {
        let mut all = results.figures.iter();
        let figure = all.find(|f| f.place == place && f.workload == workload && f.folder == folder);
        figure.unwrap_or_else(|| panic!("{workload} on {place}")).spread().unwrap().median
    };
    for workload in ["look-missing", "create"] {
        let [with, without] =
            ["ext4", "ext4 without dir_index"].map(|place| rate(place, workload, 15_000));
        // Some thirty times, on a quiet machine.
        assert!(without * 4.0 < with, "{workload}: {with} a second, without an index {without}");
    }
    // A delivery by hand: its file, and its name.
    let figure = results.figures.iter().find(|f| f.workload == "deliver-rename").unwrap();
    let device = figure.device.unwrap();
    assert!(device.flushes.is_some_and(|n| n >= 2.0) && device.commits.is_some_and(|n| n >= 1.0));
    assert_eq!(in_use(root.path()), Vec::<String>::new());
}

/// Starts a matrix that takes long, and waits until it measures.
fn start_long(root: &Path) -> Child {
    let mut command = matrix(root, "ext4,ext2");
    command.args(["--operations", "1000000", "--seconds", "600"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    // Both devices, both mounts.
    while in_use(root).len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is mounted");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    child
}

#[test]
fn ctrl_c_and_kill_9_leave_no_mounts_no_loop_devices_and_no_files() {
    if !may_mount("what a stopped matrix leaves") {
        return;
    }
    let root = ground();
    let mut child = start_long(root.path());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(in_use(root.path()), Vec::<String>::new());
    assert!(!entries(root.path()).iter().any(|e| e.starts_with('.')), "{:?}", entries(root.path()));

    let mut child = start_long(root.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(in_use(root.path()).len(), 4);
    // Any next command of root's cleans up.
    let other = ground();
    let output = program().arg("advise").arg(other.path()).output().unwrap();
    assert!(said(&output).contains("undoing what a run left that was killed"), "{}", said(&output));
    assert_eq!(in_use(root.path()), Vec::<String>::new());
    assert!(!entries(root.path()).iter().any(|e| e.starts_with('.')), "{:?}", entries(root.path()));
}

#[test]
fn a_device_that_holds_data_or_is_in_use_is_refused() {
    if !may_mount("devices with data") {
        return;
    }
    let mounted = Mounted::new("", "noatime");
    let source = common::sh(&format!("findmnt -no SOURCE {}", mounted.at.display()));
    let try_device = |device: &str| {
        let output = matrix(mounted.at.parent().unwrap(), "ext4")
            .args(["--device", device.trim()])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    assert!(try_device(&source).contains("it is in use"));
    assert!(try_device(mounted.image.to_str().unwrap()).contains("expected a block device"));
    mounted.unmount();
    let device = common::sh(&format!("losetup -f --show {}", mounted.image.display()));
    let refused = try_device(&device);
    assert!(refused.contains("it holds data") && refused.contains("ext4"), "{refused}");
    // Without its data it is taken, in slices.
    common::sh(&format!("wipefs -qa {}", device.trim()));
    let output = matrix(mounted.at.parent().unwrap(), "ext4")
        .args(["--device", device.trim(), "--size", "320"])
        .output()
        .unwrap();
    common::sh(&format!("losetup -d {} || true", device.trim()));
    assert!(output.status.success(), "{}", said(&output));
}
