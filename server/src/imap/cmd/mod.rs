//! A file per command. Each `run` carries one command out and returns its tagged answer; untagged
//! data goes into the connection's queue. States and sync points are the session's affair.

pub(super) mod append;
pub(super) mod authenticate;
pub(super) mod cancel_update;
pub(super) mod capability;
pub(super) mod close;
pub(super) mod comparator;
pub(super) mod copy;
pub(super) mod create;
pub(super) mod delete;
pub(super) mod enable;
pub(super) mod expunge;
pub(super) mod fetch;
pub(super) mod id;
pub(super) mod idle;
pub(super) mod list;
pub(super) mod login;
pub(super) mod logout;
pub(super) mod lsub;
pub(super) mod metadata;
pub(super) mod multi_search;
pub(super) mod namespace;
pub(super) mod notify;
pub(super) mod quota;
pub(super) mod rename;
pub(super) mod search;
pub(super) mod select;
pub(super) mod sort;
pub(super) mod starttls;
pub(super) mod status;
pub(super) mod store;
pub(super) mod subscribe;
pub(super) mod thread;
pub(super) mod uid_batches;
