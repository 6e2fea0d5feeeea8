//! Readers of every kind that are lapped all the time: they never see a byte that does not belong
//! to its offset.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use harness::{Transport, deadline};
use pfs_client::{
    Chunks, Event, Finish, ReadOptions, WriteOptions,
    blocking::{Client, Reader},
};

use super::{daemon, endpoint, path};

/// Ring buffer size, in bytes: so small that the ring buffer is overwritten hundreds of times a
/// second, and so large that several readers are sent the same blocks.
const RING: u64 = 64 * 1024;

/// Returns the byte at this offset. Neighbors differ, and so do bytes of different laps at the
/// same place.
fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16) ^ (offset >> 24)) as u8
}

/// Reads to the end and returns the end offset. Adds one to `lapped` when the reader was lapped for
/// the first time.
fn follow(mut reader: Reader, lapped: &AtomicUsize) -> u64 {
    let mut chunks = Chunks::new();
    let mut came = 0;
    loop {
        let mut offset = reader.position();
        match reader.next_batch(&mut chunks).unwrap() {
            None => {
                for chunk in chunks.iter() {
                    let wrong =
                        (offset..).zip(chunk).find(|(offset, byte)| **byte != byte_at(*offset));
                    assert_eq!(wrong, None, "a byte that is not of its offset");
                    offset += chunk.len() as u64;
                    came += chunk.len() as u64;
                }
                assert_eq!(offset, reader.position());
            }
            Some(Event::Gap { from, to, .. }) => {
                assert_eq!((from, to), (offset, reader.position()));
                let first = reader.lost_bytes() == to - from;
                lapped.fetch_add(usize::from(first), Relaxed);
            }
            Some(Event::End { offset, .. }) => {
                assert_eq!(came + reader.lost_bytes(), offset);
                return offset;
            }
            Some(_) => {}
        }
    }
}

/// Appends chunks of all sizes up to an eighth of the ring buffer, and returns the new head.
fn append(client: &Client, mut head: u64) -> u64 {
    let mut writer = client.writer(path(), WriteOptions::default()).unwrap();
    for number in 0..2000 {
        let random = (head ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let len = 1 + random % if number % 100 < 50 { 100 } else { RING / 8 };
        let chunk: Vec<u8> = (head..head + len).map(byte_at).collect();
        if number % 2 == 0 { writer.append(&chunk) } else { writer.push(&chunk) }.unwrap();
        head += len;
    }
    assert_eq!(writer.finish(Finish::KeepOpen).unwrap(), head);
    head
}

#[test]
fn readers_of_every_kind_that_are_lapped_see_no_torn_byte_and_count_what_they_lost() {
    lapped_readers_see_no_torn_byte(Duration::ZERO);
}

/// Runs for at least `time`, and until all readers were lapped.
pub(crate) fn lapped_readers_see_no_torn_byte(time: Duration) {
    let until = Instant::now() + time;
    let daemon = daemon(RING);
    let client =
        |transport| Client::new(endpoint(&daemon, transport)).with_shm(transport == Transport::Shm);
    daemon.create(path().as_str());
    let lapped = AtomicUsize::new(0);
    thread::scope(|scope| {
        // Three readers of each kind, so that some share the daemon's copies.
        let reader = |transport| {
            let reader = client(transport).reader(path(), ReadOptions::default()).unwrap();
            assert_eq!(reader.is_shm(), transport == Transport::Shm);
            reader
        };
        let readers = [Transport::ALL; 3].concat().into_iter().map(reader);
        let readers: Vec<_> =
            readers.map(|reader| scope.spawn(|| follow(reader, &lapped))).collect();
        let mut head = 0;
        for transport in Transport::ALL.into_iter().cycle() {
            head = append(&client(transport), head);
            let over = Instant::now() >= until && lapped.load(Relaxed) == readers.len();
            // A reader that has ended has failed, which is reported below; the others must
            // end first.
            let failed = readers.iter().any(|reader| reader.is_finished());
            if over || failed || Instant::now() >= until + deadline() {
                break;
            }
        }
        client(Transport::Shm)
            .writer(path(), WriteOptions::default())
            .unwrap()
            .finish(Finish::Close)
            .unwrap();
        let count = readers.len();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), head);
        }
        assert_eq!(lapped.load(Relaxed), count, "readers that were lapped");
    });
}
