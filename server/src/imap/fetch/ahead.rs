//! Reading ahead for a session that waits for its disk.
//!
//! While files come from the page cache, nothing is done: a look ahead costs more than it brings.
//! Once one had to be waited for, the files of the messages that follow, in the command's range or
//! in commands that the client has pipelined, are asked for in helper threads, so that several are
//! on their way at once. Only the kernel's caches change by it.

use engine::Record;
use protocol::imap::command::Body;
use protocol::imap::decode;

use super::super::session::Session;
use super::plan::needs_file;

/// Messages of a range whose files are asked for ahead.
pub(in super::super) const MESSAGES_AHEAD: u32 = 32;
/// Pipelined commands that are looked at.
const COMMANDS_AHEAD: u8 = 32;
/// Messages of one pipelined command whose files are asked for.
const COMMAND_MESSAGES_MAX: usize = 4;
/// Longest command that is looked at, in bytes.
const COMMAND_BYTES_MAX: usize = 512;
/// Messages for which a wait is remembered.
const REMEMBERED: u8 = 64;

/// What a session knows of its disk.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Ahead {
    /// Messages for which we still read ahead.
    wanted: u8,
    /// Commands in the input that were looked at.
    commands: u8,
}

impl Ahead {
    /// Whether files are likely to be waited for.
    pub(in super::super) fn is_wanted(self) -> bool {
        self.wanted > 0
    }

    /// A message was read, from the disk if `waited`.
    pub(in super::super) fn note(&mut self, waited: bool) {
        self.wanted = if waited { REMEMBERED } else { self.wanted.saturating_sub(1) };
    }

    /// A command of the input has its turn.
    pub(in super::super) fn command(&mut self) {
        self.commands = self.commands.saturating_sub(1);
    }
}

/// Asks for the files that pipelined FETCHes behind the present one will need.
pub(in super::super) fn look_ahead(session: &mut Session) {
    let known = session.ahead.commands;
    if !session.ahead.is_wanted() || known > COMMANDS_AHEAD / 2 {
        return;
    }
    let Some(selected) = session.selected.as_ref() else { return };
    let dialect = session.dialect();
    let mut looked_at = known;
    let mut records: Vec<Record> = Vec::new();
    let lines = session.conn.input().split_inclusive(|byte| *byte == b'\n');
    for line in lines.skip(usize::from(known)).take(usize::from(COMMANDS_AHEAD - known)) {
        // The last one may be unfinished; a literal makes lines that are no commands.
        let Some(line) = line.strip_suffix(b"\r\n").filter(|line| !line.ends_with(b"}")) else {
            break;
        };
        if line.len() > COMMAND_BYTES_MAX {
            break;
        }
        looked_at += 1;
        let Ok(command) = decode::command(line, dialect) else { continue };
        let Body::Fetch(fetch) = command.body else { continue };
        if !fetch.items.iter().any(needs_file) {
            continue;
        }
        let Ok(ranges) = selected.resolve(&fetch.set, fetch.uid) else { continue };
        let in_range = |&(first, last): &_| selected.view.records(first, last);
        let found = ranges.iter().flat_map(in_range).map(|(_, record)| record);
        records.extend(found.take(COMMAND_MESSAGES_MAX));
    }
    selected.mailbox.read_ahead(&session.services.lane, &records);
    session.ahead.commands = looked_at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_remembered_for_a_while() {
        let mut ahead = Ahead::default();
        ahead.note(false);
        assert!(!ahead.is_wanted());
        ahead.note(true);
        for _ in 1..REMEMBERED {
            ahead.note(false);
            assert!(ahead.is_wanted());
        }
        ahead.note(false);
        assert!(!ahead.is_wanted());
    }
}
