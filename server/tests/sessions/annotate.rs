//! ANNOTATE-EXPERIMENT-1 (RFC 5257), scripted.

use std::collections::BTreeSet;

use crate::site::imap::{Client, assert_lines, say, say_as};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |config| {
        config.limits.metadata_value_bytes_max = 1024;
        config.limits.annotations_max = 10;
    })
}

/// What comes behind the answer to SELECT, whose tag is `s`.
fn behind_select(said: &str) -> &str {
    said.split_once("\r\ns OK [READ-WRITE] Selected\r\n").expect(said).1
}

/// The examples of RFC 5257 sections 4.2 to 4.5.
#[test]
fn the_examples_of_rfc_5257() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", MESSAGE).await;
        let said = say(
            &site,
            "s SELECT INBOX (ANNOTATE)\r\n\
             1 STORE 1 ANNOTATION (/comment (value.priv \"My new comment\"))\r\n\
             2 FETCH 1 (ANNOTATION (/comment value))\r\n\
             3 STORE 1 ANNOTATION (/comment (value.shared NIL))\r\n\
             4 STORE 1 ANNOTATION (/comment (value.priv \"Get tix Tuesday\") \
             /altsubject (value.priv \"Wots On\"))\r\n\
             5 FETCH 1 (ANNOTATION ((/comment /altsubject) value.priv))\r\n\
             6 STORE 1 ANNOTATION (/comment (value.priv \"My new comment\" \
             value.shared \"foo's bar\"))\r\n\
             7 FETCH 1 (ANNOTATION (/comment value))\r\n\
             8 FETCH 1 (ANNOTATION (/comment (value size)))\r\n\
             9 STORE 1 ANNOTATION (/altsubject (value.priv \"Rhinoceroses!\" value.shared NIL) \
             /vendor/foobar/label (value.priv \"label43\") \
             /vendor/foobar/personality (value.priv \"Tallulah Bankhead\"))\r\n\
             10 UID FETCH 1 (UID ANNOTATION (/* (value.priv size.priv)))\r\n\
             11 FETCH 1 (ANNOTATION (/% value.shared))\r\n\
             12 FETCH 1 (ANNOTATION ((/comment /altsubject) value))\r\n\
             13 FETCH 1 ANNOTATION (/1/comment (size value))\r\n\
             14 FETCH 1 (FLAGS ANNOTATION (/none/* value) UID)\r\n",
        )
        .await;
        assert_lines(&said, &["* OK [ANNOTATIONS 1024] ", "s OK [READ-WRITE]"]);
        let expected = "1 OK Completed\r\n\
            * 1 FETCH (ANNOTATION (/comment (value.priv \"My new comment\" value.shared NIL)))\r\n\
            2 OK Completed\r\n3 OK Completed\r\n4 OK Completed\r\n\
            * 1 FETCH (ANNOTATION (/comment (value.priv \"Get tix Tuesday\") \
            /altsubject (value.priv \"Wots On\")))\r\n5 OK Completed\r\n6 OK Completed\r\n\
            * 1 FETCH (ANNOTATION (/comment (value.priv \"My new comment\" \
            value.shared \"foo's bar\")))\r\n7 OK Completed\r\n\
            * 1 FETCH (ANNOTATION (/comment (value.priv \"My new comment\" \
            value.shared \"foo's bar\" size.priv \"14\" size.shared \"9\")))\r\n8 OK Completed\r\n\
            9 OK Completed\r\n\
            * 1 FETCH (UID 1 ANNOTATION (/altsubject (value.priv \"Rhinoceroses!\" \
            size.priv \"13\") /comment (value.priv \"My new comment\" size.priv \"14\") \
            /vendor/foobar/label (value.priv \"label43\" size.priv \"7\") \
            /vendor/foobar/personality (value.priv \"Tallulah Bankhead\" size.priv \"17\")))\r\n\
            10 OK Completed\r\n\
            * 1 FETCH (ANNOTATION (/comment (value.shared \"foo's bar\")))\r\n11 OK Completed\r\n\
            * 1 FETCH (ANNOTATION (/comment (value.priv \"My new comment\" \
            value.shared \"foo's bar\") /altsubject (value.priv \"Rhinoceroses!\" \
            value.shared NIL)))\r\n12 OK Completed\r\n\
            * 1 FETCH (ANNOTATION (/1/comment (size.priv \"0\" size.shared \"0\" \
            value.priv NIL value.shared NIL)))\r\n13 OK Completed\r\n\
            * 1 FETCH (FLAGS (\\Recent) ANNOTATION () UID 1)\r\n14 OK Completed\r\n";
        assert_eq!(behind_select(&said), expected);
    });
}

