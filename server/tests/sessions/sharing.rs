//! Shared mailboxes: ACL (RFC 4314), LIST-MYRIGHTS (RFC 8440), namespaces, administrators, scripted.

use crate::site::imap::{assert_lines, say, say_as};
use crate::site::{Site, on_a_core};
use config::{Config, LayoutKind, NameForm, Protocol, Separator};

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

fn imap(layout: LayoutKind) -> Site {
    imap_with(layout, |_| {})
}

fn imap_with(layout: LayoutKind, change: impl FnOnce(&mut Config)) -> Site {
    Site::new(Protocol::Imap, layout, |config| {
        config.auth.admins = vec!["cyrus".into(), "postmaster@example.org".into()];
        config.sharing.shared_user = "bb".into();
        change(config);
    })
}

/// RFC 4314 sections 3.1 to 3.8.
#[test]
fn lists_are_told_and_changed_as_the_rfc_has_it() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = say(
            &site,
            "a MYRIGHTS INBOX\r\nb GETACL INBOX\r\nc CREATE Drafts\r\n\
             d SETACL Drafts Byron lrswikda\r\ne SETACL INBOX Fred rwipslda\r\n\
             f GETACL INBOX\r\ng SETACL INBOX Fred +k\r\nh SETACL INBOX Fred -wd\r\n\
             i SETACL INBOX -Fred r\r\nj GETACL INBOX\r\nk DELETEACL INBOX Fred\r\n\
             l SETACL INBOX -Fred \"\"\r\nm GETACL INBOX\r\nn GETACL Drafts\r\n\
             o LISTRIGHTS INBOX Fred\r\np LISTRIGHTS INBOX jo\r\nq LISTRIGHTS INBOX anyone\r\n\
             r SETACL INBOX Fred lrz\r\ns SETACL INBOX \"\" l\r\nt SETACL nowhere Fred l\r\n\
             u SETACL INBOX fred\r\nv DELETEACL INBOX jo\r\nw MYRIGHTS INBOX\r\n",
        )
        .await;
        let all = "lrswipkxtecdan";
        let expected = format!(
            "* MYRIGHTS INBOX {all}\r\na OK Completed\r\n\
             * ACL INBOX jo {all}\r\nb OK Completed\r\n\
             c OK"
        );
        assert!(said.starts_with(&expected), "{said}");
        assert_lines(
            &said,
            &[
                "d OK Completed",
                "e OK Completed",
                &format!("* ACL INBOX jo {all} fred lrswipteda"),
                "f OK Completed",
                "g OK Completed",
                "h OK Completed",
                "i OK Completed",
                &format!("* ACL INBOX jo {all} fred lrsipkca -fred r"),
                "j OK Completed",
                "k OK Completed",
                "l OK Completed",
                &format!("* ACL INBOX jo {all}"),
                "m OK Completed",
                &format!("* ACL Drafts jo {all} byron lrswiktecda"),
                "n OK Completed",
                "* LISTRIGHTS INBOX Fred \"\" l r s w i p k x t e c d a n",
                "* LISTRIGHTS INBOX jo la r s w i p k x t e c d n",
                "* LISTRIGHTS INBOX anyone \"\" l r s",
                "r BAD Expected rights",
                "s BAD Expected the name",
                "t NO [NONEXISTENT] No such mailbox",
                "u BAD",
                "v OK Completed",
                "* MYRIGHTS INBOX la",
            ],
        );
    });
}

