//! IMAP sessions, scripted: what the RFCs show, every cut of the input, hostile clients.

use std::time::Duration;

use crate::site::imap::{Client, assert_lines, say, without_large_numbers};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, PlainLogin, Protocol};
use tokio::io::AsyncReadExt;

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |_| {})
}

/// A message with two parts, the first in base64: `hello world`.
const PARTS: &str = "From: Fred <fred@example.org>\r\nTo: a@b\r\nSubject: Grüße\r\n\
    Date: Wed, 17 Jul 1996 02:23:25 -0700\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
    aGVsbG8gd29ybGQ=\r\n--x\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: x-odd\r\n\r\n\
    <b>x</b>\r\n--x--\r\n";

/// Store `count` small messages in INBOX.
async fn with_messages(layout: LayoutKind, count: usize) -> Site {
    let site = imap(layout);
    for i in 1..=count {
        let message = format!("Subject: number {i}\r\n\r\nbody {i}\r\n");
        site.store("jo", "INBOX", &message).await;
    }
    site
}

/// Ids and numbers that differ from run to run (MAILBOXID, UIDVALIDITY), as `N`.
fn without_what_differs(said: &str) -> String {
    const ID: &str = "MAILBOXID (F";
    let mut pieces = said.split(ID);
    let mut masked = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        masked.push_str(ID);
        masked.push_str(&piece[32..]);
    }
    without_large_numbers(&masked)
}

/// RFC 3501 section 8.
#[test]
fn the_session_of_rfc_3501_section_8() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", PARTS).await;
        let said = say(
            &site,
            "a002 select inbox\r\na003 fetch 1 full\r\na004 fetch 1 body[header]\r\n\
             a005 store 1 +flags \\deleted\r\na006 logout\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)",
                "* 1 EXISTS",
                "* 1 RECENT",
                "* OK [UNSEEN 1]",
                "* OK [UIDVALIDITY ",
                "a002 OK [READ-WRITE] ",
                "* 1 FETCH (FLAGS (\\Recent) INTERNALDATE \"",
                "a003 OK ",
                "* 1 FETCH (BODY[HEADER] {",
                "Subject: ",
                " FLAGS (\\Seen \\Recent))",
                "a004 OK ",
                "* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent))",
                "a005 OK ",
                "* BYE ",
                "a006 OK ",
            ],
        );
        assert!(said.contains("\"Wed, 17 Jul 1996 02:23:25 -0700\""), "{said}");
        assert!(said.contains("((\"Fred\" NIL \"fred\" \"example.org\"))"), "{said}");
    });
}

/// APPEND, COPY, STORE, SEARCH, EXPUNGE, with literals of both kinds; nothing that depends on
/// where the input is cut.
#[test]
fn every_cut_of_a_session_gives_the_same_answers() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let script = "l LOGIN {2}\r\njo {6+}\r\ngeheim\r\n1 CREATE {1+}\r\nx\r\n2 SELECT x\r\n\
                      3 APPEND x (\\Seen) {9}\r\na: b\r\n\r\nc {9+}\r\nd: e\r\n\r\nf\r\n\
                      4 FETCH 1:2 (UID BODY[]<5.9>)\r\n5 STORE 1 +FLAGS.SILENT \\Deleted\r\n\
                      6 SEARCH RETURN (ALL) BODY {1}\r\nf\r\n7 IDLE\r\nDONE\r\n8 EXPUNGE\r\n\
                      9 x\r\n10 APPEND y {9+}\r\na: b\r\n\r\nc\r\n11 DELETE x\r\n12 LOGOUT\r\n";
        let whole = without_what_differs(&site.talk(&[script.as_bytes()]).await);
        assert_lines(
            &whole,
            &[
                "l OK [CAPABILITY ",
                "1 OK",
                "2 OK [READ-WRITE]",
                "* 2 EXISTS",
                "3 OK [APPENDUID N 1:2]",
                "* 1 FETCH (UID 1 BODY[]<5> {4}",
                "4 OK",
                "5 OK",
                "* ESEARCH (TAG \"6\") ALL 2",
                "7 OK",
                "* 1 EXPUNGE",
                "8 OK",
                "9 BAD Unknown command",
                "10 NO [TRYCREATE]",
                "11 OK",
                "* BYE",
                "12 OK",
            ],
        );
        for i in 1..script.len() {
            let (a, b) = script.as_bytes().split_at(i);
            let said = without_what_differs(&site.talk(&[a, b]).await);
            assert_eq!(said, whole, "cut at {i}");
        }
        let bytes: Vec<&[u8]> = script.as_bytes().chunks(1).collect();
        assert_eq!(without_what_differs(&site.talk(&bytes).await), whole, "byte by byte");
    });
}

