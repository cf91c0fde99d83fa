//! `cursusd` as a process: what an operator sees of it on the command line, in the log and on the
//! admin socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use admin::wire::{Answer, AnswerLine, FailureCode, ImportMessage, Reply, Request};
use admin::{Client, client::ClientError};

/// A running server, killed on drop.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    dir: tempfile::TempDir,
    /// In the order of the listeners: IMAP, LMTP.
    addresses: Vec<SocketAddr>,
}

fn config(limits: &str) -> String {
    format!(
        r#"
        state_dir = "state"
        [[partition]]
        name = "default"
        path = "mail"
        [[listener]]
        protocol = "imap"
        address = "127.0.0.1:0"
        plain_login = "loopback"
        [[listener]]
        protocol = "lmtp"
        address = "127.0.0.2:0"
        tls = "none"
        [limits]
        {limits}
        [log]
        format = "json"
        "#
    )
}

fn cursusd(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cursusd"));
    command.arg("--config").arg(config).env_remove("CURSUS_LOG");
    command
}

impl Process {
    fn start(limits: &str) -> Process {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state/users"), "jo:\n").unwrap();
        let file = dir.path().join("cursus.toml");
        std::fs::write(&file, config(limits)).unwrap();
        let mut child = cursusd(&file).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut process = Process { child, log, dir, addresses: Vec::new() };
        loop {
            let line = process.line();
            match line["message"].as_str() {
                Some("listening") => {
                    process.addresses.push(line["address"].as_str().unwrap().parse().unwrap());
                }
                Some("ready") => return process,
                _ => {}
            }
        }
    }

    /// The next line of the log.
    fn line(&mut self) -> serde_json::Value {
        let mut text = String::new();
        assert_ne!(self.log.read_line(&mut text).unwrap(), 0, "the server ended");
        serde_json::from_str(&text).unwrap()
    }

    /// The next line of the log with that message.
    fn line_with(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = self.line();
            if line["message"] == message {
                return line;
            }
        }
    }

    fn connect(&self, listener: usize) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.addresses[listener]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        BufReader::new(stream)
    }

    fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("state/admin.sock")
    }

    fn signal(&self, name: &str) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = match name {
            "HUP" => rustix::process::Signal::HUP,
            _ => rustix::process::Signal::TERM,
        };
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn greeting(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

#[test]
fn connections_over_the_limit_are_told_and_logged_and_places_come_back() {
    let mut process = Process::start("connections_loopback_max = 2");
    let mut open: Vec<_> = (0..2).map(|_| process.connect(0)).collect();
    for stream in &mut open {
        assert!(greeting(stream).starts_with("* OK"));
    }
    let mut third = process.connect(0);
    assert!(greeting(&mut third).starts_with("* BYE"));
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    let line = process.line_with("connection refused");
    assert!(line["reason"].as_str().unwrap().starts_with("2 connections"), "{line}");
    drop(open);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !greeting(&mut process.connect(0)).starts_with("* OK") {
        assert!(std::time::Instant::now() < deadline, "places did not come back");
    }
}

#[test]
fn the_admin_socket_answers_good_and_bad_requests() {
    let process = Process::start("");
    let mode = std::fs::metadata(process.admin_socket()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    let mut client = Client::connect(&process.admin_socket()).unwrap();
    let Reply::Status(status) = client.ask(Request::Status).unwrap() else { panic!("no status") };
    assert!(status.running && status.pid == process.child.id());
    let import = |user: &str, bytes| Request::Import {
        user: user.to_owned(),
        mailbox: "INBOX".to_owned(),
        messages: vec![ImportMessage {
            bytes,
            flags: vec!["\\Seen".to_owned(), "$Label1".to_owned()],
            internal_date: Some(1_700_000_000),
            uid: None,
            annotations_bytes: 0,
        }],
        uid_next: None,
    };
    let message = b"Subject: x\r\n\r\nbody\r\n";
    let stored = client.ask_with(import("jo", message.len() as u64), &mut message.as_slice());
    assert!(matches!(stored.unwrap(), Reply::Imported { uids, .. } if uids == [1]));
    let Reply::Mailboxes(lines) = client.ask(Request::Mailboxes { user: None }).unwrap() else {
        panic!("no mailboxes")
    };
    assert_eq!((lines[0].messages, lines[0].unseen, lines[0].bytes), (1, 0, message.len() as u64));
    let refused = client.ask_with(import("nobody", 4), &mut b"S:x\n".as_slice());
    let Err(ClientError::Failure(failure)) = refused else { panic!("stored for nobody") };
    assert_eq!(failure.code, FailureCode::NoSuchUser);
    // The refused message's bytes are gone, and the connection goes on.
    client.ask(Request::Checkpoint).unwrap();

    let raw = |text: &[u8]| -> AnswerLine {
        let mut socket = UnixStream::connect(process.admin_socket()).unwrap();
        socket.write_all(text).unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let code = |line: AnswerLine| match line.answer {
        Answer::Error(failure) => failure.code,
        Answer::Ok(reply) => panic!("{reply:?}"),
    };
    assert_eq!(code(raw(b"{\"v\":99,\"request\":{\"op\":\"later\"}}\n")), FailureCode::Version);
    assert_eq!(code(raw(b"hello\n")), FailureCode::BadRequest);
    assert_eq!(code(raw(&[b'x'; admin::wire::REQUEST_BYTES_MAX])), FailureCode::BadRequest);
    let stray = b"{\"v\":1,\"request\":{\"op\":\"mailbox_delete\",\"user\":\"jo\"}}\n";
    assert_eq!(code(raw(stray)), FailureCode::BadRequest);
}

#[test]
fn a_reload_names_what_takes_a_restart_and_changes_the_rest() {
    let mut process = Process::start("");
    let file = process.dir.path().join("cursus.toml");
    std::fs::write(
        &file,
        config("connections_loopback_max = 1").replace("[log]", "[server]\ncores = 7\n[log]"),
    )
    .unwrap();
    process.signal("HUP");
    let line = process.line_with("changed in the file, takes a restart");
    assert_eq!(line["key"], "server.cores");
    process.line_with("reloaded");
    let mut first = process.connect(0);
    assert!(greeting(&mut first).starts_with("* OK"));
    assert!(greeting(&mut process.connect(0)).starts_with("* BYE"));
}

#[test]
fn a_stop_says_goodbye_and_leaves_no_socket() {
    let mut process = Process::start("");
    let mut stream = process.connect(0);
    assert!(greeting(&mut stream).starts_with("* OK"));
    process.signal("TERM");
    assert!(greeting(&mut stream).starts_with("* BYE"));
    assert!(process.child.wait().unwrap().success());
    assert!(!process.admin_socket().exists());
}

#[test]
fn a_bad_configuration_is_status_78_and_names_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cursus.toml");
    std::fs::write(&file, config("line_bytes_max = 1")).unwrap();
    for check in [true, false] {
        let mut command = cursusd(&file);
        let output = if check { command.arg("--check-config") } else { &mut command }.output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("limits.line_bytes_max: found 1, expected at least 8192"), "{said}");
    }
    assert!(!dir.path().join("state").exists(), "a failed check made files");
}
