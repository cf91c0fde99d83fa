//! NOTIFY (RFC 5465), scripted.

use crate::site::imap::{Client, say};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};
use engine::{AclEntry, Identifier, Rights, RightsChange, UserOptions};
use protocol::types::{SystemFlags, Uid};

const MESSAGE: &str = "From: bob@example.org\r\nSubject: Re: good morning\r\n\r\nbody\r\n";

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |_| {})
}

async fn flag(site: &Site, mailbox: &str, uid: u32) {
    let mailbox = site.user("jo").await.mailbox(mailbox).await.unwrap();
    let request = engine::StoreRequest {
        uids: vec![Uid(uid)],
        mode: engine::StoreMode::Add,
        flags: SystemFlags::FLAGGED,
        keywords: vec![],
        unchanged_since: None,
    };
    mailbox.store(request).await.unwrap();
}

async fn expunge(site: &Site, mailbox: &str, uid: u32) {
    let mailbox = site.user("jo").await.mailbox(mailbox).await.unwrap();
    mailbox.expunge(&mailbox.view(), vec![Uid(uid)]).await.unwrap();
}

/// The session of RFC 5465 section 3.1.
#[test]
fn new_messages_are_told_between_commands() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let user = site.user("jo").await;
        for name in ["Lists/Lemonade", "Lists/Im2000", "misc"] {
            user.create(name, &[]).await.unwrap();
        }
        site.store("jo", "Lists/Lemonade", MESSAGE).await;
        let mut client = Client::login(&site, "").await;
        client
            .send(
                "b notify set status (selected MessageNew (uid \
                 body.peek[header.fields (from to subject)]) MessageExpunge) \
                 (subtree Lists (MessageNew MessageExpunge))\r\nc select inbox\r\n",
            )
            .await;
        let said = client.until("b OK").await;
        assert!(
            said.contains("* STATUS Lists/Lemonade (MESSAGES 1 UIDNEXT 2 UIDVALIDITY "),
            "{said}"
        );
        assert!(said.contains("* STATUS Lists/Im2000 (MESSAGES 0 UIDNEXT 1 "), "{said}");
        assert!(!said.contains("misc"), "{said}");
        client.until("c OK").await;
        site.store("jo", "misc", MESSAGE).await;
        site.store("jo", "Lists/Lemonade", MESSAGE).await;
        let said = client.until("* STATUS Lists/Lemonade (MESSAGES 2 UIDNEXT 3)\r\n").await;
        assert!(!said.contains("misc"), "{said}");
        site.store("jo", "INBOX", MESSAGE).await;
        client.until("* 1 EXISTS\r\n").await;
        let header = "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (from to subject)] {";
        client.until(header).await;
        client.until("Subject: Re: good morning\r\n\r\n)\r\n").await;
        // Not told who asks for the selected mailbox by its own rule only: flags.
        flag(&site, "INBOX", 1).await;
        expunge(&site, "INBOX", 1).await;
        let said = client.until("* 1 EXPUNGE\r\n").await;
        assert!(!said.contains("FETCH"), "{said}");
        expunge(&site, "Lists/Lemonade", 1).await;
        client.until("* STATUS Lists/Lemonade (MESSAGES 1 UIDNEXT 3)\r\n").await;
        // What the client appends itself is not fetched for it.
        client.send("d APPEND INBOX {9+}\r\na: b\r\n\r\nc\r\ne NOOP\r\n").await;
        let said = client.until("e OK").await;
        assert!(said.contains("* 1 EXISTS") && !said.contains("FETCH"), "{said}");
        client.send("f NOTIFY NONE\r\ng LIST \"\" INBOX\r\n").await;
        client.until("g OK").await;
        site.store("jo", "INBOX", MESSAGE).await;
        site.store("jo", "Lists/Lemonade", MESSAGE).await;
        client.send("h NOOP\r\n").await;
        assert_eq!(client.until("h OK").await, " Completed\r\n");
    });
}

/// RFC 5465 section 6.1.2: expunges wait for a command that may tell them; IDLE is one.
#[test]
fn delayed_expunges_wait_and_flags_come_where_asked_for() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for _ in 0..3 {
            site.store("jo", "INBOX", MESSAGE).await;
        }
        let mut client = Client::login(&site, "").await;
        let set = "a SELECT INBOX\r\n\
            b NOTIFY SET (selected-delayed (MessageNew MessageExpunge FlagChange))\r\n";
        client.send(set).await;
        client.until("b OK").await;
        flag(&site, "INBOX", 2).await;
        let said = client.until("FLAGS (\\Flagged").await;
        assert!(said.contains("* 2 FETCH ("), "{said}");
        client.until("\r\n").await;
        expunge(&site, "INBOX", 1).await;
        client.send("c FETCH 1:3 UID\r\n").await;
        let said = client.until("c OK").await;
        assert!(said.contains("* 3 FETCH (UID 3)") && !said.contains("EXPUNGE"), "{said}");
        client.send("d NOOP\r\n").await;
        assert!(client.until("d OK").await.contains("* 1 EXPUNGE\r\n"));
        client.send("e IDLE\r\n").await;
        client.until("+ ").await;
        expunge(&site, "INBOX", 2).await;
        client.until("* 1 EXPUNGE\r\n").await;
        site.store("jo", "INBOX", MESSAGE).await;
        client.until("* 2 EXISTS\r\n").await;
    });
}

