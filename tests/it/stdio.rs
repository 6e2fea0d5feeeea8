//! Standard descriptors that are closed, full or of the wrong kind: an outcome that was known
//! before the failure is still reported.

use std::{
    io::{PipeWriter, Read as _},
    process::ChildStdout,
};

use harness::{Daemon, Finished, Pfs, Running, Signal, Transport, binary, eventually, gaps, noise};

const S: &str = "/streamfs/s";

/// Redirections of stdout to targets that cannot be written, with the error.
const BAD_STDOUT: [(&str, &str); 3] = [
    (">&-", "bad file descriptor"),
    (">/dev/full", "no space left on device"),
    ("1</dev/null", "bad file descriptor"),
];

harness::per_transport! {
    a_reported_gap_outlives_a_stdout_that_is_closed_afterwards,
    a_reported_gap_outlives_a_stdout_that_is_full,
    a_reader_that_lost_nothing_ends_quietly_with_0_when_nobody_reads_it_any_more,
    without_stdin_a_writer_creates_appends_and_closes_nothing,
    a_copy_that_cannot_be_written_fails_before_anything_is_appended,
    a_closed_stderr_changes_no_outcome,
}

/// Returns the write end of a pipe without a reader.
fn unread() -> PipeWriter {
    std::io::pipe().unwrap().1
}

/// Every command line that prints something, with or without a daemon that has the stream.
const PRINTING: [&[&str]; 20] = [
    &["pfs", "--help"],
    &["pfs", "-h"],
    &["pfs", "--version"],
    &["pfs", "help", "cat"],
    &["pfs", "cat", "--help"],
    &["pfs", "ls"],
    &["pfs", "ls", "-l"],
    &["pfs", "ls", "--json"],
    &["pfs", "stat", S],
    &["pfs", "stat", "--json", S],
    &["pfs", "stat", "--watch", S],
    &["pfs", "cat", "/streamfs/README"],
    &["pfs", "cat", "--stream", S],
    &["pfs", "cat", "--stream", "--slow", "block", S],
    &["pfs", "bench", "--size", "1MB"],
    &["pfs", "bench", "--json", "--size", "1MB"],
    &["pfsd", "--help"],
    &["pfsd", "-h"],
    &["pfsd", "--version"],
    &["pfsd", "--check-config"],
];

fn command(daemon: &Daemon, line: &[&str]) -> Pfs {
    match line {
        ["pfs", args @ ..] => daemon.pfs([]).args(args),
        [program, args @ ..] => Pfs::new(binary(program)).args(args),
        [] => unreachable!("every line names a program"),
    }
}

#[test]
fn every_command_that_prints_fails_if_it_cannot_print_and_says_why() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    for line in PRINTING {
        for (redirection, why) in BAD_STDOUT {
            command(&daemon, line)
                .redirected(redirection)
                .run()
                .exits(1)
                .says("standard output")
                .says(why);
        }
    }
    assert_eq!(daemon.streams(), [S], "what was made for the bench");
}

#[test]
fn every_command_that_prints_ends_quietly_with_0_if_nobody_reads() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    for line in PRINTING {
        command(&daemon, line).stdout_into(unread()).run().exits(0).quietly();
    }
}

#[test]
fn a_failed_path_is_still_reported_if_stdout_cannot_be_written() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    for command in ["ls", "stat"] {
        let run = || daemon.pfs([command, "/streamfs/none", S]);
        run().stdout_into(unread()).run().exits(3).says("/streamfs/none");
        run().redirected(">/dev/full").run().exits(3).says("/streamfs/none").says("no space left");
    }
}

/// Starts a reader that has reported a gap and printed what follows.
fn reader_with_a_gap(daemon: &Daemon) -> (Running, ChildStdout) {
    daemon.pfs(["write", "--stream", S]).stdin(noise(1, 4 * 1024 * 1024)).run().exits(0);
    let mut reader = daemon.piped_reader(S, ["--offset", "0"]);
    let mut stdout = reader.take_stdout();
    stdout.read_exact(&mut [0; 100]).unwrap();
    assert_eq!(gaps(&reader.stderr()).len(), 1);
    (reader, stdout)
}

fn a_reported_gap_outlives_a_stdout_that_is_closed_afterwards(transport: Transport) {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    // Tests a reader that is printing and a reader that is waiting.
    let (reader, stdout) = reader_with_a_gap(&daemon);
    drop(stdout);
    ends_with_the_loss_alone(reader.finish());
    let (reader, mut stdout) = reader_with_a_gap(&daemon);
    let held = daemon.head(S) - daemon.stat_number(S, "tail");
    stdout.read_exact(&mut vec![0; usize::try_from(held).unwrap() - 100]).unwrap();
    drop(stdout);
    ends_with_the_loss_alone(reader.finish());
}

fn ends_with_the_loss_alone(reader: Finished) {
    let reader = reader.exits(4);
    assert!(!reader.stderr.contains("standard output"), "{}", reader.stderr);
}

