//! Dovecot's authentication client protocol, version 1.2: what SMTP servers (Postfix, Exim) ask an
//! authentication server over a unix socket.
//!
//! Lines of words with tabs between. The server greets:
//!
//! ```text
//! VERSION 1 2
//! MECH    PLAIN   plaintext
//! SPID    process
//! CUID    connection
//! COOKIE  32 hexadecimal digits
//! DONE
//! ```
//!
//! The client says `VERSION` and `CPID`, then asks by `AUTH id mechanism name=value…`, the initial
//! response last (`resp=`), and answers each `CONT id base64` by another. `OK id user=…` and
//! `FAIL id …` end a request; several may be under way.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Version that we speak. A client of another major one can't be understood.
pub const VERSION_MAJOR: u32 = 1;
/// Adds words that others pass over.
pub const VERSION_MINOR: u32 = 2;
/// Longest line from a client, as Dovecot has it.
pub const LINE_BYTES_MAX: usize = 8192;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Its version's first number.
    Version(u32),
    /// Its process.
    Cpid,
    /// A login begins.
    Auth(Box<Auth>),
    /// The response to a challenge.
    Cont {
        /// Of which login.
        id: u32,
        /// Decoded.
        response: Vec<u8>,
    },
    /// A login is given up.
    Cancel(u32),
    /// Something that a later version may know: passed over.
    Other,
}

/// A login, as it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Chosen by the client.
    pub id: u32,
    /// The mechanism's name.
    pub mechanism: String,
    /// For what: `smtp`, …
    pub service: String,
    /// The address that the login comes from.
    pub remote: Option<std::net::IpAddr>,
    /// TLS is in force between that address and the client.
    pub secured: bool,
    /// The initial response, decoded; `None`: there is none.
    pub response: Option<Vec<u8>>,
}

/// Why a line is no command: the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct AuthLineError(pub &'static str);

impl Command {
    /// Reads a line, without its line end.
    ///
    /// # Errors
    /// A known word with something else behind it than it has to have.
    pub fn parse(line: &[u8]) -> Result<Command, AuthLineError> {
        let line = std::str::from_utf8(line).map_err(|_| AuthLineError("UTF-8"))?;
        let mut words = line.split('\t');
        let word = words.next().unwrap_or_default();
        let id = |text: Option<&str>| {
            text.and_then(|t| t.parse().ok()).ok_or(AuthLineError("a number behind the command"))
        };
        match word {
            "VERSION" => Ok(Command::Version(id(words.next())?)),
            "CPID" => Ok(Command::Cpid),
            "AUTH" => auth(id(words.next())?, words).map(|auth| Command::Auth(Box::new(auth))),
            "CONT" => {
                let id = id(words.next())?;
                let response = decode(words.next().unwrap_or_default())?;
                Ok(Command::Cont { id, response })
            }
            "CANCEL" => Ok(Command::Cancel(id(words.next())?)),
            _ => Ok(Command::Other),
        }
    }
}

fn auth<'l>(id: u32, mut words: impl Iterator<Item = &'l str>) -> Result<Auth, AuthLineError> {
    let mechanism = words.next().filter(|name| !name.is_empty());
    let mechanism = mechanism.ok_or(AuthLineError("a mechanism"))?.to_owned();
    let mut auth = Auth { id, mechanism, ..Auth::default() };
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "service" => auth.service = unescape(value),
            "rip" => auth.remote = value.parse().ok(),
            // Later clients tell how: `secured=tls`.
            "secured" => auth.secured = true,
            "resp" => {
                auth.response = Some(decode(value)?);
                break;
            }
            _ => {}
        }
    }
    Ok(auth)
}

fn decode(text: &str) -> Result<Vec<u8>, AuthLineError> {
    BASE64.decode(text).map_err(|_| AuthLineError("base64"))
}

/// A value, so that it can stand between tabs.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push_str("\u{1}0"),
            '\u{1}' => out.push_str("\u{1}1"),
            '\t' => out.push_str("\u{1}t"),
            '\r' => out.push_str("\u{1}r"),
            '\n' => out.push_str("\u{1}n"),
            c => out.push(c),
        }
    }
    out
}

/// What [`escape`] was given.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1}' => out.push(match chars.next() {
                Some('0') => '\0',
                Some('1') => '\u{1}',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('n') => '\n',
                Some(other) => other,
                None => break,
            }),
            c => out.push(c),
        }
    }
    out
}

