//! SMAP1 sessions, scripted: the exchanges of Courier's description, and hostile bytes.

use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};
use protocol::types::SeqNum;

const LOGIN: &str = "\\SMAP1 LOGIN jo geheim\r\n";
const FIRST: &str = "Subject: one\r\nFrom: a@example.net\r\n\r\n.dot\r\nlast\r\n";
const MIME: &str = "Subject: Test MIME message\r\nMime-Version: 1.0\r\n\
    Content-Type: multipart/mixed;\r\n boundary=aaa\r\n\r\n--aaa\r\n\
    Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8K\r\n--aaa\r\n\
    Content-Type: message/rfc822\r\n\r\nSubject: Attached\r\n\r\ninside\r\n--aaa--\r\n";

fn smap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |c| c.imap.smap = true)
}

/// What the server says behind the login.
async fn say(site: &Site, script: &str) -> String {
    let said = site.say(&format!("{LOGIN}{script}LOGOUT\n")).await;
    let (_, rest) = said.split_once("+OK SMAP1 LOGIN Ok.\n").expect(&said);
    let end = "* BYE Cursus SMAP server says goodbye\n+OK LOGOUT completed\n";
    rest.strip_suffix(end).expect(rest).to_owned()
}

#[test]
fn a_tag_leads_from_imap_to_smap() {
    on_a_core(|layout| async move {
        let site = smap(layout);
        let said = site.say(&format!("a CAPABILITY\r\n{LOGIN}NOOP\nLOGOUT\n")).await;
        assert!(said.contains(" SMAP1"), "{said}");
        assert!(
            said.contains("a OK Completed\r\n+OK SMAP1 LOGIN Ok.\n+OK Folder updated\n"),
            "{said}"
        );
        let said = site.say("\\SMAP1 AUTHENTICATE PLAIN AGpvAGdlaGVpbQ==\r\nLOGOUT\n").await;
        assert!(said.contains("+OK SMAP1 LOGIN Ok.\n* BYE"), "{said}");
        let said = site.say("\\SMAP1 LOGIN jo wrong\r\n\\SMAP1 NOOP\r\nb LOGOUT\r\n").await;
        assert!(
            said.contains("\r\n-ERR Wrong user name or password\n-ERR Log in\n* BYE"),
            "{said}"
        );
        let off = Site::new(Protocol::Imap, layout, |_| {});
        let said = off.say(&format!("{LOGIN}b LOGOUT\r\n")).await;
        assert!(said.contains("BAD") && !said.contains("+OK"), "{said}");
    });
}

#[test]
fn folders_are_made_listed_renamed_and_deleted() {
    on_a_core(|layout| async move {
        let site = smap(layout);
        let said = say(
            &site,
            "LIST\nCREATE INBOX a\nCREATE INBOX a \"b c\"\nLIST INBOX\nLIST INBOX a\n\
             STATUS FULL INBOX a\nRENAME INBOX a \"b c\" \"\" INBOX d\nLIST INBOX\n\
             OPEN INBOX d\nDELETE INBOX d\nCLOSE\nDELETE INBOX d\nDELETE INBOX d\n\
             CREATE PUBLIC x\nMKDIR INBOX y\n",
        )
        .await;
        assert_eq!(
            said,
            "* LIST \"INBOX\" \"New Mail\" FOLDER\n* LIST \"INBOX\" \"Folders\" DIRECTORY\n\
             +OK LIST completed\n+OK Folder created\n+OK Folder created\n\
             * LIST \"a\" \"a\" FOLDER DIRECTORY\n+OK LIST completed\n\
             * LIST \"b c\" \"b c\" FOLDER\n+OK LIST completed\n\
             * STATUS EXISTS=0 UNSEEN=0\n+OK Folder status retrieved\n+OK Folder renamed\n\
             * LIST \"a\" \"a\" FOLDER\n* LIST \"d\" \"d\" FOLDER\n+OK LIST completed\n\
             * EXISTS 0\n+OK Folder opened\n-ERR the folder is open\n+OK Folder closed\n\
             +OK Folder deleted\n-ERR no such folder\n\
             -ERR expected a folder that begins with INBOX\n\
             +OK Directories come and go with their folders\n"
        );
    });
}

