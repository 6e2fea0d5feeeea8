//! Many readers with `curl`. `scripts/soak` runs them at full size.

use harness::{Daemon, Pfs, Running, digest_kept, digest_of_stream, eventually, noise_file};

use super::S;

#[test]
fn sixteen_curl_block_readers_get_the_file_byte_for_byte() {
    curl_block_readers_get_the_file_byte_for_byte(16, 16 * 1024 * 1024);
}

#[test]
fn curl_drop_readers_that_lost_something_fail() {
    curl_readers_fail_if_they_lost_something(4, 64 * 1024 * 1024);
}

fn curl(daemon: &Daemon, policy: &str) -> Running {
    daemon.curl(["-f", "-N"], &format!("{S}?slow={policy}")).stdout_pipe().spawn()
}

/// Appends a file through curl once the stream has `readers` readers, and closes the stream at
/// its end.
fn append(daemon: &Daemon, file: &std::path::Path, readers: usize) {
    daemon.has_readers(S, readers);
    let mut cat = Pfs::new("cat").arg(file).stdout_pipe().spawn();
    let put = daemon.curl(["-f", "-T", "-"], "/streamfs/s?close").stdin_from(cat.take_stdout());
    put.spawn().finish().exits(0);
}

pub(crate) fn curl_block_readers_get_the_file_byte_for_byte(count: usize, len: u64) {
    let daemon = Daemon::with_http();
    let file = daemon.dir().join("data");
    noise_file(&file, count as u64, len);
    daemon.create(S);
    let readers: Vec<_> = (0..count)
        .map(|_| {
            let mut reader = curl(&daemon, "block");
            let got = reader.digest_stdout();
            (reader, got)
        })
        .collect();
    append(&daemon, &file, count);
    let expected = digest_kept(&file, 0, &[]);
    for (reader, got) in readers {
        reader.finish().exits(0);
        assert_eq!(got.join().unwrap(), expected);
    }
}

/// All readers but the first stop until the stream is so far ahead that they must have lost bytes.
pub(crate) fn curl_readers_fail_if_they_lost_something(count: usize, len: u64) {
    let daemon = Daemon::with_http();
    let file = daemon.dir().join("data");
    noise_file(&file, 7, len);
    daemon.create(S);
    let mut readers: Vec<_> = (0..count).map(|_| curl(&daemon, "drop")).collect();
    std::thread::scope(|scope| {
        let got: Vec<_> = readers
            .iter_mut()
            .enumerate()
            .map(|(i, reader)| {
                let (out, daemon) = (reader.take_stdout(), &daemon);
                scope.spawn(move || {
                    if i > 0 {
                        eventually("the stream is ahead", || daemon.head(S) >= len * 2 / 3);
                    }
                    digest_of_stream(out)
                })
            })
            .collect();
        append(&daemon, &file, count);
        let expected = digest_kept(&file, 0, &[]);
        for (i, (reader, got)) in readers.into_iter().zip(got).enumerate() {
            let (run, got) = (reader.finish(), got.join().unwrap());
            if got == expected {
                assert_eq!((run.code, i), (0, 0), "reader {i} slept and cannot have all");
            } else {
                assert!(
                    matches!(run.code, 18 | 56),
                    "reader {i} ended with {}: {}",
                    run.code,
                    run.stderr
                );
            }
        }
    });
}
