//! Shm reading: copies chunks from a ring buffer that the daemon passed.

use std::{
    collections::VecDeque,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    task::{Context, Poll},
};

use bytes::Bytes;
use pfs_proto::{RingLayout, ShmStart};
use pfs_stream::{
    Cause, Read, Sink,
    shm::{Notifier, ShmReader, WriteToError},
};

use crate::{Event, ReadError, chunks::Chunks};

use super::{passing::Passed, sleep::Sleep, sleeper::Sleeper, watch::Watch};

/// The approximate size of one copy from the ring buffer, in bytes. Small enough that the copied
/// bytes stay in the processor's own cache until they are used, and so does the destination buffer
/// until the next read.
const READ_BATCH_BYTES: usize = 64 * 1024;

/// A notifier's count, and the ring buffer to which the notifier belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotifyCount {
    moves: u32,
    count: u32,
}

/// The two descriptors that follow a leased ring buffer's own: a page and an event counter.
fn wake_files(leased: bool, passed: &Passed) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    if leased { Ok(Some((passed.take()?, passed.take()?))) } else { Ok(None) }
}

/// A reader's ring buffer, and the chunks that were copied from it but not returned yet.
#[derive(Debug)]
pub(crate) struct ShmSource {
    reader: ShmReader,
    /// How many times the reader moved to another ring buffer.
    moves: u32,
    /// Whether the daemon was asked for the next ring buffer.
    asked: bool,
    /// Whether the daemon has said that the stream left the ring buffer.
    left: bool,
    notifier: Notifier,
    /// For sleeping in the reader's own thread.
    sleep: Sleep,
    /// Created when first needed. A reader that only takes what has arrived, or sleeps in its own
    /// thread, needs no sleeper.
    sleeper: Option<Sleeper>,
    batch: Bytes,
    /// The lengths of the chunks in `batch`.
    lengths: VecDeque<usize>,
    /// Whether the daemon must be told that the reader made room.
    made_room: bool,
    /// Created when a thread first sleeps.
    watch: Option<Watch>,
}

impl ShmSource {
    /// Maps the descriptors that came with the reply `Shm`.
    pub(crate) fn open(start: &ShmStart, passed: &Passed) -> io::Result<Self> {
        let (ring, page) = (passed.take()?, passed.take()?);
        let wake_files = wake_files(start.leased, passed)?;
        let mut reader = ShmReader::open(ring, page, start)?;
        wake_files.map(|(asleep, room)| reader.wake_by(asleep, room)).transpose()?;
        let notifier = reader.notifier();
        Ok(Self {
            reader,
            moves: 0,
            asked: false,
            left: false,
            sleep: Sleep::new(notifier.clone()),
            notifier,
            sleeper: None,
            batch: Bytes::new(),
            lengths: VecDeque::new(),
            made_room: false,
            watch: None,
        })
    }

    /// Returns true if the reader has read all of a ring buffer that the stream has left. Ask after
    /// a read found nothing more.
    pub(crate) fn has_to_follow(&self) -> bool {
        self.lengths.is_empty() && (self.left || self.reader.has_to_follow())
    }

    /// Records the daemon's message that the stream has left the ring buffer or has ended. The ring
    /// buffer itself may say otherwise.
    pub(crate) fn mark_left(&mut self) {
        self.left = true;
    }

    /// Returns true once for each ring buffer: the caller must ask the daemon for the next one.
    pub(crate) fn asks(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }

    /// Returns true if the next ring buffer was requested and has not arrived. Until then, only the
    /// connection brings news.
    pub(crate) fn is_asking(&self) -> bool {
        self.asked
    }

    /// Switches to the ring buffer that came with the reply `Ring`.
    pub(crate) fn follow(
        &mut self,
        layout: RingLayout,
        leased: bool,
        passed: &Passed,
    ) -> io::Result<()> {
        (self.asked, self.left) = (false, false);
        let ring = passed.take()?;
        let wake_files = wake_files(leased, passed)?;
        self.reader.follow(ring, layout)?;
        wake_files.map(|(asleep, room)| self.reader.wake_by(asleep, room)).transpose()?;
        self.moves = self.moves.wrapping_add(1);
        self.notifier = self.reader.notifier();
        // A thread that sleeps on the old ring buffer's notifier wakes and frees the old
        // ring buffer.
        (self.sleep, self.sleeper) = (Sleep::new(self.notifier.clone()), None);
        if let Some(watch) = &self.watch {
            watch.go_on(self.notifier.clone());
        }
        Ok(())
    }