/// RFC 5465 sections 5.4 to 5.7.
#[test]
fn names_subscriptions_and_metadata_are_told() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let user = site.user("jo").await;
        let mut client = Client::login(&site, "").await;
        client
            .send(
                "a NOTIFY SET (personal (MailboxName SubscriptionChange MailboxMetadataChange \
                 ServerMetadataChange))\r\n",
            )
            .await;
        client.until("a OK").await;
        user.create("x", &[]).await.unwrap();
        client.until("* LIST (\\HasNoChildren) \"/\" x\r\n").await;
        user.create("x/y", &[]).await.unwrap();
        client.until("* LIST (\\HasNoChildren) \"/\" x/y\r\n").await;
        client.until("* LIST (\\HasChildren) \"/\" x\r\n").await;
        user.rename("x", "z").await.unwrap();
        client.until("* LIST (\\HasChildren) \"/\" z (\"OLDNAME\" (x))\r\n").await;
        user.subscribe("z", true).await.unwrap();
        client.until("* LIST (\\Subscribed \\HasChildren) \"/\" z\r\n").await;
        let value = vec![("/shared/comment".to_owned(), Some(b"v".to_vec()))];
        user.set_metadata(Some("z"), "jo", value).await.unwrap();
        client.until("* METADATA z /shared/comment\r\n").await;
        let value = vec![("/private/x".to_owned(), None)];
        user.set_metadata(None, "jo", value).await.unwrap();
        client.until("* METADATA \"\" /private/x\r\n").await;
        user.delete("z").await.unwrap();
        client.until("* LIST (\\NonExistent \\Subscribed \\HasChildren) \"/\" z\r\n").await;
        // The session's own doing is not told.
        client.send("b CREATE own\r\nc SUBSCRIBE own\r\nd RENAME own p\r\ne DELETE p\r\n").await;
        let said = client.until("e OK").await;
        assert!(!said.contains("* LIST"), "{said}");
    });
}

/// RFC 5465 sections 5 and 6: what does not go together.
#[test]
fn bad_rules_are_refused() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = say(
            &site,
            "1 NOTIFY SET (personal (MessageNew))\r\n2 NOTIFY SET (personal (FlagChange))\r\n\
             3 NOTIFY SET (selected (MailboxName))\r\n4 NOTIFY SET (personal (Odd))\r\n\
             5 NOTIFY SET (selected NONE) (selected-delayed NONE)\r\n\
             6 NOTIFY SET (personal (MessageNew (uid) MessageExpunge))\r\n\
             7 NOTIFY SET (mailboxes nowhere (MessageNew MessageExpunge))\r\n8 NOTIFY NONE\r\n",
        )
        .await;
        for bad in ["1", "2", "3", "5", "6"] {
            assert!(said.contains(&format!("{bad} BAD ")), "{bad}: {said}");
        }
        assert!(said.contains("4 NO [BADEVENT (MessageNew MessageExpunge "), "{said}");
        assert!(said.contains("7 OK") && said.contains("8 OK"), "{said}");
    });
}

/// RFC 5465 section 3.1: without a rule the selected mailbox holds still, but for own removals.
#[test]
fn without_a_rule_the_selected_mailbox_holds_still() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        for _ in 0..2 {
            site.store("jo", "INBOX", MESSAGE).await;
        }
        let mut client = Client::login(&site, "").await;
        client.send("a SELECT INBOX\r\nb NOTIFY SET (mailboxes x (MailboxName))\r\n").await;
        client.until("b OK").await;
        site.store("jo", "INBOX", MESSAGE).await;
        client.send("c NOOP\r\n").await;
        assert_eq!(client.until("c OK").await, " Completed\r\n");
        client.send("d STORE 1 +FLAGS.SILENT (\\Deleted)\r\ne EXPUNGE\r\n").await;
        let said = client.until("e OK").await;
        assert!(said.contains("* 1 EXPUNGE\r\n"), "{said}");
    });
}

/// Mailboxes beside the selected one are watched, too.
#[test]
fn deliveries_by_other_programs_are_told_too() {
    on_a_core(|layout| async move {
        if layout == LayoutKind::Cyrus {
            // Nobody else writes there.
            return;
        }
        let site = imap(layout);
        let user = site.user("jo").await;
        user.create("x", &[]).await.unwrap();
        let mut client = Client::login(&site, "").await;
        client.send("a NOTIFY SET (mailboxes x (MessageNew MessageExpunge))\r\n").await;
        client.until("a OK").await;
        let new = site.path().join("mail/jo/.x/new/1700000000.M1.other");
        std::fs::write(&new, "Subject: x\n\nbody\n").unwrap_or_else(|e| panic!("{new:?}: {e}"));
        client.until("* STATUS x (MESSAGES 1 UIDNEXT 2)\r\n").await;
    });
}

