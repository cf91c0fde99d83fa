use super::*;
use crate::io::Open;
use crate::io::sim::{Mode, Sim};

const ROOT: &str = "/p";

fn dir_of(layout: &Cyrus, user: &str, mailbox: &str) -> PathBuf {
    layout.mailbox_dir(Path::new(ROOT), user, mailbox).unwrap()
}

fn at(uid: u32) -> Location {
    Location {
        uid: Uid(uid),
        base: Vec::new(),
        flags: NameFlags::default(),
        other_letters: Vec::new(),
        in_new: false,
    }
}

fn touch(storage: &dyn Storage, path: &Path) {
    storage.open(path, Open::Create).unwrap();
}

fn uids(layout: &Cyrus, storage: &dyn Storage, dir: &Path) -> Vec<u32> {
    let mut all = Vec::new();
    layout.list(storage, dir, false, &mut |found| all.push(found.uid.0)).unwrap();
    all.sort_unstable();
    all
}

#[test]
fn paths_are_those_of_cyrus() {
    let hashed = Cyrus::default();
    let path = |layout: &Cyrus, user, mailbox| dir_of(layout, user, mailbox).display().to_string();
    assert_eq!(path(&hashed, "alice", "INBOX"), "/p/a/user/alice");
    assert_eq!(path(&hashed, "alice", "Work/Projects"), "/p/a/user/alice/Work/Projects");
    assert_eq!(path(&hashed, "john.doe", "INBOX"), "/p/j/user/john^doe");
    assert_eq!(path(&hashed, "1st", "INBOX"), "/p/q/user/1st");
    assert_eq!(path(&hashed, "alice", "Entwürfe/v1.2"), "/p/a/user/alice/Entw&APw-rfe/v1^2");
    assert_eq!(path(&hashed, "dave@example.com", "INBOX"), "/p/domain/e/example.com/d/user/dave");
    let flat = Cyrus { hashed: false, full_hash: false };
    assert_eq!(path(&flat, "dave@example.com", "X"), "/p/domain/example.com/user/dave/X");
    // n over "ab": (97 << 3 ^ 97 >> 5) ^ 98 = 777 ^ 98 = 873; 873 mod 23 = 22: 'W'.
    let full = Cyrus { hashed: true, full_hash: true };
    assert_eq!(path(&full, "ab", "INBOX"), "/p/W/user/ab");
}

#[test]
fn names_that_the_layout_cannot_store_say_why() {
    let layout = Cyrus::default();
    let refused = |name: &str| layout.mailbox_dir(Path::new(ROOT), "alice", name).is_err();
    for name in ["a^b", "a//b", "", "a\tb", "/x"] {
        assert!(refused(name), "{name:?}");
    }
    assert!(refused(&"x".repeat(256)) && !refused(&"x".repeat(255)));
    assert!(!refused("..") && !refused("a.b"));
}

#[test]
fn no_user_name_leaves_the_root_or_meets_another() {
    for layout in [Cyrus::default(), Cyrus { hashed: false, full_hash: false }] {
        let mut seen = std::collections::HashSet::new();
        for user in ["..", ".", "../x", "a/b", "a^b", "a.b", "a@b", "a@..", "@", "", "%5E", "a\0"] {
            let dir = dir_of(&layout, user, "INBOX");
            let mut levels = dir.components().skip(1);
            assert!(levels.all(|c| matches!(c, std::path::Component::Normal(_))), "{dir:?}");
            assert!(dir.starts_with(ROOT) && seen.insert(dir.clone()), "{user:?} {dir:?}");
        }
    }
}

#[test]
fn only_whole_numbers_with_a_dot_are_messages() {
    assert_eq!(uid_of_name(b"17."), Some(Uid(17)));
    assert_eq!(uid_of_name(b"4294967295."), Some(Uid(u32::MAX)));
    for name in [&b"17"[..], b"017.", b"0.", b".", b"4294967296.", b"1x.", b"+1.", b"cyrus.index"] {
        assert_eq!(uid_of_name(name), None, "{name:?}");
    }
}

