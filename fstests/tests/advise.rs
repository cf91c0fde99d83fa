//! `advise` on mounts made wrong on purpose: it names the fault first, and after its advice the same
//! measurement gains what it had said, within 30 %. On a mount that is well set it wants nothing.

mod common;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Mounted, may_mount, program, said, sh};
use fstests::advise::{Advice, Measurement};

/// Measurements do not disturb each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn advise(path: &Path) -> Advice {
    let output = program().args(["advise", "--json"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn measured<'a>(advice: &'a Advice, id: &str) -> &'a Measurement {
    let found = advice.measured.iter().find(|measurement| measurement.id == id);
    found.unwrap_or_else(|| panic!("{id} was not measured: {}", advice.text()))
}

fn first(advice: &Advice) -> &str {
    advice.findings.first().map_or("nothing", |finding| &finding.id)
}

/// The gain that was predicted, and the one that is there now.
fn confirm(before: &Measurement, after: &Measurement) {
    // What it would be, too, as far as a busy machine lets microseconds be compared.
    if before.unit == "us" {
        let off = before.then / after.now;
        assert!((0.2..5.0).contains(&off), "{}: {} and {}", before.what, before.then, after.now);
    }
    let (predicted, gained) = (before.now - before.then, before.now - after.now);
    println!(
        "{}: {:.1} {}, predicted {:.1}, now {:.1}",
        before.id, before.now, before.unit, before.then, after.now
    );
    let off = (gained - predicted).abs() / predicted.abs();
    assert!(
        off <= 0.3,
        "{}: gain {gained:.2} {}, predicted {predicted:.2}",
        before.what,
        before.unit
    );
}

#[test]
fn strictatime_is_named_and_noatime_gains_what_was_said() {
    if !may_mount("advice about strictatime") {
        return;
    }
    let _alone = alone();
    let mounted = Mounted::new("", "strictatime");
    let before = advise(&mounted.at);
    assert_eq!(first(&before), "strictatime", "{}", before.text());
    let finding = &before.findings[0];
    assert!(finding.fstab.contains("noatime") && !finding.fstab.contains("strictatime"));
    sh(&finding.command);
    let after = advise(&mounted.at);
    assert_eq!(first(&after), "nothing", "{}", after.text());
    assert!(measured(&before, "atime").now > 50.0, "{}", before.text());
    confirm(measured(&before, "atime"), measured(&after, "atime"));
}

#[test]
fn a_synchronous_mount_is_named_and_async_gains_what_was_said() {
    if !may_mount("advice about sync") {
        return;
    }
    let _alone = alone();
    let mounted = Mounted::new("", "noatime,sync");
    let before = advise(&mounted.at);
    assert_eq!(first(&before), "sync", "{}", before.text());
    sh(&before.findings[0].command);
    let after = advise(&mounted.at);
    assert_eq!(first(&after), "nothing", "{}", after.text());
    confirm(measured(&before, "sync"), measured(&after, "sync"));
}

#[test]
fn data_journal_is_named_and_data_ordered_writes_what_was_said() {
    if !may_mount("advice about data=journal") {
        return;
    }
    let _alone = alone();
    let mounted = Mounted::new("", "noatime,data=journal");
    let before = advise(&mounted.at);
    assert_eq!(first(&before), "data-journal", "{}", before.text());
    // What it would be is measured, not taken from a book.
    let number = &before.findings[0].number;
    assert!(number.contains("measured on a fresh ext4"), "{number}");
    mounted.unmount();
    mounted.mount("noatime,data=ordered");
    let after = advise(&mounted.at);
    assert_eq!(first(&after), "nothing", "{}", after.text());
    confirm(measured(&before, "written"), measured(&after, "written"));
}

