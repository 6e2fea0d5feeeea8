//! Writer: appends chunks to a stream, pipelined or under a lease.

mod file;
mod large;
mod lease;

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

use pfs_proto::{DataKind, Hello, Reply, Request, StreamPath, WriteOptions, put_data_header};
use pfs_stream::{Cause, Chunk, Finish, WriteError};

use crate::{
    connection::{Connection, say},
    error::{ProtocolError, RequestError},
    shm::Lease,
};

/// The most bytes that [`Writer::push`] buffers.
const QUEUE_BYTES: usize = 64 * 1024;

/// Chunks of at least this many bytes are sent without a copy.
const LARGE_CHUNK_BYTES: usize = 8 * 1024;

/// A writer of one stream, with a connection of its own.
///
/// Appends are pipelined: the writer sends chunk after chunk and processes the daemon's
/// acknowledgements in between. All chunks are in the stream once [`finish`](Self::finish) or
/// [`flush`](Self::flush) has returned; [`acked`](Self::acked) counts the chunks that are in the
/// stream already. A writer that is dropped without `finish` counts as dead, and its unflushed
/// chunks may be missing from the stream.
///
/// Lease: the daemon may grant a lease to a writer that shares memory with it, appends much and is
/// the only writer of its stream. The writer then writes chunks directly into the stream's ring
/// buffer until the daemon revokes the lease. The guarantees of all methods stay the same.
///
/// All methods are cancel safe. A cancelled append has taken over the whole chunk or none of it;
/// [`appended`](Self::appended) tells which. The next call sends what was taken over but not sent.
/// A writer that has failed returns the same error forever.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    /// Frames and parts of frames to send, from `sent` on.
    queue: Vec<u8>,
    sent: usize,
    max_chunk: u64,
    /// Chunks taken over, and chunks acknowledged by the daemon.
    appended: u64,
    acked: u64,
    /// The lease, if chunks go directly into the stream's ring buffer.
    lease: Lease,
    /// The offset after the newest acknowledged chunk.
    offset: u64,
    /// Readers attached at the newest acknowledgement.
    readers: u32,
    /// Replies received.
    heard: u64,
    /// Whether the daemon is known to have sent something that was not read yet.
    has_news: bool,
    /// The time of the last check for news.
    looked: Duration,
    /// Whether the next chunk is a sync point.
    marks_next: bool,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Writing,
    /// `Finish`, `Fail` or `Withdraw` is queued or sent.
    Finishing,
    /// The daemon has confirmed the end; the connection has no more use.
    Done,
    /// The daemon no longer reads. The reason is among the replies that it sent.
    Deaf(Cause),
    Failed(WriteError),
}

impl Writer {
    pub(crate) async fn open(
        mut connection: Connection,
        path: StreamPath,
        options: WriteOptions,
    ) -> Result<Self, RequestError> {
        if options.header_bytes > 0 {
            connection.learn(Hello::JOINING).await?;
            connection.check_marks()?;
        }
        let max_chunk = match connection.request(&Request::OpenWriter(path, options)).await? {
            Reply::Writing { max_chunk } => max_chunk,
            Reply::Error { code, message } => return Err(RequestError::refused(code, message)),
            _ => return Err(RequestError::unexpected("the confirmation of a writer")),
        };
        Ok(Self {
            connection,
            queue: Vec::new(),
            sent: 0,
            max_chunk,
            appended: 0,
            acked: 0,
            lease: Lease::None,
            offset: 0,
            readers: 0,
            heard: 0,
            has_news: false,
            looked: Duration::ZERO,
            marks_next: false,
            progress: Progress::Writing,
        })
    }

