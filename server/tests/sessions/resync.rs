//! CONDSTORE and QRESYNC: RFC 7162, as its examples have it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::site::gate::{GATED, Gate};
use crate::site::imap::{Client, assert_lines, say};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};

/// A site with `count` messages in INBOX.
async fn with_messages(layout: LayoutKind, count: usize) -> Site {
    let site = Site::new(Protocol::Imap, layout, |_| {});
    for i in 1..=count {
        site.store("jo", "INBOX", &format!("Subject: number {i}\r\n\r\nbody {i}\r\n")).await;
    }
    site
}

/// The number behind `name` in `said`.
#[track_caller]
fn number(said: &str, name: &str) -> u64 {
    let (_, rest) = said.split_once(name).unwrap_or_else(|| panic!("no {name:?} in {said}"));
    let digits = rest.trim_start_matches([' ', '(']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("no number behind {name:?} in {said}"))
}

/// UIDVALIDITY and HIGHESTMODSEQ of INBOX as a client would remember them.
async fn remembered(site: &Site) -> (u64, u64) {
    let said = say(site, "s SELECT INBOX\r\n").await;
    (number(&said, "[UIDVALIDITY"), number(&said, "[HIGHESTMODSEQ"))
}

/// Sections 3.2.3, 3.2.5.1 and 3.2.6.
#[test]
fn a_client_that_was_away_learns_what_changed_and_vanished() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 8).await;
        let (validity, before) = remembered(&site).await;
        say(
            &site,
            "s SELECT INBOX\r\n1 STORE 2,5 +FLAGS.SILENT (\\Deleted)\r\n2 EXPUNGE\r\n\
             3 UID STORE 3 +FLAGS.SILENT (\\Flagged $Work)\r\n4 CREATE x\r\n5 UID MOVE 7 x\r\n",
        )
        .await;
        let select = |tag: &str, known: &str| format!("{tag} SELECT INBOX (QRESYNC ({known}))\r\n");
        let said = say(&site, &select("1", &format!("{validity} {before}"))).await;
        assert_lines(&said, &["1 BAD ENABLE QRESYNC first"]);
        let script = format!(
            "e ENABLE QRESYNC\r\n{}{}{}{}{}",
            select("1", &format!("{validity} {before}")),
            select("2", &format!("{validity} {before} 1:3,6")),
            select("3", &format!("{} {before} 1:8", validity + 1)),
            "4 SELECT none (QRESYNC (1 1))\r\n5 FETCH 1 FLAGS\r\n",
            format_args!(
                "6 SELECT INBOX\r\n7 UID FETCH 2:6 (FLAGS) (CHANGEDSINCE {before} VANISHED)\r\n\
                 8 FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)\r\n"
            ),
        );
        let said = say(&site, &script).await;
        assert_lines(
            &said,
            &[
                "* ENABLED CONDSTORE QRESYNC",
                "e OK",
                "* 5 EXISTS",
                "* OK [HIGHESTMODSEQ ",
                "* VANISHED (EARLIER) 2,5,7",
                "* 2 FETCH (UID 3 FLAGS (\\Flagged $Work) MODSEQ (",
                "1 OK [READ-WRITE]",
                "* OK [CLOSED]",
                "* VANISHED (EARLIER) 2",
                "* 2 FETCH (UID 3 FLAGS (",
                "2 OK",
                "3 OK [READ-WRITE]",
                "* OK [CLOSED]",
                "4 NO [NONEXISTENT]",
                "5 BAD Select a mailbox first",
                "6 OK",
                "* VANISHED (EARLIER) 2,5",
                "* 2 FETCH (UID 3 FLAGS (\\Flagged $Work) MODSEQ (",
                "7 OK",
                "8 BAD",
            ],
        );
        assert_eq!(said.matches("* VANISHED").count(), 3, "{said}");
        assert_eq!(said.matches(" FETCH (").count(), 3, "{said}");
        let other =
            say(&site, "s SELECT INBOX\r\n1 UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)\r\n");
        assert_lines(&other.await, &["1 BAD ENABLE QRESYNC first"]);
    });
}

/// Section 3.2.6: `1:*` takes in UIDs above those of the messages that are left.
#[test]
fn a_last_message_that_is_gone_is_within_a_set_with_a_star() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 4).await;
        let (_, before) = remembered(&site).await;
        say(&site, "s SELECT INBOX\r\n1 STORE 2,4 +FLAGS.SILENT (\\Deleted)\r\n2 EXPUNGE\r\n")
            .await;
        let fetch = format!("1 UID FETCH 1:* FLAGS (CHANGEDSINCE {before} VANISHED)");
        let said = say(&site, &format!("e ENABLE QRESYNC\r\ns SELECT INBOX\r\n{fetch}\r\n")).await;
        assert_lines(&said, &["s OK", "* VANISHED (EARLIER) 2,4", "1 OK"]);
    });
}

