//! A writer: appends chunks, and says at the end whether it finished or died.

#[cfg(feature = "host")]
mod blockers;
mod failure;
#[cfg(feature = "host")]
mod host;

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use pfs_proto::Peer;

use crate::{
    AttachError, Chunk, WriteError, clock,
    ring::{Given, MIN_HELD_BYTES, Source, Status},
    state::{Appending, Shared, WriterState, refuse, release},
    sync::{Arc, MutexGuard, Ordering, lock},
    wait::Ticket,
};

#[cfg(feature = "host")]
pub use blockers::{Blockers, GivenUp};

/// What an append tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset after the chunk.
    pub offset: u64,
    /// Readers that were attached.
    pub readers: usize,
}

/// Appends to a stream. One that is dropped without [`finish`](Self::finish) counts as having died.
#[derive(Debug)]
pub struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<WriterState>,
    /// After its last chunk; 0 before the first.
    pub(crate) offset: u64,
    /// Whether something was pushed that sleeping readers were not woken for.
    unannounced: bool,
    /// Where chunks that the stream lets go of come by; empty in between.
    gone: Vec<Bytes>,
    departure: Departure,
}

/// How a writer ends, and what becomes of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The writer has appended all that it had. The stream stays open.
    KeepOpen,
    /// The writer has appended all that it had, and the stream is closed: readers get what is in
    /// it, and then the end.
    Close,
    /// What the writer appended is not all that there should be: it counts as one that died. The
    /// stream stays open.
    Failed,
    /// As [`Failed`](Self::Failed), and the stream is closed as failed: readers get what is in it,
    /// and then [`End::Failed`](pfs_proto::End::Failed) in place of an end.
    CloseFailed,
}

/// What the drop of a writer means to readers that wait for the end of the writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Departure {
    /// The writer died: its input is not all there.
    #[default]
    Died,
    /// The writer finished.
    Finished,
    /// Nothing: readers wait on, as if the writer were still there. For a host that goes away
    /// itself, and tells its readers so.
    Open,
}

impl Writer {
    pub(crate) fn attach(shared: &Arc<Shared>, peer: Peer) -> Result<Self, AttachError> {
        let append = lock(&shared.append);
        if append.status.removed() {
            return Err(AttachError::Removed);
        }
        if append.status.closed() {
            return Err(AttachError::Closed);
        }
        Ok(Self::join(shared, append, peer))
    }

    /// Counts one writer more, whether or not it can still append anything.
    fn join(shared: &Arc<Shared>, mut append: MutexGuard<'_, Appending>, peer: Peer) -> Self {
        if append.status.writers() == 0 {
            append.deaths_before = append.status.deaths();
        }
        append.status.writer_joined();
        shared.publish(&append);
        let state = Arc::new(WriterState::new(peer));
        append.writers.push(Arc::clone(&state));
        drop(append);
        Self {
            shared: Arc::clone(shared),
            state,
            offset: 0,
            unannounced: false,
            gone: Vec::new(),
            departure: Departure::Died,
        }
    }

