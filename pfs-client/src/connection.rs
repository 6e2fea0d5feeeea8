//! One connection: requests out, replies in, over anything that carries bytes.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
#[cfg(feature = "http")]
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use pfs_proto::{Decoder, ErrorCode, Hello, Reply, Request, VERSION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
#[cfg(feature = "http")]
use tokio::time::{Duration, timeout};

use crate::ConnectError;
use crate::endpoint;
#[cfg(feature = "http")]
use crate::endpoint::PATIENCE;
use crate::error::{Broken, ProtocolError};
#[cfg(feature = "http")]
use crate::http::Dialer;
use crate::sharing::Passed;
#[cfg(target_os = "linux")]
use crate::sharing::PassingSocket;

/// How long the end of an answer may take to come, that nobody needs but HTTP.
#[cfg(feature = "http")]
const LAST: Duration = Duration::from_millis(20);

/// Something that carries the frames. The Unix socket is one; tests have another.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection on which both ends have said hello.
pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    decoder: Decoder,
    /// What [`ring`](Self::ring) could not say yet.
    unsaid: BytesMut,
    /// Memory that came along with messages, where both ends can share it.
    passed: Option<Passed>,
    /// Over HTTP each request has a transport of its own, that comes from here.
    #[cfg(feature = "http")]
    dialer: Option<Arc<Dialer>>,
}

impl Connection {
    /// Says hello and waits for the answer, however long that takes.
    pub(crate) async fn open(transport: impl Transport + 'static) -> Result<Self, ConnectError> {
        Self::new(Box::new(transport)).greet(Hello::OURS).await
    }

    fn new(transport: Box<dyn Transport>) -> Self {
        Self {
            transport,
            decoder: Decoder::new(),
            unsaid: BytesMut::new(),
            passed: None,
            #[cfg(feature = "http")]
            dialer: None,
        }
    }

    /// For requests over HTTP. Nothing is said yet.
    #[cfg(feature = "http")]
    pub(crate) fn over_http(dialer: Arc<Dialer>) -> Self {
        Self { dialer: Some(dialer), ..Self::new(Box::new(tokio::io::empty())) }
    }

    /// Asks something, if nothing has been said yet, to see whether anybody answers.
    #[cfg(feature = "http")]
    pub(crate) async fn try_out(&mut self) -> Result<(), ConnectError> {
        if self.dialer.is_none() {
            return Ok(());
        }
        match self.request(&Request::Info).await? {
            Reply::Daemon(_) => Ok(()),
            Reply::Error { code, message } => Err(ConnectError::Refused { code, message }),
            _ => Err(ProtocolError::Unexpected { expected: "figures of itself" }.into()),
        }
    }

    /// Where another one comes from when this one has broken; only HTTP has that.
    pub(crate) fn again(&self) -> Option<endpoint::Dialer> {
        #[cfg(feature = "http")]
        if let Some(dialer) = &self.dialer {
            return Some(endpoint::Dialer::Http(Arc::clone(dialer)));
        }
        None
    }

    /// As [`open`](Self::open), over a socket on which memory can come along: that is offered.
    #[cfg(target_os = "linux")]
    pub(crate) async fn open_sharing(socket: tokio::net::UnixStream) -> Result<Self, ConnectError> {
        let (socket, passed) = PassingSocket::new(socket);
        let connection = Self { passed: Some(passed), ..Self::new(Box::new(socket)) };
        connection.greet(Hello { capabilities: Hello::MAPPING, ..Hello::OURS }).await
    }

    async fn greet(mut self, hello: Hello) -> Result<Self, ConnectError> {
        understood(self.request(&Request::Hello(hello)).await?)?;
        Ok(self)
    }

    /// Sends a request and waits for the first reply to it. Not cancel safe.
    pub(crate) async fn request(&mut self, request: &Request) -> Result<Reply, Broken> {
        #[cfg(feature = "http")]
        if let Some(dialer) = self.dialer.clone() {
            return self.exchange(&dialer, request).await;
        }
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        let sent = self.transport.write_all(&bytes).await;
        // A daemon that closes the connection says why first: that is worth more than a broken pipe.
        match (self.receive().await, sent) {
            (Err(Broken::Gone(_)), Err(error)) => Err(Broken::Gone(error)),
            (received, _) => received,
        }
    }

