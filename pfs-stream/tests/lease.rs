//! What a writer with a lease, its stream and its readers are promised, with all sides in one process.
#![cfg(all(target_os = "linux", not(any(loom, miri))))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know as such

use std::{
    future::Future,
    os::fd::AsFd,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
};

use pfs_stream::{
    lease::{Holder, HolderError, LeaseEnd, LeaseStart, Mapped},
    mapped::{Handout, MappedReader, NextRing},
    *,
};
use proptest::prelude::*;
use rustix::mm::{MapFlags, ProtFlags, mmap};

const SIZE: u64 = 64 << 10;

fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
}

fn chunk(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(byte_at).collect()
}

fn stream() -> Stream {
    Stream::new("s", StreamConfig::default().buffer_size(SIZE)).unwrap()
}

/// A lease for the process that this writer stands for.
fn lease(writer: &mut Writer) -> Holder {
    let offer = writer.offer_lease().unwrap();
    let [ring, asleep] = [offer.ring(), offer.asleep()].map(|file| file.try_clone_to_owned().unwrap());
    let mapped = Mapped::open(ring, asleep, offer.layout()).unwrap();
    mapped.begin(writer.grant_lease(offer).unwrap()).unwrap()
}

fn append(holder: &mut Holder, len: u64) -> Result<bool, HolderError> {
    let from = holder.offset();
    holder.try_append(chunk(from, len))
}

/// An shm reader, and its host.
struct Shm {
    handout: Handout,
    reader: MappedReader,
}

impl Shm {
    fn new(stream: &Stream) -> Self {
        let handout = stream.reader(ReadOptions::default()).unwrap().hand_out(true).unwrap();
        let own = |file: std::os::fd::BorrowedFd<'_>| file.try_clone_to_owned().unwrap();
        let (ring, page) = (own(handout.ring().unwrap()), own(handout.page().unwrap()));
        let mut reader = MappedReader::open(ring, page, &handout.start()).unwrap();
        if let Some(asleep) = handout.asleep() {
            reader.sleep_by(own(asleep)).unwrap();
        }
        Self { handout, reader }
    }

    fn go_on(&mut self, next: &NextRing) {
        self.reader.follow(next.file().try_clone_to_owned().unwrap(), next.layout()).unwrap();
        if let Some(asleep) = next.asleep() {
            self.reader.sleep_by(asleep.try_clone_to_owned().unwrap()).unwrap();
        }
    }

