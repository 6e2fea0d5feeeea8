//! Leases: what a writer with a lease, its stream and its readers are promised, with all sides in
//! one process.
#![cfg(all(target_os = "linux", not(any(loom, miri))))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not recognised by clippy

mod budget;
mod files;
mod hostile;
mod late;
mod room;
mod threads;

use std::{
    future::Future,
    os::fd::{BorrowedFd, OwnedFd},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
};

use pfs_stream::{
    lease::{Grant, Holder, HolderError, LeaseEnd, LeaseStart, MappedOffer, Offer},
    shm::{Handout, NextRing, ShmReader},
    *,
};

const SIZE: u64 = 64 * 1024;

fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
}

fn chunk(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(byte_at).collect()
}

fn stream() -> Stream {
    Stream::new("s", StreamConfig::default().buffer_size(SIZE)).unwrap()
}

/// A lease for the process that this writer represents.
fn lease(writer: &mut Writer) -> Holder {
    let offer = writer.offer_lease().unwrap();
    let mapped = map(&offer);
    begin(mapped, &writer.grant_lease(offer).unwrap())
}

fn own(file: BorrowedFd<'_>) -> OwnedFd {
    file.try_clone_to_owned().unwrap()
}

/// Maps an offer, like the other process.
fn map(offer: &Offer) -> MappedOffer {
    let [asleep, _] = offer.wake_files();
    MappedOffer::open(own(offer.ring()), own(asleep), offer.layout()).unwrap()
}

/// Makes a holder when the lease is granted, like the other process.
fn begin(mapped: MappedOffer, grant: &Grant) -> Holder {
    mapped.begin(grant.start(), grant.pages().map(own)).unwrap()
}

fn append(holder: &mut Holder, len: u64) -> Result<bool, HolderError> {
    let from = holder.offset();
    append_chunk(holder, chunk(from, len))
}

fn append_chunk(holder: &mut Holder, chunk: impl Chunk) -> Result<bool, HolderError> {
    holder.try_push(chunk)?;
    holder.publish()
}

/// An shm reader, and its host.
struct Shm {
    handout: Handout,
    reader: ShmReader,
}

impl Shm {
    fn new(stream: &Stream) -> Self {
        Self::with(stream, ReadOptions::default())
    }

    fn with(stream: &Stream, options: ReadOptions) -> Self {
        let handout = stream.reader(options).unwrap().hand_out(true).unwrap();
        let (ring, page) = (own(handout.ring().unwrap()), own(handout.page().unwrap()));
        let mut reader = ShmReader::open(ring, page, &handout.start()).unwrap();
        if let Some([asleep, room]) = handout.wake_files() {
            reader.wake_by(own(asleep), own(room)).unwrap();
        }
        Self { handout, reader }
    }

    fn go_on(&mut self, next: &NextRing) {
        self.reader.follow(next.file().try_clone_to_owned().unwrap(), next.layout()).unwrap();
        if let Some([asleep, room]) = next.wake_files() {
            self.reader.wake_by(own(asleep), own(room)).unwrap();
        }
    }

    /// Reads everything that is there now.
    fn read(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match self.reader.try_read(&mut bytes, 10_000).unwrap() {
                Some(Read::Data { .. }) => {
                    if self.reader.room_is_wanted() {
                        self.handout.made_room();
                    }
                }
                None if self.reader.has_to_follow() => {
                    let next = self.handout.follow().unwrap();
                    self.go_on(&next);
                }
                None => return bytes,
                Some(other) => panic!("{other:?}"),
            }
        }
    }
}

/// Reads everything that is there now, for a reader of this process.
fn read(reader: &mut Reader) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(read) = reader.try_read(&mut bytes, 10_000).unwrap() {
        assert!(matches!(read, Read::Data { .. }), "{read:?}");
    }
    bytes
}

