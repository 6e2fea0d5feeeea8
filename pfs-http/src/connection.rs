//! HTTP connection: TLS handshake, HTTP/1.1 or HTTP/2, time limits, and an end that the
//! client understands.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Method, Version, header},
    response::IntoResponse,
};
use futures_util::future::BoxFuture;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use pfs_host::refusals::{Asked, Reason, Refusals};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    Site,
    activity::{Activity, Phase},
    admission::{Admission, Full, Place, Requests},
    answer,
    detached::{self, Detachable, SendError, Slot},
    half_close::departed,
    lingering::Lingering,
    opening::{Opening, Version as ClientVersion},
    operations::{Protocol, Tallied, Tally},
    outliving::Outliving,
    presence::{HungUp, Presence},
    problem::Refused,
    record::{Record, Recorded},
    socket::{Socket, Tracked, linger},
};

/// Size of a read from a connection, and therefore of the largest chunk that a request body makes:
/// as large as the chunks of `pfs write`. Also the number of bytes that hyper buffers for a client
/// that does not read.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Flow-control windows of HTTP/2: the bytes that one connection, and one of its streams, may send
/// before a handler reads them.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;

/// Number of encrypted bytes that TLS buffers until the socket accepts them: one record. The
/// default of rustls, 64 KiB, would double the memory of a client that does not read.
const TLS_BUFFER_BYTES: usize = 16 * 1024;

/// Maximum number of concurrent requests on one HTTP/2 connection.
const MAX_CONCURRENT_STREAMS: u32 = 128;

/// Path of the health check, which is answered even if the connection limit is reached.
const HEALTH: &str = "/healthz";

/// Time that a client that is turned away, or idle, may take to receive its final response.
const FINAL_RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Response to a client that was too slow to send the headers of its first request.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n\
    content-length: 92\r\n\r\n\
    {\"error\":{\"code\":\"too_slow\",\"message\":\"the headers of the request took too long to arrive\"}}";

/// Addresses of a connection; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connected {
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) tls: bool,
}

/// Serves connections, with the state that they share.
pub(super) struct Connections {
    router: Router,
    site: Arc<Site>,
    admission: Arc<Admission>,
}

/// Converts the header limit into the limit of hyper, which also counts the bytes of the body that
/// were read together with the headers.
fn header_bytes(max_header_size: usize) -> usize {
    max_header_size.saturating_add(READ_BUFFER_BYTES)
}

/// HTTP/1.1 settings. For both versions of HTTP, `Activity` limits the time for headers. A client
/// may half-close the connection and still read its response; `departed` detects a client that
/// has gone.
fn http1(max_header_size: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(header_bytes(max_header_size).max(READ_BUFFER_BYTES));
    builder
}

/// HTTP/2 settings. There are no pings: a `block` reader that pauses does not answer pings either,
/// and would be cut off.
fn http2(max_header_size: usize) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(header_bytes(max_header_size)).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_send_buf_size(READ_BUFFER_BYTES);
    builder
}

impl Connections {
    pub(super) fn new(router: Router, site: Arc<Site>, admission: Arc<Admission>) -> Self {
        Self { router, site, admission }
    }

