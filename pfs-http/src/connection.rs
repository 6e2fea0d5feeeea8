//! One connection, from its handshake to an end that the client understands.

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

/// What is read from a connection at once, and therefore the largest chunk that the body of a
/// request makes: as large as those of `pfs write`. As much is kept for a reader that does not
/// read.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What is received on one HTTP/2 connection, and on one of its streams, before somebody wants it.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;

/// What TLS holds of encrypted bytes until the socket takes them: one record. Its default of 64 KiB
/// would double the memory of a reader that does not read.
const TLS_BUFFER_BYTES: usize = 16 * 1024;

/// Requests at a time on one HTTP/2 connection.
const MAX_CONCURRENT_STREAMS: u32 = 128;

/// What every client is answered, whether or not there is a place for it.
const HEALTH: &str = "/healthz";

/// How long a client that is turned away, or one that is idle, may take to hear it.
const FINAL_RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is told, before anything else was, to who did not say what they want.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n\
    content-length: 90\r\n\r\n\
    {\"error\":{\"code\":\"too_slow\",\"message\":\"the headers of the request took too long to come\"}}";

/// Both ends of a connection; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connected {
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) tls: bool,
}

/// What all connections have in common.
pub(super) struct Connections {
    router: Router,
    site: Arc<Site>,
    admission: Arc<Admission>,
}

/// The size limit of hyper on the headers of a request, which holds what was read with them as
/// well.
fn header_bytes(max_header_size: usize) -> usize {
    max_header_size.saturating_add(READ_BUFFER_BYTES)
}

/// HTTP/1.1 for one connection. `Activity` limits the time that headers take, for both versions. A
/// client may end its side and still read its answer; `departed` notices one that does not.
fn http1(max_header_size: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(header_bytes(max_header_size).max(READ_BUFFER_BYTES));
    builder
}

/// HTTP/2 for one connection. Without pings: a `block` reader that pauses does not answer them
/// either, and would be cut off.
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

    /// Serves a connection to its end. One that was not admitted is refused whatever it asks for.
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
        // Boxed: the futures that it is moved through have room for it each.
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
                        // Boxed: it is larger than all else here, and a connection without TLS
                        // needs no room for it.
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
                refuse(Reason::TooSlow, "the headers of a request took too long to come")
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
                // Boxed: it is twice as large as a connection over HTTP/1.1.
                let mut connection = Box::pin(http2(max_header_size).serve_connection(io, service));
                // Nothing is detached: all responses share the connection.
                converse(connection.as_mut(), interrupted, &slot, remote)
                    .await
                    .err()
                    .unwrap_or(Ended::Unheard)
            }
        }
    }
}

/// Why a connection does not go on.
enum Interruption {
    Shutdown,
    /// The client can no longer read its answer.
    Departed,
    /// The connection has been for too long in a phase that has an end.
    Overdue(Phase),
}

/// Serves the requests of a connection to its end, until it is interrupted, or until the body of a
/// response is detached.
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
        // Only the connection, which was polled just now, detaches a body.
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
                // It may still read what the system has of earlier answers.
                return Err(Ended::Unheard);
            }
        }
        // A client that still gets an answer gets it to its end, or to where the daemon cuts all
        // that is left.
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

/// What a connection is made of, without the buffer that it read into.
fn taken_apart<I, S>(parts: http1::Parts<TokioIo<Opening<I>>, S>) -> (Opening<I>, S) {
    let http1::Parts { io, read_buf, service, .. } = parts;
    let mut opening = io.into_inner();
    opening.unread(&read_buf);
    (opening, service)
}

/// Sends a detached response to its end, or until it is interrupted. The next request may follow.
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
                // As above: the body comes to its end, or fails.
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
    tracing::debug!(%remote, "a request took too long to come");
    Ended::TooSlow
}

/// How HTTP ended, and so what the client may still have to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Both sides know.
    Heard,
    /// The body of the last answer failed.
    Broken,
    /// The last answer may not have been read.
    Unheard,
    /// A request did not come to its end.
    TooSlow,
    /// HTTP has refused the headers of a request, before they were a request.
    TooLarge,
}

/// Answers the requests of one connection.
#[derive(Clone)]
struct Serving {
    router: Router,
    connected: Connected,
    activity: Arc<Activity>,
    admitted: Result<Arc<Place>, Full>,
    requests: Requests,
    /// Limits the appends that run at a time. Over HTTP/2, a client that resets its requests could
    /// otherwise begin any number of them.
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
            // A probe must not take a full daemon for a dead one: it would restart the daemon, and
            // lose its streams.
            Err(_) if request.uri().path() == HEALTH => None,
            Err(full) => {
                let mut response = full.into_response();
                if self.admitted.is_err() {
                    // Its connection has been counted.
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
        // Frames report an end themselves. A reset could make a client of frames lose data that it
        // has not read.
        (self.reset_when_killed)(protocol != Protocol::Frames);
        let lingers = version >= Version::HTTP_2;
        let slot = detached::is_possible(&request).then(|| Arc::clone(&self.detached));
        let request =
            request.map(|body| Tallied::new(Lingering::new(body, lingers), protocol, tally));
        let more = request.body().more();
        record.receives(more.clone());
        let appends = more.is_left() && matches!(method, Method::PUT | Method::POST);
        // An append goes on without its client, and further requests may be waiting behind it.
        let matters = appends && protocol != Protocol::Frames;
        self.activity.answers((!matters).then(|| (more.clone(), protocol)));
        let answered = async move {
            // Work that goes on without its client keeps the client's place among the connections.
            let _place = place;
            let response = router.call(request.map(Body::new)).await;
            let mut response = response.unwrap_or_else(|never| match never {});
            // A body that nobody wants is not waited for, and then nothing can come after it.
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
            // Nothing outlives this future, which hyper drops when the client disconnects.
            leaving.disarm();
            return Box::pin(answered);
        }
        // What arrived of a body is appended, whatever becomes of the connection, and hyper drops
        // the future of a request when its client disconnects.
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
