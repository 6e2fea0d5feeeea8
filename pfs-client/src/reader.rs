//! Following a stream.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use pfs_proto::{End, Event, ReadOptions, Reply, Request, StreamPath};
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
mod ring;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// The largest chunk that is gathered from its parts, in bytes. A daemon that sends parts without
/// end could otherwise take all memory. A daemon's streams together hold far less by default.
const MAX_GATHERED_BYTES: usize = if cfg!(test) { 4 * 1024 * 1024 } else { 4 * 1024 * 1024 * 1024 };

/// A reader of one stream, with a connection of its own. Dropping it detaches it.
///
/// Over HTTP, a connection that breaks is replaced by another one, on which the same stream is read
/// on from where it was; that takes 5 seconds at most. A `block` reader makes no writer wait
/// meanwhile. A stream that was removed, or whose daemon was restarted, is never gone on with,
/// whatever there is under its name.
///
/// Bytes delivered plus bytes reported as gaps are exactly the difference between the first offset
/// and the last: the reader checks the daemon's count against its own.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    position: u64,
    /// What it was told that it lost, in bytes and chunks.
    lost: (u64, u64),
    /// What the chunk under way has until now.
    parts: BytesMut,
    /// What ended a batch of chunks, or happened to the connection: to be told next.
    next_event: Option<Event>,
    source: Source,
    /// The retired watch of a ring that is no longer read. Dropping it would shut the connection
    /// down.
    #[cfg(target_os = "linux")]
    watch: Option<Watch>,
    /// What ended the connection of a reader that has the ring: to be told when the ring has no
    /// more.
    broken: Option<ReadError>,
    /// How to go on when the connection breaks, where that is possible.
    resume: Option<Box<Resume>>,
    /// What the daemon said that it is attached to.
    attached: Option<Attached>,
    state: State,
}

/// Where its chunks come from.
#[derive(Debug)]
enum Source {
    Connection,
    /// The ring itself, where the daemon could hand it over. Systems that cannot share memory have
    /// no such source.
    #[cfg(target_os = "linux")]
    Ring(Box<ShmSource>),
}

#[derive(Debug)]
enum State {
    /// An event that is to be told before anything is read.
    Announce(Event),
    Waiting,
    Reading,
    Ended {
        reason: End,
        offset: u64,
    },
    Failed(ReadError),
}

/// The system refused what reading needs.
#[cfg(target_os = "linux")]
fn system(error: io::Error) -> ReadError {
    ReadError::Other(Cause::new(ConnectError::System(Arc::new(error))))
}

impl Reader {
    /// Attaches over this connection; if it breaks, goes on over another one from there.
    pub(crate) async fn open(
        connection: Connection,
        resuming: Option<Dialer>,
        path: &StreamPath,
        options: ReadOptions,
    ) -> Result<Self, RequestError> {
        let mut reader = Self {
            resume: resuming.map(|dialer| Box::new(Resume::new(dialer, path, options))),
            attached: None,
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

    /// Takes what comes before the first chunk; `Some` when it is attached.
    fn attach(&mut self, reply: Reply) -> Result<Option<Event>, RequestError> {
        match reply {
            #[cfg(target_os = "linux")]
            Reply::Shm(start) if let Some(passed) = self.connection.passed() => {
                match ShmSource::open(&start, passed) {
                    Ok(ring) => self.source = Source::Ring(Box::new(ring)),
                    // The daemon then goes on as it does for readers elsewhere.
                    Err(_) => self.connection.notify(&Request::CannotMap)?,
                }
                Ok(None)
            }
            Reply::Identity { identity, deaths_before } => {
                self.attached = Some(Attached { identity, deaths_before });
                Ok(None)
            }
            Reply::Reading { start, head, content_type } => {
                self.position = start;
                self.state = State::Reading;
                if let Some(resume) = &mut self.resume {
                    resume.attached(self.attached, head);
                }
                Ok(Some(Event::Attached { start, head, content_type }))
            }
            _ => Err(RequestError::unexpected("a place in the stream")),
        }
    }

    /// The next event, however long it takes. After [`Event::End`] it is that again.
    ///
    /// A [`Event::Chunk`] shares the memory of what was read
    /// with it, up to 256 KiB: copy small chunks that are kept.
    ///
    /// # Errors
    ///
    /// When the reader's stream broke off; then forever.
    ///
    /// # Cancel safety
    ///
    /// An event is lost only if it was returned.
    pub async fn next(&mut self) -> Result<Event, ReadError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event if it is here already; `None` if it had to be waited for. Reads nothing from
    /// the connection: use it after [`next`](Self::next), to get at once what came together.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        let event = self.following()?;
        Ok(self.told(event))
    }

    /// As [`try_next`](Self::try_next), but a gap is not counted before it is [told](Self::told).
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

    /// The next event that is here, from wherever this reader gets them.
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
        // What came right after the news that the ring is no longer to be read.
        if let Some(event) = self.next_event.take() {
            return Ok(Some(event));
        }
        self.decoded()
    }