#[test]
fn relocate_without_children_is_one_rename() {
    let (layout, sim) = (Cyrus::default(), Sim::new(1));
    let (from, to) = (dir_of(&layout, "alice", "A"), dir_of(&layout, "alice", "B"));
    layout.create(&sim, Path::new(ROOT), &from).unwrap();
    (1..=50).for_each(|uid| touch(&sim, &layout.path(&from, &at(uid))));
    let before = sim.operations();
    layout.relocate(&sim, Path::new(ROOT), &from, &to).unwrap();
    assert_eq!(sim.operations() - before, 4, "a rename and syncs of the parents");
    assert_eq!(uids(&layout, &sim, &to).len(), 50);
    layout.relocate(&sim, Path::new(ROOT), &from, &to).unwrap();
    assert_eq!(uids(&layout, &sim, &to).len(), 50);
}

#[test]
fn relocate_leaves_children_and_survives_a_crash_anywhere() {
    let layout = Cyrus::default();
    let from = dir_of(&layout, "alice", "A");
    // Beside it, below it, and INBOX.
    for (source, target) in [("A", "B"), ("A", "A/Deep"), ("INBOX", "Old")] {
        let source = dir_of(&layout, "alice", source);
        let to = dir_of(&layout, "alice", target);
        for mode in [Mode::Ordered, Mode::Weak] {
            for cut_at in 1.. {
                let sim = Sim::with_mode(4, mode);
                layout.create(&sim, Path::new(ROOT), &source).unwrap();
                layout.create(&sim, Path::new(ROOT), &from.join("Child")).unwrap();
                touch(&sim, &from.join("Child/9."));
                touch(&sim, &source.join("cursus.index"));
                sim.create_dir(&source.join("cursus.seen")).unwrap();
                touch(&sim, &source.join("cursus.seen/bob"));
                (1..=3).for_each(|uid| touch(&sim, &layout.path(&source, &at(uid))));
                sim.sync_filesystem(Path::new("/")).unwrap();
                sim.stop_at(sim.operations() + cut_at);
                let finished = layout.relocate(&sim, Path::new(ROOT), &source, &to).is_ok();
                sim.crash(cut_at);
                layout.relocate(&sim, Path::new(ROOT), &source, &to).unwrap();
                assert_eq!(uids(&layout, &sim, &to), [1, 2, 3]);
                assert!(sim.stat(&to.join("cursus.seen/bob")).is_ok());
                assert!(sim.stat(&to.join("cursus.index")).is_ok());
                assert!(sim.stat(&from.join("Child/9.")).is_ok());
                assert!(sim.stat(&source.join("1.")).is_err());
                if finished {
                    break;
                }
            }
        }
    }
}

#[test]
fn destroy_leaves_children_and_removes_an_empty_directory() {
    let (layout, sim) = (Cyrus::default(), Sim::new(1));
    let (parent, child) = (dir_of(&layout, "alice", "A"), dir_of(&layout, "alice", "A/B"));
    for dir in [&parent, &child] {
        layout.create(&sim, Path::new(ROOT), dir).unwrap();
        touch(&sim, &dir.join("1."));
    }
    layout.destroy(&sim, Path::new(ROOT), &parent).unwrap();
    assert!(sim.stat(&parent.join("1.")).is_err() && sim.stat(&child.join("1.")).is_ok());
    layout.destroy(&sim, Path::new(ROOT), &child).unwrap();
    layout.destroy(&sim, Path::new(ROOT), &child).unwrap();
    assert!(sim.stat(&child).is_err());
}

#[test]
fn discover_walks_the_tree_and_skips_mere_paths() {
    let (layout, sim) = (Cyrus::default(), Sim::new(1));
    assert!(layout.discover(&sim, Path::new(ROOT), "john.doe").unwrap().is_empty());
    let base = dir_of(&layout, "john.doe", "INBOX");
    for file in ["cyrus.header", "Entw&APw-rfe/cyrus.header", "path/v1^2/1.", "Own/cursus.index"] {
        let file = base.join(file);
        sim.create_dir_all(file.parent().unwrap()).unwrap();
        touch(&sim, &file);
    }
    sim.create_dir(&base.join("b&d")).unwrap();
    let found = layout.discover(&sim, Path::new(ROOT), "john.doe").unwrap();
    let names: Vec<&str> = found.iter().map(|mailbox| mailbox.name.as_str()).collect();
    assert_eq!(names, ["INBOX", "Entwürfe", "Own", "path/v1.2"]);
    for mailbox in &found {
        assert_eq!(mailbox.dir, dir_of(&layout, "john.doe", &mailbox.name));
    }
}
