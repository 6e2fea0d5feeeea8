//! `AsyncWrite` adapter of a writer.

use std::{
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::{Finish, StreamWriter, WriteError};

/// A writer that implements [`AsyncWrite`]: each write is one chunk, of at most
/// [`max_chunk`](StreamWriter::max_chunk) bytes.
///
/// A write that has to wait is accepted whole, like a write to tokio's `File`: the next write,
/// flush or shutdown continues it, and returns its error. `flush` returns when everything is in the
/// stream. `shutdown` flushes and finishes the writer and, with [`closing`](Self::closing), closes
/// the stream. A `ByteWriter` that is dropped before `shutdown` is a writer that died.
///
/// Made by [`StreamWriter::into_async_write`]. Cancel safe.
///
/// ```
/// # use pfs_stream::*;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stream = Stream::new("cam", StreamConfig::default())?;
/// let mut writer = stream.writer()?.into_async_write().closing();
/// let mut reader = stream.reader(ReadOptions::default())?.into_byte_stream();
/// writer.write_all(b"hello").await?;
/// writer.shutdown().await?;
/// let mut text = String::new();
/// reader.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
pub struct ByteWriter<W> {
    state: State<W>,
    /// True if a shutdown closes the stream.
    closes: bool,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum State<W> {
    Idle(W),
    /// A chunk or a flush is in progress; the future returns the writer when it completes.
    Busy(Work<(W, Result<(), WriteError>)>),
    Ending(Work<Result<u64, WriteError>>),
    Ended,
}

impl<W> fmt::Debug for ByteWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Idle(_) => "idle",
            State::Busy(_) => "busy",
            State::Ending(_) => "ending",
            State::Ended => "ended",
        };
        f.debug_struct("ByteWriter").field("state", &state).field("closes", &self.closes).finish()
    }
}

impl<W: StreamWriter + 'static> ByteWriter<W> {
    /// Wraps a writer.
    pub fn new(writer: W) -> Self {
        Self { state: State::Idle(writer), closes: false }
    }

    /// Makes a shutdown close the stream too.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Returns the writer if nothing is in progress, which is so after a flush. Otherwise returns
    /// `None`: the writer has died with the operation in progress.
    pub fn into_inner(self) -> Option<W> {
        match self.state {
            State::Idle(writer) => Some(writer),
            _ => None,
        }
    }

    /// Continues the operation in progress; ready when there is none.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let State::Busy(work) = &mut self.state {
            let (writer, result) = ready!(work.as_mut().poll(cx));
            self.state = State::Idle(writer);
            result?;
        }
        Poll::Ready(Ok(()))
    }

    fn begin(&mut self, begin: impl FnOnce(W) -> State<W>) -> io::Result<()> {
        match mem::replace(&mut self.state, State::Ended) {
            State::Idle(writer) => {
                self.state = begin(writer);
                Ok(())
            }
            other => {
                self.state = other;
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "the writer was shut down"))
            }
        }
    }
}

impl<W: StreamWriter + Unpin + 'static> AsyncWrite for ByteWriter<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_idle(cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut len = 0;
        this.begin(|mut writer| {
            len = bytes.len().min(usize::try_from(writer.max_chunk()).unwrap_or(usize::MAX));
            let chunk = Bytes::copy_from_slice(bytes.split_at(len).0);
            State::Busy(Box::pin(async move {
                let result = writer.append(chunk).await;
                (writer, result)
            }))
        })?;
        // An error that comes at once is returned by this write. A chunk that must wait was
        // accepted, and the next call continues it.
        match this.poll_idle(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(len)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_idle(cx))?;
        if matches!(this.state, State::Idle(_)) {
            this.begin(|mut writer| {
                State::Busy(Box::pin(async move {
                    let result = writer.flush().await;
                    (writer, result)
                }))
            })?;
        }
        this.poll_idle(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_idle(cx))?;
        if matches!(this.state, State::Idle(_)) {
            let closes = this.closes;
            this.begin(|writer| {
                let finish = if closes { Finish::Close } else { Finish::KeepOpen };
                State::Ending(Box::pin(writer.finish(finish)))
            })?;
        }
        if let State::Ending(work) = &mut this.state {
            let result = ready!(work.as_mut().poll(cx));
            this.state = State::Ended;
            result?;
        }
        Poll::Ready(Ok(()))
    }
}
