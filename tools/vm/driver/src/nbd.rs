//! A [`Recorder`] as a block device of the kernel's (network block device over a socket pair).
//!
//! The kernel sends requests one after the other and takes an answered write as done but volatile,
//! as it does with any disk that says it has a write cache. Request and answer are those of the
//! NBD protocol's transmission phase; numbers in them are big-endian.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::disk::Recorder;

// <linux/nbd.h>: _IO(0xab, n)
const NBD_SET_SOCK: libc::c_ulong = 0xab00;
const NBD_SET_BLKSIZE: libc::c_ulong = 0xab01;
const NBD_DO_IT: libc::c_ulong = 0xab03;
const NBD_CLEAR_SOCK: libc::c_ulong = 0xab04;
const NBD_SET_SIZE_BLOCKS: libc::c_ulong = 0xab07;
const NBD_DISCONNECT: libc::c_ulong = 0xab08;
const NBD_SET_FLAGS: libc::c_ulong = 0xab0a;

const FLAG_HAS_FLAGS: libc::c_ulong = 1;
const FLAG_SEND_FLUSH: libc::c_ulong = 4;
const FLAG_SEND_FUA: libc::c_ulong = 8;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const REQUEST_BYTES: usize = 28;
const COMMAND_READ: u32 = 0;
const COMMAND_WRITE: u32 = 1;
const COMMAND_DISCONNECT: u32 = 2;
const COMMAND_FLUSH: u32 = 3;
const COMMAND_FUA: u32 = 1 << 16;
/// Answer to a command that we didn't announce.
const EINVAL: u32 = 22;

/// How long the kernel may take to show a device; it is a matter of microseconds where its thread
/// gets a processor.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);

/// A connected device; [`Device::disconnect`] ends it.
pub struct Device {
    path: PathBuf,
    node: File,
    kernel: JoinHandle<()>,
    disk: JoinHandle<io::Result<()>>,
}

fn ioctl(node: &File, request: libc::c_ulong, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the descriptor is open, and none of NBD's requests takes a pointer.
    match unsafe { libc::ioctl(node.as_raw_fd(), request, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

impl Device {
    /// Shows `recorder` as the block device `path`, with sectors of `sector_bytes`.
    pub fn connect(path: &Path, recorder: Arc<Recorder>, sector_bytes: u64) -> io::Result<Self> {
        let node = OpenOptions::new().read(true).write(true).open(path)?;
        let (ours, kernels) = UnixStream::pair()?;
        let blocks = recorder.bytes() / sector_bytes;
        ioctl(&node, NBD_SET_BLKSIZE, sector_bytes as libc::c_ulong)?;
        ioctl(&node, NBD_SET_SIZE_BLOCKS, blocks as libc::c_ulong)?;
        ioctl(&node, NBD_SET_FLAGS, FLAG_HAS_FLAGS | FLAG_SEND_FLUSH | FLAG_SEND_FUA)?;
        ioctl(&node, NBD_SET_SOCK, kernels.as_raw_fd() as libc::c_ulong)?;
        let waiting = node.try_clone()?;
        let kernel = thread::spawn(move || {
            // Returns when the device is disconnected; the kernel's end of the pair lives till then.
            let _ = ioctl(&waiting, NBD_DO_IT, 0);
            let _ = ioctl(&waiting, NBD_CLEAR_SOCK, 0);
            drop(kernels);
        });
        let bytes = blocks * sector_bytes;
        let disk = thread::spawn(move || serve(ours, &recorder));
        wait_for_size(path, bytes)?;
        Ok(Self { path: path.to_owned(), node, kernel, disk })
    }

    /// The device file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the device away. Nobody may have it mounted.
    pub fn disconnect(self) -> io::Result<()> {
        ioctl(&self.node, NBD_DISCONNECT, 0)?;
        let ended = self.disk.join().unwrap_or_else(|_| Err(io::Error::other("the disk panicked")));
        let _ = self.kernel.join();
        ended
    }
}

/// Until then, who mounts the device finds an empty one.
fn wait_for_size(path: &Path, bytes: u64) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let shown = File::open(path)?.seek(SeekFrom::End(0))?;
        if shown == bytes {
            return Ok(());
        }
        if began.elapsed() > SHOWN_WITHIN {
            let text = format!("{} has {shown} bytes, not {bytes}", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn field<const N: usize>(request: &[u8; REQUEST_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|n| request[at + n])
}

/// Answers requests until the kernel says goodbye.
fn serve(mut socket: UnixStream, recorder: &Recorder) -> io::Result<()> {
    loop {
        let mut request = [0; REQUEST_BYTES];
        match socket.read_exact(&mut request) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        if u32::from_be_bytes(field(&request, 0)) != REQUEST_MAGIC {
            return Err(io::Error::other("not a request of the block device's"));
        }
        let command = u32::from_be_bytes(field(&request, 4));
        let handle: [u8; 8] = field(&request, 8);
        let at = u64::from_be_bytes(field(&request, 16));
        let length = u32::from_be_bytes(field(&request, 24)) as usize;
        let mut answer = Vec::with_capacity(16);
        let mut head = |error: u32| {
            answer.extend_from_slice(&REPLY_MAGIC.to_be_bytes());
            answer.extend_from_slice(&error.to_be_bytes());
            answer.extend_from_slice(&handle);
        };
        match command & 0xffff {
            COMMAND_READ => {
                head(0);
                let start = answer.len();
                answer.resize(start + length, 0);
                recorder.read(at, &mut answer[start..]);
            }
            COMMAND_WRITE => {
                let mut data = vec![0; length];
                socket.read_exact(&mut data)?;
                recorder.write(at, data.into(), command & COMMAND_FUA != 0);
                head(0);
            }
            COMMAND_FLUSH => {
                recorder.flush();
                head(0);
            }
            COMMAND_DISCONNECT => return Ok(()),
            _ => head(EINVAL),
        }
        socket.write_all(&answer)?;
    }
}
