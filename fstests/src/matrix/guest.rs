//! A guest kernel (`tools/vm`, user-mode Linux) that runs this program.
//!
//! The guest sees one directory of ours as `/host`: the program lies there, and results come back
//! there. It has a disk of its own, mounted at `/mnt`, when asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result, has_program, run_program};
use crate::leftovers::{Leftovers, Thing};
use crate::scratch::{Scratch, owner_line};
use crate::stop;

/// Seconds after which a guest is given up.
const SECONDS_MAX: u64 = 3600;
/// Memory of the guest, mebibytes: images of disks that forget are in there.
const MEMORY_MIB: &str = "2048";
/// How often Ctrl-C is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A guest that can be started.
pub(crate) struct Guest {
    // Dropped first: no guest may run when its directory goes.
    leftovers: Leftovers,
    scratch: Scratch,
    tools: PathBuf,
}

impl Guest {
    /// Builds kernel and root where they are missing, with these Debian packages beside the usual
    /// ones, and lays the program out.
    ///
    /// # Errors
    /// When `tools/vm` is not found, or cannot make a guest here, with its reason.
    pub(crate) fn prepare(ground: &Path, packages: &[&str]) -> Result<Guest> {
        let tools = find_tools()?;
        eprintln!("preparing the guest ({})", tools.display());
        run_program(&tools.join("build").display().to_string(), packages)?;
        let scratch = Scratch::beside(ground)?;
        let mut leftovers = Leftovers::begin()?;
        leftovers.note(Thing::Directory(scratch.path().to_owned()))?;
        let me = std::env::current_exe().map_err(Error::io("find", Path::new("/proc/self/exe")))?;
        let copy = scratch.path().join("cursus-fstests");
        fs::copy(&me, &copy).map_err(Error::io("copy", &me))?;
        Ok(Guest { leftovers, scratch, tools })
    }

    /// A path in `/host`, as seen from here.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs this program in the guest, with a fresh disk of so many bytes at `/mnt`.
    ///
    /// # Errors
    /// When it fails, with the end of what it said; [`Error::Stopped`] on Ctrl-C.
    pub(crate) fn run(&mut self, arguments: &str, disk_bytes: Option<u64>) -> Result<()> {
        let mut command = ended_with_us(&self.tools.join("run"));
        command.args(["-t", &SECONDS_MAX.to_string(), "-m", MEMORY_MIB]);
        let mut script = String::from("modprobe loop max_loop=128; modprobe nbd nbds_max=1; ");
        if let Some(bytes) = disk_bytes {
            let image = self.path("disk");
            let file = fs::File::create(&image).map_err(Error::io("create", &image))?;
            file.set_len(bytes).map_err(Error::io("grow", &image))?;
            command.arg("-d").arg(&image);
            script += "mke2fs -q -F -t ext4 /dev/disk0 && mount /dev/disk0 /mnt && ";
        }
        // Into a file: on the guest's console it would draw bars.
        script += &format!("./cursus-fstests {arguments} >log 2>&1");
        let (log, console) = (self.path("log"), self.path("console"));
        let output = fs::File::create(&console).map_err(Error::io("create", &console))?;
        let error = output.try_clone().map_err(Error::io("create", &console))?;
        let kept = self.leftovers.count();
        self.leftovers.note(Thing::Guest(self.scratch.path().to_owned()))?;
        let mut child = command
            .arg(&script)
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(error)
            .spawn()
            .map_err(Error::io("start", &self.tools))?;
        // The script ends the guest when it is ended itself.
        self.leftovers.note(Thing::Process(owner_line(child.id())))?;
        let mut told = String::new();
        let status = loop {
            // How far the guest is, in its own words.
            let last = last_lines(&log, 1);
            if last.contains("(left: ") && last != told {
                eprintln!("guest: {last}");
                told = last;
            }
            if let Some(status) = child.try_wait().map_err(Error::io("wait for", &self.tools))? {
                break status;
            }
            if stop::requested() {
                self.leftovers.undo_behind(kept);
                let _ = child.wait();
                return Err(Error::Stopped);
            }
            thread::sleep(LOOK_EVERY);
        };
        self.leftovers.undo_behind(kept);
        // A terminal's Ctrl-C goes to the script, too, which may be faster than we are.
        stop::check()?;
        if status.success() {
            return Ok(());
        }
        let last = [last_lines(&console, 4), last_lines(&log, 8)].join("\n  ");
        let command = format!("cursus-fstests {arguments} in the guest");
        Err(Error::Program { command, said: format!("{status}: {last}") })
    }
}

/// A script that gets SIGTERM when this program is killed, and then ends its guest: the next run's
/// clean-up, which would do it as well, may be far away.
fn ended_with_us(script: &Path) -> Command {
    if !has_program("setpriv") {
        return Command::new(script);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(script);
    command
}

/// The end of a text file.
fn last_lines(path: &Path, count: usize) -> String {
    let said = fs::read(path).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n  ")
}

/// `CURSUS_VM_TOOLS`, or `tools/vm` in this directory or one above it.
fn find_tools() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CURSUS_VM_TOOLS") {
        return Ok(dir.into());
    }
    let here = std::env::current_dir().map_err(Error::io("find", Path::new(".")))?;
    let found = here.ancestors().map(|dir| dir.join("tools/vm")).find(|d| d.join("run").is_file());
    found.ok_or_else(|| {
        Error::Usage(
            "the guest's scripts are not here: start in Cursus's source tree, or set \
             CURSUS_VM_TOOLS to its tools/vm"
                .to_owned(),
        )
    })
}
