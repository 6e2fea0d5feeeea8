//! Progress display: on stderr, on request, or when nothing else uses the terminal.

use harness::{Daemon, Pfs, Running, Signal, Terminal, eventually, folder, noise};

const S: &str = "/streamfs/s";

#[test]
fn progress_is_shown_on_stderr_when_asked_for_and_never_touches_the_data() {
    let daemon = Daemon::start();
    let data = noise(1, 2 * 1024 * 1024);
    let write = daemon
        .pfs(["write", "--stream", "--close", "--progress", S])
        .stdin(&data[..])
        .run()
        .exits(0);
    assert!(!write.stderr.is_empty());
    let read = daemon.pfs(["cat", "--stream", "--progress", S]).run().exits(0);
    assert!(!read.stderr.is_empty());
    assert!(read.stdout == data);
}

/// Runs a shell line on a terminal of its own.
fn on_a_terminal(daemon: &Daemon, line: &str) -> (Running, Terminal) {
    let terminal = Terminal::open();
    let path = format!("{}:{}", folder().display(), std::env::var("PATH").unwrap());
    let shell = Pfs::shell(line).env("PATH", path).env("PFS_SOCKET", daemon.socket());
    (shell.on_terminal(&terminal).spawn(), terminal)
}

#[test]
fn a_reader_shows_progress_by_itself_only_where_nothing_else_is_on_the_terminal() {
    let daemon = Daemon::start();
    daemon.append(S, "one\n");
    // Started before the reader with progress, so they are past the time after which they would
    // show it.
    let others = [
        "pfs cat --stream /streamfs/s",
        "pfs cat --stream /streamfs/s | grep one",
        "pfs cat --stream --quiet /streamfs/s > /dev/null",
        "TERM=dumb pfs cat --stream /streamfs/s > /dev/null",
        "set -m; pfs cat --stream /streamfs/s > /dev/null & wait",
    ];
    let others = others.map(|line| (line, on_a_terminal(&daemon, line)));
    eventually("all read", || daemon.readers(S) == others.len());
    let file = daemon.dir().join("file");
    let alone = [
        "pfs cat --stream /streamfs/s > /dev/null".to_owned(),
        format!("pfs cat --stream /streamfs/s > {}", file.display()),
        "pfs cat --stream --progress /streamfs/s | grep one".to_owned(),
    ];
    let alone = alone.map(|line| on_a_terminal(&daemon, &line));
    for (_, terminal) in &alone {
        eventually("progress is shown", || terminal.shown().contains("lag 0 B"));
    }
    daemon.close(S);
    for (run, _) in alone {
        run.finish().exits(0);
    }
    for (line, (run, terminal)) in others {
        run.finish().exits(0);
        let shown = terminal.all_shown();
        assert!(!shown.contains("lag"), "{line}: {shown:?}");
        assert_eq!(shown.contains("one"), !line.contains("/dev/null"), "{line}: {shown:?}");
    }
}

#[test]
fn a_writer_shows_progress_by_itself_only_where_its_input_is_a_file() {
    let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    daemon.create(S);
    // Holds the writers up while the test checks them.
    let reader = daemon.reader(S, ["--slow", "block"]);
    reader.signal(Signal::STOP);
    let file = daemon.dir().join("file");
    std::fs::write(&file, noise(1, 4 * 1024 * 1024)).unwrap();
    let file = file.display();
    let others = [
        format!("cat {file} | pfs write --stream /streamfs/s"),
        format!("pfs write --stream --tee /streamfs/s < {file} | wc -c"),
        format!("pfs write --stream /streamfs/s -- cat {file}"),
    ];
    let others = others.map(|line| {
        let run = on_a_terminal(&daemon, &line);
        (line, run)
    });
    eventually("all write", || {
        daemon.stat(S).unwrap()["writers"].as_array().unwrap().len() == others.len()
    });
    let (writer, terminal) =
        on_a_terminal(&daemon, &format!("pfs write --stream /streamfs/s < {file}"));
    eventually("progress is shown", || terminal.shown().contains("unacknowledged"));
    reader.signal(Signal::KILL);
    for (line, (run, terminal)) in others {
        run.finish().exits(0);
        let shown = terminal.all_shown();
        assert!(!shown.contains("unacknowledged"), "{line}: {shown:?}");
    }
    writer.finish().exits(0);
}
