//! Criterion benches of protocol and engine.