/// The greeting: `mechanisms` with what they are good for, as [`properties`] has it.
pub fn greeting<'m>(
    mechanisms: impl Iterator<Item = &'m str>,
    process: u32,
    connection: u64,
    cookie: &[u8; 16],
) -> String {
    let mut out = format!("VERSION\t{VERSION_MAJOR}\t{VERSION_MINOR}\n");
    for name in mechanisms {
        let _ = writeln!(out, "MECH\t{name}{}", properties(name));
    }
    let cookie: String = cookie.iter().map(|b| format!("{b:02x}")).collect();
    let _ = write!(out, "SPID\t{process}\nCUID\t{connection}\nCOOKIE\t{cookie}\nDONE\n");
    out
}

/// What a client may want of a mechanism, or not.
fn properties(mechanism: &str) -> &'static str {
    match mechanism {
        "PLAIN" | "LOGIN" => "\tplaintext",
        "ANONYMOUS" => "\tanonymous",
        "DIGEST-MD5" => "\tdictionary\tactive\tmutual-auth",
        name if name.starts_with("CRAM-") => "\tdictionary\tactive",
        name if name.starts_with("SCRAM-") => "\tmutual-auth",
        _ => "",
    }
}

/// A challenge.
pub fn challenge(id: u32, challenge: &[u8]) -> String {
    format!("CONT\t{id}\t{}\n", BASE64.encode(challenge))
}

/// A login that succeeded.
pub fn ok(id: u32, user: &str) -> String {
    format!("OK\t{id}\tuser={}\n", escape(user))
}

/// A login that failed. `temporary`: it may succeed later.
pub fn fail(id: u32, user: &str, reason: Option<&str>, temporary: bool) -> String {
    let mut out = format!("FAIL\t{id}");
    if !user.is_empty() {
        let _ = write!(out, "\tuser={}", escape(user));
    }
    if temporary {
        out.push_str("\ttemp");
    }
    if let Some(reason) = reason {
        let _ = write!(out, "\treason={}", escape(reason));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_postfix_and_exim_say_is_read() {
        assert_eq!(Command::parse(b"VERSION\t1\t1"), Ok(Command::Version(1)));
        assert_eq!(Command::parse(b"CPID\t77"), Ok(Command::Cpid));
        let line = b"AUTH\t3\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=192.0.2.7\tsecured\tresp=AGpvAHg=";
        let Ok(Command::Auth(auth)) = Command::parse(line) else { panic!() };
        assert_eq!((auth.id, auth.mechanism.as_str(), auth.service.as_str()), (3, "PLAIN", "smtp"));
        assert_eq!((auth.remote, auth.secured), ("192.0.2.7".parse().ok(), true));
        assert_eq!(auth.response.as_deref(), Some(b"\0jo\0x".as_slice()));
        let Ok(Command::Auth(auth)) = Command::parse(b"AUTH\t4\tLOGIN\tservice=smtp") else {
            panic!()
        };
        assert_eq!((auth.response, auth.secured), (None, false));
        let cont = Command::Cont { id: 4, response: b"jo".to_vec() };
        assert_eq!(Command::parse(b"CONT\t4\tam8="), Ok(cont));
        assert_eq!(Command::parse(b"CANCEL\t4"), Ok(Command::Cancel(4)));
        assert_eq!(Command::parse(b"NEWS\t4"), Ok(Command::Other));
        for bad in [b"AUTH".as_slice(), b"AUTH\tx\tPLAIN", b"AUTH\t1", b"CONT\t1\t*", b"\xff"] {
            assert!(Command::parse(bad).is_err());
        }
    }

    #[test]
    fn answers_are_as_dovecot_gives_them() {
        let text = greeting(["PLAIN", "CRAM-MD5"].into_iter(), 7, 9, &[0xab; 16]);
        assert_eq!(
            text,
            "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\nSPID\t7\n\
             CUID\t9\nCOOKIE\tabababababababababababababababab\nDONE\n"
        );
        assert_eq!(ok(1, "jo@example.org"), "OK\t1\tuser=jo@example.org\n");
        assert_eq!(challenge(2, b"<1@x>"), "CONT\t2\tPDFAeD4=\n");
        assert_eq!(fail(3, "jo", None, false), "FAIL\t3\tuser=jo\n");
        assert_eq!(fail(3, "", Some("a\tb"), true), "FAIL\t3\ttemp\treason=a\u{1}tb\n");
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_named(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn an_escaped_value_comes_back_and_holds_no_tab(text in "[a\u{0}\u{1}\t\r\n]{0,12}") {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['\t', '\n', '\0', '\r']));
            prop_assert_eq!(unescape(&escaped), text);
        }
    }
}
