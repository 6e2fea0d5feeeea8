//! `pfs write -- COMMAND`: the stream ends as the command ends.

use std::fs;

use harness::{
    Daemon, Pfs, Running, Signal, Terminal, Transport, alive, digest, eventually, kill, noise,
};

const S: &str = "/streamfs/s";

harness::per_transport! {
    the_output_of_a_command_arrives_and_its_success_is_the_end,
    the_death_of_a_command_is_not_the_end_for_readers_of_a_stream_that_is_closed_with_it,
    a_command_that_fails_without_close_counts_as_a_writer_that_died,
    every_way_to_cut_the_output_of_a_command_gives_all_of_it,
    a_command_is_started_when_the_readers_are_there,
    a_command_that_closes_its_output_and_runs_on_is_waited_for,
    a_terminated_pfs_passes_that_on_and_ends_as_the_command_does,
    a_command_whose_stream_is_closed_meanwhile_gets_sigterm_and_pfs_ends_with_its_own_code,
    a_daemon_that_goes_ends_the_command_too,
}

/// Appends a `sh` script to the command line. Its first parameter is `file`.
fn script(pfs: Pfs, script: &str, file: &str) -> Pfs {
    pfs.args(["--", "sh", "-c", script, "sh", file])
}

fn the_output_of_a_command_arrives_and_its_success_is_the_end(transport: Transport) {
    let daemon = transport.daemon();
    daemon.create(S);
    let reader = daemon.reader(S, []);
    let write = daemon.pfs([
        "write",
        "--stream",
        "--close",
        S,
        "--",
        "sh",
        "-c",
        "cat; echo done; echo said >&2",
    ]);
    let run = write.stdin("input, ").run().exits(0);
    assert_eq!((run.text(), run.stderr.as_str()), ("", "said\n"), "its stderr is ours");
    assert_eq!(reader.finish().exits(0).quietly().text(), "input, done\n", "its stdin is ours");
    assert_eq!(
        (daemon.stat_number(S, "writers_finished"), daemon.stat_number(S, "writers_died")),
        (1, 0)
    );
}

fn the_death_of_a_command_is_not_the_end_for_readers_of_a_stream_that_is_closed_with_it(
    transport: Transport,
) {
    let daemon = transport.daemon();
    for (ends, code) in
        [("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 3", 3), ("exit 255", 255)]
    {
        let name = format!("/streamfs/{code}");
        daemon.create(&name);
        let readers = [daemon.reader(&name, []), daemon.reader(&name, ["--until", "writers-gone"])];
        let write = daemon.pfs(["write", "--stream", "--close", &name]);
        script(write, &format!("echo so far; {ends}"), "")
            .run()
            .exits(code)
            .says("closed as failed");
        for reader in readers {
            assert_eq!(reader.finish().exits(8).text(), "so far\n");
        }
        assert_eq!(daemon.pfs(["cat", "--stream", &name]).run().exits(8).text(), "so far\n");
        assert_eq!(
            (
                daemon.stat_number(&name, "writers_finished"),
                daemon.stat_number(&name, "writers_died")
            ),
            (0, 1)
        );
    }
    // The same holds for a command that cannot be started: waiting readers are told.
    for (command, code) in [("/nowhere/at/all", 127), ("/", 126)] {
        let name = format!("/streamfs/{code}");
        daemon.create(&name);
        let reader = daemon.reader(&name, []);
        let write = daemon.pfs(["write", "--stream", "--close", &name, "--", command]).run();
        write.exits(code).says(command);
        reader.finish().exits(8);
    }
}

fn a_command_that_fails_without_close_counts_as_a_writer_that_died(transport: Transport) {
    let daemon = transport.daemon();
    daemon.create(S);
    let (gone, mut patient) = (daemon.reader(S, ["--until", "writers-gone"]), daemon.reader(S, []));
    let write = daemon.pfs(["write", "--stream", S]);
    script(write, "echo so far; exit 1", "").run().exits(1).says("incomplete");
    assert_eq!(gone.finish().exits(8).text(), "so far\n");
    assert!(patient.runs(), "another writer may go on");
    daemon.pfs(["write", "--close", S, "--", "echo", "and on"]).run().exits(0).quietly();
    assert_eq!(patient.finish().exits(0).text(), "so far\nand on\n");
}

