//! Sessions of the server over a store of its own, by protocol and extension: see [`site`].
//!
//! One program, so that the server is linked once.

mod annotate;
mod announce;
mod compose;
mod contexts;
mod courier;
mod filter;
mod flag;
mod fulltext;
mod imap;
mod list;
mod lmtp;
mod metadata;
mod notify;
mod objects;
mod order;
mod peer_settings;
mod pop3;
mod quota;
mod resync;
mod sasl;
mod search_beside_renames;
mod seen;
mod sharing;
mod site;
mod smap;
mod telemetry;
mod transport;
mod uidonly;
mod url;
mod windows;