    /// Over HTTP, hello and the request go out together. Only what a writer has to say goes on after that.
    #[cfg(feature = "http")]
    async fn exchange(&mut self, dialer: &Dialer, request: &Request) -> Result<Reply, Broken> {
        // What is below can be used again only if the answer before was read to its end, which is about to come.
        let _ = timeout(LAST, poll_fn(|cx| self.poll_fill(cx, 0))).await;
        let mut said = BytesMut::new();
        let capabilities = Hello::RESUMING | Hello::HEARTBEAT;
        Request::Hello(Hello { capabilities, ..Hello::OURS }).encode(&mut said);
        request.encode(&mut said);
        let greeted = async {
            let goes_on = matches!(request, Request::OpenWriter(..));
            let exchange = dialer.post(said.freeze(), goes_on).await.map_err(Broken::Connect)?;
            let heartbeats = exchange.heartbeats();
            self.transport = Box::new(exchange);
            self.decoder = Decoder::new();
            let greeting = self.receive().await?;
            if matches!(greeting, Reply::Hello(hello) if hello.can_heartbeat()) {
                heartbeats.begin();
            }
            Ok::<_, Broken>(greeting)
        };
        let greeted = timeout(PATIENCE, greeted).await;
        let greeted = greeted.map_err(|_| Broken::Connect(ConnectError::TimedOut { after: PATIENCE }))??;
        understood(greeted).map_err(Broken::Connect)?;
        self.receive().await
    }

    /// Waits for the next reply. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<Reply, Broken> {
        loop {
            if let Some(reply) = self.received()? {
                return Ok(reply);
            }
            poll_fn(|cx| self.poll_fill(cx, 0)).await?;
        }
    }

    /// The next reply, if it has been read already.
    pub(crate) fn received(&mut self) -> Result<Option<Reply>, Broken> {
        while let Some(frame) = self.decoder.next_frame()? {
            match Reply::decode(frame)? {
                // The daemon lives: that it came is all that it says.
                Reply::Heartbeat => {}
                reply => return Ok(Some(reply)),
            }
        }
        Ok(None)
    }

    /// Reads once, into a buffer of about `size` bytes at least. The end of the connection is an error: the daemon
    /// never ends it without having said something.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<Result<(), Broken>> {
        let held = self.decoder.len();
        let buffer = self.decoder.buffer_for(size.saturating_sub(held));
        // This future holds nothing, so that it may be dropped between polls.
        let read = ready!(pin!(self.transport.read_buf(buffer)).poll(cx));
        Poll::Ready(match read {
            Ok(0) => {
                Err(Broken::Gone(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Broken::Gone(error)),
        })
    }

    /// Memory that came along.
    pub(crate) fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// Says something short without waiting for an answer, or for room: where the socket is full, the daemon has not heard
    /// what was said before, and need not hear it twice. What could not be said is said by
    /// [`poll_unsaid`](Self::poll_unsaid).
    pub(crate) fn ring(&mut self, request: &Request) -> Result<(), Broken> {
        if self.unsaid.is_empty() {
            request.encode(&mut self.unsaid);
        }
        match self.poll_unsaid(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(said) => said,
            Poll::Pending => Ok(()),
        }
    }

    /// Whether nothing is left to be said.
    pub(crate) fn has_said_all(&self) -> bool {
        self.unsaid.is_empty()
    }

    /// Says what is still to be said. To be polled by whoever is about to wait for what comes of it.
    pub(crate) fn poll_unsaid(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Self { transport, unsaid, .. } = self;
        while !unsaid.is_empty() {
            match ready!(Pin::new(&mut *transport).poll_write(cx, unsaid)) {
                Ok(written) => unsaid.advance(written),
                Err(error) => return Poll::Ready(Err(Broken::Gone(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back the memory of the read buffer if it holds nothing.
    pub(crate) fn release(&mut self) {
        self.decoder.release();
    }

    /// How much memory the read buffer has, in bytes, room for one small read included.
    #[cfg(test)]
    pub(crate) fn memory(&mut self) -> usize {
        self.decoder.buffer().capacity()
    }

    /// Writes what it can of the first bytes, then of the second.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let transport = Pin::new(&mut *self.transport);
        let written = ready!(match (first, second) {
            (bytes, []) | ([], bytes) => transport.poll_write(cx, bytes),
            _ => transport.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
        });
        Poll::Ready(match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        })
    }

    /// Whether the daemon is still there and has nothing to say: then this connection can be used for a request.
    pub(crate) async fn is_idle(&mut self) -> bool {
        #[cfg(feature = "http")]
        if self.dialer.is_some() {
            return true;
        }
        self.decoder.is_empty() && poll_fn(|cx| Poll::Ready(self.poll_fill(cx, 0).is_pending())).await
    }
}

/// What a daemon's answer to hello comes to.
fn understood(reply: Reply) -> Result<(), ConnectError> {
    match reply {
        Reply::Hello(hello) if hello.min_version == VERSION && hello.max_version == VERSION => Ok(()),
        Reply::Hello(Hello { min_version, max_version, .. }) => Err(ConnectError::Version {
            message: format!(
                "the daemon wants to speak version {min_version} to {max_version} of the protocol, and this \
                 program speaks {VERSION}; use versions of pfs and pfsd that belong together"
            ),
        }),
        Reply::Error { code: ErrorCode::Version, message } => Err(ConnectError::Version { message }),
        Reply::Error { code, message } => Err(ConnectError::Refused { code, message }),
        _ => Err(ProtocolError::Unexpected { expected: "its hello" }.into()),
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
