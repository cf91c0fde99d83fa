//! The filesystem and the `cursusd` on it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::wire::Imap;
use powercut::disk::Tears;

pub(crate) const IMAP_PORT: u16 = 143;
pub(crate) const LMTP_PORT: u16 = 24;
pub(crate) const USERS: [&str; 3] = ["u0", "u1", "u2"];
pub(crate) const PASSWORD: &str = "pw";
/// SHA-512 crypt of [`PASSWORD`] with few rounds: logins are not what is tested.
const PASSWORD_HASH: &str = "{SHA512-CRYPT}$6$rounds=1000$powercut$\
    g3j7DSMf.vmCntXCAfv540SI5l5ARvhoqSjix4Z5tIiQRS5tlKQp5E.obQFwPW2kn9RCC5JtfGTmLqkTpHKOw.";
/// Lines of the kernel's log that are shown where a mount fails.
const KERNEL_LINES: usize = 25;
/// Longest time from start to greeting, recovery included.
const START_SECONDS_MAX: u64 = 60;
/// Longest time from SIGTERM to the end.
const STOP_SECONDS_MAX: u64 = 60;

/// What is under the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Filesystem {
    Ext4,
    Ext4Writeback,
    Xfs,
    Btrfs,
}

impl Filesystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Filesystem::Ext4 => "ext4 data=ordered",
            Filesystem::Ext4Writeback => "ext4 data=writeback",
            Filesystem::Xfs => "xfs",
            Filesystem::Btrfs => "btrfs",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Filesystem::Ext4 | Filesystem::Ext4Writeback => "ext4",
            Filesystem::Xfs => "xfs",
            Filesystem::Btrfs => "btrfs",
        }
    }

    /// Sector of the disk below, in bytes: what it writes whole or not at all.
    ///
    /// btrfs takes its 4 KiB super block to be written whole. So does xfs its metadata blocks: it
    /// passes over logged changes to a block whose first sector says that it is newer.
    pub(crate) fn sector_bytes(self) -> usize {
        match self {
            Filesystem::Ext4 | Filesystem::Ext4Writeback => 512,
            Filesystem::Xfs | Filesystem::Btrfs => 4096,
        }
    }

    /// Where writes to the disk below may tear.
    ///
    /// ext4 checks the sum of its super block before it replays its journal, and mends neither: the
    /// block that it is in is taken to be written whole.
    pub(crate) fn tears(self) -> Tears {
        let head_bytes = match self {
            Filesystem::Ext4 | Filesystem::Ext4Writeback => 4096,
            Filesystem::Xfs | Filesystem::Btrfs => 0,
        };
        Tears { sector_bytes: self.sector_bytes(), head_bytes }
    }

    /// Makes one on `device`; nothing is discarded, as the record holds writes only.
    pub(crate) fn make(self, device: &Path) -> io::Result<()> {
        let options: &[&str] = match self {
            Filesystem::Ext4 | Filesystem::Ext4Writeback => &["-q", "-F", "-E", "nodiscard"],
            Filesystem::Xfs => &["-q", "-f", "-K"],
            Filesystem::Btrfs => &["-q", "-f", "-K"],
        };
        run(Command::new(format!("mkfs.{}", self.kind())).args(options).arg(device))
    }

    pub(crate) fn mount(self, device: &Path, at: &Path) -> io::Result<()> {
        fs::create_dir_all(at)?;
        let data = match self {
            Filesystem::Ext4 => "rw,data=ordered",
            Filesystem::Ext4Writeback => "rw,data=writeback",
            Filesystem::Xfs | Filesystem::Btrfs => "rw",
        };
        run(Command::new("mount").args(["-t", self.kind(), "-o", data]).args([device, at]))
            .map_err(|error| io::Error::other(format!("{error}\n{}", kernel_log())))
    }
}

/// The end of what the kernel has to say.
fn kernel_log() -> String {
    let said = Command::new("dmesg").output().map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(KERNEL_LINES)..].join("\n")
}

/// How soon the kernel writes pages that nobody syncs: within a blink, so that cuts find any mix of
/// them on the disk, or as it does by default, so that cuts find none.
pub(crate) fn write_back(brisk: bool) -> io::Result<()> {
    let (expire, wake) = if brisk { (5, 2) } else { (3000, 500) };
    fs::write("/proc/sys/vm/dirty_expire_centisecs", expire.to_string())?;
    fs::write("/proc/sys/vm/dirty_writeback_centisecs", wake.to_string())
}

