//! Reader: follows a stream over a connection or through its ring buffer.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use pfs_proto::{End, Event, Join, ReadOptions, Reply, Request, StreamPath};
#[cfg(target_os = "linux")]
use pfs_stream::Cause;

#[cfg(target_os = "linux")]
use crate::shm::{ShmSource, Watch};
use crate::{
    ConnectError, ReadError,
    chunks::{Chunks, LARGE_CHUNK_BYTES},
    connection::Connection,
    dialer::Dialer,
    error::{ProtocolError, RequestError},
    resume::{Attached, Place, Resume, Resumed},
    shm::NotifyCount,
};

mod direct;
mod join;
mod ring;

use self::join::{Joined, Joining};

/// The size of a read from the connection, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// The largest chunk that is assembled from parts, in bytes. Without this bound, a daemon that
/// sends parts without end could exhaust all memory. By default, all streams of a daemon together
/// hold far less.
pub(crate) const MAX_GATHERED_BYTES: usize =
    if cfg!(test) { 4 * 1024 * 1024 } else { 4 * 1024 * 1024 * 1024 };

/// A reader of one stream, with a connection of its own. Dropping the reader detaches it.
///
/// Resuming: over HTTP, a reader whose connection breaks opens a new connection and continues with
/// the same stream at the same offset. The reader tries for at most 5 seconds. Meanwhile, a `block`
/// reader makes no writer wait. A reader never continues with another stream: if the stream was
/// removed or the daemon was restarted, the reader fails, even if a new stream has the same path.
///
/// Bytes delivered plus bytes reported as gaps equal the difference between the last offset and the
/// first. The reader checks the daemon's offsets against its own count.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    position: u64,
    /// The lost bytes and chunks that were reported as gaps.
    lost: (u64, u64),
    /// The parts of the current chunk that have arrived.
    parts: BytesMut,
    /// The event to return next: the one that ended a batch of chunks, or a change of
    /// the connection.
    next_event: Option<Event>,
    source: Source,
    /// The retired watch of a ring buffer that is no longer read. Dropping the watch would shut the
    /// connection down.
    #[cfg(target_os = "linux")]
    watch: Option<Watch>,
    /// The error that ended the connection of an shm reader. Returned once the ring buffer has been
    /// read to its head.
    broken: Option<ReadError>,
    /// The state for resuming over a new connection, if the transport allows resuming.
    resume: Option<Box<Resume>>,
    /// The stream's identity, from the daemon.
    attached: Option<Attached>,
    /// How the reader was told to join.
    how: Join,
    /// The daemon's `Joined`, kept until its `Reading` arrives.
    joined: Option<Joined>,
    /// The state of a reader that joins. `None` if it gets exact bytes.
    join: Option<Box<Joining>>,
    state: State,
}

/// The source of a reader's chunks.
#[derive(Debug)]
enum Source {
    Connection,
    /// The stream's ring buffer, if the daemon passed it. Only on systems that support
    /// shared memory.
    #[cfg(target_os = "linux")]
    Ring(Box<ShmSource>),
}

#[derive(Debug)]
enum State {
    /// An event to return before anything is read.
    Announce(Event),
    Waiting,
    Reading,
    Ended {
        reason: End,
        offset: u64,
    },
    Failed(ReadError),
}

/// Converts a failed system call of the reader.
#[cfg(target_os = "linux")]
fn system(error: io::Error) -> ReadError {
    ReadError::Other(Cause::new(ConnectError::System(Arc::new(error))))
}

impl Reader {
    /// Attaches over `connection`. With `resuming`, the reader resumes over new connections from
    /// that dialer.
    pub(crate) async fn open(
        mut connection: Connection,
        resuming: Option<Dialer>,
        path: &StreamPath,
        options: ReadOptions,
    ) -> Result<Self, RequestError> {
        let options = join::agreed(&mut connection, options).await?;
        // A reader that resumes continues at its offset and does not join again.
        let again = options.join(Join::Raw);
        let mut reader = Self {
            resume: resuming.map(|dialer| Box::new(Resume::new(dialer, path, again))),
            attached: None,
            how: join::how(options),
            joined: None,
            join: None,
            connection,
            position: 0,
            lost: (0, 0),
            parts: BytesMut::new(),
            next_event: None,
            source: Source::Connection,
            #[cfg(target_os = "linux")]
            watch: None,
            broken: None,
            state: State::Waiting,
        };
        let mut reply =
            reader.connection.request(&Request::OpenReader(path.clone(), options)).await?;
        loop {
            let event = match reply {
                Reply::Waiting => Some(Event::Waiting),
                Reply::Error { code, message } => return Err(RequestError::refused(code, message)),
                reply => reader.attach(reply)?,
            };
            if let Some(event) = event {
                reader.state = State::Announce(event);
                return Ok(reader);
            }
            reply = reader.connection.receive().await?;
        }
    }