/// RFC 4314 section 4, command by command: what is seen and lacks a right is NOPERM, what is not seen
/// is not there.
#[test]
fn every_command_asks_for_its_right() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let bob = site.user("bob").await;
        for name in ["Box", "Box/Sub"] {
            bob.create(name, &[]).await.unwrap();
        }
        site.store("bob", "Box", MESSAGE).await;
        site.store("jo", "INBOX", MESSAGE).await;
        let commands = "1 SELECT \"Other Users/bob/Box\"\r\n\
             2 EXAMINE \"Other Users/bob/Box\"\r\n3 STATUS \"Other Users/bob/Box\" (MESSAGES)\r\n\
             4 CREATE \"Other Users/bob/Box/New\"\r\n5 DELETE \"Other Users/bob/Box\"\r\n\
             6 RENAME \"Other Users/bob/Box\" \"Other Users/bob/Box2\"\r\n\
             7 GETACL \"Other Users/bob/Box\"\r\n8 SETACL \"Other Users/bob/Box\" jo lrswa\r\n\
             9 DELETEACL \"Other Users/bob/Box\" bob\r\n10 LISTRIGHTS \"Other Users/bob/Box\" jo\r\n\
             11 MYRIGHTS \"Other Users/bob/Box\"\r\n\
             12 APPEND \"Other Users/bob/Box\" {5}\r\na: b\n\r\n\
             13 GETMETADATA \"Other Users/bob/Box\" /shared/comment\r\n\
             14 SETMETADATA \"Other Users/bob/Box\" (/shared/comment \"x\")\r\n\
             15 GETQUOTAROOT \"Other Users/bob/Box\"\r\n16 SELECT INBOX\r\n\
             17 COPY 1 \"Other Users/bob/Box\"\r\n18 MOVE 1 \"Other Users/bob/Box\"\r\n\
             19 APPEND INBOX CATENATE (URL \"/Other%20Users/bob/Box/;UID=1\")\r\n\
             20 ESEARCH IN (mailboxes \"Other Users/bob/Box\") ALL\r\n"
            .replace("{5}", "{5+}");
        let nobody = say(&site, &commands).await;
        let nowhere = say(&site, &commands.replace("/bob/", "/nobody/")).await;
        let missing = say(&site, &commands.replace("/Box", "/Bax")).await;
        let same = |text: &str| {
            let lines = text.split("\r\n").filter(|line| !line.starts_with("* "));
            lines
                .map(|line| line.replace("nobody", "bob").replace("Bax", "Box"))
                .collect::<Vec<_>>()
        };
        assert_eq!(same(&nobody), same(&nowhere));
        assert_eq!(same(&nobody), same(&missing));
        assert_lines(&nobody, &["1 NO [NONEXISTENT] No such mailbox", "12 NO [TRYCREATE]"]);
        let is_ok = |said: &str, tag: u32| said.contains(&format!("\r\n{tag} OK"));
        // With `l` alone each of them says that it is not allowed.
        let rights =
            |text: &str| engine::RightsChange::Replace(engine::Rights::parse(text).unwrap());
        let jo = engine::AclEntry { negative: false, who: engine::Identifier::User("jo".into()) };
        bob.set_acl("Box", jo.clone(), rights("l")).await.unwrap();
        let seen = say(&site, &commands).await;
        for tag in (1..=19).filter(|tag| ![11, 16, 19].contains(tag)) {
            assert!(seen.contains(&format!("\r\n{tag} NO [NOPERM]")) || tag == 1, "{tag}: {seen}");
        }
        assert!(is_ok(&seen, 11), "{seen}");
        for (given, tags) in [
            ("lr", &[1, 2, 3, 11, 13, 15, 19][..]),
            ("li", &[11, 12, 13, 17]),
            ("lk", &[4, 11]),
            ("la", &[7, 8, 9, 10, 11]),
            ("x", &[5]),
        ] {
            bob.set_acl("Box", jo.clone(), rights(given)).await.unwrap();
            let said = format!("\r\n{}", say(&site, &commands).await);
            for tag in tags {
                assert!(is_ok(&said, *tag), "{given} {tag}: {said}");
            }
        }
        assert!(!bob.namespace().mailboxes.contains_key("Box"), "deleted with x");
    });
}

