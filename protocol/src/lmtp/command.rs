//! What an LMTP client may say.

use thiserror::Error;

use super::Reply;
use super::address::{AddressError, Recipient, ReturnPath, path};
use super::reply::Enhanced;

/// Parameters of RCPT TO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcptParams {
    /// `IGNOREQUOTA`, as Cyrus has it: limits of the mailbox don't count for this recipient.
    pub ignore_quota: bool,
}

/// `BODY=` of MAIL FROM: RFC 6152, RFC 3030.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Body {
    /// Lines of 7-bit text.
    #[default]
    SevenBit,
    /// Lines with bytes above 127.
    EightBitMime,
    /// Any bytes; only by BDAT.
    BinaryMime,
}

/// Parameters of MAIL FROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MailParams {
    /// `SIZE=`: the message's size in bytes, as the client guesses it.
    pub size: Option<u64>,
    /// `BODY=`
    pub body: Body,
    /// `SMTPUTF8`: addresses and headers may be UTF-8.
    pub smtputf8: bool,
}

/// One command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `LHLO name`
    Lhlo(String),
    /// `STARTTLS`
    Starttls,
    /// `AUTH mechanism [initial-response]`, the response in base64.
    Auth {
        /// The mechanism's name as the client wrote it.
        mechanism: String,
        /// What the client sends along.
        initial: Option<String>,
    },
    /// `MAIL FROM:<path> params`
    Mail(ReturnPath, MailParams),
    /// `RCPT TO:<path>`
    Rcpt(Recipient, RcptParams),
    /// `DATA`
    Data,
    /// `BDAT size [LAST]`: so many bytes follow the command at once.
    Bdat {
        /// Bytes in this chunk.
        size: u64,
        /// This chunk ends the message.
        last: bool,
    },
    /// `RSET`
    Rset,
    /// `NOOP [anything]`
    Noop,
    /// `VRFY anything`
    Vrfy,
    /// `QUIT`
    Quit,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The first word is no command.
    #[error("unknown command")]
    Unknown,
    /// HELO and EHLO are SMTP's.
    #[error("this is LMTP: expected LHLO")]
    NotSmtp,
    /// LHLO without a name.
    #[error("expected LHLO and a host name")]
    Lhlo,
    /// AUTH without a mechanism, or with more than one word behind it.
    #[error("expected AUTH, a mechanism and perhaps a response")]
    Auth,
    /// Bytes above 127 that are not UTF-8, or control characters.
    #[error("expected printable ASCII or UTF-8")]
    Text,
    /// An argument where none belongs.
    #[error("this command takes no argument")]
    NoArgument,
    /// MAIL without `FROM:<...>`.
    #[error("expected MAIL FROM:<address>")]
    MailSyntax,
    /// RCPT without `TO:<...>`.
    #[error("expected RCPT TO:<address>")]
    RcptSyntax,
    /// The sender's address is bad.
    #[error("sender: {0}")]
    Sender(AddressError),
    /// The recipient's address is bad.
    #[error("recipient: {0}")]
    Recipient(AddressError),
    /// A UTF-8 address without the SMTPUTF8 parameter.
    #[error("address needs SMTPUTF8")]
    NeedsSmtputf8,
    /// A parameter that was not offered.
    #[error("unknown parameter")]
    Param,
    /// A parameter that was offered has a bad value.
    #[error("bad parameter value: expected SIZE=digits, BODY=7BIT, 8BITMIME or BINARYMIME")]
    ParamValue,
    /// BDAT without a size.
    #[error("expected BDAT, a size in bytes and perhaps LAST")]
    Bdat,
}

impl CommandError {
    /// The code and enhanced status to answer with; `text` is this error's, formatted.
    pub fn reply<'t>(&self, text: &'t str) -> Reply<'t> {
        let (code, enhanced) = match self {
            CommandError::Unknown | CommandError::NotSmtp => (500, Enhanced::BAD_COMMAND),
            CommandError::Text => (500, Enhanced::SYNTAX),
            CommandError::Sender(_) => (501, Enhanced::BAD_SENDER),
            CommandError::Recipient(_) => (501, Enhanced::BAD_RECIPIENT),
            CommandError::NeedsSmtputf8 => (553, Enhanced::NEEDS_SMTPUTF8),
            CommandError::Param => (555, Enhanced::BAD_ARGUMENT),
            _ => (501, Enhanced::BAD_ARGUMENT),
        };
        Reply::new(code, enhanced, text)
    }
}

