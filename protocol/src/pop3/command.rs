//! What a POP3 client may say.

use thiserror::Error;

/// 1-based number of a message in the maildrop of this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageNumber(u32);

impl MessageNumber {
    /// The message at a position counted from 0. `None` past the last number that can be written.
    pub fn from_index(index: usize) -> Option<MessageNumber> {
        u32::try_from(index).ok()?.checked_add(1).map(MessageNumber)
    }

    /// The position counted from 0.
    pub fn index(self) -> usize {
        (self.0 as usize).saturating_sub(1)
    }
}

impl std::fmt::Display for MessageNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One command line.
#[derive(Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// `USER name`
    User(&'a [u8]),
    /// `PASS string`: everything behind the one space, inner and trailing spaces too.
    Pass(&'a [u8]),
    /// `AUTH mechanism [initial-response]`
    Auth {
        /// As written; compared without case.
        mechanism: &'a [u8],
        /// Base64, or `=` for an empty one.
        initial: Option<&'a [u8]>,
    },
    /// `AUTH` alone: some clients ask so for the mechanisms.
    AuthList,
    /// `APOP name digest`
    Apop {
        /// Who.
        name: &'a [u8],
        /// 32 hexadecimal digits.
        digest: &'a [u8],
    },
    /// `UTF8`: RFC 6856.
    Utf8,
    /// `LANG [range]`: RFC 6856.
    Lang(Option<&'a [u8]>),
    /// `LAST`: of RFC 1460, gone since RFC 1725.
    Last,
    /// `STLS`
    Stls,
    /// `CAPA`
    Capa,
    /// `STAT`
    Stat,
    /// `LIST [msg]`
    List(Option<MessageNumber>),
    /// `UIDL [msg]`
    Uidl(Option<MessageNumber>),
    /// `RETR msg`
    Retr(MessageNumber),
    /// `TOP msg n`: the header and `lines` lines of the body.
    Top {
        /// Which message.
        message: MessageNumber,
        /// Body lines asked for.
        lines: u64,
    },
    /// `DELE msg`
    Dele(MessageNumber),
    /// `RSET`
    Rset,
    /// `NOOP`
    Noop,
    /// `QUIT`
    Quit,
}

/// Why a line is no command. Its text is what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The first word is no command of ours.
    #[error("unknown command")]
    Unknown,
    /// The command takes no argument.
    #[error("this command takes no argument")]
    NoArgument,
    /// A message number is missing or no number from 1 on.
    #[error("expected a message number, 1 or more")]
    MessageNumber,
    /// `TOP` without its second number.
    #[error("expected TOP, a message number and a number of lines")]
    Lines,
    /// `USER` without a name.
    #[error("expected USER and a name")]
    User,
    /// `PASS` without a password.
    #[error("expected PASS and a password")]
    Pass,
    /// `APOP` without a name and a digest.
    #[error("expected APOP, a name and a digest of 32 hexadecimal digits")]
    Apop,
    /// `LANG` with more than one word.
    #[error("expected LANG and at most one language")]
    Lang,
    /// `AUTH` with more than a mechanism and an initial response.
    #[error("expected AUTH, a mechanism and at most one initial response")]
    Auth,
}

impl<'a> Command<'a> {
    /// Reads a line that [`crate::line::LineFramer`] found.
    ///
    /// Keywords are taken in any case. Blanks around arguments are forgiven, but not in `PASS`,
    /// whose blanks belong to the password (RFC 1939 section 7).
    pub fn parse(line: &'a [u8]) -> Result<Command<'a>, CommandError> {
        let (word, rest) = match line.iter().position(|&b| b == b' ') {
            Some(at) => (line.get(..at).unwrap_or_default(), line.get(at + 1..)),
            None => (line, None),
        };
        let mut upper = [0u8; 4];
        let upper = match upper.get_mut(..word.len()) {
            Some(upper) if !word.is_empty() => upper,
            _ => return Err(CommandError::Unknown),
        };
        upper.copy_from_slice(word);
        upper.make_ascii_uppercase();
        let argument = rest.map(|r| r.trim_ascii()).filter(|r| !r.is_empty());
        let bare = |command| match argument {
            None => Ok(command),
            Some(_) => Err(CommandError::NoArgument),
        };
        match &*upper {
            b"USER" => argument.map(Command::User).ok_or(CommandError::User),
            b"PASS" => rest.map(Command::Pass).ok_or(CommandError::Pass),
            b"AUTH" => auth(argument),
            b"APOP" => argument.map_or(Err(CommandError::Apop), apop),
            b"UTF8" => bare(Command::Utf8),
            b"LANG" => match argument {
                Some(range) if range.contains(&b' ') => Err(CommandError::Lang),
                range => Ok(Command::Lang(range)),
            },
            b"LAST" => bare(Command::Last),
            b"STLS" => bare(Command::Stls),
            b"CAPA" => bare(Command::Capa),
            b"STAT" => bare(Command::Stat),
            b"LIST" => argument.map(number).transpose().map(Command::List),
            b"UIDL" => argument.map(number).transpose().map(Command::Uidl),
            b"RETR" => argument.map_or(Err(CommandError::MessageNumber), number).map(Command::Retr),
            b"DELE" => argument.map_or(Err(CommandError::MessageNumber), number).map(Command::Dele),
            b"TOP" => top(argument),
            b"RSET" => bare(Command::Rset),
            b"NOOP" => bare(Command::Noop),
            b"QUIT" => bare(Command::Quit),
            _ => Err(CommandError::Unknown),
        }
    }

    /// The keyword, for logs: arguments may be secrets.
    pub fn name(&self) -> &'static str {
        match self {
            Command::User(_) => "USER",
            Command::Pass(_) => "PASS",
            Command::Auth { .. } | Command::AuthList => "AUTH",
            Command::Apop { .. } => "APOP",
            Command::Utf8 => "UTF8",
            Command::Lang(_) => "LANG",
            Command::Last => "LAST",
            Command::Stls => "STLS",
            Command::Capa => "CAPA",
            Command::Stat => "STAT",
            Command::List(_) => "LIST",
            Command::Uidl(_) => "UIDL",
            Command::Retr(_) => "RETR",
            Command::Top { .. } => "TOP",
            Command::Dele(_) => "DELE",
            Command::Rset => "RSET",
            Command::Noop => "NOOP",
            Command::Quit => "QUIT",
        }
    }
}

impl std::fmt::Debug for Command<'_> {
    /// Names the command only: a password must not reach a log by `{:?}`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Command::List(m) | Command::Uidl(m) => f.debug_tuple(self.name()).field(m).finish(),
            Command::Retr(m) | Command::Dele(m) => f.debug_tuple(self.name()).field(m).finish(),
            _ => f.write_str(self.name()),
        }
    }
}

