//! Many readers of one stream, each at its own pace.

use std::{
    io::Read,
    process::ChildStdout,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
};

use harness::{
    Daemon, Pfs, Running, Transport, digest_kept, digest_of_stream, eventually, gaps, noise_file,
};
use serde_json::Value;

const S: &str = "/streamfs/s";
const MIB: u64 = 1024 * 1024;

harness::per_transport! {
    one_block_reader_gets_the_file_byte_for_byte,
    four_block_readers_get_the_file_byte_for_byte,
    sixteen_block_readers_get_the_file_byte_for_byte,
    drop_readers_get_the_file_minus_exactly_the_ranges_that_they_report,
}

fn one_block_reader_gets_the_file_byte_for_byte(transport: Transport) {
    block_readers_get_the_file_byte_for_byte(transport, 1, 64 * 1024 * 1024);
}

fn four_block_readers_get_the_file_byte_for_byte(transport: Transport) {
    block_readers_get_the_file_byte_for_byte(transport, 4, 32 * 1024 * 1024);
}

fn sixteen_block_readers_get_the_file_byte_for_byte(transport: Transport) {
    block_readers_get_the_file_byte_for_byte(transport, 16, 16 * 1024 * 1024);
}

fn drop_readers_get_the_file_minus_exactly_the_ranges_that_they_report(transport: Transport) {
    drop_readers_report_what_they_miss(transport, 4, 64 * 1024 * 1024);
}

pub(crate) fn block_readers_get_the_file_byte_for_byte(
    transport: Transport,
    count: usize,
    len: u64,
) {
    let daemon = transport.daemon();
    let file = daemon.dir().join("data");
    noise_file(&file, count as u64, len);
    let start = || {
        let mut reader =
            daemon.pfs(["cat", "--stream", "--slow", "block", S]).stdout_pipe().spawn();
        let got = reader.digest_stdout();
        (reader, got)
    };
    let readers: Vec<_> = (0..count).map(|_| start()).collect();
    let mut cat = Pfs::new("cat").arg(&file).stdout_pipe().spawn();
    let write =
        daemon.pfs(["-q", "write", "--stream", "--close", "--wait-readers", &count.to_string(), S]);
    write.stdin_from(cat.take_stdout()).spawn().finish().exits(0).quietly();
    let expected = digest_kept(&file, 0, &[]);
    for (reader, got) in readers {
        let run = reader.finish().exits(0);
        assert_eq!(gaps(&run.stderr), []);
        assert_eq!(got.join().unwrap(), expected);
    }
}

/// Checks the gaps of `drop` readers. They stop reading twice, each time until they must have
/// lost bytes.
pub(crate) fn drop_readers_report_what_they_miss(transport: Transport, count: usize, len: u64) {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    let file = daemon.dir().join("data");
    noise_file(&file, 7, len);
    let start = |policy| daemon.pfs(["cat", "--stream", "--slow", policy, S]).stdout_pipe().spawn();
    let mut pacer = start("block");
    let mut readers: Vec<Running> = (0..count).map(|_| start("drop")).collect();
    let gate = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let out = pacer.take_stdout();
        let paced = scope.spawn(|| pace(&daemon, out, count, &gate));
        let got: Vec<_> = readers
            .iter_mut()
            .map(|reader| {
                let out = Gated { out: reader.take_stdout(), gate: &gate };
                scope.spawn(move || digest_of_stream(out))
            })
            .collect();
        let wait = (count + 1).to_string();
        let write = daemon.pfs(["-q", "write", "--stream", "--close", "--wait-readers", &wait, S]);
        write.stdin_file(&file).spawn().finish().exits(0).quietly();
        paced.join().unwrap();
        pacer.finish().exits(0);
        for (i, (reader, got)) in readers.into_iter().zip(got).enumerate() {
            let run = reader.finish().exits(4);
            let gaps = gaps(&run.stderr);
            assert!(gaps.len() >= 2, "reader {i} stalled twice and reported {gaps:?}");
            let got = got.join().unwrap();
            assert_eq!(got, digest_kept(&file, 0, &gaps), "reader {i}; stderr: {}", run.stderr);
            let lost: u64 = gaps.iter().map(|gap| gap.to - gap.from).sum();
            assert_eq!(got.len + lost, len);
            assert!(
                gaps.iter().all(|gap| on_boundary(gap.from, len) && on_boundary(gap.to, len)),
                "{gaps:?}"
            );
        }
    });
}

/// Reads the file as a `block` reader, which the writer waits for. While the gate is closed, the
/// other readers do not read. Twice, reads until all of them are too far behind, and then opens the
/// gate: the first time until they have noticed their loss, the second time for good.
fn pace(daemon: &Daemon, mut out: ChildStdout, others: usize, gate: &AtomicBool) {
    let count = |is_it: &dyn Fn(&Value, &Value) -> bool| {
        // The writer has not created the stream yet.
        let Some(stat) = daemon.stat(S) else { return 0 };
        stat["readers"].as_array().unwrap().iter().filter(|reader| is_it(&stat, reader)).count()
    };
    let mut take_until_they_are_behind = || {
        // A reader that is behind by little more than the buffer may have the oldest chunks in
        // hand, and then loses nothing. It cannot have a whole buffer in hand.
        let is_behind = |stat: &Value, reader: &Value| {
            reader["policy"] == "drop"
                && reader["lag"].as_u64().unwrap()
                    > 2 * stat["channel_buffer_size"].as_u64().unwrap()
        };
        while count(&is_behind) < others {
            let taken = std::io::copy(&mut out.by_ref().take(MIB), &mut std::io::sink()).unwrap();
            assert_eq!(taken, MIB, "the file is too short for all to fall behind");
        }
    };
    take_until_they_are_behind();
    gate.store(true, Release);
    eventually("all have lost something", || {
        count(&|_, reader| reader["lost_bytes"].as_u64() > Some(0)) == others
    });
    gate.store(false, Release);
    take_until_they_are_behind();
    gate.store(true, Release);
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
}

/// Returns true if `offset` is between two chunks: a file is cut every 64 KiB.
fn on_boundary(offset: u64, len: u64) -> bool {
    offset.is_multiple_of(65_536) || offset == len
}

/// Pipe that is read only while the gate is open.
struct Gated<'a> {
    out: ChildStdout,
    gate: &'a AtomicBool,
}

impl Read for Gated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        eventually("the gate is open", || self.gate.load(Acquire));
        self.out.read(buffer)
    }
}
