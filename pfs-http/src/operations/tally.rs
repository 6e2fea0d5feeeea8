//! Request statistics: counts requests and the bytes of their bodies, by protocol.
//!
//! The layers of `tower-http` count requests in flight and trace each request, but cannot count the
//! bytes of a body that is dropped in the middle.

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

/// Protocol of a request, derived from its path.
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

/// Key of a request counter: protocol, method and status. Unknown methods share one value, so that
/// clients cannot create an unlimited number of keys.
pub(crate) type Kind = (Protocol, &'static str, u16);

/// Counters of requests and bytes since the daemon started.
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
    /// Counts a response when it begins, because it may last for days.
    pub(crate) fn answered(&self, protocol: Protocol, method: &Method, status: StatusCode) {
        let mut answered = self.counts();
        let count = answered.entry((protocol, known(method), status.as_u16())).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts bytes of a response body.
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

/// Request body that counts its bytes.
#[derive(Debug)]
pub(crate) struct Tallied<B> {
    body: B,
    protocol: Protocol,
    tally: Arc<Tally>,
    more: More,
}

/// Progress of a request body.
#[derive(Clone, Debug)]
pub(crate) struct More(Arc<Rest>);

#[derive(Debug)]
struct Rest {
    /// Number of bytes that were read.
    received: AtomicU64,
    /// Whether the body has bytes that were not read.
    left: AtomicBool,
    /// Whether the rest may still be read.
    wanted: AtomicBool,
}

impl More {
    /// Number of bytes of the body that were read.
    pub(crate) fn received(&self) -> u64 {
        self.0.received.load(Relaxed)
    }

    /// Whether the body has bytes that were not read.
    pub(crate) fn is_left(&self) -> bool {
        self.0.left.load(Relaxed)
    }

    /// Whether more of the body may still be read.
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

    /// Handle to the progress of the body, valid wherever the body is moved.
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
        // When a connection breaks, h2 forgets that a request had ended. A body that brought all
        // the bytes that it announced is complete.
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

    /// Body that announces three bytes, brings the given bytes, and breaks.
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
