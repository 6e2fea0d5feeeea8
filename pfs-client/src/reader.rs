//! Following a stream.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use pfs_proto::{End, ReadOptions, Reply, Request, StreamPath};

use crate::connection::Connection;
use crate::error::{ProtocolError, ReadError, RequestError};

/// How much is read at once, in bytes.
const READ_SIZE: usize = 256 << 10;

/// What happens to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The stream does not exist yet; the reader will be attached when it is created.
    Waiting,
    /// It is attached; chunks and gaps follow.
    Attached {
        /// The offset of the first byte or gap that follows.
        start: u64,
        /// Head at that moment.
        head: u64,
        /// Media type of the contents, if the stream was given one.
        content_type: Option<String>,
    },
    /// One chunk, whole: what one append appended. (When reading starts inside a chunk: the rest of that one.)
    Chunk(Bytes),
    /// A range of offsets that this reader will never get.
    Gap {
        /// First lost offset.
        from: u64,
        /// Offset after the last lost one.
        to: u64,
        /// How many chunks were lost.
        chunks: u64,
    },
    /// Nothing more follows.
    End {
        /// Why.
        reason: End,
        /// Offset after the last byte or gap.
        offset: u64,
    },
}

/// A reader of one stream, with a connection of its own. Dropping it detaches it.
///
/// Bytes delivered plus bytes reported as gaps are exactly the difference between the first offset and the last: the
/// reader checks the daemon's count against its own.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    position: u64,
    /// What the chunk under way has until now.
    parts: BytesMut,
    state: State,
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

impl Reader {
    pub(crate) async fn open(
        mut connection: Connection,
        path: &StreamPath,
        options: ReadOptions,
    ) -> Result<Self, RequestError> {
        let (event, position) = match connection.request(&Request::OpenReader(path.clone(), options)).await? {
            Reply::Waiting => (Event::Waiting, 0),
            Reply::Reading { start, head, content_type } => {
                (Event::Attached { start, head, content_type }, start)
            }
            Reply::Error { code, message } => return Err(RequestError::told(code, message)),
            _ => return Err(ProtocolError::Unexpected { expected: "a place in the stream" }.into()),
        };
        Ok(Self { connection, position, parts: BytesMut::new(), state: State::Announce(event) })
    }

    /// The next event, however long it takes. After [`Event::End`] it is that again.
    ///
    /// Cancel safe: an event is lost only if it was returned. A [`Event::Chunk`] shares the memory of what was read
    /// with it, up to 256 KiB: copy small chunks that are kept.
    ///
    /// # Errors
    ///
    /// When the reader's stream broke off; then forever.
    pub async fn next(&mut self) -> Result<Event, ReadError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event if it is here already; `None` if it had to be waited for. Reads nothing from the connection: use
    /// it after [`next`](Self::next), to get at once what came together.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        match &self.state {
            State::Failed(error) => return Err(error.again()),
            State::Ended { reason, offset } => {
                return Ok(Some(Event::End { reason: *reason, offset: *offset }));
            }
            State::Announce(_) => return Ok(self.announce()),
            State::Waiting | State::Reading => (),
        }
        self.decoded().map_err(|error| self.fail(error))
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

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        loop {
            if let Some(event) = self.try_next()? {
                return Poll::Ready(Ok(event));
            }
            match self.connection.poll_fill(cx, READ_SIZE) {
                Poll::Ready(Ok(())) => (),
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(self.fail(broken.into()))),
                Poll::Pending => {
                    // A reader that waits for data keeps no room for it.
                    self.connection.release();
                    return Poll::Pending;
                }
            }
        }
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
            (_, Reply::Error { code, message }) => Err(ReadError::told(code, message)),
            (State::Waiting, Reply::Reading { start, head, content_type }) => {
                self.position = start;
                self.state = State::Reading;
                Ok(Some(Event::Attached { start, head, content_type }))
            }
            (State::Waiting, _) => {
                Err(ProtocolError::Unexpected { expected: "a place in the stream" }.into())
            }
            (_, Reply::Data(bytes)) => self.chunk(bytes),
            (_, Reply::DataPart(bytes)) => {
                self.parts.extend_from_slice(&bytes);
                Ok(None)
            }
            (_, _) if !self.parts.is_empty() => {
                Err(ProtocolError::Unexpected { expected: "the rest of a chunk" }.into())
            }
            (_, Reply::Gap { from, to, chunks }) => {
                self.check(from)?;
                if to <= from {
                    return Err(ProtocolError::Offset { said: to, counted: from }.into());
                }
                self.position = to;
                Ok(Some(Event::Gap { from, to, chunks }))
            }
            (_, Reply::End { reason, offset }) => {
                self.check(offset)?;
                self.state = State::Ended { reason, offset };
                Ok(Some(Event::End { reason, offset }))
            }
            _ => Err(ProtocolError::Unexpected { expected: "a chunk, a gap or the end" }.into()),
        }
    }

    fn chunk(&mut self, last: Bytes) -> Result<Option<Event>, ReadError> {
        let chunk = if self.parts.is_empty() {
            last
        } else {
            self.parts.extend_from_slice(&last);
            // Taken, not split off: the memory goes with the chunk.
            std::mem::take(&mut self.parts).freeze()
        };
        if chunk.is_empty() {
            return Ok(None);
        }
        let end = self.position.checked_add(chunk.len() as u64);
        self.position = end.ok_or(ProtocolError::Offset { said: u64::MAX, counted: self.position })?;
        Ok(Some(Event::Chunk(chunk)))
    }

    /// That the daemon has counted as this reader has.
    fn check(&self, said: u64) -> Result<(), ProtocolError> {
        let counted = self.position;
        if said == counted { Ok(()) } else { Err(ProtocolError::Offset { said, counted }) }
    }

    fn fail(&mut self, error: ReadError) -> ReadError {
        let again = error.again();
        self.state = State::Failed(error);
        again
    }
}