#[test]
fn commands_out_of_their_state_are_refused() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = site
            .say(
                "1 SELECT INBOX\r\n2 FETCH 1 FLAGS\r\n3 LOGIN jo nein\r\n\
                 4 AUTHENTICATE X-FROB\r\n5 LOGIN jo geheim\r\n6 LOGIN jo geheim\r\n\
                 7 FETCH 1 FLAGS\r\n8 EXAMINE INBOX\r\n9 STORE 1 FLAGS ()\r\n10 EXPUNGE\r\n\
                 11 UNSELECT\r\n12 CLOSE\r\n",
            )
            .await;
        assert_lines(
            &said,
            &[
                "* OK [CAPABILITY IMAP4rev1 IMAP4rev2 ",
                "1 BAD Log in first",
                "2 BAD",
                "3 NO [AUTHENTICATIONFAILED]",
                "4 NO",
                "5 OK",
                "6 BAD Already logged in",
                "7 BAD Select a mailbox first",
                "8 OK [READ-ONLY]",
                "9 NO",
                "10 NO",
                "11 OK",
                "12 BAD",
            ],
        );
    });
}

#[test]
fn no_password_is_taken_in_the_clear_where_that_is_forbidden() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.listener(|listener| listener.plain_login = PlainLogin::Never);
        let said = site.say("1 LOGIN jo geheim\r\n2 AUTHENTICATE PLAIN AGpvAGdlaGVpbQ==\r\n").await;
        assert!(said.contains("LOGINDISABLED") && !said.contains("AUTH=PLAIN"), "{said}");
        assert_lines(&said, &["1 NO [PRIVACYREQUIRED]", "2 NO [PRIVACYREQUIRED]"]);
    });
}

#[test]
fn authenticate_with_and_without_initial_response() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let ir = site.say("1 AUTHENTICATE PLAIN AGpvAGdlaGVpbQ==\r\n").await;
        assert_lines(&ir, &["1 OK [CAPABILITY "]);
        let said = site
            .say(
                "1 AUTHENTICATE PLAIN\r\n*\r\n2 AUTHENTICATE PLAIN\r\n!!\r\n\
                 3 AUTHENTICATE LOGIN\r\nam8=\r\nZ2VoZWlt\r\n",
            )
            .await;
        let wanted = ["+ ", "1 BAD", "+ ", "2 BAD", "+ VXNlcm5hbWU6", "+ UGFzc3dvcmQ6", "3 OK"];
        assert_lines(&said, &wanted);
    });
}

/// RFC 7162 section 3.1.
#[test]
fn condstore() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 3).await;
        let mut client = Client::login(&site, "s SELECT INBOX (CONDSTORE)\r\n").await;
        let state = client.until("s OK").await;
        let highest: u64 = {
            let (_, rest) = state.split_once("[HIGHESTMODSEQ ").unwrap();
            rest.split_once(']').unwrap().0.parse().unwrap()
        };
        client.send("1 STORE 2 +FLAGS (\\Flagged $Work)\r\n").await;
        let stored = client.until("1 OK").await;
        let modseq = highest + 1;
        assert!(
            stored.contains(&format!(
                "* 2 FETCH (UID 2 FLAGS (\\Flagged $Work \\Recent) MODSEQ ({modseq}))"
            )),
            "{stored}"
        );
        client.send(&format!("2 FETCH 1:* (UID) (CHANGEDSINCE {highest})\r\n")).await;
        let changed = client.until("2 OK").await;
        assert!(changed.contains(&format!("* 2 FETCH (UID 2 MODSEQ ({modseq}))")), "{changed}");
        assert_eq!(changed.matches("FETCH (").count(), 1, "{changed}");

        let store = format!("3 STORE 1:3 (UNCHANGEDSINCE {highest}) +FLAGS.SILENT (\\Draft)\r\n");
        client.send(&store).await;
        let silent = client.until("3 OK [MODIFIED 2]").await;
        assert!(silent.contains("* 1 FETCH (UID 1 MODSEQ ("), "{silent}");
        assert!(!silent.contains("* 2 FETCH"), "{silent}");

        client.send(&format!("4 SEARCH MODSEQ {modseq}\r\n")).await;
        let found = client.until("4 OK").await;
        assert!(found.contains(&format!("* SEARCH 1 2 3 (MODSEQ {})", modseq + 1)), "{found}");
        client.send(&format!("5 UID SEARCH RETURN (MIN) MODSEQ {modseq} FLAGGED\r\n")).await;
        let found = client.until("5 OK").await;
        let wanted = format!("* ESEARCH (TAG \"5\") UID MIN 2 MODSEQ {modseq}");
        assert!(found.contains(&wanted), "{found}");
        client.send("6 STATUS INBOX (HIGHESTMODSEQ)\r\n").await;
        let status = client.until("6 OK").await;
        assert!(status.contains(&format!("(HIGHESTMODSEQ {})", modseq + 1)), "{status}");
        client.send("7 STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)\r\n").await;
        client.until("7 OK [MODIFIED 1]").await;
    });
}

