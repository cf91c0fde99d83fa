//! An open file of the simulated disk: a handle that ends with its machine's life.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{self, Inode};
use super::{Fate, Fault, State, cut, raw};
use crate::io::{Facts, StoredFile};

pub(super) struct SimFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) inode: Inode,
    pub(super) boot: u64,
    pub(super) writable: bool,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.boot != self.boot {
            return Err(cut());
        }
        work(&mut state)
    }

    /// Counts an operation that changes this file; `change` gets the fate and the time.
    fn changed(
        &self,
        change: impl FnOnce(&mut disk::FileNode, &Fate, i64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.changed_as(None, change)
    }

    /// The same; the image of this moment has `begun` as a write under way.
    fn changed_as(
        &self,
        begun: Option<(&[u8], u64)>,
        change: impl FnOnce(&mut disk::FileNode, &Fate, i64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.with(|state| {
            if !self.writable {
                return Err(raw(libc::EBADF));
            }
            let fate = state.count()?;
            let now = state.now_ns();
            if let (Some((bytes, offset)), Some(images)) = (begun, &mut state.images)
                && let Some(file) = images.last_mut().and_then(|i| i.disk.file(self.inode))
            {
                file.write(offset, bytes, now);
            }
            let file = state.disk.file(self.inode).ok_or_else(|| raw(libc::EIO))?;
            change(file, &fate, now)?;
            match fate {
                Fate::Happens => Ok(()),
                Fate::Cut => Err(cut()),
                Fate::Fails(fault) => Err(fault.error()),
            }
        })
    }
}

impl StoredFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            state.check()?;
            let file = state.disk.file_as_is(self.inode).ok_or_else(|| raw(libc::EIO))?;
            Ok(file.live.read(offset, buf))
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.changed(|file, fate, now| {
            match fate {
                Fate::Happens | Fate::Cut => file.write(offset, buf, now),
                Fate::Fails(Fault::ShortWrite) => file.write(offset, &buf[..buf.len() / 2], now),
                Fate::Fails(_) => {}
            }
            Ok(())
        })
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.changed_as(Some((buf, offset)), |file, fate, now| {
            match fate {
                Fate::Happens => file.write_durable(offset, buf, now),
                // Begun: any of its sectors may be on the device.
                Fate::Cut | Fate::Fails(Fault::Io) => file.write(offset, buf, now),
                Fate::Fails(Fault::ShortWrite) => file.write(offset, &buf[..buf.len() / 2], now),
                Fate::Fails(_) => {}
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| match state.count()? {
            Fate::Happens => {
                state.disk.sync_file(self.inode);
                Ok(())
            }
            Fate::Cut => Err(cut()),
            Fate::Fails(fault) => {
                let State { disk, random, .. } = state;
                if let Some(file) = disk.file(self.inode) {
                    file.lose_some(random);
                }
                Err(fault.error())
            }
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn size(&self) -> io::Result<u64> {
        self.with(|state| {
            state.check()?;
            let file = state.disk.file_as_is(self.inode).ok_or_else(|| raw(libc::EIO))?;
            Ok(file.live.len() as u64)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changed(|file, fate, now| {
            if !matches!(fate, Fate::Fails(_)) {
                file.set_len(len, now);
            }
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.changed(|file, fate, now| {
            if !matches!(fate, Fate::Fails(_)) && len > file.live.len() as u64 {
                file.set_len(len, now);
            }
            Ok(())
        })
    }

    fn set_mtime(&self, seconds: i64) -> io::Result<()> {
        self.changed(|file, fate, _| {
            if !matches!(fate, Fate::Fails(_)) {
                file.set_mtime(seconds.saturating_mul(1_000_000_000));
            }
            Ok(())
        })
    }

    fn facts(&self) -> io::Result<Facts> {
        self.with(|state| {
            state.check()?;
            state.facts(self.inode)
        })
    }

    fn set_mode(&self, _mode: u32) -> io::Result<()> {
        // Everything is everybody's here, and no operation.
        self.with(|state| state.check())
    }

    fn map(&self, _len: usize) -> io::Result<Option<memmap2::Mmap>> {
        Ok(None)
    }
}
