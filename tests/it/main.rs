//! End-to-end tests of `pfs` and `pfsd`. Each module is a topic; each test's name is the promise
//! that the test proves.
//!
//! `cargo build && cargo test -p pfs-tests` runs the short tests. `scripts/soak` runs them at the
//! sizes for which the promises were made. Tests that depend on the transport are in modules `shm`,
//! `unix` and `http`, one test for each: `harness::per_transport`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod autostart;
mod bad_config;
mod bad_input;
mod bench;
mod colors;
mod commands;
mod create;
mod crowd;
mod death;
mod document;
mod environments;
mod errors;
mod failed;
mod fan_out;
mod header;
mod hostile_daemon;
mod http;
mod idle_writers;
mod join;
mod kills;
mod large_chunks;
mod late_join;
mod lease_soak;
mod library;
mod life;
mod limits;
mod lines;
mod log;
mod lookup;
mod machines;
mod operator;
mod pages;
mod producer;
mod programs;
mod progress;
mod proxies;
mod reload;
mod remote;
mod second_run;
mod seed;
mod shm;
mod shutdown;
mod signals;
mod slow_reader;
mod soak;
mod sockets;
mod stdio;
mod systemd;
mod tiny_chunks;
mod tour;
mod until;
mod waiting;
mod watch;
mod wire;
mod write_cat;
