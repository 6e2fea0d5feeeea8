//! Appending as the holder of a [lease](super::lease).

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use std::{io, os::fd::BorrowedFd};

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use super::memory::read as read_words;
use super::{RingWriter, Source, Tail, layout, layout::SEALED};
use crate::{
    read::Position,
    sync::Ordering::{Acquire, Relaxed, SeqCst},
};

/// Appends to a leased ring: pushes chunks, and then publishes them together.
#[derive(Debug)]
pub(crate) struct LeasedWriter {
    ring: RingWriter,
    /// Head as all others see it.
    published: Position,
    /// The most bytes that are published at once: more would make a live reader that has read
    /// everything lag too far.
    max_batch: u64,
}

/// Why the holder of a lease could not append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A `block` reader must first reach this chunk.
    NoRoom(u64),
    /// The lease has ended, and nothing was appended.
    Ended,
    /// Another writer appends to this ring.
    OtherWriter,
}

impl LeasedWriter {
    pub(crate) fn new(ring: RingWriter, max_batch: u64) -> Self {
        Self { published: ring.head(), ring, max_batch }
    }

    pub(crate) fn ring(&self) -> &RingWriter {
        &self.ring
    }

    /// Head as all others see it.
    pub(crate) fn published(&self) -> Position {
        self.published
    }

    /// Writes a chunk of at least 1 byte and at most the capacity. The chunk is not published yet.
    #[inline(always)]
    pub(crate) fn push(&mut self, chunk: &impl Source, time: u64) -> Result<(), Refused> {
        let tail = self.room(chunk.size() as u64)?;
        self.ring.fill(chunk, tail, time);
        Ok(())
    }

    /// The tail after an append of `bytes`, if the holder may make that append.
    #[inline(always)]
    fn room(&mut self, bytes: u64) -> Result<Tail, Refused> {
        // Check this first: a lease that has ended gives no more room.
        if self.ring.ring().load(layout::HEAD_SEQ, Relaxed) & SEALED != 0 {
            return Err(Refused::Ended);
        }
        let tail = self.ring.tail_after(bytes, 1);
        let batch = self.ring.head().offset - self.published.offset + bytes;
        // Readers must never see tail beyond head.
        if tail.seq > self.published.seq || batch > self.max_batch {
            self.publish()?;
        }
        if tail.seq > self.ring.ring().load(layout::FLOOR, Acquire) {
            return Err(Refused::NoRoom(tail.seq));
        }
        Ok(tail)
    }

    /// Publishes all pushed chunks. If the lease has ended, none of them is in the stream.
    #[inline(always)]
    pub(crate) fn publish(&mut self) -> Result<(), Refused> {
        let (before, head) = (self.published, self.ring.head());
        if head.seq == before.seq {
            return Ok(());
        }
        let word = self.ring.ring().word(layout::HEAD_SEQ);
        match word.compare_exchange(before.seq, head.seq, SeqCst, Relaxed) {
            Ok(_) => {
                self.published = head;
                Ok(())
            }
            Err(word) => {
                Err(if word & SEALED == 0 { Refused::OtherWriter } else { Refused::Ended })
            }
        }
    }

    /// Pushes one chunk of at most `most` bytes, read from a file by one system call, like
    /// [`push`](Self::push). Returns the chunk's size; 0 at the end of the file.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn push_from(
        &mut self,
        file: BorrowedFd<'_>,
        most: usize,
        time: impl FnOnce() -> u64,
    ) -> Result<io::Result<usize>, Refused> {
        let tail = self.room(most as u64)?;
        self.ring.announce(tail);
        let ring = self.ring.ring();
        let data = layout::WORD * ring.layout().data().start;
        let places =
            ring.runs(self.ring.head().offset, most).map(|(place, len)| (data + place, len));
        let read = ring.memory().read_from(file, places);
        if let Ok(len @ 1..) = read {
            self.ring.count_written(len, time());
        }
        Ok(read)
    }

    /// The chunks that were pushed and not published. `None` for a chunk whose entry another
    /// process has corrupted.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn unpublished(&self) -> impl Iterator<Item = Option<Vec<u8>>> {
        let (ring, head) = (self.ring.ring(), self.ring.head());
        let mut from = self.published.offset;
        (self.published.seq..head.seq).map(move |seq| {
            let to = self.ring.start_of(seq + 1);
            let len = to.checked_sub(from).filter(|_| to <= head.offset)?;
            let mut bytes = Vec::new();
            for (place, len) in ring.runs(from, usize::try_from(len).ok()?) {
                read_words(ring.data(), place, len, &mut bytes);
            }
            from = to;
            Some(bytes)
        })
    }
}