    /// All that there is now.
    fn read(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match self.reader.try_read(&mut bytes, 10_000).unwrap() {
                Some(Read::Data { .. }) => {}
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

/// All that there is now for a reader of this process.
fn read(reader: &mut Reader) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(read) = reader.try_read(&mut bytes, 10_000).unwrap() {
        assert!(matches!(read, Read::Data { .. }), "{read:?}");
    }
    bytes
}

#[test]
fn what_the_holder_of_a_lease_appends_is_read_by_everybody_and_shown_by_stat() {
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
fn an_append_of_anybody_else_ends_the_lease_and_nothing_is_lost_or_doubled() {
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
    assert!(matches!(end, Poll::Ready(LeaseEnd { chunks: 1, offset: 3000, violation: None, .. })), "{end:?}");
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    assert_eq!(holder.chunks(), 1);
    writer.try_append(chunk(3100, 200)).unwrap();
    assert_eq!((read(&mut here), there.read()), (chunk(0, 3300), chunk(0, 3300)));
    // The ring that it had is not the stream's any more.
    assert!(writer.offer_lease().is_none(), "there are two writers");
    drop(other);
    assert!(writer.offer_lease().is_some());
}

#[test]
fn a_reader_that_cannot_follow_ends_a_lease_and_keeps_another_from_being_granted_while_it_reads() {
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
    assert!(writer.grant_lease(offered).is_none(), "it came between the offer and the grant");
    drop(stays);
    append(&mut lease(&mut writer), 10).unwrap();
}

#[test]
fn a_close_or_a_removal_ends_the_lease_and_readers_get_all_that_was_appended_before() {
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
fn the_death_of_the_holder_is_that_of_a_writer_and_what_it_appended_stays() {
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
    // Another one goes on in a ring of the stream's own.
    stream.writer().unwrap().try_append(chunk(3000, 10)).unwrap();
    assert_eq!(stream.stat().head, 3010);
}

#[test]
fn a_holder_overwrites_what_no_block_reader_needs_and_waits_for_those_that_were_there_before() {
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
    // One that comes later ends the lease.
    let mut late = stream.reader(options).unwrap();
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    assert_eq!(read(&mut late).len() as u64, SIZE / 4 * 3 + 10);
}

#[test]
fn a_reader_that_sleeps_is_woken_by_the_holder_or_the_stream_is_told() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    assert_eq!(append(&mut holder, 10), Ok(false), "nobody waits");
    let mut there = Shm::new(&stream);
    assert_eq!(there.read().len(), 10);
    thread::scope(|scope| {
        let bell = there.reader.bell();
        let count = bell.count();
        assert!(there.read().is_empty());
        scope.spawn(move || bell.sleep(count, None));
        assert_eq!(append(&mut holder, 10), Ok(false));
    });
    let mut here = stream.reader(ReadOptions::default()).unwrap();
    assert_eq!(read(&mut here).len(), 20);
    assert_eq!(append(&mut holder, 10), Ok(true), "the stream is to be told");
    assert_eq!(append(&mut holder, 10), Ok(false));
}

#[test]
fn a_ring_that_the_holder_spoils_ends_its_lease_and_harms_nothing_else() {
    let registry = Registry::new(Limits::default());
    for word in 0..200 {
        for value in [0, 1, u64::MAX, 1 << 62, 1 << 63, 0x5555] {
            let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
            let mut writer = stream.writer().unwrap();
            let offer = writer.offer_lease().unwrap();
            let [ring, asleep] =
                [offer.ring(), offer.asleep()].map(|file| file.try_clone_to_owned().unwrap());
            let words = words(&ring);
            let mapped = Mapped::open(ring, asleep, offer.layout()).unwrap();
            let mut holder = mapped.begin(writer.grant_lease(offer).unwrap()).unwrap();
            let mut here = stream.reader(ReadOptions::default()).unwrap();
            for _ in 0..5 {
                append(&mut holder, 100).unwrap();
            }
            let _ = stream.stat();
            // The header's words, and then the first of the index.
            let at = if word < 128 { word } else { 512 + word - 128 };
            words[at].store(value, Relaxed);
            let _ = (stream.stat(), stream.extent(), stream.reader(ReadOptions::default()).map(drop));
            let _ = here.try_read(&mut Vec::new(), 1000);
            let _ = append(&mut holder, 100);
            let _ = stream.stat();
            let mut other = stream.writer().unwrap();
            other.try_append(b"goes on").unwrap();
            let mut late =
                stream.reader(ReadOptions { start: Start::Tail(7), ..Default::default() }).unwrap();
            let mut bytes = Vec::new();
            assert!(late.try_read(&mut bytes, 1000).is_ok(), "word {at}, {value:x}");
            assert_eq!(bytes, b"goes on", "word {at}, {value:x}");
            registry.remove("s");
        }
    }
    assert!(registry.is_empty());
}

/// The words of a file that may still be mapped for writing, now and later.
#[allow(unsafe_code, reason = "there is no safe way to ask for a mapping")]
fn words(file: &impl AsFd) -> &'static [AtomicU64] {
    let len = rustix::fs::fstat(file).unwrap().st_size as usize;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a mapping at an address of the kernel's choice, which is never unmapped, of a file that keeps its size.
    unsafe {
        let address = mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0).unwrap();
        std::slice::from_raw_parts(address.cast(), len / 8)
    }
}

/// What happens to a leased stream, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Spoil(usize, u64),
    Append(u64),
    Stat,
    Read(usize),
    Attach(SlowPolicy),
    Map,
    ReadThere,
    AppendHere(u64),
    Grant,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let word = prop_oneof![4 => 0..128_usize, 4 => 512..700_usize, 1 => 0..11_000_usize];
    let value = prop_oneof![
        Just(0),
        1..100_u64,
        any::<u64>(),
        (0..64_u32).prop_map(|bit| 1 << bit),
        Just(u64::MAX),
        Just((1 << 63) - 1)
    ];
    prop_oneof![
        6 => (word, value).prop_map(|(word, value)| Step::Spoil(word, value)),
        6 => (1..3000_u64).prop_map(Step::Append),
        2 => Just(Step::Stat),
        3 => (1..5000_usize).prop_map(Step::Read),
        1 => prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)].prop_map(Step::Attach),
        1 => Just(Step::Map),
        2 => Just(Step::ReadThere),
        1 => (1..3000_u64).prop_map(Step::AppendHere),
        2 => Just(Step::Grant),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #[test]
    fn whatever_a_holder_writes_nothing_that_is_done_with_its_stream_panics_or_goes_on_for_ever(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        let mut readers = vec![stream.reader(ReadOptions::default()).unwrap()];
        let (mut holders, mut there): (Vec<(Holder, &[AtomicU64])>, Vec<Shm>) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                // Also those that have ended: their processes may still write.
                Step::Spoil(word, value) => holders.iter().for_each(|(_, words)| {
                    words[word % words.len()].store(value, Relaxed);
                }),
                Step::Append(len) => holders.iter_mut().for_each(|(holder, _)| {
                    let _ = holder.try_append(vec![7; len as usize]);
                }),
                Step::Stat => {
                    let stat = stream.stat();
                    prop_assert!(stat.tail <= stat.head && stat.head - stat.tail <= stat.capacity);
                    prop_assert!(stat.chunks_held <= stat.head - stat.tail);
                }
                Step::Read(most) => readers.iter_mut().for_each(|reader| {
                    let _ = reader.try_read(&mut Vec::new(), most);
                }),
                Step::Attach(policy) => {
                    readers.extend(stream.reader(ReadOptions { policy, ..Default::default() }));
                }
                Step::Map => there.push(Shm::new(&stream)),
                Step::ReadThere => there.iter_mut().for_each(|shm| {
                    let _ = shm.reader.try_read(&mut Vec::new(), 1000);
                    if shm.reader.has_to_follow() && let Ok(next) = shm.handout.follow() {
                        shm.go_on(&next);
                    }
                }),
                Step::AppendHere(len) => _ = writer.try_append(vec![8; len as usize]),
                Step::Grant => {
                    let Some(offer) = writer.offer_lease() else { continue };
                    let [ring, asleep] = [offer.ring(), offer.asleep()].map(|file| file.try_clone_to_owned().unwrap());
                    let words = words(&ring);
                    let mapped = Mapped::open(ring, asleep, offer.layout()).unwrap();
                    if let Some(start) = writer.grant_lease(offer) {
                        holders.push((mapped.begin(start).unwrap(), words));
                    }
                }
                Step::Close => stream.close(),
            }
        }
        let stat = stream.stat();
        prop_assert!(stat.tail <= stat.head && stat.head - stat.tail <= stat.capacity);
    }
}

