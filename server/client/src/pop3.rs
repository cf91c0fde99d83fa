//! A POP3 connection as a client has it (RFC 1939): logging in, what is there, headers of messages.
//!
//! Invariants: nothing is changed at the server: no RETR, which marks messages as read at some, no
//! DELE. After an error of kind connection or protocol the session is to be dropped.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};

use crate::connect::{Server, Stream, Tls};
use crate::error::Error;
use crate::imap::{Bearer, Login};

/// Longest line of an answer that is no message, in bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// Longest message, or header, that is kept in memory, in bytes; and the longest line of one.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Commands that are sent before the first of them is answered, at a server that says PIPELINING.
const PIPELINED_MAX: usize = 64;
/// Messages of a maildrop at most: what is kept of a list.
const MESSAGES_MAX: usize = 1 << 22;

/// A connection.
pub struct Session {
    reader: BufReader<Stream>,
    /// Of CAPA (RFC 2449), in upper case: the first word of each line, and the line.
    capabilities: HashMap<String, String>,
    host: String,
    port: u16,
}

impl Session {
    /// Connects, and begins TLS where it is asked for by STLS.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Tls`], [`Error::Protocol`], [`Error::Unavailable`]
    pub fn open(server: &Server) -> Result<Session, Error> {
        let mut session = Session {
            reader: BufReader::new(server.connect()?),
            capabilities: HashMap::new(),
            host: server.host.clone(),
            port: server.port,
        };
        session.answer()?.map_err(Error::Unavailable)?;
        if server.tls == Tls::StartTls {
            session.say("STLS")?.map_err(Error::Tls)?;
            if !session.reader.buffer().is_empty() {
                return Err(Error::Tls("the server speaks on before TLS has begun".to_owned()));
            }
            session.reader = BufReader::new(server.secure(session.reader.into_inner())?);
        }
        Ok(session)
    }

    /// Logs in: by USER and PASS, by AUTH for somebody else or with a token.
    ///
    /// # Errors
    /// [`Error::Refused`]: the server says that they are not good. [`Error::Unavailable`] and
    /// [`Error::Connection`]: nothing is known about them, or another session has the maildrop.
    pub fn login(&mut self, login: &Login) -> Result<(), Error> {
        self.learn()?;
        if self.capabilities.contains_key("UTF8") {
            // RFC 6856: else headers of other than ASCII come in another form, or not at all. It is for
            // before the login; a server that says no goes on as it is.
            let _ = self.say("UTF8")?;
        }
        let (user, secret) = (&login.user, &login.secret);
        let offers = |mechanism: &str| self.offers(mechanism);
        let done = match (login.bearer, &login.master) {
            (Some(Bearer::Offered), _) if offers("OAUTHBEARER") => {
                let initial = Bearer::oauthbearer(user, &self.host, self.port, secret);
                self.authenticate("OAUTHBEARER", &initial)?
            }
            (Some(_), _) => {
                let initial = format!("user={user}\x01auth=Bearer {secret}\x01\x01");
                self.authenticate("XOAUTH2", &initial)?
            }
            (None, Some(master)) => {
                self.authenticate("PLAIN", &format!("{user}\0{master}\0{secret}"))?
            }
            (None, None) if !self.capabilities.contains_key("USER") && offers("PLAIN") => {
                self.authenticate("PLAIN", &format!("\0{user}\0{secret}"))?
            }
            (None, None) => self.user(user, secret)?,
        };
        done.map_err(|text| match why_refused(&text) {
            Refusal::Password => Error::Refused(text),
            Refusal::InUse | Refusal::NotNow => Error::Unavailable(text),
        })
    }

    /// USER and PASS; `Err` with the server's text for its no.
    pub(crate) fn user(&mut self, user: &str, password: &str) -> Result<Result<(), String>, Error> {
        // A line break would begin a command of its own, and cannot be in a password that POP3 takes.
        if [user, password].iter().any(|text| text.contains(['\r', '\n', '\0'])) {
            return Ok(Err("a line break in a name or password".to_owned()));
        }
        // A server that says no to the name alone says no.
        match self.say(&format!("USER {user}"))? {
            Ok(()) => self.say(&format!("PASS {password}")),
            refused => Ok(refused),
        }
    }