#[test]
fn others_mailboxes_are_listed_as_far_as_they_are_shared() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        say_as(
            &site,
            "bob",
            "1 CREATE A\r\n2 CREATE A/B\r\n3 CREATE A/B/C\r\n4 CREATE Hidden\r\n\
             5 SETACL A/B jo lrs\r\n6 SETACL A/B/C jo \"\"\r\n7 SETACL A/B/C group:staff l\r\n",
        )
        .await;
        say_as(&site, "fred", "1 SETACL INBOX anyone lr\r\n2 SETACL INBOX -bob lr\r\n").await;
        site.user("mo@example.org").await;
        let list = "1 LIST \"\" *\r\n2 LIST \"\" %\r\n3 LIST \"Other Users/\" %\r\n\
                    4 LIST \"\" \"Other Users/%\" RETURN (MYRIGHTS STATUS (MESSAGES))\r\n5 NAMESPACE\r\n";
        let said = say(&site, list).await;
        assert_eq!(
            said,
            "* LIST (\\HasNoChildren) \"/\" INBOX\r\n\
             * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Other Users\"\r\n\
             * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Other Users/bob\"\r\n\
             * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Other Users/bob/A\"\r\n\
             * LIST (\\HasNoChildren) \"/\" \"Other Users/bob/A/B\"\r\n\
             * LIST (\\HasNoChildren) \"/\" \"Other Users/fred\"\r\n1 OK Completed\r\n\
             * LIST (\\HasNoChildren) \"/\" INBOX\r\n\
             * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Other Users\"\r\n2 OK Completed\r\n\
             * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Other Users/bob\"\r\n\
             * LIST (\\HasNoChildren) \"/\" \"Other Users/fred\"\r\n3 OK Completed\r\n\
             * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Other Users/bob\"\r\n\
             * LIST (\\HasNoChildren) \"/\" \"Other Users/fred\"\r\n\
             * MYRIGHTS \"Other Users/fred\" lr\r\n\
             * STATUS \"Other Users/fred\" (MESSAGES 0)\r\n4 OK Completed\r\n\
             * NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) ((\"Shared Folders/\" \"/\"))\r\n\
             5 OK Completed\r\n"
        );
        let fred = say_as(&site, "fred", "1 LIST \"\" \"Other Users/*\"\r\n").await;
        assert_lines(&fred, &["* LIST (\\HasNoChildren) \"/\" \"Other Users/bob/A/B/C\"", "1 OK"]);
        let bob = say_as(&site, "bob", "1 LIST \"\" \"Other Users*\"\r\n").await;
        assert_eq!(bob, "1 OK Completed\r\n", "negative rights take what anyone has");
        let alone = say_as(&site, "alone", "1 LIST \"\" *\r\n2 NAMESPACE\r\n").await;
        assert_lines(&alone, &["* LIST (\\HasNoChildren) \"/\" INBOX", "1 OK"]);
        assert!(alone.contains("* NAMESPACE ((\"\" \"/\")) NIL NIL"), "{alone}");
        // What is taken back is gone at once, and what was subscribed stays so.
        let subscribe = "1 SUBSCRIBE \"Other Users/bob/A/B\"\r\n2 LSUB \"\" *\r\n\
                         3 LIST (SUBSCRIBED) \"\" *\r\n";
        let said = say(&site, subscribe).await;
        assert_lines(
            &said,
            &["* LSUB () \"/\" \"Other Users/bob/A/B\"", "* LIST (\\Subscribed \\HasNoChildren)"],
        );
        say_as(&site, "bob", "1 SETACL A/B jo -l\r\n").await;
        let said = say(&site, list).await;
        assert!(!said.contains("bob"), "{said}");
        let said = say(&site, subscribe).await;
        assert_lines(&said, &["* LIST (\\NonExistent \\Noselect \\Subscribed"]);
    });
}

