//! cursusd: cores, listeners, TLS, IMAP, POP3 and LMTP sessions.
//!
//! | module | says |
//! |---|---|
//! | [`net`] | one client's connection: socket, TLS, buffers |
//! | [`services`] | what every session can reach; log lines |
//! | [`admission`] | bounds on connections |
//! | [`tls`] | certificates |

pub mod admission;
pub mod net;
pub mod services;
pub mod tls;
