//! The daemon over real sockets: what it does for clients of any kind, and how it begins and ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod harness;
mod protocol;
mod shutdown;
mod socket;
mod startup;
mod streams;
mod writers;
