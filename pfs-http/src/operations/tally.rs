//! Counts requests and the bytes of their bodies, by protocol.
//!
//! The layers of `tower-http` count requests in flight and trace each of them. They do not know the
//! bytes of a body that is dropped in the middle; the log has a line for each session instead of
//! each request.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::http::{Method, StatusCode};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// What a request speaks, as its path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Plain,
    Frames,
    Durable,
    Agfs,
    Operations,
}

impl Protocol {
    pub(crate) const ALL: [Self; 5] =
        [Self::Plain, Self::Frames, Self::Durable, Self::Agfs, Self::Operations];

    pub(crate) fn from_path(path: &str) -> Self {
        match path {
            "/" | "/healthz" | "/metrics" | "/openapi.json" => Self::Operations,
            _ if path.starts_with("/assets/") => Self::Operations,
            "/v1/frames" => Self::Frames,
            _ if path.starts_with("/v1/stream/") => Self::Durable,
            _ if path.starts_with("/api/v1/") => Self::Agfs,
            _ => Self::Plain,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Frames => "frames",
            Self::Durable => "durable",
            Self::Agfs => "agfs",
            Self::Operations => "operations",
        }
    }
}

/// A kind of request, and of answer. Methods that nobody knows are one, so that a client cannot
/// make any number of them.
pub(crate) type Kind = (Protocol, &'static str, u16);

/// What was asked and answered since the daemon began.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: Mutex<BTreeMap<Kind, u64>>,
    received: PerProtocol,
    sent: PerProtocol,
}

#[derive(Debug, Default)]
struct PerProtocol {
    plain: AtomicU64,
    frames: AtomicU64,
    durable: AtomicU64,
    agfs: AtomicU64,
    operations: AtomicU64,
}

impl PerProtocol {
    fn counter(&self, protocol: Protocol) -> &AtomicU64 {
        match protocol {
            Protocol::Plain => &self.plain,
            Protocol::Frames => &self.frames,
            Protocol::Durable => &self.durable,
            Protocol::Agfs => &self.agfs,
            Protocol::Operations => &self.operations,
        }
    }
}

impl Tally {
    /// An answer has begun; one that goes on for days counts from its beginning.
    pub(crate) fn answered(&self, protocol: Protocol, method: &Method, status: StatusCode) {
        let mut answered = self.counts();
        let count = answered.entry((protocol, known(method), status.as_u16())).or_default();
        *count = count.saturating_add(1);
    }

    /// Part of the body of an answer goes out.
    pub(crate) fn sent(&self, protocol: Protocol, bytes: u64) {
        self.sent.counter(protocol).fetch_add(bytes, Relaxed);
    }

    pub(super) fn requests(&self) -> BTreeMap<Kind, u64> {
        self.counts().clone()
    }

    pub(super) fn bytes_sent(&self, protocol: Protocol) -> u64 {
        self.sent.counter(protocol).load(Relaxed)
    }

    pub(super) fn bytes_received(&self, protocol: Protocol) -> u64 {
        self.received.counter(protocol).load(Relaxed)
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Kind, u64>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The body of a request, counted as it comes.
#[derive(Debug)]
pub(crate) struct Tallied<B> {
    body: B,
    protocol: Protocol,
    tally: Arc<Tally>,
    more: More,
}

/// What is left of the body of a request.
#[derive(Clone, Debug)]
pub(crate) struct More(Arc<Rest>);

#[derive(Debug)]
struct Rest {
    /// Bytes that were read.
    received: AtomicU64,
    /// There is more than was read.
    left: AtomicBool,
    /// It may still be read.
    wanted: AtomicBool,
}

impl More {
    /// Bytes of the body that were read.
    pub(crate) fn received(&self) -> u64 {
        self.0.received.load(Relaxed)
    }

    /// Whether there is more of the body than was read.
    pub(crate) fn is_left(&self) -> bool {
        self.0.left.load(Relaxed)
    }

    /// Whether more of it may still be read.
    pub(crate) fn is_expected(&self) -> bool {
        self.is_left() && self.0.wanted.load(Relaxed)
    }
}

impl<B: Body> Tallied<B> {
    pub(crate) fn new(body: B, protocol: Protocol, tally: Arc<Tally>) -> Self {
        let left = AtomicBool::new(!body.is_end_stream());
        let more = More(Arc::new(Rest {
            received: AtomicU64::new(0),
            left,
            wanted: AtomicBool::new(true),
        }));
        Self { body, protocol, tally, more }
    }

    /// Tells what becomes of it, wherever it goes.
    pub(crate) fn more(&self) -> More {
        self.more.clone()
    }
}

impl<B> Drop for Tallied<B> {
    fn drop(&mut self) {
        self.more.0.wanted.store(false, Relaxed);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tallied<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        // h2 forgets that a request had ended when its connection breaks. A body that brought all
        // that it announced is whole.
        if matches!(frame, Poll::Ready(Some(Err(_)))) && self.body.size_hint().exact() == Some(0) {
            frame = Poll::Ready(None);
        }
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = pfs_host::wide(frame.data_ref().map_or(0, Buf::remaining));
            self.tally.received.counter(self.protocol).fetch_add(bytes, Relaxed);
            self.more.0.received.fetch_add(bytes, Relaxed);
        }
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.more.0.left.store(false, Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// A body that announces three bytes, and breaks after these.
    struct Breaking(Option<&'static [u8]>, u64);

    impl Body for Breaking {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            let Some(bytes) = self.0.take() else {
                return Poll::Ready(Some(Err("the connection broke")));
            };
            self.1 -= bytes.len() as u64;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(bytes)))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.1)
        }
    }

    #[test]
    fn a_body_that_brought_all_it_announced_is_whole_although_its_connection_breaks() {
        for (bytes, is_whole) in [(&b"abc"[..], true), (b"ab", false)] {
            let body = Tallied::new(Breaking(Some(bytes), 3), Protocol::Plain, Arc::default());
            assert_eq!(pollster::block_on(body.collect()).is_ok(), is_whole, "{bytes:?}");
        }
    }
}
