//! What scripted IMAP clients share.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Site;

/// The first command of every script: the user `jo`.
pub(crate) const LOGIN: &str = "l LOGIN jo geheim\r\n";

/// What the server says to `script` behind the answer to a login.
pub(crate) async fn say(site: &Site, script: &str) -> String {
    let said = site.say(&format!("{LOGIN}{script}")).await;
    let (_, rest) = said.split_once("Logged in\r\n").expect(&said);
    rest.to_owned()
}

/// As [`say`], of another user.
pub(crate) async fn say_as(site: &Site, user: &str, script: &str) -> String {
    let said = site.say(&format!("l LOGIN {user} geheim\r\n{script}")).await;
    let (_, rest) = said.split_once("Logged in\r\n").expect(&said);
    rest.to_owned()
}

/// Asserts that lines with these beginnings come in this order, others between them.
#[track_caller]
pub(crate) fn assert_lines(said: &str, wanted: &[&str]) {
    let mut rest = said.split("\r\n");
    for line in wanted {
        assert!(rest.any(|l| l.starts_with(line)), "no {line:?} (in this order) in:\n{said}");
    }
}

/// Numbers that differ from run to run, as `N`.
pub(crate) fn without_large_numbers(said: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in said.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() > 7 { "N" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out
}

/// Sends as it is and reads until a line begins with `end`; gives all that was read.
pub(crate) async fn ask(client: &mut UnixStream, command: &str, end: &str) -> String {
    client.write_all(command.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let mut room = vec![0; 64 * 1024];
    loop {
        let n = client.read(&mut room).await.unwrap();
        assert_ne!(n, 0, "the server left: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&room[..n]);
        let text = String::from_utf8_lossy(&said);
        if text.lines().any(|line| line.starts_with(end)) {
            return text.into_owned();
        }
    }
}

/// A client that waits for what it wants to read.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    /// What was read and not asked for yet.
    pub(crate) read: String,
}

impl Client {
    /// Logged in as `jo`, with `script` sent behind the login.
    pub(crate) async fn login(site: &Site, script: &str) -> Client {
        let mut client = Client { stream: site.connect(), read: String::new() };
        client.send(&format!("{LOGIN}{script}")).await;
        client
    }

    /// Sends as it is.
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end` has come; gives what came before.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut buffer = [0; 4096];
        while !self.read.contains(end) {
            let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut buffer));
            let n = read.await.unwrap_or_else(|_| panic!("no {end:?} in {:?}", self.read)).unwrap();
            assert!(n > 0, "closed before {end:?}: {:?}", self.read);
            self.read.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        let (before, after) = self.read.split_once(end).unwrap();
        let before = before.to_owned();
        self.read = after.to_owned();
        before
    }
}
