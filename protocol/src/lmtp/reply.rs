//! LMTP replies: a code, an enhanced status code, text.

use std::fmt;

/// `class.subject.detail`: RFC 3463. The class follows from the reply code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enhanced {
    /// The second number.
    pub subject: u8,
    /// The third number.
    pub detail: u8,
}

impl Enhanced {
    /// Success or failure of no particular kind.
    pub const OTHER: Enhanced = Enhanced { subject: 0, detail: 0 };
    /// Bad destination mailbox address.
    pub const NO_SUCH_USER: Enhanced = Enhanced { subject: 1, detail: 1 };
    /// Bad destination mailbox address syntax.
    pub const BAD_RECIPIENT: Enhanced = Enhanced { subject: 1, detail: 3 };
    /// Destination address valid.
    pub const RECIPIENT_VALID: Enhanced = Enhanced { subject: 1, detail: 5 };
    /// Bad sender's mailbox address syntax.
    pub const BAD_SENDER: Enhanced = Enhanced { subject: 1, detail: 7 };
    /// Other or undefined mailbox status.
    pub const MAILBOX_BUSY: Enhanced = Enhanced { subject: 2, detail: 0 };
    /// Mailbox disabled, not accepting messages.
    pub const MAILBOX_DISABLED: Enhanced = Enhanced { subject: 2, detail: 1 };
    /// Mailbox full.
    pub const MAILBOX_FULL: Enhanced = Enhanced { subject: 2, detail: 2 };
    /// Message length exceeds the administrative limit of a mailbox.
    pub const MAILBOX_SIZE: Enhanced = Enhanced { subject: 2, detail: 3 };
    /// Other or undefined mail system status.
    pub const SYSTEM: Enhanced = Enhanced { subject: 3, detail: 0 };
    /// Mail system full.
    pub const SYSTEM_FULL: Enhanced = Enhanced { subject: 3, detail: 1 };
    /// System not accepting network messages.
    pub const SYSTEM_CLOSING: Enhanced = Enhanced { subject: 3, detail: 2 };
    /// Message too big for system.
    pub const TOO_BIG: Enhanced = Enhanced { subject: 3, detail: 4 };
    /// Bad connection, as after a long silence.
    pub const BAD_CONNECTION: Enhanced = Enhanced { subject: 4, detail: 2 };
    /// Invalid command.
    pub const BAD_COMMAND: Enhanced = Enhanced { subject: 5, detail: 1 };
    /// Syntax error.
    pub const SYNTAX: Enhanced = Enhanced { subject: 5, detail: 2 };
    /// Too many recipients.
    pub const TOO_MANY_RECIPIENTS: Enhanced = Enhanced { subject: 5, detail: 3 };
    /// Invalid command arguments.
    pub const BAD_ARGUMENT: Enhanced = Enhanced { subject: 5, detail: 4 };
    /// Other or undefined security status; RFC 4954 section 4.
    pub const SECURITY: Enhanced = Enhanced { subject: 7, detail: 0 };
    /// Authentication credentials invalid.
    pub const BAD_CREDENTIALS: Enhanced = Enhanced { subject: 7, detail: 8 };
    /// Encryption required for the requested mechanism.
    pub const NEEDS_ENCRYPTION: Enhanced = Enhanced { subject: 7, detail: 11 };
    /// Non-ASCII addresses not permitted without SMTPUTF8.
    pub const NEEDS_SMTPUTF8: Enhanced = Enhanced { subject: 6, detail: 7 };
}

/// A one-line reply, written by `Display` with its CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Three digits: 2xx done, 3xx go on, 4xx try later, 5xx never.
    pub code: u16,
    /// Absent where RFC 2034 wants none: the greeting, LHLO, 3xx.
    pub enhanced: Option<Enhanced>,
    /// What a person reads; no line ends.
    pub text: &'a str,
}

impl<'a> Reply<'a> {
    /// A reply with an enhanced status code.
    pub const fn new(code: u16, enhanced: Enhanced, text: &'a str) -> Reply<'a> {
        Reply { code, enhanced: Some(enhanced), text }
    }

    /// A reply without one.
    pub const fn bare(code: u16, text: &'a str) -> Reply<'a> {
        Reply { code, enhanced: None, text }
    }

    /// Whether the command was carried out or may go on.
    pub const fn is_positive(&self) -> bool {
        self.code < 400
    }
}

impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        if let Some(Enhanced { subject, detail }) = self.enhanced {
            write!(f, "{}.{subject}.{detail} ", self.code / 100)?;
        }
        write!(f, "{}\r\n", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_of_the_enhanced_code_follows_the_reply_code() {
        let reply = Reply::new(550, Enhanced::NO_SUCH_USER, "no such user");
        assert_eq!(reply.to_string(), "550 5.1.1 no such user\r\n");
        let reply = Reply::new(452, Enhanced::MAILBOX_FULL, "mailbox full");
        assert_eq!(reply.to_string(), "452 4.2.2 mailbox full\r\n");
        assert_eq!(Reply::bare(354, "go on").to_string(), "354 go on\r\n");
    }
}