/// RFC 5257 section 4.7, with MULTIAPPEND, CATENATE, REPLACE and values that are literals; 4.6.
#[test]
fn annotations_come_with_messages_and_go_along() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.user("jo").await.create("drafts", &[]).await.unwrap();
        let script = "l LOGIN jo geheim\r\n\
             1 APPEND drafts ANNOTATION (/comment (value.priv \"Don't send until I say so\")) \
             {8+}\r\na: b\r\n\r\n (\\Seen) ANNOTATION (/comment (value.shared {5+}\r\n(two)) \
             /1/vendor/x/y (value.priv ~{3+}\r\na\0b)) {8+}\r\nc: d\r\n\r\n\r\n\
             2 APPEND drafts ANNOTATION (/altsubject (value.shared \"it is \\\"new\\\"\")) CATENATE \
             (TEXT {8+}\r\ne: f\r\n\r\n)\r\n\
             s SELECT drafts\r\n3 FETCH 1:* (ANNOTATION (/* value))\r\n4 COPY 1:2 INBOX\r\n\
             5 MOVE 3 INBOX\r\n\
             6 REPLACE 2 drafts ANNOTATION (/comment (value.priv \"instead\")) {8+}\r\ng: h\r\n\r\n\
             \r\n7 FETCH 1:* (ANNOTATION (/comment (value.priv)))\r\n\
             s SELECT INBOX\r\n8 FETCH 1:* (ANNOTATION (/* value))\r\n";
        let said = site.say(script).await;
        let told = [
            "* 1 FETCH (ANNOTATION (/comment (value.priv \"Don't send until I say so\" \
             value.shared NIL)))",
            "* 2 FETCH (ANNOTATION (/1/vendor/x/y (value.priv ~{3}",
            "a\0b value.shared NIL) /comment (value.priv NIL value.shared \"(two)\")))",
            "* 3 FETCH (ANNOTATION (/altsubject (value.priv NIL \
             value.shared \"it is \\\"new\\\"\")))",
        ];
        let mut expected = vec!["1 OK [APPENDUID", "2 OK [APPENDUID", "s OK"];
        expected.extend(told);
        expected.extend([
            "3 OK",
            "4 OK [COPYUID",
            "5 OK",
            "6 OK",
            "* 1 FETCH (ANNOTATION (/comment (value.priv \"Don't send until I say so\")))",
            "* 2 FETCH (ANNOTATION (/comment (value.priv \"instead\")))",
            "7 OK",
        ]);
        expected.extend(told);
        expected.push("8 OK");
        assert_lines(&said, &expected);
        let cut = "l LOGIN mo@example.org geheim\r\n\
             1 APPEND INBOX ANNOTATION (/a (value.priv {3}\r\n{x})) {8}\r\na: b\r\n\r\n \
             ANNOTATION (/b (value.shared {2+}\r\n)()) {8+}\r\nc: d\r\n\r\n\r\n\
             2 APPEND INBOX ANNOTATION (/a (value.priv {99999}\r\n3 LOGOUT\r\n";
        let mut answers = BTreeSet::new();
        for at in 1..cut.len() {
            let (before, behind) = cut.as_bytes().split_at(at);
            let said = site.talk(&[before, behind]).await;
            let (before, uids) = said.split_once("[APPENDUID ").expect(&said);
            answers.insert(before.to_owned() + uids.split_once(']').unwrap().1);
        }
        assert_eq!(answers.len(), 1, "cut anywhere: {answers:?}");
        let said = site.say(cut).await;
        assert_lines(&said, &["+ ", "+ ", "1 OK [APPENDUID", "2 BAD", "3 OK"]);
    });
}

