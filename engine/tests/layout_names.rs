//! Whatever names hold, paths stay below the partition, differ where names differ, and file
//! names of other programs come back byte for byte.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use engine::io::sim::Sim;
use engine::io::{Open, Storage};
use engine::layout::maildir::Names;
use engine::layout::{Cyrus, Layout, LayoutKind, LayoutOptions, Maildir, layout_for};
use proptest::prelude::*;

const ROOT: &str = "/root/of/partition";

fn layouts() -> Vec<Arc<dyn Layout>> {
    let options = LayoutOptions {
        user_path: "{domain}/{local}/mail".to_owned(),
        names: Names::ModifiedUtf7,
        hashed: false,
        full_hash: true,
    };
    vec![
        Arc::new(Maildir::default()),
        Arc::new(Cyrus::default()),
        Arc::new(Cyrus { hashed: true, full_hash: true }),
        layout_for(LayoutKind::Maildir, &options),
        layout_for(LayoutKind::Cyrus, &options),
    ]
}

fn stays_below(dir: &Path) -> bool {
    dir.starts_with(ROOT)
        && dir.components().skip(1).all(|part| {
            matches!(part, Component::Normal(name)
                if name.len() <= 255 && !name.as_bytes().iter().any(|b| *b < 0x20))
        })
}

/// Names that try: path syntax, escapes of either layout, and anything else.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just(".".to_owned()),
        Just("^".to_owned()),
        Just("%2F".to_owned()),
        Just("&AC8-".to_owned()),
        Just("@".to_owned()),
        Just("\0".to_owned()),
        Just("cur".to_owned()),
        "[a-z]{1,3}",
        "\\PC{1,2}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn mailbox_directories_stay_below_the_root(user in hostile(), mailbox in hostile()) {
        for layout in layouts() {
            if let Ok(dir) = layout.mailbox_dir(Path::new(ROOT), &user, &mailbox) {
                prop_assert!(stays_below(&dir), "{user:?} {mailbox:?} {dir:?}");
                let inbox = layout.mailbox_dir(Path::new(ROOT), &user, "INBOX").unwrap();
                prop_assert!(dir.starts_with(&inbox));
                prop_assert_eq!(dir == inbox, mailbox.eq_ignore_ascii_case("INBOX"));
            }
        }
    }

    #[test]
    fn different_names_have_different_directories(
        (user, mailbox) in (hostile(), hostile()),
        (other_user, other_mailbox) in (hostile(), hostile()),
    ) {
        let inbox = |name: &str| name.eq_ignore_ascii_case("INBOX");
        let same = user == other_user
            && (mailbox == other_mailbox || inbox(&mailbox) && inbox(&other_mailbox));
        for layout in layouts() {
            let dir = |user: &str, mailbox: &str| -> Option<PathBuf> {
                layout.mailbox_dir(Path::new(ROOT), user, mailbox).ok()
            };
            if let (Some(a), Some(b)) = (dir(&user, &mailbox), dir(&other_user, &other_mailbox)) {
                prop_assert_eq!(a == b, same, "{:?} {:?}", a, b);
            }
            if let (Some(a), Some(b)) = (dir(&user, "INBOX"), dir(&other_user, "INBOX")) {
                prop_assert_eq!(a == b, user == other_user, "{:?} {:?}", a, b);
            }
        }
    }

    #[test]
    fn file_names_of_other_programs_come_back(
        name in prop::collection::vec(
            prop_oneof![Just(b':'), Just(b'2'), Just(b','), Just(b'S'), Just(b'a'), any::<u8>()],
            1..40,
        ),
        in_new in any::<bool>(),
    ) {
        prop_assume!(!name.iter().any(|b| matches!(b, 0 | b'/')) && name[0] != b'.');
        let (layout, sim) = (Maildir::default(), Sim::new(1));
        let dir = layout.mailbox_dir(Path::new(ROOT), "alice", "INBOX").unwrap();
        layout.create(&sim, Path::new(ROOT), &dir).unwrap();
        let path = dir.join(if in_new { "new" } else { "cur" }).join(OsStr::from_bytes(&name));
        sim.open(&path, Open::CreateNew).unwrap();
        let mut found = Vec::new();
        layout.list(&sim, &dir, false, &mut |at| found.push(layout.path(&dir, &at))).unwrap();
        // A name without a base cannot be a message's.
        let colon = name.iter().rposition(|b| *b == b':');
        prop_assert_eq!(found, if colon == Some(0) { vec![] } else { vec![path] });
    }
}
