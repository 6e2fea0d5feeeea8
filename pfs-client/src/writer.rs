//! Appending to a stream.

mod file;
mod large;
mod lease;

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

use pfs_proto::{DataKind, Reply, Request, StreamPath, WriteOptions, put_data_header};
use pfs_stream::{Cause, Chunk, Finish, WriteError};

use crate::{
    connection::{Connection, say},
    error::{ProtocolError, RequestError},
    shm::Lease,
};

/// What [`Writer::push`] holds back at most, in bytes.
const QUEUE_BYTES: usize = 64 * 1024;

/// Chunks of this size and more are sent from where they are, without a copy.
const LARGE_CHUNK_BYTES: usize = 8 * 1024;

/// A writer of one stream, with a connection of its own.
///
/// Appends are pipelined: they are sent one after the other, and the daemon's acknowledgements are
/// taken in on the way. Everything is in the stream for certain when [`finish`](Self::finish) or
/// [`flush`](Self::flush) returned; [`acked`](Self::acked) tells how much is already. A writer that
/// is dropped without `finish` counts as one that died, and what it had not flushed may be missing.
///
/// A writer that shares memory with the daemon, appends much and is the only one of its stream may
/// be given a lease: it then puts chunks into the stream's ring by itself, until the daemon ends
/// the lease. What its methods promise does not change.
///
/// All methods are cancel safe. An append that is given up has taken its chunk over whole or not at
/// all, and [`appended`](Self::appended) tells which; what was taken over and not sent goes out
/// with the next call. A writer that has failed returns the same error ever after.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    /// Frames and parts of them that are to be sent, from `sent` on.
    queue: Vec<u8>,
    sent: usize,
    max_chunk: u64,
    /// Chunks taken over, and chunks that the daemon has.
    appended: u64,
    acked: u64,
    /// Whether chunks go straight into the stream's ring.
    lease: Lease,
    /// After the newest chunk that the daemon has.
    offset: u64,
    /// Readers that it found.
    readers: u32,
    /// Replies that came.
    heard: u64,
    /// Whether something from the daemon is known to have come that was not read yet, and when
    /// that was last looked at.
    has_news: bool,
    looked: Duration,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Writing,
    /// `Finish`, `Fail` or `Withdraw` is queued or sent.
    Finishing,
    /// Everything is said; the connection is of no more use.
    Done,
    /// The daemon does not listen any more; why is among what it said.
    Deaf(Cause),
    Failed(WriteError),
}

