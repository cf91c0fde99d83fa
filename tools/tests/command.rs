//! `cursus` as operators and scripts run it, without a server: what it does and its exit status.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use config::Config;
use engine::Drive;
use engine::io::blocking::Blocking;
use serde_json::Value;

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(layout: &str) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "state_dir = \"state\"\n\
             [[partition]]\nname = \"default\"\npath = \"mail\"\nlayout = \"{layout}\"\n\
             [[listener]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:143\"\n"
        );
        std::fs::write(dir.path().join("cursus.toml"), text).unwrap();
        Site { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `cursus` with `input` on its standard input.
    fn cursus(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cursus"))
            .arg("--config")
            .arg(self.path("cursus.toml"))
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What it prints; it must succeed.
    fn good(&self, arguments: &[&str], input: &str) -> String {
        let output = self.cursus(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self, arguments: &[&str], input: &str) -> Option<i32> {
        self.cursus(arguments, input).status.code()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn add_jo(site: &Site) {
    let hash = "{BLF-CRYPT}$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    site.good(&["user", "add", "--hashed", "jo"], &format!("{hash}\n"));
}

#[test]
fn messages_come_in_from_files_mboxes_and_maildirs() {
    for layout in ["maildir", "cyrus"] {
        let site = Site::new(layout);
        add_jo(&site);
        site.write("one.eml", "Subject: 1\n\none\n");
        site.write("box", "From a\nSubject: 2\nStatus: R\n\n2\n\nFrom b\nSubject: 3\n\n3\n");
        for part in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(site.path("md").join(part)).unwrap();
        }
        site.write("md/cur/1700000000.a:2,FS", "Subject: 4\n\n4\n");
        site.write("md/new/1700000001.b", "Subject: 5\n\n5\n");
        let import = ["message", "import", "--user", "jo", "--mailbox", "Old", "--create"];
        let files = ["one.eml", "box", "md", "-"];
        let done = site.good(&[&import[..], &files].concat(), "Subject: 6\n\n6\n");
        assert_eq!(done, "6 messages imported into Old\n");
        let listed = site.good(&["--json", "mailbox", "list", "jo"], "");
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let old = listed.as_array().unwrap().iter().find(|m| m["name"] == "Old").unwrap();
        assert_eq!((&old["messages"], &old["unseen"]), (&6.into(), &4.into()));
        assert_eq!(site.good(&["check"], ""), "6 messages in 2 mailboxes\n");
    }
}

#[test]
fn one_bad_message_does_not_stop_the_others_and_is_named() {
    let site = Site::new("maildir");
    add_jo(&site);
    site.write("good.eml", "Subject: 1\n\none\n");
    site.write("empty.eml", "");
    let files = ["message", "import", "--user", "jo", "empty.eml", "good.eml"];
    let output = site.cursus(&files, "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("empty.eml: empty"));
    assert_eq!(output.stdout, b"1 messages imported into INBOX\n");
}

#[test]
fn mailboxes_are_made_renamed_subscribed_and_deleted() {
    let site = Site::new("cyrus");
    add_jo(&site);
    site.good(&["mailbox", "create", "jo", "Sent", "--special-use", "\\Sent"], "");
    site.good(&["mailbox", "create", "jo", "a/b"], "");
    site.good(&["mailbox", "rename", "jo", "a/b", "c"], "");
    site.good(&["mailbox", "subscribe", "jo", "c"], "");
    let lines = site.good(&["mailbox", "list"], "");
    let line = |name: &str| lines.lines().find(|l| l.split('\t').nth(1) == Some(name));
    assert!(line("Sent").unwrap().ends_with("\\Sent"), "{lines}");
    assert!(line("c").unwrap().ends_with("subscribed"), "{lines}");
    assert!(line("a/b").is_none() && line("INBOX").is_some(), "{lines}");
    site.good(&["mailbox", "delete", "jo", "c"], "");
    assert!(!site.good(&["mailbox", "list"], "").contains("\tc\t"));
}

#[test]
fn the_exit_status_tells_what_went_wrong() {
    let site = Site::new("maildir");
    assert_eq!(site.status(&["status"], ""), Some(69), "no store yet");
    add_jo(&site);
    assert_eq!(site.status(&["user", "add", "jo"], "secret\n"), Some(73));
    assert_eq!(site.status(&["user", "remove", "mo"], ""), Some(67));
    assert_eq!(site.status(&["user", "add", "a b"], "secret\n"), Some(65));
    assert_eq!(site.status(&["user", "add", "mo"], ""), Some(65), "no password");
    assert_eq!(site.status(&["user", "add", "--bulk"], "mo:x\nno separator\n"), Some(65));
    assert!(!site.good(&["user", "list"], "").contains("mo"), "a bulk is all or none");
    assert_eq!(site.status(&["mailbox", "list", "mo"], ""), Some(67));
    assert_eq!(site.status(&["mailbox", "delete", "jo", "none"], ""), Some(65));
    assert_eq!(site.status(&["mailbox", "create", "jo", "INBOX"], ""), Some(73));
    assert_eq!(site.status(&["reload"], ""), Some(69));
    assert_eq!(site.status(&["nonsense"], ""), Some(2));
    site.write("cursus.toml", "state_dir = 5\n");
    assert_eq!(site.status(&["status"], ""), Some(78));
}

#[test]
fn a_store_that_is_open_elsewhere_is_not_opened_twice() {
    let site = Site::new("maildir");
    add_jo(&site);
    let config = Config::load(Path::new(&site.path("cursus.toml"))).unwrap();
    let storage = Arc::new(Blocking::new());
    let store =
        admin::store::open(&config, "h", storage, Drive::Threads, admin::unfinished::Opener::Any)
            .unwrap();
    let output = site.cursus(&["mailbox", "list"], "");
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("open in another process") && said.contains("admin.sock"), "{said}");
    store.close().unwrap();
    assert!(site.good(&["mailbox", "list"], "").is_empty());
}

#[test]
fn a_configuration_is_shown_with_its_origins_checked_and_converted() {
    let site = Site::new("maildir");
    site.write(
        "courier/imapd",
        "IMAPDSTART=YES\nPORT=1143\nMAXDEMONS=3\nIMAP_EMPTYTRASH=Trash:7\n",
    );
    let with = |arguments: &[&str]| -> Vec<String> {
        let all = ["--courier", "courier", "config"].iter().chain(arguments);
        all.map(|word| (*word).to_owned()).collect()
    };
    let run = |arguments: &[&str]| {
        let arguments = with(arguments);
        site.good(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "")
    };
    let shown = run(&["show", "--origin"]);
    let own = site.path("cursus.toml");
    let line = |key: &str| shown.lines().find(|l| l.starts_with(key)).unwrap_or("").to_owned();
    let address = line("listener[0].address\t");
    assert_eq!(address, format!("listener[0].address\t\"127.0.0.1:143\"\t{}:8", own.display()));
    assert_eq!(line("trash.empty[0].days\t"), "trash.empty[0].days\t7\tcourier/imapd:4");
    assert_eq!(line("limits.connections_max\t"), "limits.connections_max\t50000\tdefault");
    assert!(!run(&["show", "--set"]).contains("limits."));
    let checked = run(&["check"]);
    assert!(checked.contains("courier/imapd:3: MAXDEMONS = \"3\": not served"), "{checked}");
    assert!(checked.ends_with("good; 1 things are not served\n"), "{checked}");
    run(&["convert", "--to", "converted.toml"]);
    let both = run(&["show"]);
    std::fs::rename(site.path("converted.toml"), &own).unwrap();
    assert_eq!(site.good(&["config", "show"], ""), both);
    assert!(site.good(&["config", "options", "courier"], "").contains("| `IMAP_EMPTYTRASH` |"));
    site.write("courier/imapd", "IMAP_PROXY=1\n");
    let output = site.cursus(&["--courier", "courier", "config", "check"], "");
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("courier/imapd:1: IMAP_PROXY = \"1\": "), "{said}");
}
