//! HTTP exchange: one request and its response as a byte transport.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use pfs_proto::{HEADER_LEN, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, Request};
use reqwest::{Body, Client, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::refusal::{self, ProxyBroke};
use crate::ConnectError;

/// Size of the buffer for written bytes that HTTP has not yet taken.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// The largest piece of a request body that is passed to HTTP at once, in bytes.
const MAX_BODY_CHUNK_BYTES: usize = 64 * 1024;

/// An HTTP exchange as a transport. Reads come from the response body. Writes go to the request
/// body, if the request is still open.
pub(crate) struct Exchange {
    /// Held until the exchange ends: see [`Clients`](super::clients::Clients).
    client: Option<Arc<Client>>,
    incoming: Incoming,
    /// Received bytes that were not read yet.
    piece: Bytes,
    request: Option<DuplexStream>,
    heartbeats: Heartbeats,
    silence: Alarm,
    /// The proxy's name, if the proxy sends one.
    proxy: Option<String>,
}

/// The response, and the client that received it.
type Answered = Result<(Arc<Client>, Response), ConnectError>;

/// The incoming direction.
enum Incoming {
    /// The response has not started.
    Unanswered(Pin<Box<dyn Future<Output = Answered> + Send>>),
    Body(Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>),
}

impl Incoming {
    fn body(response: Response) -> Self {
        Self::Body(Box::pin(response.bytes_stream()))
    }
}

/// Whether both sides send heartbeats. Known only after the daemon's hello.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeats(Arc<AtomicBool>);

impl Heartbeats {
    pub(crate) fn begin(&self) {
        self.0.store(true, Relaxed);
    }

    fn have_begun(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A timer for inactivity: expires unless it is stopped in time.
#[derive(Debug)]
struct Alarm {
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Alarm {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: Box::pin(sleep(limit)), is_set: false }
    }

    fn stop(&mut self) {
        self.is_set = false;
    }

    /// Ready once the limit has passed, counted from the first poll after the last stop or expiry.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_set {
            self.sleep.as_mut().reset(Instant::now() + self.limit);
            self.is_set = true;
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.is_set = false;
        Poll::Ready(())
    }
}

impl Exchange {
    pub(super) fn new(
        client: Arc<Client>,
        response: Response,
        request: Option<DuplexStream>,
        heartbeats: Heartbeats,
    ) -> Self {
        let proxy = refusal::proxy(response.headers());
        let client = Some(client);
        Self { client, proxy, ..Self::with(Incoming::body(response), request, heartbeats) }
    }

    /// An exchange whose response has not started.
    pub(super) fn unanswered(
        response: impl Future<Output = Answered> + Send + 'static,
        request: DuplexStream,
        heartbeats: Heartbeats,
    ) -> Self {
        Self::with(Incoming::Unanswered(Box::pin(response)), Some(request), heartbeats)
    }

    fn with(incoming: Incoming, request: Option<DuplexStream>, heartbeats: Heartbeats) -> Self {
        let silence = Alarm::new(HEARTBEAT_TIMEOUT);
        let (client, piece, proxy) = (None, Bytes::new(), None);
        Self { client, incoming, piece, request, heartbeats, silence, proxy }
    }

    /// The switch that turns heartbeats on, once the daemon's hello says that it sends
    /// heartbeats too.
    pub(crate) fn heartbeats(&self) -> Heartbeats {
        self.heartbeats.clone()
    }

    /// The error for a response that broke or ended without a final frame from the daemon. Names
    /// the proxy, if known.
    fn broke(&self, error: io::Error) -> io::Error {
        match &self.proxy {
            Some(proxy) => {
                let broke = ProxyBroke::new(proxy, &error, self.request.is_some());
                io::Error::new(error.kind(), broke)
            }
            None => error,
        }
    }

    fn request(&mut self) -> io::Result<Pin<&mut DuplexStream>> {
        self.request.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Exchange {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.piece.is_empty() {
            let body = match &mut this.incoming {
                Incoming::Body(body) => body,
                Incoming::Unanswered(response) => {
                    let answered = ready!(response.as_mut().poll(cx));
                    let (client, response) = answered.map_err(io::Error::other)?;
                    this.client = Some(client);
                    this.proxy = refusal::proxy(response.headers());
                    this.incoming = Incoming::body(response);
                    continue;
                }
            };
            let Poll::Ready(next) = body.as_mut().poll_next(cx) else {
                ready!(this.silence.poll(cx));
                if this.heartbeats.have_begun() {
                    return Poll::Ready(Err(silent()));
                }
                continue;
            };
            this.silence.stop();
            match next {
                Some(Ok(piece)) => this.piece = piece,
                Some(Err(error)) => return Poll::Ready(Err(this.broke(broken(&error)))),
                None if this.proxy.is_some() => {
                    let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "the response ended");
                    return Poll::Ready(Err(this.broke(ended)));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = this.piece.len().min(buffer.remaining());
        buffer.put_slice(this.piece.get(..len).unwrap_or_default());
        this.piece.advance(len);
        Poll::Ready(Ok(()))
    }
}

fn silent() -> io::Error {
    let seconds = HEARTBEAT_TIMEOUT.as_secs();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("nothing arrived for {seconds} seconds, not even a heartbeat"),
    )
}

/// The error with which hyper ends an HTTP/1.1 response when writing the request failed. hyper
/// hides the system's error.
const UNWRITTEN: &str = "connection error";

/// The system's error if there is one, otherwise the HTTP error.
fn broken(error: &reqwest::Error) -> io::Error {
    let mut cause: &dyn std::error::Error = error;
    let mut kind = io::ErrorKind::ConnectionReset;
    while let Some(source) = cause.source() {
        cause = source;
        if let Some(system) = cause.downcast_ref::<io::Error>() {
            kind = system.kind();
        }
    }
    match cause.to_string() {
        unwritten if unwritten == UNWRITTEN => io::Error::new(
            kind,
            "sending failed: the other end or the network broke the connection",
        ),
        said => io::Error::new(kind, said),
    }
}

impl AsyncWrite for Exchange {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().request()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().request()?.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().request()?.poll_shutdown(cx)
    }
}

/// A request body that starts with `first`, followed by the bytes written to the returned stream.
pub(super) fn outgoing(first: Bytes, heartbeats: Heartbeats) -> (DuplexStream, Body) {
    let (near, outgoing) = Outgoing::new(first, heartbeats);
    (near, Body::wrap_stream(outgoing))
}

struct Outgoing {
    /// Complete frames.
    first: Bytes,
    far: DuplexStream,
    buffer: BytesMut,
    frames: FrameEnds,
    heartbeats: Heartbeats,
    idle: Alarm,
}

impl Outgoing {
    fn new(first: Bytes, heartbeats: Heartbeats) -> (DuplexStream, Self) {
        let (near, far) = tokio::io::duplex(WRITE_BUFFER_BYTES);
        let (frames, idle) = (FrameEnds::default(), Alarm::new(HEARTBEAT_INTERVAL));
        (near, Self { first, far, buffer: BytesMut::new(), frames, heartbeats, idle })
    }
}

impl Stream for Outgoing {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.first))));
        }
        this.buffer.reserve(MAX_BODY_CHUNK_BYTES);
        // The future of `read_buf` holds no state, so it may be dropped between polls.
        if let Poll::Ready(read) = pin!(this.far.read_buf(&mut this.buffer)).poll(cx) {
            this.idle.stop();
            this.frames.pass(&this.buffer);
            return Poll::Ready(match read {
                Ok(0) => None,
                Ok(_) => Some(Ok(this.buffer.split().freeze())),
                Err(error) => Some(Err(error)),
            });
        }
        loop {
            ready!(this.idle.poll(cx));
            if this.heartbeats.have_begun() && this.frames.is_end() {
                Request::Heartbeat.encode(&mut this.buffer);
                return Poll::Ready(Some(Ok(this.buffer.split().freeze())));
            }
        }
    }
}

