//! Frames transport over HTTP: a request body and a response body, used as the two directions of
//! a connection.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream;
use http_body::Body as _;
use pfs_host::Transport;
use pfs_proto::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, Reply};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

use super::{body::LastPiece, presence::Presence};

/// Transport of one session. The client's frames arrive in the request body; the daemon's frames
/// leave in the response body. Neither body is buffered ahead: a client that does not read costs
/// one piece here, plus the buffers of its connection.
#[derive(Debug)]
pub(crate) struct Bodies {
    input: Mutex<Input>,
    output: mpsc::Sender<Bytes>,
    /// Last piece that `try_write` copied. The next piece waits until this one is written; over
    /// HTTP/1.1, hyper would accept several pieces before the client reads one.
    copied: Mutex<LastPiece>,
    heartbeats: Arc<AtomicBool>,
    presence: Presence,
}

#[derive(Debug)]
struct Input {
    body: Body,
    /// Bytes of the body that the session has not taken.
    piece: Bytes,
    end: Option<End>,
    heartbeats: Arc<AtomicBool>,
    silence: Alarm,
}

/// How the request body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
    /// No bytes arrived for [`HEARTBEAT_TIMEOUT`], not even a heartbeat.
    Silent,
}

impl Bodies {
    /// Creates the transport for a request body, and the response body. The response body ends when
    /// the transport is dropped.
    pub(crate) fn new(body: Body, presence: Presence) -> (Self, Body) {
        let (output, mut pieces) = mpsc::channel(1);
        let heartbeats = Arc::<AtomicBool>::default();
        let silence = Alarm::new(HEARTBEAT_TIMEOUT);
        let input = Input {
            body,
            piece: Bytes::new(),
            end: None,
            heartbeats: Arc::clone(&heartbeats),
            silence,
        };
        let (wanted, mut idle) = (Arc::clone(&heartbeats), Alarm::new(HEARTBEAT_INTERVAL));
        // A piece consists of whole frames, so a heartbeat may come between any two pieces.
        let pieces = stream::poll_fn(move |cx| {
            if let Poll::Ready(piece) = pieces.poll_recv(cx) {
                idle.stop();
                return Poll::Ready(piece.map(Ok::<_, Infallible>));
            }
            loop {
                ready!(idle.poll(cx));
                if wanted.load(Relaxed) {
                    return Poll::Ready(Some(Ok(heartbeat())));
                }
            }
        });
        let copied = Mutex::default();
        (
            Self { input: Mutex::new(input), output, copied, heartbeats, presence },
            Body::from_stream(pieces),
        )
    }

    fn copied(&self) -> MutexGuard<'_, LastPiece> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silent() -> io::Error {
    let seconds = HEARTBEAT_TIMEOUT.as_secs();
    let message = format!("the client sent nothing for {seconds} seconds, not even a heartbeat");
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn heartbeat() -> Bytes {
    let mut frame = BytesMut::new();
    Reply::Heartbeat.encode(&mut frame);
    frame.freeze()
}

/// Timer that expires unless it is stopped in time.
#[derive(Debug)]
struct Alarm {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    is_set: bool,
}

impl Alarm {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, is_set: false }
    }

    fn stop(&mut self) {
        self.is_set = false;
    }

    /// Ready when the limit has passed since the first poll after the timer was stopped or
    /// last expired.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.is_set {
            sleep.as_mut().reset(Instant::now() + limit);
            self.is_set = true;
        }
        ready!(sleep.as_mut().poll(cx));
        self.is_set = false;
        Poll::Ready(())
    }
}

impl Transport for Bodies {
    const MAY_PAUSE: bool = false;
    const HEARTBEATS: bool = true;

    fn begin_heartbeats(&self) {
        self.heartbeats.store(true, Relaxed);
    }

