//! What needs a guest kernel (`tools/vm`, one boot): power cuts under the engine and under plain
//! deliveries, a file server that answers too soon, and a matrix of what this kernel lacks.
//!
//! Runs only where `CURSUS_FSTESTS_GUEST` is set, as the guest takes minutes to build.

mod common;

use std::path::Path;
use std::process::Command;

use common::{program, said, sh};
use fstests::advise::{Advice, Weight};
use fstests::schema::Results;

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
    let results = Results::read(&dir.path().join("matrix.json")).unwrap();
    assert!(results.machine.virtual_machine);
    let names: Vec<&str> = results.places.iter().map(|place| place.name.as_str()).collect();
    assert_eq!(names, ["ext4", "jfs", "ext4 on md RAID 1", "nfs v3"], "{:?}", results.impossible);
    assert_eq!(results.figures.len(), names.len(), "{:?}", results.impossible);
    let left = std::fs::read_to_string(dir.path().join("left")).unwrap();
    assert_eq!(left.trim(), "", "mounts, loop devices, arrays or exports are left");
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
umount /mnt/client
";