fn every_way_to_cut_the_output_of_a_command_gives_all_of_it(transport: Transport) {
    let daemon = transport.daemon();
    let data = noise(1, 3 * 1024 * 1024);
    let file = daemon.dir().join("data");
    fs::write(&file, &data).unwrap();
    let ways: [&[&str]; 4] = [
        &[],
        &["--stream"],
        &["--stream", "--chunk-size", "1000"],
        &["--stream", "--tee", "--close"],
    ];
    for (number, flags) in ways.into_iter().enumerate() {
        let name = format!("/streamfs/{number}");
        let write = daemon.pfs(["write", &name]).args(flags).args(["--", "cat"]).arg(&file);
        let run = write.run().exits(0).quietly();
        let copied = if flags.contains(&"--tee") { &data[..] } else { b"" };
        assert_eq!(digest(&run.stdout), digest(copied));
        let read = daemon.pfs(["cat", "--stream", "--until", "caught-up", &name]).run().exits(0);
        assert_eq!(digest(&read.stdout), digest(&data), "{flags:?}");
    }
    assert_eq!(daemon.stat_number("/streamfs/0", "chunks"), 1);
    assert!(daemon.stat_number("/streamfs/2", "chunks") >= 3 * 1024);
    daemon.pfs(["write", "--stream", "--lines", S, "--", "seq", "100000"]).run().exits(0).quietly();
    let lines: String = (1..=100_000).map(|line| format!("{line}\n")).collect();
    assert_eq!(
        daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).run().exits(0).text(),
        lines
    );
}

fn a_command_is_started_when_the_readers_are_there(transport: Transport) {
    let daemon = transport.daemon();
    let file = daemon.dir().join("started");
    let file = file.to_str().unwrap();
    let write = daemon.pfs(["write", "--stream", "--close", "--wait-readers", "1", S]);
    let write = script(write, "echo > $1; echo all", file).spawn();
    eventually("it waits for a reader", || write.stderr().contains("waiting for readers"));
    assert!(!fs::exists(file).unwrap());
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "all\n");
    write.finish().exits(0);
    assert!(fs::exists(file).unwrap());
}

fn a_command_that_closes_its_output_and_runs_on_is_waited_for(transport: Transport) {
    let ways: [&[&str]; 3] = [&["--stream"], &["--stream", "--lines"], &[]];
    for flags in ways {
        let daemon = transport.daemon();
        daemon.create(S);
        let reader = daemon.reader(S, []);
        let write = daemon.pfs(["write", "--close", S]).args(flags);
        let mut write =
            script(write, "printf all; exec >&-; read line; exit 5", "").stdin_pipe().spawn();
        // The output does not wait for the command's end.
        eventually("all has arrived", || reader.stdout() == b"all");
        assert!(write.runs() && daemon.stat(S).unwrap()["state"] == "open");
        write.end_input();
        write.finish().exits(5);
        reader.finish().exits(8);
    }
}

/// Starts a command that writes its process id into a file and then waits for input.
fn sleeps(daemon: &Daemon, flags: &[&str], before: &str) -> (Running, u32) {
    let file = daemon.dir().join("pid");
    let write = daemon.pfs(["write", "--stream", S]).args(flags);
    let text = format!("{before}; echo so far; echo $$ > $1.new; mv $1.new $1; read line");
    let write = script(write, &text, file.to_str().unwrap()).stdin_pipe().spawn();
    let mut pid = 0;
    eventually("the command runs", || {
        pid = fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok()).unwrap_or(0);
        pid > 0
    });
    (write, pid)
}

fn a_terminated_pfs_passes_that_on_and_ends_as_the_command_does(transport: Transport) {
    for (signal, before, code) in [
        (Signal::TERM, ":", 143),
        (Signal::HUP, ":", 129),
        (Signal::INT, ":", 130),
        (Signal::TERM, "trap 'echo and the rest; exit 0' TERM", 0),
    ] {
        let daemon = transport.daemon();
        daemon.create(S);
        let reader = daemon.reader(S, []);
        let (mut write, pid) = sleeps(&daemon, &["--close"], before);
        write.signal(signal);
        eventually("pfs ends", || !write.runs());
        write.finish().exits(code);
        assert!(!alive(pid), "the command is not left behind");
        let (end, text) = if code == 0 { (0, "so far\nand the rest\n") } else { (8, "so far\n") };
        assert_eq!(reader.finish().exits(end).text(), text);
    }
}

fn a_command_whose_stream_is_closed_meanwhile_gets_sigterm_and_pfs_ends_with_its_own_code(
    transport: Transport,
) {
    // This also holds if the command has closed its output, and would never notice the end of the
    // stream by writing.
    for before in [":", "exec > /dev/null"] {
        let daemon = transport.daemon();
        daemon.create(S);
        let (mut write, pid) = sleeps(&daemon, &[], before);
        daemon.close(S);
        eventually("pfs ends", || !write.runs());
        write.finish().exits(9).says("the stream is closed").says("sending SIGTERM to sh");
        assert!(!alive(pid));
    }
}

