//! What is known of the machine, a mount, its device and its superblock, without changing any.

mod device;
mod ext;
mod flush;
mod machine;
mod mountinfo;
pub mod nfs;
mod work;

pub use device::{Counters, Device};
pub use ext::{Ext, Journal};
pub use flush::{FlushTruth, Verdict};
pub use machine::Machine;
pub use mountinfo::{Mount, mounts, same_filesystem};
pub use work::{Watch, Work};
