//! A staging area in which there is always more: whoever fills it goes round faster than the daemon.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::{Daemon, Signal, StagingArea, Wire, digest, eventually, noise};
use pfs_proto::{ErrorCode, Request};

use super::{EndsAtDrop, S, staging};

/// Runs the test while chunks of 8 bytes flow without end.
#[track_caller]
fn while_it_flows(test: impl FnOnce(&mut Daemon, Wire)) {
    let mut daemon = Daemon::start();
    let (mut wire, area) = staging(&daemon, S);
    for record in 0..StagingArea::SIZE / 16 {
        area.scribble(StagingArea::RECORDS + 16 * record, &8_u64.to_ne_bytes());
    }
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = EndsAtDrop(&enough);
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                area.set(StagingArea::PRODUCED, area.word(StagingArea::CONSUMED) + StagingArea::SIZE);
            }
        });
        eventually("it flows", || {
            // Should the daemon have been faster for a moment, it sleeps until it is rung.
            wire.send(&Request::Staged);
            daemon.head(S) > 2 * StagingArea::SIZE
        });
        test(&mut daemon, wire);
    });
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
    while_it_flows(|daemon, _wire| {
        let data = noise(1, 1 << 20);
        let other = "/streamfs/other";
        daemon.pfs(["write", "--stream", "--close", other]).stdin(&data[..]).run().exits(0).quietly();
        assert_eq!(digest(&daemon.pfs(["cat", "--stream", other]).run().exits(0).stdout), digest(&data));
    });
}

#[test]
fn an_endless_writer_does_not_keep_the_daemon_from_ending() {
    while_it_flows(|daemon, mut wire| {
        daemon.signal(Signal::TERM);
        eventually("the daemon has ended", || !daemon.runs());
        // One that is cut off in the end is told nothing.
        assert_eq!(wire.refusal(), Some(ErrorCode::GoingAway));
    });
}

#[test]
fn an_endless_writer_that_hangs_up_has_died() {
    while_it_flows(|daemon, wire| {
        drop(wire);
        eventually("its death is noticed", || daemon.figure(S, "writers_died") == 1);
    });
}

#[test]
fn what_an_endless_writer_says_over_its_connection_is_heard() {
    while_it_flows(|daemon, mut wire| {
        wire.send(&Request::Finish { close: true });
        assert_eq!(wire.refusal(), None);
        assert_eq!(daemon.stat(S).unwrap()["state"], "closed");
        assert_eq!(daemon.figure(S, "writers_finished"), 1);
    });
}