/// RFC 4314 section 4: flags need `s`, `t`, `w`; what can't be set is left out of COPY and APPEND.
#[test]
fn flags_are_changed_and_copied_as_rights_allow() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("bob", "INBOX", MESSAGE).await;
        say_as(
            &site,
            "bob",
            "1 SELECT INBOX\r\n2 STORE 1 FLAGS (\\Flagged \\Deleted)\r\n3 SETACL INBOX jo lrsi\r\n",
        )
        .await;
        let said = say(
            &site,
            "1 SELECT \"Other Users/bob\"\r\n2 STORE 1 +FLAGS (\\Answered \\Seen)\r\n\
             3 STORE 1 FLAGS ()\r\n4 STORE 1 +FLAGS (\\Answered)\r\n5 STORE 1 +FLAGS (word)\r\n\
             6 EXPUNGE\r\n7 MOVE 1 INBOX\r\n\
             8 APPEND \"Other Users/bob\" (\\Seen \\Deleted \\Draft word) {20+}\r\nSubject: x\r\n\r\nbody\r\n\r\n\
             9 FETCH 2 FLAGS\r\n10 CLOSE\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* OK [PERMANENTFLAGS (\\Seen)]",
                "1 OK [READ-WRITE]",
                "* 1 FETCH (FLAGS (\\Flagged \\Deleted \\Seen",
                "2 OK",
                "* 1 FETCH (FLAGS (\\Flagged \\Deleted",
                "3 OK",
                "4 NO [NOPERM]",
                "5 NO [NOPERM]",
                "6 NO [NOPERM]",
                "7 NO [NOPERM]",
                "8 OK",
                "* 2 FETCH (FLAGS (\\Seen",
                "9 OK",
                "10 OK Closed",
            ],
        );
        assert_eq!(
            site.messages("bob", "INBOX").await.len(),
            2,
            "CLOSE expunges nothing without e"
        );
        // Reading marks nothing as seen without `s`.
        say_as(&site, "bob", "1 SETACL INBOX jo lr\r\n").await;
        let said = say(
            &site,
            "1 SELECT \"Other Users/bob\"\r\n2 FETCH 1 BODY[]\r\n3 FETCH 1 FLAGS\r\n\
             4 STORE 1 +FLAGS (\\Seen)\r\n",
        )
        .await;
        assert_lines(
            &said,
            &["* OK [PERMANENTFLAGS ()]", "1 OK [READ-ONLY]", "2 OK", "* 1 FETCH (FLAGS", "4 NO"],
        );
        // RFC 4314 section 4: COPY with the rights rwis.
        say_as(
            &site,
            "bob",
            "1 CREATE T\r\n2 SETACL T jo rwis\r\n3 CREATE U\r\n4 SETACL U jo rsti\r\n",
        )
        .await;
        for _ in 0..3 {
            site.store("jo", "INBOX", MESSAGE).await;
        }
        let said = say(
            &site,
            "1 SELECT INBOX\r\n2 STORE 1 FLAGS (\\Draft \\Deleted)\r\n3 STORE 2 FLAGS (\\Answered)\r\n\
             4 STORE 3 FLAGS ($Forwarded \\Seen)\r\n5 COPY 1:3 \"Other Users/bob/T\"\r\n\
             6 COPY 1:3 \"Other Users/bob/U\"\r\n7 EXAMINE \"Other Users/bob/T\"\r\n8 FETCH 1:3 FLAGS\r\n\
             9 EXAMINE \"Other Users/bob/U\"\r\n10 FETCH 1:3 FLAGS\r\n",
        )
        .await
        .replace(" \\Recent", "")
        .replace("\\Recent", "");
        assert_lines(
            &said,
            &[
                "* 1 FETCH (FLAGS (\\Draft))",
                "* 2 FETCH (FLAGS (\\Answered))",
                "* 3 FETCH (FLAGS (\\Seen $Forwarded))",
                "8 OK",
                "* 1 FETCH (FLAGS (\\Deleted))",
                "* 2 FETCH (FLAGS ())",
                "* 3 FETCH (FLAGS (\\Seen))",
                "10 OK",
            ],
        );
    });
}