    /// Waits until there are bytes to read, or the body has ended.
    async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.input().poll(cx)).await;
        Ok(())
    }

    /// Reads as many of the available bytes as fit into `buffer` without growing it. Returns 0 at
    /// the end.
    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut input = self.input();
        // No waker is needed: a caller that waits polls again.
        if input.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = buffer.capacity().saturating_sub(buffer.len());
        let len = input.piece.len().min(room);
        match input.end {
            Some(End::Broken) if len == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(End::Silent) if len == 0 => return Err(silent()),
            _ => {}
        }
        buffer.extend_from_slice(input.piece.get(..len).unwrap_or_default());
        input.piece.advance(len);
        Ok(len)
    }

    /// Writes all bytes, or nothing if the previous piece has not been taken yet.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut copied = self.copied();
        // No waker is needed: a caller that waits polls again.
        if copied.poll_sent(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.output.try_reserve() {
            Ok(permit) => {
                permit.send(copied.watch(Bytes::copy_from_slice(bytes)));
                Ok(bytes.len())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(io::ErrorKind::WouldBlock.into()),
            Err(mpsc::error::TrySendError::Closed(())) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until a piece can be written.
    async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.copied().poll_sent(cx)).await;
        self.output.reserve().await.map(drop).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    const KEEPS_BYTES: bool = true;

    /// Waits until the previous piece has been taken, then sends these bytes.
    async fn send(&self, bytes: Bytes) -> io::Result<()> {
        let permit = self.output.reserve().await;
        permit.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?.send(bytes);
        Ok(())
    }

    /// Waits until the response is dropped or the client has disconnected. Over HTTP/1.1, hyper
    /// does not notice a disconnect while the request body is not being read.
    async fn hung_up(&self) {
        tokio::select! {
            () = self.output.closed() => {}
            () = self.presence.ended() => {}
        }
    }

    /// Waits until the client has gone, even if its request ended long before. Returns false if the
    /// client sends data instead.
    async fn left(&self) -> io::Result<bool> {
        let mut hung_up = pin!(self.output.closed());
        poll_fn(|cx| {
            if hung_up.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(true));
            }
            let mut input = self.input();
            ready!(input.poll(cx));
            match input.end {
                _ if !input.piece.is_empty() => Poll::Ready(Ok(false)),
                Some(End::Broken | End::Silent) => Poll::Ready(Ok(true)),
                _ => Poll::Pending,
            }
        })
        .await
    }
}

impl Input {
    /// Ready when there is a piece, or the body has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.piece.is_empty() && self.end.is_none() {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                ready!(self.silence.poll(cx));
                if self.heartbeats.load(Relaxed) {
                    self.end = Some(End::Silent);
                }
                continue;
            };
            self.silence.stop();
            match frame {
                // Trailers have no meaning here.
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => self.end = Some(End::Broken),
                None => self.end = Some(End::Whole),
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http_body_util::BodyExt;

    use super::*;

    fn both(body: Body) -> (Bodies, Body) {
        let (presence, guard) = Presence::new(Arc::new(|| Box::pin(pending())));
        guard.disarm();
        Bodies::new(body, presence)
    }

    fn body(pieces: &[&'static [u8]], broken: bool) -> Body {
        let pieces = pieces.iter().map(|piece| Ok(Bytes::from_static(piece)));
        let end = broken.then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset)));
        Body::from_stream(stream::iter(pieces.chain(end).collect::<Vec<_>>()))
    }

    #[tokio::test]
    async fn a_body_is_read_unchanged_and_its_end_differs_from_a_break() {
        for broken in [false, true] {
            let (bodies, _response) = both(body(&[b"one", b"", b"two"], broken));
            let mut buffer = BytesMut::with_capacity(4);
            for (expected, len) in [(&b"one"[..], 3), (b"onet", 1)] {
                bodies.readable().await.unwrap();
                assert_eq!(bodies.try_read(&mut buffer).unwrap(), len);
                assert_eq!(&buffer[..], expected);
            }
            buffer.clear();
            bodies.readable().await.unwrap();
            assert_eq!(bodies.try_read(&mut buffer).unwrap(), 2);
            assert_eq!(bodies.try_read(&mut buffer).ok(), (!broken).then_some(0));
        }
    }

    #[tokio::test]
    async fn a_piece_is_accepted_only_after_the_previous_one_was_sent() {
        let (bodies, mut response) = both(Body::empty());
        assert_eq!(bodies.try_write(b"one").unwrap(), 3);
        assert_eq!(bodies.try_write(b"two").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let taking = async {
            bodies.writable().await.unwrap();
            bodies.try_write(b"two").unwrap();
            bodies.send(Bytes::from_static(b"three")).await.unwrap();
            drop(bodies);
        };
        let taken = async {
            let mut all = Vec::new();
            while let Some(frame) = response.frame().await {
                all.extend_from_slice(&frame.unwrap().into_data().unwrap());
            }
            all
        };
        let (all, ()) = tokio::join!(taken, taking);
        assert_eq!(all, b"onetwothree");
    }

    #[tokio::test]
    async fn a_client_whose_request_has_ended_is_present_until_its_response_is_dropped() {
        let (bodies, response) = both(Body::empty());
        assert!(tokio::time::timeout(std::time::Duration::ZERO, bodies.left()).await.is_err());
        drop(response);
        assert!(bodies.left().await.unwrap());
        bodies.hung_up().await;
        assert_eq!(bodies.try_write(b"one").unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (bodies, _response) = both(body(&[b"more"], false));
        assert!(!bodies.left().await.unwrap());
        let (bodies, _response) = both(body(&[], true));
        assert!(bodies.left().await.unwrap());
    }
}