    /// Handles the messages before the first chunk. Returns `Some` once the reader is attached.
    fn attach(&mut self, reply: Reply) -> Result<Option<Event>, RequestError> {
        match reply {
            #[cfg(target_os = "linux")]
            Reply::Shm(start) if let Some(passed) = self.connection.passed() => {
                match ShmSource::open(&start, passed) {
                    Ok(ring) => self.source = Source::Ring(Box::new(ring)),
                    // The daemon then sends the chunks over the connection.
                    Err(_) => self.connection.notify(&Request::CannotMap)?,
                }
                Ok(None)
            }
            Reply::Identity { identity, deaths_before } => {
                self.attached = Some(Attached { identity, deaths_before });
                Ok(None)
            }
            Reply::Joined { place, seeks, format, header } => {
                self.joined = Some(Joined { place, seeks, format, header });
                Ok(None)
            }
            Reply::Reading { start, head, content_type } => {
                self.position = start;
                self.state = State::Reading;
                self.begin_to_join(start, content_type.as_deref());
                if let Some(resume) = &mut self.resume {
                    resume.attached(self.attached, head);
                }
                Ok(Some(Event::Attached { start, head, content_type }))
            }
            _ => Err(RequestError::unexpected("the position in the stream")),
        }
    }

    /// Waits for the next event. After [`Event::End`], returns the same event again.
    ///
    /// An [`Event::Chunk`] may share a buffer of up to 256 KiB with other chunks. Copy small chunks
    /// that you keep, so that they do not keep that buffer alive.
    ///
    /// # Errors
    ///
    /// The reader failed. Every later call returns the same error.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that was not returned is not lost.
    pub async fn next(&mut self) -> Result<Event, ReadError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the next event if it has already arrived, otherwise `None`. Does not read from the
    /// connection. Use this method after [`next`](Self::next), to get the events that
    /// arrived together.
    ///
    /// # Errors
    ///
    /// The errors of [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        if let Some(joining) = self.joining() {
            return self.try_next_joined(joining);
        }
        let event = self.following()?;
        Ok(self.told(event))
    }

    /// Like [`try_next`](Self::try_next), but does not count a gap yet; [`told`](Self::told) does.
    fn following(&mut self) -> Result<Option<Event>, ReadError> {
        if let Some(event) = self.next_event.take() {
            return Ok(Some(event));
        }
        match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::Ended { reason, offset } => {
                return Ok(Some(Event::End { reason: *reason, offset: *offset }));
            }
            State::Announce(_) => return Ok(self.announce()),
            State::Waiting | State::Reading => (),
        }
        if let (State::Reading, Some(resume)) = (&self.state, &self.resume)
            && resume.has_caught_up(self.position)
        {
            let (reason, offset) = (End::CaughtUp, self.position);
            self.state = State::Ended { reason, offset };
            return Ok(Some(Event::End { reason, offset }));
        }
        self.here().map_err(|error| self.fail(error))
    }

    /// The next event from the ring buffer or the connection, if one has arrived.
    fn here(&mut self) -> Result<Option<Event>, ReadError> {
        #[cfg(target_os = "linux")]
        while let (State::Reading, Source::Ring(ring)) = (&self.state, &mut self.source) {
            let event = ring.try_next()?;
            self.tell_room();
            if let Some(event) = &event {
                self.count(event)?;
            }
            if event.is_some() || !self.follow()? {
                return Ok(event);
            }
        }
        // The event that arrived together with the daemon's message to leave the ring buffer.
        if let Some(event) = self.next_event.take() {
            return Ok(Some(event));
        }
        self.decoded()
    }

    /// Waits for a batch of chunks. Like [`next`](Self::next), but clears `chunks`, fills it with
    /// all chunks that arrived together and returns `None`; or returns an event that is not a
    /// chunk. This is cheaper for many small chunks: once `chunks` has grown to its size, nothing
    /// is allocated.
    ///
    /// # Errors
    ///
    /// The errors of [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: chunks and events that were not returned are not lost.
    pub async fn next_batch(&mut self, chunks: &mut Chunks) -> Result<Option<Event>, ReadError> {
        poll_fn(|cx| self.poll_batch(cx, chunks)).await
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Chunks,
    ) -> Poll<Result<Option<Event>, ReadError>> {
        loop {
            let count = self.notify_count();
            let event = self.try_next_batch(chunks)?;
            if event.is_some() || !chunks.is_empty() {
                return Poll::Ready(Ok(event));
            }
            ready!(self.poll_news(cx, count))?;
        }
    }

    /// Returns the chunks that have already arrived. Like [`next_batch`](Self::next_batch), but
    /// does not wait: if nothing has arrived, returns `None` and leaves `chunks` empty.
    ///
    /// # Errors
    ///
    /// The errors of [`next`](Self::next).
    pub fn try_next_batch(&mut self, chunks: &mut Chunks) -> Result<Option<Event>, ReadError> {
        chunks.clear();
        if let Some(joining) = self.joining() {
            return self.try_next_batch_joined(joining, chunks);
        }
        #[cfg(target_os = "linux")]
        while let (State::Reading, None, Source::Ring(ring)) =
            (&self.state, &self.next_event, &mut self.source)
        {
            let event = ring.try_next_batch(chunks).map_err(|error| self.fail(error))?;
            self.tell_room();
            let counted = self.advance(chunks.bytes().len());
            let counted =
                counted.and_then(|()| event.iter().try_for_each(|event| self.count(event)));
            counted.map_err(|error| self.fail(error.into()))?;
            if event.is_some() || !chunks.is_empty() || !self.follow()? {
                return Ok(self.told(event));
            }
        }
        loop {
            match self.following() {
                Ok(Some(Event::Chunk(chunk)))
                    if chunks.is_empty() && chunk.len() >= LARGE_CHUNK_BYTES =>
                {
                    chunks.hold(chunk);
                    return Ok(None);
                }
                Ok(Some(Event::Chunk(chunk))) => chunks.push(&chunk),
                // The error is returned again by the next call. Return the chunks before it first.
                Err(_) if !chunks.is_empty() => return Ok(None),
                Err(error) => return Err(error),
                Ok(event) if chunks.is_empty() => return Ok(self.told(event)),
                // Returned after the chunks. A gap behind them must not change their offsets.
                Ok(event) => {
                    self.next_event = event;
                    return Ok(None);
                }
            }
        }
    }

    /// Advances the position by a chunk from the ring buffer, or stores the end. Does not count a
    /// gap; [`told`](Self::told) does when the gap is returned.
    #[cfg(target_os = "linux")]
    fn count(&mut self, event: &Event) -> Result<(), ProtocolError> {
        match event {
            Event::Chunk(chunk) => self.advance(chunk.len())?,
            Event::End { reason, offset } => {
                self.state = State::Ended { reason: *reason, offset: *offset }
            }
            _ => {}
        }
        Ok(())
    }

    /// Advances the position. A position beyond 64 bits is a protocol error, because no stream
    /// can be that long.
    fn advance(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        let counted = self.position;
        let end = counted.checked_add(bytes as u64);
        self.position = end.ok_or(ProtocolError::Offset { said: u64::MAX, counted })?;
        Ok(())
    }

    /// Counts `event` as lost if it is a gap. Call this when the event is about to be returned.
    fn told(&mut self, event: Option<Event>) -> Option<Event> {
        if let Some(Event::Gap { from, to, chunks }) = event {
            let (lost_bytes, lost_chunks) = &mut self.lost;
            *lost_bytes = lost_bytes.saturating_add(to.saturating_sub(from));
            *lost_chunks = lost_chunks.saturating_add(chunks);
            self.position = to;
        }
        event
    }

    /// Bytes lost in all gaps so far, including an [`Event::Gap`] that was just returned.
    /// Never decreases.
    pub fn lost_bytes(&self) -> u64 {
        self.lost.0
    }

    /// Chunks lost in all gaps so far, as far as their number is known.
    pub fn lost_chunks(&self) -> u64 {
        self.lost.1
    }

    /// The offset after everything that was returned. Before the first event: the offset where
    /// reading starts.
    ///
    /// Zero while the reader waits for its stream.
    pub fn position(&self) -> u64 {
        self.join.as_ref().map_or(self.position, |joining| joining.position)
    }

    /// Memory held for reading, in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&mut self) -> usize {
        self.connection.memory().saturating_add(self.parts.capacity())
    }

    /// Poll form of [`next`](Self::next), for hand-written futures. If pending, it has consumed
    /// no event.
    ///
    /// # Errors
    ///
    /// The errors of [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        loop {
            let count = self.notify_count();
            if let Some(event) = self.try_next()? {
                return Poll::Ready(Ok(event));
            }
            ready!(self.poll_news(cx, count))?;
        }
    }

    /// Ready once there may be a new event. For an shm reader, an event is new if it came after the
    /// notifier had the count `count`.
    pub(crate) fn poll_news(
        &mut self,
        cx: &mut Context<'_>,
        count: Option<NotifyCount>,
    ) -> Poll<Result<(), ReadError>> {
        if let Some(resume) = self.resume.as_mut().filter(|resume| resume.is_under_way()) {
            let resumed = ready!(resume.poll(cx));
            return Poll::Ready(
                resumed.and_then(|resumed| self.resumed(resumed)).map_err(|error| self.fail(error)),
            );
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(self.fail(error)));
        }
        if let Poll::Ready(Err(broken)) = self.connection.poll_unsaid(cx) {
            return Poll::Ready(self.read_out(broken.into()));
        }
        // The connection of an shm reader carries only errors and notices; all events are in the
        // ring buffer.
        match self.connection.poll_fill(cx, READ_BYTES) {
            Poll::Ready(Ok(())) => {
                #[cfg(target_os = "linux")]
                if self.is_shm() {
                    return Poll::Ready(self.hear());
                }
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(RequestError::Lost(why))) => {
                return match self.go_on_after(why) {
                    // The reader may have an end to return now. Otherwise it polls again.
                    Ok(()) => Poll::Ready(Ok(())),
                    Err(why) => Poll::Ready(self.read_out(RequestError::Lost(why).into())),
                };
            }
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(self.fail(broken.into()))),
            // Release the buffer while the reader waits for data.
            Poll::Pending => self.connection.release(),
        }
        match (&mut self.source, count) {
            #[cfg(target_os = "linux")]
            (Source::Ring(ring), Some(count)) if !ring.is_asking() => {
                ring.release();
                ring.poll_news(cx, count).map_err(|error| self.fail(system(error)))
            }
            _ => Poll::Pending,
        }
    }

    /// Starts to resume over a new connection, if the reader can.
    fn go_on_after(&mut self, why: Arc<io::Error>) -> Result<(), Arc<io::Error>> {
        let Some(resume) = &mut self.resume else { return Err(why) };
        // Drop the partial chunk: the new connection starts with its first byte.
        self.parts = BytesMut::new();
        resume.begin(matches!(self.state, State::Reading), self.position, why)
    }

    /// Switches to a new connection.
    fn resumed(&mut self, resumed: Resumed) -> Result<(), ReadError> {
        let Resumed { connection, place } = resumed;
        self.connection = connection;
        if let Some((attached, Place { start, head, content_type })) = place {
            if let Some(resume) = &mut self.resume {
                resume.attached(attached, head);
            }
            self.check(start)?;
            if let State::Waiting = self.state {
                self.begin_to_join(start, content_type.as_deref());
                self.state = State::Announce(Event::Attached { start, head, content_type });
            }
        } else if let State::Reading = self.state {
            return Err(RequestError::unexpected("the position in the stream").into());
        }
        self.next_event = Some(Event::Resumed { offset: self.position });
        Ok(())
    }

    /// Takes the state of a reader that joins. Returns `None` while an announcement, such as
    /// [`Event::Attached`], is still to be returned: it does not pass through the joiner.
    fn joining(&mut self) -> Option<Box<Joining>> {
        if matches!(self.state, State::Announce(_)) { None } else { self.join.take() }
    }

    fn announce(&mut self) -> Option<Event> {
        let next = match &self.state {
            State::Announce(Event::Waiting) => State::Waiting,
            State::Announce(_) => State::Reading,
            _ => return None,
        };
        match std::mem::replace(&mut self.state, next) {
            State::Announce(event) => Some(event),
            _ => None,
        }
    }

    /// The next event among the messages that were already read.
    fn decoded(&mut self) -> Result<Option<Event>, ReadError> {
        while let Some(reply) = self.connection.received()? {
            if let Some(event) = self.event(reply)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn event(&mut self, reply: Reply) -> Result<Option<Event>, ReadError> {
        match (&self.state, reply) {
            (_, Reply::Error { code, message }) => Err(RequestError::refused(code, message).into()),
            (State::Waiting, reply) => Ok(self.attach(reply)?),
            #[cfg(target_os = "linux")]
            (State::Reading, Reply::Ring { layout, leased }) if self.is_asking() => {
                self.goes_on_in(layout, leased)?;
                Ok(None)
            }
            #[cfg(target_os = "linux")]
            (State::Reading, Reply::Unshared) if self.is_asking() => {
                self.leave_ring();
                Ok(None)
            }
            #[cfg(target_os = "linux")]
            (State::Reading, Reply::RingLeft) => {
                if let Source::Ring(ring) = &mut self.source {
                    ring.mark_left();
                }
                Ok(None)
            }
            (_, _) if self.is_shm() => Err(RequestError::unexpected(
                "no message, because the reader follows the ring itself",
            )
            .into()),
            (_, Reply::Data(bytes)) => self.chunk(bytes),
            (_, Reply::DataPart(bytes)) => {
                self.gather(&bytes)?;
                Ok(None)
            }
            (_, Reply::Gap { from, to, chunks }) => {
                // The rest of a chunk was overwritten before the daemon sent it. The gap starts at
                // the first byte of that chunk.
                self.parts = BytesMut::new();
                self.check(from)?;
                if to <= from {
                    return Err(ProtocolError::Offset { said: to, counted: from }.into());
                }
                self.progress();
                Ok(Some(Event::Gap { from, to, chunks }))
            }
            (_, _) if !self.parts.is_empty() => {
                Err(RequestError::unexpected("the rest of a chunk").into())
            }
            (_, Reply::End { reason, offset }) => {
                self.check(offset)?;
                let reason = self.resume.as_ref().map_or(reason, |resume| resume.end(reason));
                self.state = State::Ended { reason, offset };
                Ok(Some(Event::End { reason, offset }))
            }
            _ => Err(RequestError::unexpected("a chunk, a gap or the end").into()),
        }
    }

    fn gather(&mut self, part: &[u8]) -> Result<(), ProtocolError> {
        if self.parts.len().saturating_add(part.len()) > MAX_GATHERED_BYTES {
            return Err(ProtocolError::TooLarge { most: MAX_GATHERED_BYTES });
        }
        self.parts.extend_from_slice(part);
        Ok(())
    }

    fn chunk(&mut self, last: Bytes) -> Result<Option<Event>, ReadError> {
        let chunk = if self.parts.is_empty() {
            last
        } else {
            self.gather(&last)?;
            // Take the buffer instead of splitting it, so that its memory goes with the chunk.
            std::mem::take(&mut self.parts).freeze()
        };
        if chunk.is_empty() {
            return Ok(None);
        }
        self.advance(chunk.len())?;
        self.progress();
        Ok(Some(Event::Chunk(chunk)))
    }

    fn progress(&mut self) {
        if let Some(resume) = &mut self.resume {
            resume.progress();
        }
    }

    /// Checks the daemon's offset against the reader's own count.
    fn check(&self, said: u64) -> Result<(), ProtocolError> {
        let counted = self.position;
        if said == counted { Ok(()) } else { Err(ProtocolError::Offset { said, counted }) }
    }

    fn fail(&mut self, error: ReadError) -> ReadError {
        self.state = State::Failed(error.clone());
        error
    }
}
