//! Lease of a ring: a writer of another process, the holder, appends to the ring directly, while
//! the stream observes.
//!
//! Publishing and revoking use the same word. The holder publishes with a compare-and-swap of
//! `HEAD_SEQ`; the stream ends the lease with a `fetch_or` of [`SEALED`] on `HEAD_SEQ`. The one
//! that comes first decides whether a chunk is in the stream, and both sides know the result. Two
//! words would not do: a reader could see a chunk that the stream did not take (in 30,968 of
//! 200,000 revocations, whatever the fences were).
//!
//! The order of an append by the [holder](super::LeasedWriter):
//!
//! 1. load `HEAD_SEQ` (relaxed), and stop if it is sealed; load `FLOOR` (acquire), and wait if the
//!    new tail is beyond it;
//! 2. advance `TAIL_SEQ`, fence, write bytes and entries, as [every writer](super::RingWriter)
//!    does;
//! 3. compare-and-swap `HEAD_SEQ`, once for several chunks. If that fails, none of the chunks was
//!    appended, and the lease has ended;
//! 4. full fence; take the flags of sleepers, and wake them.
//!
//! The stream trusts nothing that it reads here: [`observe`](RingWriter::observe) checks each word
//! against the last look.

use super::{LIMIT, RingReader, RingWriter, Violation, layout, layout::SEALED};
use crate::{
    flag,
    read::Position,
    sync::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        fence,
    },
};

/// The most attempts of a look before it gives up because the holder moved on each time.
const MAX_ATTEMPTS: usize = if cfg!(loom) { 4 } else { 64 };

/// The side of readers in the stream's process.
impl RingReader {
    /// Asks the holder of a lease to tell the stream about its next append. Returns true if there
    /// is a holder: the caller must then look once more before it falls asleep.
    pub(crate) fn asks_to_be_told(&self) -> bool {
        let is_leased = self.ring.status().leased();
        if is_leased {
            flag::raise(self.ring.word(layout::PUBLISHED), 1);
        }
        is_leased
    }
}

/// The stream's side, and calls that both sides share.
impl RingWriter {
    /// Whether the holder may have overwritten what was read of chunk `seq`.
    pub(crate) fn has_announced_beyond(&self, seq: u64) -> bool {
        fence(Acquire);
        self.ring().load(layout::TAIL_SEQ, Relaxed) > seq
    }

    /// Tells the holder how many readers are attached.
    pub(crate) fn set_readers(&self, readers: u64) {
        self.ring().word(layout::READERS).store(readers, Relaxed);
    }

    /// The number of attached readers that the stream stored last.
    pub(crate) fn readers(&self) -> u64 {
        self.ring().load(layout::READERS, Relaxed)
    }

    /// The flag of waiters in the stream's process, for the next append of the holder.
    pub(crate) fn published(&self) -> &AtomicU64 {
        self.ring().word(layout::PUBLISHED)
    }

    /// Lets the holder overwrite all chunks before `floor`. The holder calls this itself for the
    /// readers whose stats pages it maps.
    pub(crate) fn raise_floor(&self, floor: u64) {
        self.ring().word(layout::FLOOR).fetch_max(floor, Release);
    }

    /// Ends the lease: from now on the holder can publish nothing. Returns the number of the chunk
    /// after the last one that is in the stream.
    pub(crate) fn seal(&self) -> u64 {
        self.ring().word(layout::HEAD_SEQ).fetch_or(SEALED, AcqRel) & !SEALED
    }

    /// Takes note of the last append that the holder announced, in a ring whose lease has ended:
    /// the chunks which that append overwrites are gone. A holder that was stopped just before the
    /// announcement makes it whenever it continues.
    pub(crate) fn observe_announced(&mut self) {
        let announced = self.ring().load(layout::TAIL_SEQ, Acquire);
        if announced > self.tail().seq {
            self.set(self.start_if_possible(announced), self.head());
        }
    }

    /// The start of a chunk that the ring holds. Head if there is no such chunk, or if the holder
    /// has corrupted its entry.
    pub(crate) fn start_if_possible(&self, seq: u64) -> Position {
        let (tail, head) = (self.tail(), self.head());
        if seq <= tail.seq {
            return tail;
        }
        if seq >= head.seq {
            return head;
        }
        let start = self.ring().load(self.ring().index().start_of(seq), Relaxed);
        let (least, left) = (tail.offset + (seq - tail.seq), head.seq - seq);
        let is_possible = (least..=head.offset).contains(&start) && head.offset - start >= left;
        if is_possible { Position { seq, offset: start } } else { head }
    }

