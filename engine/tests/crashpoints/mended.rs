//! Faults that the runs of seeds found, each in the smallest history that shows it.

use std::path::{Path, PathBuf};

use engine::io::sim::{Fault, Mode, Sim};
use engine::io::{Open, Storage};
use engine::{Annotate, AnnotationValue, StoreMode, StoreRequest, Turn};
use protocol::types::{SystemFlags, Uid};

use crate::bench::{Bench, USERS, maildir_of};
use crate::model::{Folder, Place};
use crate::work::fill;

/// How a disk lists names depends on its seed.
const SEEDS: std::ops::Range<u64> = 1..9;

fn inbox(user: usize) -> Place {
    (USERS[user].0.to_owned(), "INBOX".to_owned())
}

/// A store whose INBOX of this user has so many messages, seen ones, behind a checkpoint.
fn filled(seed: u64, mode: Mode, user: usize, count: u32) -> Bench {
    let sim = Sim::with_mode(seed, mode);
    let mut bench = Bench::open(&sim, mode == Mode::Weak).expect("a fresh store opens");
    for (name, _) in USERS {
        bench.user(name).expect("a fresh user");
    }
    fill(&bench, &inbox(user), count);
    bench.look().expect("a look");
    bench.result(bench.store.checkpoint()).expect("a checkpoint");
    sim.advance(3_000_000_000);
    bench
}

fn look(bench: &mut Bench, at: &Place) -> Folder {
    let world = bench.look().expect("a look");
    world.folder(at).expect("a mailbox").clone()
}

fn expunge(bench: &Bench, at: &Place, uids: impl Iterator<Item = u32>) -> engine::Result<()> {
    let mailbox = bench.mailbox(at)?;
    bench.result(mailbox.expunge(&mailbox.view(), uids.map(Uid).collect())).map(|_| ())
}

/// The only file of a text: its path, and that with another suffix.
fn renamed(sim: &Sim, at: &Place, token: u32, suffix: &str) -> (PathBuf, PathBuf) {
    let mut files = Bench::maildir_files(sim, at).remove(&token).expect("a file");
    assert_eq!(files.len(), 1, "{files:?}");
    let from = files.remove(0).0;
    let name = from.file_name().expect("a name").to_string_lossy().into_owned();
    let base = name.split(":2,").next().unwrap_or_default().to_owned();
    (from, maildir_of(at).join("cur").join(format!("{base}{suffix}")))
}

#[test]
fn a_file_renamed_before_its_removal_does_not_come_back_behind_a_compaction() {
    let at = inbox(0);
    let mut bench = filled(1, Mode::Ordered, 0, 8);
    let (from, to) = renamed(&bench.sim, &at, 3, ":2,FS");
    bench.sim.rename(&from, &to).expect("a rename by another program");
    expunge(&bench, &at, 1..=8).expect("an expunge");
    for _ in 0..3 {
        bench.result(bench.store.checkpoint()).expect("a checkpoint");
        while bench.store.turn(Turn::Apply) || bench.store.turn(Turn::Helper) {}
    }
    assert!(look(&mut bench, &at).messages.is_empty());
    assert!(bench.sim.stat(&to).is_err(), "its file is still there");
    let index = bench.sim.stat(&maildir_of(&at).join("cursus.index")).expect("an index");
    assert_eq!(index.size, 8192, "no compaction took place");
}

#[test]
fn the_removal_of_a_file_that_was_renamed_is_durable_after_a_stop() {
    let at = inbox(0);
    for seed in SEEDS {
        let mut bench = filled(seed, Mode::Weak, 0, 2);
        let (from, to) = renamed(&bench.sim, &at, 1, ":2,FS");
        bench.sim.rename(&from, &to).expect("a rename by another program");
        bench.sim.sync_dir(&maildir_of(&at).join("cur")).expect("a sync");
        expunge(&bench, &at, 1..=1).expect("an expunge");
        bench.result(bench.store.checkpoint()).expect("a checkpoint");
        assert_eq!(look(&mut bench, &at).messages.len(), 1);
        bench.store.close().expect("a stop");
        let (after, _) = bench.sim.image().after_cut(seed);
        assert!(after.stat(&to).is_err(), "seed {seed}: the file is back");
    }
}

