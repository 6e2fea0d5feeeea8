//! Endless writer: it always has more to send, so its connection is never idle.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::{Bytes, BytesMut};
use harness::{Daemon, Signal, Wire, digest, eventually, noise};
use pfs_proto::{ErrorCode, Request};

use super::{EndsAtDrop, S, lease};

/// Runs `test` while chunks of 8 bytes flow without end, and returns the daemon and the
/// writer's connection.
#[track_caller]
fn while_it_flows(test: impl FnOnce(&mut Daemon)) -> (Daemon, Wire) {
    let mut daemon = Daemon::start();
    let mut wire = lease::writing(daemon.wire().greeted(), S);
    let mut frame = BytesMut::new();
    Request::Append(Bytes::from_static(b"8 bytes.")).encode(&mut frame);
    let frames = frame.repeat(1000);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = EndsAtDrop(&enough);
        let flows = scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                // The daemon may end first.
                if !wire.offer_bytes(&frames) {
                    break;
                }
            }
        });
        eventually("it flows", || daemon.head(S) > 1024 * 1024);
        test(&mut daemon);
        drop(end);
        flows.join().unwrap();
    });
    (daemon, wire)
}

#[test]
fn an_endless_writer_does_not_keep_others_from_being_served() {
    others_are_served();
}

#[test]
fn an_endless_writer_does_not_keep_others_from_being_served_on_one_processor() {
    harness::on_one_processor();
    others_are_served();
}

#[track_caller]
fn others_are_served() {
    let (daemon, wire) = while_it_flows(|daemon| {
        let data = noise(1, 1024 * 1024);
        let other = "/streamfs/other";
        daemon
            .pfs(["write", "--stream", "--close", other])
            .stdin(&data[..])
            .run()
            .exits(0)
            .quietly();
        assert_eq!(
            digest(&daemon.pfs(["cat", "--stream", other]).run().exits(0).stdout),
            digest(&data)
        );
    });
    drop(wire);
    eventually("its death is noticed", || daemon.stat_number(S, "writers_died") == 1);
}

#[test]
fn an_endless_writer_does_not_keep_the_daemon_from_ending() {
    let (_daemon, mut wire) = while_it_flows(|daemon| {
        daemon.signal(Signal::TERM);
        eventually("the daemon has ended", || !daemon.runs());
    });
    // A connection that is cut at the end gets no message.
    assert_eq!(wire.refusal(), Some(ErrorCode::ShuttingDown));
}
