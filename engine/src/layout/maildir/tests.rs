use super::*;
use crate::io::blocking::Blocking;
use crate::io::sim::{Mode, Sim};
use crate::layout::NameFlags;
use protocol::types::{SystemFlags, Uid};

const ROOT: &str = "/p";

fn dir_of(layout: &Maildir, mailbox: &str) -> PathBuf {
    layout.mailbox_dir(Path::new(ROOT), "alice", mailbox).unwrap()
}

fn at(base: &str, in_new: bool) -> Location {
    Location {
        uid: Uid(1),
        base: base.into(),
        flags: NameFlags(SystemFlags::SEEN.0),
        other_letters: Vec::new(),
        in_new,
    }
}

fn touch(storage: &dyn Storage, path: &Path) {
    storage.open(path, Open::Create).unwrap();
}

fn listed(layout: &Maildir, storage: &dyn Storage, dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    layout.list(storage, dir, false, &mut |found| all.push(layout.path(dir, &found))).unwrap();
    all.sort();
    all
}

#[test]
fn folders_are_dot_directories_of_the_user() {
    let layout = Maildir::default();
    assert_eq!(dir_of(&layout, "INBOX"), Path::new("/p/alice"));
    assert_eq!(dir_of(&layout, "inbox"), Path::new("/p/alice"));
    assert_eq!(dir_of(&layout, "Work/Projekte ä"), Path::new("/p/alice/.Work.Projekte ä"));
    let legacy = Maildir { names: Names::ModifiedUtf7, ..Maildir::default() };
    assert_eq!(dir_of(&legacy, "Entwürfe/R&D"), Path::new("/p/alice/.Entw&APw-rfe.R&-D"));
    let template = Maildir { user_path: "{domain}/{local}/Mail".to_owned(), ..layout };
    let dir = template.mailbox_dir(Path::new(ROOT), "a@b.org", "X").unwrap();
    assert_eq!(dir, Path::new("/p/b.org/a/Mail/.X"));
}

#[test]
fn names_that_the_layout_cannot_store_say_why() {
    let layout = Maildir::default();
    let refused = |name: &str| layout.mailbox_dir(Path::new(ROOT), "alice", name).is_err();
    for name in ["a.b", "a//b", "/a", "a/", "", "a\nb", "..", "x/../y", "\u{7f}"] {
        assert!(refused(name), "{name:?}");
    }
    assert!(refused(&"x".repeat(255)) && !refused(&"x".repeat(254)));
    let error = layout.mailbox_dir(Path::new(ROOT), "alice", "a.b").unwrap_err();
    assert!(error.to_string().contains("maildir") && error.to_string().contains("\"a.b\""));
}

