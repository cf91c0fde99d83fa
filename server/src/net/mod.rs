//! One client's connection: socket, TLS, input buffer, output queue.
//!
//! | module | says |
//! |---|---|
//! | [`Conn`] (`conn`) | what sessions hold |
//! | [`OutQueue`] (`out_queue`) | bytes owed to the client |
//! | [`BufferPool`] (`buffer`) | the core's buffers; an idle connection holds none |
//! | [`BusyPoll`] (`busy_poll`) | the next command awaited without going to sleep |
//! | [`DeflatePool`] (`deflate`) | the compression layer; the core's compressors |
//! | `socket` | TCP and unix sockets, polled |
//! | `tls_pump` | rustls between socket and buffers |
//!
//! Invariants: reading is cancel-safe; a client that takes no bytes for
//! `limits.write_stall_seconds_max` is dropped; bytes that came before STARTTLS are never read as
//! if they had come after it.

mod buffer;
mod busy_poll;
mod conn;
mod deflate;
mod out_queue;
mod peer;
mod socket;
mod tls_pump;

pub use buffer::{BUFFER_BYTES, BufferPool};
pub use busy_poll::{BusyPoll, polling_cores};
pub use conn::{Conn, NetCore, Timeouts};
pub use deflate::DeflatePool;
pub use out_queue::OutQueue;
pub use peer::{Peer, SessionId};
pub use socket::Socket;
