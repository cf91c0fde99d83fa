//! Searches that are kept up to date (RFC 5267), of several mailboxes (RFC 7377), by other
//! collations (RFC 5255) and by age (RFC 5032).

use std::time::Duration;

use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

async fn with(layout: LayoutKind, subjects: &[&str]) -> Site {
    let site = Site::new(Protocol::Imap, layout, |_| {});
    for subject in subjects {
        deliver(&site, subject).await;
    }
    site
}

async fn deliver(site: &Site, subject: &str) {
    site.store("jo", "INBOX", &format!("Subject: {subject}\r\n\r\nbody\r\n")).await;
}

struct Client {
    stream: UnixStream,
    tags: u32,
}

impl Client {
    async fn new(site: &Site, mailbox: &str) -> Client {
        let mut client = Client { stream: site.connect(), tags: 0 };
        client.ask("LOGIN jo geheim").await;
        if !mailbox.is_empty() {
            client.ask(&format!("SELECT {mailbox}")).await;
        }
        client
    }

    /// The untagged lines of an answer, then the tagged one without its tag. The greeting is
    /// passed over.
    async fn ask(&mut self, command: &str) -> Vec<String> {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.stream.write_all(format!("{tag} {command}\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        let mut buffer = [0; 4096];
        loop {
            let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut buffer));
            let n = read.await.unwrap_or_else(|_| panic!("silence after {said:?}")).unwrap();
            assert!(n > 0, "closed after {said:?}");
            said.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            let line = format!("\n{tag} ");
            let at = if said.starts_with(&line[1..]) {
                Some(0)
            } else {
                said.find(&line).map(|at| at + 1)
            };
            if let Some(at) = at.filter(|_| said.ends_with("\r\n")) {
                let mut lines: Vec<String> = said[..at].lines().map(str::to_owned).collect();
                lines.push(said[at + tag.len() + 1..].trim_end().to_owned());
                return lines;
            }
        }
    }
}

fn esearch(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.strip_prefix("* ESEARCH ")).collect()
}

/// RFC 5267 section 4.3: what is told, and in which order beside FETCH, EXISTS and EXPUNGE.
#[test]
fn results_are_kept_up_to_date() {
    on_a_core(|layout| async move {
        let site = with(layout, &["one", "two", "three", "four"]).await;
        let mut watcher = Client::new(&site, "INBOX").await;
        let mut other = Client::new(&site, "INBOX").await;
        let said = watcher.ask("UID SEARCH RETURN (UPDATE COUNT) DELETED").await;
        assert_eq!(said[0], "* ESEARCH (TAG \"t3\") UID COUNT 0");
        let said = watcher.ask("SEARCH RETURN (UPDATE CONTEXT ALL) UNDELETED").await;
        assert_eq!(said[0], "* ESEARCH (TAG \"t4\") ALL 1:4");
        let said = watcher.ask("SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 ALL").await;
        assert_eq!(said[0], "* ESEARCH (TAG \"t5\") ALL 4,1,3,2");
        // The session's own change, with its answer, and another's.
        let said = watcher.ask("STORE 2 +FLAGS (\\Deleted)").await;
        assert_eq!(
            esearch(&said),
            ["(TAG \"t3\") UID ADDTO (0 2)", "(TAG \"t4\") REMOVEFROM (0 2)"],
            "{said:?}"
        );
        other.ask("STORE 3 +FLAGS (\\Deleted)").await;
        let said = watcher.ask("NOOP").await;
        assert!(said[0].starts_with("* 3 FETCH"), "{said:?}");
        assert_eq!(
            esearch(&said),
            ["(TAG \"t3\") UID ADDTO (0 3)", "(TAG \"t4\") REMOVEFROM (0 3)"]
        );
        other.ask("STORE 2 -FLAGS (\\Deleted)").await;
        let said = watcher.ask("NOOP").await;
        assert_eq!(
            esearch(&said),
            ["(TAG \"t3\") UID REMOVEFROM (0 2)", "(TAG \"t4\") ADDTO (0 2)"]
        );
        // New mail: after EXISTS, and at its place among the sorted.
        deliver(&site, "Re: fourth").await;
        deliver(&site, "zero").await;
        deliver(&site, "fig").await;
        let said = watcher.ask("NOOP").await;
        let exists = said.iter().position(|line| line == "* 7 EXISTS").expect("EXISTS");
        let first = said.iter().position(|line| line.starts_with("* ESEARCH")).unwrap();
        assert!(exists < first, "{said:?}");
        assert_eq!(
            esearch(&said),
            ["(TAG \"t4\") ADDTO (0 5:7)", "(TAG \"t5\") ADDTO (1 7 3 5 7 6)"],
            "{said:?}"
        );
        // An expunge: before EXPUNGE, in the numbers that hold until then.
        other.ask("EXPUNGE").await;
        let said = watcher.ask("NOOP").await;
        let expunge = said.iter().position(|line| line == "* 3 EXPUNGE").expect("EXPUNGE");
        assert_eq!(
            esearch(&said[..expunge]),
            ["(TAG \"t3\") UID REMOVEFROM (0 3)", "(TAG \"t5\") REMOVEFROM (5 3)"],
            "{said:?}"
        );
        assert_eq!(esearch(&said[expunge..]), [""; 0]);
        let said = watcher.ask("SORT (SUBJECT) UTF-8 ALL").await;
        assert_eq!(said[0], "* SORT 6 3 4 1 2 5");
        // RFC 5267: the tag is in use; updates are cancelled.
        watcher.tags = 4;
        let said = watcher.ask("SEARCH RETURN (UPDATE) FLAGGED").await;
        assert_eq!(said, ["BAD Tag is in use by a search with UPDATE"]);
        watcher.tags = 100;
        let said = watcher.ask("CANCELUPDATE \"t3\" \"t4\" \"t5\"").await;
        assert_eq!(said, ["OK No further updates"]);
        assert!(watcher.ask("CANCELUPDATE \"t3\"").await[0].starts_with("BAD"));
        other.ask("STORE 1 +FLAGS (\\Deleted)").await;
        assert_eq!(esearch(&watcher.ask("NOOP").await), [""; 0]);
        // What cannot be kept up to date is still answered.
        let said = watcher.ask("SORT RETURN (UPDATE COUNT) (MODSEQ) UTF-8 ALL").await;
        assert!(said[0].ends_with(" COUNT 6"), "{said:?}");
        assert!(said[1].starts_with("* NO [NOUPDATE \"t104\"]"), "{said:?}");
    });
}