#[test]
fn rights_that_change_are_heeded_by_sessions_that_have_it_selected() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("bob", "INBOX", MESSAGE).await;
        say_as(&site, "bob", "1 SETACL INBOX jo lrsw\r\n").await;
        let mut client =
            crate::site::imap::Client::login(&site, "1 SELECT \"Other Users/bob\"\r\n").await;
        client.until("1 OK [READ-WRITE]").await;
        say_as(&site, "bob", "1 SETACL INBOX jo lr\r\n").await;
        client.send("2 NOOP\r\n3 STORE 1 +FLAGS (\\Flagged)\r\n").await;
        let told = client.until("3 NO").await;
        assert!(told.contains("* OK [PERMANENTFLAGS ()]"), "{told}");
        client.send("4 IDLE\r\n").await;
        client.until("+ idling").await;
        say_as(&site, "bob", "1 SETACL INBOX jo \"\"\r\n").await;
        site.store("bob", "INBOX", MESSAGE).await;
        let told = client.until("* BYE").await;
        assert!(!told.contains("EXISTS"), "{told}");
    });
}

#[test]
fn nothing_of_one_domain_is_seen_in_another() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        say_as(
            &site,
            "mo@example.org",
            "1 CREATE Box\r\n2 SETACL Box anyone lr\r\n3 SETACL Box group:staff s\r\n\
             4 SETACL Box administrators w\r\n",
        )
        .await;
        let refused =
            say_as(&site, "mo@example.org", "1 SETACL Box eve@other.example lr\r\n").await;
        assert_lines(&refused, &["1 NO [NOPERM]"]);
        let ann = say_as(
            &site,
            "ann@example.org",
            "1 LIST \"\" \"Other*\"\r\n2 MYRIGHTS \"Other Users/mo/Box\"\r\n",
        )
        .await;
        assert_lines(
            &ann,
            &[
                "* LIST (\\HasNoChildren) \"/\" \"Other Users/mo/Box\"",
                "* MYRIGHTS \"Other Users/mo/Box\" lrs",
            ],
        );
        for stranger in ["eve@other.example", "jo"] {
            let said = say_as(
                &site,
                stranger,
                "1 LIST \"\" *\r\n2 MYRIGHTS \"Other Users/mo@example.org/Box\"\r\n\
                 3 SELECT \"Other Users/mo@example.org/Box\"\r\n4 GETQUOTA #user/mo@example.org\r\n",
            )
            .await;
            assert_lines(
                &said,
                &[
                    "* LIST",
                    "1 OK",
                    "2 NO [NONEXISTENT]",
                    "3 NO [NONEXISTENT]",
                    "4 NO [NONEXISTENT]",
                ],
            );
            assert!(!said.contains("mo"), "{said}");
        }
        // Administrators of a domain are so in their domain.
        let admin = say_as(
            &site,
            "postmaster@example.org",
            "1 LIST \"\" user/*\r\n2 CREATE user/ann/x\r\n3 SETACL user/mo/Box jo@other.example l\r\n\
             4 GETACL user/mo/Box\r\n5 GETACL user/eve@other.example\r\n6 CREATE user/eve@other.example/x\r\n\
             7 SETQUOTA user/ann (STORAGE 10)\r\n8 SETQUOTA user/eve@other.example (STORAGE 10)\r\n\
             9 SETMETADATA \"\" (/shared/comment \"x\")\r\n",
        )
        .await;
        assert_lines(
            &admin,
            &[
                "* LIST (\\HasNoChildren) \"/\" user/ann",
                "* LIST (\\HasChildren) \"/\" user/mo",
                "* LIST (\\HasNoChildren) \"/\" user/mo/Box",
                "1 OK",
                "2 OK",
                "3 NO [NOPERM]",
                "* ACL user/mo/Box",
                "4 OK",
                "5 NO [NONEXISTENT]",
                "6 NO",
                "7 OK",
                "8 NO [NONEXISTENT]",
                "9 NO [NOPERM]",
            ],
        );
        assert!(!admin.contains("eve@other.example\r\n"), "{admin}");
    });
}

