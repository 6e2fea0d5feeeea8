//! Start of a reader: history first and then live, or exactly the requested offset.

use std::time::{Duration, Instant};

use harness::{Daemon, Transport, digest, eventually, gaps, noise, noise_file};

const S: &str = "/streamfs/s";

harness::per_transport! {
    readers_that_join_a_running_stream_get_history_then_live_without_a_seam,
    a_late_reader_starts_at_the_oldest_chunk_within_the_ring_buffer_size,
    new_gets_only_what_is_appended_from_then_on,
    tail_gives_exactly_that_number_of_bytes_even_inside_a_chunk,
    tail_gives_all_that_the_ring_holds_where_that_is_less,
    since_starts_at_the_oldest_chunk_of_that_age,
    offset_starts_at_that_very_byte_even_inside_a_chunk,
    an_offset_that_the_ring_has_left_begins_with_a_gap,
    an_offset_past_head_is_an_error,
}

/// Writes `data` from a file, so that all chunks have this size.
fn write_in_chunks(daemon: &Daemon, data: &[u8], chunk: &str) {
    let file = daemon.dir().join("data");
    std::fs::write(&file, data).unwrap();
    daemon.pfs(["write", "--stream", "--chunk-size", chunk, S]).stdin_file(&file).run().exits(0);
}

fn readers_that_join_a_running_stream_get_history_then_live_without_a_seam(transport: Transport) {
    const PART: usize = 2 * 1024 * 1024;
    const JOINERS: usize = 8;
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    let data = noise(1, PART * (JOINERS + 1));
    let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
    let mut readers = Vec::new();
    for part in data.chunks(PART) {
        writer.send(part);
        if readers.len() < JOINERS {
            eventually("the stream exists", || daemon.stat(S).is_some());
            // The reader joins while the next part is being written.
            readers.push(daemon.pfs(["cat", "--stream", "--slow", "block", S]).spawn());
        }
    }
    daemon.has_readers(S, JOINERS);
    writer.end_input();
    writer.finish().exits(0);
    for reader in readers {
        let run = reader.finish().exits(0);
        assert_eq!(gaps(&run.stderr), []);
        // No gap was reported and the end of the stream is known, so the output must be a suffix of
        // the data.
        let start = data.len() - run.stdout.len();
        assert_eq!(digest(&run.stdout), digest(&data[start..]), "a reader that started at {start}");
    }
}

fn a_late_reader_starts_at_the_oldest_chunk_within_the_ring_buffer_size(transport: Transport) {
    let daemon = transport.daemon();
    daemon.create_with_buffers(S, 100 * 1024, 1024 * 1024);
    let data = noise(2, 500_000);
    write_in_chunks(&daemon, &data, "1000");
    daemon.close(S);
    let read = daemon.pfs(["cat", "--stream", S]).run().exits(0).quietly();
    assert_eq!(read.stdout.len(), 102_000, "102400 bytes hold 102 whole chunks of 1000");
    assert_eq!(digest(&read.stdout), digest(&data[data.len() - 102_000..]));
    let all = daemon.pfs(["cat", "--stream", "--offset", "0", S]).run().exits(0);
    assert_eq!(
        digest(&all.stdout),
        digest(&data),
        "the larger channel buffer still holds the rest"
    );
}

fn new_gets_only_what_is_appended_from_then_on(transport: Transport) {
    let daemon = transport.daemon();
    daemon.append(S, "before");
    let reader = daemon.reader(S, ["--new"]);
    daemon.pfs(["write", "--close", S]).stdin("after").run().exits(0);
    assert_eq!(reader.finish().exits(0).text(), "after");
}

fn tail_gives_exactly_that_number_of_bytes_even_inside_a_chunk(transport: Transport) {
    let daemon = transport.daemon();
    let data = noise(3, 10_000);
    write_in_chunks(&daemon, &data, "1000");
    for tail in [0, 1, 999, 1_000, 1_001, 2_500, 10_000] {
        let cat =
            daemon.pfs(["cat", "--stream", "--tail", &tail.to_string(), "--until", "caught-up", S]);
        let read = cat.run().exits(0).quietly();
        assert!(read.stdout == data[data.len() - tail..], "--tail {tail}");
    }
    let mut live = daemon.reader(S, ["--tail", "1234"]);
    daemon.append(S, "live");
    eventually("it follows", || live.stdout_len() == 1_238);
    assert!(live.runs() && live.stdout()[..1_234] == data[data.len() - 1_234..]);
}

