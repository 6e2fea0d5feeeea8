//! A stream at its own path, with `curl`.

mod append;
mod follow;
mod forms;
mod identity;
pub(crate) mod many;
mod range;
mod refusals;
mod trailers;

use harness::{Daemon, HttpConnection, eventually};

const S: &str = "/streamfs/s";

/// Sends a GET for `path` and waits for the response head: the reader is then attached.
#[track_caller]
fn reading(daemon: &Daemon, path: &str) -> HttpConnection {
    let mut connection = daemon.http();
    connection.request("GET", path, &[], None);
    assert_eq!(connection.head().expect("an answer").status, 200);
    connection
}

/// Waits until the head of the stream is at `offset`.
#[track_caller]
fn head_reaches(daemon: &Daemon, offset: u64) {
    eventually("the stream has the bytes", || daemon.head(S) == offset);
}
