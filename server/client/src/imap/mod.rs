//! An IMAP connection as a client has it.
//!
//! A command is sent and its responses are read until the tagged one; a caller sees the untagged
//! ones as they come. Responses are kept in memory whole, up to [`INLINE_BYTES_MAX`], except for
//! messages that a caller takes as a stream ([`Session::fetch_message`]).
//!
//! Invariant: after an error of kind connection or protocol nothing is known about what the server
//! will send, and the session is to be dropped; after [`Error::No`] it goes on.

mod answers;
mod command;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};

use protocol::imap::response::{self, Condition, Response, Value, Word};

pub use answers::{Examined, Fetched, Listed, Namespace, Whose, acl_of, vanished_of};
pub use command::Command;

use crate::connect::{Server, Stream, Tls};
use crate::error::Error;

/// The longest response that is kept in memory, in bytes.
pub const INLINE_BYTES_MAX: u64 = 64 << 20;

/// Read from the network at once.
const READ_BYTES: usize = 64 << 10;

/// Takes a message of so many bytes.
pub type Sink<'a> = dyn FnMut(u64, &mut dyn Read) -> Result<(), Error> + 'a;

/// Takes an untagged response.
pub type Heard<'a> = dyn FnMut(Response) -> Result<(), Error> + 'a;

/// A connection.
pub struct Session {
    reader: BufReader<Stream>,
    tag: u32,
    capabilities: BTreeSet<String>,
    preauthenticated: bool,
    /// Of the server, as OAUTHBEARER tells it.
    host: String,
    port: u16,
}

/// Who logs in, and how.
#[derive(Clone)]
pub struct Login {
    /// Whose mail is meant.
    pub user: String,
    /// Whose password it is, where that is somebody else (RFC 4616: the authentication identity);
    /// the user is the authorization identity then.
    pub master: Option<String>,
    /// The password, or with `bearer` the token.
    pub secret: String,
    /// How a token goes, where there is one instead of a password.
    pub bearer: Option<Bearer>,
}

/// A mechanism for OAuth 2.0 access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// OAUTHBEARER (RFC 7628) where that is offered, else XOAUTH2.
    Offered,
    /// Google's and Microsoft's older one.
    Xoauth2,
}

impl Bearer {
    /// The initial response of OAUTHBEARER; commas and equals signs in a name are written `=2C` and `=3D`
    /// (RFC 5801 section 4).
    pub(crate) fn oauthbearer(user: &str, host: &str, port: u16, token: &str) -> String {
        let name = user.replace('=', "=3D").replace(',', "=2C");
        format!("n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01")
    }
}

impl Session {
    /// Connects, hears the greeting and begins TLS where it is asked for by STARTTLS.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Tls`], [`Error::Protocol`], [`Error::Unavailable`]
    pub fn open(server: &Server) -> Result<Session, Error> {
        let mut session = Session::over(server.connect()?, server);
        session.greeting()?;
        if server.tls == Tls::StartTls {
            if !session.has("STARTTLS")? {
                return Err(Error::Tls("the server does not offer STARTTLS".to_owned()));
            }
            session.ask(Command::new("STARTTLS"))?;
            if !session.reader.buffer().is_empty() {
                return Err(Error::Tls("the server speaks on before TLS has begun".to_owned()));
            }
            session = Session::over(server.secure(session.reader.into_inner())?, server);
        }
        Ok(session)
    }

    fn over(stream: Stream, server: &Server) -> Session {
        Session {
            reader: BufReader::with_capacity(READ_BYTES, stream),
            tag: 0,
            capabilities: BTreeSet::new(),
            preauthenticated: false,
            host: server.host.clone(),
            port: server.port,
        }
    }

    fn greeting(&mut self) -> Result<(), Error> {
        let Response::Status(condition) = self.response(None)? else {
            return Err(Error::Protocol("expected a greeting".to_owned()));
        };
        self.learn(&condition);
        match condition.word {
            Word::Ok => Ok(()),
            Word::Preauth => {
                self.preauthenticated = true;
                Ok(())
            }
            _ => Err(Error::Unavailable(condition.text)),
        }
    }

    /// Whether the server announces a capability, in upper case.
    pub fn has(&mut self, capability: &str) -> Result<bool, Error> {
        if self.capabilities.is_empty() {
            self.ask(Command::new("CAPABILITY"))?;
        }
        Ok(self.capabilities.contains(capability))
    }

