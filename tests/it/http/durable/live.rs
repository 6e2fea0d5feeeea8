//! Readers that wait, and events that can happen meanwhile.

use harness::{Daemon, HttpConnection, Signal};

use super::{TEXT, controls, data};

fn waiting(daemon: &Daemon, live: &str) -> HttpConnection {
    let before = daemon.readers("/streamfs/s");
    let mut connection = daemon.http();
    connection.request("GET", &format!("/v1/stream/s?offset=now&live={live}"), &[], None);
    daemon.has_readers("/streamfs/s", before + 1);
    connection
}

#[test]
fn a_waiting_reader_is_woken_by_an_append_of_another_protocol() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"before").has(201);
    let (mut poll, mut events) = (waiting(&daemon, "long-poll"), waiting(&daemon, "sse"));
    daemon.append("/streamfs/s", "after");
    assert_eq!(poll.response().has(200).text(), "after");
    let mut response = events.head().expect("an answer").has(200);
    daemon.close("/streamfs/s");
    events.rest(&mut response);
    assert!(response.whole, "closed is a proper end");
    assert_eq!(data(response.text()), "after");
    assert_eq!(controls(response.text()).last().unwrap()["streamClosed"], true);
}

#[test]
fn a_removal_is_not_reported_as_the_end_of_the_stream() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    let (mut poll, mut events) = (waiting(&daemon, "long-poll"), waiting(&daemon, "sse"));
    daemon.remove("/streamfs/s");
    poll.response().has(404).refuses("removed");
    let mut response = events.head().expect("an answer").has(200);
    events.rest(&mut response);
    assert!(!response.whole, "{:?}", response.text());
    assert!(controls(response.text()).iter().all(|control| control["streamClosed"].is_null()));
}

#[test]
fn a_daemon_that_shuts_down_tells_waiting_readers() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    let (mut poll, mut events) = (waiting(&daemon, "long-poll"), waiting(&daemon, "sse"));
    // The shutdown responses stay in the sockets of the clients.
    let (ended, _dir) = daemon.ends_by(Signal::TERM);
    ended.exits(0);
    poll.response().has(503).refuses("shutting_down");
    let mut response = events.head().expect("an answer").has(200);
    events.rest(&mut response);
    assert!(!response.whole, "{:?}", response.text());
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    let (poll, events) = (waiting(&daemon, "long-poll"), waiting(&daemon, "sse"));
    drop((poll, events));
    daemon.has_readers("/streamfs/s", 0);
}
