//! Shutdown of the daemon by a signal.

use harness::{Running, Signal, Transport, eventually, noise};

const S: &str = "/streamfs/s";

harness::per_transport! {
    terminate_tells_every_client_removes_the_socket_and_exits_0,
    the_daemon_ends_in_bounded_time_although_clients_do_not_react,
    what_was_acknowledged_before_the_end_reaches_the_readers,
    a_daemon_that_two_signals_end_at_once_is_never_told_as_the_death_of_a_writer,
}

fn terminate_tells_every_client_removes_the_socket_and_exits_0(transport: Transport) {
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = transport.daemon();
        let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
        writer.send(b"so far");
        eventually("it is written", || daemon.head(S) == 6);
        let reader = daemon.reader(S, []);
        let gone = daemon.reader(S, ["--until", "writers-gone"]);
        let waiting = daemon.pfs(["cat", "--stream", "/streamfs/never"]).spawn();
        eventually("both have read all", || (reader.stdout_len(), gone.stdout_len()) == (6, 6));
        eventually("it waits", || waiting.stderr().contains("/streamfs/never"));
        let socket = daemon.socket();
        let (ended, _dir) = daemon.ends_by(signal);
        assert_eq!(ended.code, 0, "the daemon; its log: {}", ended.stderr);
        assert!(!socket.exists(), "its socket is left behind");
        // A cut connection also ends with 5, but only a client that was told prints the reason.
        let told = |client: Running| client.finish().exits(5).says("the daemon is shutting down");
        assert_eq!(told(reader).text(), "so far");
        assert_eq!(told(gone).text(), "so far");
        told(waiting);
        told(writer);
    }
}

fn the_daemon_ends_in_bounded_time_although_clients_do_not_react(transport: Transport) {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    daemon.create(S);
    let stopped = daemon.reader(S, ["--slow", "block"]);
    stopped.signal(Signal::STOP);
    let writer = daemon.pfs(["write", "--stream", S]).stdin(noise(1, 8 * 1024 * 1024)).spawn();
    eventually("the writer waits for it", || {
        daemon.reader_stat(S, stopped.pid()).unwrap()["blocking"] == true
    });
    let mut silent = daemon.wire();
    silent.send_bytes(&[9, 0]);
    let (ended, _dir) = daemon.ends_by(Signal::TERM);
    assert_eq!(ended.code, 0, "the daemon; its log: {}", ended.stderr);
    writer.finish().exits(5);
    stopped.signal(Signal::CONT);
    stopped.finish().exits(5);
}

fn what_was_acknowledged_before_the_end_reaches_the_readers(transport: Transport) {
    let daemon = transport.daemon();
    daemon.create(S);
    let mut reader = daemon.piped_reader(S, ["--slow", "block"]);
    let data = noise(2, 1024 * 1024);
    daemon.pfs(["write", "--stream", S]).stdin(&data[..]).run().exits(0);
    let got = reader.digest_stdout();
    eventually("it has read all", || {
        daemon
            .reader_stat(S, reader.pid())
            .is_some_and(|reader| reader["position"] == data.len() as u64)
    });
    let (ended, _dir) = daemon.ends_by(Signal::TERM);
    assert_eq!(ended.code, 0);
    reader.finish().exits(5);
    assert_eq!(got.join().unwrap(), harness::digest(&data));
}

fn a_daemon_that_two_signals_end_at_once_is_never_told_as_the_death_of_a_writer(
    transport: Transport,
) {
    const WRITERS: u64 = 4;
    // Which connection is cut first depends on the scheduling of the daemon's threads. Over HTTP a
    // reader tries to reconnect for 5 seconds, so there is only one round.
    let rounds = if transport == Transport::Http { 1 } else { 5 };
    for _ in 0..rounds {
        let daemon = transport.daemon();
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
                writer.send(b"x");
                eventually("it is written", || daemon.head(S) == number + 1);
                writer
            })
            .collect();
        let readers = [(); 2].map(|()| daemon.reader(S, ["--until", "writers-gone"]));
        for reader in &readers {
            eventually("it has read all", || reader.stdout_len() == WRITERS);
        }
        // Both signals are pending when the daemon continues, so the second one arrives while the
        // shutdown of the first is unfinished.
        daemon.signal(Signal::STOP);
        daemon.signal(Signal::TERM);
        daemon.signal(Signal::INT);
        let (ended, _dir) = daemon.ends_by(Signal::CONT);
        // The daemon may have completed the shutdown of the first signal.
        assert!([0, 130, 143].contains(&ended.code), "{}; its log: {}", ended.code, ended.stderr);
        for reader in readers {
            assert_eq!(reader.finish().exits(5).says("daemon").text(), "xxxx");
        }
        for writer in writers {
            writer.finish().exits(5);
        }
    }
}
