//! Messages made on the server: REPLACE (RFC 8508), CATENATE (RFC 4469), and UTF-8 in headers and
//! names (RFC 6855). What the RFCs show, and what must not happen.

use crate::site::imap::{assert_lines, say};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol, Utf8};

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |_| {})
}

/// `text` as a literal that waits for nothing.
fn literal(text: &str) -> String {
    format!("{{{}+}}\r\n{text}", text.len())
}

const HEADER: &str = "Date: Thu, 1 Jan 2015 00:05:00 -0500 (EST)\r\n\
    From: Fritz Schmidt <fritz.ze@example.org>\r\nMIME-Version: 1.0\r\n";
const TEXT: &str = "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n\
    Just saw the best fireworks show. Wish you were here.\r\n";

/// RFC 8508 sections 3.2, 3.3 and 4.2.
#[test]
fn replace_puts_a_message_in_anothers_place() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for i in 1..=4 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\n{i}\r\n")).await;
        }
        let draft = format!("{HEADER}{TEXT}");
        let said = say(
            &site,
            &format!(
                "1 CREATE Drafts\r\n2 SELECT INBOX\r\n\
                 A003 REPLACE 4 INBOX (\\Seen \\Draft) {}\r\n\
                 A004 UID REPLACE 5 INBOX (\\Draft) {}\r\n\
                 A005 UID REPLACE 6 Drafts CATENATE (TEXT {} URL \"/INBOX/;UID=6\")\r\n\
                 6 FETCH 1:* (UID FLAGS)\r\n7 SELECT Drafts\r\n8 FETCH 1 BODY.PEEK[]\r\n",
                literal(&draft),
                literal(&format!("{draft}Hopefully next year you can join us.\r\n")),
                literal("To: Mitzy <miss.mitzy@example.org>\r\n"),
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "* 4 EXISTS",
                "* OK [APPENDUID ",
                "* 4 EXPUNGE",
                "* 4 EXISTS",
                "A003 OK Replaced",
                "* OK [APPENDUID ",
                "* 4 EXPUNGE",
                "* 4 EXISTS",
                "A004 OK Replaced",
                "* OK [APPENDUID ",
                "* 4 EXPUNGE",
                "A005 OK Replaced",
                "* 1 FETCH (UID 1 ",
                "* 3 FETCH (UID 3 ",
                "6 OK",
                "* 1 EXISTS",
                "* 1 FETCH (BODY[] {",
                "To: Mitzy",
                "Date: Thu, 1 Jan",
                "Hopefully next year",
                "8 OK",
            ],
        );
        assert!(said.contains("] Replacement message ready\r\n* 4 EXPUNGE"), "{said}");
        // No flags are inherited, and nothing is told of a STORE.
        assert!(!said.contains("\\Deleted)"), "{said}");
        assert_eq!(said.matches(" FETCH (").count(), 4, "{said}");
    });
}

#[test]
fn replace_that_fails_changes_nothing() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", "Subject: x\r\n\r\nx\r\n").await;
        let message = literal("a: b\r\n\r\nc\r\n");
        let said = say(
            &site,
            &format!(
                "1 REPLACE 1 INBOX {message}\r\n2 SELECT INBOX\r\n3 REPLACE 2 INBOX {message}\r\n\
                 4 UID REPLACE 9 INBOX {message}\r\n5 REPLACE 1 Nowhere {message}\r\n\
                 6 REPLACE 1 INBOX {message} {message}\r\n7 REPLACE 1 INBOX {{0+}}\r\n\r\n\
                 8 REPLACE 1 INBOX\r\n9 REPLACE 0 INBOX {message}\r\n\
                 10 REPLACE 1 INBOX CATENATE (URL /INBOX/;UID=7)\r\n11 EXAMINE INBOX\r\n\
                 12 REPLACE 1 INBOX {message}\r\n13 UID FETCH 1:* FLAGS\r\n"
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "1 BAD Select a mailbox first",
                "3 BAD Sequence number",
                "4 NO [NONEXISTENT]",
                "5 NO [TRYCREATE]",
                "6 BAD One message replaces one",
                "7 NO [CANNOT] Empty message",
                "8 BAD ",
                "9 BAD ",
                "10 NO [BADURL /INBOX/;UID=7]",
                "12 NO [READ-ONLY]",
                "* 1 FETCH (UID 1 ",
                "13 OK",
            ],
        );
        assert_eq!(said.matches(" FETCH (").count(), 1, "{said}");
    });
}

