//! cursusd: cores, listeners, TLS, IMAP, POP3 and LMTP sessions.
//!
//! | module | says |
//! |---|---|
//! | [`run`] | start, reload, drain, stop |
//! | [`listen`], [`accept`], [`admission`] | sockets, the acceptor, bounds on connections |
//! | [`shard`] | a core: thread, runtime, sessions |
//! | [`net`] | one client's connection: socket, TLS, buffers |
//! | [`imap`], [`pop3`], [`lmtp`], `smap` | a session each |
//! | [`services`], [`word`] | what every session can reach, and hears; log lines |
//! | `telemetry` | transcripts of sessions, where the operator wants them |
//! | [`tls`] | certificates |
//! | [`reload`] | a changed configuration in a running server |
//! | [`login`], [`certificate`] | which logins a connection is offered; what certificates say |
//! | [`admin_socket`] | the operator's socket |
//! | `learn` | passwords that the server before us knows
//! | `language` | languages of texts for people |
//! | [`trash`], `outbox` | where expunged messages go; a mailbox whose messages are sent |
//! | [`first_start`], [`banner`] | the embedded store's first user, message and greeting |
//! | [`memory`] | the allocator's settings |
//! | [`logging`] | how lines are written |

pub mod accept;
pub mod admin_socket;
pub mod admission;
pub mod auth_socket;
pub mod banner;
pub mod certificate;
pub mod first_start;
pub mod imap;
mod language;
mod learn;
mod lines;
pub mod listen;
pub mod lmtp;
pub mod logging;
pub mod login;
pub mod memory;
pub mod net;
mod outbox;
pub mod pop3;
pub mod reload;
pub mod run;
pub mod services;
pub mod shard;
mod smap;
pub mod stalls;
mod telemetry;
pub mod tls;
pub mod trash;
pub mod word;
