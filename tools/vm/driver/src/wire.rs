//! IMAP and LMTP as a client sees them: blocking, one command at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest silence of a server that is counted as alive; guests are slow.
const SILENCE_SECONDS_MAX: u64 = 60;

fn trouble(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

fn connect(port: u16) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(SILENCE_SECONDS_MAX)))?;
    Ok(BufReader::new(stream))
}

fn read_line(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.pop_if(|last| *last == b'\r');
    Ok(line)
}

/// An untagged response: its text with `{}` for every literal, and the literals.
#[derive(Debug)]
pub(crate) struct Untagged {
    pub(crate) text: String,
    pub(crate) literals: Vec<Vec<u8>>,
}

impl Untagged {
    /// What stands behind `word` up to the next blank or parenthesis.
    pub(crate) fn after(&self, word: &str) -> Option<&str> {
        let at = self.text.find(word)? + word.len();
        let rest = self.text[at..].trim_start();
        Some(&rest[..rest.find([' ', ')', ']']).unwrap_or(rest.len())])
    }

    /// The words in the parentheses behind `word`.
    pub(crate) fn list(&self, word: &str) -> Option<Vec<&str>> {
        let at = self.text.find(word)? + word.len();
        let rest = self.text[at..].trim_start().strip_prefix('(')?;
        Some(rest[..rest.find(')')?].split_whitespace().collect())
    }
}

/// What a command brought.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) untagged: Vec<Untagged>,
    /// From OK, NO or BAD on.
    pub(crate) status: String,
}

impl Answer {
    /// The response code called `name`, in the tagged answer or in an untagged OK.
    pub(crate) fn code(&self, name: &str) -> Option<Vec<&str>> {
        let start = format!("[{name} ");
        self.untagged.iter().map(|one| one.text.as_str()).chain([self.status.as_str()]).find_map(
            |text| {
                let rest = &text[text.find(&start)? + start.len()..];
                Some(rest[..rest.find(']')?].split(' ').collect())
            },
        )
    }
}

/// An IMAP session.
pub(crate) struct Imap {
    reader: BufReader<TcpStream>,
    tag: u32,
}

impl Imap {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let mut reader = connect(port)?;
        let greeting = read_line(&mut reader)?;
        if !greeting.starts_with(b"* OK") {
            return Err(trouble(format!("greeted with {}", String::from_utf8_lossy(&greeting))));
        }
        Ok(Self { reader, tag: 0 })
    }

    pub(crate) fn login(port: u16, user: &str, password: &str) -> io::Result<Self> {
        let mut one = Self::connect(port)?;
        one.run(&format!("LOGIN {user} {password}"))?;
        Ok(one)
    }

    /// Sends a command whose literals are in it already (`{n+}`); any tagged answer is handed back.
    pub(crate) fn command(&mut self, command: &[u8]) -> io::Result<Answer> {
        self.tag += 1;
        let tag = format!("t{} ", self.tag);
        let mut bytes = tag.clone().into_bytes();
        bytes.extend_from_slice(command);
        bytes.extend_from_slice(b"\r\n");
        self.reader.get_mut().write_all(&bytes)?;
        let mut untagged = Vec::new();
        loop {
            let (text, literals) = self.response()?;
            if let Some(status) = text.strip_prefix(&tag) {
                return Ok(Answer { untagged, status: status.to_owned() });
            }
            if let Some(text) = text.strip_prefix("* ") {
                if text.starts_with("BYE") {
                    return Err(trouble(text));
                }
                untagged.push(Untagged { text: text.to_owned(), literals });
            }
        }
    }

    /// As [`Imap::command`]; anything but OK is an error.
    pub(crate) fn run(&mut self, command: &str) -> io::Result<Answer> {
        let answer = self.command(command.as_bytes())?;
        if !answer.status.starts_with("OK") {
            return Err(trouble(format!("{command}: {}", answer.status)));
        }
        Ok(answer)
    }

    fn response(&mut self) -> io::Result<(String, Vec<Vec<u8>>)> {
        let mut text = String::new();
        let mut literals = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&read_line(&mut self.reader)?).into_owned();
            let size = line
                .strip_suffix('}')
                .and_then(|head| head.rsplit_once('{'))
                .and_then(|(head, size)| Some((head, size.parse::<usize>().ok()?)));
            let Some((head, size)) = size else {
                text.push_str(&line);
                return Ok((text, literals));
            };
            text.push_str(head);
            text.push_str("{}");
            let mut literal = vec![0; size];
            self.reader.read_exact(&mut literal)?;
            literals.push(literal);
        }
    }
}

/// An LMTP session.
pub(crate) struct Lmtp {
    reader: BufReader<TcpStream>,
}

impl Lmtp {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let mut one = Self { reader: connect(port)? };
        one.reply()?;
        one.send(b"LHLO storm\r\n")?;
        one.reply()?;
        Ok(one)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    fn reply(&mut self) -> io::Result<String> {
        loop {
            let line = String::from_utf8_lossy(&read_line(&mut self.reader)?).into_owned();
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }

    /// Delivers to all of `users`: for each, the reply behind the final dot.
    pub(crate) fn deliver(&mut self, users: &[&str], message: &[u8]) -> io::Result<Vec<String>> {
        self.send(b"MAIL FROM:<storm@example.org>\r\n")?;
        self.reply()?;
        for user in users {
            self.send(format!("RCPT TO:<{user}@example.org>\r\n").as_bytes())?;
            let reply = self.reply()?;
            if !reply.starts_with("250") {
                return Err(trouble(format!("recipient {user}: {reply}")));
            }
        }
        self.send(b"DATA\r\n")?;
        let reply = self.reply()?;
        if !reply.starts_with("354") {
            return Err(trouble(format!("DATA: {reply}")));
        }
        let mut stuffed = Vec::with_capacity(message.len() + 16);
        for line in message.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stuffed.extend_from_slice(b".\r\n");
        self.send(&stuffed)?;
        users.iter().map(|_| self.reply()).collect()
    }
}
