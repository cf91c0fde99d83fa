//! Storage and files that do most things as another does: a layer names what it does itself.
//!
//! Invariant: whatever a layer does not name reaches what lies below, hints and clocks included. A
//! method that [`Storage`] or [`StoredFile`] gets later has its line here.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Directory, Facts, Filesystem, Kind, Open, Stat, Storage, StoredFile};

/// A trait whose methods all go below, and the lower trait for whatever has it.
macro_rules! layer {
    ($(#[$doc:meta])* $layer:ident over $lower:ident: $bounds:tt; {
        $(fn $call:ident(&self $(, $arg:ident: $of:ty)*) $(-> $out:ty)?;)*
    }) => {
        layer!(@trait [$(#[$doc])*] $layer $lower $bounds {
            $(
                // Each means what it means there.
                #[allow(missing_docs)]
                fn $call(&self $(, $arg: $of)*) $(-> $out)? {
                    self.below().$call($($arg),*)
                }
            )*
        });

        impl<L: $layer> $lower for L {
            $(
                fn $call(&self $(, $arg: $of)*) $(-> $out)? {
                    $layer::$call(self $(, $arg)*)
                }
            )*
        }
    };
    (@trait [$($doc:tt)*] $layer:ident $lower:ident ($($bounds:tt)*) { $($methods:tt)* }) => {
        $($doc)*
        pub trait $layer: $($bounds)* {
            /// What does the rest.
            fn below(&self) -> &dyn $lower;

            $($methods)*
        }
    };
}

layer! {
    /// [`Storage`] over another one.
    Layer over Storage: (Send + Sync + 'static); {
        fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>>;
        fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
        fn create_dir(&self, path: &Path) -> io::Result<()>;
        fn create_dir_all(&self, path: &Path) -> io::Result<()>;
        fn directory(&self, path: &Path) -> io::Result<Arc<dyn Directory>>;
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
        fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;
        fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
        fn unlink(&self, path: &Path) -> io::Result<()>;
        fn remove_dir(&self, path: &Path) -> io::Result<()>;
        fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()>;
        fn stat(&self, path: &Path) -> io::Result<Stat>;
        fn stat_fresh(&self, path: &Path) -> io::Result<Stat>;
        fn sync_dir(&self, dir: &Path) -> io::Result<()>;
        fn sync_filesystem(&self, path: &Path) -> io::Result<()>;
        fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
        fn lock_range(&self, path: &Path) -> io::Result<Arc<dyn StoredFile>>;
        fn filesystem(&self, path: &Path) -> io::Result<Filesystem>;
        fn free_bytes(&self, path: &Path) -> io::Result<u64>;
        fn now_ns(&self) -> i64;
        fn random(&self, out: &mut [u8]);
    }
}

layer! {
    /// A [`StoredFile`] over another one.
    FileLayer over StoredFile: (Send + Sync); {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
        fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()>;
        fn sync_data(&self) -> io::Result<()>;
        fn sync_all(&self) -> io::Result<()>;
        fn start_writeback(&self, offset: u64, len: u64);
        fn will_need(&self, offset: u64, len: u64);
        fn size(&self) -> io::Result<u64>;
        fn set_len(&self, len: u64) -> io::Result<()>;
        fn allocate(&self, len: u64) -> io::Result<()>;
        fn set_mtime(&self, seconds: i64) -> io::Result<()>;
        fn facts(&self) -> io::Result<Facts>;
        fn set_mode(&self, mode: u32) -> io::Result<()>;
        fn map(&self, len: usize) -> io::Result<Option<memmap2::Mmap>>;
    }
}
