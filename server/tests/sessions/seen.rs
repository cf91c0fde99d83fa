//! `\Seen` in mailboxes of others: each user's own, scripted.

use crate::site::imap::{assert_lines, say, say_as};
use crate::site::{Site, on_a_core};
use config::Protocol;

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

/// What each user has seen is his own, and nobody else hears of it.
#[test]
fn seen_is_each_users_own_in_others_mailboxes() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        for _ in 0..4 {
            site.store("bob", "INBOX", MESSAGE).await;
        }
        say_as(
            &site,
            "bob",
            "1 SETACL INBOX anyone lrswit\r\n2 SELECT INBOX\r\n3 STORE 1 FLAGS (\\Seen)\r\n",
        )
        .await;
        let mut watching =
            crate::site::imap::Client::login(&site, "1 SELECT \"Other Users/bob\"\r\n2 IDLE\r\n")
                .await;
        watching.until("+ idling").await;
        let mut owner = crate::site::imap::Client { stream: site.connect(), read: String::new() };
        owner.send("l LOGIN bob geheim\r\n1 SELECT INBOX\r\n2 IDLE\r\n").await;
        owner.until("+ idling").await;
        let said = say(
            &site,
            "1 SELECT \"Other Users/bob\"\r\n2 SEARCH UNSEEN\r\n3 FETCH 2 BODY[]\r\n\
             4 STORE 3 +FLAGS (\\Seen \\Flagged)\r\n5 STORE 4 FLAGS (\\Seen \\Answered)\r\n\
             6 STORE 4 -FLAGS.SILENT (\\Seen)\r\n7 SEARCH SEEN\r\n\
             8 STATUS \"Other Users/bob\" (UNSEEN)\r\n9 LIST \"\" Other* RETURN (STATUS (UNSEEN))\r\n\
             10 COPY 2:3 INBOX\r\n11 APPEND \"Other Users/bob\" (\\Seen) {20+}\r\nSubject: x\r\n\r\nbody\r\n\r\n\
             12 FETCH 5 FLAGS\r\n13 SELECT INBOX\r\n14 SEARCH SEEN\r\n15 COPY 1:2 \"Other Users/bob\"\r\n",
        )
        .await
        .replace(" \\Recent", "");
        assert_lines(
            &said,
            &[
                "* OK [UNSEEN 1]",
                "* SEARCH 1 2 3 4",
                "* 2 FETCH (BODY[] {",
                " FLAGS (\\Seen))",
                "3 OK",
                "* 3 FETCH (FLAGS (\\Flagged \\Seen))",
                "* 4 FETCH (FLAGS (\\Answered \\Seen))",
                "6 OK",
                "* SEARCH 2 3",
                "* STATUS \"Other Users/bob\" (UNSEEN 2)",
                "* STATUS \"Other Users/bob\" (UNSEEN 2)",
                "10 OK",
                "11 OK",
                "* 5 FETCH (FLAGS (\\Seen))",
                "* SEARCH 1 2",
                "15 OK",
            ],
        );
        // The owner has what the owner had, and what is not `\\Seen`.
        let bob = say_as(
            &site,
            "bob",
            "1 EXAMINE INBOX\r\n2 FETCH 1:4 FLAGS\r\n3 SEARCH SEEN\r\n4 STATUS INBOX (UNSEEN)\r\n",
        )
        .await
        .replace(" \\Recent", "")
        .replace("\\Recent", "");
        assert_lines(
            &bob,
            &[
                "* OK [UNSEEN 2]",
                "* 1 FETCH (FLAGS (\\Seen))",
                "* 2 FETCH (FLAGS ())",
                "* 3 FETCH (FLAGS (\\Flagged))",
                "* 4 FETCH (FLAGS (\\Answered))",
                "* SEARCH 1",
                "* STATUS INBOX (UNSEEN 6)",
            ],
        );
        // Other sessions of the same user hear of it, the owner's do not.
        let told = watching.until("* 7 EXISTS").await;
        assert!(told.contains("* 2 FETCH (FLAGS (\\Seen"), "{told}");
        let told = owner.until("* 7 EXISTS").await;
        assert!(told.contains("* 3 FETCH (") && !told.contains("* 2 FETCH"), "{told}");
        // A third one begins with nothing seen.
        let fred = say_as(&site, "fred", "1 SELECT \"Other Users/bob\"\r\n2 SEARCH SEEN\r\n").await;
        assert_lines(&fred, &["* OK [UNSEEN 1]", "* SEARCH", "2 OK"]);
    });
}

#[test]
fn seen_can_be_everybodys() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.sharing.seen = config::SeenState::Shared;
        });
        site.store("bob", "INBOX", MESSAGE).await;
        say_as(&site, "bob", "1 SETACL INBOX jo lrs\r\n").await;
        say(&site, "1 SELECT \"Other Users/bob\"\r\n2 FETCH 1 BODY[]\r\n").await;
        let bob = say_as(&site, "bob", "1 EXAMINE INBOX\r\n2 SEARCH SEEN\r\n").await;
        assert_lines(&bob, &["* SEARCH 1", "2 OK"]);
    });
}

/// A client that resynchronises by MODSEQ (RFC 7162) learns what it has seen elsewhere.
#[test]
fn own_seen_has_modseqs() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        site.store("bob", "INBOX", MESSAGE).await;
        site.store("bob", "INBOX", MESSAGE).await;
        say_as(&site, "bob", "1 SETACL INBOX jo lrsw\r\n").await;
        let said = say(&site, "1 SELECT \"Other Users/bob\" (CONDSTORE)\r\n").await;
        let (_, rest) = said.split_once("[HIGHESTMODSEQ ").expect(&said);
        let (before, _) = rest.split_once(']').unwrap();
        say(&site, "1 SELECT \"Other Users/bob\"\r\n2 STORE 2 +FLAGS (\\Seen)\r\n").await;
        let said = say(
            &site,
            &format!(
                "1 SELECT \"Other Users/bob\"\r\n2 FETCH 1:* (FLAGS) (CHANGEDSINCE {before})\r\n\
                 3 STORE 1:2 (UNCHANGEDSINCE {before}) -FLAGS (\\Seen)\r\n"
            ),
        )
        .await
        .replace(" \\Recent", "");
        assert_lines(&said, &["* 2 FETCH (FLAGS (\\Seen) MODSEQ (", "2 OK", "3 OK [MODIFIED 2]"]);
    });
}
