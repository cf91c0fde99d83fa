//! One session's transcript: the bytes as they were before encryption and compression, each run with
//! its direction and the time in seconds since 1970, as Cyrus writes them.
//!
//! | in the file | |
//! |---|---|
//! | `---------- jo Sat Nov 28 17:44:33 2026` and an empty line | at the begin |
//! | `<1796060673<` | what follows came from the client |
//! | `>1796060673>` | what follows went to the client |
//!
//! What the client says is recorded when the session takes it, so that nothing behind the end of a
//! login is in the file. Who logs in a second time, which is refused, leaves no password in it either:
//! of such commands only their names are recorded.

use std::time::SystemTime;

use config::Protocol;

use super::writer::Sheet;
use crate::net::OutQueue;

/// Bytes that wait here for more of the same before the writer gets them.
const PIECE_BYTES: usize = 16 << 10;
/// In so many bytes a command has said which it is.
const NAME_BYTES_MAX: usize = 1024;

/// Who said something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// What is known of the command that is coming in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Incoming {
    /// Its name is not there yet.
    Unknown,
    /// It may be recorded.
    Open,
    /// It could have a password.
    Secret,
}

/// One session's transcript.
pub(crate) struct Transcript {
    protocol: Protocol,
    sheet: Sheet,
    /// For the writer, without what it has.
    piece: Vec<u8>,
    /// Who spoke last, and when.
    last: Option<(Side, u64)>,
    incoming: Incoming,
    /// Of a command whose name is not there yet.
    head: Vec<u8>,
    /// Bytes at the begin of the output queue that are recorded, or from before the login.
    queued: usize,
}

impl Transcript {
    pub(super) fn new(protocol: Protocol, sheet: Sheet) -> Transcript {
        let (piece, head) = (Vec::new(), Vec::new());
        Transcript {
            protocol,
            sheet,
            piece,
            last: None,
            incoming: Incoming::Unknown,
            head,
            queued: 0,
        }
    }

    /// What is in the queue already was said before the login.
    pub(crate) fn begin_behind(&mut self, queue: &OutQueue) {
        self.queued = queue.len();
    }

    /// Takes note of what the queue has, which is about to be sent.
    pub(crate) fn sending(&mut self, queue: &OutQueue) {
        for piece in queue.pieces_behind(self.queued) {
            self.record(Side::Server, piece);
        }
        self.queued = queue.len();
    }

    /// So many bytes of the queue were sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.queued = self.queued.saturating_sub(bytes);
    }

    /// The client said something that is no command.
    pub(crate) fn took(&mut self, bytes: &[u8]) {
        self.record(Side::Client, bytes);
    }

    /// The client said a command, or a part of one; `whole`: with this it is complete.
    pub(crate) fn took_command(&mut self, bytes: &[u8], whole: bool) {
        if self.incoming == Incoming::Unknown {
            self.head.extend_from_slice(bytes);
            let name_end = name_end(self.protocol, &self.head);
            let secret = name_end.is_some_and(|end| is_login(self.protocol, &self.head[..end]));
            // A name that does not end could be any.
            if secret || (name_end.is_none() && self.head.len() > NAME_BYTES_MAX) {
                self.incoming = Incoming::Secret;
                let name = self.head[..name_end.unwrap_or(0)].to_vec();
                self.record(Side::Client, &[&name, &b" (not recorded)\r\n"[..]].concat());
            } else if name_end.is_some() || whole {
                self.incoming = Incoming::Open;
                let head = std::mem::take(&mut self.head);
                self.record(Side::Client, &head);
            }
        } else if self.incoming == Incoming::Open {
            self.record(Side::Client, bytes);
        }
        if whole {
            self.incoming = Incoming::Unknown;
        }
        if self.incoming != Incoming::Unknown || whole {
            self.head = Vec::new();
        }
    }

    fn record(&mut self, side: Side, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
        if self.last != Some((side, seconds)) {
            self.last = Some((side, seconds));
            let mark = if side == Side::Client { '<' } else { '>' };
            self.piece.extend_from_slice(format!("{mark}{seconds}{mark}").as_bytes());
        }
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.pass_on();
        }
    }

    /// Gives the writer what there is: the session waits.
    pub(crate) fn pass_on(&mut self) {
        if !self.piece.is_empty() {
            self.sheet.write(std::mem::take(&mut self.piece));
        }
    }

    /// The file is full, or cannot be written.
    pub(crate) fn is_over(&self) -> bool {
        self.sheet.is_over()
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        self.pass_on();
    }
}

/// Where the name of a command ends, once it does: IMAP's has a tag before it.
fn name_end(protocol: Protocol, head: &[u8]) -> Option<usize> {
    let ends = |b: &u8| matches!(b, b' ' | b'\r' | b'\n');
    let first = head.iter().position(ends)?;
    match protocol {
        Protocol::Imap if head[first] == b' ' => {
            head[first + 1..].iter().position(ends).map(|end| first + 1 + end)
        }
        _ => Some(first),
    }
}

/// Whether commands that begin so may have a password.
fn is_login(protocol: Protocol, name: &[u8]) -> bool {
    let (names, name): (&[&str], _) = match protocol {
        Protocol::Imap => {
            let word = name.iter().rposition(|&b| b == b' ').map_or(0, |at| at + 1);
            (&["LOGIN", "AUTHENTICATE"], &name[word..])
        }
        Protocol::Pop3 => (&["USER", "PASS", "APOP", "AUTH"], name),
        Protocol::Lmtp | Protocol::Auth => (&["AUTH"], name),
    };
    names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is recorded of commands, each cut at `cut`.
    fn recorded(protocol: Protocol, commands: &[&str], cut: usize) -> String {
        let mut transcript = Transcript::new(protocol, Sheet::nowhere());
        // All in one second, so to say.
        for command in commands {
            let (a, b) = command.as_bytes().split_at(cut.min(command.len()));
            transcript.took_command(a, false);
            transcript.took_command(b, true);
        }
        let text = String::from_utf8(std::mem::take(&mut transcript.piece)).unwrap();
        let mut parts = text.split('<');
        let mut kept = String::new();
        while let (Some(said), Some(_seconds)) = (parts.next(), parts.next()) {
            kept.push_str(said);
        }
        kept + text.rsplit('<').next().unwrap()
    }

    #[test]
    fn logins_leave_their_names_however_they_come() {
        let imap = ["1 NOOP\r\n", "2 login jo {6+}\r\ngeheim\r\n", "3 LOGOUT\r\n"];
        let pop3 = ["STAT\r\n", "PASS geheim\r\n", "AUTH PLAIN AGdlaGVpbQ==\r\n", "PASSX\r\n"];
        for cut in 0..30 {
            assert_eq!(
                recorded(Protocol::Imap, &imap, cut),
                "1 NOOP\r\n2 login (not recorded)\r\n3 LOGOUT\r\n",
                "cut at {cut}"
            );
            assert_eq!(
                recorded(Protocol::Pop3, &pop3, cut),
                "STAT\r\nPASS (not recorded)\r\nAUTH (not recorded)\r\nPASSX\r\n",
                "cut at {cut}"
            );
        }
        let endless = format!("{} LOGIN jo geheim\r\n", "x".repeat(NAME_BYTES_MAX));
        let text = recorded(Protocol::Imap, &[&endless], NAME_BYTES_MAX + 1);
        assert!(!text.contains("geheim"), "{text}");
    }
}
