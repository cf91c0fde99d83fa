//! The filesystem benchmark suite and advisor: what a filesystem, its options and its hardware cost
//! a mail store, measured through the engine's own layouts and file calls.
//!
//! | module | says |
//! |---|---|
//! | [`cli`] | commands and options |
//! | [`workload`] | what a mail store does to a filesystem, as measured loops |
//! | [`run`] | places compared side by side, in turns, in rounds |
//! | [`matrix`] | filesystems made on loop files with every option of a profile |
//! | [`advise`] | what is wrong with real mounts, measured |
//! | [`crash`] | what a power cut leaves of acknowledged mail |
//! | [`report`] | saved results as HTML, Markdown and CSV |
//! | [`schema`] | the saved form, with its version |
//! | [`stats`] | medians, spreads, latencies; what is noise |
//! | [`facts`] | machine, mounts, devices, superblocks, flushes |
//! | [`scratch`] | the only directories that are written in, and when they are refused |
//! | [`leftovers`] | mounts, loop devices and arrays that must be gone when a run is |
//! | [`progress`], [`stop`] | time left; Ctrl-C |
//!
//! Invariants: nothing outside a scratch directory that this program made is written, renamed or
//! removed; figures of two places are compared only within the same rounds of the same run.

pub mod advise;
pub mod cli;
pub mod crash;
pub mod error;
pub mod facts;
pub mod leftovers;
pub mod matrix;
pub mod progress;
pub mod report;
pub mod run;
pub mod schema;
pub mod scratch;
pub mod stats;
pub mod stop;
pub mod workload;
