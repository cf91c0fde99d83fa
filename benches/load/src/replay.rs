//! The floor of a workload: the same client, asking a sender that answers from memory.
//!
//! A session is recorded between client and server, and cut into the answers to its commands; a thread
//! then sends each answer as it was when the command arrives. What remains is the kernel's copying, the
//! client, and the time in which both wake each other up: no server on that machine can be quicker.
//!
//! A workload asks the same each time (`--seed`), so its commands and their tags are those recorded.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use memchr::memmem;

use crate::error::{Error, Result};

/// Answers that are there when their commands are go out together, up to this many bytes, as from a
/// server that answers pipelined commands in one write.
const WRITE_BYTES: usize = 64 << 10;

/// A connection's greeting, and behind it the answers to its commands.
type Answers = Vec<Vec<u8>>;

/// Sits between client and server and keeps what the server says.
pub(crate) struct Recorder {
    port: u16,
    ended: Arc<AtomicBool>,
    /// Gives what a server said on each connection, in the order in which they were opened.
    accepting: JoinHandle<Vec<Vec<u8>>>,
}

impl Recorder {
    /// Listens on loopback, and connects each client to the server at `address`.
    pub(crate) fn start(address: (String, u16)) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        // One connection at a time: the workloads that have a floor open no more.
        let accepting = thread::spawn(move || {
            let mut said = Vec::new();
            while let Ok((client, _)) = listener.accept() {
                if end.load(Ordering::Acquire) {
                    break;
                }
                // Where this fails the client sees its connection close, and says so.
                said.extend(relay(&client, &address));
            }
            said
        });
        Ok(Self { port, ended, accepting })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// All that was recorded.
    pub(crate) fn finish(self) -> Result<Vec<Answers>> {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread, which waits for a connection.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        match self.accepting.join() {
            Ok(said) => Ok(said.iter().map(|bytes| cut(bytes)).collect()),
            Err(_) => Err(Error::Usage("the thread that records answers died".to_owned())),
        }
    }
}

/// Connects a client to the server until both are done; gives what the server said.
fn relay(client: &TcpStream, address: &(String, u16)) -> io::Result<Vec<u8>> {
    let server = TcpStream::connect((address.0.as_str(), address.1))?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let asking = thread::spawn(move || {
        // An error is the server's to answer: its side ends then.
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (&server, client);
    let mut said = Vec::new();
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        let read = from_server.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..read]);
        if to_client.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = asking.join();
    Ok(said)
}

/// Cuts what a server said behind the greeting and behind the tagged answers `a1`, `a2`, …. (A message
/// that has such a line in it would be cut there; those of `fill` have none.)
fn cut(said: &[u8]) -> Answers {
    let mut answers = Vec::new();
    let mut start = line_end(said, 0);
    answers.push(said[..start].to_vec());
    while start < said.len() {
        let tag = format!("a{} ", answers.len());
        let at_line = |at: &usize| *at == start || said[at - 1] == b'\n';
        let mut found = memmem::find_iter(&said[start..], tag.as_bytes()).map(|at| start + at);
        let Some(at) = found.find(at_line) else { break };
        let end = line_end(said, at);
        answers.push(said[start..end].to_vec());
        start = end;
    }
    answers
}

/// Where the line that `at` lies in has its end, behind LF.
fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end + 1)
}

/// A sender that answers from memory.
pub(crate) struct Player {
    port: u16,
    playing: JoinHandle<io::Result<()>>,
}

impl Player {
    /// Listens on loopback and plays each of the recorded connections once, in order.
    pub(crate) fn start(recorded: Arc<Vec<Answers>>) -> Result<Self> {
        if recorded.is_empty() {
            return Err(Error::Usage("nothing was recorded to be played".to_owned()));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let playing = thread::spawn(move || {
            recorded.iter().try_for_each(|answers| play(&listener.accept()?.0, answers))
        });
        Ok(Self { port, playing })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the end of the last connection.
    pub(crate) fn finish(self) -> Result<()> {
        match self.playing.join() {
            Ok(done) => Ok(done?),
            Err(_) => Err(Error::Usage("the thread that plays answers died".to_owned())),
        }
    }
}

fn play(client: &TcpStream, answers: &[Vec<u8>]) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut commands = BufReader::with_capacity(WRITE_BYTES, client);
    let mut to_client = client;
    let mut answers = answers.iter();
    let Some(greeting) = answers.next() else { return Ok(()) };
    to_client.write_all(greeting)?;
    let (mut line, mut out) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if commands.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let Some(answer) = answers.next() else { return Ok(()) };
        let last = memchr::memchr(b'\n', commands.buffer()).is_none();
        if out.is_empty() && (last || answer.len() >= WRITE_BYTES) {
            to_client.write_all(answer)?;
            continue;
        }
        out.extend_from_slice(answer);
        if last || out.len() >= WRITE_BYTES {
            to_client.write_all(&out)?;
            out.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_cut_behind_their_tags() {
        let said = b"* OK hello\r\na1 OK in\r\n* 3 EXISTS\r\n* x a2 \r\na2 OK done\r\n* late\r\n";
        let cut: Vec<_> =
            cut(said).into_iter().map(|answer| String::from_utf8(answer).unwrap()).collect();
        assert_eq!(
            cut,
            ["* OK hello\r\n", "a1 OK in\r\n", "* 3 EXISTS\r\n* x a2 \r\na2 OK done\r\n"]
        );
    }

    #[test]
    fn what_a_server_said_is_said_again() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = thread::spawn(move || {
            let answers = ["* OK\r\n", "* 1 x\r\na1 OK\r\n", "a2 OK\r\n"]
                .map(|text| text.as_bytes().to_vec());
            play(&server.accept().unwrap().0, &answers).unwrap();
        });
        let ask = |port| {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            client.write_all(b"a1 ONE\r\na2 TWO\r\n").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut all = String::new();
            client.read_to_string(&mut all).unwrap();
            all
        };
        let recorder = Recorder::start(("127.0.0.1".to_owned(), port)).unwrap();
        let said = ask(recorder.port());
        serving.join().unwrap();
        let recorded = Arc::new(recorder.finish().unwrap());
        assert_eq!(recorded.len(), 1);
        assert_eq!(recorded[0].len(), 3);
        let player = Player::start(Arc::clone(&recorded)).unwrap();
        assert_eq!(ask(player.port()), said);
        player.finish().unwrap();
        assert_eq!(said, "* OK\r\n* 1 x\r\na1 OK\r\na2 OK\r\n");
    }
}