#[test]
fn appends_of_a_lease_holder_are_read_by_all_readers_and_shown_by_stat() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    writer.try_append(chunk(0, 1000)).unwrap();
    let mut before = (stream.reader(ReadOptions::default()).unwrap(), Shm::new(&stream));
    assert_eq!((read(&mut before.0), before.1.read()), (chunk(0, 1000), chunk(0, 1000)));
    let mut holder = lease(&mut writer);
    let mut after = (stream.reader(ReadOptions::default()).unwrap(), Shm::new(&stream));
    append(&mut holder, 500).unwrap();
    append(&mut holder, 700).unwrap();
    for got in [read(&mut before.0), before.1.read()] {
        assert_eq!(got, chunk(1000, 1200));
    }
    for got in [read(&mut after.0), after.1.read()] {
        assert_eq!(got, chunk(0, 2200));
    }
    let stat = stream.stat();
    assert_eq!(
        (stat.head, stat.chunks, stat.writers[0].bytes, stream.bytes_written()),
        (2200, 3, 2200, 2200)
    );
    assert_eq!((stat.readers[0].lag, stream.extent().head), (0, 2200));
}

#[test]
fn pushed_chunks_are_in_the_stream_once_published_and_stay_with_the_holder_otherwise() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let (mut here, mut there) = (stream.reader(ReadOptions::default()).unwrap(), Shm::new(&stream));
    let push = |holder: &mut Holder, len| holder.try_push(chunk(holder.offset(), len));
    for len in [100, 3, 50_000] {
        push(&mut holder, len).unwrap();
    }
    assert!(holder.should_publish());
    assert_eq!((stream.stat().head, read(&mut here).len(), there.read().len()), (0, 0, 0));
    holder.publish().unwrap();
    assert!(!holder.should_publish());
    let all = chunk(0, 50_103);
    assert!(read(&mut here) == all && there.read() == all);
    assert_eq!((stream.stat().chunks, holder.published()), (3, 3));

    // Across the end of the ring.
    push(&mut holder, 20_000).unwrap();
    push(&mut holder, 1).unwrap();
    assert_eq!((holder.pushed(), holder.published()), (5, 3));
    let end = writer.end_lease().unwrap();
    assert_eq!((end.chunks, end.offset), (3, 50_103));
    assert_eq!(push(&mut holder, 7), Err(HolderError::Ended));
    for _ in 0..2 {
        assert_eq!(holder.publish(), Err(HolderError::Ended));
        assert!(holder.unpublished().eq([Ok(chunk(50_103, 20_000)), Ok(chunk(70_103, 1))]));
    }
    assert_eq!((stream.stat().head, there.read().len()), (50_103, 0));
}

#[test]
fn chunks_published_at_once_do_not_make_a_live_reader_lag_too_far() {
    let config = StreamConfig::default().ring_buffer_size(SIZE).channel_buffer_size(4096);
    let stream = Stream::new("s", config).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let options =
        ReadOptions { start: Start::New, policy: SlowPolicy::Disconnect, ..Default::default() };
    let mut reader = stream.reader(options).unwrap();
    assert!(read(&mut reader).is_empty());
    for from in [0, 3000, 6000] {
        holder.try_push(chunk(from, 3000)).unwrap();
        assert!(holder.should_publish());
        // A second chunk of this size would be too much together with the first one.
        assert_eq!(
            (holder.published(), read(&mut reader).len() as u64),
            (from / 3000, from.min(3000))
        );
    }
    holder.publish().unwrap();
    assert!(read(&mut reader) == chunk(6000, 3000));
}

#[test]
fn a_push_that_overwrites_pushed_chunks_publishes_them_first() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    for (len, published) in [(SIZE / 2, 0), (SIZE / 2, 0), (1, 2), (SIZE, 3)] {
        holder.try_push(chunk(holder.offset(), len)).unwrap();
        assert_eq!((holder.published(), stream.stat().chunks), (published, published));
    }
    // The chunk to be published already occupies its place.
    assert!(
        matches!(reader.try_read(&mut Vec::new(), 1), Ok(Some(Read::Gap { from: 0, to, chunks: 3 })) if to == SIZE + 1)
    );
    holder.publish().unwrap();
    assert!(read(&mut reader) == chunk(SIZE + 1, SIZE));
}

