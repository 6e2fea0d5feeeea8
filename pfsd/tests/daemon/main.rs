//! Tests of the daemon over real sockets: sessions with clients, start and shutdown.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic fails the test, also in a helper"
)]

mod harness;
mod protocol;
mod shutdown;
mod socket;
mod startup;
mod streams;
mod writers;