    /// RFC 5034, in the older form that every server knows and in which a token may be long.
    fn authenticate(
        &mut self,
        mechanism: &str,
        initial: &str,
    ) -> Result<Result<(), String>, Error> {
        use base64::Engine;
        let initial = base64::engine::general_purpose::STANDARD.encode(initial);
        // Why a token is refused comes in a challenge, which 0x01 answers (RFC 7628 section 3.2.3).
        let mut answers = [initial.as_str(), "AQ=="].into_iter();
        self.send(&format!("AUTH {mechanism}"))?;
        loop {
            let line = self.line(LINE_BYTES_MAX)?;
            match line.starts_with(b"+") && !line.starts_with(b"+OK") {
                true => self.send(answers.next().unwrap_or("*"))?,
                false => return good(&line),
            }
        }
    }

    fn offers(&self, mechanism: &str) -> bool {
        let line = self.capabilities.get("SASL");
        line.is_some_and(|line| line.split_whitespace().any(|word| word == mechanism))
    }

    /// Asks for capabilities; a server without CAPA has none.
    fn learn(&mut self) -> Result<(), Error> {
        self.capabilities.clear();
        if self.say("CAPA")?.is_err() {
            return Ok(());
        }
        while let Some(line) = self.line_of_many()? {
            let line = String::from_utf8_lossy(&line).to_ascii_uppercase();
            let word = line.split_whitespace().next().unwrap_or_default().to_owned();
            if self.capabilities.len() < LINE_BYTES_MAX as usize {
                self.capabilities.insert(word, line);
            }
        }
        Ok(())
    }

    /// Numbers and sizes of the messages.
    pub fn sizes(&mut self) -> Result<Vec<(u32, u64)>, Error> {
        self.table("LIST", |text| text.split_whitespace().next()?.parse().ok())
    }

    /// Numbers and UIDLs of the messages.
    ///
    /// # Errors
    /// [`Error::No`]: the server has none.
    pub fn uidls(&mut self) -> Result<Vec<(u32, String)>, Error> {
        self.table("UIDL", |text| Some(text.trim().to_owned()))
    }

    fn table<T>(
        &mut self,
        command: &str,
        value: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<(u32, T)>, Error> {
        self.say(command)?.map_err(|text| no(command, text))?;
        let mut found = Vec::new();
        while let Some(line) = self.line_of_many()? {
            let text = String::from_utf8_lossy(&line);
            let one = text.trim().split_once(' ');
            let one = one.and_then(|(number, rest)| Some((number.parse().ok()?, value(rest)?)));
            found.push(one.ok_or_else(|| {
                Error::Protocol(format!("{command}: a line without number and value"))
            })?);
            if found.len() > MESSAGES_MAX {
                return Err(Error::Protocol(format!("{command}: more than {MESSAGES_MAX} lines")));
            }
        }
        Ok(found)
    }

    /// Gives `each` the header of these messages and so many lines of their bodies, `None` for one that
    /// the server does not give, or that is longer than [`MESSAGE_BYTES_MAX`].
    pub fn tops(
        &mut self,
        numbers: &[u32],
        lines: u32,
        each: &mut dyn FnMut(u32, Option<Vec<u8>>),
    ) -> Result<(), Error> {
        self.learn_once()?;
        let at_once = if self.capabilities.contains_key("PIPELINING") { PIPELINED_MAX } else { 1 };
        for some in numbers.chunks(at_once) {
            let commands: Vec<String> = some.iter().map(|n| format!("TOP {n} {lines}")).collect();
            self.send(&commands.join("\r\n"))?;
            for number in some {
                let message = match self.answer()? {
                    Ok(()) => self.message()?,
                    Err(_) => None,
                };
                each(*number, message);
            }
        }
        Ok(())
    }

    /// Some servers tell PIPELINING only behind the login.
    fn learn_once(&mut self) -> Result<(), Error> {
        match self.capabilities.contains_key("PIPELINING") {
            true => Ok(()),
            false => self.learn(),
        }
    }

    fn message(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut message = Vec::new();
        let mut is_whole = true;
        while let Some(line) = self.line_of_many()? {
            is_whole &= message.len() + line.len() <= MESSAGE_BYTES_MAX;
            if is_whole {
                message.extend_from_slice(&line);
            }
        }
        Ok(is_whole.then_some(message))
    }

    /// Says good-bye. What comes of it is of no interest.
    pub fn quit(mut self) {
        let _ = self.say("QUIT");
    }

    fn send(&mut self, line: &str) -> Result<(), Error> {
        let stream = self.reader.get_mut();
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        Ok(stream.flush()?)
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<Result<(), String>, Error> {
        self.send(line)?;
        self.answer()
    }

    /// The server's answer: `Err` with its text for -ERR.
    fn answer(&mut self) -> Result<Result<(), String>, Error> {
        good(&self.line(LINE_BYTES_MAX)?)
    }

    /// A line with its end.
    fn line(&mut self, bytes_max: u64) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        self.reader.by_ref().take(bytes_max).read_until(b'\n', &mut line)?;
        match line.ends_with(b"\n") {
            true => Ok(line),
            false if line.len() as u64 == bytes_max => {
                Err(Error::Protocol(format!("a line of more than {bytes_max} bytes")))
            }
            false => Err(Error::Connection("the server closed the connection".to_owned())),
        }
    }

    /// A line of an answer of many, without the dot that may be in front; `None` behind the last.
    fn line_of_many(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut line = self.line(MESSAGE_BYTES_MAX as u64)?;
        if line.first() == Some(&b'.') {
            if line == b".\r\n" || line == b".\n" {
                return Ok(None);
            }
            line.remove(0);
        }
        Ok(Some(line))
    }
}

fn good(line: &[u8]) -> Result<Result<(), String>, Error> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    match (text.strip_prefix("+OK"), text.strip_prefix("-ERR")) {
        (Some(_), _) => Ok(Ok(())),
        (_, Some(why)) => Ok(Err(why.trim().to_owned())),
        _ => Err(Error::Protocol("expected +OK or -ERR".to_owned())),
    }
}