    /// Serves a connection to its end. If the connection was not admitted, every request
    /// is refused.
    pub(super) async fn serve<S: Socket>(
        &self,
        socket: S,
        remote: SocketAddr,
        admitted: Result<Place, Full>,
        shutdown: &CancellationToken,
    ) {
        let Ok(local) = socket.local_addr() else { return };
        let (activity, socket) = (Arc::new(Activity::default()), Arc::new(socket));
        let tracked = Tracked::new(Arc::clone(&socket), Arc::clone(&activity));
        let (tls, header_time) = {
            let current = self.site.current();
            (current.tls.clone().map(TlsAcceptor::from), current.limits.header_time)
        };
        let connected = Connected { remote, local, tls: tls.is_some() };
        let (router, tally) = (self.router.clone(), Arc::clone(&self.site.tally));
        let watched = Arc::clone(&socket);
        let of_response = Arc::clone(&socket);
        let reset_when_killed = Arc::new(move |resets: bool| of_response.reset_when_killed(resets));
        let hung_up: HungUp = Arc::new(move || {
            let socket = Arc::clone(&watched);
            Box::pin(async move { socket.hung_up().await })
        });
        let admitted = admitted.map(Arc::new);
        // Boxed: each future through which the service is moved would reserve room for it.
        let service = Box::new(Serving {
            router,
            connected,
            activity: Arc::clone(&activity),
            admitted,
            requests: Requests::new(Arc::clone(&self.admission), remote.ip()),
            appending: Arc::new(Semaphore::new(MAX_CONCURRENT_STREAMS as usize)),
            hung_up,
            reset_when_killed,
            tally,
            refusals: Arc::clone(self.site.daemon.refusals()),
            detached: Arc::default(),
        });
        let refuse = |reason, message: &str| {
            self.site.daemon.refusals().refuse(
                reason,
                &Asked { remote: Some(remote), ..Asked::default() },
                message,
            );
        };
        let ended = match &tls {
            None => self.drive(tracked, service, &*socket, &activity, shutdown).await,
            Some(tls) => {
                let shaken = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    shaken = timeout(header_time, tls.accept_with(tracked, |session| {
                        session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
                    })) => shaken,
                };
                match shaken {
                    Ok(Ok(secured)) => {
                        activity.shook_hands();
                        // Boxed: this future is the largest one here, and a connection without TLS
                        // must not reserve room for it.
                        Box::pin(self.drive(secured, service, &*socket, &activity, shutdown)).await
                    }
                    Ok(Err(error)) => {
                        refuse(Reason::Handshake, &format!("the TLS handshake failed: {error}"));
                        Ended::Unheard
                    }
                    Err(_) => {
                        refuse(Reason::Handshake, "the TLS handshake took too long");
                        Ended::Heard
                    }
                }
            }
        };
        match ended {
            Ended::TooSlow => {
                refuse(Reason::TooSlow, "the headers of a request took too long to arrive")
            }
            Ended::TooLarge => refuse(Reason::TooLarge, "the headers of a request are too large"),
            Ended::Heard | Ended::Broken | Ended::Unheard => {}
        }
        match ended {
            Ended::Heard => {}
            Ended::Broken => socket.abort().await,
            Ended::TooSlow if tls.is_none() => linger(&*socket, TOO_SLOW).await,
            Ended::Unheard | Ended::TooSlow | Ended::TooLarge => linger(&*socket, &[]).await,
        }
    }

    async fn drive<I, S>(
        &self,
        io: I,
        service: Box<Serving>,
        socket: &S,
        activity: &Activity,
        shutdown: &CancellationToken,
    ) -> Ended
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Socket,
    {
        let (remote, turned_away) = (service.connected.remote, service.admitted.is_err());
        let max_header_size = self.site.current().limits.max_header_size;
        let interrupted = async {
            let overdue = async {
                if turned_away {
                    tokio::time::sleep(FINAL_RESPONSE_TIMEOUT).await;
                    return Phase::Idle;
                }
                activity.overdue(&self.site).await
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Interruption::Shutdown,
                () = departed(socket, activity) => Interruption::Departed,
                phase = overdue => Interruption::Overdue(phase),
            }
        };
        let mut interrupted = pin!(interrupted);
        let mut opening = Opening::new(io);
        let version = tokio::select! {
            biased;
            version = opening.version() => version,
            interruption = &mut interrupted => return match interruption {
                Interruption::Overdue(Phase::Receiving) => too_slow(remote),
                _ => Ended::Heard,
            },
        };
        match version {
            Err(error) => {
                tracing::debug!(%remote, "connection ended: {error}");
                Ended::Unheard
            }
            Ok(ClientVersion::Http1) => {
                let (slot, mut service) = (Arc::clone(&service.detached), service);
                loop {
                    let io = TokioIo::new(opening);
                    let mut connection = http1(max_header_size).serve_connection(io, service);
                    let served =
                        converse(Pin::new(&mut connection), interrupted.as_mut(), &slot, remote)
                            .await;
                    let body = match served {
                        Ok(body) => body,
                        Err(ended) => return ended,
                    };
                    (opening, service) = taken_apart(connection.into_parts());
                    if let Err(ended) = send(&mut opening, body, interrupted.as_mut(), remote).await
                    {
                        return ended;
                    }
                }
            }
            Ok(ClientVersion::Http2) => {
                let (io, slot) = (TokioIo::new(opening), Arc::clone(&service.detached));
                // Boxed: an HTTP/2 connection is twice as large as an HTTP/1.1 connection.
                let mut connection = Box::pin(http2(max_header_size).serve_connection(io, service));
                // The slot stays empty: all responses share the connection, so none is detached.
                converse(connection.as_mut(), interrupted, &slot, remote)
                    .await
                    .err()
                    .unwrap_or(Ended::Unheard)
            }
        }
    }
}

