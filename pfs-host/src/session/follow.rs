//! Following a stream: copied from the ring once, into a buffer that exists only while there is something to send.

use std::{
    future::Future,
    mem,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use pfs_proto::End;
use pfs_stream::{Read, ReadError, Reader, Sink};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::reading_log::ReadingLog;
use crate::{Daemon, Failure, failure::Ended, lender::Lender};

/// Turns what a reader gets into the bytes that its client is sent. Chunks are put into its [`Sink`].
///
/// After each of these calls, what [`take`](Self::take) gives is sent.
pub trait Encoder: Sink + Send + Unpin + 'static {
    /// About how many bytes of the stream are read at a time.
    const BATCH: usize = 256 << 10;

    /// The chunks that were put into the sink end at `position`, and none of them will be taken back. Tells whether to go on,
    /// or to end properly.
    fn data(&mut self, position: u64) -> ControlFlow<()> {
        let _ = position;
        ControlFlow::Continue(())
    }

    /// These offsets will never come. An error breaks what is sent.
    fn gap(&mut self, gap: Gap) -> Result<(), Broken>;

    /// Nothing more is there at the moment. Called each time before the session falls asleep, and again after what this
    /// added was sent.
    fn caught_up(&mut self, position: u64) {
        let _ = position;
    }

    /// Nothing more comes: what is sent ends properly, or with an error it breaks.
    fn end(&mut self, end: End, position: u64) -> Result<(), Broken>;

    /// It cannot go on. True if the client was told so exactly that what is sent may end properly; otherwise it
    /// breaks.
    fn failed(&mut self, failure: &Failure) -> bool {
        let _ = failure;
        false
    }

    /// How long nothing may be sent before [`ping`](Self::ping) is called.
    fn keep_alive(&self) -> Option<Duration> {
        None
    }

    /// Adds something that only shows that the connection lives. Tells whether to go on, or to end properly.
    fn ping(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// What is to be sent now.
    fn take(&mut self) -> Vec<u8> {
        mem::take(self.buffer())
    }
}

/// Offsets that a reader will never get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
    /// How many chunks they were; 0 if that is not known.
    pub chunks: u64,
}

/// Why what is sent does not end properly, so that the client must see its connection break.
#[derive(Debug)]
pub struct Broken(pub String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// A reader that follows its stream. Dropping it is leaving.
///
/// A protocol polls it for pieces, and gives each piece back once it is sent.
pub struct Follow<E> {
    reader: Reader,
    encoder: E,
    state: State,
    lender: Lender,
    pings: Option<Pings>,
    shutdown: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    log: ReadingLog,
}

/// How far a session is.
#[derive(Debug)]
enum State {
    Following,
    Broken(Broken),
    Ended,
}

/// When the client was last sent something.
#[derive(Debug)]
struct Pings {
    interval: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<E: Encoder> Follow<E> {
    /// Follows with a reader that was logged as joined.
    pub(crate) fn new(daemon: &Daemon, log: ReadingLog, reader: Reader, encoder: E) -> Self {
        // Its own token, so that readers do not contend for the lock of one.
        let shutdown = daemon.shutdown().child_token();
        let cancelled = Box::pin(shutdown.clone().cancelled_owned());
        let pings = encoder.keep_alive().map(Pings::new);
        let lender = daemon.lender.clone();
        Self { reader, encoder, state: State::Following, lender, pings, shutdown, cancelled, log }
    }

    /// What is to be sent next; `None` at the end, an error where the client must not take the end for one.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, Broken>>> {
        loop {
            match mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Broken(broken) => return Poll::Ready(Some(Err(broken))),
                State::Following => {
                    self.state = State::Following;
                    let bytes = ready!(self.poll_more(cx));
                    if !bytes.is_empty() {
                        if let Some(pings) = &mut self.pings {
                            pings.last = Instant::now();
                        }
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }

    /// Takes back a piece that was sent. The next sender finds its memory in the processor's cache.
    pub fn give_back(&self, piece: Vec<u8>) {
        self.lender.give_back(piece);
    }

    /// A piece as bytes that are given back by themselves.
    pub fn lend(&self, piece: Vec<u8>) -> Bytes {
        self.lender.lend(piece)
    }

    /// The client has been given all that it asked for, though the stream may go on.
    pub fn is_answered(&mut self) {
        self.log.is_answered();
    }

    /// The client was not told the rest, for this reason.
    pub(crate) fn given_up(&mut self, ended: &Ended) {
        self.log.gives_up(ended);
    }

    /// Waits for something to send, or for the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let Self { reader, encoder, lender, .. } = self;
        if self.shutdown.is_cancelled() {
            self.fail(&Failure::going_away());
            return Poll::Ready(self.encoder.take());
        }
        if encoder.buffer().capacity() == 0 {
            *encoder.buffer() = lender.buffer();
        }
        match reader.poll_read(cx, encoder, E::BATCH) {
            Poll::Ready(read) => self.take_in(read),
            Poll::Pending => {
                encoder.caught_up(reader.position());
                if self.cancelled.as_mut().poll(cx).is_ready() {
                    self.fail(&Failure::going_away());
                } else if let Some(pings) = &mut self.pings
                    && pings.poll(cx).is_ready()
                    && self.encoder.ping().is_break()
                {
                    self.state = State::Ended;
                }
                let bytes = self.encoder.take();
                if bytes.is_empty() && matches!(self.state, State::Following) {
                    self.lender.give_back(mem::take(self.encoder.buffer()));
                    self.lender.give_back(bytes);
                    return Poll::Pending;
                }
                return Poll::Ready(bytes);
            }
        }
        Poll::Ready(self.encoder.take())
    }

    fn take_in(&mut self, read: Result<Read, ReadError>) {
        let position = self.reader.position();
        match read {
            Ok(Read::Data { .. }) => {
                if self.encoder.data(position).is_break() {
                    self.state = State::Ended;
                }
            }
            Ok(Read::Gap { from, to, chunks }) => {
                let gap = Gap { from, to, chunks };
                self.log.gap(gap);
                if let Err(broken) = self.encoder.gap(gap) {
                    self.state = State::Broken(broken);
                }
            }
            // A daemon that goes cuts its writers, which is no death of theirs.
            Ok(Read::End(End::WriterDied)) if self.shutdown.is_cancelled() => {
                self.fail(&Failure::going_away())
            }
            Ok(Read::End(end)) => {
                self.log.ends(end);
                self.state = match self.encoder.end(end, position) {
                    Ok(()) => State::Ended,
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

    /// Ready when nothing was sent for the interval. What is sent only moves `last`: no timer is set anew for it.
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
