//! Settings that other servers have and that are ours as well, in sessions.

use crate::site::imap::{assert_lines, say, say_as};
use crate::site::{Site, on_a_core};
use config::{Domain, NewMailbox, OverQuota, PlainLogin, Protocol};

/// Courier's `IMAP_CAPABILITY` and Cyrus's `suppress_capabilities`.
#[test]
fn suppressed_words_are_not_told_and_still_work() {
    on_a_core(|layout| async move {
        let words = ["IDLE", "sort", "ID"].map(str::to_owned).to_vec();
        let site = Site::new(Protocol::Imap, layout, |c| c.imap.suppress_capabilities = words);
        let said = say(&site, "1 CAPABILITY\r\n2 ID NIL\r\n").await;
        let words: Vec<&str> = said.lines().next().unwrap().split(' ').collect();
        assert!(!words.contains(&"IDLE") && !words.contains(&"SORT") && !words.contains(&"ID"));
        assert!(words.contains(&"SORT=DISPLAY") && words.contains(&"IMAP4rev1"), "{said}");
        assert_lines(&said, &["* ID (", "2 OK"]);
        let before = site.say("1 CAPABILITY\r\n").await;
        assert!(!before.contains(" ID "), "{before}");
    });
}

/// Cyrus's `quotawarn`.
#[test]
fn select_warns_of_a_limit_that_is_nearly_reached() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |c| c.imap.quota_warn_percent = 40);
        let warning = "* NO [ALERT] Mailbox is at ";
        assert!(!say_as(&site, "full", "1 SELECT INBOX\r\n").await.contains(warning));
        site.store("full", "INBOX", &format!("Subject: x\r\n\r\n{}\r\n", "y".repeat(1000))).await;
        let said = say_as(&site, "full", "1 SELECT INBOX\r\n2 EXAMINE INBOX\r\n").await;
        assert_lines(&said, &["* NO [ALERT] Mailbox is at 49% of quota", "1 OK"]);
        assert_eq!(said.matches(warning).count(), 2, "{said}");
        site.store("jo", "INBOX", "Subject: x\r\n\r\ny\r\n").await;
        assert!(!say(&site, "1 SELECT INBOX\r\n").await.contains("ALERT"), "without a limit");
    });
}

/// Cyrus's `autocreate_inbox_folders`, `autocreate_subscribe_folders` and `xlist-*`.
#[test]
fn new_users_have_the_mailboxes_that_are_set_and_old_ones_do_not_get_them() {
    on_a_core(|layout| async move {
        let made = |name: &str, special_use: &str, subscribe| NewMailbox {
            name: name.to_owned(),
            special_use: special_use.to_owned(),
            subscribe,
        };
        let made = vec![made("Sent", "\\Sent", true), made("Lists/One", "", false)];
        let site = Site::new(Protocol::Imap, layout, |c| c.store.new_mailbox = made);
        let said = say(&site, "1 LIST \"\" *\r\n2 LSUB \"\" *\r\n3 DELETE Sent\r\n").await;
        assert_lines(&said, &["* LIST", "1 OK", "* LSUB", "2 OK", "3 OK"]);
        assert!(said.contains("\\Sent) \"/\" Sent") && said.contains("Lists/One"), "{said}");
        assert_eq!(said.matches("* LSUB").count(), 1, "{said}");
        assert!(!say(&site, "1 LIST \"\" *\r\n").await.contains("Sent"), "made once");
    });
}

/// Courier's `IMAP_TLS_REQUIRED=0`, Cyrus's `allowplaintext` and `defaultdomain`.
#[test]
fn passwords_in_clear_and_domains_of_names() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |c| {
            c.auth.default_domain = "example.org".to_owned();
        });
        let said = site.say("1 LOGIN ann geheim\r\n2 LOGIN jo geheim\r\n").await;
        assert_lines(&said, &["1 OK"]);
        let site = Site::new(Protocol::Imap, layout, |c| {
            c.auth.bare_domain = "example.org".to_owned();
        });
        site.listener(|l| l.plain_login = PlainLogin::Always);
        let said = site.say("1 LOGIN jo@Example.org geheim\r\n2 LOGOUT\r\n").await;
        assert_lines(&said, &["1 OK", "2 OK"]);
        let said = site.say("1 LOGIN ann@example.org geheim\r\n").await;
        assert_lines(&said, &["1 NO"]);
    });
}

