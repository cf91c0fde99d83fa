//! A disk that forgets: a block device of our own that records writes and flushes, and what a power
//! cut leaves of it. The program `cursus-powercut` cuts under a running `cursusd`;
//! `cursus-fstests crash` cuts under plain deliveries on many filesystems.

pub mod disk;
pub mod nbd;
pub mod random;