#[test]
fn who_waits_for_the_end_of_a_lease_is_woken_however_it_ends() {
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
fn a_chunk_that_the_stream_does_not_take_is_refused_and_a_start_that_cannot_be_begins_nothing() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let refused = holder.try_append(vec![0; SIZE as usize + 1]);
    assert_eq!(refused, Err(HolderError::TooLarge { size: SIZE + 1, max: SIZE }));
    assert_eq!(holder.try_append(""), Ok(false));
    append(&mut holder, SIZE).unwrap();
    assert_eq!(stream.stat().head, SIZE);
    drop(writer);

    let mut writer = stream.writer().unwrap();
    let offer = writer.offer_lease().unwrap();
    let mapped = || {
        let [ring, asleep] = [offer.ring(), offer.asleep()].map(|file| file.try_clone_to_owned().unwrap());
        Mapped::open(ring, asleep, offer.layout()).unwrap()
    };
    let all = [mapped(), mapped(), mapped(), mapped()];
    let start = writer.grant_lease(offer).unwrap();
    let changes: [fn(&mut LeaseStart); 4] = [
        |start| start.tail.0 = start.head.0 + 1,
        |start| start.head.1 = u64::MAX,
        |start| start.max_chunk = u64::MAX,
        |start| start.head.1 = start.tail.1 + 2 * SIZE,
    ];
    for (mapped, change) in all.into_iter().zip(changes) {
        let mut other = start;
        change(&mut other);
        assert!(mapped.begin(other).is_none(), "{other:?}");
    }
}