/// RFC 4731 and RFC 5182.
#[test]
fn esearch_and_saved_results() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 4).await;
        let said = say(
            &site,
            "s SELECT INBOX\r\n1 STORE 2,4 +FLAGS.SILENT (\\Flagged)\r\n\
             2 SEARCH RETURN (MIN MAX COUNT ALL) FLAGGED\r\n3 SEARCH RETURN () UNFLAGGED\r\n\
             4 SEARCH RETURN (COUNT) TEXT nothing\r\n5 SEARCH RETURN (MIN) TEXT nothing\r\n\
             6 SEARCH RETURN (SAVE) FLAGGED\r\n7 FETCH $ (UID)\r\n8 UID SEARCH UID $ SUBJECT 4\r\n\
             9 SEARCH RETURN (SAVE MIN) ALL\r\n10 UID FETCH $ (FLAGS)\r\n\
             11 SEARCH NOT $\r\n12 UID STORE $ +FLAGS (\\Deleted)\r\n13 EXPUNGE\r\n\
             14 FETCH $ (UID)\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* ESEARCH (TAG \"2\") MIN 2 MAX 4 COUNT 2 ALL 2,4",
                "* ESEARCH (TAG \"3\") ALL 1,3",
                "* ESEARCH (TAG \"4\") COUNT 0",
                "* ESEARCH (TAG \"5\")",
                "5 OK",
                "6 OK",
                "* 2 FETCH (UID 2)",
                "* 4 FETCH (UID 4)",
                "7 OK",
                "* SEARCH 4",
                "* ESEARCH (TAG \"9\") MIN 1",
                "* 1 FETCH (UID 1 FLAGS",
                "10 OK",
                "* SEARCH 2 3 4",
                "* 1 FETCH (UID 1 FLAGS (\\Deleted",
                "* 1 EXPUNGE",
                "13 OK",
                "14 OK",
            ],
        );
        assert!(!said.contains("* ESEARCH (TAG \"6\")"), "{said}");
    });
}

/// RFC 3516.
#[test]
fn binary_parts_are_decoded() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", PARTS).await;
        let said = say(
            &site,
            "s SELECT INBOX\r\n1 FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])\r\n\
             2 FETCH 1 BINARY.PEEK[1]<6.3>\r\n3 FETCH 1 BINARY.PEEK[2]\r\n\
             4 APPEND INBOX ~{11}\r\na: b\r\n\r\nc\0d\r\n5 FETCH 2 BODY.PEEK[TEXT]\r\n\
             6 FETCH 2 (BINARY.SIZE[1] BINARY.PEEK[1]<1.9>)\r\n7 FETCH 1 BINARY.SIZE[2]\r\n\
             8 FETCH 1 (BINARY[1])\r\n9 FETCH 1 BINARY.PEEK[9]\r\n\
             10 APPEND INBOX (\\Seen) ~{9+}\r\na: b\r\n\r\nc ~{9+}\r\na: b\r\n\r\n\0\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* 1 FETCH (BINARY[1] {11}",
                "hello world BINARY.SIZE[1] 11)",
                "* 1 FETCH (BINARY[1]<6> {3}",
                "wor)",
                "3 NO [UNKNOWN-CTE]",
                "4 OK [APPENDUID",
                "* 2 FETCH (BODY[TEXT] {3}",
                "c\0d)",
                "5 OK",
                "* 2 FETCH (BINARY.SIZE[1] 3 BINARY[1]<1> ~{2}",
                "\0d)",
                "6 OK",
                "7 NO [UNKNOWN-CTE]",
                "* 1 FETCH (BINARY[1] {11}",
                "hello world FLAGS (\\Seen \\Recent))",
                "8 OK",
                "* 1 FETCH (BINARY[9] NIL)",
                "9 OK",
                "10 OK [APPENDUID ",
            ],
        );
    });
}

