//! What operators ask of a store: the requests, their form on the admin socket, and doing them.
//!
//! | module | says |
//! |---|---|
//! | [`wire`] | requests and answers, one JSON line each |
//! | [`client`] | the socket's client side, blocking |
//! | [`accounts`] | the configured back ends of accounts |
//! | [`store`] | a configured store: settings, opening, a user's options |
//! | [`operator`] | doing a request on an open store |
//! | [`unfinished`] | what of a command that was cut off forbids to open the store |
//! | `shared_index` | who is seen below Courier's `#shared`, and where that lies |
//!
//! In a crate of its own because `cursusd` answers these requests for a running server and
//! `cursus` does the same ones itself when no server runs: one [`Operator`] does both.

pub mod accounts;
pub mod client;
pub mod exchange;
pub mod operator;
mod shared_index;
pub mod store;
pub mod unfinished;
pub mod wire;

pub use client::Client;
pub use operator::Operator;
pub use wire::{Answer, CoreStalls, Failure, FailureCode, Reply, Request};
