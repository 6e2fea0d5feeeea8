//! Streams as URLs: the HTTP side of `pfsd`, asked by `curl`, by `pfs --url` and by clients of the tests' own.

use harness::Daemon;

mod agfs;
mod durable;
mod frames;
mod hang_up;
mod http2;
mod limits;
mod operations;
pub(crate) mod plain;
mod security;
mod shutdown;
pub(crate) mod silent;
pub(crate) mod sse;
mod starting;
mod tls;

/// Waits until the daemon has given up, so often, a connection of each kind for which it has a limit: one without a request,
/// one that stops in its headers, one that stops in a body of known length. Whoever has been silent since before that has
/// been so for several times any of these limits. With limits of a second, four times are also longer than what the daemon
/// leaves to a connection that it gives up in the middle of an answer.
#[track_caller]
fn everything_else_is_given_up(daemon: &Daemon, times: usize) {
    for _ in 0..times {
        each_kind_is_given_up(daemon);
    }
}

#[track_caller]
fn each_kind_is_given_up(daemon: &Daemon) {
    let [mut idle, mut head, mut body] = [(); 3].map(|()| daemon.http());
    idle.request("GET", "/healthz", &[], None);
    idle.response().has(200);
    head.send(b"GET /heal");
    body.request("PUT", "/streamfs/stalled", &[("content-length", "10")], None);
    body.send(b"half");
    for connection in [&mut idle, &mut head, &mut body] {
        connection.until_hung_up();
    }
}
