//! Searching bodies while another program changes flags: in a Maildir every such change renames
//! the file that the search is about to open.

use std::path::{Path, PathBuf};

use config::{LayoutKind, Protocol};
use tokio::task::LocalSet;

use crate::site::imap::ask;

const MESSAGES: usize = 20;

/// The message files of the one Maildir below `dir`.
fn message_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default();
        if path.is_dir() {
            message_files(&path, out);
        } else if parent == "cur" || parent == "new" {
            out.push(path);
        }
    }
}

#[test]
fn a_search_misses_no_message_whose_file_was_renamed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let site = crate::site::Site::new(Protocol::Imap, LayoutKind::Maildir, |_| {});
        for n in 0..MESSAGES {
            site.store("jo", "INBOX", &format!("Subject: {n}\r\n\r\nneedle\r\n")).await;
        }
        let mut client = site.connect();
        let login = format!("a LOGIN jo {}\r\nb SELECT INBOX\r\n", crate::site::PASSWORD);
        ask(&mut client, &login, "b OK").await;
        for letters in ["F", "FS", "", "S"] {
            let mut files = Vec::new();
            message_files(&site.services.config().partition[0].path, &mut files);
            assert_eq!(files.len(), MESSAGES);
            for file in files {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                let base = name.split(":2,").next().unwrap();
                let cur = file.parent().unwrap().with_file_name("cur");
                std::fs::rename(&file, cur.join(format!("{base}:2,{letters}"))).unwrap();
            }
            let command = "s SEARCH RETURN (COUNT) BODY needle\r\n";
            let said = ask(&mut client, command, "s OK").await;
            assert!(said.contains(&format!("COUNT {MESSAGES}")), "{letters:?}: {said}");
        }
    });
}
