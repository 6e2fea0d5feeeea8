//! Reading a ring that the daemon handed over.

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

/// How much is copied from the ring at once, about, in bytes: so little that it stays in a
/// processor's own cache until it is used, and so does the place for it until the next read.
const READ_BATCH_BYTES: usize = 64 * 1024;

/// How often a notifier was notified, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotifyCount {
    moves: u32,
    count: u32,
}

/// The two descriptors that come along with a leased ring, after its own: a page and an event
/// counter.
fn wake_files(leased: bool, passed: &Passed) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    if leased { Ok(Some((passed.take()?, passed.take()?))) } else { Ok(None) }
}

/// A reader's ring, and what was copied from it and not told yet.
#[derive(Debug)]
pub(crate) struct ShmSource {
    reader: ShmReader,
    /// How often it went on in another ring.
    moves: u32,
    /// Whether the daemon was asked for the next ring.
    asked: bool,
    /// Whether the daemon has said that the stream has left the ring.
    left: bool,
    notifier: Notifier,
    /// Sleeping in the reader's own thread.
    sleep: Sleep,
    /// Made when it is first needed: whoever only reads what is there, or sleeps in its own
    /// thread, needs none.
    sleeper: Option<Sleeper>,
    batch: Bytes,
    /// Lengths of the chunks in it.
    lengths: VecDeque<usize>,
    /// Whether the daemon must be told that there is room.
    made_room: bool,
    /// Made when a thread first sleeps.
    watch: Option<Watch>,
}

impl ShmSource {
    /// Maps what came along with `Shm`.
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

    /// Whether it has read all of a ring that the stream has left. To be asked when nothing more
    /// was found.
    pub(crate) fn has_to_follow(&self) -> bool {
        self.lengths.is_empty() && (self.left || self.reader.has_to_follow())
    }

    /// The daemon says that the stream has left the ring, or has ended; the ring may say otherwise.
    pub(crate) fn mark_left(&mut self) {
        self.left = true;
    }

    /// Returns true once for each ring: the caller must ask the daemon for the next one.
    pub(crate) fn asks(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }

    /// Whether the next ring was asked for and has not come: nothing but the connection brings news
    /// then.
    pub(crate) fn is_asking(&self) -> bool {
        self.asked
    }

    /// Goes on in the ring that came along with `Ring`.
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
        // Who sleeps on the notifier of the old ring wakes, and frees that.
        (self.sleep, self.sleeper) = (Sleep::new(self.notifier.clone()), None);
        if let Some(watch) = &self.watch {
            watch.go_on(self.notifier.clone());
        }
        Ok(())
    }

    /// What watches the connection, once the ring is no longer read.
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

    /// Adds what there is to `chunks`; an event that is something else is returned.
    pub(crate) fn try_next_batch(
        &mut self,
        chunks: &mut Chunks,
    ) -> Result<Option<Event>, ReadError> {
        while let Some(Event::Chunk(chunk)) = self.copied() {
            chunks.push(&chunk);
        }
        if chunks.is_empty() { self.read(chunks) } else { Ok(None) }
    }

    /// Writes what comes next to a file, if it is chunks that were not copied, and enough of them;
    /// how many bytes.
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

    /// Whether the daemon must be told that there is room; once.
    pub(crate) fn take_made_room(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
    }

    /// How often the notifier was notified. To be taken before one looks for events.
    pub(crate) fn count(&self) -> NotifyCount {
        NotifyCount { moves: self.moves, count: self.notifier.count() }
    }

    /// Sleeps in the calling thread until the notifier has been notified since the count was taken,
    /// or until the next look at the notifier is due. May wake for no reason.
    pub(crate) fn sleep(&mut self, NotifyCount { moves, count }: NotifyCount) {
        if moves == self.moves {
            self.sleep.sleep(count);
        }
    }

    /// Whether the connection that the ring came over has news, which from now on also wake a
    /// thread that sleeps.
    pub(crate) fn has_news(&mut self, passed: &Passed) -> io::Result<bool> {
        let watch = match &self.watch {
            Some(watch) => watch,
            None => self.watch.insert(Watch::new(passed.socket(), self.notifier.clone())?),
        };
        Ok(watch.has_news())
    }

    /// Ready when there may be news since the notifier's count was taken. Without a thread to wait
    /// for them, none are possible.
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

    /// Gives back the memory of what was told.
    pub(crate) fn release(&mut self) {
        self.batch = Bytes::new();
        self.lengths = VecDeque::new();
    }
}