#[test]
fn flags_are_stored_and_messages_expunged_in_ranges() {
    on_a_core(|layout| async move {
        let site = smap(layout);
        for _ in 0..6 {
            site.store("jo", "INBOX", FIRST).await;
        }
        let said = say(
            &site,
            "OPEN INBOX\nSTORE 1-2 4 +FLAGS=DELETED\nSTORE 1 FLAGS=SEEN,MARKED\n\
             STORE 1 KEYWORDS=x,y\nSTORE 1 -KEYWORDS=x -FLAGS=SEEN\nFETCH 1 FLAGS KEYWORDS SIZE\n\
             SEARCH MARKED NOT SEEN\nSEARCH ALL DELETED\nSEARCH 3-5 SUBJECT one\nEXPUNGE\n\
             EXPUNGE 1-2\nNOOP\nSTORE 9 +FLAGS=SEEN\nSEARCH ALL NONSENSE\n",
        )
        .await;
        let size = FIRST.len();
        assert_eq!(
            said,
            format!(
                "* EXISTS 6\n+OK Folder opened\n\
                 * FETCH 1 FLAGS=DELETED \"KEYWORDS=\"\n* FETCH 2 FLAGS=DELETED \"KEYWORDS=\"\n\
                 * FETCH 4 FLAGS=DELETED \"KEYWORDS=\"\n+OK Folder status updated\n\
                 * FETCH 1 FLAGS=SEEN,MARKED \"KEYWORDS=\"\n+OK Folder status updated\n\
                 * FETCH 1 FLAGS=SEEN,MARKED \"KEYWORDS=x,y\"\n+OK Folder status updated\n\
                 * FETCH 1 FLAGS=MARKED \"KEYWORDS=y\"\n+OK Folder status updated\n\
                 * FETCH 1 FLAGS=MARKED \"KEYWORDS=y\" SIZE={size}\n+OK Message retrieved.\n\
                 * SEARCH 1\n+OK Search completed\n* SEARCH 2 4\n+OK Search completed\n\
                 * SEARCH 3-5\n+OK Search completed\n\
                 * EXPUNGE 2 4\n+OK Folder updated\n\
                 * EXPUNGE 1-2\n+OK Folder updated\n+OK Folder updated\n\
                 -ERR no such messages\n-ERR expected other words behind this command\n"
            )
        );
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
    });
}

#[test]
fn contents_come_by_part() {
    on_a_core(|layout| async move {
        let site = smap(layout);
        site.store("jo", "INBOX", MIME).await;
        let said = say(
            &site,
            "OPEN INBOX\nFETCH 1 CONTENTS.PEEK=MIME(Content-Type)\n\
             FETCH 1 CONTENTS.PEEK=HEADERS(Subject)\nFETCH 1 CONTENTS.PEEK=HEADERS[1.2.0]\n\
             FETCH 1 CONTENTS.PEEK=BODY[1.1]\nFETCH 1 CONTENTS.PEEK=BODY.DECODED[1.1]\n\
             FETCH 1 CONTENTS.PEEK=BODY[1.2.0]\nFETCH 1 CONTENTS.PEEK=BODY[1.3]\n\
             FETCH 1 FLAGS\nFETCH 1 CONTENTS=ALL\nFETCH 1 FLAGS\n",
        )
        .await;
        let ok = "+OK Message retrieved.\n";
        let mut rest = &*said;
        for expected in [
            "* EXISTS 1\n+OK Folder opened\n",
            "\"MIME.ID=\"\nContent-Type: multipart/mixed; boundary=aaa\n.\n",
            "\"MIME.ID=1.1\" \"MIME.PARENT=\"\nContent-Type: text/plain\n.\n",
            "\"MIME.ID=1.2\" \"MIME.PARENT=\"\nContent-Type: message/rfc822\n.\n",
            "\"MIME.ID=1.2.0\" \"MIME.PARENT=1.2\"\n.\n",
            ok,
            " FETCH 1 HEADERS\nSubject: Test MIME message\n.\n",
            ok,
            " FETCH 1 HEADERS\nSubject: Attached\n.\n",
            ok,
            "{8/8} FETCH 1 CONTENTS\naGVsbG8K\n",
            ok,
            "{6/6} FETCH 1 CONTENTS\nhello\n\n",
            ok,
            "{6/6} FETCH 1 CONTENTS\ninside\n",
            ok,
            "-ERR no such part\n",
            "* FETCH 1 FLAGS=\n",
            ok,
            &format!("{{{0}/{0}}} FETCH 1 CONTENTS\n{MIME}\n", MIME.len()),
            "* FETCH 1 FLAGS=SEEN \"KEYWORDS=\"\n",
            ok,
            "* FETCH 1 FLAGS=SEEN\n",
        ] {
            let at = rest.find(expected).unwrap_or_else(|| panic!("{expected:?} in {rest:?}"));
            rest = &rest[at + expected.len()..];
        }
    });
}

