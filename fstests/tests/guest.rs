//! What needs a guest kernel (`tools/vm`, one boot): power cuts under the engine and under plain
//! deliveries, a file server that answers too soon, and a matrix of what this kernel lacks.
//!
//! Runs only where `CURSUS_FSTESTS_GUEST` is set, as the guest takes minutes to build.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{in_use, processes_of, program, said, sh};
use fstests::advise::{Advice, Weight};
use fstests::schema::Results;
use rustix::process::{Pid, Signal, kill_process};

/// The tree, whose `tools/vm` is used.
fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Whether a guest can be had; if not, says that `what` is skipped.
fn guest(what: &str) -> bool {
    if std::env::var_os("CURSUS_FSTESTS_GUEST").is_none() {
        println!("skipped: {what}: CURSUS_FSTESTS_GUEST is not set");
        return false;
    }
    let built = Command::new(tree().join("tools/vm/build")).output().unwrap();
    if built.status.success() {
        return true;
    }
    println!("skipped: {what}: {}", said(&built).trim().lines().next_back().unwrap_or_default());
    false
}

#[test]
fn the_engine_loses_nothing_where_a_delivery_without_syncs_does() {
    if !guest("power cuts") {
        return;
    }
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let out = dir.path().join("crash.json");
    let output = program()
        .current_dir(tree())
        .args(["crash", "--vm", "--fs", "ext4,btrfs", "--cuts", "3", "--messages", "30"])
        .args(["--writer", "engine-maildir,rename,rename-unsynced", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let results = Results::read(&out).unwrap();
    assert_eq!((results.crashes.len(), results.impossible.len()), (6, 0), "{}", said(&output));
    for crash in &results.crashes {
        assert_eq!(crash.cuts, 3);
        assert!(crash.acknowledged > 0, "{crash:?}");
        match crash.writer.as_str() {
            // The check itself: what is not synced must be seen to be lost.
            "rename-unsynced" => assert!(crash.lost > 0, "{crash:?}"),
            _ => assert_eq!((crash.lost, crash.duplicates, crash.damaged), (0, 0, 0), "{crash:?}"),
        }
    }
}

#[test]
fn an_export_with_async_is_a_danger_and_a_matrix_runs_on_md_and_nfs() {
    if !guest("NFS and md") {
        return;
    }
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_cursus-fstests"), dir.path().join("cursus-fstests")).unwrap();
    std::fs::write(dir.path().join("script"), SCRIPT).unwrap();
    std::fs::File::create(dir.path().join("disk")).unwrap().set_len(3 << 30).unwrap();
    let (run, at) = (tree().join("tools/vm/run"), dir.path().display());
    let run = run.display();
    sh(&format!(
        "cd {at} && {run} -m 2048 -t 100 -d disk 'sh -ex script >log 2>&1' || {{ tail -n 40 log; exit 1; }}"
    ));
    let bytes = std::fs::read(dir.path().join("advice.json")).unwrap();
    let advice: Advice = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(advice.findings[0].id, "nfs-async", "{}", advice.text());
    assert_eq!(advice.findings[0].weight, Weight::Danger);
    // It had said what sync would change, which is so now.
    let bytes = std::fs::read(dir.path().join("advice-followed.json")).unwrap();
    let followed: Advice = serde_json::from_slice(&bytes).unwrap();
    assert!(!followed.findings.iter().any(|f| f.id == "nfs-async"), "{}", followed.text());
    let of = |advice: &Advice| {
        let found = advice.measured.iter().find(|measured| measured.id == "nfs-async");
        found.unwrap_or_else(|| panic!("not measured: {}", advice.text())).clone()
    };
    let (before, after) = (of(&advice), of(&followed));
    let (predicted, gained) = (before.then - before.now, after.now - before.now);
    assert!(
        predicted > 0.0 && (gained - predicted).abs() <= 0.3 * predicted,
        "{before:?} {after:?}"
    );
    let results = Results::read(&dir.path().join("matrix.json")).unwrap();
    assert!(results.machine.virtual_machine);
    let names: Vec<&str> = results.places.iter().map(|place| place.name.as_str()).collect();
    let asked = ["ext4", "jfs", "ext4 on md RAID 1", "nfs v4.2", "nfs v3"];
    assert_eq!(names, asked, "{:?}", results.impossible);
    assert_eq!(results.figures.len(), names.len(), "{:?}", results.impossible);
    let left = std::fs::read_to_string(dir.path().join("left")).unwrap();
    assert_eq!(left.trim(), "", "mounts, loop devices, arrays or exports are left");
}

/// Starts a matrix in a guest that takes long, and waits until it makes filesystems there.
fn start_long(root: &Path) -> Child {
    let mut child = program()
        .current_dir(tree())
        .args(["matrix", "--vm", "--profile", "book", "--only", "jfs", "--size", "320"])
        .args(["--operations", "1000000", "--seconds", "600", "--workload", "deliver-rename"])
        .arg("--in")
        .arg(root)
        .arg("--out")
        .arg(root.join("fstests.json"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let makes = |entry: std::fs::DirEntry| {
        let log = std::fs::read_to_string(entry.path().join("log")).unwrap_or_default();
        log.contains("making jfs")
    };
    while !std::fs::read_dir(root).unwrap().flatten().any(makes) {
        assert!(began.elapsed() < Duration::from_secs(60), "the guest makes nothing");
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!processes_of(root).is_empty());
    child
}

#[test]
fn ctrl_c_and_kill_9_leave_no_guest_behind() {
    if !guest("what a stopped guest leaves") {
        return;
    }
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let left = || {
        let entries = std::fs::read_dir(root.path()).unwrap().flatten();
        let mut left: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        left.extend(in_use(root.path()));
        left.extend(processes_of(root.path()));
        left
    };
    let mut child = start_long(root.path());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left(), Vec::<String>::new());

    let mut child = start_long(root.path());
    child.kill().unwrap();
    child.wait().unwrap();
    // The guest ends by itself; its directory is the next run's, of whatever kind.
    let began = Instant::now();
    while !processes_of(root.path()).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", processes_of(root.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let other = tempfile::tempdir_in("/var/tmp").unwrap();
    let output = program().arg("advise").arg(other.path()).output().unwrap();
    assert!(said(&output).contains("undoing what a run left that was killed"), "{}", said(&output));
    assert_eq!(left(), Vec::<String>::new());
}

/// In the guest: an export with async for `advise`, then a matrix, then what is left of it.
const SCRIPT: &str = "
mke2fs -q -F -t ext4 /dev/disk0
mount /dev/disk0 /mnt
modprobe loop max_loop=32
./cursus-fstests matrix --profile book --in /mnt --size 320 --rounds 3 --warm-up 0 \
    --only 'jfs,ext4 on md RAID 1,nfs v3' --operations 10 --folder 10 \
    --workload deliver-rename --out /host/matrix.json
(grep cursus-fstests /proc/mounts; losetup -a; grep '^md' /proc/mdstat; exportfs) >left || true
mkdir /mnt/export /mnt/client
exportfs -o rw,async,no_root_squash,no_subtree_check,insecure,fsid=7 127.0.0.1:/mnt/export
mount -t nfs -o vers=3,nolock 127.0.0.1:/mnt/export /mnt/client
./cursus-fstests advise --json /mnt/client >advice.json
exportfs -o rw,sync,no_root_squash,no_subtree_check,insecure,fsid=7 127.0.0.1:/mnt/export
./cursus-fstests advise --json /mnt/client >advice-followed.json
umount /mnt/client
";
