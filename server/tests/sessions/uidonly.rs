//! Commands and answers by UID alone: RFC 9586.

use crate::site::imap::{assert_lines, say};
use crate::site::{Site, on_a_core};
use config::Protocol;

/// RFC 9586 sections 3.1 to 3.4.
#[test]
fn with_uidonly_no_sequence_number_is_told_or_taken() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        for i in 1..=4 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
        }
        say(&site, "s SELECT INBOX\r\n1 STORE 1 +FLAGS (\\Deleted)\r\n2 EXPUNGE\r\n").await;
        let said = say(
            &site,
            "1 CREATE x\r\ne ENABLE UIDONLY CONDSTORE\r\n2 SELECT INBOX\r\n3 FETCH 1 FLAGS\r\n\
             4 UID FETCH 2:3 (FLAGS)\r\n5 UID FETCH 4 (UID BODY[TEXT])\r\n\
             6 STORE 1 +FLAGS (\\Seen)\r\n7 UID STORE 2 +FLAGS (\\Flagged)\r\n\
             8 UID STORE 2 +FLAGS.SILENT (\\Deleted)\r\n9 SEARCH ALL\r\n10 UID SEARCH 1:2\r\n\
             11 UID SEARCH UID 3:*\r\n12 COPY 1 x\r\n13 MOVE 1 x\r\n14 UID EXPUNGE 2\r\n\
             15 UID MOVE 3 x\r\n16 UID SEARCH NOT (OR SEEN 3)\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* ENABLED UIDONLY CONDSTORE",
                "* 3 EXISTS",
                "2 OK",
                "3 BAD [UIDREQUIRED]",
                "* 2 UIDFETCH (FLAGS (",
                "* 3 UIDFETCH (FLAGS (",
                "4 OK",
                "* 4 UIDFETCH (UID 4 BODY[TEXT] {6}",
                " FLAGS (\\Seen",
                "5 OK",
                "6 BAD [UIDREQUIRED]",
                "* 2 UIDFETCH (FLAGS (\\Flagged",
                "7 OK",
                "* 2 UIDFETCH (MODSEQ (",
                "8 OK",
                "9 BAD [UIDREQUIRED]",
                "10 BAD [UIDREQUIRED]",
                "* SEARCH 3 4",
                "11 OK",
                "12 BAD [UIDREQUIRED]",
                "13 BAD [UIDREQUIRED]",
                "* VANISHED 2",
                "14 OK",
                "* VANISHED 3",
                "15 OK",
                "16 BAD [UIDREQUIRED]",
            ],
        );
        assert!(!said.contains(" FETCH (") && !said.contains(" EXPUNGE\r\n"), "{said}");
        assert!(!said.contains("[UNSEEN"), "{said}");
    });
}

/// RFC 9586 section 3.6: QRESYNC works but for sequence numbers.
#[test]
fn uidonly_and_qresync_go_together() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        for i in 1..=3 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
        }
        let selected = say(&site, "s SELECT INBOX\r\n").await;
        let (_, rest) = selected.split_once("[UIDVALIDITY ").unwrap();
        let validity = rest.split_once(']').unwrap().0;
        say(&site, "s SELECT INBOX\r\n1 STORE 1 +FLAGS (\\Deleted)\r\n2 EXPUNGE\r\n").await;
        let said = say(
            &site,
            &format!(
                "e ENABLE QRESYNC UIDONLY\r\n1 SELECT INBOX (QRESYNC ({validity} 1 1:9 (1 1)))\r\n\
                 2 SELECT INBOX (QRESYNC ({validity} 1))\r\n"
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "* ENABLED CONDSTORE QRESYNC UIDONLY",
                "1 BAD [UIDREQUIRED]",
                "* VANISHED (EARLIER) 1",
                "* 2 UIDFETCH (FLAGS (",
                "* 3 UIDFETCH (FLAGS (",
                "2 OK",
            ],
        );
    });
}
