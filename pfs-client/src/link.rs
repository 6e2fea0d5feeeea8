//! Link: follows a stream in order to replicate it. Relay: a writer's connection of another daemon's
//! client. Internal to pfs's own daemons.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::{Buf as _, Bytes, BytesMut};
use pfs_proto::{
    End, Hello, Hop, Identity, Origin, PathError, ReadOptions, Reply, Request, SlowPolicy,
    StreamPath, StreamStat, StreamSummary, WriteOptions, Writers,
};

use crate::{
    Client, ReadError, RequestError, client::checked, connection::Connection, error::ProtocolError,
    reader::MAX_GATHERED_BYTES,
};

/// The size of a read from the connection, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Follows a stream in order to replicate it: like a [`Reader`](crate::Reader) of exact bytes that
/// also learns when the chunks were appended, and of the writers. Never reconnects by itself.
#[derive(Debug)]
pub struct LinkReader {
    connection: Connection,
    policy: SlowPolicy,
    start: LinkStart,
    /// The offset after everything that was returned.
    position: u64,
    /// Head at the daemon, as it last told.
    head: u64,
    /// The parts of the current chunk that have arrived.
    parts: BytesMut,
    max_chunk: usize,
}

/// Where a link starts, and what a replica takes over from its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStart {
    /// The identity of the stream.
    pub identity: Identity,
    /// What a replica takes over.
    pub origin: Origin,
    /// The writers when the link attached.
    pub writers: Writers,
    /// The offset of the first byte or gap that follows.
    pub start: u64,
    /// Head when the link attached.
    pub head: u64,
    /// The media type of the contents.
    pub content_type: Option<String>,
}

/// What a link receives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// When the chunks that follow were appended.
    AppendedAt(SystemTime),
    /// One whole chunk; the rest of a chunk if the link started inside it.
    Chunk(Bytes),
    /// A range of offsets that this link will never get.
    Gap {
        /// The first lost offset.
        from: u64,
        /// The offset after the last lost byte.
        to: u64,
        /// The number of lost chunks; 0 if unknown.
        chunks: u64,
    },
    /// The writers of the stream, which have appended nothing that was not received before.
    Writers(Writers),
    /// The end of the stream; nothing follows.
    End(End),
}

impl Client {
    /// A connection to a daemon that knows links.
    async fn linking(&self) -> Result<Connection, RequestError> {
        let mut connection = self.connection().await?;
        connection.learn(Hello::LINKING).await?;
        if connection.can_link() {
            Ok(connection)
        } else {
            Err(RequestError::Unsupported { feature: "links" })
        }
    }

    /// Attaches a link. With [`ReadOptions::wait`], waits until the stream is created.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unsupported`] if the daemon knows no links, and the errors of
    /// [`reader`](Self::reader).
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn link(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: ReadOptions,
    ) -> Result<LinkReader, RequestError> {
        let path = checked(path)?;
        let mut connection = self.linking().await?;
        let (mut identity, mut origin, mut writers) = (None, None, None);
        let mut reply = connection.request(&Request::OpenLink(path, options)).await?;
        loop {
            match reply {
                Reply::Waiting => {}
                Reply::Identity { identity: found, .. } => identity = Some(found),
                Reply::Origin(found) => {
                    // A copy, because the link keeps it, and the original, even if it is empty,
                    // keeps the whole read buffer alive.
                    let header = Bytes::copy_from_slice(&found.header);
                    origin = Some(Origin { header, ..found });
                }
                Reply::Writers(found) => writers = Some(found),
                Reply::Reading { start, head, content_type } => {
                    let (Some(identity), Some(origin), Some(writers)) = (identity, origin, writers)
                    else {
                        return Err(RequestError::unexpected("the origin of a stream"));
                    };
                    if head < start {
                        return Err(ProtocolError::Offset { said: head, counted: start }.into());
                    }
                    let attached =
                        LinkStart { identity, origin, writers, start, head, content_type };
                    return Ok(LinkReader {
                        connection,
                        policy: options.policy,
                        position: start,
                        head,
                        start: attached,
                        parts: BytesMut::new(),
                        max_chunk: MAX_GATHERED_BYTES,
                    });
                }
                Reply::Error { code, message } => return Err(RequestError::refused(code, message)),
                _ => return Err(RequestError::unexpected("the position in the stream")),
            }
            reply = connection.receive().await?;
        }
    }
}

