//! Late holders: stopped before they announced an append, and continuing after the end of their
//! lease.

use std::sync::atomic::Ordering::Relaxed;

use pfs_stream::*;

use super::{Shm, append, begin, chunk, hostile::words, map, own, stream};

/// The word with the number of the oldest chunk.
const TAIL: usize = 16;

#[test]
fn a_reader_that_joins_after_a_late_announcement_starts_where_the_ring_begins_then() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let offer = writer.offer_lease().unwrap();
    let (words, mapped) = (words(&own(offer.ring())), map(&offer));
    let mut holder = begin(mapped, &writer.grant_lease(offer).unwrap());
    for _ in 0..4 {
        append(&mut holder, 1000).unwrap();
    }
    let _other =
        stream.reader(ReadOptions { policy: SlowPolicy::Block, ..Default::default() }).unwrap();
    // The holder had checked that its lease continues, and now announces that it overwrites three
    // chunks.
    words[TAIL].store(3, Relaxed);
    let late = |start| {
        let mut reader = stream.reader(ReadOptions { start, ..Default::default() }).unwrap();
        let (mut bytes, mut gap) = (Vec::new(), None);
        while let Some(read) = reader.try_read(&mut bytes, 10_000).unwrap() {
            if let Read::Gap { from, to, .. } = read {
                gap = Some((from, to));
            }
        }
        (reader.start(), gap, bytes == chunk(3000, 1000))
    };
    assert_eq!(late(Start::Oldest), (3000, None, true));
    assert_eq!(late(Start::Offset(500)), (500, Some((500, 3000)), true));
    assert_eq!((stream.extent().tail, stream.stat().chunks_held), (3000, 1));
    assert!(Shm::new(&stream).read() == chunk(3000, 1000));
}

#[test]
fn a_stream_leaves_a_corrupt_ring_as_soon_as_the_corruption_is_found() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let offer = writer.offer_lease().unwrap();
    let (words, mapped) = (words(&own(offer.ring())), map(&offer));
    let mut holder = begin(mapped, &writer.grant_lease(offer).unwrap());
    append(&mut holder, 1000).unwrap();
    append(&mut holder, 1000).unwrap();
    let before = stream.stat();
    assert_eq!(before.head, 2000);
    words[TAIL].store(5, Relaxed);
    assert_eq!((stream.stat().head, stream.stat().moves), (2000, before.moves + 1));
}
