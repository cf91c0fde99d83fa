//! Entries of access control lists, as Courier and Dovecot both write them: one a line.

/// An entry: identifier and rights as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// With its `-`, if it has one.
    pub identifier: String,
    /// Letters.
    pub rights: String,
}