/// A draft may be replaced by one that is as large however full the quota is.
#[test]
fn replace_counts_what_it_frees() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let message = |bytes: usize| literal(&format!("a: b\r\n\r\n{}\r\n", "x".repeat(bytes)));
        let said = site
            .say(&format!(
                "l LOGIN full geheim\r\n1 APPEND INBOX {}\r\n2 SELECT INBOX\r\n3 APPEND INBOX {}\r\n\
                 4 REPLACE 1 INBOX {}\r\n5 REPLACE 1 INBOX {}\r\n",
                message(1500),
                message(1500),
                message(1600),
                message(2500)
            ))
            .await;
        assert_lines(&said, &["1 OK", "3 NO [OVERQUOTA]", "4 OK", "5 NO [OVERQUOTA]"]);
        assert_eq!(site.messages("full", "INBOX").await.len(), 1);
    });
}

/// RFC 4469 section 3: the examples' shape, with the parts that are there.
#[test]
fn catenate_makes_messages_of_literals_and_parts() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let original = "From: Fred <fred@example.org>\r\nSubject: two parts\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\n\
             one\r\n--x\r\nContent-Type: text/html\r\n\r\n<b>two</b>\r\n--x--\r\n";
        site.store("jo", "INBOX", original).await;
        let said = say(
            &site,
            &format!(
                "1 CREATE Drafts\r\n2 APPEND Drafts (\\Seen \\Draft) CATENATE (\
                 URL \"/INBOX/;UID=1/;section=HEADER\" TEXT {} URL \"/INBOX/;UID=1/;section=2.MIME\" \
                 URL {} TEXT {} URL /INBOX/;UID=1/;SECTION=1/;PARTIAL=1.2 TEXT {})\r\n\
                 3 APPEND Drafts CATENATE (URL /INBOX/;UID=1) (\\Flagged) {} CATENATE (TEXT {})\r\n\
                 4 SELECT INBOX\r\n5 APPEND Drafts CATENATE (\
                 URL \";UID=1/;SECTION=HEADER.FIELDS%20(Subject)\" URL \"/;UID=1/;SECTION=1\")\r\n\
                 6 FETCH 1 FLAGS\r\n",
                literal("\r\n--y\r\n"),
                literal("/INBOX/;UID=1/;SECTION=2"),
                literal("\r\n--y\r\n\r\n"),
                literal("\r\n--y--\r\n"),
                literal("a: b\r\n\r\nc\r\n"),
                literal("d: e\r\n\r\nf\r\n"),
            ),
        )
        .await;
        // No \Seen by copying.
        assert_lines(
            &said,
            &["2 OK [APPENDUID ", "3 OK [APPENDUID ", "5 OK", "* 1 FETCH (FLAGS (\\Recent))"],
        );
        let header = original.split_once("\r\n\r\n").unwrap().0;
        assert_eq!(
            site.messages("jo", "Drafts").await,
            [
                format!(
                    "{header}\r\n\r\n\r\n--y\r\nContent-Type: text/html\r\n\r\n<b>two</b>\r\n--y\r\n\r\n\
                     ne\r\n--y--\r\n"
                ),
                original.to_owned(),
                "a: b\r\n\r\nc\r\n".to_owned(),
                "d: e\r\n\r\nf\r\n".to_owned(),
                "Subject: two parts\r\n\r\none".to_owned(),
            ]
        );
    });
}

#[test]
fn catenate_adds_nothing_if_one_part_fails() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.limits.message_bytes_max = 64 << 10;
        });
        let body = "x".repeat(40 << 10);
        site.store("jo", "INBOX", &format!("Subject: x\r\n\r\n{body}\r\n")).await;
        let (text, other) = (literal("a: b\r\n\r\nc\r\n"), literal(&"y".repeat(30 << 10)));
        let urls = [
            "/INBOX/;UID=2",
            "/INBOX;UIDVALIDITY=7/;UID=1",
            "/Nowhere/;UID=1",
            "/INBOX/;UID=1/;SECTION=3",
            "imap://jo@mail.example.org/INBOX/;UID=1",
            "/INBOX",
            ";UID=1",
            "http://example.org/",
        ];
        for url in urls {
            let script = format!(
                "1 APPEND INBOX {text} CATENATE (TEXT {text} URL \"{url}\" TEXT {text} URL b)\r\n\
                 2 APPEND INBOX CATENATE (URL \"{url}\")\r\n\
                 3 APPEND INBOX CATENATE (URL {} TEXT {text})\r\n",
                literal(url)
            );
            let said = say(&site, &script).await;
            let code = format!("[BADURL {url}]");
            for tag in 1..=3 {
                assert_lines(&said, &[&format!("{tag} NO {code} ")]);
            }
        }
        let said = say(
            &site,
            &format!(
                "1 APPEND INBOX CATENATE (URL /INBOX/;UID=1 URL /INBOX/;UID=1)\r\n\
                 2 APPEND INBOX CATENATE (URL /INBOX/;UID=1 TEXT {other})\r\n\
                 3 APPEND INBOX CATENATE (TEXT {text}\r\n4 APPEND INBOX CATENATE ()\r\n\
                 5 APPEND INBOX CATENATE (TEXT {{0+}}\r\n)\r\n6 APPEND INBOX CATENATE (FROB {text})\r\n\
                 7 APPEND INBOX CATENATE (URL /INBOX/;UID=1)\r\n"
            ),
        )
        .await;
        assert_lines(
            &said,
            &["1 NO [TOOBIG]", "2 NO [TOOBIG]", "3 BAD", "4 BAD", "5 NO [CANNOT]", "6 BAD", "7 OK"],
        );
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
    });
}