fn no(command: &str, text: String) -> Error {
    Error::No { command: command.to_owned(), code: String::new(), text }
}

/// What a -ERR to a login means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Name and password are not good.
    Password,
    /// They are, and another session has the maildrop.
    InUse,
    /// They were not looked at.
    NotNow,
}

/// RFC 2449, RFC 3206, and what servers say without codes.
pub(crate) fn why_refused(text: &str) -> Refusal {
    let upper = text.to_ascii_uppercase();
    let not_now = ["[SYS/", "[LOGIN-DELAY]"].iter().any(|code| upper.starts_with(code));
    match upper.starts_with("[IN-USE]") {
        true => Refusal::InUse,
        false if not_now || upper.contains("TEMPORAR") => Refusal::NotNow,
        false => Refusal::Password,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// A server that says `script` whatever it is told, once.
    fn session(script: &'static str) -> Session {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(script.as_bytes()).unwrap();
            // Until the client goes.
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let timeout = Duration::from_secs(10);
        let server = Server::new("127.0.0.1", port, Tls::None, None, false, timeout).unwrap();
        Session::open(&server).unwrap()
    }

    fn login() -> Login {
        let (user, secret) = ("jo".to_owned(), "x".to_owned());
        Login { user, master: None, secret, bearer: None }
    }

    #[test]
    fn lists_and_headers_are_read() {
        let mut session = session(
            "+OK hi\r\n+OK\r\nUSER\r\npipelining\r\n.\r\n+OK\r\n+OK\r\n\
             +OK\r\n1 120 octets\r\n3 7\r\n.\r\n+OK\r\n1 a\r\n3 ..b c\r\n.\r\n\
             +OK\r\nA: b\r\n..c: d\r\n\r\n.\r\n-ERR gone\r\n",
        );
        session.login(&login()).unwrap();
        assert_eq!(session.sizes().unwrap(), [(1, 120), (3, 7)]);
        assert_eq!(session.uidls().unwrap(), [(1, "a".to_owned()), (3, "..b c".to_owned())]);
        let mut found = Vec::new();
        session.tops(&[1, 3], 0, &mut |n, header| found.push((n, header))).unwrap();
        assert_eq!(found, [(1, Some(b"A: b\r\n.c: d\r\n\r\n".to_vec())), (3, None)]);
    }

    #[test]
    fn refusals_are_told_from_what_may_pass() {
        for (text, wanted) in [
            ("[AUTH] Authentication failed.", Refusal::Password),
            ("Login failed.", Refusal::Password),
            ("[IN-USE] the maildrop is locked", Refusal::InUse),
            ("[SYS/TEMP] later", Refusal::NotNow),
            ("Temporary problem", Refusal::NotNow),
        ] {
            assert_eq!(why_refused(text), wanted, "{text}");
        }
        let mut one = session("+OK\r\n-ERR no CAPA\r\n+OK\r\n-ERR wrong\r\n");
        assert!(matches!(one.login(&login()), Err(Error::Refused(text)) if text == "wrong"));
        let mut busy = session("+OK\r\n-ERR\r\n+OK\r\n-ERR [IN-USE] other\r\n");
        assert!(matches!(busy.login(&login()), Err(Error::Unavailable(_))));
        let mut none = session("+OK\r\n-ERR UIDL?\r\n");
        assert!(matches!(none.uidls(), Err(Error::No { .. })));
        let mut junk = session("+OK\r\n+OK\r\nx\r\n.\r\n");
        assert!(matches!(junk.sizes(), Err(Error::Protocol(_))));
    }
}
