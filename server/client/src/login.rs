//! Is this somebody's password on a server elsewhere?

use std::io::{BufRead, BufReader, Read, Write};

use crate::connect::{Server, Stream, Tls};
use crate::error::Error;
use crate::imap::{Login, Session};

/// Longest line of a POP3 server that is read, in bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// LOGIN or AUTHENTICATE PLAIN.
    Imap,
    /// USER and PASS.
    Pop3,
}

/// Logs in and out again.
///
/// # Errors
/// [`Error::Refused`]: the server says no. Any other: nothing is known about the password.
pub fn try_password(
    server: &Server,
    asking: Asking,
    user: &str,
    password: &str,
) -> Result<(), Error> {
    match asking {
        Asking::Imap => {
            let mut session = Session::open(server)?;
            session.login(&Login {
                user: user.to_owned(),
                master: None,
                secret: password.to_owned(),
                bearer: None,
            })?;
            session.log_out();
            Ok(())
        }
        Asking::Pop3 => by_pop3(server, user, password),
    }
}

fn by_pop3(server: &Server, user: &str, password: &str) -> Result<(), Error> {
    // A line break would begin a command of its own, and cannot be in a password that POP3 takes.
    if [user, password].iter().any(|text| text.contains(['\r', '\n', '\0'])) {
        return Err(Error::Refused("a line break in a name or password".to_owned()));
    }
    let mut reader = BufReader::new(server.connect()?);
    good(&mut reader)?.map_err(Error::Unavailable)?;
    if server.tls == Tls::StartTls {
        say(&mut reader, "STLS")?.map_err(Error::Tls)?;
        if !reader.buffer().is_empty() {
            return Err(Error::Tls("the server speaks on before TLS has begun".to_owned()));
        }
        reader = BufReader::new(server.secure(reader.into_inner())?);
    }
    // A server that says no to the name alone says no.
    let done = match say(&mut reader, &format!("USER {user}"))? {
        Ok(()) => say(&mut reader, &format!("PASS {password}"))?,
        refused => refused,
    };
    let upper = |text: &str| text.to_ascii_uppercase();
    match done {
        Ok(()) => {
            // Whatever becomes of it, the question is answered.
            let _ = say(&mut reader, "QUIT");
            Ok(())
        }
        // RFC 2449 and 3206: the password was not looked at, or was good and the maildrop locked.
        Err(text) if upper(&text).starts_with("[IN-USE]") => Ok(()),
        Err(text) if upper(&text).starts_with("[SYS/") => Err(Error::Unavailable(text)),
        Err(text) if upper(&text).starts_with("[LOGIN-DELAY]") => Err(Error::Unavailable(text)),
        Err(text) if upper(&text).contains("TEMPORAR") => Err(Error::Unavailable(text)),
        Err(text) => Err(Error::Refused(text)),
    }
}

fn say(reader: &mut BufReader<Stream>, line: &str) -> Result<Result<(), String>, Error> {
    let stream = reader.get_mut();
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    stream.flush()?;
    good(reader)
}

/// The server's answer: `Err` with its text for -ERR.
fn good(reader: &mut BufReader<Stream>) -> Result<Result<(), String>, Error> {
    let mut line = Vec::new();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    let text = text.trim_end();
    match (text.strip_prefix("+OK"), text.strip_prefix("-ERR")) {
        _ if !line.ends_with(b"\n") => {
            Err(Error::Connection("the server closed the connection".to_owned()))
        }
        (Some(_), _) => Ok(Ok(())),
        (_, Some(why)) => Ok(Err(why.trim().to_owned())),
        _ => Err(Error::Protocol("expected +OK or -ERR".to_owned())),
    }
}
