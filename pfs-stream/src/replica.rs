//! Replica: a stream that repeats a stream of another host.
//!
//! The only one that appends to a replica is its [`Link`]. It appends what it receives from the
//! other host, at the offsets and with the times that the chunks have there. What the link has lost
//! on the way it [skips](Link::skip_to): every reader is told of that gap, after all that came
//! before it.
//!
//! The writers of the stream are attached at the other host. The link [tells](Link::set_writers) of
//! them, so that readers that stop with the last writer end where they would end there.

use std::{future::poll_fn, time::SystemTime};

use bytes::Bytes;
use pfs_proto::{Identity, Peer, Writers};

use crate::{
    Blockers, Chunk, Stream, WriteError, clock,
    read::Position,
    ring::{Given, Source, Status},
    state::{Appending, Shared, WriterState, refusal, refuse, release},
    sync::{Arc, lock},
    writer::Waiting,
};

/// What a replica takes over from the stream that it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a replica needs all of it")]
pub struct Upstream {
    /// The identity of the stream.
    pub identity: Identity,
    /// When the stream was created.
    pub created: SystemTime,
    /// The offset where the replica begins.
    pub begin: u64,
}

/// Appends to a replica, in the name of the stream that it repeats. A link that is dropped leaves
/// the replica open: [close](Self::close) or [remove](Self::remove) it first if its end is known.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    state: Arc<WriterState>,
    /// Whether chunks were pushed for which sleeping readers were not woken yet.
    unannounced: bool,
    /// Receives the chunks that the stream drops. Empty between appends.
    gone: Vec<Bytes>,
}

impl Link {
    pub(crate) fn new(stream: &Stream) -> Self {
        let state = Arc::new(WriterState::new(Peer::default()));
        Self { shared: Arc::clone(&stream.shared), state, unannounced: false, gone: Vec::new() }
    }

    /// The offset after the last byte or gap.
    pub fn head(&self) -> u64 {
        lock(&self.shared.append).ring.head().offset
    }

    /// Appends a chunk at head without waking sleeping readers; [`wake`](Self::wake) does. The chunk
    /// has the time `time`, or that of the chunk before if that is later. Waits while a `block`
    /// reader needs the room.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing of the chunk is in the replica then.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it completes has appended nothing.
    pub async fn push(&mut self, chunk: impl Chunk, time: SystemTime) -> Result<(), WriteError> {
        if self.try_push(&chunk, time)? {
            return Ok(());
        }
        // The reader that the link waits for may be asleep, unaware of the chunks before.
        self.wake();
        let mut waiting = Waiting::new(&self.shared, &self.state);
        poll_fn(|cx| {
            waiting.poll(cx, || match self.try_push(&chunk, time) {
                Ok(false) => None,
                Ok(true) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            })
        })
        .await
    }

    /// Like [`push`](Self::push), but does not wait: false if a `block` reader needs the room.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing of the chunk is in the replica then.
    pub fn try_push(&mut self, chunk: &impl Chunk, time: SystemTime) -> Result<bool, WriteError> {
        let chunk = Given::new(chunk);
        let (size, max) = (chunk.size() as u64, self.shared.config.max_chunk());
        if size > max {
            return Err(WriteError::TooLarge { size, max });
        }
        let mut append = self.shared.appending()?;
        if size == 0 {
            return Ok(true);
        }
        self.has_writer(&mut append);
        match append.put(&chunk, clock::micros(time), &self.shared, &mut self.gone) {
            Ok(true) => {}
            Ok(false) => {
                self.state.needs_room(append, &self.shared);
                return Ok(false);
            }
            Err(error) => return Err(refuse(append, error, &self.shared)),
        }
        release(append, &mut self.gone, &self.shared);
        self.unannounced = true;
        Ok(true)
    }

    /// Skips to a later offset: the link has lost what is in between. `chunks` is the number of lost
    /// chunks, or 0 if it is unknown. Each reader is told of the gap after it has read everything
    /// before the gap. A new reader starts after the gap. Skipping to an offset that is not beyond head
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing has changed then.
    pub fn skip_to(&mut self, offset: u64, chunks: u64) -> Result<(), WriteError> {
        let mut append = self.shared.appending()?;
        let head = append.ring.head();
        let Some(bytes @ 1..) = offset.checked_sub(head.offset) else { return Ok(()) };
        self.has_writer(&mut append);
        // Every chunk has at least one byte. A reader recognises the gap by the number of chunks.
        let at = Position { seq: head.seq.saturating_add(chunks.clamp(1, bytes)), offset };
        if let Err(error) = append.skip_to(at, &self.shared) {
            return Err(refuse(append, error, &self.shared));
        }
        release(append, &mut self.gone, &self.shared);
        self.unannounced = true;
        self.wake();
        Ok(())
    }

    /// Notes that the stream has a writer: the one that appended the bytes of this call. The owner
    /// reports its writers only when the link has all that they have appended. Until then, no reader
    /// may take the end of what has arrived for the end of what was written.
    fn has_writer(&self, append: &mut Appending) {
        if append.status.writers() == 0 {
            append.deaths_before = append.status.deaths();
            append.status.writer_joined();
            self.shared.publish(append);
        }
    }

    /// Tells readers about the writers of the stream, as of head. Bytes and gaps that come later show
    /// that there is a writer again.
    pub fn set_writers(&mut self, writers: Writers) {
        let Writers { attached, were_any, died, died_before, finished } = writers;
        let mut append = lock(&self.shared.append);
        append.status.set_writers(attached, were_any, died);
        (append.deaths_before, append.finished) = (died_before, finished);
        self.shared.publish(&append);
        release(append, &mut self.gone, &self.shared);
        self.unannounced = true;
        self.wake();
    }

    /// The `block` readers that this link may have to wait for.
    pub fn blockers(&self) -> Blockers {
        Blockers::new(&self.shared, &self.state)
    }

    /// Wakes sleeping readers if anything has happened since the last call.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.shared.wake_readers();
        }
    }

    /// Closes the replica, as complete or as failed.
    pub fn close(&mut self, failed: bool) {
        self.shared.set_status(if failed { Status::close_failed } else { Status::close });
    }

    /// Removes the replica: all readers are told that the stream was removed.
    pub fn remove(&mut self) {
        self.shared.set_status(Status::remove);
    }

    /// Whether the replica takes no more appends: it is closed or removed.
    pub fn is_ended(&self) -> bool {
        refusal(self.shared.status()).is_some()
    }
}

impl Stream {
    /// The writers, and head at the same moment.
    pub fn writers(&self) -> (Writers, u64) {
        let append = self.shared.look();
        let status = append.status;
        let writers = Writers {
            attached: u32::try_from(status.writers()).unwrap_or(u32::MAX),
            were_any: status.writers() > 0 || status.writers_gone(),
            died: status.deaths(),
            died_before: append.deaths_before,
            finished: append.finished,
        };
        (writers, append.ring.head().offset)
    }

    /// Whether this stream is a replica of a stream of another host.
    pub fn is_replica(&self) -> bool {
        self.shared.is_replica
    }
}
