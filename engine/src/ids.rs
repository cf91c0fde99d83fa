//! Names that never change: of stores, mailboxes and places in the log.

use std::fmt;

use crate::io::Storage;

/// 128 random bits that *are* a mailbox: paths and names are its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MailboxId(pub [u8; 16]);

/// 128 random bits that are a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StoreId(pub [u8; 16]);

/// Position of a frame in the log, in bytes since the store was made. Only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

fn random_16(storage: &dyn Storage) -> [u8; 16] {
    let mut bytes = [0; 16];
    storage.random(&mut bytes);
    bytes
}

impl MailboxId {
    /// A new mailbox.
    pub fn random(storage: &dyn Storage) -> MailboxId {
        MailboxId(random_16(storage))
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<MailboxId> {
        let digits = hex.as_bytes();
        if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u128::from_str_radix(hex, 16).ok().map(|n| MailboxId(n.to_be_bytes()))
    }
}

impl StoreId {
    /// A new store.
    pub fn random(storage: &dyn Storage) -> StoreId {
        StoreId(random_16(storage))
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
