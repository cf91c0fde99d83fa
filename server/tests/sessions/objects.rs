//! What messages and mailboxes are known by, and what is told of them: RFC 7889, 8438, 8474, 8514,
//! 8970; registered keywords.

use crate::site::imap::{assert_lines, say};
use crate::site::{Site, on_a_core};
use config::Protocol;

/// RFC 8438 section 2, RFC 7889 sections 2 and 3.
#[test]
fn status_tells_size_and_append_limit() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.limits.message_bytes_max = 12_345;
        });
        let (first, second) = ("Subject: a\r\n\r\nb\r\n", "Subject: c\r\n\r\nd\r\n\r\n");
        site.store("jo", "INBOX", first).await;
        site.store("jo", "INBOX", second).await;
        let said = say(
            &site,
            "1 CAPABILITY\r\n2 STATUS INBOX (MESSAGES SIZE APPENDLIMIT)\r\n\
             3 LIST \"\" INBOX RETURN (STATUS (APPENDLIMIT SIZE))\r\n\
             4 APPEND INBOX {12346}\r\n5 STATUS INBOX (FROB)\r\n",
        )
        .await;
        let size = first.len() + second.len();
        assert!(said.contains(" APPENDLIMIT=12345") && said.contains(" STATUS=SIZE "), "{said}");
        assert_lines(
            &said,
            &[
                "1 OK",
                &format!("* STATUS INBOX (MESSAGES 2 SIZE {size} APPENDLIMIT 12345)"),
                "2 OK",
                &format!("* STATUS INBOX (APPENDLIMIT 12345 SIZE {size})"),
                "3 OK",
                "4 NO [TOOBIG]",
                "5 BAD",
            ],
        );
    });
}

/// Cyrus's DIGEST.SHA1; the digest is Debian's Cyrus 3.6's of the same message. Stored with bare
/// line ends, a message is served and digested with CRLF.
#[test]
fn digests_are_of_the_octets_that_are_served() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        site.store("jo", "INBOX", "From: a@example.org\nSubject: one\n\nFirst.\n").await;
        let long = format!("Subject: long\r\n\r\n{}", "0123456789abcde\r\n".repeat(40_000));
        site.store("jo", "INBOX", &long).await;
        let said = say(
            &site,
            "1 EXAMINE INBOX\r\n2 FETCH 1 DIGEST.SHA1\r\n3 FETCH 1:2 (UID DIGEST.SHA1 RFC822.SIZE)\r\n\
             4 FETCH 1 DIGEST.MD5\r\n",
        )
        .await;
        let digest = "725e3288cd828a2944d76b827a99136199d3bb84";
        assert_lines(
            &said,
            &[
                &format!("* 1 FETCH (DIGEST.SHA1 {digest})"),
                "2 OK",
                &format!("* 1 FETCH (UID 1 DIGEST.SHA1 {digest} RFC822.SIZE 45)"),
                "* 2 FETCH (UID 2 DIGEST.SHA1 a4d93598be27a81e07fcf4a0620b57c213234045 RFC822.SIZE 680017)",
                "3 OK",
                "4 BAD",
            ],
        );
    });
}

/// What stands between `before` and `after`.
#[track_caller]
fn between<'s>(said: &'s str, before: &str, after: &str) -> &'s str {
    let (_, rest) = said.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {said}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after:?} behind {before:?} in {said}")).0
}

