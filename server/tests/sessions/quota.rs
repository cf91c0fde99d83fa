//! QUOTA (RFC 9208), scripted.

use crate::site::imap::{assert_lines, say, say_as};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};
use engine::QuotaLimits;

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |_| {})
}

/// RFC 9208 sections 4.1.1 and 4.1.2.
#[test]
fn roots_are_told_with_what_is_limited() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = say(&site, "1 GETQUOTAROOT INBOX\r\n2 GETQUOTA \"\"\r\n").await;
        let unlimited = "* QUOTAROOT INBOX #user/jo\r\n* QUOTA #user/jo ()\r\n1 OK Completed\r\n\
                         * QUOTA #user/jo ()\r\n2 OK Completed\r\n";
        assert_eq!(said, unlimited);
        let user = site.user("jo").await;
        let own = QuotaLimits { bytes: Some(512 << 10), ..QuotaLimits::default() };
        user.set_quota(None, Some(own)).await.unwrap();
        user.create("Entwürfe", &[]).await.unwrap();
        let nested =
            QuotaLimits { messages: Some(42), mailboxes: Some(3), ..QuotaLimits::default() };
        user.set_quota(Some("Entwürfe"), Some(nested)).await.unwrap();
        site.store("jo", "INBOX", MESSAGE).await;
        site.store("jo", "Entwürfe", MESSAGE).await;
        let said = say(
            &site,
            "1 GETQUOTAROOT INBOX\r\n2 GETQUOTAROOT Entw&APw-rfe/new\r\n\
             3 GETQUOTA #user/jo/Entw&APw-rfe\r\n4 GETQUOTA Entw&APw-rfe\r\n5 GETQUOTA INBOX\r\n\
             6 GETQUOTA #user/mo@example.org\r\n7 GETQUOTA nowhere\r\n8 GETQUOTA\r\n\
             9 SETQUOTA \"\" (STORAGE 10)\r\n",
        )
        .await;
        let expected = "* QUOTAROOT INBOX #user/jo\r\n* QUOTA #user/jo (STORAGE 1 512)\r\n\
            1 OK Completed\r\n\
            * QUOTAROOT Entw&APw-rfe/new #user/jo/Entw&APw-rfe\r\n\
            * QUOTA #user/jo/Entw&APw-rfe (MESSAGE 1 42 MAILBOX 1 3)\r\n2 OK Completed\r\n\
            * QUOTA #user/jo/Entw&APw-rfe (MESSAGE 1 42 MAILBOX 1 3)\r\n3 OK Completed\r\n\
            * QUOTA #user/jo/Entw&APw-rfe (MESSAGE 1 42 MAILBOX 1 3)\r\n4 OK Completed\r\n\
            * QUOTA #user/jo (STORAGE 1 512)\r\n5 OK Completed\r\n\
            6 NO [NONEXISTENT] No such quota root\r\n7 NO [NONEXISTENT] No such quota root\r\n\
            8 BAD Expected a space at byte 10\r\n\
            9 NO [NOPERM] Limits are set by administrators\r\n";
        assert_eq!(said, expected);
    });
}

/// RFC 9208 section 4.3.1, for each command that adds something.
#[test]
fn what_would_pass_a_limit_is_refused() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let user = site.user("jo").await;
        user.create("x", &[]).await.unwrap();
        let limits =
            QuotaLimits { messages: Some(1), mailboxes: Some(2), ..QuotaLimits::default() };
        user.set_quota(Some("x"), Some(limits)).await.unwrap();
        site.store("jo", "INBOX", MESSAGE).await;
        site.store("jo", "INBOX", MESSAGE).await;
        let said = say(
            &site,
            "s SELECT INBOX\r\n1 COPY 1:2 x\r\n2 MOVE 1:2 x\r\n3 COPY 1 x\r\n\
             4 APPEND x {9+}\r\na: b\r\n\r\nc\r\n5 CREATE x/y\r\n6 CREATE x/z\r\n\
             7 RENAME x/y INBOX/y\r\n8 CREATE x/z\r\n9 RENAME INBOX/y x/y\r\n",
        )
        .await;
        for refused in ["1", "2", "4", "6", "9"] {
            assert!(said.contains(&format!("\r\n{refused} NO [OVERQUOTA]")), "{refused}: {said}");
        }
        for done in ["3", "5", "7", "8"] {
            assert!(said.contains(&format!("\r\n{done} OK")), "{done}: {said}");
        }
    });
}