    /// The largest chunk that the stream takes, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.max_chunk
    }

    /// Returns true if the writer can share memory with the daemon. Only then may the daemon grant
    /// a lease.
    pub fn is_shm(&self) -> bool {
        self.connection.shares_memory()
    }

    /// Returns true if the daemon acknowledges chunks while the writer is still writing. Through a
    /// proxy that forwards no response before the request has ended
    /// ([`Client::with_half_duplex`](crate::Client::with_half_duplex)), the daemon cannot. Then
    /// [`acked`](Self::acked) stays 0 until the end, [`flush`](Self::flush) only sends, and only
    /// the end of the writer reveals that the stream was closed or removed or that the daemon is
    /// gone. [`finish`](Self::finish) still waits until every chunk is in the stream.
    pub fn is_acknowledged(&self) -> bool {
        !self.connection.is_half_duplex()
    }

    /// Chunks appended or pushed by this writer, not counting empty chunks.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// The number of [`appended`](Self::appended) chunks that are certain to be in the stream.
    /// Under a lease, a chunk counts as soon as it is published in the ring buffer, even if the
    /// daemon has died since; [`flush`](Self::flush) detects a dead daemon.
    pub fn acked(&self) -> u64 {
        if let Lease::Held(held) = &self.lease { held.published() } else { self.acked }
    }

    /// The number of readers that were attached when the newest of the [`acked`](Self::acked)
    /// chunks was appended; 0 before the first. After [`flush`](Self::flush), the newest acked
    /// chunk is the newest of all chunks. Under a lease: the number of readers that are
    /// attached now.
    pub fn readers(&self) -> u32 {
        if let Lease::Held(held) = &self.lease { held.readers() } else { self.readers }
    }

    /// Appends `chunk` as one chunk, and sends it at once, together with all pushed chunks. An
    /// empty chunk is ignored.
    ///
    /// Returns when the system has taken over the bytes. While a `block` reader holds writers up,
    /// this method waits too.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] for a chunk larger than [`max_chunk`](Self::max_chunk). That chunk
    /// is not sent, and the writer stays usable. Any other error means that the writer has failed;
    /// an earlier chunk may be the cause.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, has taken over the whole chunk or none of it.
    pub async fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        self.push(chunk).await?;
        self.send().await
    }

    /// Appends a chunk without sending it yet. Like [`append`](Self::append), but buffers small
    /// chunks until they add up to 64 KiB or until [`send`](Self::send) is called. Use this method
    /// for many small chunks that are available at the same time.
    ///
    /// # Errors
    ///
    /// The errors of [`append`](Self::append).
    ///
    /// # Cancel safety
    ///
    /// If cancelled, has taken over the whole chunk or none of it.
    pub async fn push(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        let chunk = chunk.as_ref();
        match self.try_put(chunk) {
            Some(false) => return Ok(()),
            Some(true) => return self.send().await,
            None => self.check(chunk)?,
        }
        if chunk.is_empty() {
            return Ok(());
        }
        match poll_fn(|cx| self.poll_push_leased(cx, chunk)).await? {
            Some(true) => self.send().await,
            Some(false) => Ok(()),
            None => {
                self.say_mark(self.appended);
                match self.try_put(chunk) {
                    Some(false) => Ok(()),
                    Some(true) => self.send().await,
                    None => self.append_in_place(chunk).await,
                }
            }
        }
    }

    /// Marks the next chunk as a sync point: a decoder that was given the header
    /// ([`WriteOptions::header_bytes`]) can start there. Readers that [join](pfs_proto::Join::Auto)
    /// later start at a sync point, as long as the ring holds one; otherwise they start with a whole
    /// chunk. Has no effect in a format that the daemon recognises, because the daemon finds the
    /// sync points itself. The chunk with the header needs no mark.
    ///
    /// After a loss, a reader goes on at the next chunk, whether that is marked or not.
    ///
    /// # Errors
    ///
    /// [`WriteError::Other`] with a [`RequestError::Unsupported`] if the daemon is older than this
    /// library. The writer stays usable.
    pub fn mark_sync(&mut self) -> Result<(), WriteError> {
        self.connection.check_marks()?;
        self.marks_next = true;
        Ok(())
    }

    /// Queues the message that chunk `chunk` of this writer is a sync point, if it is one.
    fn say_mark(&mut self, chunk: u64) {
        if std::mem::take(&mut self.marks_next) {
            say(&Request::MarkSync { chunk }, &mut self.queue);
        }
    }

    /// Sends all pushed chunks.
    ///
    /// # Errors
    ///
    /// The writer has failed.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the next call sends the rest.
    pub async fn send(&mut self) -> Result<(), WriteError> {
        if !self.must_listen() {
            return Ok(());
        }
        self.answer_offer();
        poll_fn(|cx| self.poll_send_pushed(cx)).await
    }

    /// Sends all pushed chunks and waits until all chunks are in the stream. A writer without
    /// [acknowledgements](Self::is_acknowledged) only sends.
    ///
    /// # Errors
    ///
    /// The writer has failed.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the next call sends the rest.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        if !self.is_acknowledged() {
            return self.send().await;
        }
        let mut asked = false;
        poll_fn(|cx| {
            loop {
                // Send `Flush` before listening. If the daemon has nothing more to say now, it will
                // answer the flush.
                if let Lease::Held(_) = &self.lease
                    && !asked
                {
                    say(&Request::Flush, &mut self.queue);
                    asked = true;
                }
                let heard = self.heard;
                ready!(self.poll_send_pushed(cx))?;
                if self.acked == self.appended {
                    return Poll::Ready(Ok(()));
                }
                if self.heard == heard {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Waits until the writer fails, and returns the error. For programs that have nothing to
    /// append at the moment and still want to know when the stream is closed or removed or the
    /// daemon is gone. Accepts a lease that the daemon offers meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn failure(&mut self) -> WriteError {
        poll_fn(|cx| {
            loop {
                // An unanswered offer keeps memory allocated that is charged to the stream.
                self.answer_offer();
                let heard = self.heard;
                match self.poll_send_pushed(cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(error),
                    Poll::Ready(Ok(())) if self.heard != heard => {}
                    _ => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Finishes the writer as `finish` says. Returns when every chunk is in the stream. The result
    /// is the offset after the last chunk, or 0 if there was none.
    ///
    /// # Errors
    ///
    /// The writer has failed.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the writer may count as dead.
    pub async fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        self.end(&match finish {
            Finish::KeepOpen => Request::Finish { close: false },
            Finish::Close => Request::Finish { close: true },
            Finish::CloseFailed => Request::Fail { close: true },
            _ => Request::Fail { close: false },
        })
        .await
    }

    /// Withdraws the writer before it has appended anything. The writer does not count as dead. A
    /// stream that was created for this writer, and that no other client has used, is removed.
    ///
    /// # Errors
    ///
    /// The errors of [`finish`](Self::finish). The daemon refuses the request if a chunk
    /// was appended.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the writer may count as dead.
    pub async fn withdraw(self) -> Result<(), WriteError> {
        self.end(&Request::Withdraw).await.map(drop)
    }

    async fn end(mut self, request: &Request) -> Result<u64, WriteError> {
        if let Progress::Writing = self.progress {
            if let Lease::Held(_) = self.lease {
                poll_fn(|cx| self.poll_send_pushed(cx)).await?;
            }
            say(request, &mut self.queue);
            self.progress = Progress::Finishing;
        }
        poll_fn(|cx| match self.poll_send(cx, &mut &[][..])? {
            Poll::Ready(()) if matches!(self.progress, Progress::Done) => {
                Poll::Ready(Ok(self.offset))
            }
            _ => Poll::Pending,
        })
        .await
    }

    /// Fast path for most small chunks: puts a chunk into the ring buffer or the queue if that
    /// needs no waiting. Returns whether it is time to notify sleeping readers or to send the
    /// queue; `None` if the chunk was not taken.
    #[inline]
    pub(crate) fn try_put(&mut self, chunk: &[u8]) -> Option<bool> {
        if !matches!(self.progress, Progress::Writing) || chunk.is_empty() || self.marks_next {
            return None;
        }
        match &mut self.lease {
            Lease::Held(held) => {
                let enough = held.try_push(chunk)?;
                self.appended = held.appended();
                Some(enough)
            }
            Lease::None
                if chunk.len() < LARGE_CHUNK_BYTES && chunk.len() as u64 <= self.max_chunk =>
            {
                put_data_header(&mut self.queue, DataKind::Append, chunk.len());
                self.queue.extend_from_slice(chunk);
                self.appended = self.appended.saturating_add(1);
                Some(self.queue.len() >= QUEUE_BYTES)
            }
            _ => None,
        }
    }

    /// Returns true if the writer has messages to send to the daemon or to receive from it. Under a
    /// lease, usually false.
    #[inline]
    pub(crate) fn must_listen(&mut self) -> bool {
        let Lease::Held(held) = &mut self.lease else { return true };
        !matches!(held.publish(&mut self.queue), Ok(true))
            || self.has_news()
            || self.sent < self.queue.len()
    }

    /// Returns true if the socket holds a message from the daemon. Asks the socket itself from time
    /// to time, because a runtime that is never idle polls the socket too rarely.
    fn has_news(&mut self) -> bool {
        self.has_news |=
            self.connection.passed().is_some_and(|passed| passed.has_input(&mut self.looked));
        self.has_news
    }

    fn check(&self, chunk: &[u8]) -> Result<(), WriteError> {
        if let Progress::Failed(error) = &self.progress {
            return Err(error.clone());
        }
        let (size, max) = (chunk.len() as u64, self.max_chunk);
        if size > max { Err(WriteError::TooLarge { size, max }) } else { Ok(()) }
    }

    /// Sends the queue and then `piece`, and receives the daemon's messages at the same time: the
    /// daemon may stop reading until its own messages are received. Whether pending or ready, the
    /// task will be woken for every message from the daemon.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut &[u8],
    ) -> Poll<Result<(), WriteError>> {
        if let Progress::Failed(error) = &self.progress {
            return Poll::Ready(Err(error.clone()));
        }
        loop {
            if let Err(error) = self.listen(cx) {
                return Poll::Ready(Err(self.remember(error)));
            }
            let queue = self.queue.get(self.sent..).unwrap_or_default();
            match &self.progress {
                Progress::Deaf(_) => return Poll::Pending,
                Progress::Finishing
                    if queue.is_empty() && piece.is_empty() && self.connection.is_half_duplex() =>
                {
                    // A half-duplex connection answers only after the request has ended.
                    return self.connection.poll_end(cx).map(|_| Ok(()));
                }
                _ if queue.is_empty() && piece.is_empty() => {
                    self.queue.clear();
                    self.queue.shrink_to(2 * QUEUE_BYTES);
                    self.sent = 0;
                    // The flag is cleared by the poll that receives the message.
                    let has_to_hear = matches!(self.progress, Progress::Writing) && self.has_news();
                    return if has_to_hear { Poll::Pending } else { Poll::Ready(Ok(())) };
                }
                _ => (),
            }
            match self.connection.poll_write(cx, queue, piece) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) => {
                    let of_queue = written.min(queue.len());
                    self.sent = self.sent.saturating_add(of_queue);
                    *piece = piece.get(written.saturating_sub(of_queue)..).unwrap_or_default();
                }
                // The daemon has closed the connection, and has sent the reason before.
                Poll::Ready(Err(error)) => self.progress = Progress::Deaf(Cause::new(error)),
            }
        }
    }

    /// Receives all messages from the daemon.
    fn listen(&mut self, cx: &mut Context<'_>) -> Result<(), WriteError> {
        loop {
            while let Some(reply) = self.connection.received()? {
                self.hear(reply)?;
            }
            if let Progress::Done = self.progress {
                return Ok(());
            }
            match self.connection.poll_fill(cx, 0) {
                Poll::Ready(Ok(())) => (),
                Poll::Ready(Err(broken)) => {
                    // The daemon closed the connection without a message. The broken pipe is then
                    // the better reason.
                    return Err(match (&self.progress, WriteError::from(broken)) {
                        (Progress::Deaf(pipe), WriteError::DaemonGone(_)) => {
                            WriteError::DaemonGone(pipe.clone())
                        }
                        (_, error) => error,
                    });
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn hear(&mut self, reply: Reply) -> Result<(), WriteError> {
        self.heard = self.heard.wrapping_add(1);
        self.has_news = false;
        if self.hear_of_lease(&reply)? {
            return Ok(());
        }
        match reply {
            Reply::Ack { chunks, offset, readers } => {
                if chunks < self.acked || chunks > self.appended {
                    let (before, sent) = (self.acked, self.appended);
                    return Err(ProtocolError::Ack { said: chunks, before, sent }.into());
                }
                if offset < self.offset {
                    return Err(ProtocolError::Offset { said: offset, counted: self.offset }.into());
                }
                (self.acked, self.offset, self.readers) = (chunks, offset, readers);
                Ok(())
            }
            Reply::Done
                if matches!(self.progress, Progress::Finishing) && self.acked == self.appended =>
            {
                self.progress = Progress::Done;
                Ok(())
            }
            Reply::Error { code, message } => Err(RequestError::refused(code, message).into()),
            _ => Err(RequestError::unexpected("an acknowledgement").into()),
        }
    }

    /// Stores the error for later calls.
    fn remember(&mut self, error: WriteError) -> WriteError {
        self.progress = Progress::Failed(error.clone());
        error
    }
}
