//! What a reader may do with other users' files: asked of their owners, groups and modes as the kernel
//! would, since the server itself may do more.
//!
//! Invariant: a question is asked of a directory that is open already, and its answer is used for that
//! one alone; on the way to it every directory has to let the reader pass.

use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Arc;

use crate::io::{Directory, Facts, Kind, Storage};

/// Symbolic links on the way to a directory at most, as in the kernel.
const LINKS_MAX: u32 = 40;

/// What a user may do with files.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    uid: u32,
    gid: u32,
}

impl Reader {
    /// Who owns a Maildir.
    pub(super) fn of(maildir: &dyn Directory) -> io::Result<Reader> {
        let owned = maildir.facts()?;
        Ok(Reader { uid: owned.uid, gid: owned.gid })
    }

    /// Whether all of these bits (4: read, 2: write, 1: pass) are his.
    pub(super) fn may(self, file: &Facts, bits: u32) -> bool {
        let shift = match (self.uid == file.uid, self.gid == file.gid) {
            _ if self.uid == 0 => return true,
            (true, _) => 6,
            (_, true) => 3,
            _ => 0,
        };
        file.mode >> shift & bits == bits
    }

    /// The same of a directory; `false` where it cannot be told.
    pub(super) fn may_in(self, dir: &dyn Directory, bits: u32) -> bool {
        dir.facts().is_ok_and(|facts| self.may(&facts, bits))
    }

    /// Whether he may take a name out of a directory, as `sticky(7)` has it.
    pub(super) fn removes(self, dir: &Facts, file: &Facts) -> bool {
        const STICKY: u32 = 0o1000;
        let own = [dir.uid, file.uid].contains(&self.uid) || self.uid == 0;
        self.may(dir, 3) && (own || dir.mode & STICKY == 0)
    }

    /// Opens a directory by its absolute path, as far as this user gets.
    ///
    /// # Errors
    /// `PermissionDenied` where he does not pass.
    pub(super) fn open(self, storage: &dyn Storage, path: &Path) -> io::Result<Arc<dyn Directory>> {
        if !path.is_absolute() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let mut above = vec![storage.directory(Path::new("/"))?];
        self.walk(&mut above, path, &mut 0)?;
        above.pop().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Goes on along a path; `above` are the directories down to here, the root first.
    fn walk(
        self,
        above: &mut Vec<Arc<dyn Directory>>,
        path: &Path,
        links: &mut u32,
    ) -> io::Result<()> {
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::RootDir => {
                    above.truncate(1);
                    continue;
                }
                Component::ParentDir => {
                    above.truncate(1.max(above.len() - 1));
                    continue;
                }
                Component::CurDir | Component::Prefix(_) => continue,
            };
            let here = above[above.len() - 1].clone();
            if !self.may_in(&*here, 1) {
                return Err(ErrorKind::PermissionDenied.into());
            }
            if here.facts_of(name)?.stat.kind == Kind::Link {
                *links += 1;
                if *links > LINKS_MAX {
                    return Err(ErrorKind::InvalidInput.into());
                }
                self.walk(above, &here.read_link(name)?, links)?;
            } else {
                above.push(here.directory(name)?);
            }
        }
        Ok(())
    }
}