#[test]
fn letters_of_other_programs_outlive_the_closing_of_a_mailbox() {
    let at = inbox(0);
    let mut bench = filled(1, Mode::Ordered, 0, 2);
    let user = bench.user(&at.0).expect("a user");
    let (from, to) = renamed(&bench.sim, &at, 1, ":2,Sa");
    bench.sim.rename(&from, &to).expect("a rename by another program");
    assert_eq!(look(&mut bench, &at).messages.len(), 2);
    // Only one mailbox stays open that is not in use.
    for name in ["A", "B", "C"] {
        bench.result(user.create(name, &[])).expect("a mailbox");
        bench.mailbox(&(at.0.clone(), name.into())).expect("it opens");
        bench.result(bench.store.checkpoint()).expect("a checkpoint");
    }
    bench.sim.advance(3_000_000_000);
    assert_eq!(look(&mut bench, &at).messages.len(), 2);
    assert!(bench.sim.stat(&to).is_ok(), "the name is as it was");
}

#[test]
fn a_file_under_two_names_after_a_power_cut_is_one_message_with_its_flags() {
    let at = inbox(0);
    for seed in SEEDS {
        let mut bench = filled(seed, Mode::Weak, 0, 8);
        let mailbox = bench.mailbox(&at).expect("an INBOX");
        let flags = SystemFlags(16 | 8);
        let (uids, keywords) = (vec![Uid(3)], Vec::new());
        let mode = StoreMode::Replace;
        let request = StoreRequest { uids, mode, flags, keywords, unchanged_since: None };
        bench.result(mailbox.store(request)).expect("a change of flags");
        // Of three renames the first is lost and the last is kept.
        let (from, to) = renamed(&bench.sim, &at, 3, ":2,DT");
        bench.sim.link(&from, &to).expect("a link");
        bench.sim.sync_dir(&maildir_of(&at).join("cur")).expect("a sync");
        bench.crash(seed);
        bench.reopened().expect("a start");
        let folder = look(&mut bench, &at);
        assert_eq!(folder.messages.len(), 8, "seed {seed}");
        assert_eq!(folder.messages[&3].flags, flags.0, "seed {seed}");
        assert_eq!(Bench::maildir_files(&bench.sim, &at)[&3].len(), 1, "seed {seed}");
        expunge(&bench, &at, 1..=8).expect("an expunge");
        for _ in 0..3 {
            bench.result(bench.store.checkpoint()).expect("a checkpoint");
        }
        assert!(look(&mut bench, &at).messages.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_file_under_two_names_is_one_message_when_its_mailbox_is_closed_before_it_is_listed() {
    let at = inbox(0);
    let mut bench = filled(1, Mode::Weak, 0, 2);
    let mailbox = bench.mailbox(&at).expect("an INBOX");
    let (uids, mode, flags) = (vec![Uid(2)], StoreMode::Replace, SystemFlags(8));
    let request = StoreRequest { uids, mode, flags, keywords: Vec::new(), unchanged_since: None };
    bench.result(mailbox.store(request)).expect("a change of flags");
    drop(mailbox);
    // Another program's move from `new/`, of which the cut undid the half.
    let (cur, _) = renamed(&bench.sim, &at, 1, "");
    let name = cur.file_name().expect("a name").to_string_lossy().into_owned();
    let base = name.split(":2,").next().expect("a base name");
    let new = maildir_of(&at).join("new");
    bench.sim.link(&cur, &new.join(base)).expect("a link");
    bench.sim.sync_dir(&new).expect("a sync");
    bench.crash(1);
    bench.reopened().expect("a start");
    // Only one mailbox stays open that is not in use.
    let user = bench.user(&at.0).expect("a user");
    for name in ["A", "B"] {
        bench.result(user.create(name, &[])).expect("a mailbox");
        bench.mailbox(&(at.0.clone(), name.into())).expect("it opens");
        bench.result(bench.store.checkpoint()).expect("a checkpoint");
    }
    assert_eq!(look(&mut bench, &at).messages.len(), 2);
    assert_eq!(Bench::maildir_files(&bench.sim, &at)[&1].len(), 1, "the second name stayed");
    // Where only `new/` is listed, what is there and was not known there is a delivery.
    fill_one_more(&bench, &at);
    assert_eq!(look(&mut bench, &at).messages.len(), 3);
}

#[test]
fn a_void_message_does_not_come_back_when_the_header_is_lost() {
    let at = inbox(0);
    let mut bench = filled(1, Mode::Ordered, 0, 2);
    fill_one_more(&bench, &at);
    assert_eq!(look(&mut bench, &at).messages.len(), 3);
    let (gone, _) = renamed(&bench.sim, &at, 77, "");
    bench.sim.unlink(&gone).expect("a removal by another program");
    bench.sim.sync_dir(&maildir_of(&at).join("new")).expect("a sync");
    let (after, _) = bench.sim.image().after_cut(1);
    let mut bench = Bench::open(&after, false).expect("a start");
    assert_eq!(look(&mut bench, &at).messages.len(), 2);
    bench.store.close().expect("a stop");
    let path = maildir_of(&at).join("cursus.index");
    let index = after.open(&path, Open::Write).expect("an index");
    index.write_at(&[0xaa; 8192], 0).expect("a write");
    bench.reopened().expect("a start");
    assert_eq!(look(&mut bench, &at).messages.len(), 2);
}

#[test]
fn an_expunged_message_whose_newest_name_was_lost_does_not_come_back() {
    let at = inbox(0);
    for mode in [Mode::Ordered, Mode::Weak] {
        let mut bench = filled(1, mode, 0, 4);
        // Other letters need a new name in the heap, which nothing synced yet.
        let (from, to) = renamed(&bench.sim, &at, 3, ":2,Sa");
        bench.sim.rename(&from, &to).expect("a rename by another program");
        assert_eq!(look(&mut bench, &at).messages.len(), 4);
        expunge(&bench, &at, 1..=4).expect("an expunge");
        for cut in 0..80 {
            let (after, _) = bench.sim.image().after_cut(cut);
            let mut again = Bench::open(&after, mode == Mode::Weak).expect("a start");
            assert!(look(&mut again, &at).messages.is_empty(), "{mode:?}, cut {cut}");
            let findings = again.findings().expect("a check");
            assert!(findings.is_empty(), "{mode:?}, cut {cut}: {findings:?}");
        }
    }
}

#[test]
fn letters_of_another_program_on_a_name_that_was_not_told_outlive_two_power_cuts() {
    let at = inbox(0);
    let bench = filled(1, Mode::Ordered, 0, 2);
    let mailbox = bench.mailbox(&at).expect("an INBOX");
    let (mode, flags) = (StoreMode::Replace, SystemFlags(16 | 2));
    let (uids, keywords) = (vec![Uid(1)], Vec::new());
    let request = StoreRequest { uids, mode, flags, keywords, unchanged_since: None };
    bench.result(mailbox.store(request)).expect("a change of flags");
    // The name still says `S` when the other program sets `T` and a letter of its own.
    let (from, to) = renamed(&bench.sim, &at, 1, ":2,STa");
    bench.sim.rename(&from, &to).expect("a rename by another program");
    bench.sim.sync_dir(&maildir_of(&at).join("cur")).expect("a sync");
    for cut in 0..20 {
        let (after, _) = bench.sim.image().after_cut(cut);
        let mut once = Bench::open(&after, false).expect("a start");
        assert_eq!(look(&mut once, &at).messages[&1].flags, 16 | 2 | 8, "cut {cut}");
        let (after, _) = once.sim.image().after_cut(cut);
        let mut twice = Bench::open(&after, false).expect("a second start");
        assert_eq!(look(&mut twice, &at).messages[&1].flags, 16 | 2 | 8, "second cut {cut}");
    }
}

#[test]
fn a_message_without_its_file_is_removed_also_when_its_name_was_lost() {
    let at = inbox(0);
    let mut bench = filled(1, Mode::Ordered, 0, 4);
    let (gone, _) = renamed(&bench.sim, &at, 3, "");
    bench.store.close().expect("a stop");
    bench.sim.unlink(&gone).expect("a removal by another program");
    // Names are behind the eight bytes by which the heap is known.
    let path = maildir_of(&at).join("cursus.heap");
    let size = bench.sim.stat(&path).expect("a heap").size as usize;
    let heap = bench.sim.open(&path, Open::Write).expect("a heap");
    heap.write_at(&vec![0xaa; size - 8], 8).expect("a write");
    bench.reopened().expect("a start");
    let left: Vec<u32> = look(&mut bench, &at).messages.into_keys().collect();
    assert_eq!(left, [1, 2, 4]);
    let findings = bench.findings().expect("a check");
    assert!(findings.is_empty(), "{findings:?}");
}

/// A delivery by another program.
fn fill_one_more(bench: &Bench, at: &Place) {
    let path = maildir_of(at).join("new/1600000077.foreign.host");
    let file = bench.sim.open(&path, Open::CreateNew).expect("a file");
    let text = crate::bench::text(77).replace("\r\n", "\n");
    file.write_at(text.as_bytes(), 0).expect("a write");
    file.sync_all().expect("a sync");
}

#[test]
fn a_file_whose_removal_failed_is_removed_later() {
    let dirs = [maildir_of(&inbox(0)).join("cur"), PathBuf::from("/cyrus/b/user/bob")];
    for (user, dir) in dirs.iter().enumerate() {
        let at = inbox(user);
        for operation in 1..6 {
            let mut bench = filled(operation, Mode::Ordered, user, 2);
            let messages = |sim: &Sim| files_in(sim, dir);
            assert_eq!(messages(&bench.sim), 2);
            let fault_at = bench.sim.operations() + operation;
            bench.sim.fail_at(fault_at, Fault::Io);
            let done = expunge(&bench, &at, 1..=1);
            while bench.store.turn(Turn::Retry) && bench.store.turn(Turn::Apply) {}
            let left = look(&mut bench, &at).messages.len();
            assert!(left == 1 || done.is_err(), "{at:?}, fault at {operation}: {done:?}");
            // Behind the removal the fault is the stop's, which says so.
            let is_behind = bench.sim.operations() < fault_at;
            let stopped = bench.store.close();
            assert_eq!(stopped.is_err(), is_behind, "{at:?}, fault at {operation}: {stopped:?}");
            bench.reopened().expect("a start");
            assert_eq!(look(&mut bench, &at).messages.len(), left, "{at:?} at {operation}");
            bench.result(bench.store.checkpoint()).expect("a checkpoint");
            assert_eq!(messages(&bench.sim), left, "{at:?}, fault at {operation}: {done:?}");
            let findings = bench.findings().expect("a check");
            assert!(findings.is_empty(), "{findings:?}");
        }
    }
}

/// Message files in a directory.
fn files_in(sim: &Sim, dir: &Path) -> usize {
    let mut count = 0;
    let each = &mut |name: &[u8], kind| {
        let message = kind == engine::io::Kind::File && !name.starts_with(b"cursus.");
        count += usize::from(message);
    };
    sim.list(dir, each).expect("a directory");
    count
}

#[test]
fn a_copy_from_a_mailbox_that_is_deleted_outlives_a_power_cut_that_undoes_all_names() {
    for (user, seed) in [(0, 1), (1, 1), (0, 2), (1, 2)] {
        let at = inbox(user);
        let bench = filled(seed, Mode::Ordered, user, 2);
        let holder = bench.user(&at.0).expect("a user");
        bench.result(holder.create("A", &[])).expect("a mailbox");
        bench.result(holder.create("B", &[])).expect("a mailbox");
        let (a, b) = ((at.0.clone(), "A".to_owned()), (at.0.clone(), "B".to_owned()));
        fill(&bench, &a, 1);
        let [a, b, inbox] = [&a, &b, &at].map(|at| bench.mailbox(at).expect("a mailbox"));
        // The last one by two links.
        bench.result(a.copy(&a.view(), vec![Uid(1)], &b)).expect("a copy");
        bench.result(a.copy(&a.view(), vec![Uid(1)], &inbox)).expect("a copy");
        bench.result(b.copy(&b.view(), vec![Uid(1)], &inbox)).expect("a copy");
        bench.result(holder.delete("A")).expect("a removal");
        bench.result(holder.delete("B")).expect("a removal");
        for cut in 0..40 {
            let (after, _) = bench.sim.image().after_cut(cut);
            let mut again = Bench::open(&after, false).expect("a start");
            assert_eq!(look(&mut again, &at).messages.len(), 4, "{at:?}, cut {cut}");
        }
    }
}

#[test]
fn flags_whose_name_could_not_be_given_before_a_checkpoint_stay_as_they_are() {
    for closed_between in [false, true] {
        let at = inbox(0);
        let bench = filled(1, Mode::Ordered, 0, 2);
        let letters = || {
            let (path, _) = renamed(&bench.sim, &at, 1, "");
            path.to_string_lossy().rsplit(',').next().unwrap_or_default().to_owned()
        };
        let (uids, mode, flags) = (vec![Uid(1)], StoreMode::Remove, SystemFlags::SEEN);
        let request =
            StoreRequest { uids, mode, flags, keywords: Vec::new(), unchanged_since: None };
        let mailbox = bench.mailbox(&at).expect("an INBOX");
        bench.result(mailbox.store(request)).expect("a change of flags");
        bench.sim.fail_at(bench.sim.operations() + 1, Fault::NoSpace);
        while bench.store.turn(Turn::Names) {}
        drop(mailbox);
        bench.result(bench.store.checkpoint()).expect("a checkpoint");
        assert_eq!(letters(), "S", "the name was to be refused");
        if closed_between {
            // Only one mailbox stays open that is not in use.
            let user = bench.user(&at.0).expect("a user");
            for name in ["A", "B"] {
                bench.result(user.create(name, &[])).expect("a mailbox");
                bench.mailbox(&(at.0.clone(), name.into())).expect("it opens");
                bench.result(bench.store.checkpoint()).expect("a checkpoint");
            }
        }
        // Something else about the message gives its name another chance.
        let value = Some(b"x"[..].into());
        let value = AnnotationValue { whose: String::new(), entry: "/comment".into(), value };
        let (uids, values) = (vec![Uid(1)], vec![value]);
        let mailbox = bench.mailbox(&at).expect("an INBOX");
        let request = Annotate { uids, values, unchanged_since: None };
        bench.result(mailbox.annotate(request, None)).expect("an annotation");
        while bench.store.turn(Turn::Names) {}
        assert_eq!(letters(), "", "the name was to follow");
        for cut in 0..20 {
            let (after, _) = bench.sim.image().after_cut(cut);
            let mut again = Bench::open(&after, false).expect("a start");
            let message = look(&mut again, &at).messages[&1].clone();
            assert_eq!(message.flags, 0, "cut {cut}, closed between: {closed_between}");
        }
    }
}
