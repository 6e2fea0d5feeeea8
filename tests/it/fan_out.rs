//! Many readers of one stream, each at its own pace.

use std::io::Read;
use std::process::ChildStdout;
use std::time::Duration;

use harness::{Daemon, Pfs, Running, digest_kept, digest_of_stream, eventually_within, gaps, noise_file};

const S: &str = "/streamfs/s";
const LONG: Duration = Duration::from_secs(600);

#[test]
fn one_block_reader_gets_the_file_byte_for_byte() {
    block_readers_get_the_file_byte_for_byte(1, 64 << 20);
}

#[test]
fn four_block_readers_get_the_file_byte_for_byte() {
    block_readers_get_the_file_byte_for_byte(4, 32 << 20);
}

#[test]
fn sixteen_block_readers_get_the_file_byte_for_byte() {
    block_readers_get_the_file_byte_for_byte(16, 16 << 20);
}

#[test]
fn drop_readers_get_the_file_minus_exactly_the_ranges_that_they_report() {
    drop_readers_report_what_they_miss(4, 64 << 20);
}

pub(crate) fn block_readers_get_the_file_byte_for_byte(count: usize, len: u64) {
    let daemon = Daemon::start();
    let file = daemon.dir().join("data");
    noise_file(&file, count as u64, len);
    let start = || {
        let mut reader = daemon.pfs(["cat", "--stream", "--slow", "block", S]).stdout_pipe().spawn();
        let got = reader.digest_stdout();
        (reader, got)
    };
    let readers: Vec<_> = (0..count).map(|_| start()).collect();
    let mut cat = Pfs::new("cat").arg(&file).stdout_pipe().spawn();
    let write = daemon.pfs(["write", "--stream", "--close", "--wait-readers", &count.to_string(), S]);
    write.stdin_from(cat.take_stdout()).spawn().finish_within(LONG).exits(0).quietly();
    let expected = digest_kept(&file, 0, &[]);
    for (reader, got) in readers {
        let run = reader.finish_within(LONG).exits(0);
        assert_eq!(gaps(&run.stderr), []);
        assert_eq!(got.join().unwrap(), expected);
    }
}

/// One reader reads as fast as it can; the others stop reading twice, until the stream is so far
/// ahead that they must have lost something.
pub(crate) fn drop_readers_report_what_they_miss(count: usize, len: u64) {
    let daemon = Daemon::with_buffers(1 << 20, 1 << 20);
    let file = daemon.dir().join("data");
    noise_file(&file, 7, len);
    let start = |_| daemon.pfs(["cat", "--stream", "--slow", "drop", S]).stdout_pipe().spawn();
    let mut readers: Vec<Running> = (0..count).map(start).collect();
    std::thread::scope(|scope| {
        let got: Vec<_> = readers
            .iter_mut()
            .enumerate()
            .map(|(i, reader)| {
                let stalls = if i == 0 { vec![] } else { vec![(0, len / 3), (1 << 20, len * 2 / 3)] };
                let out = Stalling { daemon: &daemon, out: reader.take_stdout(), read: 0, stalls };
                scope.spawn(move || digest_of_stream(out))
            })
            .collect();
        let write = daemon.pfs(["write", "--stream", "--close", "--wait-readers", &count.to_string(), S]);
        write.stdin_file(&file).spawn().finish_within(LONG).exits(0).quietly();
        for (i, (reader, got)) in readers.into_iter().zip(got).enumerate() {
            let run = reader.finish_within(LONG);
            let gaps = gaps(&run.stderr);
            assert!(i == 0 || gaps.len() >= 2, "reader {i} stalled twice and reported {gaps:?}");
            let run = run.exits(if gaps.is_empty() { 0 } else { 4 });
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

/// Whether an offset is between two chunks: a file is cut every 64 KiB.
fn on_boundary(offset: u64, len: u64) -> bool {
    offset.is_multiple_of(65_536) || offset == len
}

/// A pipe that is not read for a while: after so many bytes, until the stream's head is so far.
struct Stalling<'a> {
    daemon: &'a Daemon,
    out: ChildStdout,
    read: u64,
    stalls: Vec<(u64, u64)>,
}

impl Read for Stalling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(&(after, head)) = self.stalls.first()
            && self.read >= after
        {
            eventually_within(LONG, "the stream is ahead", || self.daemon.head(S) >= head);
            self.stalls.remove(0);
        }
        let got = self.out.read(buffer)?;
        self.read += got as u64;
        Ok(got)
    }
}