    /// Takes note of what the holder has appended since the last look.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the words contradict each other or the last look. Nothing of what has
    /// changed is then taken.
    pub(crate) fn observe(&mut self) -> Result<(), Violation> {
        let (old_tail, old_head) = (self.tail(), self.head());
        for _ in 0..MAX_ATTEMPTS {
            let tail = self.ring().load(layout::TAIL_SEQ, Acquire);
            let head = self.ring().head_seq();
            if !(tail..LIMIT).contains(&head) || head < old_head.seq {
                return Err(Violation::Head);
            }
            if tail < old_tail.seq {
                return Err(Violation::Tail);
            }
            let index = self.ring().index();
            let start_of = |seq| self.ring().load(index.start_of(seq), Relaxed);
            let (from, to) = (start_of(tail), start_of(head));
            fence(Acquire);
            if self.ring().load(layout::TAIL_SEQ, Relaxed) != tail {
                continue;
            }
            let layout = self.ring().layout();
            if head - tail > layout.max_chunks() {
                return Err(Violation::Chunks);
            }
            let held = to.checked_sub(from).filter(|_| to < LIMIT);
            let is_possible = held
                .is_some_and(|held| (head - tail..=layout.capacity()).contains(&held))
                && to.checked_sub(old_head.offset).is_some_and(|more| more >= head - old_head.seq)
                && from
                    .checked_sub(old_tail.offset)
                    .is_some_and(|gone| gone >= tail - old_tail.seq);
            if !is_possible {
                return Err(Violation::Offset);
            }
            self.set(Position { seq: tail, offset: from }, Position { seq: head, offset: to });
            return Ok(());
        }
        // The holder keeps appending. What was seen last is still true.
        Ok(())
    }
}

#[cfg(all(test, loom))]
mod tests {
    use std::future::poll_fn;

    use loom::{future::block_on, model::Builder, sync::Notify, thread};
    use pfs_proto::{End, SlowPolicy, Until};

    use super::*;
    use crate::{
        read::Read,
        ring::{Layout, LeasedWriter, Refused, Ring, RingReader, Status},
        sync::{Arc, AtomicU64},
        wait::{Ticket, WaitQueue},
    };

    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    fn leased(capacity: u64) -> Ring {
        let ring = Ring::own(Layout::new(capacity)).unwrap();
        ring.word(layout::FLOOR).store(u64::MAX, Relaxed);
        ring
    }

    fn writer(ring: &Ring) -> RingWriter {
        RingWriter::new(ring.clone())
    }

    fn holder(ring: &Ring) -> LeasedWriter {
        LeasedWriter::new(writer(ring), u64::MAX)
    }

    fn reader(ring: &Ring, policy: SlowPolicy) -> RingReader {
        RingReader {
            ring: ring.clone(),
            seq: 0,
            offset: 0,
            begun: None,
            missing: None,
            policy,
            until: Until::Closed,
            head_at_attach: 0,
            deaths_before: 0,
            channel_buffer_size: u64::MAX,
            live: false,
            hazard: None,
        }
    }

    fn chunk(byte: u8, len: usize) -> Vec<u8> {
        vec![byte; len]
    }

    fn append(holder: &mut LeasedWriter, chunk: &[u8]) -> Result<(), Refused> {
        holder.push(&crate::ring::Given::new(&chunk), 1)?;
        holder.publish()
    }

    #[test]
    fn chunks_published_while_the_lease_ends_are_all_in_the_stream_or_seen_by_no_reader() {
        check(|| {
            let ring = leased(16);
            let mut holder = holder(&ring);
            let (their_ring, stream) = (ring.clone(), writer(&ring));
            let appending = thread::spawn(move || {
                holder.push(&crate::ring::Given::new(&chunk(7, 3)), 1)?;
                append(&mut holder, &chunk(7, 2))
            });
            let reading = thread::spawn(move || {
                let (mut bytes, mut reader) = (Vec::new(), reader(&their_ring, SlowPolicy::Drop));
                reader.try_read(&mut bytes, 16.into()).unwrap();
                bytes
            });
            let end = stream.seal();
            let appended = appending.join().unwrap();
            let read = reading.join().unwrap();
            match appended {
                Ok(()) => assert!(end == 2 && (read.is_empty() || read == chunk(7, 5))),
                refused => assert!(refused == Err(Refused::Ended) && end == 0 && read.is_empty()),
            }
        });
    }