/// RFC 3502: all messages or none.
#[test]
fn append_of_several_messages() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.limits.message_bytes_max = 1000;
        });
        let large = "x".repeat(1001);
        let fits = "y".repeat(1000);
        let said = say(
            &site,
            &format!(
                "1 APPEND INBOX (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {{9+}}\r\na: b\r\n\r\nc \
                 {{9+}}\r\nd: e\r\n\r\nf\r\n\
                 2 APPEND INBOX {{9+}}\r\na: b\r\n\r\nc {{1001+}}\r\n{large} {{2+}}\r\nzz\r\n\
                 3 APPEND INBOX {{1000+}}\r\n{fits}\r\n4 APPEND INBOX {{1001}}\r\n\
                 5 APPEND INBOX {{9+}}\r\na: b\r\n\r\nc (\\Frob) {{1+}}\r\nx\r\n\
                 6 APPEND INBOX {{9+}}\r\na: b\r\n\r\nc x\r\n7 APPEND none {{9+}}\r\na: b\r\n\r\nc\r\n\
                 8 APPEND INBOX {{0+}}\r\n\r\n9 SELECT INBOX\r\n10 FETCH 1:2 (FLAGS INTERNALDATE)\r\n"
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "1 OK [APPENDUID ",
                "2 NO [TOOBIG]",
                "3 OK [APPENDUID ",
                "4 NO [TOOBIG]",
                "5 BAD",
                "6 BAD",
                "7 NO [TRYCREATE]",
                "8 NO",
                "* 3 EXISTS",
                "* 1 FETCH (FLAGS (\\Seen \\Recent) INTERNALDATE \"17-Jul-1996 09:44:25 +0000\")",
                "* 2 FETCH (FLAGS (\\Recent)",
                "10 OK",
            ],
        );
    });
}

/// Refused before the client has to send it: the message follows only after `+`.
#[test]
fn append_over_quota_is_refused_at_its_announcement() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.store.quota_bytes = 100;
        });
        let said =
            say(&site, "1 APPEND INBOX {101}\r\n2 APPEND INBOX {9}\r\na: b\r\n\r\nc\r\n").await;
        assert_lines(&said, &["1 NO [OVERQUOTA]", "+ ", "2 OK"]);
        assert_eq!(said.matches("+ ").count(), 1, "{said}");
    });
}

/// RFC 6851 and RFC 4315.
#[test]
fn move_copy_and_uid_expunge() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 5).await;
        let said = say(
            &site,
            "c CREATE x\r\ns SELECT INBOX\r\n1 UID MOVE 1:2 x\r\n2 COPY 1 x\r\n3 MOVE 1 none\r\n\
             4 STORE 1:3 +FLAGS.SILENT (\\Deleted)\r\n5 UID EXPUNGE 4\r\n6 UID COPY 999 x\r\n\
             7 CLOSE\r\n8 STATUS INBOX (MESSAGES)\r\n9 STATUS x (MESSAGES UNSEEN)\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* OK [COPYUID ",
                "* 2 EXPUNGE",
                "* 1 EXPUNGE",
                "1 OK",
                "2 OK [COPYUID ",
                "3 NO [TRYCREATE]",
                "4 OK",
                "* 2 EXPUNGE",
                "5 OK",
                "6 OK",
                "7 OK",
                "* STATUS INBOX (MESSAGES 0)",
                "* STATUS x (MESSAGES 3 UNSEEN 3)",
            ],
        );
    });
}