impl Writer {
    pub(crate) async fn open(
        mut connection: Connection,
        path: StreamPath,
        options: WriteOptions,
    ) -> Result<Self, RequestError> {
        let max_chunk = match connection.request(&Request::OpenWriter(path, options)).await? {
            Reply::Writing { max_chunk } => max_chunk,
            Reply::Error { code, message } => return Err(RequestError::refused(code, message)),
            _ => return Err(RequestError::unexpected("a place as a writer")),
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
            progress: Progress::Writing,
        })
    }

    /// The largest chunk that the stream takes, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.max_chunk
    }

    /// Whether it can share memory with the daemon, which may then give it a lease.
    pub fn is_shm(&self) -> bool {
        self.connection.shares_memory()
    }

    /// Whether the daemon acknowledges chunks while the writer goes on. It cannot do so through a
    /// proxy that passes no answer on before the request has ended
    /// ([`Client::with_half_duplex`](crate::Client::with_half_duplex)). [`acked`](Self::acked) is
    /// then 0 until the end, [`flush`](Self::flush) only sends, and a writer hears only at its
    /// end that its stream was closed or removed, or that its daemon is gone.
    /// [`finish`](Self::finish) is as certain as ever.
    pub fn is_acknowledged(&self) -> bool {
        !self.connection.is_half_duplex()
    }

    /// Chunks that were appended or pushed by this writer, empty ones excepted.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// How many of them are in the stream for certain. Under a lease each chunk counts as soon as
    /// it is in the ring for others, even if the daemon has died since; [`flush`](Self::flush)
    /// finds that out.
    pub fn acked(&self) -> u64 {
        if let Lease::Held(held) = &self.lease { held.published() } else { self.acked }
    }

    /// How many readers were attached when the newest of [`acked`](Self::acked) chunks was
    /// appended; 0 before the first. After [`flush`](Self::flush), that is the newest chunk of
    /// all. Under a lease: how many are attached now.
    pub fn readers(&self) -> u32 {
        if let Lease::Held(held) = &self.lease { held.readers() } else { self.readers }
    }

    /// Appends these bytes as one chunk, and sends it (and what was pushed before) at once. An
    /// empty chunk is nothing.
    ///
    /// Returns when the system has taken it over. That takes as long as a `block` reader makes
    /// writers wait.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] for a chunk larger than [`max_chunk`](Self::max_chunk); it is not
    /// sent, and the writer can go on. Otherwise when the writer cannot go on: that may come
    /// from a chunk before.
    ///
    /// # Cancel safety
    ///
    /// Given up, it has taken the chunk over whole or not at all.
    pub async fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        self.push(chunk).await?;
        self.send().await
    }

    /// As [`append`](Self::append), but holds small chunks back until there are 64 KiB of them or
    /// [`send`](Self::send) is called: for many small chunks that are there at once.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    ///
    /// As [`append`](Self::append).
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
            None => self.append_in_place(chunk).await,
        }
    }

    /// Sends what was pushed.
    ///
    /// # Errors
    ///
    /// When the writer cannot go on.
    ///
    /// # Cancel safety
    ///
    /// Given up, what was not sent goes out with the next call.
    pub async fn send(&mut self) -> Result<(), WriteError> {
        if !self.must_listen() {
            return Ok(());
        }
        self.answer_offer();
        poll_fn(|cx| self.poll_send_pushed(cx)).await
    }

    /// Sends what was pushed, and waits until all chunks are in the stream, if they are
    /// [acknowledged](Self::is_acknowledged).
    ///
    /// # Errors
    ///
    /// When the writer cannot go on.
    ///
    /// # Cancel safety
    ///
    /// Given up, what was not sent goes out with the next call.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        if !self.is_acknowledged() {
            return self.send().await;
        }
        let mut asked = false;
        poll_fn(|cx| {
            loop {
                // Asked before the daemon is heard: if it has nothing more to say now, it will.
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

    /// Waits for the writer to fail, and only for that (and takes a lease that it is offered
    /// meanwhile): for programs that have nothing to append at the moment and still want to know
    /// when the stream is closed or removed or the daemon is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn failure(&mut self) -> WriteError {
        poll_fn(|cx| {
            loop {
                // An offer keeps memory that counts as the stream's until it is answered.
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

    /// Ends the writer as `finish` says. Returns when every chunk is in the stream, with the offset
    /// after the last of them; 0 if there was none.
    ///
    /// # Errors
    ///
    /// When the writer cannot go on.
    ///
    /// # Cancel safety
    ///
    /// Given up, the writer may count as one that died.
    pub async fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        self.end(&match finish {
            Finish::KeepOpen => Request::Finish { close: false },
            Finish::Close => Request::Finish { close: true },
            Finish::CloseFailed => Request::Fail { close: true },
            _ => Request::Fail { close: false },
        })
        .await
    }

    /// Withdraws before anything was appended: the writer does not count as one that died. A stream
    /// that was created for it, and that no other client has used, is removed.
    ///
    /// # Errors
    ///
    /// The errors of [`finish`](Self::finish). The daemon refuses the request once a chunk was
    /// appended.
    ///
    /// # Cancel safety
    ///
    /// Given up, the writer may count as one that died.
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

    /// Puts a chunk into the ring or the queue if nothing speaks against it: most small ones need
    /// no more than this. Returns whether sleeping readers, or the daemon, should now hear of
    /// what was put; `None` if nothing was put.
    #[inline]
    pub(crate) fn try_put(&mut self, chunk: &[u8]) -> Option<bool> {
        if !matches!(self.progress, Progress::Writing) || chunk.is_empty() {
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

    /// Whether there is something to say to the daemon or to hear from it: under a lease, usually
    /// not.
    #[inline]
    pub(crate) fn must_listen(&mut self) -> bool {
        let Lease::Held(held) = &mut self.lease else { return true };
        !matches!(held.publish(&mut self.queue), Ok(true))
            || self.has_news()
            || self.sent < self.queue.len()
    }

    /// Whether a message is in the socket. The socket is asked, now and then: a runtime that is
    /// never idle polls it too seldom.
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

    /// Sends the queue, then `piece`, and takes in what the daemon says at the same time: it may
    /// not read on before somebody listens. Whenever this is pending or ready, it will be woken
    /// for anything that the daemon says.
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
                    // The answer waits for this.
                    return self.connection.poll_end(cx).map(|_| Ok(()));
                }
                _ if queue.is_empty() && piece.is_empty() => {
                    self.queue.clear();
                    self.queue.shrink_to(2 * QUEUE_BYTES);
                    self.sent = 0;
                    // The next poll that receives the message clears the flag.
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
                // The daemon has closed the connection, and has said why first.
                Poll::Ready(Err(error)) => self.progress = Progress::Deaf(Cause::new(error)),
            }
        }
    }

    /// Takes in all that the daemon has said.
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
                    // It left without a word: then the pipe that broke before is the better reason.
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

    /// Remembers the error for whoever asks again.
    fn remember(&mut self, error: WriteError) -> WriteError {
        self.progress = Progress::Failed(error.clone());
        error
    }
}