#[test]
fn every_cut_of_a_composition_gives_the_same_answers() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", "Subject: x\r\n\r\nbody\r\n").await;
        let script = "l LOGIN jo geheim\r\n1 CREATE x\r\n2 SELECT x\r\n\
                      3 APPEND x CATENATE (TEXT {6}\r\na: b\r\n URL /INBOX/;UID=1 URL {13+}\r\n\
                      /INBOX/;UID=1) UTF8 (~{9+}\r\na: b\r\n\r\nc)\r\n\
                      4 REPLACE 1 x CATENATE (URL /INBOX/;UID=1)\r\n5 FETCH 1:* BODY[]\r\n\
                      6 DELETE x\r\n";
        let whole = site.say(script).await;
        // Numbers and mailbox ids differ from run to run.
        let without = |said: &str| {
            let lines = said.split("\r\n").filter(|line| !line.contains("[MAILBOXID "));
            let text: Vec<&str> = lines.collect();
            text.join("\n").chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
        };
        assert_lines(&whole, &["3 OK", "4 OK", "* 2 FETCH (BODY[] {20}", "5 OK", "6 OK"]);
        for cut in 1..script.len() {
            let (a, b) = script.as_bytes().split_at(cut);
            assert_eq!(without(&site.talk(&[a, b]).await), without(&whole), "cut at {cut}");
        }
    });
}

/// RFC 6855 sections 3 and 4.
#[test]
fn utf8_is_for_clients_that_enable_it() {
    on_a_core(|layout| async move {
        let refuses = |config: &mut config::Config| config.imap.refuse_8bit_headers = true;
        let site = Site::new(Protocol::Imap, layout, refuses);
        let message = "Subject: Grüße\r\nFrom: Jö <jö@example.org>\r\n\r\nx\r\n";
        let said = say(
            &site,
            &format!(
                "1 CAPABILITY\r\n2 CREATE \"Entwürfe\"\r\n3 LIST \"\" *\r\n\
                 4 APPEND INBOX {plain}\r\n5 ENABLE UTF8=ACCEPT\r\n6 LIST \"\" *\r\n\
                 7 APPEND \"Entwürfe\" UTF8 (~{plain})\r\n8 APPEND INBOX {plain}\r\n\
                 9 STATUS \"Entwürfe\" (MESSAGES)\r\n10 ENABLE UTF8=ACCEPT FROB\r\n\
                 11 SELECT \"\u{65e5}\u{672c}\"\r\n",
                plain = literal(message),
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "* CAPABILITY ",
                "2 OK",
                "* LIST (\\HasNoChildren) \"/\" Entw&APw-rfe",
                "3 OK",
                "4 NO [CANNOT]",
                "* ENABLED UTF8=ACCEPT",
                "5 OK",
                "* LIST (\\HasNoChildren) \"/\" \"Entwürfe\"",
                "7 OK [APPENDUID ",
                "8 OK",
                "* STATUS \"Entwürfe\" (MESSAGES 1)",
                "* ENABLED\r",
            ]
            .map(|line| line.trim_end_matches('\r')),
        );
        assert!(said.contains(" UTF8=ACCEPT") && !said.contains("UTF8=ONLY"), "{said}");
        assert_eq!(site.messages("jo", "Entwürfe").await, [message]);
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.imap.refuse_8bit_headers = false;
        });
        let said = say(&site, &format!("1 APPEND INBOX {}\r\n", literal(message))).await;
        assert_lines(&said, &["1 OK"]);
    });
}