/// RFC 5258, 5819, 6154.
#[test]
fn list_in_all_its_forms() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = say(
            &site,
            "1 CREATE Fruit/Apple\r\n2 CREATE Sent (USE (\\Sent))\r\n3 SUBSCRIBE Fruit/Apple\r\n\
             4 CREATE Entw&APw-rfe\r\n5 LIST \"\" %\r\n6 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %\r\n\
             7 LIST \"\" (Sent INBOX) RETURN (STATUS (MESSAGES))\r\n8 LIST (SPECIAL-USE) \"\" *\r\n\
             9 LSUB \"\" %\r\n10 LSUB Fruit/ *\r\n11 LIST \"\" \"\"\r\n12 RENAME Fruit Veg\r\n\
             13 LIST \"\" V*\r\n14 CREATE INBOX\r\n15 CREATE Sent\r\n16 DELETE none\r\n\
             17 CREATE a&b\r\n18 DELETE INBOX\r\n19 DELETE Veg\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "4 OK",
                "* LIST (\\HasNoChildren) \"/\" Entw&APw-rfe",
                "* LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" Fruit",
                "* LIST (\\HasNoChildren) \"/\" INBOX",
                "* LIST (\\HasNoChildren \\Sent) \"/\" Sent",
                "5 OK",
                "* LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" Fruit (\"CHILDINFO\"",
                "6 OK",
                "* LIST (\\HasNoChildren) \"/\" INBOX",
                "* STATUS INBOX (MESSAGES 0)",
                "* LIST (\\HasNoChildren \\Sent) \"/\" Sent",
                "* STATUS Sent (MESSAGES 0)",
                "* LIST (\\HasNoChildren \\Sent) \"/\" Sent",
                "8 OK",
                "* LSUB (\\Noselect) \"/\" Fruit",
                "* LSUB () \"/\" Fruit/Apple",
                "* LIST (\\Noselect) \"/\" \"\"",
                "12 OK",
                "* LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" Veg",
                "* LIST (\\HasNoChildren) \"/\" Veg/Apple",
                "14 NO [ALREADYEXISTS]",
                "15 NO [ALREADYEXISTS]",
                "16 NO [NONEXISTENT]",
                "17 BAD",
                "18 NO [CANNOT]",
                "19 NO [HASCHILDREN]",
            ],
        );
    });
}

/// RFC 2971 section 4, RFC 2342 section 5.
#[test]
fn id_and_namespace() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = say(
            &site,
            "1 ID (\"name\" \"sodr\" \"version\" \"19.34\" \"address\" NIL)\r\n2 ID NIL\r\n\
             3 ID (\"name\")\r\n4 NAMESPACE\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* ID (\"name\" \"Cursus\"",
                "1 OK",
                "* ID (",
                "2 OK",
                "3 BAD",
                "* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) NIL",
                "4 OK",
            ],
        );
    });
}

/// RFC 9051: what ENABLE IMAP4rev2 changes.
#[test]
fn rev2() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 2).await;
        let said = say(
            &site,
            "e ENABLE IMAP4rev2 X-NONE\r\n1 CREATE \"Entwürfe\"\r\n2 SELECT INBOX\r\n\
             3 SEARCH ALL\r\n4 RENAME Entwürfe {4+}\r\nNeue\r\n5 RENAME \"Entwürfe\" Neue\r\n\
             6 SELECT Neue\r\n7 STATUS INBOX (SIZE DELETED)\r\n8 LIST \"\" N*\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* ENABLED IMAP4rev2",
                "1 OK",
                "* 2 EXISTS",
                "* LIST () \"/\" INBOX",
                "2 OK",
                "* ESEARCH (TAG \"3\") ALL 1:2",
                "4 BAD",
                "* LIST () \"/\" Neue (\"OLDNAME\" (\"Entwürfe\"))",
                "5 OK",
                "* OK [CLOSED]",
                "6 OK",
                "* STATUS INBOX (SIZE ",
                "* LIST (\\HasNoChildren) \"/\" Neue",
            ],
        );
        assert!(!said.contains("RECENT") && !said.contains("\\Recent"), "{said}");
    });
}

#[test]
fn idle_tells_of_new_mail_at_once() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 1).await;
        let mut client = Client::login(&site, "s SELECT INBOX\r\ni IDLE\r\n").await;
        client.until("+ idling\r\n").await;
        let started = std::time::Instant::now();
        site.store("jo", "INBOX", "a: b\r\n\r\nc\r\n").await;
        client.until("* 2 EXISTS\r\n").await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let mut other =
            Client::login(&site, "s SELECT INBOX\r\n1 STORE 1 +FLAGS (\\Deleted)\r\n").await;
        client.until("* 1 FETCH (FLAGS (\\Deleted").await;
        other.send("2 EXPUNGE\r\n").await;
        client.until("* 1 EXPUNGE\r\n").await;
        client.send("DONE\r\n").await;
        client.until("i OK").await;
    });
}

