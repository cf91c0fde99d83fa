//! LMTP's client side (RFC 2033): one message a connection.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::message::Message;
use super::{Reason, Refused};

/// Longest time for one answer: the server syncs before it gives one.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest line of an answer.
const LINE_BYTES_MAX: u64 = 4096;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    /// `host:port`
    Tcp(String),
}

impl Endpoint {
    /// A path, `unix:` and a path, or `host:port`.
    pub fn parse(text: &str) -> Endpoint {
        match text.strip_prefix("unix:") {
            Some(path) => Endpoint::Unix(path.into()),
            None if text.contains('/') => Endpoint::Unix(text.into()),
            None => Endpoint::Tcp(text.to_owned()),
        }
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                Ok(Box::new(stream))
            }
            Endpoint::Tcp(address) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "no such address");
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
                        Ok(stream) => {
                            stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                            stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                            return Ok(Box::new(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
            Endpoint::Tcp(address) => f.write_str(address),
        }
    }
}

trait Stream: Read + Write + Send {
    fn again(&self) -> io::Result<Box<dyn Stream>>;
    fn end_writing(&self) -> io::Result<()>;
}

macro_rules! stream {
    ($type:ty) => {
        impl Stream for $type {
            fn again(&self) -> io::Result<Box<dyn Stream>> {
                Ok(Box::new(self.try_clone()?))
            }

            fn end_writing(&self) -> io::Result<()> {
                self.shutdown(std::net::Shutdown::Write)
            }
        }
    };
}
stream!(UnixStream);
stream!(TcpStream);

/// Passes standard input on to the server and its answers to standard output.
pub(super) fn pass_on(endpoint: &Endpoint) -> io::Result<()> {
    let mut from = endpoint.connect()?;
    let mut to = from.again()?;
    let sending = std::thread::spawn(move || {
        // The server's answers tell of what did not arrive.
        let _ = io::copy(&mut io::stdin().lock(), &mut to);
        let _ = to.end_writing();
    });
    let mut out = io::stdout().lock();
    let mut buffer = [0; 8192];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        out.write_all(buffer.get(..read).unwrap_or_default())?;
        out.flush()?;
    }
    // It may wait for standard input, which nobody reads any more.
    drop(sending);
    Ok(())
}

