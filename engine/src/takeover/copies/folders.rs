//! Which folders others share with a user, and his copy of one: Courier calls that a subscription.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use foreign::courier::shared::read_maildirs;

use super::ORIGINAL_NAME;
use super::reader::Reader;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::io::{Directory, Kind, Open, Storage};
use crate::layout::create_durable;
use crate::layout::maildir::SHARED_COPIES;
use crate::namespace::INBOX;
use crate::user::{User, UserInner};

/// Octets of a reader's `shared-maildirs` at most.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// The Maildirs that a reader's `shared-maildirs` names.
fn maildirs(main: &dyn Directory) -> io::Result<Vec<(String, PathBuf)>> {
    let file = main.open(OsStr::new("shared-maildirs"), Open::Read)?;
    let found = file.facts()?.stat;
    if found.kind != Kind::File || found.size > LIST_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; found.size as usize];
    file.read_exact_at(&mut text, 0)?;
    let named = read_maildirs(&text).into_iter();
    let named = named.map(|maildir| (maildir.name, PathBuf::from(maildir.path)));
    Ok(named.filter(|(name, path)| !name.contains(['/', '.']) && path.is_absolute()).collect())
}

/// Folders in another Maildir that a reader may read: directory names without the dot.
pub(super) fn folders(storage: &dyn Storage, path: &Path, reader: Reader) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(maildir) = reader.open(storage, path) else { return found };
    if !reader.may_in(&*maildir, 5) {
        return found;
    }
    let listed = maildir.list(&mut |name, kind| {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix('.'));
        let Some(name) = name.filter(|_| matches!(kind, Kind::Directory | Kind::Link)) else {
            return;
        };
        if name.split('.').all(|level| !level.is_empty()) {
            found.push(name.to_owned());
        }
    });
    if listed.is_err() {
        return Vec::new();
    }
    found.retain(|name| {
        let folder = reader.open(storage, &path.join(format!(".{name}")));
        folder.is_ok_and(|folder| {
            let cur = folder.directory(OsStr::new("cur"));
            reader.may_in(&*folder, 1) && cur.is_ok_and(|cur| reader.may_in(&*cur, 5))
        })
    });
    found.sort();
    found
}

impl UserInner {
    fn copies_root(&self) -> Option<(Partition, PathBuf)> {
        let partition = self.shared.partition(&self.namespace.load().partition).ok()?.clone();
        partition.layout.has_copies().then_some(())?;
        let main = self.dir_of(&partition, INBOX).ok()?;
        Some((partition, main))
    }

    /// Shared folders, whether the user has a copy or not: internal name, and the original's directory.
    fn shared_folders(&self) -> Vec<(String, PathBuf)> {
        let storage = &*self.shared.storage;
        let Some((partition, main)) = self.copies_root() else { return Vec::new() };
        let Ok(main) = storage.directory(&main) else { return Vec::new() };
        let Ok(reader) = Reader::of(&*main) else { return Vec::new() };
        let mut found = Vec::new();
        for (name, path) in maildirs(&*main).unwrap_or_default() {
            for folder in folders(storage, &path, reader) {
                let internal = partition.layout.folder_name(&folder);
                found.push((
                    format!("{SHARED_COPIES}{name}/{internal}"),
                    path.join(format!(".{folder}")),
                ));
            }
        }
        found
    }
}

impl User {
    /// Internal names of folders that others share on the filesystem and that this user may read,
    /// whether there is a copy of them or not.
    ///
    /// # Errors
    /// [`Error::Closing`]
    pub async fn shared_folders(&self) -> Result<Vec<String>> {
        let user = self.0.clone();
        let look = move || user.shared_folders().into_iter().map(|(name, _)| name).collect();
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)
    }

    /// Makes the user's copy of a shared folder, if there is such a folder and no copy yet.
    ///
    /// # Errors
    /// [`Error::Io`] where the link to the original cannot be made.
    pub async fn copy_shared_folder(&self, name: &str) -> Result<()> {
        if self.namespace().mailboxes.contains_key(name) {
            return Ok(());
        }
        let (user, wanted) = (self.0.clone(), name.to_owned());
        let link = move || {
            let Some((_, original)) =
                user.shared_folders().into_iter().find(|(name, _)| *name == wanted)
            else {
                return Ok(false);
            };
            let Some((partition, _)) = user.copies_root() else { return Ok(false) };
            let (storage, dir) = (&*user.shared.storage, user.dir_of(&partition, &wanted)?);
            let failed = |e| Error::io("link to a shared folder", &dir)(e);
            create_durable(storage, &dir).map_err(failed)?;
            let open = storage.directory(&dir).map_err(failed)?;
            match open.symlink(&original, OsStr::new(ORIGINAL_NAME)) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e)),
                _ => {}
            }
            open.sync().map_err(failed)?;
            Ok(true)
        };
        if !self.0.shared.helpers.run(link).await.map_err(|_| Error::Closing)?? {
            return Ok(());
        }
        match self.create(name, &[]).await {
            Err(Error::MailboxExists) => Ok(()),
            other => other,
        }
    }
}
