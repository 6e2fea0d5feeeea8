//! Actions of writers in a schedule, and checks of their results.

use std::task::Poll;

use pfs_stream::*;

use super::{Attached, BYTES, LARGE, Schedule, WRITERS};
use crate::{
    following::Following,
    ledger::Chunk,
    rings::{Before, Cause},
    starving,
    writing::{Waiting, Writing},
};

/// How chunks were appended.
#[derive(Clone, Copy)]
pub(super) struct How {
    before: Option<Before>,
    is_batch: bool,
    pub(super) is_starved: bool,
}

impl Schedule {
    pub(super) fn chunk(&mut self, len: u64) -> Chunk {
        self.marks += 1;
        Chunk { mark: self.marks, len }
    }

    pub(super) fn append(&mut self, at: usize) {
        let max = self.streams[at].ledger.config.max_chunk();
        let Some(who) = self.pick_writer(at) else {
            let is_leased = self.is_leased && !self.streams[at].writers.is_empty();
            return if is_leased && !self.random.one_in(32) {
                self.hold(at)
            } else {
                self.writer_joins(at)
            };
        };
        if self.written > BYTES {
            return;
        }
        let usual = self.streams[at].usual;
        let len = match self.random.below(16) {
            0 => self.random.of([0, max, max + 1]),
            1..4 => 1 + self.random.below(max.min(64 * 1024)),
            _ => 1 + self.random.below(usual),
        };
        let chunk = self.chunk(len);
        match self.random.below(8) {
            0 => self.append_all(at, who, usual),
            1..3 => self.append_and_wait(at, who, chunk),
            _ => self.try_append(at, who, chunk),
        }
        let is_read_here = !self.streams[at].readers.iter().any(Following::is_shm);
        if self.is_followed && is_read_here && self.before(at).is_some_and(|now| now.is_growing) {
            // Perhaps the ring that is being filled cannot be shared.
            self.hand_out(at);
        }
        if self.streams[at].ledger.closed && self.random.one_in(8) {
            // A writer that wants to continue creates another stream.
            self.remove(at);
        }
    }