fn a_daemon_that_goes_ends_the_command_too(transport: Transport) {
    let mut daemon = transport.daemon();
    daemon.create(S);
    let (mut write, pid) = sleeps(&daemon, &[], ":");
    daemon.kill9();
    eventually("pfs ends", || !write.runs());
    write.finish().exits(5).says("went away").says("sending SIGTERM to sh");
    assert!(!alive(pid));
    // Without a daemon, the command is not even started.
    daemon.pfs(["write", S, "--", "/nowhere/at/all"]).run().exits(5);
}

#[test]
fn a_grandchild_that_keeps_the_pipe_open_is_waited_for_as_in_a_pipeline() {
    let daemon = Daemon::start();
    let file = daemon.dir().join("pid");
    let write = daemon.pfs(["write", "--stream", "--close", S]);
    let text = "exec 3<&0; (echo $$ > $1.new; mv $1.new $1; read line; echo late) <&3 & exit 0";
    let mut write = script(write, text, file.to_str().unwrap()).stdin_pipe().spawn();
    eventually("the command runs", || fs::exists(&file).unwrap());
    let shell = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    eventually("it has ended", || !alive(shell));
    assert!(write.runs());
    write.send(b"go on\n");
    write.finish().exits(0);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "late\n");
}

#[test]
fn a_signal_after_the_end_of_the_command_ends_pfs() {
    let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    daemon.create(S);
    let reader = daemon.reader(S, ["--slow", "block", "--until", "writers-gone"]);
    reader.signal(Signal::STOP);
    let file = daemon.dir().join("pid");
    let write = daemon.pfs(["write", "--stream", "--close", S]);
    let text = "echo $$ > $1.new; mv $1.new $1; exec head -c 300000 /dev/zero";
    let write = script(write, text, file.to_str().unwrap()).spawn();
    eventually("the command runs", || fs::exists(&file).unwrap());
    let command = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    eventually("it has ended", || !alive(command));
    write.signal(Signal::TERM);
    write.finish().exits(143);
    kill(reader.pid(), Signal::CONT);
    reader.finish().exits(8);
}

#[test]
fn a_closed_stdout_of_a_copying_writer_ends_the_command() {
    let daemon = Daemon::start();
    let line = "pfs write --stream --close --tee /streamfs/s -- yes | head -n 1; pfs cat --stream /streamfs/s > /dev/null";
    let path = format!("{}:{}", harness::folder().display(), std::env::var("PATH").unwrap());
    let run = Pfs::shell(line).env("PATH", path).env("PFS_SOCKET", daemon.socket()).run().exits(8);
    assert_eq!(run.text(), "y\n");
    run.says("yes was ended by signal 13");
}

#[test]
fn an_ignored_hangup_is_ignored_by_the_command_too() {
    let daemon = Daemon::start();
    daemon.create(S);
    let line = "trap '' HUP; exec pfs write --stream --close /streamfs/s -- sh -c 'echo so far; read line; echo all'";
    let path = format!("{}:{}", harness::folder().display(), std::env::var("PATH").unwrap());
    let shell = Pfs::shell(line).env("PATH", path).env("PFS_SOCKET", daemon.socket());
    let mut write = shell.stdin_pipe().spawn();
    eventually("the command runs", || daemon.head(S) == 7);
    write.signal(Signal::HUP);
    write.send(b"go on\n");
    write.finish().exits(0);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "so far\nall\n");
}

#[test]
fn an_interrupt_from_the_terminal_reaches_the_command_once() {
    let daemon = Daemon::start();
    let terminal = Terminal::open();
    let file = daemon.dir().join("interrupts");
    let text =
        "trap 'echo >> $1' INT; trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let write = daemon.pfs(["write", "--stream", "--close", S]);
    let write = script(write, text, file.to_str().unwrap()).on_terminal(&terminal).spawn();
    eventually("the command runs", || daemon.stat(S).is_some_and(|_| daemon.head(S) == 6));
    // The command handles the signal before pfs does. Otherwise a second signal could be merged
    // with the first and would go unnoticed.
    write.signal(Signal::STOP);
    terminal.press("\x03");
    eventually("the command was interrupted", || {
        fs::read(&file).is_ok_and(|lines| !lines.is_empty())
    });
    kill(write.pid(), Signal::TERM);
    write.signal(Signal::CONT);
    write.finish().exits(0);
    assert_eq!(fs::read(&file).unwrap(), b"\n");
}
