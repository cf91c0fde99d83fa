//! The filesystem benchmark suite and advisor.