fn auth(argument: Option<&[u8]>) -> Result<Command<'_>, CommandError> {
    let Some(argument) = argument else { return Ok(Command::AuthList) };
    let mut words = argument.split(|&b| b == b' ').filter(|w| !w.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(CommandError::Auth),
    }
}

/// The name may hold blanks; a digest holds none.
fn apop(argument: &[u8]) -> Result<Command<'_>, CommandError> {
    let at = argument.iter().rposition(|&b| b == b' ').ok_or(CommandError::Apop)?;
    let name = argument.get(..at).unwrap_or_default().trim_ascii_end();
    let digest = argument.get(at + 1..).unwrap_or_default();
    match !name.is_empty() && digest.len() == 32 && digest.iter().all(u8::is_ascii_hexdigit) {
        true => Ok(Command::Apop { name, digest }),
        false => Err(CommandError::Apop),
    }
}

fn top(argument: Option<&[u8]>) -> Result<Command<'_>, CommandError> {
    let argument = argument.ok_or(CommandError::Lines)?;
    let mut words = argument.split(|&b| b == b' ').filter(|w| !w.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(message), Some(lines), None) => Ok(Command::Top {
            message: number(message)?,
            lines: digits(lines).ok_or(CommandError::Lines)?,
        }),
        _ => Err(CommandError::Lines),
    }
}

