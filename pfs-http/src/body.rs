//! A stream as the body of a response: copied from the ring once, into a buffer that exists only while there is something to send.

use std::{
    future::Future,
    mem,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pfs_host::{Failure, Going, Lender};
use pfs_proto::{End, StreamPath};
use pfs_stream::{Read, Reader, Sink};
use tokio::time::{Instant, Sleep, sleep};

use super::{access::Access, reading_log::ReadingLog, site::Site};

/// Turns what a reader gets into the bytes of a body. Chunks are put into its [`Sink`].
///
/// After each of these calls, what [`take`](Self::take) gives is sent.
pub(crate) trait Encoder: Sink + Send + Unpin + 'static {
    /// About how many bytes of the stream are read at a time.
    const BATCH: usize = 256 << 10;

    /// The chunks that were put into the sink end at `position`, and none of them will be taken back. Tells whether to go on,
    /// or to end the body properly.
    fn data(&mut self, position: u64) -> ControlFlow<()> {
        let _ = position;
        ControlFlow::Continue(())
    }

    /// These offsets will never come. An error breaks the body.
    fn gap(&mut self, gap: Gap) -> Result<(), Broken>;

    /// Nothing more is there at the moment. Called each time before the body falls asleep, and again after what this
    /// added was sent.
    fn caught_up(&mut self, position: u64) {
        let _ = position;
    }

    /// Nothing more comes: the body ends properly, or with an error it breaks.
    fn end(&mut self, end: End, position: u64) -> Result<(), Broken>;

    /// It cannot go on. True if the client was told so exactly that the body may end properly; otherwise it breaks.
    fn failed(&mut self, failure: &Failure) -> bool {
        let _ = failure;
        false
    }

    /// How long nothing may be sent before [`ping`](Self::ping) is called.
    fn keep_alive(&self) -> Option<Duration> {
        None
    }

    /// Adds something that only shows that the connection lives. Tells whether to go on, or to end the body properly.
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
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How many chunks they were; 0 if that is not known.
    pub(crate) chunks: u64,
}

/// Why a body does not end properly, so that the client sees its connection break.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// A reader that follows its stream as the body of a response.
pub(crate) struct Following<E> {
    reader: Reader,
    encoder: E,
    state: State,
    /// Bytes still to come, where that is known.
    length: Option<u64>,
    lender: Lender,
    pings: Option<Pings>,
    going: Going,
    begun: Pin<Box<dyn Future<Output = ()> + Send>>,
    log: ReadingLog,
}

/// How far a body is.
#[derive(Debug)]
enum State {
    Following,
    /// The last bytes are on their way. The error must not overtake them: the server drops what it has not sent.
    Breaking(Broken),
    Broken(Broken),
    Ended,
}

/// When the connection was last shown to be alive.
#[derive(Debug)]
struct Pings {
    interval: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<E: Encoder> Following<E> {
    pub(crate) fn new(site: &Site, access: &Access, path: &StreamPath, reader: Reader, encoder: E) -> Self {
        let (going, mut watched) = (site.going(), site.going());
        let begun = Box::pin(async move { watched.begun().await });
        let pings = encoder.keep_alive().map(Pings::new);
        let log = ReadingLog::joined(access.client(), path, &reader);
        Self {
            reader,
            encoder,
            state: State::Following,
            length: None,
            lender: site.daemon.lender.clone(),
            pings,
            going,
            begun,
            log,
        }
    }

    /// The body will have exactly this many bytes, or break.
    pub(crate) fn with_length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Waits for something to send, or for the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let Self { reader, encoder, lender, .. } = self;
        if self.going.has_begun() {
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
                if self.begun.as_mut().poll(cx).is_ready() {
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
                    return Poll::Pending;
                }
                return Poll::Ready(bytes);
            }
        }
        Poll::Ready(self.encoder.take())
    }

    fn take_in(&mut self, read: Result<Read, pfs_stream::ReadError>) {
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
                    self.state = State::Breaking(broken);
                }
            }
            // A daemon that goes cuts its writers, which is no death of theirs.
            Ok(Read::End(End::WriterDied)) if self.going.has_begun() => self.fail(&Failure::going_away()),
            Ok(Read::End(end)) => {
                self.log.ends(end);
                self.state = match self.encoder.end(end, position) {
                    Ok(()) => State::Ended,
                    Err(broken) => State::Breaking(broken),
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
            State::Breaking(Broken(failure.message.clone()))
        };
    }
}

impl<E: Encoder> Body for Following<E> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        loop {
            match mem::replace(&mut this.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Broken(broken) => return Poll::Ready(Some(Err(broken))),
                State::Breaking(broken) => {
                    this.state = State::Broken(broken);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Following => {
                    this.state = State::Following;
                    let bytes = ready!(this.poll_more(cx));
                    if !bytes.is_empty() {
                        if let Some(pings) = &mut this.pings {
                            pings.last = Instant::now();
                        }
                        let sent = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                        this.length = this.length.map(|left| left.saturating_sub(sent));
                        return Poll::Ready(Some(Ok(Frame::data(this.lender.lend(bytes)))));
                    }
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl<E> Drop for Following<E> {
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