#[test]
fn an_append_by_another_writer_ends_the_lease_and_nothing_is_lost_or_doubled() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let (mut here, mut there) = (stream.reader(ReadOptions::default()).unwrap(), Shm::new(&stream));
    append(&mut holder, 3000).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(writer.poll_lease_end(&mut cx).is_pending());
    let mut other = stream.writer().unwrap();
    other.try_append(chunk(3000, 100)).unwrap();
    let end = writer.poll_lease_end(&mut cx);
    assert!(
        matches!(end, Poll::Ready(LeaseEnd { chunks: 1, offset: 3000, violation: None, .. })),
        "{end:?}"
    );
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    assert_eq!(holder.published(), 1);
    writer.try_append(chunk(3100, 200)).unwrap();
    assert_eq!((read(&mut here), there.read()), (chunk(0, 3300), chunk(0, 3300)));
    // The leased ring is no longer the stream's ring.
    assert!(writer.offer_lease().is_none(), "the stream has two writers");
    drop(other);
    assert!(writer.offer_lease().is_some());
}

#[test]
fn a_reader_that_cannot_follow_ends_a_lease_and_prevents_another_while_it_reads() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let hand_out = || stream.reader(ReadOptions::default()).unwrap().hand_out(false).unwrap();
    let stays = hand_out();
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    assert!(writer.offer_lease().is_none());
    drop(stays);
    let offered = writer.offer_lease().unwrap();
    let stays = hand_out();
    assert!(
        writer.grant_lease(offered).is_none(),
        "the append came between the offer and the grant"
    );
    drop(stays);
    append(&mut lease(&mut writer), 10).unwrap();
}

#[test]
fn a_close_or_a_removal_ends_the_lease_and_readers_get_all_earlier_appends() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let (mut here, mut there) = (stream.reader(ReadOptions::default()).unwrap(), Shm::new(&stream));
    append(&mut holder, 3000).unwrap();
    stream.close();
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    let mut bytes = Vec::new();
    here.try_read(&mut bytes, 10_000).unwrap();
    assert_eq!(
        (bytes, here.try_read(&mut Vec::new(), 1)),
        (chunk(0, 3000), Ok(Some(Read::End(End::Closed))))
    );
    let mut bytes = Vec::new();
    there.reader.try_read(&mut bytes, 10_000).unwrap();
    assert_eq!(there.reader.try_read(&mut bytes, 1), Ok(Some(Read::End(End::Closed))));
    assert_eq!(bytes, chunk(0, 3000));

    let stream = self::stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let mut there = Shm::new(&stream);
    append(&mut holder, 3000).unwrap();
    stream.remove();
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    assert_eq!(there.reader.try_read(&mut Vec::new(), 1), Err(ReadError::Removed));
}

#[test]
fn the_death_of_a_holder_counts_as_the_death_of_a_writer_and_its_appends_stay() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let until = ReadOptions { until: Until::WritersGone, ..Default::default() };
    let mut reader = stream.reader(until).unwrap();
    append(&mut holder, 3000).unwrap();
    drop(writer);
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    let mut bytes = Vec::new();
    reader.try_read(&mut bytes, 10_000).unwrap();
    assert_eq!(
        (bytes, reader.try_read(&mut Vec::new(), 1)),
        (chunk(0, 3000), Ok(Some(Read::End(End::WriterDied))))
    );
    // Another writer continues in a ring of the stream's own.
    stream.writer().unwrap().try_append(chunk(3000, 10)).unwrap();
    assert_eq!(stream.stat().head, 3010);
}