/// RFC 9208 section 4.1.4.
#[test]
fn status_tells_what_an_expunge_would_free() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for _ in 0..3 {
            site.store("jo", "INBOX", MESSAGE).await;
        }
        let said = say(
            &site,
            "1 STATUS INBOX (DELETED DELETED-STORAGE)\r\ns SELECT INBOX\r\n\
             2 STORE 1:2 +FLAGS.SILENT \\Deleted\r\n3 CLOSE\r\n",
        )
        .await;
        assert!(said.starts_with("* STATUS INBOX (DELETED 0 DELETED-STORAGE 0)\r\n"), "{said}");
        for _ in 0..3 {
            site.store("jo", "INBOX", MESSAGE).await;
        }
        let said = say(
            &site,
            "s SELECT INBOX\r\n1 STORE 1:2 +FLAGS.SILENT \\Deleted\r\n\
             2 STATUS INBOX (MESSAGES DELETED DELETED-STORAGE)\r\n\
             3 LIST \"\" INBOX RETURN (STATUS (DELETED-STORAGE))\r\n",
        )
        .await;
        let bytes = 2 * MESSAGE.len();
        let status = format!("* STATUS INBOX (MESSAGES 4 DELETED 2 DELETED-STORAGE {bytes})\r\n");
        assert!(said.contains(&status), "{said}");
        let listed = format!("* STATUS INBOX (DELETED-STORAGE {bytes})\r\n");
        assert!(said.contains(&listed), "{said}");
    });
}

/// ANNOTATION-STORAGE: RFC 9208 section 5.4.
#[test]
fn annotations_and_metadata_are_counted_and_refused() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.auth.admins = vec!["cyrus".into()];
        });
        site.store("jo", "INBOX", MESSAGE).await;
        let long = "x".repeat(1000);
        let limit = "1 SETQUOTA user/jo (STORAGE 10 ANNOTATION-STORAGE 2)\r\n";
        let said = say_as(&site, "cyrus", limit).await;
        let told = "* QUOTA #user/jo (STORAGE 1 10 ANNOTATION-STORAGE 0 2)\r\n1 OK Completed\r\n";
        assert_eq!(said, told);
        let said = say(
            &site,
            &format!(
                "s SELECT INBOX\r\n\
                 1 STORE 1 ANNOTATION (/comment (value.priv \"{long}\"))\r\n\
                 2 SETMETADATA INBOX (/shared/comment \"{long}\")\r\n\
                 3 GETQUOTA \"\"\r\n\
                 4 STORE 1 ANNOTATION (/altsubject (value.shared \"{long}\"))\r\n\
                 5 SETMETADATA INBOX (/private/comment \"{long}\")\r\n6 COPY 1 INBOX\r\n\
                 7 APPEND INBOX ANNOTATION (/comment (value.priv \"{long}\")) {{8+}}\r\n\
                 a: b\r\n\r\n\r\n\
                 8 STORE 1 ANNOTATION (/comment (value.priv \"short\"))\r\n\
                 9 SETMETADATA INBOX (/private/comment \"{long}\")\r\n10 GETQUOTAROOT INBOX\r\n\
                 11 STORE 1 +FLAGS (\\Deleted)\r\n12 EXPUNGE\r\n\
                 13 SETMETADATA INBOX (/private/comment NIL /shared/comment NIL)\r\n\
                 14 GETQUOTA \"\"\r\n"
            ),
        )
        .await;
        let usage =
            |units: u32| format!("* QUOTA #user/jo (STORAGE 1 10 ANNOTATION-STORAGE {units} 2)");
        assert_lines(
            &said,
            &[
                "1 OK",
                "2 OK",
                &usage(2),
                "3 OK",
                "4 NO [OVERQUOTA]",
                "5 NO [OVERQUOTA]",
                "6 NO [OVERQUOTA]",
                "7 NO [OVERQUOTA]",
                "8 OK",
                "9 OK",
                "* QUOTAROOT INBOX #user/jo",
                &usage(2),
                "10 OK",
                "12 OK",
                "13 OK",
                "* QUOTA #user/jo (STORAGE 0 10 ANNOTATION-STORAGE 0 2)",
                "14 OK",
            ],
        );
    });
}