    /// Appends through a writer that does not wait, if there is one.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(super) fn append_as_idle(&mut self, at: usize, len: u64) {
        if let Some(who) = self.pick_writer(at) {
            let chunk = self.chunk(len);
            self.try_append(at, who, chunk);
        }
    }

    /// A random writer that does not wait.
    fn pick_writer(&mut self, at: usize) -> Option<usize> {
        let writers = &mut self.streams[at].writers;
        let first = (!writers.is_empty()).then(|| self.random.index(writers.len()))?;
        (first..writers.len()).chain(0..first).find(|who| writers[*who].idle().is_some())
    }

    fn writer(&mut self, at: usize, who: usize) -> &mut Writer {
        self.streams[at].writers[who].idle().expect("the picked writer is idle")
    }

    pub(super) fn try_append(&mut self, at: usize, who: usize, chunk: Chunk) {
        let how = self.how(at, false);
        let writer = self.writer(at, who);
        let done = starving::during(how.is_starved, || writer.try_append(chunk.bytes()));
        self.tell(|| format!("append {chunk:?} to {at}: {done:?}"));
        self.check_append(at, &[chunk], how, done);
    }

    fn append_and_wait(&mut self, at: usize, who: usize, chunk: Chunk) {
        match self.streams[at].writers.swap_remove(who) {
            Writing::Idle(writer) => self.poll_writer(at, Waiting::new(writer, chunk)),
            // A writer does not wait while it may get a lease.
            other => self.streams[at].writers.push(other),
        }
    }

    fn append_all(&mut self, at: usize, who: usize, usual: u64) {
        // A ring with many small chunks is copied step by step, too.
        let is_large = self.streams[at].ledger.config.ring_buffer_size >= LARGE;
        let is_burst = is_large && self.random.one_in(2);
        let (count, most) = if is_burst {
            (200 + self.random.below(800), 90)
        } else {
            (1 + self.random.size(40), usual / 4 + 2)
        };
        let mut lens: Vec<_> = (0..count).map(|_| self.random.below(most)).collect();
        // It is not promised whether an append of no bytes ends a lease.
        lens[0] = lens[0].max(u64::from(self.streams[at].ledger.is_leased()));
        let chunks: Vec<_> = lens.into_iter().map(|len| self.chunk(len)).collect();
        let given: Vec<_> = chunks.iter().map(|chunk| chunk.bytes()).collect();
        let chunks: Vec<_> = chunks.into_iter().filter(|chunk| chunk.len > 0).collect();
        let how = self.how(at, true);
        let writer = self.writer(at, who);
        let done = starving::during(how.is_starved, || writer.try_append_all(&given));
        self.tell(|| format!("append {} chunks to {at}: {done:?}", chunks.len()));
        self.check_append(
            at,
            &chunks,
            how,
            done.and_then(|done| done.map(drop).ok_or(WriteError::Full)),
        );
    }

    /// How the next chunks are appended.
    pub(super) fn how(&mut self, at: usize, is_batch: bool) -> How {
        let is_starved = self.has_famines && self.random.one_in(4);
        How { before: self.before(at), is_batch, is_starved }
    }

    /// Checks that this result of an append is possible, and records it.
    pub(super) fn check_append(
        &mut self,
        at: usize,
        chunks: &[Chunk],
        how: How,
        done: Result<(), WriteError>,
    ) {
        let ledger = &mut self.streams[at].ledger;
        let bytes: u64 = chunks.iter().map(|chunk| chunk.len).sum();
        if !ledger.closed && !ledger.removed && (1..=ledger.config.max_chunk()).contains(&bytes) {
            ledger.end_lease();
        }
        let was_sealed = ledger.is_sealed();
        let stat = self.handle(at).map(|stream| stream.stat());
        let (How { before, is_batch, is_starved }, is_limited) = (how, self.is_limited);
        let is_read_elsewhere = self.streams[at].readers.iter().any(Following::is_shm);
        let most =
            self.streams[at].ledger.rings.max_chunks(self.streams[at].ledger.rings.current());
        self.note_moves(
            at,
            before,
            Cause {
                is_batch,
                is_read_elsewhere,
                is_starved,
                is_limited,
                is_lease: false,
                was_sealed,
            },
        );
        let Attached { ledger, readers, .. } = &mut self.streams[at];
        let len: u64 = chunks.iter().map(|chunk| chunk.len).sum();
        let max = ledger.config.max_chunk();
        let too_large = len > max;
        if too_large {
            return assert_eq!(done, Err(WriteError::TooLarge { size: len, max }));
        }
        if ledger.removed {
            return assert!(
                done == Err(WriteError::Removed) || len == 0 && chunks.len() != 1,
                "{done:?}"
            );
        }
        if ledger.closed {
            return assert_eq!(done, Err(WriteError::Closed));
        }
        let stat = stat.expect("the stream is not removed");
        match done {
            Ok(()) if len == 0 => {}
            Ok(()) => {
                if was_sealed {
                    let least =
                        ledger.rings.least_bytes(len, chunks.len() as u64, is_read_elsewhere);
                    self.in_place = self.in_place.max(least);
                }
                ledger.append(chunks, &stat, is_limited, was_sealed);
                self.written += len;
            }
            Err(WriteError::Full) if ledger.is_sealed() => {
                assert!(is_limited, "an append was refused although memory is unlimited");
                let head = ledger.held().head;
                let in_the_way = |it: &Following| it.blocks() && it.place.chunk(ledger) < head;
                assert!(readers.iter().any(in_the_way), "no block reader needs the memory");
            }
            Err(WriteError::Full) => {
                let Some(needed) = ledger.tail_after(stat.capacity, len, chunks.len()) else {
                    return;
                };
                let in_the_way = |it: &Following| it.blocks() && it.place.chunk(ledger) < needed;
                assert!(readers.iter().any(in_the_way), "no block reader needs the room");
            }
            Err(WriteError::NoMemory { .. }) => {
                let (capacity, count) =
                    (before.expect("the stream is not removed").capacity, chunks.len() as u64);
                let fits = len <= capacity && most.is_some_and(|most| count <= most);
                assert!(
                    is_limited && !fits,
                    "the ring of {capacity} bytes has room for {len} bytes"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Polls writers that were woken, like an executor, and now and then one that was not.
    pub(super) fn poll_writers(&mut self, at: usize) {
        for who in (0..self.streams[at].writers.len()).rev() {
            let is_due = match &self.streams[at].writers[who] {
                Writing::Waiting(waiting) => waiting.is_woken() || self.random.one_in(8),
                _ => false,
            };
            if is_due && let Writing::Waiting(waiting) = self.streams[at].writers.swap_remove(who) {
                self.poll_writer(at, waiting);
            }
        }
        if self.random.one_in(2) {
            self.poll_rooms(at);
        }
    }

    pub(super) fn poll_writer(&mut self, at: usize, mut waiting: Waiting) {
        let how = self.how(at, false);
        let chunk = waiting.chunk;
        let polled = starving::during(how.is_starved, || waiting.poll());
        let (writing, done) = match polled {
            Poll::Pending => (Writing::Waiting(waiting), Err(WriteError::Full)),
            Poll::Ready((writer, done)) => {
                let mut rest = std::mem::take(&mut waiting.rest);
                let writing = match rest.pop_front() {
                    Some(next) => Writing::Waiting(Waiting::before(writer, next, rest)),
                    None => Writing::Idle(writer),
                };
                (writing, done.expect("the append was not cancelled"))
            }
        };
        self.tell(|| format!("append {chunk:?} to {at}, waiting: {done:?}"));
        self.check_append(at, &[chunk], how, done);
        self.streams[at].writers.push(writing);
    }

    pub(super) fn writer_joins(&mut self, at: usize) {
        if self.streams[at].writers.len() >= WRITERS {
            return;
        }
        self.tell(|| format!("a writer joins {at}"));
        let known = self.pick_writer(at);
        let stream = self.handle(at);
        // A clone counts as a writer, whether or not the stream still takes appends.
        let writer = match (known, stream) {
            (Some(who), _) if self.random.one_in(3) => self.writer(at, who).clone(),
            (_, None) => return,
            (_, Some(stream)) => match stream.writer() {
                Ok(writer) => writer,
                Err(error) => {
                    return assert!(error == AttachError::Closed && self.streams[at].ledger.closed);
                }
            },
        };
        let attached = &mut self.streams[at];
        attached.ledger.writer_joined();
        attached.writers.push(Writing::Idle(writer));
    }

    /// A writer finishes, fails or dies. A waiting writer stops waiting, or dies.
    pub(super) fn writer_ends(&mut self, at: usize) {
        let count = self.streams[at].writers.len();
        if count == 0 {
            return;
        }
        let who = self.random.index(count);
        let ends = self.random.below(8);
        self.tell(|| format!("writer {who} of {at} ends: {ends}"));
        if self.writer_with_lease_ends(at, who, ends) {
            return;
        }
        let Attached { writers, ledger, .. } = &mut self.streams[at];
        let writer = match writers.swap_remove(who) {
            Writing::Idle(writer) => writer,
            Writing::Waiting(waiting) if ends < 3 => {
                drop(waiting);
                return ledger.writer_left(false);
            }
            Writing::Waiting(waiting) => return writers.push(Writing::Idle(waiting.cancel())),
            #[cfg(all(target_os = "linux", not(miri)))]
            Writing::Leased(_) => unreachable!("a leased writer does not end here"),
        };
        self.writer_finishes(at, writer, ends);
    }

    /// A writer that is not waiting finishes, fails or dies.
    pub(super) fn writer_finishes(&mut self, at: usize, mut writer: Writer, ends: u64) {
        let ledger = &mut self.streams[at].ledger;
        let finishes = match ends {
            0..3 => {
                drop(writer);
                return ledger.writer_left(false);
            }
            3 if self.random.one_in(4) => {
                // The writer's host leaves, and readers wait on.
                writer.depart_as(Departure::Open);
                return drop(writer);
            }
            4 if self.random.one_in(2) => Finish::Close,
            5 => Finish::Failed,
            6 if self.random.one_in(2) => Finish::CloseFailed,
            _ => Finish::KeepOpen,
        };
        writer.finish(finishes);
        match finishes {
            Finish::Close => ledger.close(false),
            Finish::CloseFailed => ledger.close(true),
            _ => {}
        }
        ledger.writer_left(matches!(finishes, Finish::Close | Finish::KeepOpen));
    }

    /// Makes a waiting writer stop waiting for the slowest reader.
    pub(super) fn give_up(&mut self, at: usize) {
        let writers = &self.streams[at].writers;
        let waiting = writers.iter().find_map(|writer| match writer {
            Writing::Waiting(waiting) => Some(waiting),
            _ => None,
        });
        let given_up = match waiting {
            Some(waiting) => waiting.give_up_slowest(),
            None => self.give_up_for_holder(at),
        };
        let Some(given_up) = given_up else { return };
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        let slowest =
            readers.iter().filter(|it| it.blocks()).map(|it| it.place.chunk(ledger)).min();
        let reader = readers.iter_mut().find(|it| Following::peer(it.number) == given_up.peer);
        let reader = reader.expect("the reader is attached");
        assert!(
            reader.blocks() && Some(reader.place.chunk(ledger)) == slowest,
            "another reader is slower"
        );
        assert_eq!(given_up.position, reader.place.settled);
        reader.given_up = true;
        self.given_up += 1;
        self.tell(|| format!("{given_up:?}"));
    }
}
