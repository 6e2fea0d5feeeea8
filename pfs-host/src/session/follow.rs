//! The *follow* session: copies a stream from the ring once, into a buffer that exists only while
//! there is something to send.

use std::{
    mem,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pfs_proto::End;
use pfs_stream::{Read, ReadError, Reader, Sink};
use tokio::{
    task::coop::poll_proceed,
    time::{Instant, Sleep, sleep},
};

use super::{
    piece::{Piece, Way},
    reading_log::ReadingLog,
};
use crate::{
    Cutoff, Daemon, Failure,
    buffers::{Buffer, Buffers},
    daemon::wide,
    failure::Ended,
};

/// Encodes what a reader receives as bytes for its client. Chunks are written to the
/// encoder's [`Sink`].
///
/// After each call of a method of this trait, the bytes in [`out`](Self::out) are sent.
pub trait Encoder: Sink + Send + Unpin + 'static {
    /// Maximum number of bytes of the stream in one read, for a reader with a large buffer.
    const BATCH: usize = 256 * 1024;

    /// Maximum number of bytes that the encoder makes of one byte of the stream, without the bytes
    /// that it adds to each chunk ([`header_len`](Sink::header_len)). Reads are divided by this
    /// factor, so that the buffer need not grow.
    fn expansion(&self) -> usize {
        1
    }

    /// Scans the next part of a chunk that is read in parts, before that part is read. Returns true
    /// while there is more to scan. Called before each read.
    fn look_ahead(&mut self, reader: &Reader) -> bool {
        let _ = reader;
        false
    }

    /// Called when the chunks and parts in the sink end at `position` and none of them will be
    /// taken back. Returns whether to continue, to end properly, or to break the response.
    fn data(&mut self, position: u64) -> ControlFlow<Result<(), Broken>> {
        let _ = position;
        ControlFlow::Continue(())
    }

    /// The offsets of `gap` are lost. An error breaks the response.
    fn gap(&mut self, gap: Gap) -> Result<(), Broken>;

    /// The reader has reached head. Called each time before the session sleeps, and again after the
    /// bytes that this call added were sent.
    fn caught_up(&mut self, position: u64) {
        let _ = position;
    }

    /// The stream has ended. The response ends properly, or breaks if this returns an error.
    fn end(&mut self, end: End, position: u64) -> Result<(), Broken>;

    /// The session cannot continue. Return true if the client was told the failure so precisely
    /// that the response may end properly. Otherwise the response breaks.
    fn failed(&mut self, failure: &Failure) -> bool {
        let _ = failure;
        false
    }

    /// Time without sent bytes after which [`ping`](Self::ping) is called.
    fn keep_alive(&self) -> Option<Duration> {
        None
    }

    /// Adds bytes that only show that the connection is alive. Returns whether to continue, or to
    /// end properly.
    fn ping(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Whether the sink's buffer differs from [`out`](Self::out). If so, the sink gets a buffer for
    /// each read, and must have emptied it after [`data`](Self::data).
    const READS_APART: bool = false;

    /// The bytes for the client, in a buffer of fixed size.
    fn out(&mut self) -> &mut Vec<u8> {
        self.buffer()
    }

    /// Takes the bytes to send now.
    fn take(&mut self) -> Vec<u8> {
        mem::take(self.out())
    }
}

/// Offsets that a reader will never get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first lost offset.
    pub from: u64,
    /// The offset after the last lost one.
    pub to: u64,
    /// Number of lost chunks; 0 if the number is not known.
    pub chunks: u64,
}