/// A local part, quoted where it has to be.
pub(super) fn local_part(text: &str) -> String {
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let dots = text.starts_with('.') || text.ends_with('.') || text.contains("..");
    match !text.is_empty() && !dots && text.chars().all(atom) {
        true => text.to_owned(),
        false => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// A connection.
pub(super) struct Client {
    reader: BufReader<Box<dyn Stream>>,
    writer: Box<dyn Stream>,
}

/// One answer.
struct Answer {
    code: u16,
    /// All lines, the codes left out.
    text: String,
}

impl Answer {
    fn refused(&self) -> Refused {
        let reason = match (self.code, self.text.get(..5)) {
            (550 | 551 | 553, Some("5.1.1" | "5.1.3" | "5.1.6")) => Reason::Unknown,
            (500.., Some("5.2.2")) => Reason::OverQuota,
            (500.., Some("5.1.1")) => Reason::Unknown,
            (552 | 554, _) => Reason::Message,
            // What else is refused for good is a fault between us and the server.
            _ => Reason::Temporary,
        };
        Refused { reason, text: self.text.clone() }
    }
}

impl Client {
    pub fn connect(endpoint: &Endpoint) -> io::Result<Client> {
        let writer = endpoint.connect()?;
        Ok(Client { reader: BufReader::new(writer.again()?), writer })
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut text = String::new();
        loop {
            let mut line = Vec::new();
            (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            let line = String::from_utf8_lossy(&line);
            let bad = || io::Error::other(format!("the server answered {line:?}"));
            let code = line.get(..3).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(line.get(4..).unwrap_or_default().trim_end());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Answer { code, text });
            }
        }
    }

    fn command(&mut self, command: &str) -> io::Result<Answer> {
        self.writer.write_all(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    /// Delivers to all of `addresses`.
    ///
    /// # Errors
    /// Those who did not get it.
    pub fn deliver(
        mut self,
        addresses: &[String],
        message: &Message,
        ignore_quota: bool,
    ) -> Result<(), Vec<Refused>> {
        let mut refused = Vec::new();
        match self.transaction(addresses, message, ignore_quota, &mut refused) {
            Ok(()) => {}
            Err(error) => refused.push(Refused::temporary(format!("the server: {error}"))),
        }
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    fn transaction(
        &mut self,
        addresses: &[String],
        message: &Message,
        ignore_quota: bool,
        refused: &mut Vec<Refused>,
    ) -> io::Result<()> {
        let good = |answer: Answer, code| match answer.code == code {
            true => Ok(()),
            false => Err(io::Error::other(format!("{} {}", answer.code, answer.text))),
        };
        good(self.answer()?, 220)?;
        let hello = self.command("LHLO localhost")?;
        let features = hello.text.clone();
        good(hello, 250)?;
        let has = |feature: &str| features.split_ascii_whitespace().any(|word| word == feature);
        let is_utf8 = |text: &str| !text.is_ascii();
        let utf8 = is_utf8(&message.sender) || addresses.iter().any(|a| is_utf8(a));
        // Line ends as they will be sent.
        let size: usize = message.lines().map(|line| line.len() + 2).sum();
        let mut mail = format!("MAIL FROM:<{}> BODY=8BITMIME", message.sender);
        if has("SIZE") {
            mail.push_str(&format!(" SIZE={size}"));
        }
        if utf8 {
            mail.push_str(" SMTPUTF8");
        }
        let answer = self.command(&mail)?;
        if answer.code != 250 {
            refused.push(answer.refused());
            return self.quit();
        }
        let mut accepted = 0;
        for address in addresses {
            let option = if ignore_quota { " IGNOREQUOTA" } else { "" };
            let answer = self.command(&format!("RCPT TO:<{address}>{option}"))?;
            match answer.code {
                250 | 251 => accepted += 1,
                _ => refused.push(answer.refused()),
            }
        }
        if accepted == 0 {
            return self.quit();
        }
        good(self.command("DATA")?, 354)?;
        let mut data = Vec::with_capacity(size + 3);
        for line in message.lines() {
            if line.starts_with(b".") {
                data.push(b'.');
            }
            data.extend_from_slice(line);
            data.extend_from_slice(b"\r\n");
        }
        data.extend_from_slice(b".\r\n");
        self.writer.write_all(&data)?;
        for _ in 0..accepted {
            let answer = self.answer()?;
            if answer.code != 250 {
                refused.push(answer.refused());
            }
        }
        self.quit()
    }

    fn quit(&mut self) -> io::Result<()> {
        // All was said.
        let _ = self.writer.write_all(b"QUIT\r\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        for (code, text, reason) in [
            (550, "5.1.1 no such user", Reason::Unknown),
            (552, "5.2.2 mailbox full", Reason::OverQuota),
            (452, "4.2.2 mailbox full", Reason::Temporary),
            (552, "5.3.4 too large", Reason::Message),
            (451, "4.3.0 later", Reason::Temporary),
            (530, "5.7.0 log in first", Reason::Temporary),
        ] {
            let refused = Answer { code, text: text.to_owned() }.refused();
            assert_eq!((refused.reason, refused.text.as_str()), (reason, text));
        }
    }

    #[test]
    fn endpoints_are_read() {
        assert_eq!(Endpoint::parse("/run/l"), Endpoint::Unix("/run/l".into()));
        assert_eq!(Endpoint::parse("unix:l"), Endpoint::Unix("l".into()));
        assert_eq!(Endpoint::parse("h:24"), Endpoint::Tcp("h:24".into()));
        assert_eq!(local_part("a..b"), "\"a..b\"");
        assert_eq!(local_part("jo+x"), "jo+x");
    }
}
