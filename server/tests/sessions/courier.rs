//! What Courier's clients find besides: XMAGICTRASH, emptying by age, XCOURIEROUTBOX.

use std::path::Path;

use crate::site::imap::{assert_lines, say};
use crate::site::{Site, on_a_core};
use config::{Expiry, LayoutKind, Protocol};

fn with_trash(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |config| config.trash.move_expunged = true)
}

async fn fill(site: &Site, subjects: &[&str]) {
    for subject in subjects {
        site.store("jo", "INBOX", &format!("Subject: {subject}\r\n\r\nx\r\n")).await;
    }
}

/// As Courier's imapd does it: no COPYUID; marks are taken off; copies of the session's own count.
#[test]
fn expunged_messages_are_moved_to_the_trash() {
    on_a_core(|layout| async move {
        let site = with_trash(layout);
        fill(&site, &["1", "2", "3", "4", "5", "6"]).await;
        let said = say(
            &site,
            "0 CAPABILITY\r\n1 SELECT INBOX\r\n2 STORE 1:3 +FLAGS.SILENT (\\Deleted \\Draft \\Seen $x)\r\n\
             3 EXPUNGE\r\n4 STATUS Trash (MESSAGES)\r\n\
             5 CREATE kept\r\n6 COPY 1 kept\r\n7 STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\n\
             8 UID EXPUNGE 1:5\r\n9 STORE 1 +FLAGS.SILENT (\\Deleted)\r\n10 CLOSE\r\n\
             11 SELECT Trash\r\n12 FETCH 1:* (FLAGS)\r\n13 STORE 1 +FLAGS.SILENT (\\Deleted)\r\n\
             14 EXPUNGE\r\n15 NOOP\r\n",
        )
        .await;
        assert!(said.contains(" XMAGICTRASH"), "{said}");
        assert_eq!(said.matches("COPYUID").count(), 1, "that of COPY: {said}");
        assert_lines(
            &said,
            &[
                "* 3 EXPUNGE",
                "* 2 EXPUNGE",
                "* 1 EXPUNGE",
                "3 OK",
                "* STATUS Trash (MESSAGES 3)",
                "6 OK",
                "* 2 EXPUNGE",
                "* 1 EXPUNGE",
                "8 OK",
                "10 OK",
                "* 5 EXISTS",
                "* 1 FETCH (FLAGS (\\Seen $x \\Recent))",
                "* 3 FETCH (FLAGS (\\Seen $x \\Recent))",
                "* 4 FETCH (FLAGS (\\Recent))",
                "* 5 FETCH (FLAGS (\\Recent))",
                "* 1 EXPUNGE",
                "14 OK",
            ],
        );
        assert_eq!(site.messages("jo", "INBOX").await, Vec::<String>::new());
        let left: Vec<String> = site.messages("jo", "Trash").await;
        let subjects: Vec<&str> = left.iter().filter_map(|message| message.get(9..10)).collect();
        assert_eq!(subjects, ["2", "3", "5", "6"], "4 was copied, 1 expunged from the trash");
        assert_eq!(site.messages("jo", "kept").await.len(), 1);
    });
}

#[test]
fn without_the_setting_expunged_messages_are_gone() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |_| {});
        fill(&site, &["1"]).await;
        let said = say(
            &site,
            "0 CAPABILITY\r\n1 SELECT INBOX\r\n2 STORE 1 +FLAGS (\\Deleted)\r\n3 EXPUNGE\r\n\
             4 STATUS Trash (MESSAGES)\r\n",
        )
        .await;
        assert!(!said.contains("XMAGICTRASH") && !said.contains("XCOURIEROUTBOX"), "{said}");
        assert_lines(&said, &["* 1 EXPUNGE", "3 OK", "4 NO [NONEXISTENT]"]);
    });
}

#[test]
fn old_messages_are_removed_from_the_trash() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.trash.empty = vec![
                Expiry { mailbox: "Trash".to_owned(), days: 7 },
                Expiry { mailbox: "nobody/has/it".to_owned(), days: 1 },
            ];
        });
        let user = site.user("jo").await;
        user.create("Trash", &[]).await.unwrap();
        // How old a message is does not count, but for how long it has been there.
        let old = "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nSubject: old\r\n\r\nx\r\n";
        site.store("jo", "Trash", old).await;
        fill(&site, &["stays"]).await;
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let (days, shared) = (24 * 3600, site.services.shared());
        server::trash::empty(shared, now + 6 * days).await;
        assert_eq!(site.messages("jo", "Trash").await.len(), 1);
        server::trash::empty(shared, now + 8 * days).await;
        assert_eq!(site.messages("jo", "Trash").await.len(), 0);
        assert_eq!(site.messages("jo", "INBOX").await.len(), 1);
    });
}

/// A server whose program writes what it gets into files of its directory, and fails for a message
/// with `fail` in it.
fn with_outbox(layout: LayoutKind, multiple: bool) -> (Site, tempfile::TempDir) {
    let sent = tempfile::tempdir().unwrap();
    let script = format!(
        "f=$(mktemp -p {}); cat >$f; grep -q '^Subject: fail' $f && {{ rm $f; exit 69; }}; \
         echo \"$@\" >>$f",
        sent.path().display()
    );
    let site = Site::new(Protocol::Imap, layout, |config| {
        config.outbox.mailbox = "Outbox".to_owned();
        config.outbox.sendmail = ["/bin/sh", "-c", &script, "sendmail"].map(str::to_owned).to_vec();
        config.outbox.multiple_send = multiple;
    });
    (site, sent)
}