#[test]
fn directories_without_an_index_are_named_and_an_index_gains_what_was_said() {
    if !may_mount("advice about dir_index") {
        return;
    }
    const MESSAGES: usize = 200_000;
    let _alone = alone();
    let mounted = Mounted::new("-b 4096 -N 230000", "noatime");
    let folder = mounted.at.join("cur");
    std::fs::create_dir(&folder).unwrap();
    for n in 0..MESSAGES {
        std::fs::File::create(folder.join(format!("1700000000.M{n}P1.mail,S=1:2,S"))).unwrap();
    }
    mounted.unmount();
    // Made with an index, which is many times faster, and taken away: the names stay where they are.
    sh(&format!(
        "tune2fs -O ^dir_index {0}; e2fsck -fy {0} || test $? = 1",
        mounted.image.display()
    ));
    mounted.mount("noatime");
    let before = advise(&mounted.at);
    assert_eq!(first(&before), "dir-index", "{}", before.text());
    let command = &before.findings[0].command;
    assert!(command.contains("tune2fs -O dir_index"), "{command}");
    mounted.unmount();
    sh(&format!(
        "tune2fs -O dir_index {0}; e2fsck -fyD {0} || test $? = 1",
        mounted.image.display()
    ));
    mounted.mount("noatime");
    let after = advise(&mounted.at);
    assert_eq!(first(&after), "nothing", "{}", after.text());
    confirm(measured(&before, "lookup"), measured(&after, "lookup"));
}

#[test]
fn too_few_inodes_are_named_and_more_of_them_hold_what_was_said() {
    if !may_mount("advice about inodes") {
        return;
    }
    let _alone = alone();
    let mounted = Mounted::new("-N 2000", "noatime");
    let before = advise(&mounted.at);
    let advice = &before;
    assert_eq!(first(advice), "inodes", "{}", advice.text());
    assert!(advice.findings[0].number.contains("inodes for 19"), "{}", advice.findings[0].number);
    // What it says to type, but for the device, which is a file here and as large.
    let command = &advice.findings[0].command;
    assert!(command.starts_with("mkfs.ext4 -i 8192 /dev/loop"), "{command}");
    mounted.unmount();
    sh(&format!("mkfs.ext4 -q -F -i 8192 {}", mounted.image.display()));
    mounted.mount("noatime");
    let after = advise(&mounted.at);
    assert_eq!(first(&after), "nothing", "{}", after.text());
    confirm(measured(advice, "inodes"), measured(&after, "inodes"));
}

#[test]
fn a_mount_without_barriers_is_a_danger_that_the_flush_test_sees() {
    if !may_mount("advice about nobarrier") {
        return;
    }
    let _alone = alone();
    let mounted = Mounted::new("", "strictatime,nobarrier");
    let before = advise(&mounted.at);
    // Danger comes before the cost of access times.
    assert_eq!(first(&before), "nobarrier", "{}", before.text());
    assert!(before.findings[0].number.contains("made 0 flushes"), "{}", before.text());
    assert!(before.findings.iter().any(|f| f.id == "strictatime"), "{}", before.text());
    sh(&before.findings[0].command);
    let after = advise(&mounted.at);
    assert!(!after.findings.iter().any(|f| f.id == "nobarrier"), "{}", after.text());
}

#[test]
fn a_well_set_mount_needs_nothing_and_keeps_its_mail() {
    if !may_mount("advice on a well-set mount") {
        return;
    }
    let _alone = alone();
    let mounted = Mounted::new("", "noatime");
    std::fs::write(mounted.at.join("mail"), "precious").unwrap();
    let output = program().arg("advise").arg(&mounted.at).output().unwrap();
    assert!(said(&output).starts_with("Nothing is worth changing."), "{}", said(&output));
    let mut left: Vec<_> =
        std::fs::read_dir(&mounted.at).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lost+found", "mail"]);
}

#[test]
fn a_user_without_root_gets_advice_on_his_own_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::CommandExt;
        const NOBODY: u32 = 65534;
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let copy = dir.path().join("cursus-fstests");
        std::fs::copy(env!("CARGO_BIN_EXE_cursus-fstests"), &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        command = std::process::Command::new(copy);
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.args(["advise", "--json"]).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let advice: Advice = serde_json::from_slice(&output.stdout).unwrap();
    assert!(advice.measured.iter().any(|m| m.id == "sync" && m.now > 0.0), "{}", advice.text());
}
