//! Named searches: RFC 5466.

use crate::site::imap::{assert_lines, say};
use crate::site::{Site, on_a_core};
use config::Protocol;

async fn fill(site: &Site) {
    for (from, subject) in [("boss@example.com", "one"), ("x@example.com", "two"), ("y@z", "grüße")]
    {
        let message = format!("From: {from}\r\nSubject: {subject}\r\n\r\nText\r\n");
        site.store("jo", "INBOX", &message).await;
    }
}

/// RFC 5466 sections 3.1 and 3.2, in every command that searches.
#[test]
fn a_filter_stands_for_what_is_stored_under_its_name() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        fill(&site).await;
        // Administrators set what is everybody's.
        let shared = |name: &str, value: &str| {
            vec![(format!("/shared/filters/values/{name}"), Some(value.as_bytes().to_vec()))]
        };
        let user = site.user("boss").await;
        user.set_metadata(None, "boss", shared("greeting", "SUBJECT \"grüße\"")).await.unwrap();
        user.set_metadata(None, "boss", shared("on-the-road", "ALL")).await.unwrap();
        let said = say(
            &site,
            "0 SELECT INBOX\r\n\
             1 SETMETADATA \"\" (/private/filters/values/on-the-road \
             \"OR SMALLER 5 FROM \\\"boss@example.com\\\"\")\r\n\
             2 SEARCH UID 1:900 FILTER On-The-Road SINCE \"3-Dec-2002\"\r\n\
             3 UID SEARCH RETURN (COUNT) NOT FILTER on-the-road\r\n\
             4 SEARCH FILTER greeting\r\n\
             5 SETMETADATA \"\" (/private/filters/values/both \"OR FILTER greeting FILTER on-the-road\")\r\n\
             6 SORT (SUBJECT) UTF-8 FILTER both\r\n\
             7 THREAD ORDEREDSUBJECT US-ASCII FILTER both\r\n\
             8 ESEARCH IN (mailboxes INBOX) RETURN (ALL) FILTER both\r\n\
             9 SETMETADATA \"\" (/private/filters/values/on-the-road NIL)\r\n\
             10 SEARCH FILTER on-the-road\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "1 OK",
                "2 OK",
                "* ESEARCH (TAG \"3\") UID COUNT 2",
                "3 OK",
                "* SEARCH 3",
                "4 OK",
                "5 OK",
                "* SORT 3 1",
                "6 OK",
                "* THREAD (1)(3)",
                "7 OK",
                "* ESEARCH (TAG \"8\" MAILBOX INBOX",
                "8 OK",
                "9 OK",
                "* SEARCH 1 2 3",
                "10 OK",
            ],
        );
        assert!(said.contains("* SEARCH 1\r\n2 OK"), "{said}");
        let said =
            site.say("l LOGIN boss geheim\r\n1 SELECT INBOX\r\n2 SEARCH FILTER both\r\n").await;
        assert!(said.contains("2 NO [UNDEFINED-FILTER both] "), "others' are not seen: {said}");
    });
}

#[test]
fn what_is_no_search_is_neither_stored_nor_used() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        fill(&site).await;
        // The engine takes everything; the session looks at it.
        let user = site.user("jo").await;
        let bad = vec![("/private/filters/values/bad".to_owned(), Some(b"OR SMALLER".to_vec()))];
        user.set_metadata(None, "jo", bad).await.unwrap();
        let said = say(
            &site,
            "0 SELECT INBOX\r\n\
             1 SETMETADATA \"\" (/private/filters/values/x \"OR SMALLER\")\r\n\
             2 SETMETADATA \"\" (/private/filters/values/x \"SEEN \")\r\n\
             3 SETMETADATA \"\" (/private/filters/values/x/y \"SEEN\")\r\n\
             4 SETMETADATA \"\" (/private/filters/descriptions/x \"What I want\")\r\n\
             5 SEARCH FILTER bad\r\n6 SEARCH FILTER none\r\n7 SEARCH FILTER a/b\r\n\
             8 SEARCH CHARSET ISO-8859-1 FILTER none\r\n9 SEARCH CHARSET UTF-8 FILTER none\r\n\
             10 SORT (ARRIVAL) KOI8-R FILTER none\r\n11 CAPABILITY\r\n",
        )
        .await;
        let expected = [
            "1 NO [CANNOT] Not a search",
            "2 NO [CANNOT]",
            "3 NO [CANNOT] No name for a filter",
            "4 OK",
            "5 NO [UNDEFINED-FILTER bad]",
            "6 NO [UNDEFINED-FILTER none]",
            "7 BAD ",
            "8 BAD [BADCHARSET (UTF-8)]",
            "9 NO [UNDEFINED-FILTER none]",
            "10 BAD [BADCHARSET (UTF-8)]",
        ];
        assert_lines(&said, &expected);
        assert!(said.contains(" FILTERS "), "{said}");
    });
}

/// RFC 5466 section 3.1: three levels are there, circles are as if the filter were not.
#[test]
fn filters_in_filters_end() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        fill(&site).await;
        let mut script = "0 SELECT INBOX\r\n".to_owned();
        let mut set = |name: &str, value: &str| {
            let entry = format!("/private/filters/values/{name}");
            script += &format!("s SETMETADATA \"\" ({entry} {{{}+}}\r\n{value})\r\n", value.len());
        };
        set("f0", "SUBJECT two");
        for level in 1..=9 {
            set(&format!("f{level}"), &format!("FILTER f{}", level - 1));
        }
        set("self", "SEEN FILTER self");
        set("ping", "FILTER pong");
        set("pong", "FILTER ping");
        set("wide0", &vec!["SEEN"; 100].join(" "));
        for level in 1..=3 {
            set(&format!("wide{level}"), &vec![format!("FILTER wide{}", level - 1); 100].join(" "));
        }
        script += "1 SEARCH FILTER f7\r\n2 SEARCH FILTER f9\r\n3 SEARCH FILTER self\r\n\
                   4 SEARCH FILTER ping\r\n5 SEARCH FILTER wide3\r\n6 SEARCH FILTER wide0\r\n";
        let said = say(&site, &script).await;
        assert_eq!(said.matches("s OK").count(), 17, "{said}");
        let expected = [
            "* SEARCH 2",
            "1 OK",
            "2 NO [UNDEFINED-FILTER f1]",
            "3 NO [UNDEFINED-FILTER self]",
            "4 NO [UNDEFINED-FILTER p",
            "5 NO [LIMIT]",
            "6 OK",
        ];
        assert_lines(&said, &expected);
    });
}

/// What stands in a filter counts as if it stood in the command.
#[test]
fn numbers_in_a_filter_are_those_of_the_command() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        fill(&site).await;
        let said = say(
            &site,
            "0 SELECT INBOX\r\n\
             1 SETMETADATA \"\" (/private/filters/values/first \"1:2\" /private/filters/values/change \
             \"MODSEQ 1\")\r\n\
             2 UID SEARCH FILTER first\r\n3 SEARCH FILTER change\r\n\
             4 ENABLE UIDONLY\r\n5 UID SEARCH FILTER first\r\n6 UID SEARCH FILTER change\r\n",
        )
        .await;
        let expected = [
            "* SEARCH 1 2",
            "2 OK",
            "* SEARCH 1 2 3 (MODSEQ",
            "3 OK",
            "4 OK",
            "5 BAD [UIDREQUIRED]",
            "6 OK",
        ];
        assert_lines(&said, &expected);
    });
}