#[test]
fn rights_cross_domains_where_that_is_allowed() {
    on_a_core(|layout| async move {
        let site = imap_with(layout, |config| config.sharing.cross_domains = true);
        say_as(
            &site,
            "mo@example.org",
            "1 CREATE Box\r\n2 SETACL Box eve@other.example lr\r\n3 SETACL Box jo lr\r\n\
             4 SETACL INBOX anyone lr\r\n",
        )
        .await;
        let eve = say_as(
            &site,
            "eve@other.example",
            "1 LIST \"\" \"Other*\"\r\n2 EXAMINE \"Other Users/mo@example.org/Box\"\r\n",
        )
        .await;
        assert_lines(
            &eve,
            &[
                "* LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Other Users/mo@example.org\"",
                "* LIST (\\HasNoChildren) \"/\" \"Other Users/mo@example.org/Box\"",
                "2 OK",
            ],
        );
        // A name without a domain is of the owner's, and `anyone` stays at home.
        let jo = say(&site, "1 LIST \"\" \"Other*\"\r\n").await;
        assert_eq!(jo, "1 OK Completed\r\n");
    });
}

/// What Debian's cyradm sends.
#[test]
fn administrators_do_what_cyradm_asks_for() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.listener(|listener| listener.separator = Some(Separator::Dot));
        let said = say_as(
            &site,
            "cyrus",
            "1 NAMESPACE\r\n2 CREATE user.jo\r\n3 CREATE user.jo.Sent\r\n4 CREATE user.jo.x default\r\n\
             5 LIST \"\" *\r\n6 SETACL user.jo.x cyrus lrswipkxtecdan\r\n7 SETACL user.jo.x anyone p\r\n\
             8 LISTRIGHTS user.jo.x bob\r\n9 SETQUOTA user.jo (STORAGE 1000 MESSAGE 5)\r\n\
             10 GETQUOTA user.jo\r\n11 GETQUOTAROOT user.jo.x\r\n12 RENAME user.jo.x user.jo.y default\r\n\
             13 RENAME user.jo.y user.jo.y default\r\n14 RENAME user.jo.y user.jo.y other\r\n\
             15 SETMETADATA user.jo.y (/shared/vendor/cmu/cyrus-imapd/expire \"10\")\r\n\
             16 GETMETADATA user.jo.y (/shared/vendor/cmu/cyrus-imapd/expire)\r\n\
             17 SETMETADATA \"\" (/shared/comment \"hello\")\r\n18 GETACL user.jo.y\r\n\
             19 DELETE user.jo.y\r\n20 CREATE user.ann@example^org.box\r\n\
             21 CREATE user.ann.other@example.org\r\n22 LIST \"\" user.ann*\r\n23 CREATE news\r\n\
             24 SETACL news anyone lrs\r\n25 SELECT user.jo\r\n26 CREATE user.jo.z nowhere\r\n\
             27 CREATE user.jo\r\n28 SETQUOTA user.jo ()\r\n29 DELETE user.jo\r\n30 LIST \"\" user.jo*\r\n",
        )
        .await;
        let offered = |said: &str| said.contains(" QUOTASET ");
        assert!(offered(&say_as(&site, "cyrus", "1 CAPABILITY\r\n").await));
        assert!(!offered(&say(&site, "1 CAPABILITY\r\n").await));
        assert_lines(
            &said,
            &[
                "* NAMESPACE ((\"INBOX.\" \".\")) ((\"user.\" \".\")) ((\"\" \".\"))",
                "2 OK",
                "3 OK",
                "4 OK",
                "* LIST (\\HasNoChildren) \".\" INBOX",
                "* LIST (\\NonExistent \\Noselect \\HasChildren) \".\" user",
                "* LIST (\\HasChildren) \".\" user.jo",
                "* LIST (\\HasNoChildren) \".\" user.jo.Sent",
                "* LIST (\\HasNoChildren) \".\" user.jo.x",
                "5 OK",
                "6 OK",
                "7 OK",
                "* LISTRIGHTS user.jo.x bob \"\" l r",
                "* QUOTA #user/jo (STORAGE 0 1000 MESSAGE 0 5)",
                "9 OK",
                "* QUOTA #user/jo (STORAGE 0 1000 MESSAGE 0 5)",
                "10 OK",
                "* QUOTAROOT user.jo.x #user/jo",
                "12 OK",
                "13 OK",
                "14 NO [CANNOT]",
                "15 OK",
                "* METADATA user.jo.y (/shared/vendor/cmu/cyrus-imapd/expire \"10\")",
                "17 OK",
                "* ACL user.jo.y jo lrswipkxtecdan cyrus lrswipkxtecdan anyone p",
                "19 OK",
                "20 OK",
                "21 OK",
                "* LIST (\\HasNoChildren) \".\" user.ann.box@example.org",
                "* LIST (\\HasNoChildren) \".\" user.ann.other@example.org",
                "* LIST (\\HasChildren) \".\" user.ann@example.org",
                "23 OK",
                "24 OK",
                "25 NO [NOPERM]",
                "26 NO",
                "27 NO [ALREADYEXISTS]",
                "28 OK",
                "29 OK",
                "30 OK",
            ],
        );
        assert!(said.contains("29 OK Deleted\r\n30 OK"), "nothing is left of the user: {said}");
        site.listener(|listener| listener.separator = None);
        let jo =
            say(&site, "1 LIST \"\" \"Shared*\"\r\n2 MYRIGHTS \"Shared Folders/news\"\r\n").await;
        assert_lines(
            &jo,
            &[
                "* LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Shared Folders\"",
                "* LIST (\\HasNoChildren) \"/\" \"Shared Folders/news\"",
                "* MYRIGHTS \"Shared Folders/news\" lrs",
            ],
        );
    });
}