/// Tracks frame boundaries in a byte stream. A heartbeat must not be inserted inside a frame.
#[derive(Debug, Default)]
struct FrameEnds {
    /// The bytes of the current header so far.
    header: Vec<u8>,
    /// The number of payload bytes still to come.
    payload: usize,
}

impl FrameEnds {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let payload = self.payload.min(bytes.len());
            self.payload -= payload;
            bytes = bytes.get(payload..).unwrap_or_default();
            let missing = HEADER_LEN.saturating_sub(self.header.len()).min(bytes.len());
            let (header, rest) = bytes.split_at(missing);
            self.header.extend_from_slice(header);
            bytes = rest;
            if let [a, b, c, d, _] = self.header[..] {
                self.payload = u32::from_le_bytes([a, b, c, d]) as usize;
                self.header.clear();
            }
        }
    }

    fn is_end(&self) -> bool {
        self.header.is_empty() && self.payload == 0
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use pfs_proto::{Decoder, MEDIA_TYPE, StreamPath};
    use proptest::prelude::*;
    use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

    use super::*;
    use crate::http::{Dialer, HttpEndpoint, clients::Clients};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn encoded(request: &Request) -> BytesMut {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_without_the_promised_heartbeats_is_given_up_after_45_seconds() {
        let clients = Clients::new(&HttpEndpoint::new("http://127.0.0.1:1").unwrap()).unwrap();
        let client = || clients.get().unwrap();
        let response = || {
            let body = Body::wrap_stream(stream::pending::<io::Result<Bytes>>());
            Response::from(http::Response::new(body))
        };
        let mut exchange = Exchange::new(client(), response(), None, Heartbeats::default());
        assert!(
            timeout(DAY, exchange.read_u8()).await.is_err(),
            "the daemon has not announced heartbeats"
        );
        let mut exchange = Exchange::new(client(), response(), None, Heartbeats::default());
        exchange.heartbeats().begin();
        let begun = Instant::now();
        let error = exchange.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 45);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_request_sends_a_heartbeat_every_15_seconds_but_not_inside_a_frame() {
        let heartbeats = Heartbeats::default();
        let hello = Bytes::from_static(b"hello");
        let (mut near, mut outgoing) = Outgoing::new(hello.clone(), heartbeats.clone());
        assert_eq!(outgoing.next().await.unwrap().unwrap(), hello);
        assert!(timeout(DAY, outgoing.next()).await.is_err(), "the daemon may not know heartbeats");
        heartbeats.begin();
        let begun = Instant::now();
        let heartbeat = encoded(&Request::Heartbeat);
        for _ in 0..3 {
            assert_eq!(outgoing.next().await.unwrap().unwrap(), heartbeat);
        }
        assert!((30..=45).contains(&begun.elapsed().as_secs()));

        let frame = encoded(&Request::Append(vec![7; 100].into()));
        let (first, second) = frame.split_at(50);
        near.write_all(first).await.unwrap();
        assert_eq!(outgoing.next().await.unwrap().unwrap(), first);
        assert!(timeout(DAY, outgoing.next()).await.is_err(), "a frame is not whole yet");
        near.write_all(second).await.unwrap();
        assert_eq!(outgoing.next().await.unwrap().unwrap(), second);
        assert_eq!(outgoing.next().await.unwrap().unwrap(), heartbeat);
        drop(near);
        assert!(outgoing.next().await.is_none());
    }

    #[tokio::test]
    async fn a_failed_write_is_reported_as_a_failed_write() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dialer = Dialer::new(&HttpEndpoint::new(&url).unwrap()).unwrap();
        let daemon = async {
            let (mut daemon, _) = listener.accept().await.unwrap();
            daemon.read_u8().await.unwrap();
            // The client does not read the body, and HTTP reads little of it ahead. So only a
            // failed write shows that the connection broke.
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {MEDIA_TYPE}\r\n\r\n");
            let _ = daemon.write(&[head.as_bytes(), &[0; 1024 * 1024]].concat()).await.unwrap();
            daemon
        };
        let (exchange, daemon) = tokio::join!(dialer.post(Bytes::from_static(b"hello")), daemon);
        daemon.set_zero_linger().unwrap();
        drop(daemon);
        let mut exchange = exchange.unwrap();
        while exchange.write_all(&[0; MAX_BODY_CHUNK_BYTES]).await.is_ok() {}
        let error = exchange.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert!(error.to_string().starts_with("sending failed"), "{error:?}");
    }

    proptest! {
        #[test]
        fn frames_end_where_the_decoder_has_cut_the_last_one(
            sizes in proptest::collection::vec(0_usize..300, 1..8),
            cuts in proptest::collection::vec(1_usize..50, 1..40),
        ) {
            let mut bytes = BytesMut::new();
            for size in sizes {
                Request::Append(vec![0; size].into()).encode(&mut bytes);
                Request::Stat("/streamfs/s".parse::<StreamPath>().unwrap()).encode(&mut bytes);
            }
            let (mut ends, mut decoder) = (FrameEnds::default(), Decoder::new());
            let mut rest = &bytes[..];
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                ends.pass(piece);
                decoder.buffer().extend_from_slice(piece);
                while decoder.next_frame().unwrap().is_some() {}
                prop_assert_eq!(ends.is_end(), decoder.is_empty());
            }
        }
    }
}
