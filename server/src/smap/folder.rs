//! Folders by their words: `INBOX` is the inbox, `INBOX a b` the mailbox `a/b` beside it, as
//! Courier has them. Its SMAP knows no folders that others share on the filesystem, and neither does this.

use std::collections::BTreeMap;

use engine::layout::maildir::SHARED_COPIES;
use protocol::smap::quoted;

use super::{Answer, Session};

/// Between the levels of a mailbox's internal name.
const SEPARATOR: &str = "/";

/// The mailbox of a folder's words.
pub(super) fn mailbox_name(folder: &[String]) -> Result<String, String> {
    let unknown = || "expected a folder that begins with INBOX".to_owned();
    let (first, rest) = folder.split_first().ok_or_else(unknown)?;
    if first != "INBOX" {
        return Err(unknown());
    }
    if rest.iter().any(|word| word.contains(SEPARATOR) || word.chars().any(char::is_control)) {
        return Err(format!("a folder's name can't hold {SEPARATOR} or control characters"));
    }
    let name = if rest.is_empty() { first.clone() } else { rest.join(SEPARATOR) };
    if is_copys(&name) {
        return Err(unknown());
    }
    Ok(name)
}

/// Whether a name is, or lies above, that of a copy of what another user shares.
fn is_copys(name: &str) -> bool {
    name.starts_with(SHARED_COPIES) || SHARED_COPIES.strip_suffix(SEPARATOR) == Some(name)
}

/// Whether something is a folder with messages, or holds other folders.
#[derive(Clone, Copy, Default)]
struct Kind {
    folder: bool,
    directory: bool,
}

impl Session {
    /// LIST: the level below a folder; without one, where everything begins.
    pub(super) async fn list(&mut self, folder: &[String]) -> Answer {
        if folder.is_empty() {
            self.say("* LIST \"INBOX\" \"New Mail\" FOLDER");
            self.say("* LIST \"INBOX\" \"Folders\" DIRECTORY");
            return Ok(Ok("LIST completed"));
        }
        let prefix = match mailbox_name(folder) {
            Ok(_) if folder.len() == 1 => String::new(),
            Ok(name) => name + SEPARATOR,
            Err(text) => return Ok(Err(text)),
        };
        let namespace = self.user.namespace();
        let mut found: BTreeMap<&str, Kind> = BTreeMap::new();
        for name in namespace.mailboxes.keys() {
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            if name == "INBOX" || is_copys(name) {
                continue;
            }
            let (level, below) = match rest.split_once(SEPARATOR) {
                Some((level, _)) => (level, true),
                None => (rest, false),
            };
            let kind = found.entry(level).or_default();
            kind.directory |= below;
            kind.folder |= !below;
        }
        self.conn.out.with_vec(|out| {
            for (level, kind) in found {
                let word = quoted(level);
                out.extend_from_slice(format!("* LIST {word} {word}").as_bytes());
                if kind.folder {
                    out.extend_from_slice(b" FOLDER");
                }
                if kind.directory {
                    out.extend_from_slice(b" DIRECTORY");
                }
                out.push(b'\n');
            }
        });
        Ok(Ok("LIST completed"))
    }

    pub(super) async fn status(&mut self, folder: &[String]) -> Answer {
        let name = match mailbox_name(folder) {
            Ok(name) => name,
            Err(text) => return Ok(Err(text)),
        };
        match self.user.status(&name).await {
            Ok(status) => {
                self.say(&format!("* STATUS EXISTS={} UNSEEN={}", status.messages, status.unseen));
                Ok(Ok("Folder status retrieved"))
            }
            Err(error) => Ok(Err(self.failure("tell a folder's status", &error))),
        }
    }

    pub(super) async fn create(&mut self, folder: &[String]) -> Answer {
        let name = match mailbox_name(folder) {
            Ok(name) => name,
            Err(text) => return Ok(Err(text)),
        };
        match self.user.create(&name, &[]).await {
            Ok(()) => Ok(Ok("Folder created")),
            Err(error) => Ok(Err(self.failure("create a folder", &error))),
        }
    }

    /// MKDIR and RMDIR: what only holds other folders comes and goes with them.
    pub(super) fn directory(&mut self, folder: &[String]) -> Answer {
        Ok(mailbox_name(folder).map(|_| "Directories come and go with their folders"))
    }

    pub(super) async fn delete(&mut self, folder: &[String]) -> Answer {
        let name = match mailbox_name(folder) {
            Ok(name) => name,
            Err(text) => return Ok(Err(text)),
        };
        if self.open.as_ref().is_some_and(|open| open.name == name) {
            return Ok(Err("the folder is open".to_owned()));
        }
        match self.user.delete(&name).await {
            Ok(()) => Ok(Ok("Folder deleted")),
            Err(error) => Ok(Err(self.failure("delete a folder", &error))),
        }
    }

    pub(super) async fn rename(&mut self, from: &[String], to: &[String]) -> Answer {
        let (from, to) = match (mailbox_name(from), mailbox_name(to)) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(text), _) | (_, Err(text)) => return Ok(Err(text)),
        };
        match self.user.rename(&from, &to).await {
            Ok(()) => {
                if let Some(open) = self.open.as_mut().filter(|open| open.name == from) {
                    open.name = to;
                }
                Ok(Ok("Folder renamed"))
            }
            Err(error) => Ok(Err(self.failure("rename a folder", &error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_lie_beside_the_inbox() {
        let name = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            mailbox_name(&words)
        };
        assert_eq!(name(&["INBOX"]), Ok("INBOX".into()));
        assert_eq!(name(&["INBOX", "a", "b c"]), Ok("a/b c".into()));
        let copy = ["INBOX", "#shared-folders", "team", "Open"];
        for bad in [&[][..], &["PUBLIC"], &copy, &copy[..2], &["INBOX", "a/b"], &["INBOX", "a\n"]] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