pub(crate) fn unmount(at: &Path) -> io::Result<()> {
    run(Command::new("umount").arg(at))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    Err(io::Error::other(format!("{command:?}: {}: {}", output.status, said.trim())))
}

/// Where things are in the guest.
pub(crate) struct Place {
    /// Directory of `cursusd` and `cursus`.
    pub(crate) programs: PathBuf,
    /// Where the filesystem is mounted.
    pub(crate) mount: PathBuf,
    /// Configuration, users and logs; not on the tested disk.
    pub(crate) scratch: PathBuf,
}

impl Place {
    fn config(&self) -> PathBuf {
        self.scratch.join("cursus.toml")
    }

    fn log(&self) -> PathBuf {
        self.scratch.join("cursusd.log")
    }

    /// Writes the configuration and the users file. `early`: a plain STORE is answered before its
    /// sync.
    pub(crate) fn configure(&self, layout: &str, early: bool) -> io::Result<()> {
        fs::create_dir_all(&self.scratch)?;
        let users = self.scratch.join("users");
        fs::write(&users, USERS.map(|user| format!("{user}:{PASSWORD_HASH}\n")).concat())?;
        let listener = |protocol, port, login| {
            format!(
                "[[listener]]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:{port}\"\n\
                 tls = \"none\"\n{login}\n"
            )
        };
        // A small log and frequent checkpoints: both are among what the cuts interrupt.
        let text = format!(
            "state_dir = \"{mount}/state\"\n\
             [[partition]]\nname = \"default\"\npath = \"{mount}/spool\"\nlayout = \"{layout}\"\n\
             [store]\nlog_bytes_max = 16777216\ncheckpoint_seconds = 1\n\
             [imap]\nstore_sync = \"{store_sync}\"\n\
             [server]\ncores = 2\ndrain_seconds_max = 1\n\
             {imap}{lmtp}\
             [auth]\nusers_file = \"{users}\"\n[admin]\nsocket = \"{admin}\"\n",
            mount = self.mount.display(),
            store_sync = if early { "after-answer" } else { "before-answer" },
            imap = listener("imap", IMAP_PORT, "plain_login = \"loopback\""),
            lmtp = listener("lmtp", LMTP_PORT, ""),
            users = users.display(),
            admin = self.scratch.join("admin.sock").display(),
        );
        fs::write(self.config(), text)
    }

    /// Starts `cursusd` and waits for its greeting.
    pub(crate) fn start(&self) -> io::Result<Server> {
        let mut server = self.launch()?;
        let until = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            if let Some(status) = server.child.try_wait()? {
                return Err(self.trouble(&format!("cursusd ended at start: {status}")));
            }
            match Imap::connect(IMAP_PORT) {
                Ok(_) => return Ok(server),
                Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
                Err(error) => {
                    server.kill()?;
                    return Err(self.trouble(&format!("cursusd doesn't greet: {error}")));
                }
            }
        }
    }

    /// Starts `cursusd` and waits for nothing.
    pub(crate) fn launch(&self) -> io::Result<Server> {
        let _ = fs::remove_file(self.scratch.join("admin.sock"));
        let log = File::create(self.log())?;
        let child = Command::new(self.programs.join("cursusd"))
            .arg("--config")
            .arg(self.config())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Server { child })
    }

    /// An error with the end of the server's log.
    pub(crate) fn trouble(&self, what: &str) -> io::Error {
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(12)..];
        io::Error::other(format!("{what}\n    {}", last.join("\n    ")))
    }

    /// What the server has said since its start.
    pub(crate) fn log_text(&self) -> String {
        fs::read(self.log())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// `cursus check` on the stopped store.
    pub(crate) fn check(&self) -> io::Result<()> {
        let program = self.programs.join("cursus");
        run(Command::new(program).arg("--config").arg(self.config()).arg("check"))
    }
}

/// A running `cursusd`.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// SIGTERM, and whether it ended as it should.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        // SAFETY: kill has no memory effects; the child has not been waited for, so its id is its.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let until = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(io::Error::other(format!("cursusd stopped with {status}")))
                };
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()?;
        Err(io::Error::other("cursusd doesn't stop"))
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}
