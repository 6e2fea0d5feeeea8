//! Test writer: appends until a condition holds, so that no test depends on the capacity of sockets
//! and pipes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use pfs_proto::{Reply, Request, WriteOptions};

use crate::{Daemon, Running, Wire, deadline, noise};

/// Bytes appended between two checks of the condition.
const PIECE: usize = 1024 * 1024;

/// Stream writer that runs in the test itself. The test chooses the size of each chunk.
pub struct Appender {
    wire: Wire,
    chunks: u64,
    appended: Vec<u8>,
}

impl Daemon {
    /// Opens a writer on `stream`.
    #[track_caller]
    pub fn appender(&self, stream: &str) -> Appender {
        let mut wire = self.wire().greeted();
        let path = stream.parse().expect("a path");
        let reply = wire.send(&Request::OpenWriter(path, WriteOptions::default())).reply();
        assert!(matches!(reply, Some(Reply::Writing { .. })), "{reply:?}");
        Appender { wire, chunks: 0, appended: Vec::new() }
    }

    /// Returns true if every reader of the stream has lost bytes, or will lose some at its next
    /// read because its lag exceeds the channel size.
    #[track_caller]
    pub fn all_have_lost(&self, stream: &str) -> bool {
        let stat = self.stat(stream).unwrap_or_else(|| panic!("no stream {stream}"));
        let channel = stat["channel_buffer_size"].as_u64();
        let readers = stat["readers"].as_array().expect("readers");
        readers.iter().all(|reader| {
            reader["lost_bytes"].as_u64() > Some(0) || reader["lag"].as_u64() > channel
        })
    }
}

impl Appender {
    /// Appends chunks of this size until `holds` returns true. Checks `holds` after each mebibyte.
    #[track_caller]
    pub fn append_until(&mut self, chunk: usize, mut holds: impl FnMut() -> bool) {
        let begin = std::time::Instant::now();
        loop {
            self.append(&noise(self.appended.len() as u64, PIECE / chunk * chunk), chunk);
            if holds() {
                return;
            }
            assert!(begin.elapsed() < deadline(), "appended {} bytes in vain", self.appended.len());
        }
    }

    /// Appends `bytes` in chunks of this size and waits until the daemon has acknowledged all
    /// of them.
    #[track_caller]
    pub fn append(&mut self, bytes: &[u8], chunk: usize) {
        let expected = self.chunks + bytes.len().div_ceil(chunk) as u64;
        for chunk in bytes.chunks(chunk) {
            self.wire.send(&Request::Append(Bytes::copy_from_slice(chunk)));
        }
        self.appended.extend_from_slice(bytes);
        loop {
            match self.wire.reply() {
                Some(Reply::Ack { chunks, .. }) if chunks == expected => break,
                Some(Reply::Ack { .. }) => {}
                other => panic!("in place of an acknowledgement: {other:?}"),
            }
        }
        self.chunks = expected;
    }

    /// Finishes the writer and returns all appended bytes.
    #[track_caller]
    pub fn finish(self) -> Vec<u8> {
        self.end(false)
    }

    /// Finishes the writer, closes the stream and returns all appended bytes.
    #[track_caller]
    pub fn close(self) -> Vec<u8> {
        self.end(true)
    }

    #[track_caller]
    fn end(mut self, close: bool) -> Vec<u8> {
        self.wire.send(&Request::Finish { close });
        assert_eq!(self.wire.refusal(), None, "the end of a writer");
        self.appended
    }
}

/// Thread that writes to the stdin of a process until [`Feeder::end`].
pub struct Feeder {
    enough: Arc<AtomicBool>,
    fed: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Starts a thread that writes to stdin, which must be a pipe, until [`Feeder::end`]. `make`
    /// returns the bytes of each numbered piece.
    #[track_caller]
    pub fn feed(&mut self, make: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Feeder {
        use std::io::Write as _;
        let mut stdin = self.take_stdin();
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let fed = std::thread::spawn(move || {
            let mut fed = Vec::new();
            for number in 0.. {
                let piece = make(number);
                // A process that closed its stdin reports the reason itself; the test checks
                // that report.
                if told.load(Relaxed) || stdin.write_all(&piece).is_err() {
                    break;
                }
                fed.extend(piece);
            }
            fed
        });
        Feeder { enough, fed }
    }
}

impl Feeder {
    /// Ends the input and returns all bytes that were written.
    pub fn end(self) -> Vec<u8> {
        self.enough.store(true, Relaxed);
        self.fed.join().expect("the thread does not panic")
    }
}