/// Why a response does not end properly: the client must see its connection break.
#[derive(Debug)]
pub struct Broken(pub String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// Bytes that must have been sent to a reader before it gets a large buffer: more than the kernel
/// takes for a reader that never reads.
const EARNED: u64 = 2 * 1024 * 1024;

/// A reader that follows its stream. A protocol polls it for pieces, and drops each piece after
/// sending it. Dropping `Follow` detaches the reader.
pub struct Follow<E> {
    reader: Reader,
    encoder: E,
    state: State,
    buffers: Buffers,
    /// The buffer whose memory the encoder holds now.
    buffer: Option<Buffer>,
    /// How and where the stream ended, once the client was told.
    end: Option<(End, u64)>,
    way: Way,
    /// Number of bytes sent so far. `lags` is true if the last read was nearly full, so that more
    /// data is there.
    sent: u64,
    lags: bool,
    pings: Option<Pings>,
    cutoff: Cutoff,
    cut_off: Pin<Box<dyn Future<Output = Failure> + Send + Sync>>,
    log: ReadingLog,
}

/// State of a session.
#[derive(Debug)]
enum State {
    Following,
    Broken(Broken),
    Ended,
}

/// Keep-alive: when the client was last sent something.
#[derive(Debug)]
struct Pings {
    interval: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<E: Encoder> Follow<E> {
    /// Creates the session of a reader whose joining is logged already.
    pub(crate) fn new(
        daemon: &Daemon,
        log: ReadingLog,
        cutoff: Cutoff,
        reader: Reader,
        encoder: E,
    ) -> Self {
        let cut_off = cutoff.clone();
        let cut_off = Box::pin(async move { cut_off.reached().await });
        let pings = encoder.keep_alive().map(Pings::new);
        Self {
            reader,
            encoder,
            state: State::Following,
            buffers: daemon.buffers.clone(),
            buffer: None,
            end: None,
            way: Way::default(),
            sent: 0,
            lags: false,
            pings,
            cutoff,
            cut_off,
            log,
        }
    }

    /// The next piece to send. `None` at a proper end; an error if the client must not mistake the
    /// end for a proper one. Pending until the previous piece is dropped, unless the previous piece
    /// has a large buffer.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Broken>>> {
        ready!(self.way.poll_clear(cx));
        loop {
            // Scanning a large chunk may take long without anything to send: yield to other tasks.
            let progress = ready!(poll_proceed(cx));
            match mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Broken(broken) => return Poll::Ready(Some(Err(broken))),
                State::Following => {
                    self.state = State::Following;
                    ready!(self.poll_more(cx));
                    progress.made_progress();
                    if !self.encoder.out().is_empty() {
                        return Poll::Ready(Some(Ok(self.piece())));
                    }
                }
            }
        }
    }

    /// Ready when another piece may be made.
    pub(crate) fn poll_clear(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.way.poll_clear(cx)
    }

    fn piece(&mut self) -> Piece {
        let bytes = self.encoder.take();
        self.sent = self.sent.saturating_add(wide(bytes.len()));
        if let Some(pings) = &mut self.pings {
            pings.last = Instant::now();
        }
        let mut buffer = self.buffer.take().unwrap_or_default();
        buffer.bytes = bytes;
        self.way.send(buffer)
    }

    /// Gives the encoder a buffer. Returns how many bytes of the stream fit into it.
    fn give_buffer(&mut self) -> usize {
        let Self { encoder, buffer, buffers, .. } = self;
        if buffer.is_none() {
            let buffer = buffer.insert(buffers.buffer(self.lags && self.sent >= EARNED));
            let before = mem::replace(encoder.out(), mem::take(&mut buffer.bytes));
            encoder.out().extend_from_slice(&before);
        }
        let room = encoder.out().capacity().saturating_sub(encoder.out().len());
        room.checked_div(encoder.expansion()).unwrap_or(room).min(E::BATCH)
    }

    /// Frees the buffer when there is nothing to send.
    fn free_buffer(&mut self) {
        if self.buffer.take().is_some() {
            self.encoder.take();
        }
    }

    /// How the stream ended and at which offset, once the client was given all of it. `None` if the
    /// response breaks, or ends before the stream does.
    pub fn end(&self) -> Option<(End, u64)> {
        self.end
    }

    /// Logs that the client got all that it requested, although the stream may go on.
    pub fn is_answered(&mut self) {
        self.log.is_answered();
    }

    /// Logs why the client was not told the rest.
    pub(crate) fn given_up(&mut self, ended: &Ended) {
        self.log.gives_up(ended);
    }

    /// Waits for bytes to send, or for the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(failure) = self.cutoff.reason() {
            self.fail(&failure);
            return Poll::Ready(());
        }
        if self.encoder.look_ahead(&self.reader) {
            return Poll::Ready(());
        }
        let most = self.give_buffer();
        if E::READS_APART {
            *self.encoder.buffer() = self.buffers.buffer(false).bytes;
        }
        let read = self.reader.poll_read(cx, &mut self.encoder, most);
        let is_ready = read.is_ready();
        if let Poll::Ready(read) = read {
            if let Ok(Read::Data { chunks, bytes }) = read {
                let headers = chunks.saturating_mul(self.encoder.header_len());
                self.lags = bytes.saturating_add(headers) >= most / 2;
            }
            self.take_in(read);
        }
        if E::READS_APART {
            drop(mem::take(self.encoder.buffer()));
        }
        if is_ready {
            return Poll::Ready(());
        }
        self.encoder.caught_up(self.reader.position());
        if let Poll::Ready(failure) = self.cut_off.as_mut().poll(cx) {
            self.fail(&failure);
        } else if let Some(pings) = &mut self.pings
            && pings.poll(cx).is_ready()
            && self.encoder.ping().is_break()
        {
            self.state = State::Ended;
        }
        if self.encoder.out().is_empty() && matches!(self.state, State::Following) {
            self.free_buffer();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn take_in(&mut self, read: Result<Read, ReadError>) {
        let position = self.reader.position();
        match read {
            Ok(Read::Data { .. }) => {
                if let ControlFlow::Break(end) = self.encoder.data(position) {
                    self.state = end.map_or_else(State::Broken, |()| State::Ended);
                }
            }
            Ok(Read::Gap { from, to, chunks }) => {
                let gap = Gap { from, to, chunks };
                self.log.gap(gap);
                if let Err(broken) = self.encoder.gap(gap) {
                    self.state = State::Broken(broken);
                }
            }
            // A shutdown cuts writers, which does not count as their death.
            Ok(Read::End(End::WriterDied)) if self.cutoff.is_shutdown() => {
                self.fail(&Failure::shutting_down())
            }
            Ok(Read::End(end)) => {
                self.log.ends(end);
                self.state = match self.encoder.end(end, position) {
                    Ok(()) => {
                        self.end = Some((end, position));
                        State::Ended
                    }
                    Err(broken) => State::Broken(broken),
                };
            }
            Err(error) => self.fail(&Failure::reading(self.log.path(), error)),
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.log.fails(failure);
        self.state = if self.encoder.failed(failure) {
            State::Ended
        } else {
            State::Broken(Broken(failure.message.clone()))
        };
    }
}

impl<E> Drop for Follow<E> {
    fn drop(&mut self) {
        self.log.left(&self.reader);
    }
}

impl Pings {
    fn new(interval: Duration) -> Self {
        Self { interval, last: Instant::now(), alarm: Box::pin(sleep(interval)) }
    }

    /// Ready when nothing was sent for the interval. Sending only moves `last` and resets no timer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let Some(due) = self.last.checked_add(self.interval) else { return Poll::Pending };
            let is_due = due <= Instant::now();
            if is_due {
                self.last = Instant::now();
            }
            self.alarm.as_mut().reset(self.last.checked_add(self.interval).unwrap_or(due));
            if is_due {
                return Poll::Ready(());
            }
        }
    }
}
