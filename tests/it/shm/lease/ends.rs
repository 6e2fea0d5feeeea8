//! Ends of a stream, its writer or the daemon during a lease.

use std::time::Duration;

use harness::{Daemon, Finished, Signal, Transport, digest, eventually};
use pfs_client::{Endpoint, Finish, WriteError, WriteOptions, blocking};

use super::{Fed, MIB, holder, leased, own, runtime};
use crate::shm::S;

/// Removes the numbers from a message.
fn words(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[test]
fn a_holder_is_told_of_the_end_of_its_stream_as_any_writer_is() {
    type End = fn(&Daemon);
    let ends: [(&str, End); 5] = [
        ("closed", |daemon| daemon.close(S)),
        ("closed as failed", |daemon| drop(daemon.pfs(["close", "--failed", S]).run().exits(0))),
        ("removed", |daemon| daemon.remove(S)),
        ("replaced", |daemon| drop(daemon.pfs(["create", "--replace", S]).run().exits(0))),
        ("replaced by a writer", |daemon| {
            drop(daemon.pfs(["write", "--replace", S]).stdin("x").run().exits(0))
        }),
    ];
    for (what, end) in ends {
        for is_at_work in [false, true] {
            let runs = Transport::OF_THE_SOCKET.map(|transport| {
                let daemon = Daemon::start();
                daemon.create_with_buffers(S, MIB, MIB);
                let reader = daemon.reader_on(Transport::Shm, S, []);
                let mut writer = Fed::new(daemon.pfs_on(transport, ["write", "--stream", S]));
                if transport == Transport::Shm {
                    writer.gets_a_lease(&daemon);
                } else {
                    writer.give(2 * MIB as usize);
                }
                eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
                end(&daemon);
                if is_at_work {
                    // The writer takes as much as a pipe holds, and no more.
                    writer.give_meanwhile(8 * MIB as usize, |_| ());
                }
                // An idle writer is told too.
                (writer.running.finish_with_input(), reader.finish())
            });
            let [(held, held_reader), (usual, usual_reader)] = runs;
            let said = |run: &Finished| (run.code, words(&run.stderr));
            assert_eq!(said(&held), said(&usual), "{what}, at work: {is_at_work}");
            // A reader's losses are not caused by the writer.
            let code = |run: &Finished| if run.code == 4 { 0 } else { run.code };
            assert_eq!(code(&held_reader), code(&usual_reader), "{what}, at work: {is_at_work}");
        }
    }
}

#[test]
fn readers_get_all_that_a_killed_holder_has_published_and_are_told_of_its_death() {
    let daemon = Transport::Shm.daemon_with_http();
    for round in 0_u64..6 {
        let stream = format!("/streamfs/{round}");
        daemon.create_with_buffers(&stream, 32 * MIB, 32 * MIB);
        let readers: Vec<_> = Transport::ALL
            .into_iter()
            .flat_map(|transport| ["block", "drop"].map(|policy| (transport, policy)))
            .map(|(transport, policy)| {
                daemon.reader_on(transport, &stream, ["--until", "writers-gone", "--slow", policy])
            })
            .collect();
        let mut writer = Fed::new(daemon.pfs(["-q", "write", "--stream", &stream]));
        let pid = u64::from(writer.running.pid());
        eventually("it has a lease", || {
            writer.give(super::PIECE);
            super::holder_of(&daemon, &stream) == Some(pid)
        });
        let before = daemon.head(&stream);
        writer.give_meanwhile(16 * MIB as usize, |holder| {
            eventually("it is at work", || daemon.head(&stream) > before + round * 500_000);
            holder.signal(Signal::KILL);
        });
        assert_eq!(writer.running.finish().code, 137);
        eventually("its death is noticed", || daemon.stat_number(&stream, "writers_died") == 1);
        let head = daemon.head(&stream) as usize;
        assert!(head as u64 > before);
        for reader in readers {
            let run = reader.finish().exits(8);
            assert_eq!(digest(&run.stdout), digest(&writer.given[..head]));
        }
    }
}

#[test]
fn a_killed_daemon_is_noticed_by_a_holder_that_only_appends() {
    let options = WriteOptions::default;
    let is_gone = |mut append: Box<dyn FnMut() -> Result<(), WriteError> + '_>| {
        let mut error = None;
        eventually("it is noticed", || {
            error = append().err();
            error.is_some()
        });
        assert!(matches!(error, Some(WriteError::DaemonGone(_))), "{error:?}");
    };
    for pushes in [false, true] {
        let mut daemon = Daemon::start();
        let client = blocking::Client::new(Endpoint::Unix(daemon.socket()));
        let mut writer = client.writer(S, options()).unwrap();
        eventually("it has a lease", || {
            writer.append(own(1, super::PIECE)).unwrap();
            holder(&daemon).is_some()
        });
        daemon.kill9();
        // A writer that pushes checks for the daemon's death once it has pushed enough to wake
        // sleeping readers.
        let chunk = own(2, 40_000);
        is_gone(Box::new(
            || if pushes { writer.push(&chunk) } else { writer.append(&chunk[..10]) },
        ));
    }
    for pushes in [false, true] {
        let runtime = runtime();
        let mut daemon = Daemon::start();
        let mut writer = runtime.block_on(leased(&daemon));
        daemon.kill9();
        let chunk = own(2, 40_000);
        is_gone(Box::new(|| {
            runtime.block_on(async {
                if pushes { writer.push(&chunk).await } else { writer.append(&chunk[..10]).await }
            })
        }));
    }
}