#[test]
fn limits_and_names_are_looked_at() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", MESSAGE).await;
        let (long, too_long) = ("x".repeat(1024), "x".repeat(1025));
        let many: String = (0..9).map(|n| format!(" /vendor/x/{n} (value.priv \"v\")")).collect();
        let said = say(
            &site,
            &format!(
                "s SELECT INBOX\r\n\
                 1 STORE 1 ANNOTATION (/comment (value.priv {{1024+}}\r\n{long}))\r\n\
                 2 STORE 1 ANNOTATION (/comment (value.priv {{1025+}}\r\n{too_long}))\r\n\
                 3 STORE 1 ANNOTATION ({})\r\n\
                 4 STORE 1 ANNOTATION (/altsubject (value.priv \"v\"))\r\n\
                 5 STORE 1 ANNOTATION (/altsubject (value.priv \"v\") /comment (value.priv NIL))\r\n\
                 6 STORE 1 ANNOTATION (comment (value.priv \"v\"))\r\n\
                 7 STORE 1 ANNOTATION (\"/a*\" (value.priv \"v\"))\r\n\
                 8 STORE 1 ANNOTATION (/0/comment (value.priv \"v\"))\r\n\
                 9 STORE 1 ANNOTATION (/2/comment (value.priv \"v\"))\r\n\
                 10 STORE 1 ANNOTATION (/flags/seen (value.priv \"1\"))\r\n\
                 11 STORE 1 ANNOTATION (/1/flags/seen (value.priv \"yes\"))\r\n\
                 12 STORE 1 ANNOTATION (/comment (value \"v\"))\r\n\
                 13 FETCH 1 (ANNOTATION (/3/comment value))\r\n\
                 14 FETCH 1 (ANNOTATION (//x value))\r\n\
                 15 APPEND INBOX ANNOTATION (/7/comment (value.priv \"v\")) {{8+}}\r\na: b\r\n\r\n\r\n\
                 16 APPEND INBOX ANNOTATION (/comment (value.priv {{1025+}}\r\n{too_long})) {{8+}}\r\n\
                 a: b\r\n\r\n\r\n17 SORT (ANNOTATION /a// value.priv) UTF-8 ALL\r\n\
                 18 STORE 1 ANNOTATION (/1/flags/seen (value.priv NIL))\r\n\
                 19 EXAMINE INBOX\r\n20 STORE 1 ANNOTATION (/comment (value.priv \"v\"))\r\n\
                 21 FETCH 1 (ANNOTATION (/comment size.priv))\r\n",
                many.trim_start()
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "1 OK Completed",
                "2 NO [ANNOTATE TOOBIG]",
                "3 OK Completed",
                "4 NO [ANNOTATE TOOMANY]",
                "5 OK Completed",
                "6 BAD Expected names of entries",
                "7 BAD Expected names of entries",
                "8 BAD Expected names of entries",
                "9 BAD No such body part",
                "10 NO [CANNOT]",
                "11 NO [CANNOT]",
                "12 BAD",
                "13 BAD No such body part",
                "14 BAD Expected names of entries",
                "15 BAD No such body part",
                "16 NO [ANNOTATE TOOBIG]",
                "17 BAD Expected the name",
                "18 OK Completed",
                "* OK [ANNOTATIONS READ-ONLY] ",
                "19 OK [READ-ONLY]",
                "20 NO [NOPERM]",
                "* 1 FETCH (ANNOTATION (/comment (size.priv \"0\")))",
                "21 OK",
            ],
        );
        assert!(said.contains("* 1 EXISTS") && !said.contains("* 2 EXISTS"), "{said}");
    });
}

