//! Harness of the end-to-end tests: starts the real `pfsd` and `pfs`, each test with its own daemon
//! in its own folder, and can wait, kill processes and compare data.
//!
//! The harness contains no tests. The tests check command lines, exit codes, stdout, stderr and
//! `/proc`, and send frames on a [`Wire`] that no client of ours sends. One observer connection per
//! daemon delivers stats and events, so that no test starts processes to get them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a harness fails by panicking")]

mod appender;
mod binaries;
mod cgroup;
mod command;
mod condition;
mod daemon;
mod gaps;
mod http;
mod http_daemon;
mod link;
mod machine;
mod network;
mod noise;
mod observer;
mod process;
mod proxy;
mod random;
mod running;
mod skip;
mod sse;
mod taker;
mod terminal;
mod transport;
mod wire;

pub use appender::{Appender, Feeder};
pub use binaries::{binary, folder};
pub use cgroup::Cgroup;
pub use command::{Finished, Pfs};
pub use condition::{deadline, eventually, variable};
pub use daemon::{Autostarted, Daemon, served_by};
pub use gaps::{Gap, gaps, kept};
pub use http::{HttpConnection, HttpResponse};
pub use http_daemon::address_of_its_own;
pub use link::{Direction, Link};
pub use machine::Machine;
pub use network::{Cable, Host, Network};
pub use noise::{Digest, digest, digest_kept, digest_of_stream, noise, noise_file};
pub use process::{
    Signal, alive, eventually_rest, kill, limit_file_size, on_one_processor, own, raise_file_limit,
    resident, shared, shares_memory, sockets_and_memory, wake_ups,
};
pub use proxy::Proxy;
pub use random::Random;
pub use running::Running;
pub use skip::skip;
pub use sse::ServerSentEvent;
pub use taker::Taker;
pub use terminal::Terminal;
pub use transport::Transport;
pub use wire::Wire;