/// Section 3.2.5.2: what the client shows to know is not told.
#[test]
fn pairs_that_match_bound_what_is_told() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 9).await;
        let (validity, before) = remembered(&site).await;
        let expunge = "s SELECT INBOX\r\n1 STORE 2,6,8 +FLAGS.SILENT (\\Deleted)\r\n2 EXPUNGE\r\n";
        say(&site, expunge).await;
        // There are now 1, 3, 4, 5, 7 and 9.
        let told = |pairs: &'static str| {
            let site = &site;
            async move {
                let select = format!("1 SELECT INBOX (QRESYNC ({validity} {before} 1:9{pairs}))");
                let said = say(site, &format!("e ENABLE QRESYNC\r\n{select}\r\n")).await;
                let line = said.lines().find(|line| line.starts_with("* VANISHED"));
                line.unwrap_or_default().trim_end().to_owned()
            }
        };
        assert_eq!(told("").await, "* VANISHED (EARLIER) 2,6,8");
        assert_eq!(told(" (1 1)").await, "* VANISHED (EARLIER) 2,6,8");
        assert_eq!(told(" (1,2:4 1,3:5)").await, "* VANISHED (EARLIER) 6,8");
        assert_eq!(told(" (4,5 5,6)").await, "* VANISHED (EARLIER) 6,8");
        assert_eq!(told(" (6 9)").await, "");
        assert_eq!(told(" (1:4294967295 3:4294967295)").await, "* VANISHED (EARLIER) 2,6,8");
    });
}

/// Sections 3.2.7 to 3.2.10 and RFC 6851: VANISHED in the place of EXPUNGE, HIGHESTMODSEQ with it,
/// never with CLOSE.
#[test]
fn removals_are_told_by_uid_with_the_highest_modseq() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 8).await;
        let script = "c CREATE x\r\ne ENABLE QRESYNC\r\ns SELECT INBOX\r\n\
            1 STORE 3:4,6 +FLAGS.SILENT (\\Deleted)\r\n2 UID EXPUNGE 6\r\n3 EXPUNGE\r\n\
            4 EXPUNGE\r\n5 UID MOVE 1:2 x\r\n6 STORE 1 +FLAGS.SILENT (\\Deleted)\r\n7 CLOSE\r\n\
            8 STATUS INBOX (HIGHESTMODSEQ MESSAGES)\r\n";
        let mut other = Client::login(&site, "e ENABLE QRESYNC\r\ns SELECT INBOX\r\n").await;
        other.until("s OK").await;
        let said = say(&site, script).await;
        assert_lines(
            &said,
            &[
                "1 OK",
                "* VANISHED 6",
                "2 OK [HIGHESTMODSEQ ",
                "* VANISHED 3:4",
                "3 OK [HIGHESTMODSEQ ",
                "4 OK Nothing",
                "* OK [COPYUID ",
                "* VANISHED 1:2",
                "5 OK [HIGHESTMODSEQ ",
                "7 OK Closed",
                "* STATUS INBOX (HIGHESTMODSEQ ",
            ],
        );
        assert!(!said.contains(" EXPUNGE\r\n"), "{said}");
        let highest = |tag: &str| number(&said, &format!("{tag} OK [HIGHESTMODSEQ"));
        assert!(highest("2") < highest("3") && highest("3") < highest("5"), "{said}");
        assert!(number(&said, "STATUS INBOX (HIGHESTMODSEQ") > highest("5"), "{said}");
        other.send("n NOOP\r\n").await;
        assert_lines(&other.until("n OK").await, &["* VANISHED 1:6"]);
        let said =
            say(&site, "s SELECT INBOX\r\n1 STORE 1 +FLAGS (\\Deleted)\r\n2 EXPUNGE\r\n").await;
        assert_lines(&said, &["* 1 EXPUNGE", "2 OK Expunged"]);
    });
}

/// Sections 3.2 and 6: while removals are held back, nobody is led to believe that all changes up
/// to a MODSEQ above theirs are known.
#[test]
fn the_highest_modseq_is_told_when_removals_are_held_back() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 3).await;
        let mut one = Client::login(&site, "e ENABLE QRESYNC\r\ns SELECT INBOX\r\n").await;
        let known = number(&one.until("s OK").await, "[HIGHESTMODSEQ");
        say(&site, "s SELECT INBOX\r\n1 STORE 3 +FLAGS.SILENT (\\Deleted)\r\n2 EXPUNGE\r\n").await;
        one.send("1 STORE 1 +FLAGS.SILENT (\\Seen)\r\n").await;
        let stored = one.until("1 OK").await;
        let modseq = number(&stored, "* 1 FETCH (UID 1 MODSEQ");
        assert!(modseq > known + 2, "{stored}");
        assert!(!stored.contains("VANISHED"), "{stored}");
        assert_eq!(number(&stored, "* OK [HIGHESTMODSEQ"), known, "{stored}");
        one.send("2 NOOP\r\n").await;
        let noop = one.until("2 OK").await;
        assert!(noop.contains("* VANISHED 3\r\n"), "{noop}");
        // Not within a UID SEARCH that names sequence numbers either.
        say(&site, "s SELECT INBOX\r\n1 STORE 2 +FLAGS.SILENT (\\Deleted)\r\n2 EXPUNGE\r\n").await;
        one.send("3 UID SEARCH 1:2\r\n").await;
        assert!(!one.until("3 OK").await.contains("VANISHED"));
        one.send("4 UID SEARCH UID 1:2\r\n").await;
        assert!(one.until("4 OK").await.contains("* VANISHED 2\r\n"));
    });
}

