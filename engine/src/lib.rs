//! The mail store: commit log, index, cache, layouts, catalog.
