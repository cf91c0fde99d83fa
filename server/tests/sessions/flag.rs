//! How flags are told: of early answers, of silent changes that cross others', of messages that a FETCH
//! makes `\Seen`.

use crate::site::imap::{Client, assert_lines, say};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |_| {})
}

/// The answer to a plain STORE need not wait for the disk; what is asked next does, in every
/// session, and no MODSEQ leaves early.
#[test]
fn a_store_answered_early_is_seen_by_whatever_is_asked_next() {
    for sync in [config::StoreSync::AfterAnswer, config::StoreSync::BeforeAnswer] {
        on_a_core(move |layout| async move {
            let site = Site::new(Protocol::Imap, layout, |config| config.imap.store_sync = sync);
            for i in 1..=3 {
                site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
            }
            let mut other = Client::login(&site, "s SELECT INBOX (CONDSTORE)\r\n").await;
            let selected = other.until("s OK").await;
            let highest = selected.split_once("HIGHESTMODSEQ ").unwrap().1;
            let highest: u64 = highest.split_once(']').unwrap().0.parse().unwrap();
            let said = say(
                &site,
                "s SELECT INBOX\r\n1 STORE 2 +FLAGS (\\Flagged)\r\n\
                 2 UID STORE 2 +FLAGS (\\Deleted)\r\n3 STORE 1 +FLAGS.SILENT (\\Deleted)\r\n\
                 4 FETCH 1:3 FLAGS\r\n5 SEARCH FLAGGED\r\n6 FETCH 3 BODY[TEXT]\r\n\
                 7 STATUS INBOX (UNSEEN)\r\n8 UID STORE 3 -FLAGS (\\Seen)\r\n9 EXPUNGE\r\n",
            )
            .await;
            assert_lines(
                &said,
                &[
                    "* 2 FETCH (FLAGS (\\Flagged))",
                    "1 OK",
                    "* 2 FETCH (UID 2 FLAGS (\\Flagged \\Deleted))",
                    "2 OK",
                    "3 OK",
                    "* 1 FETCH (FLAGS (\\Deleted))",
                    "* 2 FETCH (FLAGS (\\Flagged \\Deleted))",
                    "* 3 FETCH (FLAGS ())",
                    "4 OK",
                    "* SEARCH 2",
                    "* 3 FETCH (BODY[TEXT] {6}",
                    " FLAGS (\\Seen))",
                    "6 OK",
                    "* STATUS INBOX (UNSEEN 2)",
                    "* 3 FETCH (UID 3 FLAGS ())",
                    "8 OK",
                    "* 2 EXPUNGE",
                    "* 1 EXPUNGE",
                    "9 OK",
                ],
            );
            // Own changes are told once.
            assert_eq!(said.matches(" FETCH (").count(), 7, "{said}");
            other.send("1 NOOP\r\n").await;
            let noticed = other.until("1 OK").await;
            let modseq = noticed.split_once("* 1 FETCH (UID 3 FLAGS (\\Recent) MODSEQ (");
            let modseq = modseq.unwrap_or_else(|| panic!("{noticed}")).1;
            let modseq: u64 = modseq.split_once(')').unwrap().0.parse().unwrap();
            assert!(modseq > highest, "{noticed}");
            other.send("2 STORE 1 +FLAGS (\\Draft)\r\n").await;
            let stored = other.until("2 OK").await;
            assert!(stored.contains(&format!("MODSEQ ({})", modseq + 2)), "{modseq}: {stored}");
        });
    }
}