fn tail_gives_all_that_the_ring_holds_where_that_is_less(transport: Transport) {
    let daemon = transport.daemon();
    daemon.create_with_buffers(S, 100_000, 200_000);
    let data = noise(3, 500_000);
    write_in_chunks(&daemon, &data[..50_000], "1000");
    let cat = |tail: &str| {
        daemon
            .pfs(["cat", "--stream", "--tail", tail, "--until", "caught-up", S])
            .run()
            .exits(0)
            .quietly()
    };
    assert!(cat("1GB").stdout == data[..50_000], "the whole stream");
    write_in_chunks(&daemon, &data[50_000..], "1000");
    let held = daemon.stat_number(S, "tail") as usize;
    assert!(held > 0 && cat("1GB").stdout == data[held..], "what the ring holds, without a gap");
    assert!(cat("150000").stdout == data[350_000..], "also more than a new reader gets by itself");
}

fn since_starts_at_the_oldest_chunk_of_that_age(transport: Transport) {
    let daemon = transport.daemon();
    let cat = |since: &str| {
        let cat = daemon.pfs(["cat", "--stream", "--since", since, "--until", "caught-up", S]);
        cat.run().exits(0).text().to_owned()
    };
    daemon.append(S, "old ");
    let old = Instant::now();
    // Ask for an age halfway between the two chunks: chunks carry the time of the clock's last
    // tick, so an age close to theirs decides nothing. If a busy machine answers late, the loop
    // tries again with a larger distance.
    eventually("an answer came in time", || {
        let apart = Duration::from_millis(100) + 4 * old.elapsed();
        eventually("the first chunk is so old", || old.elapsed() > apart);
        let new = Instant::now();
        daemon.append(S, "new");
        let since = old.elapsed() / 2;
        let read = cat(&format!("{}ms", since.as_millis()));
        let is_certain = 2 * new.elapsed() < since;
        assert!(!is_certain || read == "new", "{read:?} of the last {since:?}");
        is_certain
    });
    assert!(cat("1h").starts_with("old new"));
}

fn offset_starts_at_that_very_byte_even_inside_a_chunk(transport: Transport) {
    let daemon = transport.daemon();
    let data = noise(4, 10_000);
    write_in_chunks(&daemon, &data, "1000");
    for offset in [0, 1, 999, 1_000, 1_234, 9_999, 10_000] {
        let cat = daemon.pfs([
            "cat",
            "--stream",
            "--offset",
            &offset.to_string(),
            "--until",
            "caught-up",
            S,
        ]);
        assert!(cat.run().exits(0).stdout == data[offset..], "--offset {offset}");
    }
}

fn an_offset_that_the_ring_has_left_begins_with_a_gap(transport: Transport) {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    let file = daemon.dir().join("data");
    noise_file(&file, 5, 4 * 1024 * 1024);
    daemon.pfs(["write", "--stream", "--close", S]).stdin_file(&file).run().exits(0);
    let run = daemon.pfs(["cat", "--stream", "--offset", "5", S]).run().exits(4);
    let gaps = gaps(&run.stderr);
    assert_eq!((gaps.len(), gaps[0].from, gaps[0].to), (1, 5, daemon.stat_number(S, "tail")));
    assert_eq!(gaps[0].path, S);
    let data = std::fs::read(&file).unwrap();
    assert_eq!(digest(&run.stdout), digest(&data[gaps[0].to as usize..]));
}

fn an_offset_past_head_is_an_error(transport: Transport) {
    let daemon = transport.daemon();
    daemon.append(S, "12345");
    daemon.pfs(["cat", "--stream", "--offset", "6", S]).run().exits(1).says("offset 6").says("5");
}

#[test]
fn two_options_for_the_start_are_a_usage_error() {
    let daemon = Daemon::start();
    daemon.pfs(["cat", "--stream", "--new", "--offset", "6", S]).run().exits(2);
    daemon.pfs(["cat", "--stream", "--tail", "1KB", "--since", "1s", S]).run().exits(2);
}