/// RFC 8474 sections 4 and 5: CREATE, SELECT, STATUS, RENAME; APPEND, COPY, MOVE; SEARCH.
#[test]
fn object_ids_stay_with_mailboxes_and_messages() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        let first = "Message-ID: <a@x>\r\nSubject: s\r\n\r\nfirst\r\n";
        let answer = "Message-ID: <b@x>\r\nReferences: <a@x>\r\n\r\nanswer\r\n";
        site.store("jo", "INBOX", first).await;
        site.store("jo", "INBOX", answer).await;
        let said = say(
            &site,
            "3 CREATE foo\r\n4 CREATE bar\r\n5 SELECT foo\r\n6 STATUS bar (MAILBOXID)\r\n\
             7 RENAME foo renamed\r\n8 STATUS renamed (MAILBOXID)\r\n\
             9 LIST \"\" bar RETURN (STATUS (MAILBOXID))\r\na SELECT INBOX\r\n\
             b FETCH 1:2 (EMAILID THREADID)\r\nc COPY 1 bar\r\nd MOVE 2 bar\r\n\
             e SELECT bar\r\nf FETCH 1:2 (EMAILID THREADID)\r\n",
        )
        .await;
        let foo = between(&said, "3 OK [MAILBOXID (", ")");
        let bar = between(&said, "4 OK [MAILBOXID (", ")");
        assert!(foo != bar && foo.starts_with('F') && foo.len() == 33, "{foo} {bar}");
        assert_lines(
            &said,
            &[
                &format!("* OK [MAILBOXID ({foo})]"),
                "5 OK",
                &format!("* STATUS bar (MAILBOXID ({bar}))"),
                "7 OK",
                &format!("* STATUS renamed (MAILBOXID ({foo}))"),
                &format!("* STATUS bar (MAILBOXID ({bar}))"),
                "9 OK",
                &format!("* OK [MAILBOXID ({bar})]"),
                "e OK",
            ],
        );
        let (inbox, moved) = said.split_once("b OK").unwrap();
        let ids = between(inbox, "* 1 FETCH (", ")\r\n");
        let (email, thread) = (between(ids, "EMAILID (", ")"), between(ids, "THREADID (", ")"));
        let second = between(inbox, "* 2 FETCH (", ")\r\n");
        assert!(email.starts_with('M') && thread.starts_with('T'), "{ids}");
        assert_ne!(between(second, "EMAILID (", ")"), email);
        assert_eq!(between(second, "THREADID (", ")"), thread);
        assert_eq!(between(moved, "* 1 FETCH (", ")\r\n"), ids);
        assert_eq!(between(moved, "* 2 FETCH (", ")\r\n"), second);
        let said = say(
            &site,
            &format!(
                "s SELECT bar\r\n1 SEARCH EMAILID {email}\r\n2 SEARCH THREADID {thread}\r\n\
                 3 SEARCH NOT EMAILID {email}\r\n4 SEARCH THREADID T0\r\n5 SEARCH EMAILID ()\r\n"
            ),
        )
        .await;
        let wanted = ["* SEARCH 1\r\n1 OK", "* SEARCH 1 2\r\n2 OK", "* SEARCH 2\r\n3 OK"];
        for wanted in wanted.iter().chain(&["* SEARCH\r\n4 OK", "5 BAD"]) {
            assert!(said.contains(wanted), "no {wanted:?} in {said}");
        }
    });
}

/// RFC 8514 sections 4.1 and 4.3.
#[test]
fn dates_of_saving_are_told_and_searched() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        let said = say(
            &site,
            "1 APPEND INBOX \"17-Jul-1996 02:44:25 -0700\" {9+}\r\na: b\r\n\r\nc\r\n\
             2 SELECT INBOX\r\n3 FETCH 1 (INTERNALDATE SAVEDATE)\r\n\
             4 SEARCH SAVEDATESUPPORTED\r\n5 SEARCH SAVEDBEFORE 28-Dec-2014\r\n\
             6 SEARCH SAVEDSINCE 28-Dec-2014\r\n7 SEARCH SAVEDON 17-Jul-1996\r\n\
             8 SEARCH NOT SAVEDON 17-Jul-1996 ON 17-Jul-1996\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* 1 FETCH (INTERNALDATE \"17-Jul-1996 09:44:25 +0000\" SAVEDATE \"",
                "* SEARCH 1",
                "4 OK",
                "* SEARCH",
                "5 OK",
                "* SEARCH 1",
                "6 OK",
                "* SEARCH",
                "7 OK",
                "* SEARCH 1",
                "8 OK",
            ],
        );
        let saved = between(&said, "SAVEDATE \"", "\"");
        assert!(!saved.contains("1996") && said.contains("* SEARCH\r\n5 OK"), "{said}");
        assert!(said.contains("* SEARCH\r\n7 OK"), "{said}");
    });
}

