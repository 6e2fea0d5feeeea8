//! In-memory connection: two pipes of bytes, and the ends of a client and of a daemon.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use pfs_host::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One direction of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// No more bytes follow those in the pipe.
    is_ended: bool,
    /// The reading end has gone.
    is_unread: bool,
    /// Reading fails.
    is_broken: bool,
    /// The tasks that wait: for bytes, for room, and for the end of the reading side.
    reading: Option<Waker>,
    writing: Option<Waker>,
    watching: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in [&mut self.reading, &mut self.writing, &mut self.watching] {
            waker.take().into_iter().for_each(Waker::wake);
        }
    }

    fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || self.is_ended || self.is_broken
    }
}

impl Pipe {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            bytes: VecDeque::new(),
            capacity,
            is_ended: false,
            is_unread: false,
            is_broken: false,
            reading: None,
            writing: None,
            watching: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Ends the pipe after the bytes that are in it.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.is_ended = true;
        state.wake();
    }

    /// Stops reading. What is in the pipe is lost.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        state.is_unread = true;
        state.bytes.clear();
        state.wake();
    }

    /// Breaks the pipe for both sides. What is in the pipe is lost.
    pub(crate) fn break_off(&self) {
        let mut state = self.state();
        (state.is_unread, state.is_broken) = (true, true);
        state.bytes.clear();
        state.wake();
    }

    /// Whether one of the sides has ended.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state();
        state.is_ended || state.is_unread
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_readable() {
            return Poll::Ready(());
        }
        state.reading = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes at most `most` bytes. Returns none at the end of the pipe.
    pub(crate) fn try_take(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        if state.is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if !state.is_readable() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let most = most.min(state.bytes.len());
        let taken = state.bytes.drain(..most).collect();
        state.writing.take().into_iter().for_each(Waker::wake);
        Ok(taken)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_unread || state.bytes.len() < state.capacity {
            return Poll::Ready(());
        }
        state.writing = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_put(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.is_unread || state.is_ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(state.capacity - state.bytes.len());
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.bytes.extend(&bytes[..len]);
        state.reading.take().into_iter().for_each(Waker::wake);
        Ok(len)
    }

    /// Writes all bytes.
    pub(crate) async fn put(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.poll_writable(cx)).await;
            bytes = &bytes[self.try_put(bytes)?..];
        }
        Ok(())
    }

    /// Waits until the reading end has gone.
    pub(crate) async fn unread(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.is_unread {
                return Poll::Ready(());
            }
            state.watching = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One end of a connection. Dropping it closes the connection properly.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) input: Pipe,
    pub(crate) output: Pipe,
}

impl End {
    /// Both ends of a connection without a network in between, and its two pipes.
    pub(crate) fn pair(capacity: usize) -> ([Self; 2], [Pipe; 2]) {
        let pipes = [Pipe::new(capacity), Pipe::new(capacity)];
        let [there, back] = pipes.clone();
        let ends = [
            Self { input: back.clone(), output: there.clone() },
            Self { input: there, output: back },
        ];
        (ends, pipes)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.output.end();
        self.input.leave();
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.input.poll_readable(cx));
        let taken = self.input.try_take(buffer.remaining())?;
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.output.poll_writable(cx));
        Poll::Ready(self.output.try_put(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.end();
        Poll::Ready(Ok(()))
    }
}

impl Transport for End {
    const MAY_PAUSE: bool = true;

    async fn readable(&self) -> io::Result<()> {
        self.input.readable().await;
        Ok(())
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let taken = self.input.try_take(buffer.capacity() - buffer.len())?;
        buffer.extend_from_slice(&taken);
        Ok(taken.len())
    }

    async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.output.poll_writable(cx)).await;
        Ok(())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.output.try_put(bytes)
    }

    async fn hung_up(&self) {
        self.output.unread().await;
    }

    async fn left(&self) -> io::Result<bool> {
        self.input.readable().await;
        let state = self.input.state();
        if state.is_broken {
            Err(ErrorKind::ConnectionReset.into())
        } else {
            Ok(state.bytes.is_empty())
        }
    }
}