/// A chunk that says whose it is, which of them, and how long.
fn numbered(writer: u64, number: u64) -> Vec<u8> {
    let len = 24 + (writer ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 700;
    let mut chunk = [writer, number, len].map(u64::to_ne_bytes).concat();
    chunk.resize(len as usize, writer as u8 ^ number as u8);
    chunk
}

/// What a reader has seen of each of two writers.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// The next chunk of each, unless the reader began in the middle or has lost something since.
    next: [Option<u64>; 2],
    chunks: u64,
}

impl Seen {
    /// Takes whole chunks, which follow each other unless something was lost before.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
            let (writer, number, len) = (word(0), word(8), word(16) as usize);
            assert!(bytes[..len] == numbered(writer, number), "chunk {number} of {writer} is wrong");
            let next = &mut self.next[writer as usize];
            assert!(next.is_none_or(|next| next == number), "{number} of {writer} in place of {next:?}");
            (*next, self.chunks, bytes) = (Some(number + 1), self.chunks + 1, &bytes[len..]);
        }
    }
}

impl Seen {
    /// From the first chunk on.
    fn all() -> Self {
        Self { next: [Some(0); 2], chunks: 0 }
    }

    fn lose(&mut self, chunks: u64) {
        (self.next, self.chunks) = ([None; 2], self.chunks + chunks);
    }
}

/// Ends everybody when a thread of a test has panicked, for whom the others would wait.
struct RemovedAtPanic<'a>(&'a Stream);

impl Drop for RemovedAtPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.remove();
        }
    }
}

/// Appends as a process with a lease does: through the stream where there is none.
struct Leasing<'a> {
    writer: Writer,
    holder: Option<Holder>,
    leases: &'a AtomicU64,
}

impl Leasing<'_> {
    fn append(&mut self, chunk: &[u8]) {
        while let Some(holder) = &mut self.holder {
            match holder.try_append(chunk) {
                Ok(published) => {
                    if published {
                        self.writer.holder_published();
                    }
                    return;
                }
                Err(HolderError::Full { up_to }) if holder.waits_for_room(up_to) => {
                    pollster::block_on(self.writer.room_for_holder(up_to));
                }
                Err(HolderError::Full { .. }) => {}
                Err(HolderError::Ended) => {
                    // It may be said a moment later.
                    let end = pollster::block_on(std::future::poll_fn(|cx| self.writer.poll_lease_end(cx)));
                    assert_eq!((end.chunks, end.violation), (holder.chunks(), None));
                    self.holder = None;
                }
                Err(other) => panic!("{other}"),
            }
        }
        self.writer.append_blocking(chunk).unwrap();
    }

    fn try_lease(&mut self) {
        let Some(offer) = self.writer.offer_lease() else { return };
        let [ring, asleep] = [offer.ring(), offer.asleep()].map(|file| file.try_clone_to_owned().unwrap());
        let mapped = Mapped::open(ring, asleep, offer.layout()).unwrap();
        if let Some(start) = self.writer.grant_lease(offer) {
            self.holder = mapped.begin(start);
            self.leases.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn all_readers_get_every_chunk_once_and_in_order_while_leases_begin_and_end() {
    const CHUNKS: u64 = 30_000;
    let stream = stream();
    let leases = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        let (stream, leases, done) = (&stream, &leases, &done);
        let _end = RemovedAtPanic(stream);
        let mut here = stream.reader(ReadOptions::default()).unwrap();
        let mut there = Shm::new(stream);
        let mut leasing = Leasing { writer: stream.writer().unwrap(), holder: None, leases };
        scope.spawn(move || {
            let _end = RemovedAtPanic(stream);
            for number in 0..CHUNKS {
                if leasing.holder.is_none() && number % 50 == 0 {
                    leasing.try_lease();
                }
                leasing.append(&numbered(0, number));
            }
            done.store(1, Relaxed);
            leasing.writer.finish(Finish::KeepOpen);
        });
        // Each time another writer comes, and now and then a `block` reader, the lease ends.
        scope.spawn(move || {
            let mut number = 0;
            while done.load(Relaxed) == 0 {
                let mut writer = stream.writer().unwrap();
                for _ in 0..3 {
                    writer.append_blocking(numbered(1, number)).unwrap();
                    number += 1;
                }
                writer.finish(Finish::KeepOpen);
                let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
                let mut reader = stream.reader(options).unwrap();
                let mut seen = Seen::default();
                for _ in 0..20 {
                    let mut bytes = Vec::new();
                    match reader.try_read(&mut bytes, 20_000).unwrap() {
                        Some(Read::Gap { .. }) => panic!("a block reader has lost something"),
                        _ => seen.take(&bytes),
                    }
                    thread::yield_now();
                }
            }
            stream.close();
        });
        let here = scope.spawn(move || {
            let mut seen = Seen::all();
            loop {
                let mut bytes = Vec::new();
                match here.read_blocking(&mut bytes, 20_000).unwrap() {
                    Read::Data { .. } => seen.take(&bytes),
                    Read::Gap { chunks, .. } => seen.lose(chunks),
                    Read::End(_) => return seen.chunks,
                }
            }
        });
        let there = scope.spawn(move || {
            let mut seen = Seen::all();
            loop {
                let bell = there.reader.bell();
                let (count, mut bytes) = (bell.count(), Vec::new());
                match there.reader.try_read(&mut bytes, 20_000).unwrap() {
                    Some(Read::Data { .. }) => seen.take(&bytes),
                    Some(Read::Gap { chunks, .. }) => seen.lose(chunks),
                    Some(Read::End(_)) => return seen.chunks,
                    None if there.reader.has_to_follow() => {
                        let next = there.handout.follow().unwrap();
                        there.go_on(&next);
                    }
                    None => bell.sleep(count, None),
                }
            }
        });
        let all = [here.join().unwrap(), there.join().unwrap()];
        assert_eq!(all, [stream.stat().chunks; 2]);
        assert!(stream.stat().chunks > CHUNKS);
    });
    assert!(leases.load(Relaxed) > 10, "{leases:?} leases");
}

