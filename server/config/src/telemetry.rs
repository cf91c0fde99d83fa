//! Transcripts of users' sessions: Cyrus's `log/USER`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Transcripts of users' sessions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Directory of users' directories: who has one gets a file in it for each session. Empty: there
    /// are none.
    pub dir: PathBuf,
    /// Bytes after which a file ends.
    pub file_bytes_max: u64,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry { dir: PathBuf::new(), file_bytes_max: 100 << 20 }
    }
}
