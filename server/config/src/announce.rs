//! What the operator has to say to everybody: Cyrus's `msg/motd` and `msg/shutdown`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the operator has to say to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Announce {
    /// Directory of the files `motd`, `shutdown`, `shutdown.imap` and so on, which are looked at every
    /// second. Empty: there are none.
    pub dir: PathBuf,
}
