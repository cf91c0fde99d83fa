//! Cyrus IMAP 2.3 to 3.x: what lies in a mailbox's directory and in `configdirectory`.
//!
//! | module | file |
//! |---|---|
//! | [`header`] | `cyrus.header` |
//! | [`index`] | `cyrus.index`, all minor versions |
//! | [`cache`] | `cyrus.cache` |
//! | [`db`] | databases: flat, skiplist, twoskip, twom |
//! | [`mboxlist`] | records of `mailboxes.db` |
//! | [`annotations`] | records of `annotations.db` and `cyrus.annotations` |
//! | [`seen`], [`subscriptions`] | a user's databases |
//! | [`quota`] | quota roots |
//! | [`deny`] | records of `user_deny.db` |
//! | [`dlist`] | the text that several of them are written in |
//! | [`name`], [`paths`] | names of mailboxes; where their files are |
//! | [`imapd_conf`] | the options that say where all that is |
//!
//! Integers in binary files are big-endian. Nothing here opens a file: bytes in, values out.

pub mod annotations;
pub mod cache;
pub mod db;
pub mod deny;
pub mod dlist;
pub mod header;
pub mod imapd_conf;
pub mod index;
pub mod mboxlist;
pub mod name;
pub mod paths;
pub mod quota;
pub mod seen;
pub mod subscriptions;

/// What is wrong with bytes of Cyrus's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{format}, byte {at}: expected {expected}, found {found}")]
pub struct Damage {
    /// Which format it should be.
    pub format: &'static str,
    /// Offset from the start of the file or value, in bytes.
    pub at: u64,
    /// What the format wants there.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

impl Damage {
    pub(crate) fn new(
        format: &'static str,
        at: usize,
        expected: &'static str,
        found: impl Into<String>,
    ) -> Damage {
        Damage { format, at: at as u64, expected, found: found.into() }
    }
}

/// Four bytes at an offset; `None` past the end.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// Eight bytes at an offset; `None` past the end.
pub(crate) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(eight.try_into().ok()?))
}

/// Bytes of a text that should be UTF-8, or what was found instead.
pub(crate) fn text<'a>(
    format: &'static str,
    at: usize,
    bytes: &'a [u8],
) -> Result<&'a str, Damage> {
    std::str::from_utf8(bytes)
        .map_err(|_| Damage::new(format, at, "UTF-8", format!("{}", bytes.escape_ascii())))
}