#[test]
fn a_holder_overwrites_what_no_block_reader_needs_and_waits_for_earlier_block_readers() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let mut reader = stream.reader(options).unwrap();
    let mut holder = lease(&mut writer);
    for _ in 0..4 {
        append(&mut holder, SIZE / 4).unwrap();
    }
    let full = append(&mut holder, 10);
    let Err(HolderError::Full { up_to }) = full else { panic!("{full:?}") };
    assert!(holder.waits_for_room(up_to));
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut room = pin!(writer.room_for_holder(up_to));
        assert!(room.as_mut().poll(&mut cx).is_pending());
        assert_eq!(read(&mut reader), chunk(0, SIZE));
        assert!(room.as_mut().poll(&mut cx).is_ready());
    }
    append(&mut holder, 10).unwrap();
    // A `block` reader that attaches later ends the lease.
    let mut late = stream.reader(options).unwrap();
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    assert_eq!(read(&mut late).len() as u64, SIZE / 4 * 3 + 10);
}

#[test]
fn a_block_reader_that_a_holder_waits_for_can_be_given_up() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let _reader = stream.reader(options).unwrap();
    let mut holder = lease(&mut writer);
    append(&mut holder, SIZE).unwrap();
    let Err(HolderError::Full { up_to }) = append(&mut holder, 10) else {
        panic!("the ring has no room")
    };
    assert!(holder.waits_for_room(up_to));
    let (blockers, mut cx) = (writer.blockers(), Context::from_waker(Waker::noop()));
    let mut room = pin!(writer.room_for_holder(up_to));
    assert!(room.as_mut().poll(&mut cx).is_pending());
    let given_up = blockers.give_up_slowest();
    assert_eq!(given_up.map(|it| (it.position, it.lag)), Some((0, SIZE)));
    assert!(room.as_mut().poll(&mut cx).is_ready());
    append(&mut holder, 10).unwrap();
}

#[test]
fn a_sleeping_reader_is_woken_by_the_holder_or_the_stream_is_told() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    assert_eq!(append(&mut holder, 10), Ok(false), "no writer waits");
    let mut there = Shm::new(&stream);
    assert_eq!(there.read().len(), 10);
    thread::scope(|scope| {
        let notifier = there.reader.notifier();
        let count = notifier.count();
        assert!(there.read().is_empty());
        scope.spawn(move || notifier.sleep(count, None));
        assert_eq!(append(&mut holder, 10), Ok(false));
    });
    let mut here = stream.reader(ReadOptions::default()).unwrap();
    assert_eq!(read(&mut here).len(), 20);
    assert_eq!(append(&mut holder, 10), Ok(true), "the stream must be told");
    assert_eq!(append(&mut holder, 10), Ok(false));
}

#[test]
fn a_wait_for_the_end_of_a_lease_is_woken_however_the_lease_ends() {
    type End = fn(&Stream);
    let ends: [End; 4] = [
        |stream| stream.writer().unwrap().try_append(b"x").unwrap(),
        |stream| stream.close(),
        |stream| stream.remove(),
        |stream| {
            let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
            drop(stream.reader(options).unwrap());
        },
    ];
    for end in ends {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        let _holder = lease(&mut writer);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(writer.poll_lease_end(&mut Context::from_waker(&waker)).is_pending());
        end(&stream);
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(writer.poll_lease_end(&mut Context::from_waker(&waker)).is_ready());
    }
}

#[derive(Default)]
struct Woken(AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn too_large_chunks_and_impossible_lease_starts_are_refused() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let refused = append_chunk(&mut holder, vec![0; SIZE as usize + 1]);
    assert_eq!(refused, Err(HolderError::TooLarge { size: SIZE + 1, max: SIZE }));
    assert_eq!(append_chunk(&mut holder, ""), Ok(false));
    append(&mut holder, SIZE).unwrap();
    assert_eq!(stream.stat().head, SIZE);
    drop(writer);

    let mut writer = stream.writer().unwrap();
    let offer = writer.offer_lease().unwrap();
    let all = std::array::from_fn::<_, 4, _>(|_| map(&offer));
    let start = writer.grant_lease(offer).unwrap().start();
    let changes: [fn(&mut LeaseStart); 4] = [
        |start| start.tail.0 = start.head.0 + 1,
        |start| start.head.1 = u64::MAX,
        |start| start.max_chunk = u64::MAX,
        |start| start.head.1 = start.tail.1 + 2 * SIZE,
    ];
    for (mapped, change) in all.into_iter().zip(changes) {
        let mut other = start;
        change(&mut other);
        assert!(mapped.begin(other, []).is_none(), "{other:?}");
    }
}

