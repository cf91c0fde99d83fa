//! Large mailboxes piece by piece: PARTIAL (RFC 9394), MESSAGELIMIT and SAVELIMIT (RFC 9738),
//! UIDBATCHES (RFC 10022).

use crate::site::imap::{assert_lines, say};
use crate::site::{Site, on_a_core};
use config::Protocol;

/// RFC 9394 sections 3.1 to 3.4.
#[test]
fn windows_on_search_and_fetch() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        for i in 1..=9 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
        }
        // Sequence numbers and UIDs differ by one from here on.
        say(&site, "s SELECT INBOX\r\n1 STORE 1 +FLAGS (\\Deleted)\r\n2 EXPUNGE\r\n").await;
        let said = say(
            &site,
            "s SELECT INBOX\r\n1 UID SEARCH RETURN (PARTIAL -1:-3) UNDELETED\r\n\
             2 SEARCH RETURN (PARTIAL 7:20 COUNT) ALL\r\n3 SEARCH RETURN (PARTIAL 9:12) ALL\r\n\
             4 UID SEARCH RETURN (SAVE PARTIAL 3:2 MIN) ALL\r\n5 UID FETCH $ (UID)\r\n\
             6 UID SEARCH RETURN (SAVE PARTIAL 1:2 COUNT) UID 7:9\r\n7 UID FETCH $ (UID)\r\n\
             8 UID FETCH 2:6 (UID) (PARTIAL -1:-2)\r\n9 UID FETCH 1:* (UID) (PARTIAL 1:1)\r\n\
             10 UID FETCH 1:* (UID) (PARTIAL 20:30)\r\n11 FETCH 1:* (UID) (PARTIAL 1:2)\r\n\
             12 SEARCH RETURN (ALL PARTIAL 1:2) ALL\r\n\
             13 SEARCH RETURN (SAVE PARTIAL -1:-1 MIN MAX) ALL\r\n14 FETCH $ (UID)\r\n\
             15 STORE 2 +FLAGS.SILENT (\\Flagged)\r\n\
             16 UID FETCH 1:* (FLAGS) (PARTIAL 1:3 CHANGEDSINCE 11)\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* ESEARCH (TAG \"1\") UID PARTIAL (-1:-3 7:9)",
                "* ESEARCH (TAG \"2\") COUNT 8 PARTIAL (7:20 7:8)",
                "* ESEARCH (TAG \"3\") PARTIAL (9:12 NIL)",
                "* ESEARCH (TAG \"4\") UID MIN 2 PARTIAL (3:2 3:4)",
                "* 1 FETCH (UID 2)",
                "* 2 FETCH (UID 3)",
                "* 3 FETCH (UID 4)",
                "5 OK",
                "* ESEARCH (TAG \"6\") UID COUNT 3 PARTIAL (1:2 7:8)",
                "* 6 FETCH (UID 7)",
                "* 7 FETCH (UID 8)",
                "* 8 FETCH (UID 9)",
                "7 OK",
                "* 4 FETCH (UID 5)",
                "* 5 FETCH (UID 6)",
                "8 OK",
                "* 1 FETCH (UID 2)",
                "9 OK",
                "10 OK",
                "11 BAD",
                "12 BAD",
                "* ESEARCH (TAG \"13\") MIN 1 MAX 8 PARTIAL (-1:-1 8)",
                "* 1 FETCH (UID 2)",
                "* 8 FETCH (UID 9)",
                "14 OK",
                "* 2 FETCH (UID 3 FLAGS (\\Flagged) MODSEQ (",
                "16 OK",
            ],
        );
        // The last one twice: its MODSEQ, of the session's own STORE, was not told before.
        assert_eq!(said.matches(" FETCH (").count(), 13, "{said}");
    });
}

/// RFC 10022 sections 3 and 4.
#[test]
fn batches_tile_the_uids() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        let empty = say(&site, "s SELECT INBOX\r\n1 UIDBATCHES 500\r\n").await;
        assert!(empty.contains("* UIDBATCHES (TAG \"1\")\r\n1 OK"), "{empty}");
        let message = "{9+}\r\na: b\r\n\r\nc";
        let many = vec![message; 600].join(" ");
        let said = say(
            &site,
            &format!(
                "1 APPEND INBOX {many}\r\n2 APPEND INBOX {many}\r\n3 SELECT INBOX\r\n\
                 4 UID STORE 100:299 +FLAGS.SILENT (\\Deleted)\r\n5 EXPUNGE\r\n\
                 6 SEARCH RETURN (SAVE) 1\r\n7 UIDBATCHES 500\r\n8 UIDBATCHES 600 2:9\r\n\
                 9 UIDBATCHES 1000\r\n10 UIDBATCHES 500 3:4\r\n11 UIDBATCHES 499\r\n\
                 12 UIDBATCHES 500 20:10\r\n13 UIDBATCHES 500 1:100000\r\n14 UIDBATCHES x\r\n\
                 15 SEARCH $\r\n16 UNSELECT\r\n17 UIDBATCHES 500\r\n"
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "5 OK",
                "* UIDBATCHES (TAG \"7\") 1200:701,700:1",
                "7 OK",
                "* UIDBATCHES (TAG \"8\") 600:1",
                "8 OK",
                "* UIDBATCHES (TAG \"9\") 1200:1",
                "* UIDBATCHES (TAG \"10\")",
                "10 OK",
                "11 NO [TOOFEW]",
                "12 BAD [CLIENTBUG]",
                "13 NO [TOOMANY]",
                "14 BAD",
                "* SEARCH 1",
                "15 OK",
                "17 BAD",
            ],
        );
    });
}

