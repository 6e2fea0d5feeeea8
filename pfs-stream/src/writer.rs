//! Writer of a stream: appends chunks, and ends by finishing or dying.

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

/// Result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset after the chunk.
    pub offset: u64,
    /// Readers attached at that moment.
    pub readers: usize,
}

/// Appends to a stream. A writer that is dropped without [`finish`](Self::finish) counts as died.
#[derive(Debug)]
pub struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<WriterState>,
    /// The offset after this writer's last chunk; 0 before the first.
    pub(crate) offset: u64,
    /// True if chunks were pushed for which sleeping readers were not woken yet.
    unannounced: bool,
    /// Receives the chunks that the stream drops, so that they are freed outside the lock. Empty
    /// between appends.
    gone: Vec<Bytes>,
    departure: Departure,
}

/// How a writer ends, and what happens to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The writer has appended all its data. The stream stays open.
    KeepOpen,
    /// The writer has appended all its data, and the stream is closed: readers get the rest of the
    /// data, and then the end.
    Close,
    /// The writer's data is incomplete: the writer counts as died. The stream stays open.
    Failed,
    /// The writer's data is incomplete, and the stream is closed as failed: readers get the rest of
    /// the data, and then [`End::Failed`](pfs_proto::End::Failed) instead of a complete end.
    CloseFailed,
}

/// What dropping a writer means to readers that stop with the last writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Departure {
    /// The writer died: its data is incomplete.
    #[default]
    Died,
    /// The writer finished.
    Finished,
    /// Nothing: readers keep waiting as if the writer were still attached. For a host that shuts
    /// down itself and tells its readers so.
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
        if shared.is_replica {
            return Err(AttachError::Replica);
        }
        Ok(Self::join(shared, append, peer))
    }

    /// Adds a writer to the stream's count, whether or not the stream still accepts appends.
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

    /// Appends one chunk and wakes sleeping readers. Waits while a `block` reader needs the room.
    /// An empty chunk changes nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing of the chunk is in the stream then.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it completes has appended nothing.
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

    /// Waits for room, then pushes the chunk.
    async fn push_later(&mut self, chunk: &Given<'_>) -> Result<Appended, WriteError> {
        // The reader that we wait for may itself be asleep, unaware of the chunks pushed before.
        self.wake_readers();
        let mut waiting = Waiting::new(&self.shared, &self.state);
        poll_fn(|cx| waiting.poll(cx, || self.try_push(chunk).transpose())).await
    }

    /// Like [`append`](Self::append), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing of the chunk is in the stream then.
    pub fn append_blocking(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        pollster::block_on(self.append(chunk))
    }

    /// Like [`append`](Self::append), but does not wait.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] while a `block` reader needs the room, and every other [`WriteError`].
    /// Nothing of the chunk is in the stream then.
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

    /// Like [`try_push`](Self::try_push), for a chunk that the stream keeps by reference.
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

    /// Records an append that ended at this offset.
    #[inline(always)]
    fn pushed(&mut self, offset: u64, size: u64) -> Appended {
        if size > 0 {
            (self.unannounced, self.offset) = (true, offset);
            self.shared.renew();
            self.state.count(size);
        }
        Appended { offset, readers: self.shared.reader_count.load(Ordering::Relaxed) }
    }

    /// The offset after this writer's last chunk; 0 before the first.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The largest chunk that the stream accepts, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.shared.config.max_chunk()
    }

    /// Total bytes that this writer has appended.
    pub fn bytes_written(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }

    /// Number of readers attached now.
    pub fn readers(&self) -> usize {
        self.shared.reader_count.load(Ordering::Relaxed)
    }

    /// Ends this writer as `finish` says. Returns the offset after its last chunk; 0 if none.
    pub fn finish(mut self, finish: Finish) -> u64 {
        match finish {
            Finish::KeepOpen => self.departure = Departure::Finished,
            Finish::Close => {
                self.departure = Departure::Finished;
                self.shared.set_status(Status::close);
            }
            Finish::Failed => self.departure = Departure::Died,
            // A failure is not reported if the stream was closed before.
            Finish::CloseFailed => {
                self.departure = Departure::Died;
                self.shared.set_status(Status::close_failed);
            }
        }
        self.offset
    }

    /// Wakes sleeping readers if something was appended since the last call.
    pub(crate) fn wake_readers(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.shared.wake_readers();
        }
    }
}

/// Each clone is a writer of its own: it finishes or dies by itself, and the writers are gone only
/// when all clones are.
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

/// Registers a writer as waiting for room. Dropped when there is room, or when the writer gives up.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    state: Arc<WriterState>,
    ticket: Ticket,
}

impl Waiting {
    pub(crate) fn new(shared: &Arc<Shared>, state: &Arc<WriterState>) -> Self {
        state.waiting.store(clock::elapsed(), Ordering::Relaxed);
        lock(&shared.append).waiting += 1;
        let (shared, state) = (Arc::clone(shared), Arc::clone(state));
        Self { shared, state, ticket: Ticket::default() }
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