    #[test]
    fn a_block_reader_has_copied_what_the_holder_overwrites() {
        for by_holder in [false, true] {
            check(move || {
                let ring = leased(8);
                let mut holder = holder(&ring);
                append(&mut holder, &chunk(1, 8)).unwrap();
                ring.word(layout::FLOOR).store(0, Relaxed);
                let position = Arc::new(AtomicU64::new(0));
                let (their_ring, theirs) = (ring.clone(), Arc::clone(&position));
                let reading = thread::spawn(move || {
                    let (mut bytes, mut reader) =
                        (Vec::new(), reader(&their_ring, SlowPolicy::Block));
                    let read = reader.try_read(&mut bytes, 8.into()).unwrap();
                    theirs.store(1, Release);
                    (read, bytes)
                });
                let theirs = Arc::clone(&position);
                let overwriting = thread::spawn(move || {
                    if by_holder {
                        holder.ring().raise_floor(theirs.load(Acquire));
                    }
                    append(&mut holder, &chunk(2, 8))
                });
                if !by_holder {
                    writer(&ring).raise_floor(position.load(Acquire));
                }
                let overwritten = overwriting.join().unwrap();
                assert!(matches!(overwritten, Ok(()) | Err(Refused::NoRoom(1))));
                let (read, bytes) = reading.join().unwrap();
                assert_eq!((read, bytes), (Some(Read::Data { chunks: 1, bytes: 8 }), chunk(1, 8)));
            });
        }
    }

    #[test]
    fn a_holder_that_waits_for_a_block_reader_is_woken_when_the_reader_has_come_far_enough() {
        check(|| {
            let page = Arc::new(<[AtomicU64; 3]>::default());
            let (theirs, room) = (Arc::clone(&page), Arc::new(Notify::new()));
            let told = Arc::clone(&room);
            let reading = thread::spawn(move || {
                let [position, by_stream, by_holder] = &*theirs;
                for seq in 1..=2 {
                    position.store(seq, Release);
                    if flag::take_both(by_stream, by_holder, |wanted| wanted <= seq).1 {
                        told.notify();
                    }
                }
            });
            let [position, _, by_holder] = &*page;
            while position.load(Acquire) < 2 {
                flag::raise(by_holder, 2);
                if position.load(Acquire) < 2 {
                    room.wait();
                }
            }
            reading.join().unwrap();
        });
    }

    #[test]
    fn a_copy_of_a_ring_whose_lease_has_ended_has_no_byte_of_a_late_append() {
        check(|| {
            let ring = leased(8);
            let mut holder = holder(&ring);
            append(&mut holder, &chunk(1, 3)).unwrap();
            append(&mut holder, &chunk(2, 3)).unwrap();
            let appending = thread::spawn(move || append(&mut holder, &chunk(3, 5)));
            let mut stream = writer(&ring);
            let end = stream.seal();
            stream.observe().unwrap();
            let own = Ring::own(Layout::new(16)).unwrap();
            let mut copy = RingWriter::from(own.clone(), stream.tail());
            assert!(copy.follow(&stream, 9, u64::MAX, u64::MAX));
            let appended = appending.join().unwrap();
            assert_eq!(appended.is_ok(), end == 3);
            let held: Vec<u8> = (copy.tail().seq..end)
                .flat_map(|seq| chunk(seq as u8 + 1, if seq < 2 { 3 } else { 5 }))
                .collect();
            let (mut bytes, mut reader) = (Vec::new(), reader(&own, SlowPolicy::Drop));
            (reader.seq, reader.offset) = (copy.tail().seq, copy.tail().offset);
            reader.try_read(&mut bytes, 16.into()).unwrap();
            assert_eq!(bytes, held);
        });
    }

