//! Threads, I/O backend and host name; the operator's socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Threads, I/O backend and host name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Threads that serve sessions; 0 means one for each core that the process may use.
    pub cores: usize,
    /// How files are read and written.
    pub io: IoChoice,
    /// Name in greetings and trace headers; empty means the machine's own.
    pub hostname: String,
    /// Microseconds that a core looks for the next command of a prompt client before it goes to
    /// sleep; 0: it sleeps at once.
    pub busy_poll_us_max: u64,
    /// Seconds that a stop waits for sessions to say goodbye before it cuts them.
    pub drain_seconds_max: u64,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            cores: 0,
            io: IoChoice::Auto,
            hostname: String::new(),
            busy_poll_us_max: 100,
            drain_seconds_max: 20,
        }
    }
}

/// How files are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// io_uring, or blocking calls in helper threads where the kernel refuses it.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// Blocking calls in helper threads.
    Blocking,
}

/// The operator's socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Path of the unix socket, made with mode 0600. Absent: `admin.sock` in `state_dir`.
    pub socket: Option<PathBuf>,
}