/// Section 3.1: the first command that enables CONDSTORE tells HIGHESTMODSEQ; section 3.2.11:
/// CLOSED for everybody.
#[test]
fn condstore_is_enabled_by_what_asks_for_modseqs() {
    on_a_core(|layout| async move {
        for (command, answer) in [
            ("FETCH 1 (MODSEQ)", "* 1 FETCH (MODSEQ ("),
            ("FETCH 1 (FLAGS) (CHANGEDSINCE 1)", "* 1 FETCH (FLAGS (\\Recent) MODSEQ ("),
            ("SEARCH MODSEQ 1", "* SEARCH 1 2 (MODSEQ "),
            ("SEARCH MODSEQ \"/flags/\\\\draft\" all 1", "* SEARCH 1 2 (MODSEQ "),
            ("STATUS INBOX (HIGHESTMODSEQ)", "* STATUS INBOX (HIGHESTMODSEQ "),
            ("ENABLE CONDSTORE", "* ENABLED CONDSTORE"),
            ("STORE 2 (UNCHANGEDSINCE 99) +FLAGS (\\Seen)", "* 2 FETCH (UID 2 FLAGS ("),
        ] {
            let site = with_messages(layout, 2).await;
            let script = format!(
                "s EXAMINE INBOX\r\nt SELECT INBOX\r\n1 {command}\r\n2 FETCH 1 (MODSEQ)\r\n\
                 3 STORE 1 +FLAGS (\\Draft)\r\n"
            );
            let said = say(&site, &script).await;
            let (selected, said) = said.split_once("t OK").unwrap();
            assert!(selected.contains("* OK [CLOSED]"), "{selected}");
            assert_lines(
                said,
                &[
                    "* OK [HIGHESTMODSEQ ",
                    "1 OK",
                    "2 OK",
                    "* 1 FETCH (UID 1 FLAGS (\\Draft \\Recent) MODSEQ",
                ],
            );
            assert!(said.contains(answer), "no {answer:?} in {said}");
            assert_eq!(said.matches("[HIGHESTMODSEQ ").count(), 1, "{command}: {said}");
        }
    });
}

/// A Maildir of 300 messages that another program wrote; those of some numbers wait at the gate.
fn planted(gated: impl Fn(u32) -> bool) -> (Site, Gate, std::path::PathBuf) {
    let gate = Gate::new();
    let storage = Arc::new(gate.clone());
    let site = Site::over(storage, Protocol::Imap, LayoutKind::Maildir, |_| {});
    let dir = site.path().join("mail/jo");
    for sub in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(dir.join(sub)).unwrap();
    }
    for n in 1..=300 {
        let base = format!("{}.M{n}.{}", 1_600_000_000 + n, if gated(n) { GATED } else { "host" });
        let path = dir.join(format!("cur/{base}:2,{}", if n < 7 { "S" } else { "" }));
        std::fs::write(path, format!("Subject: {n}\n\nbody\n")).unwrap();
    }
    (site, gate, dir)
}