/// RFC 3501 section 7.4.1: not within FETCH, STORE, SEARCH.
#[test]
fn sequence_numbers_hold_still_until_a_sync_point() {
    on_a_core(|layout| async move {
        let site = with_messages(layout, 3).await;
        let mut client = Client::login(&site, "s SELECT INBOX\r\n").await;
        client.until("s OK").await;
        let gone =
            say(&site, "s SELECT INBOX\r\n1 STORE 1 +FLAGS (\\Deleted)\r\n2 EXPUNGE\r\n").await;
        assert_lines(&gone, &["* 1 EXPUNGE", "2 OK"]);
        client.send("1 FETCH 1:3 (UID)\r\n2 STORE 3 +FLAGS (\\Flagged)\r\n3 SEARCH ALL\r\n").await;
        let said = client.until("3 OK").await;
        assert!(!said.contains("EXPUNGE"), "{said}");
        assert_lines(&said, &["* 3 FETCH (UID 3)", "* 3 FETCH (FLAGS (\\Flagged"]);
        client.send("4 FETCH 1 BODY[]\r\n").await;
        let body = client.until("4 ").await;
        assert!(!body.contains("EXPUNGE"), "{body}");
        client.send("5 NOOP\r\n").await;
        let said = client.until("5 OK").await;
        assert_lines(&said, &["* 1 EXPUNGE"]);
        client.send("6 FETCH 1:2 (UID)\r\n").await;
        let said = client.until("6 OK").await;
        assert_lines(&said, &["* 1 FETCH (UID 2)", "* 2 FETCH (UID 3)"]);
    });
}

#[test]
fn a_large_message_streams_to_a_slow_reader_byte_for_byte() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let line = "0123456789 abcdefghijklmnopqrstuvwxyz\r\n";
        let message = format!("Subject: large\r\n\r\n{}", line.repeat(100_000));
        site.store("jo", "INBOX", &message).await;
        let mut client = Client::login(&site, "s SELECT INBOX\r\n1 FETCH 1 BODY[]\r\n").await;
        client.until(&format!("BODY[] {{{}}}\r\n", message.len())).await;
        let mut got = std::mem::take(&mut client.read).into_bytes();
        let mut buffer = vec![0; 10_000];
        while got.len() < message.len() {
            tokio::task::yield_now().await;
            let n = client.stream.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            got.extend_from_slice(&buffer[..n]);
        }
        assert!(got[..message.len()] == *message.as_bytes());
    });
}

#[test]
fn hostile_input_is_answered_and_survived() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let long = "x".repeat(70_000);
        let deep = "(".repeat(5000);
        let not = "NOT ".repeat(5000);
        let literal = "y".repeat(70_000);
        let said = say(
            &site,
            &format!(
                "s SELECT INBOX\r\n1 LIST \"\" {long}\r\n2 SEARCH {deep}ALL\r\n3 SEARCH {not}ALL\r\n\
                 4 CREATE {{70000+}}\r\n{literal}\r\n5 CREATE {{99999999999}}\r\n\
                 6 CREATE &Jjo-&Jjo-\r\n7 FETCH 1:99999999999 FLAGS\r\n\
                 8 SEARCH CHARSET frob ALL\r\n9 NOOP\r\n"
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "1 BAD [LIMIT]",
                "2 BAD",
                "3 BAD",
                "4 BAD [TOOBIG]",
                "5 BAD [TOOBIG]",
                "6 BAD",
                "7 BAD",
                "8 NO [BADCHARSET (",
                "9 OK",
            ],
        );
        let garbage: Vec<u8> = (0..2000u32).map(|n| (n * 7919 % 251) as u8).collect();
        let said = site.talk(&[&garbage, b"\r\n\r\n\0\0\r\nx\r\n1 CAPABILITY\r\n"]).await;
        assert_lines(&said, &["* BAD", "1 OK"]);
        let said = site.talk(&["x\r\n".repeat(50).as_bytes()]).await;
        assert_lines(&said, &["x BAD", "* BYE"]);
    });
}

#[test]
fn text_behind_starttls_is_never_taken_as_if_it_were_protected() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = site.say("1 STARTTLS\r\n2 CAPABILITY\r\n").await;
        assert!(!said.contains("2 OK"), "{said}");
    });
}

#[test]
fn an_idle_session_is_small() {
    on_a_core(|layout| async move {
        let bytes = imap(layout).session_bytes();
        assert!(bytes <= 3 << 10, "{bytes}");
    });
}