#[test]
fn no_user_name_leaves_the_root_or_meets_another() {
    for user_path in ["{user}", "{domain}/{local}", "x/{local}@{domain}"] {
        let layout = Maildir { user_path: user_path.to_owned(), ..Maildir::default() };
        let mut seen = std::collections::HashSet::new();
        for user in [
            "../x", "..", ".", "/etc", "a/../b", "a", "a@b", "@", "a@..", "a@../c", "%", "a%40b",
            "", "a\0",
        ] {
            let dir = layout.mailbox_dir(Path::new(ROOT), user, "INBOX").unwrap();
            let below = dir.strip_prefix(ROOT).unwrap();
            let levels = user_path.split('/').count();
            assert!(below.components().count() == levels, "{user:?} {dir:?}");
            assert!(below.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            assert!(seen.insert(dir.clone()), "{user:?} {dir:?}");
        }
    }
}

#[test]
fn user_paths_that_would_share_a_directory_are_found() {
    for good in ["{user}", "{domain}/{local}", "{domain}/{local}/Maildir"] {
        assert_eq!(Maildir::user_path_error(good), None);
    }
    for bad in ["", "mail", "{local}", "{domain}", "/{user}", "../{user}", "{user}/"] {
        assert!(Maildir::user_path_error(bad).is_some(), "{bad:?}");
    }
}

#[test]
fn create_can_be_repeated_and_marks_folders_only() {
    let (layout, storage) = (Maildir::default(), Sim::new(1));
    for mailbox in ["INBOX", "A/B"] {
        let dir = dir_of(&layout, mailbox);
        for _ in 0..2 {
            layout.create(&storage, Path::new(ROOT), &dir).unwrap();
        }
        assert_eq!(storage.stat(&dir.join("maildirfolder")).is_ok(), mailbox != "INBOX");
        assert!(storage.stat(&dir.join("cur")).is_ok());
        let stage = layout.stage_path(Path::new(ROOT), &dir, "x");
        touch(&storage, &stage);
        assert_eq!(stage, dir.join("tmp/x"));
    }
}

#[test]
fn base_names_carry_time_process_counter_host_and_sizes_and_fit() {
    let layout = Maildir::default();
    let host = "h".repeat(300);
    let unique = Unique { seconds: 1_700_000_000, micros: 5, pid: 7, counter: 9, host: "a:b" };
    let base = layout.base_name(&unique, 241, 250);
    assert_eq!(base, b"1700000000.M5P7Q9.a\\072b,S=241,W=250");
    let longest = Unique {
        seconds: i64::MAX,
        micros: u32::MAX,
        pid: u32::MAX,
        counter: u64::MAX,
        host: &host,
    };
    let base = layout.base_name(&longest, u32::MAX, u32::MAX);
    let all_letters = ":2,DFPRST".len() + 26;
    assert!(base.len() + all_letters <= FILE_NAME_BYTES_MAX);
}

#[test]
fn list_finds_messages_in_both_directories_and_nothing_else() {
    let (layout, storage) = (Maildir::default(), Sim::new(1));
    let dir = dir_of(&layout, "A");
    layout.create(&storage, Path::new(ROOT), &dir).unwrap();
    let mut names = ["cur/1.a:2,FS", "cur/2.b", "cur/3.c:2,xS", "new/4.d", "new/5.e:2,S"];
    names.sort_unstable();
    let paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
    paths.iter().for_each(|path| touch(&storage, path));
    touch(&storage, &dir.join("tmp/6.f"));
    touch(&storage, &dir.join("cur/.hidden"));
    storage.create_dir(&dir.join("cur/directory")).unwrap();
    assert_eq!(listed(&layout, &storage, &dir), paths);
    let mut new = Vec::new();
    layout.list(&storage, &dir, true, &mut |found| new.push(found.base)).unwrap();
    new.sort();
    assert_eq!(new, [b"4.d", b"5.e"]);
}

#[test]
fn relocate_is_one_rename_into_a_new_place() {
    let (layout, storage) = (Maildir::default(), Sim::new(1));
    let (from, to) = (dir_of(&layout, "A"), dir_of(&layout, "B"));
    layout.create(&storage, Path::new(ROOT), &from).unwrap();
    for n in 0..50 {
        touch(&storage, &layout.path(&from, &at(&format!("{n}"), false)));
    }
    let before = storage.operations();
    layout.relocate(&storage, Path::new(ROOT), &from, &to).unwrap();
    assert_eq!(storage.operations() - before, 4, "a rename and syncs of the parents");
    assert_eq!(listed(&layout, &storage, &to).len(), 50);
    assert!(storage.stat(&from).is_err());
    // Repeated after it was complete: nothing to do.
    layout.relocate(&storage, Path::new(ROOT), &from, &to).unwrap();
    assert_eq!(listed(&layout, &storage, &to).len(), 50);
}

/// Runs `work` with a power cut at each of its operations, then again, and hands the result to
/// `check`.
fn at_every_cut(
    prepare: impl Fn(&Sim),
    work: impl Fn(&Sim) -> io::Result<()>,
    check: impl Fn(&Sim),
) {
    for mode in [Mode::Ordered, Mode::Weak] {
        for cut_at in 1.. {
            let sim = Sim::with_mode(9, mode);
            prepare(&sim);
            sim.sync_filesystem(Path::new("/")).unwrap();
            sim.stop_at(sim.operations() + cut_at);
            let finished = work(&sim).is_ok();
            sim.crash(cut_at);
            work(&sim).unwrap();
            check(&sim);
            if finished {
                break;
            }
        }
    }
}

#[test]
fn relocate_into_an_existing_folder_survives_a_crash_anywhere() {
    let layout = Maildir::default();
    let (from, to) = (dir_of(&layout, "A"), dir_of(&layout, "B"));
    let prepare = |sim: &Sim| {
        for dir in [&from, &to] {
            layout.create(sim, Path::new(ROOT), dir).unwrap();
            touch(sim, &dir.join("cursus.index"));
        }
        sim.open(&from.join("cursus.index"), Open::Write).unwrap().write_at(b"old", 0).unwrap();
        touch(sim, &layout.path(&to, &at("already", false)));
        for n in 0..3 {
            touch(sim, &layout.path(&from, &at(&format!("c{n}"), false)));
            touch(sim, &layout.path(&from, &at(&format!("n{n}"), true)));
        }
        sim.create_dir(&from.join("courierimapkeywords")).unwrap();
        touch(sim, &from.join("courierimapkeywords/:list"));
    };
    at_every_cut(
        prepare,
        |sim| layout.relocate(sim, Path::new(ROOT), &from, &to),
        |sim| {
            assert_eq!(listed(&layout, sim, &to).len(), 7);
            assert_eq!(sim.stat(&to.join("cursus.index")).unwrap().size, 3);
            assert!(sim.stat(&to.join("courierimapkeywords/:list")).is_ok());
            assert!(sim.stat(&from).is_err());
        },
    );
}

#[test]
fn relocating_inbox_leaves_folders_and_account_files() {
    let layout = Maildir::default();
    let (from, to) = (dir_of(&layout, "INBOX"), dir_of(&layout, "Old"));
    let prepare = |sim: &Sim| {
        layout.create(sim, Path::new(ROOT), &from).unwrap();
        layout.create(sim, Path::new(ROOT), &dir_of(&layout, "Work")).unwrap();
        touch(sim, &layout.path(&from, &at("m", false)));
        touch(sim, &from.join("maildirsize"));
        touch(sim, &from.join("cursus.index"));
    };
    at_every_cut(
        prepare,
        |sim| layout.relocate(sim, Path::new(ROOT), &from, &to),
        |sim| {
            assert_eq!(listed(&layout, sim, &to).len(), 1);
            assert!(sim.stat(&to.join("cursus.index")).is_ok());
            assert!(sim.stat(&from.join("maildirsize")).is_ok());
            assert!(sim.stat(&dir_of(&layout, "Work").join("cur")).is_ok());
            assert!(sim.stat(&from.join("cur")).is_err());
        },
    );
}

#[test]
fn destroy_survives_a_crash_anywhere_and_leaves_other_folders() {
    let layout = Maildir::default();
    let gone = dir_of(&layout, "A");
    let prepare = |sim: &Sim| {
        for mailbox in ["INBOX", "A", "A/B"] {
            layout.create(sim, Path::new(ROOT), &dir_of(&layout, mailbox)).unwrap();
        }
        touch(sim, &layout.path(&gone, &at("m", false)));
        touch(sim, &gone.join("cursus.index"));
    };
    at_every_cut(
        prepare,
        |sim| layout.destroy(sim, Path::new(ROOT), &gone),
        |sim| {
            assert!(sim.stat(&gone).is_err());
            assert!(sim.stat(&dir_of(&layout, "A/B").join("cur")).is_ok());
        },
    );
}

#[test]
fn discover_reads_both_spellings_of_names() {
    let (layout, storage) = (Maildir::default(), Sim::new(1));
    let base = dir_of(&layout, "INBOX");
    let names = |storage: &Sim| -> Vec<String> {
        let found = layout.discover(storage, Path::new(ROOT), "alice").unwrap();
        found.into_iter().map(|mailbox| mailbox.name).collect()
    };
    assert!(names(&storage).is_empty());
    for sub in ["", ".Entw&APw-rfe", ".R&D", ".A.B", ".INBOX", "..x", ".x.", "visible"] {
        storage.create_dir_all(&base.join(sub).join("cur")).unwrap();
    }
    storage.create_dir(&base.join(".no-maildir")).unwrap();
    assert_eq!(names(&storage), ["INBOX", "A/B", "Entwürfe", "R&D"]);
    storage.create_dir_all(&base.join(".Müll/cur")).unwrap();
    assert_eq!(names(&storage), ["INBOX", "A/B", "Entw&APw-rfe", "Müll", "R&D"]);
}

#[test]
fn discover_finds_what_it_made_on_a_real_filesystem() {
    let temp = tempfile::tempdir().unwrap();
    let (layout, storage) = (Maildir::default(), Blocking::new());
    let wanted = ["INBOX", "Entwürfe", "Work", "Work/日本語"];
    for name in wanted {
        let dir = layout.mailbox_dir(temp.path(), "u@x.org", name).unwrap();
        layout.create(&storage, temp.path(), &dir).unwrap();
    }
    let found = layout.discover(&storage, temp.path(), "u@x.org").unwrap();
    let names: Vec<&str> = found.iter().map(|mailbox| mailbox.name.as_str()).collect();
    assert_eq!(names, wanted);
    for mailbox in &found {
        let dir = layout.mailbox_dir(temp.path(), "u@x.org", &mailbox.name).unwrap();
        assert_eq!(dir, mailbox.dir);
    }
}

#[test]
fn copies_of_shared_folders_lie_beside_folders() {
    let layout = Maildir { shared_folders: true, ..Maildir::default() };
    let dir = |name: &str| layout.mailbox_dir(Path::new("/r"), "jo", name);
    let copy = dir("#shared-folders/team/Open/Deep").unwrap();
    assert_eq!(copy, Path::new("/r/jo/shared-folders/team/Open.Deep"));
    assert!(lies_among_copies(&copy) && !lies_among_copies(Path::new("/r/jo/.Open")));
    for bad in [
        "#shared-folders/team",
        "#shared-folders//x",
        "#shared-folders/../x",
        "#shared-folders/a/..",
    ] {
        assert!(dir(bad).is_err(), "{bad}");
    }
    let plain = Maildir::default().mailbox_dir(Path::new("/r"), "jo", "#shared-folders/a/b");
    assert_eq!(plain.unwrap(), Path::new("/r/jo/.#shared-folders.a.b"));
}
