//! METADATA (RFC 5464), scripted.

use crate::site::imap::{Client, say};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |config| {
        config.imap.metadata_admin = "mailto:root@example.org".into();
        config.limits.metadata_value_bytes_max = 2000;
        config.limits.metadata_entries_max = 10;
    })
}

/// The examples of RFC 5464 sections 4.2 and 4.3.
#[test]
fn values_come_back_as_they_were_set() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let long = "x".repeat(1999);
        let said = say(
            &site,
            &format!(
                "1 SETMETADATA INBOX (/private/comment {{35+}}\r\nMy new comment across\r\ntwo lines.\r\n)\r\n\
                 2 GETMETADATA INBOX /private/comment\r\n\
                 3 SETMETADATA INBOX (/private/comment \"My own comment\" /shared/comment {{1999+}}\r\n{long})\r\n\
                 4 GETMETADATA \"INBOX\" (MAXSIZE 1024) (/shared/comment /Private/Comment)\r\n\
                 5 SETMETADATA INBOX (/shared/comment NIL)\r\n\
                 6 GETMETADATA \"INBOX\" (/shared/comment /private/comment)\r\n\
                 7 SETMETADATA INBOX (/private/filters/values/small \"SMALLER 5000\" \
                 /private/filters/values/boss \"FROM \\\"boss@example.com\\\"\")\r\n\
                 8 GETMETADATA \"INBOX\" (DEPTH 1) (/private/filters/values)\r\n\
                 9 GETMETADATA INBOX (\"/private/*\")\r\n"
            ),
        )
        .await;
        let expected = "1 OK Completed\r\n\
            * METADATA INBOX (/private/comment {35}\r\nMy new comment across\r\ntwo lines.\r\n)\r\n2 OK Completed\r\n\
            3 OK Completed\r\n\
            * METADATA INBOX (/Private/Comment \"My own comment\")\r\n\
            4 OK [METADATA LONGENTRIES 1999] Completed\r\n\
            5 OK Completed\r\n\
            * METADATA INBOX (/shared/comment NIL /private/comment \"My own comment\")\r\n\
            6 OK Completed\r\n7 OK Completed\r\n\
            * METADATA INBOX (/private/filters/values/boss \"FROM \\\"boss@example.com\\\"\" \
            /private/filters/values/small \"SMALLER 5000\")\r\n8 OK Completed\r\n\
            * METADATA INBOX (/private/comment \"My own comment\" \
            /private/filters/values/boss \"FROM \\\"boss@example.com\\\"\" \
            /private/filters/values/small \"SMALLER 5000\")\r\n9 OK Completed\r\n";
        assert_eq!(said, expected);
    });
}