#[test]
fn names_have_the_form_of_the_listener() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        say_as(&site, "bob", "1 CREATE a/c\r\n2 SETACL a/c jo lr\r\n").await;
        say(&site, "1 CREATE Sent\r\n2 SUBSCRIBE Sent\r\n").await;
        let script = |form: NameForm, separator: Option<Separator>| {
            site.listener(|listener| (listener.names, listener.separator) = (form, separator));
        };
        script(NameForm::Internal, Some(Separator::Dot));
        let said = say(
            &site,
            "1 LIST \"\" \"\"\r\n2 LIST \"\" *\r\n3 LIST \"\" INBOX.%\r\n4 SELECT INBOX.Sent\r\n\
             5 STATUS user.bob.a.c (MESSAGES)\r\n6 LSUB \"\" *\r\n7 CREATE Other\r\n\
             8 CREATE INBOX.Other\r\n9 RENAME INBOX.Other INBOX.New\r\n10 SUBSCRIBE user.bob.a.c\r\n\
             11 LSUB \"\" *\r\n12 CREATE INBOX.a/b\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* LIST (\\Noselect) \".\" \"\"",
                "* LIST (\\HasChildren) \".\" INBOX",
                "* LIST (\\HasNoChildren) \".\" INBOX.Sent",
                "* LIST (\\HasNoChildren) \".\" user.bob.a.c",
                "2 OK",
                "* LIST (\\HasNoChildren) \".\" INBOX.Sent",
                "4 OK [READ-WRITE]",
                "* STATUS user.bob.a.c (MESSAGES 0)",
                "* LSUB () \".\" INBOX.Sent",
                "7 NO",
                "8 OK",
                "9 OK",
                "10 OK",
                "* LSUB () \".\" INBOX.Sent",
                "* LSUB () \".\" user.bob.a.c",
                "12 NO [CANNOT]",
            ],
        );
        script(NameForm::Courier, None);
        let said = say(
            &site,
            "1 NAMESPACE\r\n2 LIST \"\" \"#shared.*\"\r\n3 LIST \"\" \"INBOX*\"\r\n\
             4 SETACL INBOX group=staff lr\r\n5 SETACL INBOX -user=bob r\r\n\
             6 SETACL INBOX user=administrators r\r\n7 GETACL INBOX\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "* NAMESPACE ((\"INBOX.\" \".\")) NIL ((\"#shared.\" \".\"))",
                "* LIST (\\NonExistent \\Noselect \\HasChildren) \".\" #shared.bob",
                "* LIST (\\HasNoChildren) \".\" #shared.bob.a.c",
                "* LIST (\\HasChildren) \".\" INBOX",
                "* LIST (\\HasNoChildren) \".\" INBOX.New",
                "* LIST (\\HasNoChildren) \".\" INBOX.Sent",
                "* ACL INBOX owner lrswipkxtecdan user=administrators r group=staff lr -bob r",
            ],
        );
    });
}

