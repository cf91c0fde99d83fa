//! Settings of the C library's allocator.
//!
//! Left alone, glibc raises its threshold for mapping a block by itself each time such a block is
//! freed. One password hash (19 MiB for argon2id) then makes every later one stay in an arena for
//! good: twenty first logins kept 196 MiB. With a fixed threshold large blocks always go back.

/// Blocks of this size and more are mapped, and unmapped when freed.
#[cfg(target_env = "gnu")]
const MAP_BYTES_MIN: libc::c_int = 1 << 20;

/// Free bytes at the top of the heap that are kept for the next allocations.
#[cfg(target_env = "gnu")]
const KEEP_BYTES_MAX: libc::c_int = 8 << 20;

/// Sets both. Call at the start, before there are threads. Nothing where the C library isn't glibc.
pub fn tune() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes no pointers; called before other threads exist. A refusal changes
    // nothing, and nothing depends on it.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP_BYTES_MAX);
    }
}