    /// Stops reading the ring buffer. Returns the retired watch of the connection, if there is one.
    pub(crate) fn into_watch(self) -> Option<Watch> {
        if let Some(watch) = &self.watch {
            watch.retire();
        }
        self.watch
    }

    /// The next event, if there is one.
    pub(crate) fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        if let Some(chunk) = self.copied() {
            return Ok(Some(chunk));
        }
        let mut chunks = Chunks::new();
        let event = self.read(&mut chunks)?;
        if event.is_none() {
            let (bytes, lengths) = chunks.take();
            self.batch = bytes;
            self.lengths.extend(lengths);
            return Ok(self.copied());
        }
        Ok(event)
    }

    /// Fills `chunks` with what has arrived, or returns an event that is not a chunk.
    pub(crate) fn try_next_batch(
        &mut self,
        chunks: &mut Chunks,
    ) -> Result<Option<Event>, ReadError> {
        while let Some(Event::Chunk(chunk)) = self.copied() {
            chunks.push(&chunk);
        }
        if chunks.is_empty() { self.read(chunks) } else { Ok(None) }
    }

    /// Writes the next chunks to a file if they were not copied yet and add up to at least `least`
    /// bytes. Returns the number of bytes.
    pub(crate) fn try_write_to(
        &mut self,
        file: BorrowedFd<'_>,
        least: usize,
        most: usize,
    ) -> Result<io::Result<usize>, ReadError> {
        if !self.lengths.is_empty() {
            return Ok(Ok(0));
        }
        match self.reader.try_write_to(file, least, most) {
            Ok(Some(Read::Data { bytes, .. })) => {
                self.made_room |= self.reader.room_is_wanted();
                Ok(Ok(bytes))
            }
            Ok(_) => Ok(Ok(0)),
            Err(WriteToError::File(error)) => Ok(Err(error)),
            Err(error @ WriteToError::Overtaken { .. }) => Err(ReadError::Other(Cause::new(error))),
            Err(error) => Ok(Err(io::Error::other(error))),
        }
    }

    fn copied(&mut self) -> Option<Event> {
        let length = self.lengths.pop_front()?;
        let chunk = self.batch.split_to(length.min(self.batch.len()));
        Some(Event::Chunk(chunk))
    }

    fn read(&mut self, sink: &mut impl Sink) -> Result<Option<Event>, ReadError> {
        let read = self.reader.try_read(sink, READ_BATCH_BYTES)?;
        self.made_room |= read.is_some() && self.reader.room_is_wanted();
        Ok(match read {
            None | Some(Read::Data { .. }) => None,
            Some(Read::Gap { from, to, chunks }) => Some(Event::Gap { from, to, chunks }),
            Some(Read::End(reason)) => Some(Event::End { reason, offset: self.reader.position() }),
        })
    }

    /// Returns true once if the daemon must be told that the reader made room.
    pub(crate) fn take_made_room(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
    }

    /// The notifier's count. Take the count before looking for events.
    pub(crate) fn count(&self) -> NotifyCount {
        NotifyCount { moves: self.moves, count: self.notifier.count() }
    }

    /// Blocks the thread until the notifier was notified after the count was taken, or until the
    /// next periodic check is due. May wake spuriously.
    pub(crate) fn sleep(&mut self, NotifyCount { moves, count }: NotifyCount) {
        if moves == self.moves {
            self.sleep.sleep(count);
        }
    }

    /// Returns true if the connection has messages. From now on, messages on the connection also
    /// wake a sleeping thread.
    pub(crate) fn has_news(&mut self, passed: &Passed) -> io::Result<bool> {
        let watch = match &self.watch {
            Some(watch) => watch,
            None => self.watch.insert(Watch::new(passed.socket(), self.notifier.clone())?),
        };
        Ok(watch.has_news())
    }

    /// Ready once there may be news since the notifier's count was taken. Fails if the thread that
    /// waits for news cannot be started.
    pub(crate) fn poll_news(
        &mut self,
        cx: &mut Context<'_>,
        before: NotifyCount,
    ) -> Poll<io::Result<()>> {
        let NotifyCount { moves, count } = before;
        if moves != self.moves {
            return Poll::Ready(Ok(()));
        }
        let sleeper = match &self.sleeper {
            Some(sleeper) => sleeper,
            None => self.sleeper.insert(Sleeper::new(self.notifier.clone())?),
        };
        sleeper.poll(cx, count).map(Ok)
    }

    /// Frees the memory of the returned chunks.
    pub(crate) fn release(&mut self) {
        self.batch = Bytes::new();
        self.lengths = VecDeque::new();
    }
}