#[test]
fn messages_are_added_copied_and_moved() {
    on_a_core(|layout| async move {
        let site = smap(layout);
        let said = say(
            &site,
            "CREATE INBOX a\nOPEN INBOX\nADD {.5}\nADD FOLDER INBOX \"\" FLAGS=SEEN \
             \"INTERNALDATE=03 Aug 2003 03:00:00 -0500\"\nADD {.100}\nSubject: test add\n\n\
             ..dot\nend\n.\nNOOP\nADD FOLDER INBOX\nADD {11/21}\nSubject: x\n10\n\n12345678\n\n\
             NOOP\nFETCH 1 UID INTERNALDATE FLAGS\nCOPY 1 \"\" INBOX a\nMOVE 2 \"\" INBOX a\n\
             ADD FOLDER INBOX RCPTTO=x@example.org\nADD RCPTTO=x@example.org\n",
        )
        .await;
        let inbox = site.user("jo").await.mailbox("INBOX").await.unwrap().refresh().await.unwrap();
        let (validity, uid) = (inbox.uid_validity().0, inbox.uid(SeqNum(1)).unwrap().0);
        for expected in [
            "+OK Folder opened\n-ERR say ADD FOLDER first\n+OK INTERNALDATE set\n> Go ahead\n",
            &format!("* ADD \"UID={validity}/{uid}\"\n+OK Message saved\n* EXISTS 1\n"),
            "+OK Message saved\n* EXISTS 2\n+OK Folder updated\n",
            &format!(
                "* FETCH 1 \"UID={validity}/{uid}\" \"INTERNALDATE=Sun, 03 Aug 2003 08:00:00 +0000\" \
                 FLAGS=SEEN\n"
            ),
            "* COPY 1 \"NEWUID=",
            "* COPY 2 \"NEWUID=",
            "* EXPUNGE 2\n+OK Messages copied\n",
            "-ERR mail is sent elsewhere\n",
        ] {
            assert!(said.contains(expected), "{expected:?} in {said}");
        }
        let first = "Subject: test add\r\n\r\n.dot\r\nend\r\n";
        assert_eq!(site.messages("jo", "INBOX").await, [first]);
        assert_eq!(site.messages("jo", "a").await, [first, "Subject: x\r\n\r\n12345678\r\n"]);
    });
}

#[test]
fn idle_ends_with_resume_and_hostile_bytes_end_politely() {
    on_a_core(|layout| async move {
        let site = smap(layout);
        site.store("jo", "INBOX", FIRST).await;
        let said = say(&site, "OPEN INBOX\nIDLE\nRESUME\nIDLE\nNOOP\nRESUME\nACL INBOX\n").await;
        assert!(said.contains("+OK Resumed\n-ERR RESUME is required"), "{said}");
        assert!(said.contains("-ERR RESUME ends an IDLE\n-ERR access lists"), "{said}");
        let long = "x".repeat(9000);
        let said =
            site.say(&format!("{LOGIN}{long}\n\u{1}\nFETCH 1 UID\n{}", "x\n".repeat(40))).await;
        assert!(
            said.contains("-ERR unknown command\n") && said.contains("-ERR open a folder"),
            "{said}"
        );
        assert!(said.ends_with("-ERR too many bad commands\n"), "{said}");
    });
}