    /// As [`next`](Self::next), but adds all chunks that came together to `chunks`, which is
    /// emptied first; `None` then. Cheaper for many small chunks: nothing is allocated once
    /// `chunks` has its size.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// Chunks and events are lost only if they were returned.
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

    /// As [`next_batch`](Self::next_batch), for what is here already: no chunks and no event if
    /// there is nothing.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn try_next_batch(&mut self, chunks: &mut Chunks) -> Result<Option<Event>, ReadError> {
        chunks.clear();
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
                // It comes again: first what came before it.
                Err(_) if !chunks.is_empty() => return Ok(None),
                Err(error) => return Err(error),
                Ok(event) if chunks.is_empty() => return Ok(self.told(event)),
                // Told after the chunks, whose offsets must not change by a gap that comes later.
                Ok(event) => {
                    self.next_event = event;
                    return Ok(None);
                }
            }
        }
    }

    /// Moves on by an event of the ring, unless that is a gap.
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

    /// Moves on by bytes that were read. An offset that 64 bits do not hold is one that no daemon
    /// can mean.
    fn advance(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        let counted = self.position;
        let end = counted.checked_add(bytes as u64);
        self.position = end.ok_or(ProtocolError::Offset { said: u64::MAX, counted })?;
        Ok(())
    }

    /// Moves on by what is returned now, if that is a gap.
    fn told(&mut self, event: Option<Event>) -> Option<Event> {
        if let Some(Event::Gap { from, to, chunks }) = event {
            let (lost_bytes, lost_chunks) = &mut self.lost;
            *lost_bytes = lost_bytes.saturating_add(to.saturating_sub(from));
            *lost_chunks = lost_chunks.saturating_add(chunks);
            self.position = to;
        }
        event
    }

    /// Bytes in all gaps so far, those of a [`Event::Gap`] that was returned included. Only ever
    /// grows.
    pub fn lost_bytes(&self) -> u64 {
        self.lost.0
    }

    /// Chunks in all gaps so far, where it is known how many.
    pub fn lost_chunks(&self) -> u64 {
        self.lost.1
    }

    /// Offset after everything that was returned, or of the first event that will be.
    ///
    /// Zero while the reader waits for its stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How much memory it holds for reading, in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&mut self) -> usize {
        self.connection.memory().saturating_add(self.parts.capacity())
    }

    /// As [`next`](Self::next), for futures written by hand. Pending, it has taken nothing.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        loop {
            let count = self.notify_count();
            if let Some(event) = self.try_next()? {
                return Poll::Ready(Ok(event));
            }
            ready!(self.poll_news(cx, count))?;
        }
    }

    /// Ready when there may be an event since the notifier's count was taken, if there is a
    /// notifier.
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
        // A ring's reader hears no more than an error here: everything else is in the ring.
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
                    // There may be an end now; otherwise it is polled again.
                    Ok(()) => Poll::Ready(Ok(())),
                    Err(why) => Poll::Ready(self.read_out(RequestError::Lost(why).into())),
                };
            }
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(self.fail(broken.into()))),
            // A reader that waits for data keeps no room for it.
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

    /// Goes on over another connection, if it may.
    fn go_on_after(&mut self, why: Arc<io::Error>) -> Result<(), Arc<io::Error>> {
        let Some(resume) = &mut self.resume else { return Err(why) };
        // The rest of that chunk does not come; the new connection begins with its first byte.
        self.parts = BytesMut::new();
        resume.begin(matches!(self.state, State::Reading), self.position, why)
    }

    /// Takes over a new connection.
    fn resumed(&mut self, resumed: Resumed) -> Result<(), ReadError> {
        let Resumed { connection, place } = resumed;
        self.connection = connection;
        if let Some((attached, Place { start, head, content_type })) = place {
            if let Some(resume) = &mut self.resume {
                resume.attached(attached, head);
            }
            self.check(start)?;
            if let State::Waiting = self.state {
                self.state = State::Announce(Event::Attached { start, head, content_type });
            }
        } else if let State::Reading = self.state {
            return Err(RequestError::unexpected("a place in the stream").into());
        }
        self.next_event = Some(Event::Resumed { offset: self.position });
        Ok(())
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

    /// The next event that what was read holds.
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
            (_, _) if self.is_shm() => {
                Err(RequestError::unexpected("nothing, for the ring was handed over").into())
            }
            (_, Reply::Data(bytes)) => self.chunk(bytes),
            (_, Reply::DataPart(bytes)) => {
                self.gather(&bytes)?;
                Ok(None)
            }
            (_, Reply::Gap { from, to, chunks }) => {
                // The rest of a chunk was overwritten before it was sent: the gap begins with the
                // chunk.
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
            // Taken, not split off: the memory goes with the chunk.
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

    /// That the daemon has counted as this reader has.
    fn check(&self, said: u64) -> Result<(), ProtocolError> {
        let counted = self.position;
        if said == counted { Ok(()) } else { Err(ProtocolError::Offset { said, counted }) }
    }

    fn fail(&mut self, error: ReadError) -> ReadError {
        self.state = State::Failed(error.clone());
        error
    }
}