#[test]
fn a_killed_daemon_is_noticed_by_a_command_that_holds_a_lease_while_busy_and_while_idle() {
    for is_at_work in [false, true] {
        let mut daemon = Daemon::start();
        let mut writer = Fed::start(&daemon, []);
        writer.gets_a_lease(&daemon);
        daemon.kill9();
        if is_at_work {
            let feeder = writer.running.feed(|number| own(number as u64, 100));
            let mut running = writer.running;
            eventually("it is noticed", || !running.runs());
            feeder.end();
            running.finish().exits(5);
        } else {
            writer.running.finish_with_input().exits(5);
        }
    }
}

#[test]
fn flush_and_finish_under_a_lease_return_when_the_daemon_has_answered_and_not_before() {
    const WHILE: Duration = Duration::from_millis(200);
    runtime().block_on(async {
        let daemon = Daemon::start();
        let mut writer = leased(&daemon).await;
        daemon.signal(Signal::STOP);
        // The holder appends without the daemon.
        writer.append("by itself").await.unwrap();
        assert_eq!(writer.acked(), writer.appended());
        for _ in 0..2 {
            let flushed = tokio::time::timeout(WHILE, writer.flush()).await;
            assert!(flushed.is_err(), "{flushed:?}");
        }
        daemon.signal(Signal::CONT);
        writer.flush().await.unwrap();
        assert!(holder(&daemon).is_some());
        let head = daemon.head(S);

        daemon.signal(Signal::STOP);
        writer.append("the last").await.unwrap();
        let mut finished = std::pin::pin!(writer.finish(Finish::Close));
        let done = tokio::time::timeout(WHILE, &mut finished).await;
        assert!(done.is_err(), "{done:?}");
        daemon.signal(Signal::CONT);
        assert_eq!(finished.await.unwrap(), head + 8);
        assert_eq!(daemon.stat_number(S, "writers_finished"), 1);
    });
}

#[test]
fn a_daemon_that_is_terminated_during_a_lease_has_told_its_readers_of_all_that_was_appended() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, 32 * MIB, 32 * MIB);
    let readers = Transport::OF_THE_SOCKET.map(|transport| daemon.reader_on(transport, S, []));
    let mut writer = Fed::start(&daemon, []);
    writer.gets_a_lease(&daemon);
    eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
    let (ended, _folder) = daemon.ends_by(Signal::TERM);
    assert_eq!(ended.code, 0);
    let given = std::mem::take(&mut writer.given);
    assert_eq!(writer.running.finish_with_input().code, 5);
    for reader in readers {
        assert_eq!(digest(&reader.finish().exits(5).stdout), digest(&given));
    }
}

#[test]
fn a_stream_lives_while_a_holder_appends_and_an_idle_holder_is_told_of_its_end() {
    let daemon = Daemon::with_config("[limits]\nidle_ttl = \"1s\"\n");
    daemon.pfs(["create", "--ttl", "1s", S]).run().exits(0);
    let mut writer = Fed::new(daemon.pfs(["write", "--stream", S]));
    writer.gets_a_lease(&daemon);
    let begin = std::time::Instant::now();
    // No client asks for the stream meanwhile.
    eventually("three times of its life have gone", || {
        writer.give(100);
        begin.elapsed() > Duration::from_secs(3)
    });
    assert_eq!(holder(&daemon), Some(u64::from(writer.running.pid())));
    eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
    writer.running.finish_with_input().exits(1).says("removed");
    assert!(daemon.stat(S).is_none());
}