/// Sequence numbers and `$` in a search mean the messages that they meant when it was asked.
#[test]
fn numbers_in_a_search_hold_still() {
    on_a_core(|layout| async move {
        let site = with(layout, &["a", "b", "c"]).await;
        let mut watcher = Client::new(&site, "INBOX").await;
        let mut other = Client::new(&site, "INBOX").await;
        watcher.ask("SEARCH RETURN (SAVE) 2").await;
        let said = watcher.ask("UID SEARCH RETURN (UPDATE ALL) OR $ 3").await;
        assert_eq!(said[0], "* ESEARCH (TAG \"t4\") UID ALL 2:3");
        other.ask("STORE 1 +FLAGS (\\Deleted)").await;
        other.ask("EXPUNGE").await;
        watcher.ask("NOOP").await;
        other.ask("STORE 1:2 +FLAGS (\\Flagged)").await;
        deliver(&site, "d").await;
        assert_eq!(esearch(&watcher.ask("NOOP").await), [""; 0]);
        other.ask("STORE 1 +FLAGS (\\Deleted)").await;
        other.ask("EXPUNGE").await;
        assert_eq!(esearch(&watcher.ask("NOOP").await), ["(TAG \"t4\") UID REMOVEFROM (0 2)"]);
    });
}

/// RFC 7377 section 3, and its errors.
#[test]
fn several_mailboxes_are_searched_by_one_command() {
    on_a_core(|layout| async move {
        let site = with(layout, &["chad", "two"]).await;
        let mut client = Client::new(&site, "").await;
        for name in
            ["folder1", "folder2", "folder2/banana", "folder2/peach/stone", "other", "empty"]
        {
            client.ask(&format!("CREATE {name}")).await;
            if name != "empty" {
                site.store("jo", name, &format!("Subject: chad {name}\r\n\r\n\r\n")).await;
            }
        }
        let found = |said: &[String], command: u32| -> Vec<String> {
            let tag = format!("(TAG \"t{command}\" MAILBOX ");
            let name = |line: &&str| {
                let (name, rest) = line.strip_prefix(&tag)?.split_once(" UIDVALIDITY ")?;
                let (_, rest) = rest.split_once(") ")?;
                Some(format!("{name} {rest}"))
            };
            esearch(said).iter().map(|line| name(line).expect("the correlators")).collect()
        };
        let said =
            client.ask("ESEARCH IN (mailboxes \"folder1\" subtree \"folder2\") unseen").await;
        let all = ["folder1 UID ALL 1", "folder2 UID ALL 1", "folder2/banana UID ALL 1"];
        assert_eq!(found(&said, 8), [&all[..], &["folder2/peach/stone UID ALL 1"]].concat());
        let said =
            client.ask("ESEARCH IN (mailboxes folder1 subtree-one folder2) subject \"chad\"").await;
        assert_eq!(found(&said, 9), all);
        let said =
            client.ask("ESEARCH IN (inboxes mailboxes (empty none)) RETURN (COUNT MIN) ALL").await;
        assert_eq!(found(&said, 10), ["INBOX UID MIN 1 COUNT 2"]);
        let said = client.ask("ESEARCH IN (personal) RETURN (COUNT) SUBJECT other").await;
        assert_eq!(found(&said, 11), ["other UID COUNT 1"]);
        client.ask("SUBSCRIBE folder1").await;
        let said = client.ask("ESEARCH IN (subscribed) ALL").await;
        assert_eq!(found(&said, 13), ["folder1 UID ALL 1"]);
        for wrong in [
            "ESEARCH ALL",
            "ESEARCH IN (selected) ALL",
            "ESEARCH IN (personal) RETURN (UPDATE) ALL",
            "ESEARCH IN (selected-delayed) ALL",
            "ESEARCH IN () ALL",
        ] {
            assert!(client.ask(wrong).await.last().unwrap().starts_with("BAD"), "{wrong}");
        }
        client.ask("SELECT INBOX").await;
        for wrong in ["ESEARCH IN (personal) RETURN (SAVE) ALL", "ESEARCH IN (selected personal) $"]
        {
            assert!(client.ask(wrong).await.last().unwrap().starts_with("BAD"), "{wrong}");
        }
        let said = client.ask("ESEARCH RETURN (SAVE COUNT) SUBJECT chad").await;
        assert_eq!(found(&said, 22), ["INBOX UID COUNT 1"]);
        assert_eq!(client.ask("SEARCH $").await[0], "* SEARCH 1");
        // The selected mailbox once, as the session sees it; its updates.
        let said =
            client.ask("ESEARCH IN (selected mailboxes INBOX) RETURN (UPDATE ALL) FLAGGED").await;
        assert_eq!(found(&said, 24), [""; 0]);
        let said = client.ask("STORE 2 +FLAGS (\\Flagged)").await;
        let said = [said, client.ask("NOOP").await].concat();
        assert_eq!(esearch(&said), ["(TAG \"t24\") UID ADDTO (0 2)"]);
    });
}

