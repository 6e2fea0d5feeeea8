//! The library against a daemon that each test plays itself.

mod client;
mod daemon;
mod events;
mod given_up;
mod reader;
#[cfg(target_os = "linux")]
mod sleeping;
mod threads;
mod writer;