/// As Cyrus's cyradm sends them: `rename old new partition`, and of users.
#[test]
fn administrators_move_mailboxes_to_partitions_and_users() {
    on_a_core(|layout| async move {
        let site = imap_with(layout, |config| {
            let mut fast = config.partition[0].clone();
            fast.name = "fast".into();
            fast.path = fast.path.with_file_name("fast");
            config.partition.push(fast);
        });
        let jo = site.user("jo").await;
        for name in ["Box", "Box/Sub"] {
            jo.create(name, &[]).await.unwrap();
        }
        for name in ["INBOX", "Box", "Box/Sub"] {
            site.store("jo", name, MESSAGE).await;
        }
        jo.subscribe("Box", true).await.unwrap();
        let known = async |user: &str, name: &str| {
            let mailbox = site.user(user).await.mailbox(name).await.unwrap();
            (mailbox.id(), mailbox.uid_validity(), mailbox.view().modseq_highest())
        };
        let before = known("jo", "Box").await;
        say_as(&site, "cyrus", "1 RENAME user/jo/Box user/jo/Box fast\r\n").await;
        assert_eq!(known("jo", "Box").await, before);
        say_as(&site, "cyrus", "1 RENAME user/jo/Box user/jo/Box default\r\n").await;
        assert_eq!(known("jo", "Box").await, before);
        let said = say_as(
            &site,
            "cyrus",
            "1 RENAME user/jo/Box user/jo/Box fast\r\n2 RENAME user/jo/Box user/jo/Box nowhere\r\n\
             3 RENAME user/jo user/jo fast\r\n4 RENAME user/jo/Box user/bob/Given\r\n\
             5 RENAME user/bob/Given user/bob/Given2 default\r\n6 RENAME user/jo user/bob\r\n\
             7 RENAME user/jo user/fred\r\n8 LIST \"\" user/*\r\n9 RENAME user/jo user/fred\r\n",
        )
        .await;
        assert_lines(
            &said,
            &[
                "1 OK Moved to the partition",
                "2 NO [CANNOT]",
                "3 OK",
                "4 OK Renamed",
                "5 OK Renamed",
                "6 NO [ALREADYEXISTS]",
                "7 OK Renamed",
                "* LIST (\\HasChildren) \"/\" user/bob",
                "* LIST (\\HasChildren) \"/\" user/bob/Given2",
                "* LIST (\\HasNoChildren) \"/\" user/bob/Given2/Sub",
                "* LIST (\\HasNoChildren) \"/\" user/fred",
                "8 OK",
                "9 NO [NONEXISTENT]",
            ],
        );
        assert!(!said.contains("user/jo\r\n"), "{said}");
        let partition = async |user: &str, name: &str| {
            let namespace = site.user(user).await.namespace();
            namespace.mailboxes[name].partition.clone()
        };
        assert_eq!(partition("bob", "Given2").await, "default");
        assert_eq!(site.messages("bob", "Given2").await, [MESSAGE]);
        assert_eq!(site.messages("bob", "Given2/Sub").await, [MESSAGE]);
        assert_eq!(site.messages("fred", "INBOX").await, [MESSAGE]);
        assert!(site.user("fred").await.namespace().subscriptions.contains("Box"));
        // Users themselves do neither.
        let said = say(
            &site,
            "1 CREATE Box\r\n2 RENAME Box Box fast\r\n3 RENAME Box \"Other Users/bob/x\"\r\n",
        )
        .await;
        assert_lines(&said, &["1 OK", "2 NO [NOPERM]", "3 NO [NOPERM]"]);
    });
}