fn on_one_core(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_foreign_maildir_is_selected_before_its_messages_are_read() {
    on_one_core(async {
        let (site, gate, _) = planted(|n| n == 200);
        let mut client = Client::login(&site, "1 SELECT INBOX\r\n").await;
        let said = client.until("1 OK").await;
        let lines = ["* 300 EXISTS", "* 300 RECENT", "* OK [UNSEEN 7]", "* OK [UIDNEXT 301]"];
        assert_lines(&said, &lines);
        client.send("2 LIST \"\" *\r\n").await;
        assert_lines(&client.until("2 OK").await, &["* LIST"]);
        // Another session shares in it, and one that wants messages waits.
        let mut other = Client::login(&site, "1 EXAMINE INBOX\r\n").await;
        assert_lines(&other.until("1 OK").await, &["* 300 EXISTS", "* OK [UIDNEXT 301]"]);
        other.send("2 STATUS INBOX (MESSAGES SIZE)\r\n").await;
        client.send("3 FETCH 7,300 (UID FLAGS RFC822.SIZE)\r\n4 SEARCH RECENT\r\n").await;
        let early = tokio::time::timeout(Duration::from_millis(200), client.until("* 7 FETCH"));
        assert!(early.await.is_err(), "told of a message that nobody has read");
        gate.open_it();
        let said = client.until("4 OK").await;
        let size = "Subject: 300\r\n\r\nbody\r\n".len();
        let last = format!("* 300 FETCH (UID 300 FLAGS (\\Recent) RFC822.SIZE {size})");
        assert_lines(&said, &["* 7 FETCH (UID 7 FLAGS", &last, "3 OK", "* SEARCH 1 2 3 4"]);
        assert!(!said.contains("EXPUNGE") && !said.contains("EXISTS"), "{said}");
        assert_lines(&other.until("2 OK").await, &["* STATUS INBOX (MESSAGES 300 SIZE "]);
    });
}

#[test]
fn flags_are_told_before_messages_are_read_and_changes_since() {
    on_one_core(async {
        let (site, gate, _) = planted(|n| n == 200);
        let mut client = Client::login(&site, "1 SELECT INBOX\r\n").await;
        client.until("1 OK").await;
        client.send("2 FETCH 1:* (UID FLAGS)\r\n3 UID FETCH 6:7,299:* FLAGS\r\n").await;
        let said = client.until("3 OK").await;
        let (all, some) = said.split_once("2 OK").unwrap();
        assert_eq!(all.matches("FETCH (UID ").count(), 300);
        assert_lines(
            all,
            &["* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent))", "* 300 FETCH (UID 300 FLAGS"],
        );
        let lines = [6, 7, 299, 300].map(|n| {
            let seen = if n < 7 { "\\Seen " } else { "" };
            format!("* {n} FETCH (UID {n} FLAGS ({seen}\\Recent))\r\n")
        });
        assert!(some.contains(&lines.concat()), "{some}");
        // What is not plain, or needs more, waits.
        for command in ["FETCH 301 FLAGS", "FETCH 1 (FLAGS MODSEQ)", "FETCH 1 FAST"] {
            let mut other = Client::login(&site, "1 EXAMINE INBOX\r\n").await;
            other.until("1 OK").await;
            other.send(&format!("2 {command}\r\n")).await;
            let answer = tokio::time::timeout(Duration::from_millis(50), other.until("\r\n2 "));
            assert!(answer.await.is_err(), "{command} was answered");
        }
        gate.open_it();
        let mut other = Client::login(&site, "1 SELECT INBOX\r\n").await;
        other
            .send("2 STORE 8,200 +FLAGS (\\Flagged $Later)\r\n3 STORE 9 -FLAGS (\\Draft)\r\n")
            .await;
        other.until("3 OK").await;
        site.store("jo", "INBOX", "Subject: new\r\n\r\nbody\r\n").await;
        client.send("4 NOOP\r\n5 NOOP\r\n").await;
        let said = client.until("5 OK").await;
        let lines = [
            "* FLAGS (",
            "* 8 FETCH (FLAGS (\\Flagged $Later",
            "* 200 FETCH (FLAGS (\\Flagged $Later",
        ];
        assert_lines(&said, &lines);
        assert_eq!(said.matches("FETCH").count(), 2, "{said}");
        assert_eq!(said.matches("* 301 EXISTS").count(), 1, "{said}");
    });
}

#[test]
fn messages_that_vanish_before_they_are_read_are_expunged() {
    on_one_core(async {
        let (site, gate, dir) = planted(|n| n == 2 || n == 300);
        let mut client = Client::login(&site, "1 SELECT INBOX\r\n").await;
        assert_lines(&client.until("1 OK").await, &["* 300 EXISTS"]);
        for n in [2, 300] {
            let letters = if n < 7 { "S" } else { "" };
            let name = format!("cur/{}.M{n}.{GATED}:2,{letters}", 1_600_000_000 + n);
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        gate.open_it();
        client
            .send(
                "2 FETCH 3 (FLAGS INTERNALDATE)\r\n3 UID SEARCH UID 297:305\r\n4 FETCH 298 UID\r\n",
            )
            .await;
        let said = client.until("4 OK").await;
        let lines =
            ["2 NO [EXPUNGEISSUED]", "* 300 EXPUNGE", "* 2 EXPUNGE", "* SEARCH 297 298 299"];
        assert_lines(&said, &lines);
        assert_lines(&said, &["3 OK", "* 298 FETCH (UID 299)"]);
        site.store("jo", "INBOX", "Subject: new\r\n\r\nbody\r\n").await;
        client.send("5 NOOP\r\n6 FETCH 299 UID\r\n").await;
        assert_lines(&client.until("6 OK").await, &["* 299 EXISTS", "* 299 FETCH (UID 301)"]);
    });
}