impl Command {
    /// Reads a line that [`crate::line::LineFramer`] found.
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        let line = std::str::from_utf8(line).map_err(|_| CommandError::Text)?;
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(CommandError::Text);
        }
        let (word, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let argument = argument.trim_matches([' ', '\t']);
        let bare = |command| match argument {
            "" => Ok(command),
            _ => Err(CommandError::NoArgument),
        };
        match word.to_ascii_uppercase().as_str() {
            "LHLO" if argument.is_empty() => Err(CommandError::Lhlo),
            "LHLO" => Ok(Command::Lhlo(argument.to_owned())),
            "STARTTLS" => bare(Command::Starttls),
            "AUTH" => auth(argument),
            "MAIL" => mail(argument),
            "RCPT" => rcpt(argument),
            "DATA" => bare(Command::Data),
            "BDAT" => bdat(argument),
            "RSET" => bare(Command::Rset),
            "NOOP" => Ok(Command::Noop),
            "VRFY" => Ok(Command::Vrfy),
            "QUIT" => bare(Command::Quit),
            "HELO" | "EHLO" => Err(CommandError::NotSmtp),
            _ => Err(CommandError::Unknown),
        }
    }
}

/// The text behind `FROM:` or `TO:`. Blanks behind the colon are against RFC 5321, but common.
fn behind<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, rest) = argument.split_once(':')?;
    head.trim_end().eq_ignore_ascii_case(keyword).then(|| rest.trim_start())
}

fn auth(argument: &str) -> Result<Command, CommandError> {
    let mut words = argument.split_ascii_whitespace().map(str::to_owned);
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(CommandError::Auth),
    }
}

fn mail(argument: &str) -> Result<Command, CommandError> {
    let text = behind(argument, "FROM").ok_or(CommandError::MailSyntax)?;
    let (sender, rest) = path(text).map_err(CommandError::Sender)?;
    let params = mail_params(rest)?;
    if sender.as_ref().is_some_and(Recipient::is_utf8) && !params.smtputf8 {
        return Err(CommandError::NeedsSmtputf8);
    }
    Ok(Command::Mail(ReturnPath(sender), params))
}

fn mail_params(text: &str) -> Result<MailParams, CommandError> {
    if !text.is_empty() && !text.starts_with([' ', '\t']) {
        return Err(CommandError::MailSyntax);
    }
    let mut params = MailParams::default();
    for param in text.split([' ', '\t']).filter(|p| !p.is_empty()) {
        let (name, value) = match param.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (param, None),
        };
        match (name.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(value)) => params.size = Some(digits(value)?),
            ("BODY", Some(value)) => params.body = body(value)?,
            ("SMTPUTF8", None) => params.smtputf8 = true,
            ("SIZE" | "BODY" | "SMTPUTF8", _) => return Err(CommandError::ParamValue),
            // AUTH= of RFC 4954 tells who submitted; servers that don't use it may accept it.
            ("AUTH", Some(_)) => {}
            _ => return Err(CommandError::Param),
        }
    }
    Ok(params)
}

fn body(value: &str) -> Result<Body, CommandError> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(Body::SevenBit),
        "8BITMIME" => Ok(Body::EightBitMime),
        "BINARYMIME" => Ok(Body::BinaryMime),
        _ => Err(CommandError::ParamValue),
    }
}

fn digits(value: &str) -> Result<u64, CommandError> {
    match value.bytes().all(|b| b.is_ascii_digit()) {
        true => value.parse().map_err(|_| CommandError::ParamValue),
        false => Err(CommandError::ParamValue),
    }
}

fn rcpt(argument: &str) -> Result<Command, CommandError> {
    let text = behind(argument, "TO").ok_or(CommandError::RcptSyntax)?;
    match path(text).map_err(CommandError::Recipient)? {
        (Some(_), rest) if !rest.is_empty() && !rest.starts_with([' ', '\t']) => {
            Err(CommandError::RcptSyntax)
        }
        (Some(recipient), rest) => {
            let mut params = RcptParams::default();
            for param in rest.split([' ', '\t']).filter(|p| !p.is_empty()) {
                match param.eq_ignore_ascii_case("IGNOREQUOTA") {
                    true => params.ignore_quota = true,
                    false => return Err(CommandError::Param),
                }
            }
            Ok(Command::Rcpt(recipient, params))
        }
        _ => Err(CommandError::RcptSyntax),
    }
}

