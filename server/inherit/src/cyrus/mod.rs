//! Cyrus's `imapd.conf` and `cyrus.conf`.

use std::path::Path;

use crate::Files;
use crate::draft::Draft;

/// Reads both files.
pub(crate) fn read(imapd: Option<&Path>, _cyrus: Option<&Path>, _files: &dyn Files) -> Draft {
    let mut draft = Draft::default();
    draft.refuse_line(imapd.unwrap_or(Path::new("")), 0, "--imapd-conf", "is not read yet");
    draft
}

pub mod table {
    //! Later.

    /// Later.
    pub fn document() -> String {
        String::new()
    }
}