/// A chunk so small that the index is what limits a ring.
fn small(number: u64) -> Vec<u8> {
    [number, !number, number].map(u64::to_ne_bytes).concat()
}

#[test]
fn a_reader_that_joins_while_the_holder_overwrites_the_ring_starts_at_a_whole_chunk() {
    let stream = stream();
    let stop = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut writer = stream.writer().unwrap();
        let mut holder = lease(&mut writer);
        let _end = RemovedAtPanic(&stream);
        let stop = &stop;
        scope.spawn(move || {
            let mut number = 0;
            // The lease may end: the holder was too fast for a place to be found.
            while stop.load(Relaxed) == 0 && holder.try_append(small(number)).is_ok() {
                number += 1;
            }
            drop(writer);
        });
        for round in 0..20_000_u64 {
            let start = match round % 3 {
                0 => Start::Oldest,
                1 => Start::Since(std::time::Duration::from_millis(1)),
                _ => Start::New,
            };
            let mut reader = stream.reader(ReadOptions { start, ..Default::default() }).unwrap();
            let mut bytes = Vec::new();
            if let Err(error) = reader.try_read(&mut bytes, 2000) {
                stop.store(1, Relaxed);
                panic!("{start:?}: {error}");
            }
            let chunks =
                bytes.as_slice().chunks(24).map(|chunk| u64::from_ne_bytes(chunk[..8].try_into().unwrap()));
            let expected =
                chunks.clone().next().into_iter().flat_map(|first| (first..).take(bytes.len() / 24));
            assert_eq!(bytes, expected.flat_map(small).collect::<Vec<_>>(), "{start:?}");
        }
        stop.store(1, Relaxed);
    });
}

#[test]
fn the_append_after_a_lease_goes_to_another_ring_however_much_has_to_be_copied_first() {
    let stream = Stream::new("s", StreamConfig::default().buffer_size(4 << 20)).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    while holder.offset() < 3 << 20 {
        append(&mut holder, 1 << 20).unwrap();
    }
    let moves = stream.stat().moves;
    let mut other = stream.writer().unwrap();
    other.try_append(chunk(3 << 20, 10)).unwrap();
    assert_eq!(stream.stat().moves, moves + 1);
    assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    assert!(read(&mut reader) == chunk(0, (3 << 20) + 10));
}