/// A writer's connection, whose messages are those of a client of another daemon.
#[derive(Debug)]
pub struct RelayWriter {
    connection: Connection,
    max_chunk: u64,
}

impl Client {
    /// Follows a mount of the daemon, such as `/streamfs`, to the daemon that owns its streams. `hops`
    /// led here.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unsupported`] if the daemon knows no links, and any other [`RequestError`]: a
    /// daemon on the way cannot be reached, or finds itself among the hops.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing has changed.
    pub async fn trace(&self, mount: &str, hops: Vec<Hop>) -> Result<(), RequestError> {
        let mut connection = self.linking().await?;
        let reply = connection.request(&Request::Trace { mount: mount.to_owned(), hops }).await?;
        self.keep(connection);
        match reply {
            Reply::Done => Ok(()),
            Reply::Error { code, message } => Err(RequestError::refused(code, message)),
            _ => Err(RequestError::unexpected("the end of a trace")),
        }
    }

    /// Lists the first `most` streams at `prefix` and below it whose paths sort after `after`.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unsupported`] if the daemon knows no links, and any other [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn list_page(
        &self,
        prefix: &str,
        after: &str,
        most: u32,
    ) -> Result<Vec<StreamSummary>, RequestError> {
        let mut connection = self.linking().await?;
        let (path, after) = (prefix.to_owned(), after.to_owned());
        let request = Request::ListPage { path, after, most };
        let mut streams = Vec::new();
        let mut reply = connection.request(&request).await?;
        loop {
            match reply {
                Reply::Summary(stream) if streams.len() < most as usize => streams.push(stream),
                Reply::Done => break,
                Reply::Error { code, message } => return Err(RequestError::refused(code, message)),
                _ => return Err(RequestError::unexpected("a list of streams")),
            }
            reply = connection.receive().await?;
        }
        self.keep(connection);
        Ok(streams)
    }

    /// Like [`stat`](Self::stat), but more than `most` readers and writers are an error.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn stat_within(
        &self,
        path: StreamPath,
        most: usize,
    ) -> Result<StreamStat, RequestError> {
        self.stat_with(path, most).await
    }

    /// Sends a request that has one reply, and returns the reply, which is not an error.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have carried out the request.
    pub async fn ask(&self, request: &Request) -> Result<Reply, RequestError> {
        let mut connection = self.connection().await?;
        let reply = connection.request(request).await?;
        self.keep(connection);
        match reply {
            Reply::Error { code, message } => Err(RequestError::refused(code, message)),
            reply => Ok(reply),
        }
    }

    /// Attaches a writer whose messages come from elsewhere.
    ///
    /// # Errors
    ///
    /// Those of [`writer`](Self::writer).
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may have attached a writer, which then counts as dead.
    pub async fn relay(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: WriteOptions,
    ) -> Result<RelayWriter, RequestError> {
        let path = checked(path)?;
        let mut connection = self.connection().await?;
        if options.header_bytes > 0 {
            connection.learn(Hello::JOINING).await?;
            connection.check_marks()?;
        }
        match connection.request(&Request::OpenWriter(path, options)).await? {
            Reply::Writing { max_chunk } => Ok(RelayWriter { connection, max_chunk }),
            Reply::Error { code, message } => Err(RequestError::refused(code, message)),
            _ => Err(RequestError::unexpected("the confirmation of a writer")),
        }
    }
}

