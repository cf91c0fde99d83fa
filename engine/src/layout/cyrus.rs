//! The partition tree of Cyrus.
