//! LIST with its extensions (RFC 5258, 5819, 6154, 9051, 9590) and XLIST, scripted.

use crate::site::imap::say;
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};

async fn with_names(layout: LayoutKind, mailboxes: &[&str], subscribed: &[&str]) -> Site {
    let site = Site::new(Protocol::Imap, layout, |_| {});
    let user = site.user("jo").await;
    for name in mailboxes {
        user.create(name, &[]).await.unwrap();
    }
    for name in subscribed {
        user.subscribe(name, true).await.unwrap();
    }
    site
}

/// The lines of each command, without those that end it.
fn answers(said: &str) -> Vec<Vec<&str>> {
    let mut all = vec![Vec::new()];
    for line in said.split_terminator("\r\n") {
        match line.strip_prefix("* ") {
            Some(line) => all.last_mut().unwrap().push(line),
            None => {
                assert!(line.contains(" OK "), "{line}\nof\n{said}");
                all.push(Vec::new());
            }
        }
    }
    all.pop();
    all
}

/// RFC 5258 section 5, examples 1 to 6; nothing is remote here.
#[test]
fn subscriptions_and_children() {
    on_a_core(|layout| async move {
        let site = with_names(
            layout,
            &["Fruit", "Fruit/Apple", "Fruit/Banana", "Tofu", "Vegetable", "Vegetable/Corn"],
            &["INBOX", "Fruit/Banana", "Fruit/Peach", "Vegetable"],
        )
        .await;
        let said = say(
            &site,
            "A02 LIST (SUBSCRIBED) \"\" \"*\"\r\nA03 LIST () \"\" \"%\" RETURN (CHILDREN)\r\n\
             A04 LIST (REMOTE) \"\" \"%\" RETURN (CHILDREN)\r\n\
             A05 LIST (REMOTE SUBSCRIBED) \"\" \"*\"\r\n\
             A06 LIST (REMOTE) \"\" \"*\" RETURN (SUBSCRIBED)\r\n",
        )
        .await;
        let found = answers(&said);
        let subscribed = [
            "LIST (\\NonExistent \\Noselect \\Subscribed \\HasNoChildren) \"/\" Fruit/Peach",
            "LIST (\\Subscribed \\HasChildren) \"/\" Vegetable",
            "LIST (\\Subscribed \\HasNoChildren) \"/\" Fruit/Banana",
            "LIST (\\Subscribed \\HasNoChildren) \"/\" INBOX",
        ];
        let sorted = |lines: &[&str]| {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&found[0]), subscribed);
        let top = [
            "LIST (\\HasChildren) \"/\" Fruit",
            "LIST (\\HasChildren) \"/\" Vegetable",
            "LIST (\\HasNoChildren) \"/\" INBOX",
            "LIST (\\HasNoChildren) \"/\" Tofu",
        ];
        assert_eq!(sorted(&found[1]), top);
        assert_eq!(sorted(&found[2]), top);
        assert_eq!(sorted(&found[3]), subscribed);
        let marked = found[4].iter().filter(|line| line.contains("\\Subscribed"));
        assert_eq!((found[4].len(), marked.count()), (7, 3), "{said}");
        assert!(!said.contains("A06") || !found[4].iter().any(|line| line.contains("Peach")));
    });
}

/// RFC 5258 section 5, example 9: what is listed itself makes no CHILDINFO for what is above it.
#[test]
fn recursive_matches() {
    on_a_core(|layout| async move {
        let subscribed = [
            "foo2/bar1",
            "foo2/bar2",
            "baz2/bar2",
            "baz2/bar22",
            "baz2/bar222",
            "eps2",
            "eps2/mamba",
            "qux2/bar2",
        ];
        let mailboxes: Vec<&str> = ["foo2", "baz2"].into_iter().chain(subscribed).collect();
        let site = with_names(layout, &mailboxes, &subscribed).await;
        let said = say(
            &site,
            "D03 LIST (RECURSIVEMATCH SUBSCRIBED) \"\" \"*2\"\r\n\
             D04 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"%\"\r\n",
        )
        .await;
        let names = |lines: &[&str]| {
            let short = |line: &&str| {
                let (_, name) = line.split_once("\"/\" ").unwrap();
                name.replace(" (\"CHILDINFO\" (\"SUBSCRIBED\"))", " +")
            };
            lines.iter().map(short).collect::<Vec<_>>()
        };
        let found = answers(&said);
        let expected = [
            "baz2/bar2",
            "baz2/bar22",
            "baz2/bar222",
            "eps2 +",
            "foo2 +",
            "foo2/bar2",
            "qux2/bar2",
        ];
        assert_eq!(names(&found[0]), expected);
        assert_eq!(names(&found[1]), ["baz2 +", "eps2 +", "foo2 +", "qux2 +"]);
        assert!(found[1][3].starts_with("LIST (\\NonExistent "), "{said}");
        let said = say(
            &site,
            "1 LIST (RECURSIVEMATCH) \"\" *\r\n2 LIST (RECURSIVEMATCH REMOTE) \"\" *\r\n\
             3 LIST (RECURSIVEMATCH SPECIAL-USE) \"\" *\r\n4 LIST () \"\" (\"\" eps2)\r\n\
             5 LIST \"\" \"\"\r\n6 LIST () \"\" \"\"\r\n",
        )
        .await;
        for bad in ["1", "2", "3"] {
            assert!(said.contains(&format!("{bad} BAD ")), "{said}");
        }
        let rest = said.split_once("* LIST").unwrap().1;
        let expected = " (\\HasChildren) \"/\" eps2\r\n4 OK Completed\r\n\
            * LIST (\\Noselect) \"/\" \"\"\r\n5 OK Completed\r\n6 OK Completed\r\n";
        assert_eq!(rest, expected);
    });
}

