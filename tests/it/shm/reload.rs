//! Shm readers of a daemon that reloads its limits.

use std::{fs::File, os::fd::AsFd as _};

use harness::{Daemon, eventually};
use pfs_proto::{ReadOptions, SlowPolicy};
use pfs_stream::{Read, shm::ShmReader};

use super::{Handed, S, handed};

#[test]
fn a_block_reader_copies_every_chunk_out_of_the_ring_once_a_time_limit_is_set() {
    let daemon = Daemon::start();
    daemon.create(S);
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let Handed { wire: _wire, start, ring, page } = handed(&daemon, S, options);
    let mut reader = ShmReader::open(ring, page, &start).unwrap();
    let output = File::options().write(true).open("/dev/null").unwrap();
    let mut passes_on = || {
        daemon.append(S, "chunk");
        reader.try_write_to(output.as_fd(), 1, 1).unwrap()
    };
    assert_eq!(passes_on(), Some(Read::Data { chunks: 1, bytes: 5 }));
    daemon.reload("[limits]\nmax_block_time = \"30s\"\n").exits(0);
    // With a time limit, the daemon may give the reader up at any time, so the reader must copy
    // each chunk: bytes in a pipe could not be taken back.
    eventually("it has to copy", || passes_on().is_none());
    let mut chunk = Vec::new();
    assert_eq!(reader.try_read(&mut chunk, 1).unwrap(), Some(Read::Data { chunks: 1, bytes: 5 }));
    assert_eq!(chunk, b"chunk");
}