fn bdat(argument: &str) -> Result<Command, CommandError> {
    let mut words = argument.split_ascii_whitespace();
    let size = words.next().ok_or(CommandError::Bdat)?;
    let size = digits(size).map_err(|_| CommandError::Bdat)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat { size, last: false }),
        (Some(last), None) if last.eq_ignore_ascii_case("LAST") => {
            Ok(Command::Bdat { size, last: true })
        }
        _ => Err(CommandError::Bdat),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn reads_an_exchange_of_rfc_2033() {
        assert_eq!(parse("LHLO foo.edu"), Ok(Command::Lhlo("foo.edu".into())));
        let chris = Recipient::parse("chris@bar.com").unwrap();
        let sender = ReturnPath(Some(chris.clone()));
        assert_eq!(
            parse("MAIL FROM:<chris@bar.com>"),
            Ok(Command::Mail(sender, MailParams::default()))
        );
        let plain = RcptParams::default();
        assert_eq!(parse("rcpt to:<chris@bar.com>"), Ok(Command::Rcpt(chris.clone(), plain)));
        let beyond = Command::Rcpt(chris, RcptParams { ignore_quota: true });
        assert_eq!(parse("RCPT TO:<chris@bar.com> ignorequota"), Ok(beyond));
        assert_eq!(parse("DATA"), Ok(Command::Data));
        assert_eq!(parse("BDAT 86"), Ok(Command::Bdat { size: 86, last: false }));
        assert_eq!(parse("bdat 0 last"), Ok(Command::Bdat { size: 0, last: true }));
        let auth = |initial| Command::Auth { mechanism: "PLAIN".into(), initial };
        assert_eq!(parse("AUTH PLAIN"), Ok(auth(None)));
        assert_eq!(parse("auth PLAIN AGEAYg=="), Ok(auth(Some("AGEAYg==".into()))));
        assert_eq!(parse("QUIT"), Ok(Command::Quit));
    }

    #[test]
    fn reads_mail_parameters() {
        let Ok(Command::Mail(path, params)) =
            parse("MAIL FROM:<> SIZE=500000 body=8bitmime SMTPUTF8 AUTH=<>")
        else {
            panic!("no MAIL command");
        };
        assert_eq!(path, ReturnPath(None));
        let expected = MailParams { size: Some(500_000), body: Body::EightBitMime, smtputf8: true };
        assert_eq!(params, expected);
    }

    #[test]
    fn bad_commands_say_what_was_expected() {
        for (line, error) in [
            ("", CommandError::Unknown),
            ("HELO x", CommandError::NotSmtp),
            ("LHLO", CommandError::Lhlo),
            ("MAIL <a@b>", CommandError::MailSyntax),
            ("MAIL FROM:<a@b>SIZE=1", CommandError::MailSyntax),
            ("MAIL FROM:<a@b> SIZE=x", CommandError::ParamValue),
            ("MAIL FROM:<a@b> SIZE", CommandError::ParamValue),
            ("MAIL FROM:<a@b> RET=HDRS", CommandError::Param),
            ("MAIL FROM:<ä@b>", CommandError::NeedsSmtputf8),
            ("RCPT TO:<>", CommandError::RcptSyntax),
            ("RCPT TO:<a@b> NOTIFY=NEVER", CommandError::Param),
            ("RCPT TO:<a@b> IGNOREQUOTA=x", CommandError::Param),
            ("RCPT TO:<a@b>IGNOREQUOTA", CommandError::RcptSyntax),
            ("RCPT TO:a@b", CommandError::Recipient(AddressError::Brackets)),
            ("AUTH", CommandError::Auth),
            ("AUTH PLAIN = x", CommandError::Auth),
            ("BDAT", CommandError::Bdat),
            ("BDAT -1", CommandError::Bdat),
            ("BDAT 1 LAST x", CommandError::Bdat),
            ("BDAT 99999999999999999999 LAST", CommandError::Bdat),
            ("DATA x", CommandError::NoArgument),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
        assert_eq!(Command::parse(b"MAIL FROM:<\xff@b>"), Err(CommandError::Text));
        assert_eq!(Command::parse(b"NOOP \0"), Err(CommandError::Text));
    }

    #[test]
    fn errors_carry_reply_codes() {
        let text = CommandError::Param.to_string();
        let reply = CommandError::Param.reply(&text).to_string();
        assert_eq!(reply, "555 5.5.4 unknown parameter\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_err(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Command::parse(&line);
            let mut mail = b"MAIL FROM:<".to_vec();
            mail.extend_from_slice(&line);
            if let Ok(Command::Mail(path, _)) = Command::parse(&mail) {
                prop_assert!(!path.to_string().contains(['\r', '\n', '\0']));
            }
        }
    }
}