/// RFC 5257 sections 4.8 and 4.9.
#[test]
fn messages_are_found_and_sorted_by_annotations() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for _ in 0..4 {
            site.store("jo", "INBOX", MESSAGE).await;
        }
        let said = say(
            &site,
            "s SELECT INBOX\r\n\
             1 STORE 1 ANNOTATION (/comment (value.priv \"about IMAP4\") \
             /altsubject (value.shared \"b\"))\r\n\
             2 STORE 2 ANNOTATION (/comment (value.shared \"imap4rev2\") \
             /altsubject (value.shared \"a\" value.priv \"z\"))\r\n\
             3 STORE 4 ANNOTATION (/vendor/x/comment (value.priv \"imap4\") \
             /altsubject (value.shared \"A\"))\r\n\
             4 SEARCH ANNOTATION /comment value \"IMAP4\"\r\n\
             5 SEARCH ANNOTATION * value.priv \"IMAP4\"\r\n\
             6 SEARCH NOT ANNOTATION /% value \"imap\"\r\n\
             7 SEARCH OR ANNOTATION /comment value.shared \"REV\" UID 3\r\n\
             8 SEARCH ANNOTATION /comment value NIL\r\n\
             9 SEARCH ANNOTATION /comment size \"1\"\r\n\
             10 SORT (ANNOTATION /altsubject value.shared) UTF-8 ALL\r\n\
             11 SORT (REVERSE ANNOTATION /altsubject value.shared) UTF-8 NOT 3\r\n\
             12 SORT (ANNOTATION /altsubject value.priv REVERSE UID) UTF-8 \
             ANNOTATION /altsubject value \"a\"\r\n\
             13 SORT (ANNOTATION /altsubject value) UTF-8 ALL\r\n\
             14 UID SEARCH RETURN (UPDATE COUNT) ANNOTATION /comment value x\r\n\
             15 ESEARCH IN (personal) RETURN (ALL) ANNOTATION /comment value imap4\r\n\
             16 THREAD REFERENCES UTF-8 ANNOTATION /comment value.priv \"IMAP4\"\r\n",
        )
        .await;
        let expected = "1 OK Completed\r\n2 OK Completed\r\n3 OK Completed\r\n\
            * SEARCH 1 2\r\n4 OK Completed\r\n* SEARCH 1 4\r\n5 OK Completed\r\n\
            * SEARCH 3 4\r\n6 OK Completed\r\n* SEARCH 2 3\r\n7 OK Completed\r\n\
            * SEARCH 3 4\r\n8 OK Completed\r\n9 BAD Expected ";
        let behind = behind_select(&said);
        assert!(behind.starts_with(expected), "{said}");
        assert_lines(
            behind,
            &[
                "* SORT 3 2 4 1",
                "10 OK",
                "* SORT 1 2 4",
                "11 OK",
                "* SORT 4 2",
                "12 OK",
                "13 BAD",
                "* ESEARCH (TAG \"14\") UID COUNT 0",
                "* NO [NOUPDATE \"14\"]",
                "14 OK",
                "* ESEARCH (TAG \"15\" MAILBOX INBOX UIDVALIDITY ",
                "15 OK",
                "* THREAD (1)",
                "16 OK",
            ],
        );
    });
}

/// RFC 5257 section 3.4: who may do what in others' mailboxes.
#[test]
fn rights_decide_who_annotates() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for name in ["Box", "Plain"] {
            site.user("jo").await.create(name, &[]).await.unwrap();
        }
        site.store("jo", "Box", MESSAGE).await;
        let store = "\"Other Users/jo/Box\"\r\n\
             1 STORE 1 ANNOTATION (/comment (value.priv \"bob's\"))\r\n\
             2 STORE 1 ANNOTATION (/comment (value.shared \"all\"))\r\n\
             3 FETCH 1 (ANNOTATION (/comment value))\r\n\
             4 APPEND \"Other Users/jo/Box\" ANNOTATION (/comment (value.shared \"x\")) \
             {8+}\r\na: b\r\n\r\n\r\n\
             5 APPEND \"Other Users/jo/Box\" ANNOTATION (/comment (value.priv \"x\")) \
             {8+}\r\na: b\r\n\r\n\r\n6 UID COPY 1 \"Other Users/jo/Plain\"\r\n";
        say(&site, "1 SETACL Box bob lri\r\n2 SETACL Plain bob lri\r\n").await;
        let first = say_as(&site, "bob", &format!("s SELECT {store}")).await;
        assert_lines(
            &first,
            &[
                "* OK [ANNOTATIONS 1024]",
                "1 OK Completed",
                "2 NO [NOPERM]",
                "* 1 FETCH (ANNOTATION (/comment (value.priv \"bob's\" value.shared NIL)))",
                "3 OK",
                "4 NO [NOPERM]",
                "5 OK [APPENDUID",
                "6 OK [COPYUID",
            ],
        );
        let own = "s SELECT Box\r\n1 STORE 1 ANNOTATION (/comment (value.priv \"jo's\"))\r\n\
             2 FETCH 1 (ANNOTATION (/comment value))\r\n3 SETACL Box bob lrn\r\n";
        assert_lines(
            &say(&site, own).await,
            &["* 1 FETCH (ANNOTATION (/comment (value.priv \"jo's\" value.shared NIL)))", "3 OK"],
        );
        let second = say_as(&site, "bob", &format!("s SELECT {store}")).await;
        assert_lines(
            &second,
            &[
                "s OK [READ-WRITE]",
                "2 OK Completed",
                "* 1 FETCH (ANNOTATION (/comment (value.priv \"bob's\" value.shared \"all\")))",
                "4 NO [NOPERM]",
                "6 OK [COPYUID",
            ],
        );
        // Shared annotations stay behind where the target has no `n` for who copies, and others'
        // private ones in any case.
        let copies = "s SELECT Plain\r\n1 FETCH 1:2 (ANNOTATION (/comment value))\r\n";
        assert_lines(
            &say(&site, copies).await,
            &[
                "* 1 FETCH (ANNOTATION (/comment (value.priv NIL value.shared NIL)))",
                "* 2 FETCH (ANNOTATION (/comment (value.priv NIL value.shared NIL)))",
            ],
        );
        let copies =
            "s SELECT \"Other Users/jo/Plain\"\r\n1 FETCH 2 (ANNOTATION (/comment value))\r\n";
        assert_lines(
            &say_as(&site, "bob", copies).await,
            &["* 2 FETCH (ANNOTATION (/comment (value.priv \"bob's\" value.shared NIL)))"],
        );
    });
}

