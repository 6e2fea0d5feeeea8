//! The main job: the input of `pfs write` comes out of `pfs cat`.

use std::{io::Read as _, os::fd::AsFd as _};

use harness::{Daemon, Transport, digest, eventually, noise};

const S: &str = "/streamfs/s";

harness::per_transport! {
    what_is_written_is_read_back_byte_for_byte,
    write_without_stream_appends_its_input_as_one_chunk,
    input_that_is_available_at_once_takes_one_request,
    input_that_comes_later_has_a_writer_meanwhile,
    input_larger_than_a_chunk_can_be_is_refused_whole_and_names_stream_mode,
    input_that_is_refused_leaves_no_stream_that_was_not_there_before,
    when_write_exits_0_a_reader_that_starts_afterwards_finds_every_byte,
    stream_mode_sends_what_it_has_at_once,
    empty_input_is_no_chunk_and_no_failure,
    a_closed_stream_takes_no_more_and_keeps_its_history,
    a_closed_stdout_pipe_ends_cat_quietly,
    chunks_of_many_mebibytes_arrive_whole,
    files_are_appended_in_order_as_one_input,
    a_file_that_cannot_be_read_is_named_before_anything_is_appended,
}

fn what_is_written_is_read_back_byte_for_byte(transport: Transport) {
    let daemon = transport.daemon();
    let data = noise(1, 3 * 1024 * 1024);
    daemon.pfs(["write", "--stream", "--close", S]).stdin(data.clone()).run().exits(0).quietly();
    let read = daemon.pfs(["cat", "--stream", S]).run().exits(0).quietly();
    assert_eq!(digest(&read.stdout), digest(&data));
}

fn write_without_stream_appends_its_input_as_one_chunk(transport: Transport) {
    let daemon = transport.daemon();
    let data = noise(2, 3 * 1024 * 1024);
    daemon.pfs(["write", S]).stdin(data.clone()).run().exits(0).quietly();
    assert_eq!((daemon.stat_number(S, "chunks"), daemon.head(S)), (1, data.len() as u64));
    daemon.pfs(["write", S]).stdin("data\n").run().exits(0).quietly();
    assert_eq!((daemon.stat_number(S, "chunks"), daemon.head(S)), (2, data.len() as u64 + 5));
}

fn input_that_is_available_at_once_takes_one_request(transport: Transport) {
    let daemon = transport.daemon();
    let file = daemon.dir().join("data");
    std::fs::write(&file, "file\n").unwrap();
    let write = daemon.pfs(["-v", "write", S]).stdin_file(&file).run().exits(0);
    write.says("with one request");
    daemon.pfs(["-v", "write", S]).arg(&file).arg(&file).run().exits(0).says("with one request");
    daemon
        .pfs(["-v", "write", "--close", S])
        .stdin_file(&file)
        .run()
        .exits(0)
        .says("with one request");
    let read = daemon.pfs(["cat", "--stream", S]).run().exits(0);
    assert_eq!(read.stdout, b"file\nfile\nfile\nfile\n");
    daemon.pfs(["write", "--replace", "--close", S]).stdin_file(&file).run().exits(0).quietly();
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).stdout, b"file\n");
    assert_eq!(
        (daemon.stat_number(S, "writers_finished"), daemon.stat_number(S, "writers_died")),
        (1, 0)
    );
}

fn input_that_comes_later_has_a_writer_meanwhile(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", S]).stdin_pipe().spawn();
    writer.send(b"first, ");
    eventually("the writer is there", || {
        daemon
            .stat(S)
            .is_some_and(|stat| stat["writers"].as_array().is_some_and(|all| all.len() == 1))
    });
    writer.send(b"last");
    writer.end_input();
    writer.finish().exits(0).quietly();
    assert_eq!((daemon.stat_number(S, "chunks"), daemon.head(S)), (1, 11));
}