/// Reason for interrupting a connection.
enum Interruption {
    Shutdown,
    /// The client can no longer read its response.
    Departed,
    /// The connection has exceeded the time limit of its phase.
    Overdue(Phase),
}

/// Serves the requests of a connection until the connection ends, is interrupted, or detaches the
/// body of a response.
async fn converse(
    mut connection: Pin<&mut impl GracefulConnection<Error = hyper::Error>>,
    interrupted: Pin<&mut impl Future<Output = Interruption>>,
    slot: &Slot,
    remote: SocketAddr,
) -> Result<Box<Recorded>, Ended> {
    let interruption = tokio::select! {
        biased;
        ended = &mut connection => {
            let Err(error) = ended else { return Err(Ended::Unheard) };
            tracing::debug!(%remote, "connection ended: {error}");
            return Err(match error {
                error if error.is_user() => Ended::Broken,
                error if error.is_parse_too_large() => Ended::TooLarge,
                _ => Ended::Unheard,
            });
        }
        // Only polling the connection, which has just been done, can detach a body.
        body = poll_fn(|_| slot.take().map_or(Poll::Pending, Poll::Ready)) => return Ok(body),
        interruption = interrupted => interruption,
    };
    slot.close();
    match interruption {
        Interruption::Departed => return Err(Ended::Heard),
        Interruption::Overdue(Phase::Receiving) => return Err(too_slow(remote)),
        Interruption::Overdue(Phase::Silent | Phase::Idle | Phase::Busy) => {
            connection.as_mut().graceful_shutdown();
            if timeout(FINAL_RESPONSE_TIMEOUT, connection).await.is_err() {
                // The client may still be reading earlier responses from the buffers of the system.
                return Err(Ended::Unheard);
            }
        }
        // A response that has begun goes on to its end, or until the daemon cuts all
        // remaining responses.
        Interruption::Shutdown => {
            connection.as_mut().graceful_shutdown();
            if connection.await.is_err_and(|error| error.is_user()) {
                // The body of a response failed.
                return Err(Ended::Broken);
            }
        }
    }
    Err(Ended::Heard)
}

/// Takes a connection apart. The bytes that hyper read ahead return to the `Opening`, and their
/// buffer is dropped.
fn taken_apart<I, S>(parts: http1::Parts<TokioIo<Opening<I>>, S>) -> (Opening<I>, S) {
    let http1::Parts { io, read_buf, service, .. } = parts;
    let mut opening = io.into_inner();
    opening.unread(&read_buf);
    (opening, service)
}

/// Sends a detached response to its end, or until it is interrupted. Afterwards, the connection may
/// serve its next request.
async fn send(
    io: &mut (impl AsyncWrite + Unpin),
    body: Box<Recorded>,
    interrupted: Pin<&mut impl Future<Output = Interruption>>,
    remote: SocketAddr,
) -> Result<(), Ended> {
    let (sent, shuts_down) = {
        let mut sending = pin!(detached::send(io, body));
        tokio::select! {
            biased;
            sent = &mut sending => (sent, false),
            interruption = interrupted => match interruption {
                // Like in `converse`, a body that has begun ends or fails.
                Interruption::Shutdown => (sending.await, true),
                Interruption::Departed => return Err(Ended::Heard),
                Interruption::Overdue(_) => return Err(Ended::Unheard),
            },
        }
    };
    match sent {
        Ok(()) if shuts_down => {
            let _ = io.shutdown().await;
            Err(Ended::Heard)
        }
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::debug!(%remote, "connection ended: {error}");
            Err(match error {
                SendError::Body(_) => Ended::Broken,
                SendError::Io(_) if shuts_down => Ended::Heard,
                SendError::Io(_) => Ended::Unheard,
            })
        }
    }
}

fn too_slow(remote: SocketAddr) -> Ended {
    tracing::debug!(%remote, "a request took too long to arrive");
    Ended::TooSlow
}