/// RFC 8970 sections 3 and 4.
#[test]
fn previews_are_told_from_the_cache() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        site.store("jo", "INBOX", "Subject: s\r\n\r\nThis is the first line of\r\nthe text.\r\n")
            .await;
        let html = "Content-Type: text/html; charset=utf-8\r\n\r\n<p>Gr\u{fc}\u{df}e</p>\r\n";
        site.store("jo", "INBOX", html).await;
        let image = "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n";
        site.store("jo", "INBOX", image).await;
        let said = say(
            &site,
            "1 SELECT INBOX\r\n2 FETCH 1 (RFC822.SIZE PREVIEW)\r\n3 FETCH 1:2 (UID PREVIEW (LAZY))\r\n\
             4 FETCH 3 PREVIEW (LAZY)\r\n5 UID FETCH 1 PREVIEW\r\n6 FETCH 1 (PREVIEW (FROB))\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* 1 FETCH (RFC822.SIZE 52 PREVIEW \"This is the first line of the text.\")",
                "2 OK",
                "* 1 FETCH (UID 1 PREVIEW \"This is the first line of the text.\")",
                "* 2 FETCH (UID 2 PREVIEW {7}",
                "Gr\u{fc}\u{df}e)",
                "* 3 FETCH (PREVIEW \"\")",
                "4 OK",
                "* 1 FETCH (UID 1 PREVIEW \"This",
                "6 BAD",
            ],
        );
        assert!(!said.contains("FETCH (FLAGS"), "{said}");
    });
}

/// RFC 3503, 5550, 5788, 8457, 9051: clients spell them as they like.
#[test]
fn registered_keywords_survive_and_are_told_as_registered() {
    const REGISTERED: [&str; 8] = [
        "$Important",
        "$Junk",
        "$NotJunk",
        "$Phishing",
        "$Forwarded",
        "$MDNSent",
        "$Submitted",
        "$SubmitPending",
    ];
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        for name in REGISTERED {
            site.store("jo", "INBOX", &format!("Subject: {name}\r\n\r\n\r\n")).await;
        }
        let mut script = "0 SELECT INBOX\r\n".to_owned();
        for (i, name) in REGISTERED.iter().enumerate() {
            let (lower, upper) = (name.to_lowercase(), name.to_uppercase());
            let seq = i + 1;
            script += &format!(
                "a{seq} STORE {seq} +FLAGS ({lower})\r\nb{seq} SEARCH KEYWORD {upper}\r\n\
                 c{seq} STORE {seq} +FLAGS ({upper} Own{lower})\r\n"
            );
        }
        script += "d COPY 1:* Trash\r\ne CREATE Trash\r\nf COPY 1:* Trash\r\n";
        let said = say(&site, &script).await;
        for (i, name) in REGISTERED.iter().enumerate() {
            let (seq, lower) = (i + 1, name.to_lowercase());
            assert_lines(
                &said,
                &[
                    &format!("* {seq} FETCH (FLAGS ({name} \\Recent))"),
                    &format!("a{seq} OK"),
                    &format!("* SEARCH {seq}"),
                    &format!("b{seq} OK"),
                    &format!("* {seq} FETCH (FLAGS ({name} Own{lower} \\Recent))"),
                    &format!("c{seq} OK"),
                ],
            );
        }
        // Also another session, in the mailbox of copies.
        let said = say(&site, "0 SELECT Trash\r\n1 FETCH 1:* FLAGS\r\n").await;
        for (i, name) in REGISTERED.iter().enumerate() {
            assert!(said.contains(&format!("* {} FETCH (FLAGS ({name} Own", i + 1)), "{said}");
        }
        let (_, flags) = said.split_once("* FLAGS (").unwrap();
        let flags: Vec<&str> = flags.split(')').next().unwrap().split(' ').collect();
        assert!(REGISTERED.iter().all(|name| flags.contains(name)), "{said}");
    });
}