fn input_larger_than_a_chunk_can_be_is_refused_whole_and_names_stream_mode(transport: Transport) {
    let daemon = transport.daemon_with_buffers(10_000, 10_000);
    daemon.create(S);
    daemon.pfs(["write", S]).stdin(noise(3, 10_001)).run().exits(1).says("--stream");
    assert_eq!((daemon.head(S), daemon.stat_number(S, "writers_died")), (0, 0));
    daemon.pfs(["cat", "--stream", "--until", "writers-gone", S]).run().exits(0);
    daemon.pfs(["write", S]).stdin(noise(3, 10_000)).run().exits(0);
    assert_eq!(daemon.head(S), 10_000);
}

fn input_that_is_refused_leaves_no_stream_that_was_not_there_before(transport: Transport) {
    let daemon = transport.daemon_with_buffers(10_000, 10_000);
    daemon.pfs(["write", S]).stdin(noise(3, 10_001)).run().exits(1).says("--stream");
    assert!(daemon.stat(S).is_none());
    daemon
        .pfs(["write", S, "--", "head", "-c", "10001", "/dev/zero"])
        .run()
        .exits(1)
        .says("--stream");
    assert!(daemon.stat(S).is_none());
}

fn when_write_exits_0_a_reader_that_starts_afterwards_finds_every_byte(transport: Transport) {
    let daemon = transport.daemon();
    let mut written = Vec::new();
    for round in 0..20 {
        let data = noise(round, 1 + 9_973 * round as usize);
        let mode: &[&str] = if round % 2 == 0 { &["write", "--stream", S] } else { &["write", S] };
        daemon.pfs([]).args(mode).stdin(data.clone()).run().exits(0);
        written.extend(data);
        let read = daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).run().exits(0);
        assert_eq!(digest(&read.stdout), digest(&written), "after round {round}");
    }
}

fn stream_mode_sends_what_it_has_at_once(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    let mut reader = daemon.pfs(["cat", "--stream", S]).stdout_pipe().spawn();
    let mut out = reader.take_stdout();
    for word in [&b"first"[..], b"second", b"3"] {
        writer.send(word);
        let mut got = vec![0; word.len()];
        out.read_exact(&mut got).unwrap();
        assert_eq!(got, word);
    }
    assert!(writer.runs() && reader.runs());
}

#[test]
fn stream_mode_cuts_chunks_of_64_kib_at_most_and_of_the_size_asked_for() {
    let daemon = Daemon::start();
    let file = daemon.dir().join("data");
    std::fs::write(&file, noise(4, 1_000_000)).unwrap();
    daemon.pfs(["write", "--stream", S]).stdin_file(&file).run().exits(0);
    assert_eq!(daemon.stat_number(S, "chunks"), 1_000_000_u64.div_ceil(65_536));
    daemon
        .pfs(["write", "--stream", "--chunk-size", "1000", "/streamfs/k"])
        .stdin_file(&file)
        .run()
        .exits(0);
    assert_eq!(daemon.stat_number("/streamfs/k", "chunks"), 1_000);
}

#[test]
fn tee_copies_the_input_to_stdout() {
    let daemon = Daemon::start();
    let data = noise(5, 1024 * 1024);
    let write = daemon.pfs(["write", "--stream", "--tee", S]).stdin(data.clone()).run().exits(0);
    assert_eq!(digest(&write.stdout), digest(&data));
    assert_eq!(daemon.head(S), data.len() as u64);
}

fn empty_input_is_no_chunk_and_no_failure(transport: Transport) {
    let daemon = transport.daemon();
    for mode in [&["write", S][..], &["write", "--stream", S]] {
        daemon.pfs([]).args(mode).run().exits(0).quietly();
        assert_eq!(daemon.head(S), 0);
    }
    daemon.pfs(["write", "--stream", "--close", S]).run().exits(0);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).stdout, b"");
}

fn a_closed_stream_takes_no_more_and_keeps_its_history(transport: Transport) {
    let daemon = transport.daemon();
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    daemon.pfs(["write", S]).stdin("more").run().exits(9).says("closed");
    daemon.pfs(["write", "--stream", S]).stdin("more").run().exits(9).says("closed");
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).stdout, b"all");
}