/// A silent STORE whose predecessor has become visible meanwhile: neither is told, the former least
/// of all with flags that are over.
#[test]
fn a_second_store_of_a_message_does_not_tell_the_first() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", "Subject: 1\r\n\r\nbody\r\n").await;
        let mut client = Client::login(&site, "s SELECT INBOX\r\n").await;
        client.until("s OK").await;
        client.send("1 STORE 1 +FLAGS.SILENT (\\Flagged)\r\n").await;
        client.until("1 OK").await;
        let seen = say(&site, "s SELECT INBOX\r\n1 FETCH 1 FLAGS\r\n").await;
        assert!(seen.contains("\\Flagged"), "{seen}");
        client.send("2 STORE 1 +FLAGS.SILENT (\\Deleted)\r\n").await;
        let said = client.until("2 OK").await;
        assert!(!said.contains("FETCH"), "{said}");
        client.send("3 NOOP\r\n").await;
        let said = client.until("3 OK").await;
        assert!(!said.contains("FETCH"), "{said}");
    });
}

/// RFC 3501 section 6.4.6: a silent STORE hides what the client knows, not what others did meanwhile.
#[test]
fn a_silent_store_tells_what_others_changed() {
    for condstore in ["", " (CONDSTORE)"] {
        on_a_core(move |layout| async move {
            let site = imap(layout);
            for i in 1..=2 {
                site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
            }
            let select = format!("s SELECT INBOX{condstore}\r\n");
            let mut client = Client::login(&site, &select).await;
            client.until("s OK").await;
            let said =
                say(&site, "s SELECT INBOX\r\n1 STORE 1 +FLAGS (\\Flagged)\r\n2 NOOP\r\n").await;
            assert!(said.contains("2 OK"), "{said}");
            client.send("1 STORE 1:2 +FLAGS.SILENT (\\Draft)\r\n2 NOOP\r\n").await;
            let said = client.until("2 OK").await;
            assert!(said.contains("FLAGS (\\Flagged \\Draft"), "{said}");
            assert!(!said.contains("* 2 FETCH (FLAGS"), "{said}");
            client.send("3 STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\n4 NOOP\r\n").await;
            let said = client.until("4 OK").await;
            assert!(!said.contains("FLAGS ("), "{said}");
        });
    }
}

/// RFC 3501 section 6.4.5: one answer for a message, with the flags that its sending gives it, in the
/// place where they were asked for or behind all else.
#[test]
fn a_message_that_becomes_seen_is_told_once() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for i in 1..=300 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
        }
        let mut client = Client::login(&site, "s SELECT INBOX\r\n").await;
        client.until("s OK").await;
        client.send("1 FETCH 1 (FLAGS BODY[TEXT] UID)\r\n2 UID FETCH 2 BODY[TEXT]\r\n").await;
        let said = client.until("2 OK").await;
        assert!(
            said.contains("* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[TEXT] {6}\r\nbody\r\n UID 1)")
        );
        assert!(
            said.contains("* 2 FETCH (UID 2 BODY[TEXT] {6}\r\nbody\r\n FLAGS (\\Seen \\Recent))")
        );
        assert_eq!(said.matches(" FETCH (").count(), 2, "{said}");
        // Seen before: the flags are not news.
        client.send("3 FETCH 1 BODY[TEXT]\r\n4 FETCH 1:* BODY[HEADER.FIELDS (SUBJECT)]\r\n").await;
        let said = client.until("4 OK").await;
        assert!(said.contains("* 1 FETCH (BODY[TEXT] {6}\r\nbody\r\n)"), "{said}");
        assert_eq!(said.matches(" FETCH (").count(), 301, "{said}");
        assert_eq!(said.matches("FLAGS (\\Seen \\Recent))").count(), 298, "{said}");
        client.send("5 SEARCH UNSEEN\r\n6 NOOP\r\n").await;
        let said = client.until("6 OK").await;
        assert!(said.contains("* SEARCH\r\n") && !said.contains("FETCH"), "{said}");
        // With CONDSTORE the MODSEQ goes along, and it is the one that the message has.
        client.send("7 STORE 1:2 -FLAGS.SILENT (\\Seen)\r\n8 FETCH 1 MODSEQ\r\n").await;
        client.until("8 OK").await;
        client.send("9 FETCH 1:2 BODY[TEXT]\r\n10 FETCH 1:2 MODSEQ\r\n11 NOOP\r\n").await;
        let said = client.until("11 OK").await;
        let (fetched, asked) = said.split_once("9 OK").unwrap();
        let modseq = |text: &str, seq: u32| {
            let (_, rest) = text.split_once(&format!("* {seq} FETCH (")).unwrap();
            let (_, rest) = rest.split_once("MODSEQ (").unwrap();
            rest.split_once(')').unwrap().0.parse::<u64>().unwrap()
        };
        for seq in [1, 2] {
            assert_eq!(modseq(fetched, seq), modseq(asked, seq), "{said}");
        }
        assert_eq!(said.matches("FLAGS (").count(), 2, "{said}");
    });
}