impl RelayWriter {
    /// The largest chunk that the stream takes, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.max_chunk
    }

    /// Whether the daemon knows [`Request::MarkSync`].
    pub fn can_mark(&self) -> bool {
        self.connection.can_join()
    }

    /// Sends the encoded messages in `out`, and takes what was sent out of it. Ready with the next
    /// reply, or with `None` when `out` has become empty.
    ///
    /// # Errors
    ///
    /// The daemon refuses the writer, or the connection broke.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Result<Option<Reply>, RequestError>> {
        let had_more = !out.is_empty();
        while !out.is_empty() {
            match self.connection.poll_write(cx, out, &[]) {
                Poll::Ready(Ok(written)) => out.advance(written),
                // The daemon has sent the reason before it closed the connection.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        loop {
            match self.connection.received()? {
                Some(Reply::Error { code, message }) => {
                    return Poll::Ready(Err(RequestError::refused(code, message)));
                }
                Some(reply) => return Poll::Ready(Ok(Some(reply))),
                None => {}
            }
            match self.connection.poll_fill(cx, 0) {
                Poll::Ready(filled) => filled?,
                Poll::Pending if had_more && out.is_empty() => return Poll::Ready(Ok(None)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl LinkReader {
    /// Where the link started.
    pub fn start(&self) -> &LinkStart {
        &self.start
    }

    /// The slow policy that the link has at the owner.
    pub fn policy(&self) -> SlowPolicy {
        self.policy
    }

    /// Takes a chunk of more than `bytes` bytes, of which a part has arrived, for an error.
    pub fn limit_chunks(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.max_chunk = bytes.min(MAX_GATHERED_BYTES);
    }

    /// The offset after everything that was returned.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The head of the stream, as the daemon last told.
    pub fn head(&self) -> u64 {
        self.head.max(self.position)
    }

    /// Returns the next event if it has already arrived.
    ///
    /// # Errors
    ///
    /// The errors of [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<LinkEvent>, ReadError> {
        while let Some(reply) = self.connection.received()? {
            if let Some(event) = self.event(reply)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// [`ReadError::DaemonGone`] if the connection broke, [`ReadError::Removed`] if the stream was
    /// removed, or another [`ReadError`]. Do not call this again then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that was not returned is not lost.
    pub async fn next(&mut self) -> Result<LinkEvent, ReadError> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            poll_fn(|cx| {
                let filled = self.connection.poll_fill(cx, READ_BYTES);
                if filled.is_pending() {
                    self.connection.release();
                }
                filled
            })
            .await?;
        }
    }

    fn event(&mut self, reply: Reply) -> Result<Option<LinkEvent>, RequestError> {
        Ok(match reply {
            Reply::Data(bytes) => self.chunk(bytes)?,
            Reply::DataPart(bytes) => {
                self.gather(&bytes)?;
                None
            }
            Reply::AppendedAt(time) => Some(LinkEvent::AppendedAt(time)),
            Reply::Gap { from, to, chunks } => {
                // The rest of a chunk was overwritten before it was sent.
                self.parts = BytesMut::new();
                self.check(from)?;
                if to <= from {
                    return Err(ProtocolError::Offset { said: to, counted: from }.into());
                }
                self.position = to;
                Some(LinkEvent::Gap { from, to, chunks })
            }
            Reply::Writers(writers) => Some(LinkEvent::Writers(writers)),
            Reply::Head(head) => {
                self.head = head;
                None
            }
            Reply::End { reason, offset } => {
                self.check(offset)?;
                Some(LinkEvent::End(reason))
            }
            Reply::Error { code, message } => return Err(RequestError::refused(code, message)),
            _ => return Err(RequestError::unexpected("a chunk, a gap or the end")),
        })
    }

    fn gather(&mut self, part: &[u8]) -> Result<(), ProtocolError> {
        if self.parts.len().saturating_add(part.len()) > self.max_chunk {
            return Err(ProtocolError::TooLarge { most: self.max_chunk });
        }
        self.parts.extend_from_slice(part);
        Ok(())
    }

    fn chunk(&mut self, last: Bytes) -> Result<Option<LinkEvent>, ProtocolError> {
        let chunk = if self.parts.is_empty() {
            last
        } else {
            self.gather(&last)?;
            std::mem::take(&mut self.parts).freeze()
        };
        if chunk.is_empty() {
            return Ok(None);
        }
        let counted = self.position;
        let end = counted.checked_add(chunk.len() as u64);
        self.position = end.ok_or(ProtocolError::Offset { said: u64::MAX, counted })?;
        Ok(Some(LinkEvent::Chunk(chunk)))
    }

    /// Checks the daemon's offset against the link's own count.
    fn check(&self, said: u64) -> Result<(), ProtocolError> {
        let counted = self.position;
        if said == counted { Ok(()) } else { Err(ProtocolError::Offset { said, counted }) }
    }
}