    /// Logs in: by AUTHENTICATE PLAIN where that is offered or needed, else by LOGIN.
    ///
    /// # Errors
    /// [`Error::Refused`]: the server says that they are not good. [`Error::Unavailable`] and
    /// [`Error::Connection`]: nothing is known about them.
    pub fn login(&mut self, login: &Login) -> Result<(), Error> {
        if self.preauthenticated {
            return Ok(());
        }
        let plain = self.has("AUTH=PLAIN")?;
        let command = if let Some(bearer) = login.bearer {
            let (user, token) = (&login.user, &login.secret);
            if bearer == Bearer::Offered && self.has("AUTH=OAUTHBEARER")? {
                let initial = Bearer::oauthbearer(user, &self.host, self.port, token);
                let command = self.authenticate("OAUTHBEARER", initial.as_bytes())?;
                // Why it is refused comes in a challenge, which 0x01 answers (RFC 7628 section 3.2.3).
                command.after_continuation(b"AQ==")
            } else {
                let initial = format!("user={user}\x01auth=Bearer {token}\x01\x01");
                self.authenticate("XOAUTH2", initial.as_bytes())?
            }
        } else if let Some(master) = &login.master {
            let initial = format!("{}\0{master}\0{}", login.user, login.secret);
            self.authenticate("PLAIN", initial.as_bytes())?
        } else if plain && !login.secret.contains('\0') {
            self.authenticate("PLAIN", format!("\0{}\0{}", login.user, login.secret).as_bytes())?
        } else if self.has("LOGINDISABLED")? {
            return Err(Error::Unavailable("the server allows no LOGIN here".to_owned()));
        } else {
            let strings = Command::new("LOGIN").astring(login.user.as_bytes());
            strings.astring(login.secret.as_bytes())
        };
        self.capabilities.clear();
        match self.ask(command) {
            Ok(()) => Ok(()),
            Err(Error::No { code, text, .. }) => {
                let busy = ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "PRIVACYREQUIRED"];
                let lower = text.to_ascii_lowercase();
                let says_so =
                    ["temporar", "try again", "too many"].iter().any(|w| lower.contains(w));
                match busy.contains(&code.as_str()) || code.is_empty() && says_so {
                    true => Err(Error::Unavailable(text)),
                    false => Err(Error::Refused(text)),
                }
            }
            Err(other) => Err(other),
        }
    }

    fn authenticate(&mut self, mechanism: &str, initial: &[u8]) -> Result<Command, Error> {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(initial);
        let command = Command::new("AUTHENTICATE").word(mechanism);
        let at_once = self.has("SASL-IR")?;
        Ok(if at_once { command.word(&text) } else { command.after_continuation(text.as_bytes()) })
    }

    /// Sends a command and waits for its end; what comes untagged is not wanted.
    ///
    /// # Errors
    /// [`Error::No`] for NO and BAD, and those of the connection.
    pub fn ask(&mut self, command: Command) -> Result<(), Error> {
        self.run(command, &mut |_| Ok(())).map(drop)
    }

    /// Sends a command; `heard` gets the untagged responses up to its end.
    ///
    /// # Errors
    /// Those of [`Session::ask`], and what `heard` gives.
    pub fn run(&mut self, command: Command, heard: &mut Heard<'_>) -> Result<Condition, Error> {
        self.exchange(command, heard, None)
    }

    /// Fetches one message; `sink` gets its octets as they come, once. `false`: it is not there.
    ///
    /// # Errors
    /// Those of [`Session::ask`], and what `sink` gives.
    pub fn fetch_message(&mut self, uid: u32, sink: &mut Sink<'_>) -> Result<bool, Error> {
        let command = Command::new("UID FETCH").word(&uid.to_string()).word("(UID BODY.PEEK[])");
        let mut taken = false;
        let mut inline: Option<Vec<u8>> = None;
        self.exchange(
            command,
            &mut |response| {
                // Short messages may come quoted, empty ones as NIL.
                if let Some(fetched) = Fetched::of(&response)
                    && fetched.uid == Some(uid)
                {
                    inline = inline.take().or(fetched.body);
                }
                Ok(())
            },
            Some(&mut |bytes, from| match std::mem::replace(&mut taken, true) {
                true => Err(Error::Protocol("the server sent a message twice".to_owned())),
                false => sink(bytes, from),
            }),
        )?;
        match inline {
            Some(bytes) if !taken => {
                sink(bytes.len() as u64, &mut bytes.as_slice())?;
                Ok(true)
            }
            _ => Ok(taken),
        }
    }

    fn exchange(
        &mut self,
        command: Command,
        heard: &mut Heard<'_>,
        mut sink: Option<&mut Sink<'_>>,
    ) -> Result<Condition, Error> {
        self.tag += 1;
        let tag = format!("c{}", self.tag);
        let name = command.name().to_owned();
        let mut pieces = command.pieces(&tag).into_iter();
        let mut bye = None;
        if let Some(first) = pieces.next() {
            self.send(&first)?;
        }
        loop {
            let response =
                self.response(sink.as_deref_mut()).map_err(|error| match (&bye, error) {
                    (Some(text), Error::Connection(_)) => {
                        Error::Connection(format!("the server closed the connection: {text}"))
                    }
                    (_, error) => error,
                })?;
            match response {
                Response::Continue(_) => {
                    // Of a failed exchange of SASL: an empty answer ends it.
                    let piece = pieces.next().unwrap_or_else(|| b"\r\n".to_vec());
                    self.send(&piece)?;
                }
                Response::Tagged(of, condition) if of == tag => {
                    self.learn(&condition);
                    return match condition.word {
                        Word::Ok => Ok(condition),
                        _ => Err(Error::No {
                            command: name,
                            code: code_of(&condition),
                            text: condition.text,
                        }),
                    };
                }
                Response::Tagged(..) => {
                    return Err(Error::Protocol("an answer to another command".to_owned()));
                }
                Response::Status(condition) if condition.word == Word::Bye => {
                    bye = Some(condition.text);
                }
                Response::Status(condition) => {
                    self.learn(&condition);
                    heard(Response::Status(condition))?;
                }
                Response::Data(values) => {
                    if let Some((first, rest)) = values.split_first()
                        && first.is("CAPABILITY")
                    {
                        self.capabilities = capabilities(rest);
                    }
                    heard(Response::Data(values))?;
                }
            }
        }
    }

    fn learn(&mut self, condition: &Condition) {
        if let Some(rest) = condition.code("CAPABILITY") {
            self.capabilities = capabilities(rest);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let stream = self.reader.get_mut();
        stream.write_all(bytes)?;
        Ok(stream.flush()?)
    }

    /// Reads a whole response. A message in it goes to `sink`, and is NIL in what is given back.
    fn response(&mut self, mut sink: Option<&mut Sink<'_>>) -> Result<Response, Error> {
        let mut raw = Vec::new();
        loop {
            let left = INLINE_BYTES_MAX.saturating_sub(raw.len() as u64);
            let mut limited = (&mut self.reader).take(left);
            let read = limited.read_until(b'\n', &mut raw)?;
            if read == 0 || !raw.ends_with(b"\n") {
                return Err(match left == read as u64 {
                    true => too_long(),
                    false => Error::Connection("the server closed the connection".to_owned()),
                });
            }
            let Some((head, bytes)) = literal_at_end(&raw) else { break };
            let is_body = ends_with_body(&raw[..head]);
            match &mut sink {
                Some(sink) if is_body => {
                    let mut body = (&mut self.reader).take(bytes);
                    sink(bytes, &mut body)?;
                    // What was not wanted.
                    let skipped = std::io::copy(&mut body, &mut std::io::sink());
                    skipped?;
                    if body.limit() > 0 {
                        let message = "the server closed the connection in a message";
                        return Err(Error::Connection(message.to_owned()));
                    }
                    raw.truncate(head);
                    raw.extend_from_slice(b"NIL");
                }
                _ => {
                    if bytes > left {
                        return Err(too_long());
                    }
                    let read = (&mut self.reader).take(bytes).read_to_end(&mut raw)?;
                    if (read as u64) < bytes {
                        let message = "the server closed the connection in a literal";
                        return Err(Error::Connection(message.to_owned()));
                    }
                }
            }
        }
        response::parse(&raw).map_err(|malformed| Error::Protocol(malformed.to_string()))
    }

    /// Ends the session as it is polite to.
    pub fn log_out(mut self) {
        // Whatever becomes of it, the session is over.
        let _ = self.ask(Command::new("LOGOUT"));
    }
}

