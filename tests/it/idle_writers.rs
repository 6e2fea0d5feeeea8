//! Idle writers: they have nothing to append, and learn that their stream accepts no more appends.

use std::os::unix::net::UnixStream;

use harness::{Daemon, Pfs, Running, Transport, eventually};

/// Commands that end a stream, and the message that writers get.
const ENDS: [(&str, &str); 2] =
    [("close", "the stream is closed"), ("rm", "the stream was removed")];

/// Returns the exit code of a writer that got this message.
fn code(told: &str) -> i32 {
    if told == "the stream is closed" { 9 } else { 1 }
}

#[track_caller]
fn attached(daemon: &Daemon, stream: &str, write: Pfs) -> Running {
    let mut writer = write.spawn();
    eventually("the writer is attached", || {
        assert!(writer.runs(), "the writer ended at once; stderr: {}", writer.stderr());
        daemon.stat(stream).is_some_and(|stat| stat["writers"].get(0).is_some())
    });
    writer
}

/// Waits until the writer ends while its input stays open.
#[track_caller]
fn ends(mut writer: Running, stream: &str, told: &str, appended: usize) {
    eventually("the writer ends", || !writer.runs());
    let run = writer.finish().exits(code(told));
    run.says(&format!(
        "cannot append to {stream}: {told}; {appended} bytes of the input were appended before"
    ));
}

#[test]
fn a_silent_writer_ends_when_its_stream_is_closed_or_removed() {
    let daemon = Daemon::with_http();
    for transport in Transport::ALL {
        for (form, flags) in [
            ("reads", &["--stream"][..]),
            ("lines", &["--stream", "--lines"]),
            ("tees", &["--stream", "--tee"]),
        ] {
            for (end, told) in ENDS {
                let stream = format!("/streamfs/{transport:?}-{form}-{end}");
                let write =
                    daemon.pfs_on(transport, ["write"]).args(flags).arg(&stream).stdin_pipe();
                let mut writer = attached(&daemon, &stream, write);
                writer.send(b"so far\n");
                eventually("it is appended", || daemon.head(&stream) == 7);
                daemon.pfs([end, &stream]).run().exits(0);
                ends(writer, &stream, told, 7);
            }
        }
    }
}

#[test]
fn a_writer_that_collects_one_chunk_ends_when_its_stream_is_closed_or_removed() {
    let daemon = Daemon::with_http();
    for transport in Transport::ALL {
        for (end, told) in ENDS {
            let stream = format!("/streamfs/{transport:?}-{end}");
            let write = daemon.pfs_on(transport, ["write", &stream]).stdin_pipe();
            let mut writer = attached(&daemon, &stream, write);
            writer.send(b"the first part of a chunk");
            daemon.pfs([end, &stream]).run().exits(0);
            ends(writer, &stream, told, 0);
        }
    }
}

#[test]
fn a_writer_whose_input_is_not_a_pipe_ends_when_its_stream_is_closed_or_removed() {
    let daemon = Daemon::with_http();
    for transport in Transport::ALL {
        for (end, told) in ENDS {
            let stream = format!("/streamfs/{transport:?}-{end}");
            let (silent, input) = UnixStream::pair().unwrap();
            let write = daemon.pfs_on(transport, ["write", "--stream", &stream]);
            let writer =
                attached(&daemon, &stream, write.stdin_from(std::os::fd::OwnedFd::from(input)));
            daemon.pfs([end, &stream]).run().exits(0);
            ends(writer, &stream, told, 0);
            drop(silent);
        }
    }
}

#[test]
fn a_writer_that_waits_for_readers_ends_when_its_stream_is_closed_or_removed() {
    let daemon = Daemon::with_http();
    for transport in Transport::ALL {
        for (end, told) in ENDS {
            let stream = format!("/streamfs/{transport:?}-{end}");
            let write = daemon
                .pfs_on(transport, ["write", "--stream", "--wait-readers", "1", &stream])
                .stdin_pipe();
            let mut writer = write.spawn();
            eventually("it says that it waits", || writer.stderr().contains("waiting for readers"));
            daemon.pfs([end, &stream]).run().exits(0);
            eventually("the writer ends", || !writer.runs());
            writer.finish().exits(code(told)).says(&format!("cannot write to {stream}: {told}"));
        }
    }
}
