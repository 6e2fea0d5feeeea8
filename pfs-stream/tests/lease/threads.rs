//! Holders, other writers and readers in separate threads.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use pfs_stream::{
    lease::{Holder, HolderError},
    *,
};

use super::{Shm, append_chunk, begin, lease, map, stream};

/// A chunk that contains its writer, its number and its length.
fn numbered(writer: u64, number: u64) -> Vec<u8> {
    let len = 24 + (writer ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 700;
    let mut chunk = [writer, number, len].map(u64::to_ne_bytes).concat();
    chunk.resize(len as usize, writer as u8 ^ number as u8);
    chunk
}

/// What a reader has seen of each of two writers.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// The next chunk of each writer, unless the reader began in the middle or has lost chunks
    /// since.
    next: [Option<u64>; 2],
    chunks: u64,
}

impl Seen {
    /// Takes whole chunks, which must be consecutive unless chunks were lost before.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
            let (writer, number, len) = (word(0), word(8), word(16) as usize);
            assert!(
                bytes[..len] == numbered(writer, number),
                "chunk {number} of {writer} is wrong"
            );
            let next = &mut self.next[writer as usize];
            assert!(
                next.is_none_or(|next| next == number),
                "{number} of {writer} in place of {next:?}"
            );
            (*next, self.chunks, bytes) = (Some(number + 1), self.chunks + 1, &bytes[len..]);
        }
    }
}

impl Seen {
    /// A reader that starts at the first chunk.
    fn all() -> Self {
        Self { next: [Some(0); 2], chunks: 0 }
    }

    fn lose(&mut self, chunks: u64) {
        (self.next, self.chunks) = ([None; 2], self.chunks + chunks);
    }
}

/// Removes the stream when a thread of a test has panicked, because the other threads would wait
/// for it.
struct RemovedAtPanic<'a>(&'a Stream);

impl Drop for RemovedAtPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.remove();
        }
    }
}

/// Appends like a process that uses leases: through the stream while there is no lease.
struct Leasing<'a> {
    writer: Writer,
    holder: Option<Holder>,
    leases: &'a AtomicU64,
}

impl Leasing<'_> {
    fn append(&mut self, chunk: &[u8]) {
        while let Some(holder) = &mut self.holder {
            match append_chunk(holder, chunk) {
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
                    // The end may be reported a moment later.
                    let end = pollster::block_on(std::future::poll_fn(|cx| {
                        self.writer.poll_lease_end(cx)
                    }));
                    assert_eq!((end.chunks, end.violation), (holder.published(), None));
                    self.holder = None;
                }
                Err(other) => panic!("{other}"),
            }
        }
        self.writer.append_blocking(chunk).unwrap();
    }

    fn try_lease(&mut self) {
        let Some(offer) = self.writer.offer_lease() else { return };
        let mapped = map(&offer);
        if let Some(grant) = self.writer.grant_lease(offer) {
            self.holder = Some(begin(mapped, &grant));
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
        // The lease ends each time another writer attaches, and now and then because of a `block`
        // reader.
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
                        Some(Read::Gap { .. }) => panic!("a block reader has lost data"),
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
                let notifier = there.reader.notifier();
                let (count, mut bytes) = (notifier.count(), Vec::new());
                match there.reader.try_read(&mut bytes, 20_000).unwrap() {
                    Some(Read::Data { .. }) => seen.take(&bytes),
                    Some(Read::Gap { chunks, .. }) => seen.lose(chunks),
                    Some(Read::End(_)) => return seen.chunks,
                    None if there.reader.has_to_follow() => {
                        let next = there.handout.follow().unwrap();
                        there.go_on(&next);
                    }
                    None => notifier.sleep(count, None),
                }
            }
        });
        let all = [here.join().unwrap(), there.join().unwrap()];
        assert_eq!(all, [stream.stat().chunks; 2]);
        assert!(stream.stat().chunks > CHUNKS);
    });
    assert!(leases.load(Relaxed) > 10, "{leases:?} leases");
}

/// A chunk so small that the index limits the ring.
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
            // The lease ends if the holder overwrites the ring so fast that a joining reader finds no
            // chunk to start at.
            while stop.load(Relaxed) == 0 && append_chunk(&mut holder, small(number)).is_ok() {
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
            let chunks = bytes
                .as_slice()
                .chunks(24)
                .map(|chunk| u64::from_ne_bytes(chunk[..8].try_into().unwrap()));
            let expected = chunks
                .clone()
                .next()
                .into_iter()
                .flat_map(|first| (first..).take(bytes.len() / 24));
            assert_eq!(bytes, expected.flat_map(small).collect::<Vec<_>>(), "{start:?}");
        }
        stop.store(1, Relaxed);
    });
}