fn a_closed_stdout_pipe_ends_cat_quietly(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"some");
    eventually("it is written", || daemon.head(S) == 4);
    let mut reader = daemon.piped_reader(S, []);
    let mut out = reader.take_stdout();
    out.read_exact(&mut [0; 4]).unwrap();
    drop(out);
    eventually("the reader has noticed that nobody reads it", || {
        writer.send(b"more");
        !reader.runs()
    });
    reader.finish().exits(0).quietly();
}

#[test]
fn writers_append_one_after_the_other_to_the_same_stream() {
    let daemon = Daemon::start();
    for word in ["one ", "two ", "three"] {
        daemon.pfs(["write", "--stream", S]).stdin(word).run().exits(0);
    }
    daemon.close(S);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).stdout, b"one two three");
}

fn chunks_of_many_mebibytes_arrive_whole(transport: Transport) {
    let daemon = transport.daemon_with_buffers(16 * 1024 * 1024, 16 * 1024 * 1024);
    let data = noise(6, (5 * 1024 * 1024) + 321);
    let mut reader = daemon.pfs(["cat", "--stream", S]).stdout_pipe().spawn();
    let got = reader.digest_stdout();
    daemon.pfs(["write", "--close", "--wait-readers", "1", S]).stdin(data.clone()).run().exits(0);
    assert_eq!(daemon.stat_number(S, "chunks"), 1);
    reader.finish().exits(0);
    assert_eq!(got.join().unwrap(), digest(&data));
}

/// With small pipes, most of the time would go into context switches between both sides.
#[cfg(target_os = "linux")]
#[test]
fn pipes_on_standard_input_and_output_are_enlarged() {
    let daemon = Daemon::start();
    let (input, feed) = std::io::pipe().unwrap();
    let (output, into) = std::io::pipe().unwrap();
    let _writer = daemon.pfs(["write", "--stream", S]).stdin_from(input).spawn();
    let _reader = daemon.pfs(["cat", "--stream", S]).stdout_into(into).spawn();
    let size = |pipe: std::os::fd::BorrowedFd<'_>| rustix::pipe::fcntl_getpipe_size(pipe).unwrap();
    eventually("both pipes are large", || {
        size(feed.as_fd()) >= 256 * 1024 && size(output.as_fd()) >= 256 * 1024
    });
}

fn files_are_appended_in_order_as_one_input(transport: Transport) {
    let daemon = transport.daemon();
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let (first, second) = (noise(1, 200_000), noise(2, 100_000));
    std::fs::write(&one, &first).unwrap();
    std::fs::write(&two, &second).unwrap();
    let whole = digest(&[&first[..], b"between", &second].concat());
    for flags in [&["--stream", "--close"][..], &["--lines", "--close"], &["--close"]] {
        daemon
            .pfs(["write", "--replace", S])
            .args(flags)
            .arg(&one)
            .arg("-")
            .arg(&two)
            .stdin("between")
            .run()
            .exits(0);
        let read = daemon.pfs(["cat", "--stream", S]).run().exits(0);
        assert_eq!(digest(&read.stdout), whole, "{flags:?}");
    }
    assert_eq!(daemon.stat_number(S, "chunks"), 1, "without stream mode the input is one chunk");
    // Standard input is not needed then.
    daemon.pfs(["write", "--replace", S]).arg(&two).redirected("<&-").run().exits(0);
    assert_eq!(daemon.head(S), second.len() as u64);
}

fn a_file_that_cannot_be_read_is_named_before_anything_is_appended(transport: Transport) {
    let daemon = transport.daemon();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("there");
    std::fs::write(&file, "data").unwrap();
    for other in [folder.path(), &folder.path().join("missing")] {
        let run = daemon.pfs(["write", "--stream", S]).arg(&file).arg(other).run();
        run.exits(1).says(&format!("cannot read {}: ", other.display()));
    }
    assert!(daemon.stat(S).is_none());
}