fn a_reported_gap_outlives_a_stdout_that_is_full(transport: Transport) {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    daemon.pfs(["write", "--stream", S]).stdin(noise(1, 4 * 1024 * 1024)).run().exits(0);
    let cat = daemon.pfs(["cat", "--stream", "--offset", "0", S]).redirected(">/dev/full");
    let run = cat.run().exits(4).says("no space left");
    assert_eq!(gaps(&run.stderr).len(), 1);
}

fn a_reader_that_lost_nothing_ends_quietly_with_0_when_nobody_reads_it_any_more(
    transport: Transport,
) {
    let daemon = transport.daemon();
    daemon.append(S, "x");
    let mut idle = daemon.piped_reader(S, []);
    let mut stdout = idle.take_stdout();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    idle.finish().exits(0).quietly();
}

/// Only with shm are the last bytes and the end visible at once: over a connection, the end may
/// arrive too late.
#[test]
fn a_known_end_is_still_reported_if_stdout_does_not_take_the_last_bytes() {
    let daemon = Daemon::start();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"so far");
    eventually("it is written", || daemon.head(S) == 6);
    writer.signal(Signal::KILL);
    eventually("it has died", || daemon.stat_number(S, "writers_died") == 1);
    let cat = || daemon.pfs(["cat", "--stream", "--until", "writers-gone", S]);
    let run = cat().stdout_into(unread()).run().exits(8).says("died");
    assert!(!run.stderr.contains("standard output"), "{}", run.stderr);
    cat().redirected(">/dev/full").run().exits(8).says("died").says("no space left");
    daemon.close(S);
    cat().stdout_into(unread()).run().exits(0).quietly();
    cat().redirected(">/dev/full").run().exits(1).says("no space left");
}

fn without_stdin_a_writer_creates_appends_and_closes_nothing(transport: Transport) {
    let daemon = transport.daemon();
    daemon.append(S, "x");
    let writable = daemon.dir().join("writable");
    std::fs::write(&writable, "not for reading").unwrap();
    let folder = daemon.dir().to_str().unwrap();
    let bad = [
        ("<&-".to_owned(), "bad file descriptor"),
        (format!("0>>{}", writable.display()), "bad file descriptor"),
        (format!("<{folder}"), "is a directory"),
    ];
    for (redirection, why) in &bad {
        for args in [
            &["write"][..],
            &["write", "--close"],
            &["write", "--stream"],
            &["write", "--stream", "--close"],
            &["write", "--stream", "--lines", "--close"],
            &["write", "--stream", "--tee", "--close"],
        ] {
            for stream in ["/streamfs/new", S] {
                let write = daemon.pfs([]).args(args).arg(stream).redirected(redirection);
                write.run().exits(1).says("standard input").says(why);
            }
        }
    }
    assert_eq!(daemon.streams(), [S]);
    let stat = daemon.stat(S).unwrap();
    for (name, number) in [("head", 1), ("writers_died", 0), ("writers_finished", 1)] {
        assert_eq!(stat[name], number, "{name} in {stat}");
    }
    assert_eq!(stat["state"], "open");
}

fn a_copy_that_cannot_be_written_fails_before_anything_is_appended(transport: Transport) {
    let daemon = transport.daemon();
    for redirection in [">&-", "1</dev/null"] {
        for args in [&["write", "--tee"][..], &["write", "--tee", "--stream", "--close"]] {
            let write =
                daemon.pfs([]).args(args).arg(S).stdin("some input").redirected(redirection);
            write.run().exits(1).says("standard output").says("bad file descriptor");
        }
    }
    assert!(daemon.streams().is_empty());
    // A full device fails only when it is written: the input is in the stream, and the writer has
    // not finished.
    let write = daemon.pfs(["write", "--tee", "--stream", "--close", S]).stdin("some input");
    write.redirected(">/dev/full").run().exits(1).says("no space left").says("10 bytes");
    let stat = daemon.stat(S).unwrap();
    assert_eq!((&stat["head"], &stat["state"]), (&10.into(), &"open".into()));
    eventually("its writer has died", || daemon.stat_number(S, "writers_died") == 1);
}

fn a_closed_stderr_changes_no_outcome(transport: Transport) {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    for redirection in ["2>&-", "2>/dev/full"] {
        let stream = format!("/streamfs/{}", redirection.len());
        let run = |args: &[&str]| daemon.pfs([]).args(args).arg(&stream).redirected(redirection);
        run(&["write", "--verbose", "--stream", "--close"])
            .stdin(noise(1, 4 * 1024 * 1024))
            .run()
            .exits(0);
        let held = daemon.head(&stream) - daemon.stat_number(&stream, "tail");
        let read =
            run(&["cat", "--verbose", "--progress", "--stream", "--offset", "0"]).run().exits(4);
        assert_eq!(read.stdout.len() as u64, held);
        run(&["cat", "--no-such-flag"]).run().exits(2);
        run(&["stat"]).run().exits(0);
        run(&["stat", "/streamfs/none"]).run().exits(3);
        run(&["write", "--stream"]).stdin("x").run().exits(9);
    }
}