/// RFC 5257 section 4.4, and MODSEQs of RFC 7162.
#[test]
fn changes_by_others_are_told_where_that_is_asked_for() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for _ in 0..2 {
            site.store("jo", "INBOX", MESSAGE).await;
        }
        let mut asks = Client::login(&site, "s SELECT INBOX (ANNOTATE)\r\n").await;
        asks.until("s OK [READ-WRITE] Selected\r\n").await;
        let mut quiet = Client::login(&site, "s SELECT INBOX\r\n").await;
        quiet.until("s OK [READ-WRITE] Selected\r\n").await;
        let mut modseqs = Client::login(&site, "s SELECT INBOX (CONDSTORE)\r\n").await;
        let state = modseqs.until("s OK [READ-WRITE] Selected\r\n").await;
        let (_, highest) = state.split_once("[HIGHESTMODSEQ ").unwrap();
        let highest: u64 = highest.split(']').next().unwrap().parse().unwrap();
        let said = say(
            &site,
            "s SELECT INBOX\r\n\
             1 STORE 1 ANNOTATION (/comment (value.shared \"x\") \"/a b\" (value.priv \"y\"))\r\n\
             2 STORE 2 ANNOTATION (/altsubject (value.priv \"z\"))\r\n",
        )
        .await;
        // Silent for who has not enabled CONDSTORE.
        assert_eq!(behind_select(&said), "1 OK Completed\r\n2 OK Completed\r\n");
        asks.send("1 NOOP\r\n").await;
        assert_eq!(
            asks.until("1 OK Completed\r\n").await,
            "* 1 FETCH (FLAGS (\\Recent) ANNOTATION (/comment \"/a b\"))\r\n\
             * 2 FETCH (FLAGS (\\Recent) ANNOTATION (/altsubject))\r\n"
        );
        quiet.send("1 NOOP\r\n").await;
        assert_eq!(quiet.until("1 OK Completed\r\n").await, "* 1 FETCH (FLAGS ())\r\n");
        modseqs.send("1 NOOP\r\n").await;
        let told = modseqs.until("1 OK Completed\r\n").await;
        let line = |n: u64| format!("* {n} FETCH (UID {n} FLAGS () MODSEQ ({}))\r\n", highest + n);
        assert_eq!(told, line(1) + &line(2));
        let since = highest;
        modseqs
            .send(&format!(
                "2 STORE 1:2 (UNCHANGEDSINCE {since}) ANNOTATION (/comment (value.priv \"q\"))\r\n\
                 3 UID STORE 2 (UNCHANGEDSINCE {}) ANNOTATION (/comment (value.priv \"q\"))\r\n",
                since + 2
            ))
            .await;
        assert_eq!(
            modseqs.until("2 OK [MODIFIED 1:2] Some messages were changed before\r\n").await,
            ""
        );
        assert_eq!(
            modseqs.until("3 OK Completed\r\n").await,
            format!("* 2 FETCH (UID 2 MODSEQ ({}))\r\n", since + 3)
        );
        // A change of the session's own is not told to it.
        asks.send("2 STORE 1 ANNOTATION (/comment (value.priv \"mine\"))\r\n3 NOOP\r\n").await;
        let told = asks.until("3 OK Completed\r\n").await;
        assert_eq!(
            told,
            "* 2 FETCH (FLAGS (\\Recent) ANNOTATION (/comment))\r\n2 OK Completed\r\n"
        );
    });
}
