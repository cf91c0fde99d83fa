//! NFS-Ganesha: a file server that is a program, one for each place, which serves one directory by
//! NFSv4 on a port of its own.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::leftovers::{Leftovers, Thing};
use crate::scratch::owner_line;

/// The program.
pub(super) const PROGRAM: &str = "ganesha.nfsd";
/// Debian's packages of it, in a guest.
pub(super) const PACKAGES: &[&str] = &["nfs-ganesha", "nfs-ganesha-vfs"];
/// What clients mount.
pub(super) const EXPORT: &str = "/cursus";
/// Time that it may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// Its configuration: one export by the module that serves directories of this host (VFS), waiting
/// for the disk as the kernel's server with `sync` does. Nobody had locks before that could be asked
/// for again: no waiting.
fn configuration(exported: &Path, state: &Path, port: u16, number: u64) -> String {
    format!(
        "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Enable_NLM = false; \
         Enable_RQUOTA = false; }}\n\
         NFSV4 {{ Grace_Period = 1; Lease_Lifetime = 10; Minor_Versions = 1, 2; \
         Only_Numeric_Owners = true; RecoveryBackend = fs; RecoveryRoot = {}; }}\n\
         EXPORT {{ Export_Id = {number}; Path = {}; Pseudo = {EXPORT}; Access_Type = RW; \
         Squash = None; SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }} }}\n",
        state.display(),
        exported.display()
    )
}

/// Starts one for `exported`, with its files in `dir`. Returns its port and the command, once it
/// takes connections; it ends when the run does.
///
/// # Errors
/// When it does not begin, with the end of what it said.
pub(super) fn start(
    dir: &Path,
    exported: &Path,
    number: u64,
    leftovers: &mut Leftovers,
) -> Result<(u16, String)> {
    let state = dir.join(format!("ganesha-{number}"));
    fs::create_dir(&state).map_err(Error::io("create", &state))?;
    // Free now; another program that takes it at once is told by the server.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.map_err(Error::io("find a port for", &state))?.port();
    let file = state.join("ganesha.conf");
    let text = configuration(exported, &state, port, number);
    fs::write(&file, text).map_err(Error::io("write", &file))?;
    let log = state.join("log");
    let mut command = Command::new(PROGRAM);
    command.arg("-F").arg("-f").arg(&file).arg("-L").arg(&log).args(["-N", "NIV_WARN"]);
    command.arg("-p").arg(state.join("pid"));
    // Where it keeps what it needs for Kerberos, which it looks at also without.
    let run = Path::new("/run/ganesha");
    fs::create_dir_all(run).map_err(Error::io("create", run))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(Error::io("start", Path::new(PROGRAM)))?;
    leftovers.note(Thing::Process(owner_line(child.id())))?;
    let failed = |why: &str| {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let fatal: Vec<&str> = said
            .lines()
            .filter(|line| line.contains(":CRIT :") || line.contains(":FATAL"))
            .collect();
        let last = fatal[fatal.len().saturating_sub(3)..].join("; ");
        Error::Program { command: PROGRAM.to_owned(), said: format!("{why}: {last}") }
    };
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(failed(&format!("it ended ({status})")));
        }
        if began.elapsed() > BEGIN_MAX {
            return Err(failed("it takes no connections"));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok((port, format!("{PROGRAM} -f {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_directory_state_and_port() {
        let text = configuration(Path::new("/srv/m"), Path::new("/s"), 2050, 7);
        for part in ["NFS_Port = 2050;", "Path = /srv/m;", "RecoveryRoot = /s;", "Export_Id = 7;"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