/// What could not be sent is not `\Seen`.
#[test]
fn a_message_that_cannot_be_sent_stays_unseen() {
    const ODD: &str = "Subject: odd\r\nContent-Transfer-Encoding: x-odd\r\n\r\nbody\r\n";
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", ODD).await;
        site.store("jo", "INBOX", "Subject: even\r\n\r\nbody\r\n").await;
        let mut client = Client::login(&site, "s SELECT INBOX\r\n").await;
        client.until("s OK").await;
        client.send("1 FETCH 1:2 BINARY[1]\r\n2 NOOP\r\n3 FETCH 1:2 FLAGS\r\n").await;
        let said = client.until("3 OK").await;
        assert_lines(
            &said,
            &[
                "* 2 FETCH (BINARY[1] {6}",
                "body",
                " FLAGS (\\Seen \\Recent))",
                "1 NO [UNKNOWN-CTE]",
                "2 OK",
                "* 1 FETCH (FLAGS (\\Recent))",
                "* 2 FETCH (FLAGS (\\Seen \\Recent))",
            ],
        );
    });
}

/// A STORE of several transactions, whose first messages are answered while the others are under way,
/// beside another session's: in the end the client believes what is true.
#[test]
fn a_large_store_beside_others_leaves_the_client_with_what_is_true() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for i in 1..=9 {
            site.store("jo", "INBOX", &format!("Subject: {i}\r\n\r\nbody\r\n")).await;
        }
        let mut client = Client::login(&site, "s SELECT INBOX\r\n").await;
        client.until("s OK").await;
        for n in 0..10 {
            client.send(&format!("c{n} COPY 1:* INBOX\r\n")).await;
            client.until(&format!("c{n} OK")).await;
        }
        let mut other = Client::login(&site, "s SELECT INBOX\r\n").await;
        other.until("s OK").await;
        client.send("1 STORE 1:* +FLAGS (\\Flagged)\r\n").await;
        let places = [1, 5000, 8191, 8192, 8193, 9000, 9216];
        let beside = |(n, place)| format!("o{n} STORE {place} +FLAGS (\\Answered)\r\n");
        other
            .send(&places.iter().cycle().take(70).enumerate().map(beside).collect::<String>())
            .await;
        let mut said = client.until("1 OK").await;
        assert!(said.matches(" FETCH (").count() >= 9216);
        other.until("o69 OK").await;
        client.send("2 NOOP\r\n").await;
        said += &client.until("2 OK").await;
        let flags = |said: &str| -> std::collections::BTreeMap<u32, String> {
            let lines = said.lines().filter_map(|line| {
                let (seq, rest) = line.strip_prefix("* ")?.split_once(" FETCH (")?;
                let from = rest.find("FLAGS (")?;
                let flags = rest[from + 7..].split_once(')')?.0.replace("\\Recent", "");
                Some((seq.parse().ok()?, flags.trim().to_owned()))
            });
            lines.collect()
        };
        other.send("3 FETCH 1:* FLAGS\r\n").await;
        let (believed, there) = (flags(&said), flags(&other.until("3 OK").await));
        assert_eq!(there.values().filter(|flags| flags.contains("Answered")).count(), places.len());
        assert!(there.len() == 9216 && believed == there);
    });
}