/// RFC 5465 sections 5.4 and 6.
#[test]
fn others_mailboxes_are_told_of_as_far_as_they_may_be_seen() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        let bob = site.user("bob").await;
        for name in ["Box", "Box/Sub", "Secret"] {
            bob.create(name, &[]).await.unwrap();
        }
        let bob_says = async |script: &str| {
            let said = site.say(&format!("l LOGIN bob geheim\r\n{script}\r\n")).await;
            assert!(said.contains("\r\n1 OK"), "{said}");
        };
        bob_says("1 SETACL Box jo lr").await;
        let rules = "1 NOTIFY SET STATUS (mailboxes (\"Other Users/bob/Box\" \
             \"Other Users/bob/Secret\") (MessageNew MessageExpunge)) \
             (subtree \"Other Users/bob\" (MailboxName MailboxMetadataChange)) \
             (personal (MailboxName))\r\n";
        let mut jo = Client::login(&site, rules).await;
        let first = jo.until("1 OK Completed\r\n").await;
        assert!(
            first.contains("* STATUS \"Other Users/bob/Box\" (MESSAGES 0 UIDNEXT 1"),
            "{first}"
        );
        assert!(!first.contains("Secret"), "{first}");
        site.store("bob", "Secret", "Subject: x\r\n\r\nx\r\n").await;
        site.store("bob", "Box", "Subject: x\r\n\r\nx\r\n").await;
        let line = "* STATUS \"Other Users/bob/Box\" (MESSAGES 1 UIDNEXT 2)\r\n";
        assert_eq!(jo.until(line).await, "");
        bob_says("1 CREATE Box/New").await;
        let made = "* LIST (\\HasNoChildren) \"/\" \"Other Users/bob/Box/New\"\r\n";
        assert_eq!(jo.until(made).await, "");
        bob_says("1 SETACL Box jo \"\"").await;
        let lost = "* LIST (\\NonExistent \\HasChildren) \"/\" \"Other Users/bob/Box\"\r\n";
        assert_eq!(jo.until(lost).await, "");
        site.store("bob", "Box", "Subject: x\r\n\r\nx\r\n").await;
        bob_says("1 SETMETADATA Secret (/shared/comment \"hidden\")").await;
        bob_says("1 SETACL Secret jo lr").await;
        let given = "* LIST (\\HasNoChildren) \"/\" \"Other Users/bob/Secret\"\r\n";
        assert_eq!(jo.until(given).await, "");
        bob_says("1 SETMETADATA Secret (/shared/comment \"x\" /private/comment \"y\")").await;
        let told = "* METADATA \"Other Users/bob/Secret\" /shared/comment\r\n";
        assert_eq!(jo.until(told).await, "");
        bob_says("1 DELETE Secret").await;
        let gone = "* LIST (\\NonExistent \\HasNoChildren) \"/\" \"Other Users/bob/Secret\"\r\n";
        assert_eq!(jo.until(gone).await, "");
        jo.send("2 NOTIFY NONE\r\n").await;
        jo.until("2 OK Completed\r\n").await;
    });
}

/// More others than a handful: each is looked at for itself.
#[test]
fn many_others_are_told_of() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        let user = async |n: u32| {
            let store = &site.services.store;
            store.user(&format!("u{n}"), &UserOptions::default()).await.unwrap()
        };
        for n in 0..80 {
            let other = user(n).await;
            let jo = AclEntry { negative: false, who: Identifier::User("jo".into()) };
            let rights = RightsChange::Replace(Rights::LOOKUP.union(Rights::READ));
            other.set_acl("INBOX", jo, rights).await.unwrap();
        }
        let rules = "1 NOTIFY SET (subtree \"Other Users\" \
             (MessageNew MessageExpunge MailboxName))\r\n";
        let mut jo = Client::login(&site, rules).await;
        jo.until("1 OK Completed\r\n").await;
        deliver(&site, &user(79).await).await;
        let told = jo.until("(MESSAGES 1 UIDNEXT 2)\r\n").await;
        assert!(told.contains("\"Other Users/u79") && !told.contains("u78"), "{told}");
        user(7).await.create("Box", &[]).await.unwrap();
        let given = AclEntry { negative: false, who: Identifier::User("jo".into()) };
        let rights = RightsChange::Replace(Rights::LOOKUP);
        user(7).await.set_acl("Box", given, rights).await.unwrap();
        let told = jo.until("\"Other Users/u7/Box\"\r\n").await;
        assert_eq!(told, "* LIST (\\HasNoChildren) \"/\" ");
    });
}

async fn deliver(site: &Site, user: &engine::User) {
    let target = engine::Target {
        user: user.clone(),
        mailbox: user.mailbox("INBOX").await.unwrap(),
        flags: SystemFlags::empty(),
        keywords: vec![],
        internal_date: None,
        annotations: vec![],
    };
    let (store, lane) = (&site.services.store, &site.services.lane);
    let mut delivery = engine::Delivery::new(store, lane, vec![target]).unwrap();
    delivery.write(MESSAGE.as_bytes()).await.unwrap();
    delivery.commit().await.remove(0).unwrap();
}
