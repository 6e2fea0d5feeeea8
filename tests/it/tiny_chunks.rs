//! One-byte chunks: the worst case for the index.

use harness::{Transport, digest, noise, wake_ups};

const S: &str = "/streamfs/s";
/// Memory that a daemon may need besides its ring buffers, whatever goes through them.
const CONSTANT: u64 = 8 * 1024 * 1024;

harness::per_transport! {
    two_hundred_thousand_one_byte_chunks_stay_within_the_ring,
    a_new_reader_of_one_byte_chunks_gets_a_whole_suffix_of_them,
}

fn two_hundred_thousand_one_byte_chunks_stay_within_the_ring(transport: Transport) {
    one_byte_chunks_stay_within_the_ring(transport, 200_000);
}

pub(crate) fn one_byte_chunks_stay_within_the_ring(transport: Transport, count: usize) {
    let daemon = transport.daemon();
    let data = noise(1, count);
    let file = daemon.dir().join("data");
    std::fs::write(&file, &data).unwrap();
    let before = daemon.memory();
    let mut reader = daemon.pfs(["cat", "--stream", "--slow", "block", S]).stdout_pipe().spawn();
    let got = reader.digest_stdout();
    let write =
        daemon.pfs(["-q", "write", "--stream", "--chunk-size", "1", "--wait-readers", "1", S]);
    write.stdin_file(&file).spawn().finish().exits(0).quietly();
    let woken = wake_ups(daemon.pid());

    assert_eq!(daemon.stat_number(S, "chunks"), count as u64);
    let ring = daemon.stat_number(S, "memory");
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown <= ring + CONSTANT, "the daemon grew by {grown} bytes for a stream of {ring}");
    // The ring buffer itself: the data, and an index whose size is bounded by the data size, not by
    // the number of chunks.
    let buffers = daemon.stat_number(S, "capacity");
    assert!(ring <= 8 * buffers, "a stream of {buffers} bytes of data takes {ring} of memory");

    daemon.close(S);
    reader.finish().exits(0);
    assert_eq!(got.join().unwrap(), digest(&data));
    // A chunk of one byte takes a frame of six. Each chunk costs only the work for its frame, never
    // a round trip or a wake-up.
    assert!(woken < count as u64 / 4, "the daemon was woken {woken} times for {count} chunks");
}

fn a_new_reader_of_one_byte_chunks_gets_a_whole_suffix_of_them(transport: Transport) {
    let daemon = transport.daemon_with_buffers(10_000, 10_000);
    let data = noise(2, 50_000);
    let file = daemon.dir().join("data");
    std::fs::write(&file, &data).unwrap();
    daemon
        .pfs(["write", "--stream", "--close", "--chunk-size", "1", S])
        .stdin_file(&file)
        .run()
        .exits(0);
    let read = daemon.pfs(["cat", "--stream", S]).run().exits(0);
    let held = read.stdout.len();
    assert!((1..=10_000).contains(&held), "{held} bytes of history");
    assert_eq!(read.stdout, data[data.len() - held..]);
}