fn too_long() -> Error {
    Error::Protocol(format!("a response of more than {INLINE_BYTES_MAX} bytes"))
}

fn code_of(condition: &Condition) -> String {
    let name = condition.code.first().and_then(Value::atom).unwrap_or_default();
    name.to_ascii_uppercase()
}

fn capabilities(values: &[Value]) -> BTreeSet<String> {
    values.iter().filter_map(Value::atom).map(str::to_ascii_uppercase).collect()
}

/// Where the head of a literal begins that ends a line, and how many bytes follow.
fn literal_at_end(line: &[u8]) -> Option<(usize, u64)> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let digits = line.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (rest, digits) = line.split_at(line.len() - digits);
    let head = rest.strip_suffix(b"{")?;
    let head = head.strip_suffix(b"~").unwrap_or(head);
    let bytes = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((head.len(), bytes))
}

/// Whether what follows is a whole message.
fn ends_with_body(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let last = line.rsplit(|b| *b == b' ' || *b == b'(').next().unwrap_or_default();
    line.starts_with(b"* ") && last.eq_ignore_ascii_case(b"BODY[]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_seen_at_ends_of_lines() {
        assert_eq!(literal_at_end(b"* 1 FETCH (BODY[] {12}\r\n"), Some((18, 12)));
        assert_eq!(literal_at_end(b"x ~{3+}\n"), Some((2, 3)));
        assert_eq!(literal_at_end(b"x {}\r\n"), None);
        assert_eq!(literal_at_end(b"x {1} \r\n"), None);
        assert_eq!(literal_at_end(b"x {99999999999999999999999}\r\n"), None);
    }

    #[test]
    fn names_in_oauthbearer_are_escaped() {
        let initial = Bearer::oauthbearer("a=b,c", "h", 993, "t");
        assert_eq!(initial, "n,a=a=3Db=2Cc,\x01host=h\x01port=993\x01auth=Bearer t\x01\x01");
    }

    #[test]
    fn only_whole_messages_are_streamed() {
        assert!(ends_with_body(b"* 12 FETCH (UID 7 body[] "));
        assert!(ends_with_body(b"* 12 FETCH (BODY[] "));
        assert!(!ends_with_body(b"* 12 FETCH (BODY[HEADER] "));
        assert!(!ends_with_body(b"c1 OK BODY[] "));
    }
}
