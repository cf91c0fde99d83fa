//! Bounds on what one client, or all of them, may use. Units are in the names.

use serde::{Deserialize, Serialize};

/// Bounds on what one client, or all of them, may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at one time, over all protocols.
    pub connections_max: usize,
    /// Connections at one time from one address that is not loopback.
    pub connections_per_address_max: usize,
    /// Connections at one time from one loopback address. Unix sockets don't count.
    pub connections_loopback_max: usize,
    /// One command line without its literals.
    pub line_bytes_max: usize,
    /// One literal that is not a message.
    pub literal_bytes_max: usize,
    /// One command with all of its literals that are not messages.
    pub command_bytes_max: usize,
    /// One message.
    pub message_bytes_max: u64,
    /// One value of metadata, or of an annotation.
    pub metadata_value_bytes_max: usize,
    /// Entries of metadata of one mailbox, or of the server: shared ones, and those of each user.
    pub metadata_entries_max: usize,
    /// Values of annotations on one message: shared ones, and those of each user.
    pub annotations_max: usize,
    /// Bytes queued for a client above which its session pauses until they are sent.
    pub out_queue_bytes_high: usize,
    /// Seconds from connection to login.
    pub login_seconds_max: u64,
    /// Failed logins on one connection before it is closed.
    pub login_failures_max: u32,
    /// Commands that aren't understood on one connection before it is closed.
    pub bad_commands_max: u32,
    /// Seconds for a TLS handshake.
    pub tls_handshake_seconds_max: u64,
    /// Seconds without a byte accepted by a client that is owed some.
    pub write_stall_seconds_max: u64,
    /// Seconds without a command in IMAP, or in IDLE.
    pub imap_idle_seconds_max: u64,
    /// Seconds without a command in POP3.
    pub pop3_idle_seconds_max: u64,
    /// Seconds without a command or a byte of data in LMTP.
    pub lmtp_idle_seconds_max: u64,
    /// Mailboxes in memory above which unused ones are let go.
    pub open_mailboxes_max: usize,
    /// File descriptors of open mailboxes, likewise; never more than half of the process's limit.
    pub descriptors_max: usize,
    /// Bytes of mapped indexes and caches, likewise.
    pub mapped_bytes_max: u64,
    /// Users in memory, likewise.
    pub open_users_max: usize,
    /// Bytes of what SORT and THREAD keep of open mailboxes.
    pub orders_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 50_000,
            connections_per_address_max: 100,
            connections_loopback_max: 20_000,
            line_bytes_max: 64 * 1024,
            literal_bytes_max: 64 * 1024,
            command_bytes_max: 512 * 1024,
            message_bytes_max: 100 * 1024 * 1024,
            metadata_value_bytes_max: 64 * 1024,
            metadata_entries_max: 1000,
            annotations_max: 100,
            out_queue_bytes_high: 256 * 1024,
            login_seconds_max: 60,
            login_failures_max: 5,
            bad_commands_max: 20,
            tls_handshake_seconds_max: 30,
            write_stall_seconds_max: 120,
            // RFC 3501 section 5.4 asks for at least 30 minutes.
            imap_idle_seconds_max: 31 * 60,
            // RFC 1939 section 3 asks for at least 10 minutes.
            pop3_idle_seconds_max: 10 * 60,
            lmtp_idle_seconds_max: 5 * 60,
            open_mailboxes_max: 4096,
            descriptors_max: 16 << 10,
            mapped_bytes_max: 8 << 30,
            open_users_max: 4096,
            orders_bytes_max: 64 << 20,
        }
    }
}