/// RFC 3516 section 6.
#[test]
fn binary_parts_are_stored_in_base64() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let head = "Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n";
        let (message, other) = (format!("{head}a\0b"), format!("{head}plain"));
        let said = say(
            &site,
            &format!(
                "1 APPEND INBOX ~{}\r\n2 APPEND INBOX {}\r\n3 SELECT INBOX\r\n\
                 4 FETCH 1 (BODY BODY.PEEK[1] BINARY.PEEK[1] BINARY.SIZE[1])\r\n\
                 5 FETCH 2 (BODY BODY.PEEK[1])\r\n",
                literal(&message),
                literal(&other)
            ),
        )
        .await;
        let expected = [
            "1 OK",
            "2 OK",
            "* 1 FETCH (BODY (\"application\" \"x\" NIL NIL NIL \"base64\" 6) BODY[1] {6}",
            "YQBi",
            " BINARY[1] ~{3}",
            "a\0b BINARY.SIZE[1] 3)",
            "4 OK",
            "* 2 FETCH (BODY (\"application\" \"x\" NIL NIL NIL \"binary\" 5) BODY[1] {5}",
        ];
        assert_lines(&said, &expected);
    });
}

/// RFC 6855 section 3: strings are UTF-8 then. IMAP4rev2 alone does not forbid it.
#[test]
fn searches_name_no_charset_once_utf8_is_accepted() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", "Subject: Grüße\r\n\r\nx\r\n").await;
        let said = say(
            &site,
            "0 SELECT INBOX\r\n1 SEARCH CHARSET UTF-8 SUBJECT {8+}\r\ngrüße \r\n\
             2 ENABLE IMAP4rev2\r\n3 SEARCH CHARSET UTF-8 SUBJECT \"grüße\"\r\n\
             4 ENABLE UTF8=ACCEPT\r\n5 SEARCH CHARSET UTF-8 SUBJECT \"grüße\"\r\n\
             6 UID SEARCH RETURN (MIN) CHARSET US-ASCII ALL\r\n7 SEARCH SUBJECT \"grüße\"\r\n\
             8 SORT (ARRIVAL) UTF-8 SUBJECT \"grüße\"\r\n\
             9 ESEARCH IN (inboxes) CHARSET UTF-8 ALL\r\n",
        )
        .await;
        let expected = [
            "1 OK",
            "* ESEARCH (TAG \"3\") ALL 1",
            "3 OK",
            "5 BAD [BADCHARSET (UTF-8)]",
            "6 BAD [BADCHARSET (UTF-8)]",
            "* ESEARCH (TAG \"7\") ALL 1",
            "7 OK",
            "* SORT 1",
            "8 OK",
            "9 BAD [BADCHARSET (UTF-8)]",
        ];
        assert_lines(&said, &expected);
    });
}

/// RFC 6855 sections 7 and 8: what came by LMTP is there for everybody, in a form that each takes.
#[test]
fn envelopes_are_downgraded_for_clients_without_utf8() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let message = "Subject: Grüße\r\nFrom: Jö <jö@example.org>\r\nTo: a@b\r\n\r\nx\r\n";
        site.store("jo", "INBOX", message).await;
        let said = say(
            &site,
            "1 SELECT INBOX\r\n2 FETCH 1 ENVELOPE\r\n3 ENABLE UTF8=ACCEPT\r\n4 FETCH 1 ENVELOPE\r\n",
        )
        .await;
        let (old, new) = said.split_once("3 OK").unwrap();
        assert!(old.is_ascii(), "{old}");
        assert!(
            old.contains(
                "(NIL \"=?UTF-8?B?R3LDvMOfZQ==?=\" ((\"=?UTF-8?B?SsO2?=\" NIL \"invalid\" "
            ),
            "{old}"
        );
        assert!(old.contains("((NIL NIL \"a\" \"b\"))"), "{old}");
        assert!(new.contains("Grüße") && new.contains("jö"), "{new}");
    });
}

/// RFC 6855 section 6.
#[test]
fn utf8_only_refuses_clients_that_do_not_enable_it() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| config.imap.utf8 = Utf8::Only);
        let said = say(
            &site,
            &format!(
                "1 CAPABILITY\r\n2 SELECT INBOX\r\n3 APPEND INBOX {message}\r\n4 NOOP\r\n\
                 5 ENABLE UTF8=ACCEPT\r\n6 SELECT INBOX\r\n7 APPEND INBOX {message}\r\n",
                message = literal("a: b\r\n\r\nc\r\n")
            ),
        )
        .await;
        assert!(
            said.contains(" UTF8=ONLY")
                && !said.split_once("1 OK").unwrap().0.contains("UTF8=ACCEPT"),
            "{said}"
        );
        assert_lines(&said, &["2 NO [CANNOT]", "3 NO [CANNOT]", "4 OK", "5 OK", "6 OK", "7 OK"]);
    });
}