    /// Appends one chunk and wakes the readers that sleep. Waits while a `block` reader needs the
    /// room. An empty chunk changes nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing of the chunk is in the stream then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has appended nothing.
    pub async fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        self.append_given(Given::new(&chunk)).await
    }

    async fn append_given(&mut self, chunk: Given<'_>) -> Result<(), WriteError> {
        if self.try_push(&chunk)?.is_none() {
            self.push_later(&chunk).await?;
        }
        self.wake_readers();
        Ok(())
    }

    pub(crate) async fn push_given(&mut self, chunk: Given<'_>) -> Result<Appended, WriteError> {
        match self.try_push(&chunk)? {
            Some(appended) => Ok(appended),
            None => self.push_later(&chunk).await,
        }
    }

    /// Waits for room.
    async fn push_later(&mut self, chunk: &Given<'_>) -> Result<Appended, WriteError> {
        // The reader that is waited for may itself be asleep, unaware of what was pushed.
        self.wake_readers();
        let mut waiting = Waiting::new(self);
        poll_fn(|cx| waiting.poll(cx, || self.try_push(chunk).transpose())).await
    }

    /// As [`append`](Self::append), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_blocking(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        pollster::block_on(self.append(chunk))
    }

    /// As [`append`](Self::append), but does not wait.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] while a `block` reader needs the room; otherwise as
    /// [`append`](Self::append).
    pub fn try_append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        self.try_append_given(Given::new(&chunk))
    }

    fn try_append_given(&mut self, chunk: Given<'_>) -> Result<(), WriteError> {
        let appended = self.try_push(&chunk)?;
        self.wake_readers();
        appended.map(drop).ok_or(WriteError::Full)
    }

    #[inline(always)]
    pub(crate) fn try_push(&mut self, chunk: &Given<'_>) -> Result<Option<Appended>, WriteError> {
        let (size, max) = (chunk.size() as u64, self.shared.config.max_chunk());
        if size > max {
            return Err(WriteError::TooLarge { size, max });
        }
        if size >= MIN_HELD_BYTES as u64 && self.shared.holds {
            return self.try_hold(chunk.to_bytes());
        }
        let now = clock::append_time();
        let mut append = self.shared.appending()?;
        if size > 0 {
            match append.put(chunk, now, &self.shared, &mut self.gone) {
                Ok(true) => {}
                Ok(false) => {
                    self.state.needs_room(append, &self.shared);
                    return Ok(None);
                }
                Err(error) => return Err(refuse(append, error, &self.shared)),
            }
        }
        let offset = release(append, &mut self.gone, &self.shared);
        Ok(Some(self.pushed(offset, size)))
    }

    /// As [`try_push`](Self::try_push), for a chunk that can be held.
    #[inline(always)]
    fn try_hold(&mut self, chunk: Bytes) -> Result<Option<Appended>, WriteError> {
        let (now, size) = (clock::append_time(), chunk.len() as u64);
        let mut append = self.shared.appending()?;
        if !append.put_held(chunk, now, &self.shared, &mut self.gone) {
            self.state.needs_room(append, &self.shared);
            return Ok(None);
        }
        let offset = release(append, &mut self.gone, &self.shared);
        Ok(Some(self.pushed(offset, size)))
    }

    /// Notes what was appended up to this offset.
    #[inline(always)]
    fn pushed(&mut self, offset: u64, size: u64) -> Appended {
        if size > 0 {
            (self.unannounced, self.offset) = (true, offset);
            self.shared.renew();
            self.state.count(size);
        }
        Appended { offset, readers: self.shared.reader_count.load(Ordering::Relaxed) }
    }

    /// The offset after its last chunk; 0 before the first.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The largest chunk that its stream takes, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.shared.config.max_chunk()
    }

    /// Bytes that it has appended.
    pub fn bytes_written(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }

    /// Readers attached now.
    pub fn readers(&self) -> usize {
        self.shared.reader_count.load(Ordering::Relaxed)
    }

    /// Ends this writer as `finish` says, and tells the offset after its last chunk; 0 if there was
    /// none.
    pub fn finish(mut self, finish: Finish) -> u64 {
        match finish {
            Finish::KeepOpen => self.departure = Departure::Finished,
            Finish::Close => {
                self.departure = Departure::Finished;
                self.shared.set_status(Status::close);
            }
            Finish::Failed => self.departure = Departure::Died,
            // Nothing is said of a failure where the stream was closed before.
            Finish::CloseFailed => {
                self.departure = Departure::Died;
                self.shared.set_status(Status::close_failed);
            }
        }
        self.offset
    }

    /// Wakes the readers that sleep, if something was appended since the last time.
    pub(crate) fn wake_readers(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.shared.wake_readers();
        }
    }
}

/// Each clone is a writer of its own: it finishes or dies for itself, and the writers are gone when
/// all are.
impl Clone for Writer {
    fn clone(&self) -> Self {
        Self::join(&self.shared, lock(&self.shared.append), self.state.peer)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let finished = match self.departure {
            Departure::Died => Some(false),
            Departure::Finished => Some(true),
            Departure::Open => None,
        };
        self.shared.lifetime.leave();
        let mut append = self.shared.look();
        if append.lease.as_ref().is_some_and(|lease| Arc::ptr_eq(&lease.writer, &self.state)) {
            append.end_lease(&self.shared, None);
        }
        if let Some(finished) = finished {
            append.status.writer_left(finished);
            append.finished += u64::from(finished);
        }
        append.writers.retain(|writer| !Arc::ptr_eq(writer, &self.state));
        self.shared.publish(&append);
        let last = append.status.writers() == 0;
        release(append, &mut Vec::new(), &self.shared);
        self.shared.gone.add_writer(self.state.counted(), finished);
        if last || self.unannounced {
            self.shared.wake_readers();
        }
    }
}

/// A writer that waits for room, until this is dropped: because there is some, or because it gave
/// up.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    state: Arc<WriterState>,
    ticket: Ticket,
}

impl Waiting {
    pub(crate) fn new(writer: &Writer) -> Self {
        writer.state.waiting.store(clock::elapsed(), Ordering::Relaxed);
        lock(&writer.shared.append).waiting += 1;
        Self {
            shared: Arc::clone(&writer.shared),
            state: Arc::clone(&writer.state),
            ticket: Ticket::default(),
        }
    }

    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        room: impl FnMut() -> Option<T>,
    ) -> Poll<T> {
        self.shared.room.poll(&mut self.ticket, cx, room)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.room.leave(&mut self.ticket);
        self.shared.gone.add_wait(self.state.waiting.swap(0, Ordering::Relaxed));
        lock(&self.shared.append).waiting -= 1;
    }
}