/// RFC 6154 section 5, RFC 8457, RFC 9590 section 3, RFC 5819, and XLIST.
#[test]
fn uses_states_and_metadata_come_with_the_names() {
    on_a_core(|layout| async move {
        let site = with_names(layout, &["plain"], &[]).await;
        let said = say(
            &site,
            "1 CREATE MySent (USE (\\Sent \\Important))\r\n2 CREATE x (USE (\\Odd))\r\n\
             3 SETMETADATA MySent (/shared/comment \"c\" /private/comment \"p\")\r\n\
             4 LIST (SPECIAL-USE) \"\" *\r\n\
             5 LIST \"\" % RETURN (METADATA (/shared/comment /private/x) STATUS (MESSAGES))\r\n\
             6 XLIST \"\" %\r\n7 LIST \"\" % RETURN (METADATA ())\r\n",
        )
        .await;
        let (_, said) = said.split_once(" Created\r\n").unwrap();
        let expected = "2 NO [USEATTR] Unknown special use\r\n3 OK Completed\r\n\
            * LIST (\\HasNoChildren \\Sent \\Important) \"/\" MySent\r\n4 OK Completed\r\n\
            * LIST (\\HasNoChildren) \"/\" INBOX\r\n* STATUS INBOX (MESSAGES 0)\r\n\
            * METADATA INBOX (/shared/comment NIL /private/x NIL)\r\n\
            * LIST (\\HasNoChildren \\Sent \\Important) \"/\" MySent\r\n\
            * STATUS MySent (MESSAGES 0)\r\n\
            * METADATA MySent (/shared/comment \"c\" /private/x NIL)\r\n\
            * LIST (\\HasNoChildren) \"/\" plain\r\n* STATUS plain (MESSAGES 0)\r\n\
            * METADATA plain (/shared/comment NIL /private/x NIL)\r\n5 OK Completed\r\n\
            * XLIST (\\HasNoChildren \\Inbox) \"/\" INBOX\r\n\
            * XLIST (\\HasNoChildren \\Sent \\Important) \"/\" MySent\r\n\
            * XLIST (\\HasNoChildren) \"/\" plain\r\n6 OK Completed\r\n\
            7 BAD Expected the name of an entry at byte 30\r\n";
        assert_eq!(said, expected);
    });
}

/// Cyrus's and c-client's: a LIST of what has a text. What cannot be read has none.
#[test]
fn scan_lists_what_has_a_text() {
    on_a_core(|layout| async move {
        let site = with_names(layout, &["pears", "pears/more", "empty"], &[]).await;
        site.store("jo", "pears", "Subject: fruit\r\n\r\nAn Apple.\r\n").await;
        site.store("jo", "pears/more", "Subject: apple\r\n\r\nNothing.\r\n").await;
        let said = say(
            &site,
            "1 SCAN \"\" * aPPLE\r\n2 SCAN \"\" % \"an apple\"\r\n3 SCAN pears/ % {7+}\r\nnothing\r\n\
             4 SCAN \"\" * nowhere\r\n5 SCAN \"\" * \"\"\r\n6 SCAN \"\" *\r\n",
        )
        .await;
        let expected = "* LIST (\\HasChildren) \"/\" pears\r\n\
            * LIST (\\HasNoChildren) \"/\" pears/more\r\n1 OK Completed\r\n\
            * LIST (\\HasChildren) \"/\" pears\r\n2 OK Completed\r\n\
            * LIST (\\HasNoChildren) \"/\" pears/more\r\n3 OK Completed\r\n4 OK Completed\r\n\
            * LIST (\\HasChildren) \"/\" pears\r\n\
            * LIST (\\HasNoChildren) \"/\" pears/more\r\n5 OK Completed\r\n\
            6 BAD Expected a space at byte 11\r\n";
        assert_eq!(said, expected);
    });
}

/// RFC 9051 section 6.3.6.
#[test]
fn a_rename_tells_the_old_name() {
    on_a_core(|layout| async move {
        let site = with_names(layout, &["old"], &[]).await;
        let said = say(&site, "1 ENABLE IMAP4rev2\r\n2 RENAME old new\r\n").await;
        assert!(said.contains("* LIST () \"/\" new (\"OLDNAME\" (old))\r\n2 OK"), "{said}");
    });
}
