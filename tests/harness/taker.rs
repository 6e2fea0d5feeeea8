//! Slow consumer of a reader's stdout: stops after a number of bytes, so that more output is
//! certain to be waiting.

use std::{
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use crate::Running;

/// Thread that reads the stdout of a process.
pub struct Taker {
    taken: Arc<AtomicU64>,
    go_on: Sender<()>,
    bytes: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Starts a thread that reads stdout, which must be a pipe, until it has at least `most` bytes,
    /// and then pauses until [`Taker::rest`].
    #[track_caller]
    pub fn take_at_most(&mut self, most: u64) -> Taker {
        let mut stdout = self.take_stdout();
        let (go_on, may_go_on) = channel();
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&taken);
        let bytes = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut piece = vec![0; 64 * 1024];
            while counted.load(Relaxed) < most {
                match stdout.read(&mut piece).expect("a pipe can be read") {
                    0 => break,
                    len => bytes.extend_from_slice(&piece[..len]),
                }
                counted.store(bytes.len() as u64, Relaxed);
            }
            // Returns when the sender is dropped.
            let _: Result<(), _> = may_go_on.recv();
            stdout.read_to_end(&mut bytes).expect("a pipe can be read");
            bytes
        });
        Taker { taken, go_on, bytes }
    }
}

impl Taker {
    /// Returns the number of bytes read so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Reads the rest and returns all bytes.
    pub fn rest(self) -> Vec<u8> {
        drop(self.go_on);
        self.bytes.join().expect("the thread does not panic")
    }
}