fn number(word: &[u8]) -> Result<MessageNumber, CommandError> {
    digits(word)
        .and_then(|n| u32::try_from(n).ok())
        .filter(|&n| n > 0)
        .map(MessageNumber)
        .ok_or(CommandError::MessageNumber)
}

/// Decimal digits only: no sign, no blanks.
fn digits(word: &[u8]) -> Option<u64> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command<'_>, CommandError> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn reads_each_command_in_any_case() {
        assert_eq!(parse("user mrose"), Ok(Command::User(b"mrose")));
        assert_eq!(parse("CAPA"), Ok(Command::Capa));
        assert_eq!(parse("StLs"), Ok(Command::Stls));
        assert_eq!(parse("LIST"), Ok(Command::List(None)));
        assert_eq!(parse("LIST 2"), Ok(Command::List(Some(MessageNumber(2)))));
        assert_eq!(parse("UIDL 7 "), Ok(Command::Uidl(Some(MessageNumber(7)))));
        assert_eq!(parse("TOP 1 10"), Ok(Command::Top { message: MessageNumber(1), lines: 10 }));
        assert_eq!(parse("QUIT"), Ok(Command::Quit));
        let auth = Command::Auth { mechanism: b"PLAIN", initial: Some(b"AHQAdA==") };
        assert_eq!(parse("AUTH PLAIN AHQAdA=="), Ok(auth));
        assert_eq!(parse("AUTH"), Ok(Command::AuthList));
        let digest = b"c4c9334bac560ecc979e58001b3e22fb";
        let apop = Command::Apop { name: b"mrose", digest };
        assert_eq!(parse("APOP mrose c4c9334bac560ecc979e58001b3e22fb"), Ok(apop));
        assert_eq!(parse("lang es"), Ok(Command::Lang(Some(b"es"))));
        assert_eq!(parse("LANG"), Ok(Command::Lang(None)));
        assert_eq!(parse("UTF8"), Ok(Command::Utf8));
        assert_eq!(parse("LAST"), Ok(Command::Last));
    }

    #[test]
    fn blanks_belong_to_the_password() {
        assert_eq!(parse("PASS a  b "), Ok(Command::Pass(b"a  b ")));
        assert_eq!(parse("PASS "), Ok(Command::Pass(b"")));
        assert_eq!(parse("PASS"), Err(CommandError::Pass));
    }

    #[test]
    fn bad_arguments_are_named() {
        assert_eq!(parse(""), Err(CommandError::Unknown));
        assert_eq!(parse("XTND x"), Err(CommandError::Unknown));
        assert_eq!(parse("STATS"), Err(CommandError::Unknown));
        assert_eq!(parse("STAT 1"), Err(CommandError::NoArgument));
        for number in ["0", "-1", "+1", "4294967296", "x", "1 2", "99999999999999999999999"] {
            let line = format!("RETR {number}");
            assert_eq!(parse(&line), Err(CommandError::MessageNumber), "{line}");
        }
        assert_eq!(parse("TOP 1"), Err(CommandError::Lines));
        assert_eq!(parse("AUTH PLAIN a b"), Err(CommandError::Auth));
        for line in ["APOP", "APOP jo", "APOP jo xyz", "APOP c4c9334bac560ecc979e58001b3e22fb"] {
            assert_eq!(parse(line), Err(CommandError::Apop), "{line}");
        }
        assert_eq!(parse("LANG en de"), Err(CommandError::Lang));
        assert_eq!(parse("UTF8 on"), Err(CommandError::NoArgument));
    }

    #[test]
    fn a_secret_does_not_show_in_debug() {
        let shown = format!("{:?} {:?}", Command::Pass(b"geheim"), parse("AUTH PLAIN Z2VoZWlt"));
        assert!(!shown.contains("geheim") && !shown.contains("Z2VoZWlt"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_err(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(command) = Command::parse(&line) {
                prop_assert!(line.to_ascii_uppercase().starts_with(command.name().as_bytes()));
            }
        }
    }
}
