//! Room for a holder that has the stats pages of all `block` readers, and waits for them without
//! the stream.

use std::os::fd::OwnedFd;

use pfs_stream::{
    lease::{Holder, HolderError},
    *,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{SIZE, Shm, append, begin, chunk, map, own, read, stream};

const BLOCK: fn() -> ReadOptions =
    || ReadOptions { policy: SlowPolicy::Block, ..Default::default() };

/// A lease, and the event counter that readers add to.
fn lease(writer: &mut Writer) -> (Holder, OwnedFd) {
    let offer = writer.offer_lease().unwrap();
    let (mapped, room) = (map(&offer), own(offer.wake_files()[1]));
    (begin(mapped, &writer.grant_lease(offer).unwrap()), room)
}

/// Whether a reader has added to the counter. Resets the counter to 0.
fn is_told(room: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = poll(&mut [PollFd::new(room, PollFlags::IN)], Some(&now)).unwrap() == 1;
    is_ready && rustix::io::read(room, &mut [0; 8]).unwrap() == 8
}

/// Appends as long as there is room. Returns the chunk that readers must then reach.
fn fill(holder: &mut Holder) -> u64 {
    loop {
        match append(holder, SIZE / 16) {
            Ok(_) => {}
            Err(HolderError::Full { up_to }) => return up_to,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_reader_wakes_the_holder_when_it_has_made_a_good_part_of_the_ring_free() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let (mut slow, mut fast) = (Shm::with(&stream, BLOCK()), Shm::with(&stream, BLOCK()));
    let (mut holder, room) = lease(&mut writer);
    for shm in [&mut slow, &mut fast] {
        shm.read();
    }
    let up_to = fill(&mut holder);
    assert!(holder.waits_for_room(up_to) && holder.asks_readers());
    assert_eq!(fast.read().len() as u64, SIZE);
    assert!(!is_told(&room), "the other reader is slower");
    let some = |shm: &mut Shm| shm.reader.try_read(&mut Vec::new(), SIZE as usize / 16).unwrap();
    some(&mut slow);
    assert!(!slow.reader.room_is_wanted() && !is_told(&room), "one chunk is not enough");
    append(&mut holder, SIZE / 16).unwrap();
    fast.read();
    let up_to = fill(&mut holder);
    assert!(holder.waits_for_room(up_to));
    for _ in 0..4 {
        some(&mut slow);
    }
    assert!(!slow.reader.room_is_wanted(), "the stream waits for no reader");
    assert!(is_told(&room));
    assert!(!holder.waits_for_room(up_to));
    for _ in 0..4 {
        append(&mut holder, SIZE / 16).unwrap();
    }
    fill(&mut holder);
    let rest = slow.read();
    assert!(rest == chunk(5 * SIZE / 16, SIZE), "no chunk was overwritten");
}

#[test]
fn a_holder_no_longer_waits_for_a_reader_that_left_or_was_given_up() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let (gone, _given_up) = (Shm::with(&stream, BLOCK()), Shm::with(&stream, BLOCK()));
    let (mut holder, _room) = lease(&mut writer);
    let up_to = fill(&mut holder);
    assert!(holder.waits_for_room(up_to));
    drop(gone);
    assert!(holder.waits_for_room(up_to), "another reader is there");
    let blockers = writer.blockers();
    let mut waits = Box::pin(writer.room_for_holder(up_to));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    assert!(blockers.give_up_slowest().is_some());
    assert!(!holder.waits_for_room(up_to));
    append(&mut holder, SIZE).unwrap();
    append(&mut holder, SIZE).unwrap();
}

#[test]
fn a_holder_asks_the_stream_if_one_block_reader_has_no_page() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let (mut there, mut here) = (Shm::with(&stream, BLOCK()), stream.reader(BLOCK()).unwrap());
    let (mut holder, _room) = lease(&mut writer);
    let up_to = fill(&mut holder);
    there.read();
    assert!(holder.waits_for_room(up_to) && !holder.asks_readers());
    read(&mut here);
    pollster::block_on(writer.room_for_holder(up_to));
    append(&mut holder, SIZE / 16).unwrap();
}

#[test]
fn a_block_reader_that_is_taken_back_ends_the_lease() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut there = Shm::with(&stream, BLOCK());
    let (mut holder, _room) = lease(&mut writer);
    append(&mut holder, 100).unwrap();
    assert_eq!(there.read().len(), 100);
    let mut here = there.handout.take_back();
    assert_eq!(append(&mut holder, 100), Err(HolderError::Ended));
    writer.try_append(chunk(100, 50)).unwrap();
    assert!(read(&mut here) == chunk(100, 50));
}
