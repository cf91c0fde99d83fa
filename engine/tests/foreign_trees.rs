//! The layouts read trees that other servers wrote: `fixtures/layouts/*.paths` list the paths of
//! stores made by Courier 5.0, Dovecot 2.3 and Cyrus 3.6 (directories end in `/`).

use std::path::{Path, PathBuf};

use engine::io::sim::Sim;
use engine::io::{Open, Storage};
use engine::layout::{Cyrus, Layout, Maildir};
use protocol::types::SystemFlags;

const ROOT: &str = "/store";

fn tree(paths: &str) -> Sim {
    let sim = Sim::new(1);
    for line in paths.lines() {
        let path = Path::new(ROOT).join(line);
        if line.ends_with('/') {
            sim.create_dir_all(&path).unwrap();
        } else {
            sim.create_dir_all(path.parent().unwrap()).unwrap();
            sim.open(&path, Open::Create).unwrap();
        }
    }
    sim
}

/// Name and messages of every mailbox of a user. Each listed location must be the file's path.
fn mailboxes(layout: &dyn Layout, sim: &Sim, user: &str) -> Vec<(String, usize)> {
    let found = layout.discover(sim, Path::new(ROOT), user).unwrap();
    let count = |dir: &Path| {
        let mut paths: Vec<PathBuf> = Vec::new();
        layout.list(sim, dir, false, &mut |at| paths.push(layout.path(dir, &at))).unwrap();
        for path in &paths {
            assert!(sim.stat(path).is_ok(), "{path:?} is listed and not there");
        }
        paths.len()
    };
    found.iter().map(|mailbox| (mailbox.name.clone(), count(&mailbox.dir))).collect()
}

fn pairs(found: &[(String, usize)]) -> Vec<(&str, usize)> {
    found.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}

#[test]
fn courier() {
    let sim = tree(include_str!("fixtures/layouts/courier-5.0.paths"));
    let layout = Maildir { user_path: "{user}/Maildir".to_owned(), ..Maildir::default() };
    let wanted = [
        ("INBOX", 7),
        ("Drop", 0),
        ("Entwürfe", 1),
        ("Sent", 1),
        ("Trash", 0),
        ("Work", 3),
        ("Work/Projects", 1),
    ];
    assert_eq!(pairs(&mailboxes(&layout, &sim, "alice")), wanted);
    assert_eq!(pairs(&mailboxes(&layout, &sim, "bob")), [("INBOX", 1)]);
    let dir = layout.mailbox_dir(Path::new(ROOT), "alice", "INBOX").unwrap();
    let mut deleted = 0;
    let mut see = |at: engine::layout::Found| {
        deleted += usize::from(at.flags.system().contains(SystemFlags::DELETED));
    };
    layout.list(&sim, &dir, false, &mut see).unwrap();
    assert_eq!(deleted, 1);
}

#[test]
fn dovecot_with_its_names_in_modified_utf7() {
    let sim = tree(include_str!("fixtures/layouts/dovecot-2.3.paths"));
    let layout = Maildir { user_path: "{user}/Maildir".to_owned(), ..Maildir::default() };
    let found = mailboxes(&layout, &sim, "alice");
    let wanted = [
        ("INBOX", 7),
        ("Entwürfe", 1),
        ("Sent", 2),
        ("Trash", 0),
        ("Work", 3),
        ("Work/Projects", 1),
    ];
    assert_eq!(pairs(&found), wanted);
}

#[test]
fn cyrus_with_hashed_directories() {
    let sim = tree(include_str!("fixtures/layouts/cyrus-3.6.paths"));
    let layout = Cyrus::default();
    let wanted = [
        ("INBOX", 8),
        ("Entwürfe", 1),
        ("Sent", 0),
        ("Team", 2),
        ("Trash", 0),
        ("Work", 3),
        ("Work/Projects", 1),
    ];
    assert_eq!(pairs(&mailboxes(&layout, &sim, "alice")), wanted);
    assert_eq!(pairs(&mailboxes(&layout, &sim, "john.doe")), [("INBOX", 0)]);
    assert_eq!(pairs(&mailboxes(&layout, &sim, "bob")), [("INBOX", 2)]);
}
