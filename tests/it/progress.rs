//! What goes to stderr beside the data.

use harness::{Daemon, noise};

const S: &str = "/streamfs/s";

#[test]
fn progress_is_shown_on_stderr_when_asked_for_and_never_touches_the_data() {
    let daemon = Daemon::start();
    let data = noise(1, 2 << 20);
    let write = daemon.pfs(["write", "--stream", "--close", "--progress", S]).stdin(&data[..]).run().exits(0);
    assert!(!write.stderr.is_empty());
    let read = daemon.pfs(["cat", "--stream", "--progress", S]).run().exits(0);
    assert!(!read.stderr.is_empty());
    assert!(read.stdout == data);
}

#[test]
fn without_a_terminal_there_is_no_progress_and_no_colour() {
    let daemon = Daemon::start();
    daemon.pfs(["write", "--stream", S]).stdin(noise(2, 1 << 20)).run().exits(0).quietly();
    for args in [["ls", "-l", "/streamfs"], ["stat", S, S]] {
        let run = daemon.pfs(args).run().exits(0).quietly();
        assert!(!run.stdout.contains(&0x1b), "an escape sequence in {:?}", run.text());
    }
    let failed = daemon.pfs(["stat", "/streamfs/none"]).run().exits(3);
    assert!(!failed.stderr.contains('\u{1b}'), "{:?}", failed.stderr);
}

#[test]
fn colour_is_there_when_asked_for_and_never_in_the_data() {
    let daemon = Daemon::start();
    let failed = daemon.pfs(["--color", "always", "stat", "/streamfs/none"]).run().exits(3);
    assert!(failed.stderr.contains('\u{1b}'), "{:?}", failed.stderr);
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    assert_eq!(daemon.pfs(["--color", "always", "cat", "--stream", S]).run().exits(0).text(), "all");
}