/// How HTTP ended on a connection. Says what the client may still have to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Nothing is left to receive.
    Heard,
    /// The body of the last response failed.
    Broken,
    /// The client may not have read the last response.
    Unheard,
    /// The headers of a request did not arrive in time.
    TooSlow,
    /// hyper has refused the headers of a request as too large.
    TooLarge,
}

/// Service that answers the requests of one connection.
#[derive(Clone)]
struct Serving {
    router: Router,
    connected: Connected,
    activity: Arc<Activity>,
    admitted: Result<Arc<Place>, Full>,
    requests: Requests,
    /// Limits the number of concurrent appends. Over HTTP/2, a client that resets its requests
    /// could otherwise start an unlimited number of appends.
    appending: Arc<Semaphore>,
    hung_up: HungUp,
    reset_when_killed: Arc<dyn Fn(bool) + Send + Sync>,
    tally: Arc<Tally>,
    refusals: Arc<Refusals>,
    detached: Arc<Slot>,
}

impl hyper::service::Service<Request<Incoming>> for Serving {
    type Response = Response<Detachable>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Detachable>, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (method, version) = (request.method().clone(), request.version());
        let mut record = Record::begin(
            &request,
            self.connected.remote,
            Arc::clone(&self.activity),
            Arc::clone(&self.tally),
            Arc::clone(&self.refusals),
        );
        let admitted = match &self.admitted {
            Ok(place) => self.requests.admit().map(|request| (Arc::clone(place), request)),
            Err(full) => Err(*full),
        };
        let place = match admitted {
            Ok((place, request)) => {
                record.occupies(request);
                Some(place)
            }
            // A full daemon must still answer a health check: a supervisor that took it for dead
            // would restart the daemon, and lose its streams.
            Err(_) if request.uri().path() == HEALTH => None,
            Err(full) => {
                let mut response = full.into_response();
                if self.admitted.is_err() {
                    // The refusal of the connection has already been counted.
                    record.is_refused();
                    response.extensions_mut().remove::<Refused>();
                }
                return Box::pin(async move {
                    Ok(record.answer(response).map(|body| Detachable::new(body, None)))
                });
            }
        };
        request.extensions_mut().insert(self.connected);
        let (presence, leaving) = Presence::new(Arc::clone(&self.hung_up));
        request.extensions_mut().insert(presence);
        let mut router = self.router.clone();
        let (protocol, tally) =
            (Protocol::from_path(request.uri().path()), Arc::clone(&self.tally));
        // Frames report the end of a stream themselves. A reset could make a frames client lose
        // data that it has not read.
        (self.reset_when_killed)(protocol != Protocol::Frames);
        let lingers = version >= Version::HTTP_2;
        let slot = detached::is_possible(&request).then(|| Arc::clone(&self.detached));
        let request =
            request.map(|body| Tallied::new(Lingering::new(body, lingers), protocol, tally));
        let more = request.body().more();
        record.receives(more.clone());
        let appends = more.is_left() && matches!(method, Method::PUT | Method::POST);
        // An append goes on after its client has left, and further requests may be queued behind
        // the append.
        let matters = appends && protocol != Protocol::Frames;
        self.activity.answers((!matters).then(|| (more.clone(), protocol)));
        let answered = async move {
            // Work that goes on after its client has left keeps the client's place in the
            // connection limit.
            let _place = place;
            let response = router.call(request.map(Body::new)).await;
            let mut response = response.unwrap_or_else(|never| match never {});
            // The rest of a body that a handler refused is not read, so no further request
            // can follow.
            if more.is_left() && !response.status().is_success() && version < Version::HTTP_2 {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            let response = answer::finish(&method, version, response);
            let slot = slot.filter(|_| detached::is_wanted(&response));
            Ok(record.answer(response).map(|body| Detachable::new(body, slot)))
        };
        if !appends {
            // No part of this request needs to outlive this future, which hyper drops when the
            // client disconnects.
            leaving.disarm();
            return Box::pin(answered);
        }
        // The bytes of a body that have arrived are appended even if the connection breaks.
        // hyper drops the future of a request when its client disconnects, so an append runs
        // as [`Outliving`].
        let appending = Arc::clone(&self.appending);
        Box::pin(async move {
            let permit = appending.acquire_owned().await;
            let answered = Outliving::new(async move {
                let _permit = permit;
                answered.await
            });
            let answered = answered.await;
            leaving.disarm();
            answered
        })
    }
}
