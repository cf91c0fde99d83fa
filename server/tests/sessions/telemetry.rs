//! Transcripts of sessions in directories of users, as Cyrus has them in `log/`.

use std::path::Path;
use std::time::Duration;

use config::{LayoutKind, Protocol};

use crate::site::imap::Client;
use crate::site::{Site, on_a_core};

fn site(protocol: Protocol, layout: LayoutKind, dir: &Path) -> Site {
    Site::new(protocol, layout, |config| config.telemetry.dir = dir.to_owned())
}

/// The one file of a user, once it has `end`.
pub(crate) async fn transcript(dir: &Path, user: &str, end: &str) -> String {
    let mut text = String::new();
    for _ in 0..2000 {
        let files: Vec<_> =
            std::fs::read_dir(dir.join(user)).unwrap().map(|f| f.unwrap()).collect();
        if let [file] = files.as_slice() {
            text = std::fs::read_to_string(file.path()).unwrap();
            if text.contains(end) {
                return text;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {end:?} in {text:?}");
}

/// The text without times, which differ; of its marks those stay where another side speaks.
fn without_times(text: &str) -> String {
    let (head, text) = text.split_once("\n\n").unwrap();
    assert!(head.starts_with("---------- "), "{head}");
    let mut kept = String::new();
    let (mut rest, mut last) = (text, "");
    while let Some(at) = rest.find(['<', '>']) {
        let mark = &rest[at..at + 1];
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        kept.push_str(before);
        rest = match after.split_once(mark) {
            Some((seconds, behind)) if seconds.bytes().all(|b| b.is_ascii_digit()) => {
                if last != mark {
                    kept.push_str(mark);
                }
                last = mark;
                behind
            }
            _ => {
                kept.push_str(mark);
                after
            }
        };
    }
    kept + rest
}

#[test]
fn imap_is_recorded_from_the_login_on_without_passwords() {
    on_a_core(|layout| async move {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("jo")).unwrap();
        let site = site(Protocol::Imap, layout, dir.path());
        // All at once, and a client that logs in again.
        let said = site
            .say(
                "1 NOOP\r\n2 LOGIN jo geheim\r\n3 NOOP\r\n4 LOGIN jo {6+}\r\ngeheim\r\n\
                 5 AUTHENTICATE PLAIN AGpvAGdlaGVpbQ==\r\n6 APPEND INBOX {7+}\r\nhello\r\n\r\n\
                 7 LOGOUT\r\n",
            )
            .await;
        assert!(said.contains("\r\n7 OK"), "{said}");
        let text = without_times(&transcript(dir.path(), "jo", "7 OK").await);
        assert!(!text.contains("geheim") && !text.contains("AGpv"), "{text}");
        assert!(!text.contains("NOOP\r\n2 ") && !text.contains("1 OK"), "{text}");
        assert!(text.contains("2 OK [CAPABILITY "), "{text}");
        for line in [
            "3 NOOP\r\n4 LOGIN (not recorded)\r\n5 AUTHENTICATE (not recorded)\r\n",
            "6 APPEND INBOX {7+}\r\nhello\r\n\r\n7 LOGOUT\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        // Nobody asked for others' transcripts, and a file is no directory.
        std::fs::write(dir.path().join("bob"), "").unwrap();
        for user in ["bob", "fred"] {
            let said = site.say(&format!("1 LOGIN {user} geheim\r\n2 LOGOUT\r\n")).await;
            assert!(said.contains("\r\n2 OK"), "{said}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    });
}

#[test]
fn what_is_told_without_a_command_is_recorded_and_a_lost_directory_harms_nobody() {
    on_a_core(|layout| async move {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("jo")).unwrap();
        let site = site(Protocol::Imap, layout, dir.path());
        let mut idle = Client::login(&site, "1 SELECT INBOX\r\n2 IDLE\r\n").await;
        idle.until("+ ").await;
        site.store("jo", "INBOX", "Subject: x\r\n\r\nx\r\n").await;
        idle.until("* 1 EXISTS").await;
        let text = without_times(&transcript(dir.path(), "jo", "* 1 EXISTS\r\n").await);
        assert!(text.contains("<1 SELECT INBOX\r\n2 IDLE\r\n>"), "{text}");
        std::fs::remove_dir_all(dir.path().join("jo")).unwrap();
        idle.send("DONE\r\n3 FETCH 1 UID\r\n").await;
        idle.until("3 OK").await;
        idle.send("4 NOOP\r\n5 NOOP\r\n").await;
        idle.until("5 OK").await;
        assert!(!dir.path().join("jo").exists());
    });
}

#[test]
fn the_other_protocols_have_files_of_their_own() {
    on_a_core(|layout| async move {
        let dir = tempfile::tempdir().unwrap();
        for user in ["jo", "postman", "bob"] {
            std::fs::create_dir(dir.path().join(user)).unwrap();
        }
        let lmtp = site(Protocol::Lmtp, layout, dir.path());
        let script = "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<jo@example.org>\r\nDATA\r\nhello\r\n.\r\n\
                      QUIT\r\n";
        lmtp.say(script).await;
        let text = without_times(&transcript(dir.path(), "postman", "221").await);
        assert!(text.starts_with(">220 ") && text.contains("\r\n354 "), "{text}");
        assert!(text.contains("DATA\r\nhello\r\n.\r\n"), "{text}");
        let lmtp = Site::new(Protocol::Lmtp, layout, |config| {
            config.telemetry.dir = dir.path().to_owned();
            config.lmtp.users = vec!["bob".to_owned()];
        });
        lmtp.say("LHLO c\r\nAUTH PLAIN AGJvYgBnZWhlaW0=\r\nNOOP\r\nQUIT\r\n").await;
        let text = without_times(&transcript(dir.path(), "bob", "221").await);
        assert!(text.contains("<NOOP\r\nQUIT\r\n"), "{text}");
        assert!(!text.contains("AGJvYg"), "{text}");
        let pop3 = site(Protocol::Pop3, layout, dir.path());
        pop3.store("jo", "INBOX", "Subject: x\r\n\r\nx\r\n").await;
        pop3.say("USER jo\r\nPASS geheim\r\nRETR 1\r\nPASS geheim\r\nQUIT\r\n").await;
        let text = without_times(&transcript(dir.path(), "jo", "bye").await);
        assert!(text.contains("Subject: x\r\n\r\nx\r\n.\r\n"), "{text}");
        assert!(text.contains("RETR 1\r\nPASS (not recorded)\r\n"), "{text}");
        assert!(!text.contains("geheim"), "{text}");
        let files = std::fs::read_dir(dir.path().join("jo")).unwrap();
        let names: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names[0].starts_with("pop3-"), "{names:?}");
    });
}
