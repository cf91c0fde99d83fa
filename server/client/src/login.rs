//! Is this somebody's password on a server elsewhere?

use crate::connect::Server;
use crate::error::Error;
use crate::imap::{Login, Session};
use crate::pop3::{self, Refusal, why_refused};

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
    let mut session = pop3::Session::open(server)?;
    match session.user(user, password)? {
        Ok(()) => {
            // Whatever becomes of it, the question is answered.
            session.quit();
            Ok(())
        }
        Err(text) => match why_refused(&text) {
            // The password was good.
            Refusal::InUse => Ok(()),
            Refusal::NotNow => Err(Error::Unavailable(text)),
            Refusal::Password => Err(Error::Refused(text)),
        },
    }
}