#[test]
fn the_append_after_a_lease_goes_to_another_ring_however_much_has_to_be_copied_first() {
    let stream = Stream::new("s", StreamConfig::default().buffer_size(4 * 1024 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    while holder.offset() < 3 * 1024 * 1024 {
        append(&mut holder, 1024 * 1024).unwrap();
    }
    let moves = stream.stat().moves;
    let mut other = stream.writer().unwrap();
    other.try_append(chunk(3 * 1024 * 1024, 10)).unwrap();
    assert_eq!(stream.stat().moves, moves + 1);
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    assert!(read(&mut reader) == chunk(0, (3 * 1024 * 1024) + 10));
}

#[test]
fn a_lease_takes_three_descriptors_and_is_not_offered_without_them() {
    let registry = Registry::with_descriptors(Limits::UNLIMITED, 2);
    let stream = registry.create("/s", StreamConfig::default().buffer_size(SIZE)).unwrap();
    let mut writer = stream.writer().unwrap();
    assert!(writer.offer_lease().is_none());
    registry.set_limits(Limits::UNLIMITED, 3);
    for _ in 0..3 {
        let mut holder = lease(&mut writer);
        append(&mut holder, 1000).unwrap();
        assert!(writer.offer_lease().is_none(), "the writer has a lease");
        writer.end_lease().unwrap();
        assert!(writer.offer_lease().is_some(), "the wake files are returned");
    }
}

#[test]
fn many_moves_past_stopped_readers_keep_two_rings_and_each_reader_reports_its_loss() {
    let registry = Registry::new(Limits::UNLIMITED);
    let stream = registry.create("/s", StreamConfig::default().buffer_size(SIZE)).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut stopped = Vec::new();
    let mut round = |stopped: &mut Vec<Shm>| {
        let mut holder = lease(&mut writer);
        // The ring wraps around once in three moves.
        append(&mut holder, SIZE / 3).unwrap();
        let mut reader = Shm::new(&stream);
        reader.read();
        stopped.push(reader);
        writer.end_lease().unwrap();
        writer.try_append(chunk(holder.offset(), 10)).unwrap();
    };
    round(&mut stopped);
    let one = registry.memory();
    for _ in 0..20 {
        round(&mut stopped);
    }
    assert!(stream.stat().moves > 40);
    assert!(registry.memory() < 2 * one, "{} bytes, but {one} with one reader", registry.memory());
    let (head, tail) = (stream.stat().head, stream.stat().tail);
    for mut shm in stopped {
        let (mut at, mut bytes) = (shm.reader.position(), Vec::new());
        loop {
            match shm.reader.try_read(&mut bytes, 10_000).unwrap() {
                Some(Read::Data { .. }) => {
                    assert!(bytes == chunk(at, bytes.len() as u64));
                    at += bytes.len() as u64;
                    bytes.clear();
                }
                Some(Read::Gap { from, to, .. }) => {
                    assert_eq!((from, to), (at, tail));
                    at = to;
                }
                None if shm.reader.has_to_follow() => {
                    let next = shm.handout.follow().unwrap();
                    shm.go_on(&next);
                }
                None => break,
                Some(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(at, head);
    }
}

#[test]
fn readers_that_a_stopped_holder_did_not_wake_are_woken_when_its_lease_ends() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut next = pin!(reader.next());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    append(&mut holder, 10).unwrap();
    assert_eq!(woken.0.load(Relaxed), 0);
    writer.end_lease().unwrap();
    assert_eq!(woken.0.load(Relaxed), 1);
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}