/// Cyrus's `lmtp_catchall_mailbox`, `lmtp_over_quota_perm_failure`, and `lmtpd -a`.
#[test]
fn deliveries_as_cyrus_can_be_told_to_take_them() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Lmtp, layout, |c| {
            c.lmtp.catch_all = "jo".to_owned();
            c.lmtp.over_quota = OverQuota::Temporary;
            c.lmtp.users = vec!["bob".to_owned()];
        });
        let body = "z".repeat(3000);
        let script = format!(
            "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@example.net>\r\nRCPT TO:<full>\r\nDATA\r\n\
             Subject: x\r\n\r\n{body}\r\n.\r\nQUIT\r\n"
        );
        assert!(site.say(&script).await.contains("530 5.7.0 log in by AUTH first"));
        site.listener(|l| l.trusted = true);
        let said = site.say(&script).await;
        assert!(!said.contains("250-AUTH"), "{said}");
        let stored = said.contains("250 2.0.0 <nobody@example.net> stored\r\n452 4.2.2 ");
        assert!(stored, "{said}");
        assert_eq!(site.messages("jo", "INBOX").await.len(), 1);
    });
}

/// A domain's own limits and mailboxes, beside a user of none.
#[test]
fn users_of_a_domain_have_its_defaults() {
    on_a_core(|layout| async move {
        let made = |name: &str| NewMailbox {
            name: name.to_owned(),
            special_use: String::new(),
            subscribe: false,
        };
        let domain = Domain {
            name: "example.org".to_owned(),
            quota_messages: Some(5),
            new_mailbox: Some(vec![made("Alpha")]),
            ..Domain::default()
        };
        let site = Site::new(Protocol::Imap, layout, |c| {
            c.store.new_mailbox = vec![made("Beta")];
            c.store.quota_messages = 7;
            c.domain = vec![domain];
        });
        for (user, name, limit) in [("mo@example.org", "Alpha", 5), ("jo", "Beta", 7)] {
            let said = say_as(&site, user, "1 LIST \"\" *\r\n2 GETQUOTAROOT INBOX\r\n").await;
            assert!(said.contains(&format!("\"/\" {name}\r\n")), "{said}");
            assert_eq!(said.matches("* LIST").count(), 2, "{said}");
            assert!(said.contains(&format!("(MESSAGE 0 {limit})")), "{said}");
        }
    });
}

/// Cyrus's `defaultacl`.
#[test]
fn a_new_shared_mailbox_has_the_list_that_is_set() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |c| {
            c.sharing.shared_user = "bb".into();
            c.sharing.default_acl = vec!["anyone lrs".into(), "jo lrswi".into()];
            c.auth.admins = vec!["cyrus".into()];
        });
        let said = say_as(
            &site,
            "cyrus",
            "1 CREATE \"News\"\r\n2 GETACL \"News\"\r\n\
             3 SETACL \"News\" jo \"\"\r\n\
             4 CREATE \"News/Old\"\r\n5 GETACL \"News/Old\"\r\n\
             6 CREATE \"user/jo/Work\"\r\n7 GETACL \"user/jo/Work\"\r\n",
        )
        .await;
        let acl = |name: &str| {
            let line = said.lines().find(|line| line.contains("* ACL") && line.contains(name));
            line.unwrap_or_else(|| panic!("{name}: {said}")).to_owned()
        };
        assert!(acl("News ").contains("jo lrswi anyone lrs"), "{said}");
        // The list of the one above goes before.
        assert!(
            acl("News/Old").contains("anyone lrs") && !acl("News/Old").contains("jo"),
            "{said}"
        );
        assert!(!acl("jo/Work").contains("anyone"), "{said}");
    });
}

/// Cyrus's `specialuse_protect`.
#[test]
fn mailboxes_with_protected_special_uses_stay() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |c| {
            c.imap.protected_special_uses = vec!["\\sent".into()];
            c.auth.admins = vec!["cyrus".into()];
        });
        let said = say(
            &site,
            "1 CREATE Sent (USE (\\Sent))\r\n2 CREATE Junk (USE (\\Junk))\r\n3 DELETE Sent\r\n\
             4 DELETE Junk\r\n5 RENAME Sent Work/Sent\r\n6 RENAME Sent Posted\r\n7 DELETE Posted\r\n",
        )
        .await;
        assert_lines(
            &said,
            &["1 OK", "2 OK", "3 NO [CANNOT]", "4 OK", "5 NO [CANNOT]", "6 OK", "7 NO [CANNOT]"],
        );
        let said = say_as(&site, "cyrus", "1 DELETE \"user/jo/Posted\"\r\n").await;
        assert_lines(&said, &["1 OK"]);
    });
}
