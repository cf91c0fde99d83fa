//! The mail store: commit log, index, cache, layouts, catalog.

pub mod io;
pub mod layout;