fn sent(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap();
    let mut sent: Vec<String> =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    sent.sort();
    sent
}

#[test]
fn what_is_put_into_the_outbox_is_sent() {
    on_a_core(|layout| async move {
        let (site, dir) = with_outbox(layout, false);
        fill(&site, &["copied", "moved"]).await;
        let message = "To: a@b\r\nSubject: appended\r\n\r\nx\r\n";
        let said = say(
            &site,
            &format!(
                "0 CAPABILITY\r\n1 APPEND Outbox {{{n}+}}\r\n{message}\r\n2 CREATE Outbox\r\n\
                 3 APPEND outbox {{{n}+}}\r\n{message}\r\n4 APPEND Outbox {{{n}+}}\r\n{message}\r\n\
                 5 SELECT INBOX\r\n6 COPY 1 Outbox\r\n7 MOVE 2 Outbox\r\n8 COPY 1:2 Outbox\r\n\
                 9 APPEND INBOX {{{n}+}}\r\n{message}\r\n10 COPY 1:2 Outbox\r\n\
                 11 APPEND Outbox {{{n}+}}\r\n{message} {{{n}+}}\r\n{message}\r\n",
                n = message.len()
            ),
        )
        .await;
        assert!(said.contains(" XCOURIEROUTBOX=Outbox"), "{said}");
        assert_lines(
            &said,
            &[
                "1 NO [TRYCREATE]",
                "2 OK",
                "3 NO [TRYCREATE]",
                "4 OK [APPENDUID",
                "6 OK [COPYUID",
                "* OK [COPYUID",
                "7 OK",
                "8 BAD",
                "9 OK",
                "10 NO [ALERT]",
                "11 NO [ALERT]",
            ],
        );
        let with = |message: &str| format!("X-IMAP-Sender: jo\n{message}-oi -t -f jo\n");
        let mut expected = [
            with("To: a@b\nSubject: appended\n\nx\n"),
            with("Subject: copied\n\nx\n"),
            with("Subject: moved\n\nx\n"),
        ];
        expected.sort();
        assert_eq!(sent(dir.path()), expected);
        let stored = site.messages("jo", "Outbox").await;
        assert_eq!(stored.len(), 3);
        assert_eq!(stored[0], message, "as the client wrote it");
    });
}

/// Names are those of the listener.
#[test]
fn trash_and_outbox_have_couriers_names_where_those_are_set() {
    on_a_core(|layout| async move {
        let (site, dir) = with_outbox(layout, false);
        site.listener(|listener| listener.names = config::NameForm::Courier);
        let message = "To: a@b\r\nSubject: appended\r\n\r\nx\r\n";
        let said = say(
            &site,
            &format!(
                "0 CAPABILITY\r\n1 CREATE INBOX.Outbox\r\n\
                 2 APPEND INBOX.Outbox {{{n}+}}\r\n{message}\r\n",
                n = message.len()
            ),
        )
        .await;
        assert!(said.contains(" XCOURIEROUTBOX=INBOX.Outbox"), "{said}");
        assert_lines(&said, &["1 OK", "2 OK [APPENDUID"]);
        assert_eq!(sent(dir.path()).len(), 1);

        let site = with_trash(layout);
        site.listener(|listener| listener.names = config::NameForm::Courier);
        fill(&site, &["1"]).await;
        let said = say(
            &site,
            "1 SELECT INBOX\r\n2 STORE 1 +FLAGS.SILENT (\\Deleted)\r\n3 EXPUNGE\r\n\
             4 STATUS INBOX.Trash (MESSAGES)\r\n",
        )
        .await;
        assert_lines(&said, &["* 1 EXPUNGE", "3 OK", "* STATUS INBOX.Trash (MESSAGES 1)"]);
    });
}

#[test]
fn what_cannot_be_sent_stays_where_it_was() {
    on_a_core(|layout| async move {
        let (site, dir) = with_outbox(layout, true);
        fill(&site, &["good", "fail", "other"]).await;
        let message = "Subject: fail\r\n\r\nx\r\n";
        let instead = "Subject: instead\r\n\r\nx\r\n";
        let said = say(
            &site,
            &format!(
                "1 CREATE Outbox\r\n2 APPEND Outbox {{{n}+}}\r\n{message}\r\n3 SELECT INBOX\r\n\
                 4 COPY 2 Outbox\r\n5 MOVE 2 Outbox\r\n6 MOVE 1:3 Outbox\r\n7 COPY 1,3 Outbox\r\n\
                 8 REPLACE 1 Outbox {{{n}+}}\r\n{message}\r\n\
                 9 REPLACE 1 Outbox {{{m}+}}\r\n{instead}\r\n",
                n = message.len(),
                m = instead.len()
            ),
        )
        .await;
        assert_lines(
            &said,
            &[
                "1 OK",
                "2 NO [ALERT] The message could not be sent",
                "4 NO [ALERT]",
                "5 NO [ALERT]",
                "6 NO [ALERT] 1 messages were sent",
                "7 OK [COPYUID",
                "8 NO [ALERT]",
                "* OK [APPENDUID",
                "* 1 EXPUNGE",
                "9 OK Replaced",
            ],
        );
        assert_eq!(said.matches("EXPUNGE").count(), 1, "{said}");
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
        assert_eq!(site.messages("jo", "Outbox").await.len(), 3);
        assert_eq!(sent(dir.path()).len(), 4);
    });
}
