//! Writes the messages of a mailbox as Dovecot's sdbox has them: a file for each UID, and the log of an
//! index with flags and keywords.
//!
//! The log comes last, so that Dovecot never takes a half written mailbox for a whole one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use admin::wire::MessageLine;
use foreign::dovecot::dbox;
use foreign::dovecot::index_log::NewIndex;
use protocol::imap::mutf7;

use super::MAILS;
use crate::mailfiles::line_ends;

/// Writes messages of one mailbox.
pub struct Writer {
    dir: PathBuf,
    index: NewIndex,
}

impl Writer {
    /// Makes the mailbox's directory below that of a user.
    ///
    /// # Errors
    /// It is there already, or a level of its name cannot be one here.
    pub fn new(user: &Path, mailbox: &str) -> std::io::Result<Writer> {
        let dir = Writer::place(user, mailbox)?;
        if let Some(above) = dir.parent() {
            std::fs::create_dir_all(above)?;
        }
        std::fs::create_dir(&dir)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let created = now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX));
        let hash = blake3::hash(format!("{mailbox}\0{created}\0{}", dir.display()).as_bytes());
        let mut guid = [0; 16];
        guid.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        let mut index = NewIndex::default();
        (index.created, index.guid) = (created, guid);
        Ok(Writer { dir, index })
    }

    /// Where the messages of a mailbox are.
    ///
    /// # Errors
    /// As for [`Writer::new`].
    pub fn place(user: &Path, mailbox: &str) -> std::io::Result<PathBuf> {
        let odd = |level: &str| level == MAILS || level.starts_with('.') || level.contains('\0');
        if mailbox.split('/').any(odd) {
            let message = "a level of its name cannot be one in a dbox";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
        }
        let levels = mailbox.split('/').map(mutf7::encode);
        let named = levels.fold(user.join("mailboxes"), |path, level| path.join(level));
        Ok(named.join(MAILS))
    }

    /// Writes a message. What Dovecot will not serve as it was is said.
    pub fn add(
        &mut self,
        line: &MessageLine,
        octets: &[u8],
    ) -> std::io::Result<Option<&'static str>> {
        let (text, _) = line_ends::to_file(octets);
        let bare = |pair: &[u8]| pair != b"\r\n" && pair[1..] == *b"\n";
        let is_served_otherwise = text.len() == octets.len()
            && (octets.starts_with(b"\n") || octets.windows(2).any(bare));
        let lossy = is_served_otherwise.then_some("its bare LF are CRLF by Dovecot");
        let guid = crate::migrate::content_id(octets);
        let file = dbox::write(&text, self.index.created, line.internal_date, &guid);
        let path = self.dir.join(format!("u.{}", line.uid));
        let mut made = std::fs::File::create_new(&path)?;
        made.write_all(&file)?;
        self.index.add(line.uid, &line.flags);
        Ok(lossy)
    }

    /// Writes the index, with these numbers.
    pub fn finish(mut self, (uid_validity, uid_next): (u32, u32)) -> std::io::Result<()> {
        (self.index.uid_validity, self.index.uid_next) = (uid_validity, uid_next);
        let mut file = std::fs::File::create_new(self.dir.join("dovecot.index.log"))?;
        file.write_all(&self.index.log())?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(uid: u32, flags: &[&str]) -> MessageLine {
        MessageLine {
            uid,
            flags: flags.iter().map(|one| (*one).to_owned()).collect(),
            internal_date: 1_500_000_000 + i64::from(uid),
            sent_date: None,
            size: 0,
            content_id: String::new(),
            message_id: None,
        }
    }

    #[test]
    fn what_is_written_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let texts =
            ["Subject: x\r\n\r\nbody\r\n", "no\r\nend", "lone \r\r\nCR\r\n", "a\nb\r\n", ""];
        for mailbox in ["INBOX", "Entwürfe/Alt & neu"] {
            let mut writer = Writer::new(dir.path(), mailbox).unwrap();
            for (n, text) in texts.iter().enumerate() {
                let line = line(3 * n as u32 + 2, &["$Forwarded", "\\Seen"][..n % 3]);
                let lossy = writer.add(&line, text.as_bytes()).unwrap();
                assert_eq!(lossy.is_some(), n == 3, "{text:?}");
            }
            writer.finish((77, 100)).unwrap();
        }
        assert!(Writer::new(dir.path(), "INBOX").is_err(), "what is there stays");
        assert!(Writer::new(dir.path(), "a/../b").is_err());
        let found: Vec<_> =
            super::super::read(dir.path()).messages.map(|one| one.unwrap()).collect();
        assert_eq!(found.len(), 10);
        for (n, one) in found.iter().enumerate() {
            let mailbox = ["Entwürfe/Alt & neu", "INBOX"][n / 5];
            assert_eq!(one.mailbox.as_deref(), Some(mailbox));
            assert_eq!(one.octets, texts[n % 5].as_bytes());
            assert_eq!(one.internal_date, Some(1_500_000_002 + 3 * (n as i64 % 5)));
            let mut flags = one.flags.clone();
            flags.sort();
            assert_eq!(flags, ["$Forwarded", "\\Seen"][..n % 5 % 3]);
        }
    }
}
