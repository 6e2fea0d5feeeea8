//! A writer that appends until a condition holds, so that no test has to know how much sockets and
//! pipes hold.

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

/// How much is appended between two looks at the condition.
const PIECE: usize = 1024 * 1024;

/// A writer of the test's own: every chunk is as large as the test says.
pub struct Appender {
    wire: Wire,
    chunks: u64,
    appended: Vec<u8>,
}

impl Daemon {
    /// Attaches a writer of the test's own to a stream.
    #[track_caller]
    pub fn appender(&self, stream: &str) -> Appender {
        let mut wire = self.wire().greeted();
        let path = stream.parse().expect("a path");
        let reply = wire.send(&Request::OpenWriter(path, WriteOptions::default())).reply();
        assert!(matches!(reply, Some(Reply::Writing { .. })), "{reply:?}");
        Appender { wire, chunks: 0, appended: Vec::new() }
    }

    /// Whether every reader of a stream has lost something, or will have when it reads on: it is
    /// further behind than the stream lets a reader fall.
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
    /// Appends chunks of this size, a mebibyte of them before each look, until `holds` returns
    /// true.
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

    /// Appends bytes in chunks of this size, and waits until all of them are in the stream.
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

    /// Finishes and returns all that was appended.
    #[track_caller]
    pub fn finish(self) -> Vec<u8> {
        self.end(false)
    }

    /// Finishes, closes the stream and returns all that was appended.
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

/// Writes to the stdin of a process on a thread, without end until it is told to end.
pub struct Feeder {
    enough: Arc<AtomicBool>,
    fed: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Writes to its stdin, which is a pipe, until [`Feeder::end`].
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
                // A process that takes no more has something to say about that, which the test
                // looks at.
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
    /// Ends the input, and returns all of it.
    pub fn end(self) -> Vec<u8> {
        self.enough.store(true, Relaxed);
        self.fed.join().expect("the thread does not panic")
    }
}