/// RFC 9738 sections 3.1 to 3.3.
#[test]
fn commands_stop_at_the_message_limit() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| config.imap.message_limit = 3);
        for i in 1..=7 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
        }
        let message = "{9+}\r\na: b\r\n\r\nc";
        let four = [message; 4].join(" ");
        let said = say(
            &site,
            &format!(
                "0 CREATE x\r\ns SELECT INBOX\r\n1 CAPABILITY\r\n2 UID FETCH 1:* (UID)\r\n\
                 3 FETCH 1:3 (UID)\r\n4 UID FETCH 1:* (UID) (PARTIAL -1:-4)\r\n\
                 5 UID FETCH 1:* (UID) (PARTIAL 1:2)\r\n6 STORE 1:6 +FLAGS.SILENT (\\Flagged)\r\n\
                 7 UID SEARCH ALL\r\n8 UID SEARCH FLAGGED UIDBEFORE 5\r\n9 UID SEARCH UID 1:2 SUBJECT 2\r\n\
                 10 COPY 1:4 x\r\n11 COPY 1:3 x\r\n12 APPEND x {four}\r\n13 UID MOVE 1:4 x\r\n\
                 14 STORE 1:4 +FLAGS.SILENT (\\Deleted)\r\n15 STORE 1:3 +FLAGS.SILENT (\\Deleted)\r\n\
                 16 UID EXPUNGE 1:*\r\n17 STATUS x (MESSAGES)\r\n\
                 18 STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)\r\n19 EXPUNGE\r\n"
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "* CAPABILITY IMAP4rev1 ",
                "* 5 FETCH (UID 5)",
                "* 6 FETCH (UID 6)",
                "* 7 FETCH (UID 7)",
                "2 OK [MESSAGELIMIT 3 5]",
                "* 1 FETCH (UID 1)",
                "3 OK Completed",
                "4 NO [MESSAGELIMIT 3]",
                "* 1 FETCH (UID 1)",
                "* 2 FETCH (UID 2)",
                "5 OK Completed",
                "6 OK [MESSAGELIMIT 3 4]",
                "* SEARCH 5 6 7",
                "7 OK [MESSAGELIMIT 3 5]",
                "* SEARCH 4",
                "8 OK [MESSAGELIMIT 3 2]",
                "* SEARCH 2",
                "9 OK Completed",
                "10 NO [MESSAGELIMIT 3]",
                "11 OK [COPYUID ",
                "12 NO [MESSAGELIMIT 3]",
                "* OK [COPYUID ",
                "* 4 EXPUNGE",
                "* 3 EXPUNGE",
                "* 2 EXPUNGE",
                "13 OK [MESSAGELIMIT 3 2]",
                "14 OK [MESSAGELIMIT 3 5]",
                "15 OK Completed",
                "* 4 EXPUNGE",
                "* 3 EXPUNGE",
                "* 2 EXPUNGE",
                "16 OK [MESSAGELIMIT 3 5]",
                "* STATUS x (MESSAGES 6)",
                "18 OK [MODIFIED 1]",
                "* 1 EXPUNGE",
                "19 OK",
            ],
        );
        assert!(said.contains(" MESSAGELIMIT=3") && !said.contains("SAVELIMIT"), "{said}");
    });
}

/// RFC 9738 section 3.4.
#[test]
fn only_what_saves_stops_at_the_save_limit() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| config.imap.save_limit = 1);
        for i in 1..=3 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
        }
        let said = say(
            &site,
            "0 CREATE x\r\ns SELECT INBOX\r\n1 CAPABILITY\r\n2 SEARCH ALL\r\n\
             3 FETCH 1:3 (UID)\r\n4 COPY 1:2 x\r\n5 COPY 1 x\r\n6 MOVE 1:3 x\r\n\
             7 APPEND x {9+}\r\na: b\r\n\r\nc {9+}\r\na: b\r\n\r\nd\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* SEARCH 1 2 3",
                "2 OK Completed",
                "* 3 FETCH (UID 3)",
                "3 OK Completed",
                "4 NO [MESSAGELIMIT 1]",
                "5 OK [COPYUID ",
                "* 3 EXPUNGE",
                "6 OK [MESSAGELIMIT 1 3]",
                "7 NO [MESSAGELIMIT 1]",
            ],
        );
        assert!(said.contains(" SAVELIMIT=1") && !said.contains("MESSAGELIMIT="), "{said}");
    });
}