/// RFC 5255 section 4.7.
#[test]
fn strings_compare_by_the_collation_that_the_client_chose() {
    on_a_core(|layout| async move {
        let site = with(layout, &["Caf=C3=A9", "cafe", "CAFE"]).await;
        site.store("jo", "INBOX", "Subject: =?utf-8?q?Caf=C3=A9?=\r\n\r\n\r\n").await;
        let mut client = Client::new(&site, "INBOX").await;
        assert!(client.ask("CAPABILITY").await[0].contains(" I18NLEVEL=2"));
        assert_eq!(client.ask("COMPARATOR").await[0], "* COMPARATOR \"i;unicode-casemap\"");
        assert_eq!(client.ask("SEARCH SUBJECT cafe").await[0], "* SEARCH 2 3 4");
        assert_eq!(client.ask("SORT (SUBJECT) UTF-8 2:4").await[0], "* SORT 2 3 4");
        let said = client.ask("COMPARATOR \"cz;*\" i;ascii-casemap").await;
        assert_eq!(said[0], "* COMPARATOR \"i;ascii-casemap\"");
        assert_eq!(client.ask("SEARCH SUBJECT cafe").await[0], "* SEARCH 2 3");
        client.ask("COMPARATOR i;octet").await;
        assert_eq!(client.ask("SEARCH SUBJECT cafe").await[0], "* SEARCH 2");
        assert_eq!(client.ask("SORT (SUBJECT) UTF-8 2:4").await[0], "* SORT 3 4 2");
        let said = client.ask("THREAD ORDEREDSUBJECT UTF-8 2:3").await;
        assert_eq!(said[0], "* THREAD (2)(3)");
        let said = client.ask("COMPARATOR none").await;
        assert!(said[0].starts_with("NO [BADCOMPARATOR]"), "{said:?}");
        let said = client.ask("COMPARATOR default i;octet").await;
        assert_eq!(
            said[0],
            "* COMPARATOR \"i;unicode-casemap\" (\"i;unicode-casemap\" \"i;octet\")"
        );
        // RFC 5032.
        assert_eq!(client.ask("SEARCH YOUNGER 3600").await[0], "* SEARCH 1 2 3 4");
        assert_eq!(client.ask("SEARCH OLDER 3600").await[0], "* SEARCH");
        assert!(client.ask("SEARCH YOUNGER 0").await[0].starts_with("BAD"));
    });
}