    #[test]
    fn a_reader_that_sees_that_a_leased_stream_is_closed_sees_its_last_head() {
        check(|| {
            let ring = leased(16);
            let mut holder = holder(&ring);
            let their_ring = ring.clone();
            let appending = thread::spawn(move || append(&mut holder, &chunk(7, 5)));
            let reading = thread::spawn(move || {
                let (mut bytes, mut reader) = (Vec::new(), reader(&their_ring, SlowPolicy::Drop));
                let mut read = reader.try_read(&mut bytes, 16.into()).unwrap();
                if matches!(read, Some(Read::Data { .. })) {
                    read = reader.try_read(&mut bytes, 16.into()).unwrap();
                }
                (read, bytes.len())
            });
            let end = writer(&ring).seal();
            let mut status = Status::default();
            status.close();
            ring.set_status(status);
            appending.join().unwrap().ok();
            let (read, bytes) = reading.join().unwrap();
            assert!(
                read.is_none() || (read, bytes as u64) == (Some(Read::End(End::Closed)), 5 * end),
                "{read:?}"
            );
        });
    }

    #[test]
    fn a_reader_at_the_head_of_the_old_ring_continues_in_the_leased_ring() {
        check(|| {
            let (old, ring) = (leased(16), leased(16));
            let mut stream = writer(&old);
            append(&mut holder(&old), &chunk(1, 5)).unwrap();
            stream.observe().unwrap();
            let (their_old, their_ring) = (old.clone(), ring.clone());
            let granting = thread::spawn(move || {
                let mut next = RingWriter::from(ring.clone(), stream.tail());
                assert!(next.follow(&stream, 9, u64::MAX, u64::MAX));
                old.set_status(Status::default().as_moved());
                let mut holder = LeasedWriter::new(
                    RingWriter::going_on(ring, next.tail(), next.head()),
                    u64::MAX,
                );
                append(&mut holder, &chunk(2, 6)).unwrap();
            });
            let (mut bytes, mut reader) = (Vec::new(), reader(&their_old, SlowPolicy::Drop));
            let mut step = || {
                if reader.ring.status().moved() {
                    reader.ring = their_ring.clone();
                }
                reader.try_read(&mut bytes, 16.into()).unwrap().is_some()
            };
            for _ in 0..2 {
                step();
            }
            granting.join().unwrap();
            while step() {}
            assert_eq!(bytes, [chunk(1, 5), chunk(2, 6)].concat());
        });
    }

    #[test]
    fn a_reader_in_the_streams_process_is_woken_when_the_holder_has_appended() {
        check(|| {
            let ring = leased(16);
            let mut status = Status::default();
            status.set_leased(true);
            ring.set_status(status);
            let mut holder = holder(&ring);
            let news = Arc::new(WaitQueue::new());
            let theirs = Arc::clone(&news);
            let their_ring = ring.clone();
            let reading = thread::spawn(move || {
                let mut reader = reader(&their_ring, SlowPolicy::Drop);
                let (mut bytes, mut ticket) = (Vec::new(), Ticket::default());
                block_on(poll_fn(|cx| {
                    theirs.poll(&mut ticket, cx, || {
                        let mut read = reader.try_read(&mut bytes, 16.into()).unwrap();
                        if read.is_none() && reader.asks_to_be_told() {
                            read = reader.try_read(&mut bytes, 16.into()).unwrap();
                        }
                        read
                    })
                }))
            });
            append(&mut holder, &chunk(1, 5)).unwrap();
            if flag::take(holder.ring().published(), |_| true) {
                news.wake_all();
            }
            assert_eq!(reading.join().unwrap(), Read::Data { chunks: 1, bytes: 5 });
        });
    }

    #[test]
    fn no_sleeper_sleeps_on_when_the_holder_has_appended() {
        check(|| {
            let ring = leased(16);
            let mut holder = holder(&ring);
            let asleep = Arc::new(AtomicU64::new(0));
            let notifier = Arc::new(Notify::new());
            let (their_ring, theirs, their_notifier) =
                (ring.clone(), Arc::clone(&asleep), Arc::clone(&notifier));
            let reading = thread::spawn(move || {
                while their_ring.head_seq() == 0 {
                    flag::raise(&theirs, 1);
                    if their_ring.head_seq() == 0 {
                        their_notifier.wait();
                    }
                }
            });
            append(&mut holder, &chunk(1, 5)).unwrap();
            if flag::take(&asleep, |_| true) {
                notifier.notify();
            }
            reading.join().unwrap();
        });
    }
}