#[test]
fn limits_scopes_and_the_servers_entries() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.user("jo").await.create("s", &[engine::SpecialUse::Sent]).await.unwrap();
        let (long, too_long) = ("x".repeat(2000), "x".repeat(2001));
        let many: String = (0..10).map(|n| format!(" /shared/{n} \"v\"")).collect();
        let said = say(
            &site,
            &format!(
                "1 SETMETADATA INBOX (/private/a {{2000+}}\r\n{long})\r\n\
                 2 SETMETADATA INBOX (/private/b \"v\" /private/a {{2001+}}\r\n{too_long})\r\n\
                 3 GETMETADATA INBOX /private/b\r\n\
                 4 SETMETADATA INBOX ({})\r\n5 SETMETADATA INBOX (/shared/x \"v\")\r\n\
                 6 SETMETADATA INBOX (/shared/x \"v\" /shared/0 NIL)\r\n\
                 7 SETMETADATA INBOX (comment \"v\")\r\n8 SETMETADATA INBOX (/shared/vendor/x \"v\")\r\n\
                 9 SETMETADATA nowhere (/shared/x \"v\")\r\n10 GETMETADATA nowhere /shared/x\r\n\
                 11 GETMETADATA \"\" /shared/admin\r\n12 SETMETADATA \"\" (/shared/admin \"x\")\r\n\
                 13 SETMETADATA \"\" (/shared/comment \"x\")\r\n\
                 14 SETMETADATA \"\" (/private/vendor/a/b ~{{3+}}\r\na\0b)\r\n\
                 15 GETMETADATA \"\" (DEPTH infinity) (/private /shared)\r\n\
                 17 GETMETADATA s /private/specialuse\r\n\
                 18 SETMETADATA s (/private/specialuse \"\\\\Archive\")\r\n19 LIST \"\" s\r\n\
                 20 SETMETADATA s (/private/specialuse \"\\\\Odd\")\r\n",
                many.trim_start()
            ),
        )
        .await;
        let expected = "1 OK Completed\r\n2 NO [METADATA MAXSIZE 2000] Value is too large\r\n\
            * METADATA INBOX (/private/b NIL)\r\n3 OK Completed\r\n4 OK Completed\r\n\
            5 NO [METADATA TOOMANY] Too many entries\r\n6 OK Completed\r\n\
            7 BAD Expected names that begin with /private or /shared\r\n\
            8 NO [CANNOT] an entry needs a name below its scope and vendor\r\n\
            9 NO [NONEXISTENT] No such mailbox\r\n10 NO [NONEXISTENT] No such mailbox\r\n\
            * METADATA \"\" (/shared/admin mailto:root@example.org)\r\n";
        let expected = expected.replace("mailto:root@example.org", "\"mailto:root@example.org\"");
        assert!(said.starts_with(&expected), "{said}");
        let rest = &said[expected.len()..];
        let expected = "11 OK Completed\r\n\
            12 NO [CANNOT] That entry is set in the configuration\r\n\
            13 NO [NOPERM] Administrators set the server's shared entries\r\n14 OK Completed\r\n\
            * METADATA \"\" (/private/vendor/a/b ~{3}\r\na\0b \
            /shared/admin \"mailto:root@example.org\")\r\n15 OK Completed\r\n\
            * METADATA s (/private/specialuse \"\\\\Sent\")\r\n17 OK Completed\r\n\
            18 OK Completed\r\n* LIST (\\HasNoChildren \\Archive) \"/\" s\r\n19 OK Completed\r\n\
            20 NO [CANNOT] unknown special use\r\n";
        assert_eq!(rest, expected);
    });
}

/// RFC 5464 section 4.4.2: others' changes are told, the session's own are not.
#[test]
fn changes_by_others_are_told_where_that_is_enabled() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let user = site.user("jo").await;
        let value = |entry: &str| vec![(entry.to_owned(), Some(b"v".to_vec()))];
        let enabled = site.talk(&[
            b"l LOGIN jo geheim\r\ne ENABLE METADATA\r\n1 SETMETADATA INBOX (/shared/own \"v\")\r\n",
        ]);
        assert!(enabled.await.contains("* ENABLED METADATA\r\n"));
        let (mut one, mut other) =
            (Client::login(&site, "e ENABLE METADATA\r\n").await, Client::login(&site, "").await);
        one.until("e OK").await;
        other.until("Logged in\r\n").await;
        user.set_metadata(Some("INBOX"), "jo", value("/shared/comment")).await.unwrap();
        user.set_metadata(Some("INBOX"), "mo@example.org", value("/private/x")).await.unwrap();
        user.set_metadata(None, "jo", value("/private/y")).await.unwrap();
        one.send("1 SETMETADATA INBOX (/shared/own \"v\")\r\n2 NOOP\r\n").await;
        let told = one.until("2 OK").await;
        assert!(told.contains("* METADATA INBOX /shared/comment\r\n"), "{told}");
        assert!(told.contains("* METADATA \"\" /private/y\r\n"), "{told}");
        assert!(!told.contains("/private/x") && !told.contains("/shared/own"), "{told}");
        other.send("2 NOOP\r\n").await;
        assert!(!other.until("2 OK").await.contains("METADATA"));
        one.send("i IDLE\r\n").await;
        one.until("+ ").await;
        user.set_metadata(Some("INBOX"), "jo", value("/shared/idle")).await.unwrap();
        one.until("* METADATA INBOX /shared/idle\r\n").await;
    });
}
