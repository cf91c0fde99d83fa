//! What the operator says to everybody, in files as Cyrus has them in `msg/`.

use std::path::Path;
use std::time::Duration;

use auth::deny::{self, Denial};
use config::{LayoutKind, Protocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::site::imap::Client;
use crate::site::{Site, on_a_core};

/// A server that looks into `dir` as the process does.
fn site(protocol: Protocol, layout: LayoutKind, dir: &Path) -> Site {
    let site = Site::new(protocol, layout, |config| {
        config.announce.dir = dir.to_owned();
        config.auth.admins = vec!["cyrus".into()];
    });
    tokio::task::spawn_local(server::word::keep_looking(site.services.shared().clone()));
    site
}

/// Until the files were looked at once more.
async fn look() {
    tokio::time::sleep(Duration::from_millis(1200)).await;
}

#[test]
fn users_sessions_end_and_administrators_stay() {
    on_a_core(|layout| async move {
        let dir = tempfile::tempdir().unwrap();
        let site = site(Protocol::Imap, layout, dir.path());
        let mut idle = Client::login(&site, "1 SELECT INBOX\r\n2 IDLE\r\n").await;
        idle.until("+ ").await;
        let mut silent = Client::login(&site, "1 NOOP\r\n").await;
        silent.until("1 OK").await;
        let mut admin = Client { stream: site.connect(), read: String::new() };
        admin.send("1 LOGIN cyrus geheim\r\n").await;
        admin.until("1 OK").await;
        std::fs::write(dir.path().join("motd"), "[new disks tonight\n").unwrap();
        std::fs::write(dir.path().join("shutdown.imap"), "back at ten\nno sooner\n").unwrap();
        for user in [&mut idle, &mut silent] {
            user.until("* BYE [ALERT] back at ten\r\n").await;
        }
        admin.send("2 NOOP\r\n").await;
        admin.until("2 OK").await;
        // Who has not logged in may: that could be an administrator.
        let said = site.say("1 NOOP\r\n2 LOGIN jo geheim\r\n3 NOOP\r\n").await;
        let (greeting, rest) = said.split_once("\r\n").unwrap();
        assert!(greeting.starts_with("* OK [CAPABILITY "), "{said}");
        assert!(rest.starts_with("* OK [ALERT] new disks tonight\r\n1 OK "), "{said}");
        let (_, behind) = rest.split_once("Logged in\r\n").expect(&said);
        assert_eq!(behind, "* BYE [ALERT] back at ten\r\n");
        for file in ["motd", "shutdown.imap"] {
            std::fs::remove_file(dir.path().join(file)).unwrap();
        }
        look().await;
        let said = site.say("1 LOGIN jo geheim\r\n2 NOOP\r\n").await;
        assert!(said.contains("\r\n2 OK ") && !said.contains("ALERT"), "{said}");
    });
}

#[test]
fn the_other_protocols_are_temporarily_not_there() {
    on_a_core(|layout| async move {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("shutdown"), "back at ten").unwrap();
        let pop3 = site(Protocol::Pop3, layout, dir.path());
        let lmtp = site(Protocol::Lmtp, layout, dir.path());
        look().await;
        assert_eq!(pop3.say("").await, "+OK Cursus POP3 ready\r\n-ERR [SYS/TEMP] back at ten\r\n");
        let said = lmtp.say("").await;
        assert!(said.ends_with("\r\n421 4.3.2 back at ten\r\n"), "{said}");
    });
}

/// What the list says of the user.
fn denied(file: &Path, services: &str) {
    let denial = Denial { services: services.to_owned(), message: "call 42".to_owned() };
    deny::set(file, "jo", Some(denial)).unwrap();
}

#[test]
fn who_is_denied_the_service_is_refused_and_leaves() {
    on_a_core(|layout| async move {
        let dir = tempfile::tempdir().unwrap();
        let list = |site: &Site| site.services.config().deny_file();
        let imap = site(Protocol::Imap, layout, dir.path());
        let mut idle = Client::login(&imap, "1 SELECT INBOX\r\n2 IDLE\r\n").await;
        idle.until("+ ").await;
        // Another service.
        denied(&list(&imap), "pop3,imaps");
        look().await;
        let said = imap.say("1 LOGIN jo geheim\r\n").await;
        assert!(said.contains("\r\n1 OK "), "{said}");
        denied(&list(&imap), "*");
        idle.until("* BYE [ALERT] call 42\r\n").await;
        let said = imap.say("1 LOGIN jo wrong\r\n2 LOGIN jo geheim\r\n").await;
        assert!(said.contains("\r\n1 NO [AUTHENTICATIONFAILED]"), "{said}");
        assert!(said.contains("\r\n2 NO [AUTHORIZATIONFAILED] call 42\r\n"), "{said}");
        deny::set(&list(&imap), "jo", None).unwrap();
        let said = imap.say("1 LOGIN jo geheim\r\n").await;
        assert!(said.contains("\r\n1 OK "), "{said}");

        let pop3 = site(Protocol::Pop3, layout, dir.path());
        let mut open = pop3.connect();
        open.write_all(b"USER jo\r\nPASS geheim\r\n").await.unwrap();
        look().await;
        denied(&list(&pop3), "pop?");
        let mut read = String::new();
        open.read_to_string(&mut read).await.unwrap();
        assert!(read.contains("-ERR [SYS/TEMP] call 42\r\n"), "{read}");
        let said = pop3.say("USER jo\r\nPASS geheim\r\nQUIT\r\n").await;
        assert!(said.contains("\r\n-ERR [AUTH] call 42\r\n"), "{said}");
    });
}
