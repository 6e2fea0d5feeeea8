//! Connection: sends requests and receives replies over any byte transport.

#[cfg(feature = "http")]
use std::sync::Arc;
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

#[cfg(feature = "http")]
use bytes::Bytes;
use bytes::{Buf, BytesMut};
#[cfg(feature = "http")]
use pfs_proto::{CreateOptions, IfExists, MAX_PAYLOAD, StreamPath, WriteOptions};
use pfs_proto::{Decoder, ErrorCode, Hello, Reply, Request, VERSION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
#[cfg(feature = "http")]
use tokio::time::timeout;

#[cfg(feature = "http")]
use crate::http::{Dialer, Exchange};
#[cfg(target_os = "linux")]
use crate::shm::PassingSocket;
use crate::{
    ConnectError,
    error::{ProtocolError, RequestError},
    shm::Passed,
};

/// Time limit for the daemon to accept a connection and reply to hello.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Capabilities over every transport.
const ALWAYS: u64 = Hello::PUT | Hello::LEASING | Hello::JOINING | Hello::LINKING;

/// Time limit for the end of an HTTP response whose content is already complete.
#[cfg(feature = "http")]
const LAST: Duration = Duration::from_millis(20);

/// A byte transport for the frames: a Unix socket, an HTTP exchange, or a test's own.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection to a daemon. On a Unix socket both sides have exchanged hello; over HTTP each
/// exchange starts with its own hello.
pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    decoder: Decoder,
    /// The protocol versions that the client offers.
    offer: Hello,
    /// The version that the daemon chose.
    version: u16,
    /// The daemon's capabilities, once the daemon has replied to hello. Over HTTP, also on another
    /// connection.
    capabilities: Option<u64>,
    /// Bytes that [`notify`](Self::notify) could not send yet.
    unsaid: BytesMut,
    /// Memory passed along with messages, if both sides can share memory.
    passed: Option<Passed>,
    /// Over HTTP, the dialer that makes a new transport for each request.
    #[cfg(feature = "http")]
    dialer: Option<Arc<Dialer>>,
    /// Whether a writer may work without replies until its request has ended.
    #[cfg(feature = "http")]
    accepts_half_duplex: bool,
    is_half_duplex: bool,
}

impl Connection {
    /// Exchanges hello over the transport. Has no time limit.
    pub(crate) async fn open(transport: impl Transport + 'static) -> Result<Self, ConnectError> {
        Self::new(Box::new(transport)).greet(0).await
    }

    /// Like [`open`](Self::open), but accepts a daemon of any version.
    pub(crate) async fn open_any(
        transport: impl Transport + 'static,
    ) -> Result<Self, ConnectError> {
        Self { offer: Hello::ANY, ..Self::new(Box::new(transport)) }.greet(0).await
    }

    fn new(transport: Box<dyn Transport>) -> Self {
        Self {
            transport,
            decoder: Decoder::new(),
            offer: Hello::OURS,
            version: VERSION,
            capabilities: None,
            unsaid: BytesMut::new(),
            passed: None,
            #[cfg(feature = "http")]
            dialer: None,
            #[cfg(feature = "http")]
            accepts_half_duplex: false,
            is_half_duplex: false,
        }
    }

    /// Sets whether a writer may work without replies until its request has ended, if none
    /// arrive earlier.
    #[cfg(feature = "http")]
    pub(crate) fn accepting_half_duplex(self, accepts_half_duplex: bool) -> Self {
        Self { accepts_half_duplex, ..self }
    }

    /// A connection for requests over HTTP. Sends nothing yet.
    #[cfg(feature = "http")]
    pub(crate) fn over_http(dialer: Arc<Dialer>, offer: Hello) -> Self {
        let capabilities = dialer.capabilities();
        let nothing = Self::new(Box::new(tokio::io::empty()));
        Self { dialer: Some(dialer), offer, capabilities, ..nothing }
    }

    /// Checks over HTTP that a daemon answers, by asking for the daemon's stats. A Unix socket was
    /// already checked by its hello.
    #[cfg(feature = "http")]
    pub(crate) async fn try_out(&mut self) -> Result<(), ConnectError> {
        if self.dialer.is_none() {
            return Ok(());
        }
        match self.request(&Request::Info).await? {
            Reply::Daemon(_) => Ok(()),
            Reply::Error { code, message } => Err(ConnectError::Refused { code, message }),
            _ => Err(ProtocolError::Unexpected { expected: "the daemon's stats" }.into()),
        }
    }

    /// Like [`open`](Self::open), over a socket that can pass memory, and offers shared memory.
    #[cfg(target_os = "linux")]
    pub(crate) async fn open_sharing(socket: tokio::net::UnixStream) -> Result<Self, ConnectError> {
        let (socket, passed) = PassingSocket::new(socket);
        let connection = Self { passed: Some(passed), ..Self::new(Box::new(socket)) };
        connection.greet(Hello::SHM | Hello::MOVING).await
    }

    async fn greet(mut self, capabilities: u64) -> Result<Self, ConnectError> {
        let hello = Hello { capabilities: capabilities | ALWAYS, ..self.offer };
        let hello = understood(self.request(&Request::Hello(hello)).await?, self.offer)?;
        self.is_greeted_with(hello);
        Ok(self)
    }

    fn is_greeted_with(&mut self, hello: Hello) {
        (self.version, self.capabilities) = (hello.min_version, Some(hello.capabilities));
        #[cfg(feature = "http")]
        if let Some(dialer) = &self.dialer {
            dialer.set_capabilities(hello.capabilities);
        }
    }

    /// Makes sure that it is known whether the daemon has a capability. Over HTTP, asks a daemon that
    /// did not have it: it may have been updated.
    pub(crate) async fn learn(&mut self, capability: u64) -> Result<(), ConnectError> {
        #[cfg(not(feature = "http"))]
        let _ = capability;
        #[cfg(feature = "http")]
        if self.capabilities.is_none_or(|known| known & capability == 0) {
            self.try_out().await?;
        }
        Ok(())
    }

    /// Returns true if the daemon is known not to support puts. Over HTTP, unknown until the daemon
    /// has answered.
    pub(crate) fn takes_no_puts(&self) -> bool {
        self.capabilities.is_some_and(|capabilities| capabilities & Hello::PUT == 0)
    }

    /// Returns true if the daemon is known to let readers [join](Hello::JOINING).
    pub(crate) fn can_join(&self) -> bool {
        self.capabilities.is_some_and(|capabilities| capabilities & Hello::JOINING != 0)
    }

    /// Returns true if the daemon is known to serve [links](Hello::LINKING).
    pub(crate) fn can_link(&self) -> bool {
        self.capabilities.is_some_and(|capabilities| capabilities & Hello::LINKING != 0)
    }

    /// Checks that the daemon lets writers name headers and sync points. Over HTTP, passes until
    /// the daemon has answered.
    pub(crate) fn check_marks(&self) -> Result<(), RequestError> {
        match self.capabilities {
            Some(capabilities) if capabilities & Hello::JOINING == 0 => {
                Err(RequestError::Unsupported { feature: "headers and sync points of a writer" })
            }
            _ => Ok(()),
        }
    }

    /// Pipelines requests that have one reply each. Receives replies while it sends, because the
    /// daemon stops reading if it cannot send its replies. Not cancel safe.
    pub(crate) async fn request_all(
        &mut self,
        requests: &[Request],
        mut take: impl FnMut(Reply),
    ) -> Result<(), RequestError> {
        #[cfg(feature = "http")]
        if let Some(dialer) = self.dialer.clone() {
            let requests: Vec<&Request> = requests.iter().collect();
            self.finish_answer().await;
            self.greeted(dialer.ask(said(self.offer, &requests)), CONNECT_TIMEOUT).await?;
            for _ in requests {
                take(self.receive().await?);
            }
            return Ok(());
        }
        let mut bytes = BytesMut::new();
        requests.iter().for_each(|request| request.encode(&mut bytes));
        let mut missing = requests.len();
        poll_fn(|cx| {
            // Before it closes a connection, the daemon sends the reason. That reason is worth more
            // than the broken pipe.
            let mut broken = None;
            while !bytes.is_empty() && broken.is_none() {
                match self.poll_write(cx, &bytes, &[]) {
                    Poll::Ready(Ok(written)) => bytes.advance(written),
                    Poll::Ready(Err(error)) => broken = Some(error),
                    Poll::Pending => break,
                }
            }
            while missing > 0 {
                match self.received()? {
                    Some(reply) => {
                        missing -= 1;
                        take(reply);
                    }
                    None => match (ready!(self.poll_fill(cx, 0)), broken) {
                        (Ok(()), error) => broken = error,
                        (Err(RequestError::Lost(_)), Some(error)) => {
                            return Poll::Ready(Err(error.into()));
                        }
                        (Err(error), _) => return Poll::Ready(Err(error)),
                    },
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The protocol version that the daemon chose.
    pub(crate) fn version(&self) -> u16 {
        self.version
    }

    /// Sends a request and waits for its first reply. Not cancel safe.
    pub(crate) async fn request(&mut self, request: &Request) -> Result<Reply, RequestError> {
        #[cfg(feature = "http")]
        if let Some(dialer) = self.dialer.clone() {
            return self.exchange(&dialer, request).await;
        }
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        let sent = self.transport.write_all(&bytes).await;
        // Before it closes a connection, the daemon sends the reason. That reason is worth more
        // than the broken pipe.
        match (self.receive().await, sent) {
            (Err(RequestError::Lost(_)), Err(error)) => Err(error.into()),
            (received, _) => received,
        }
    }

    /// Reads the previous response to its end, which is due shortly. Only then can HTTP reuse the
    /// underlying connection.
    #[cfg(feature = "http")]
    async fn finish_answer(&mut self) {
        let _ = timeout(LAST, poll_fn(|cx| self.poll_fill(cx, 0))).await;
    }

    /// Sends a request over HTTP, together with hello. Only a writer's request stays open for
    /// more messages.
    #[cfg(feature = "http")]
    async fn exchange(
        &mut self,
        dialer: &Dialer,
        request: &Request,
    ) -> Result<Reply, RequestError> {
        self.finish_answer().await;
        let Request::OpenWriter(path, options) = request else {
            return self.ask(dialer, request).await;
        };
        if dialer.is_half_duplex() {
            return self.open_half_duplex(dialer, path, *options).await;
        }
        // A writer first sends hello alone. If no reply arrives while its request is open, the
        // daemon has not attached a writer, and another attempt is harmless.
        match self.greeted(dialer.post(said(self.offer, &[])), dialer.answer_patience()).await {
            Err(RequestError::Connect(ConnectError::TimedOut { .. })) => {
                // If the daemon answers this complete request, the earlier silence was a proxy's.
                let answers = dialer
                    .try_half_duplex(said(self.offer, &[&Request::Info]), self.accepts_half_duplex);
                self.greeted(answers, CONNECT_TIMEOUT).await?;
                self.open_half_duplex(dialer, path, *options).await
            }
            greeted => {
                greeted?;
                let mut bytes = BytesMut::new();
                request.encode(&mut bytes);
                self.transport.write_all(&bytes).await?;
                self.receive().await
            }
        }
    }

    /// Attaches a writer through a half-duplex proxy, where the response begins only after the
    /// request has ended. Separate requests find out what the daemon would have replied.
    #[cfg(feature = "http")]
    async fn open_half_duplex(
        &mut self,
        dialer: &Dialer,
        path: &StreamPath,
        options: WriteOptions,
    ) -> Result<Reply, RequestError> {
        let if_exists = if options.replace { IfExists::Replace } else { IfExists::Keep };
        let anew = CreateOptions { if_exists, ..CreateOptions::default() };
        match self.ask(dialer, &Request::Create(path.clone(), anew)).await? {
            Reply::Done => {}
            refused => return Ok(refused),
        }
        let max_chunk = match self.ask(dialer, &Request::Stat(path.clone())).await? {
            Reply::Stat(stat) => stat.ring_buffer_size.min(stat.channel_buffer_size),
            // A token that may only write is not allowed to see the stats.
            Reply::Error { code: ErrorCode::Denied, .. } => MAX_PAYLOAD as u64,
            refused => return Ok(refused),
        };
        let open = Request::OpenWriter(path.clone(), WriteOptions { replace: false, ..options });
        self.transport = Box::new(dialer.post_half_duplex(said(self.offer, &[&open])));
        self.decoder = Decoder::new();
        self.is_half_duplex = true;
        Ok(Reply::Writing { max_chunk })
    }

    /// Sends a request that is complete in itself, and waits for its first reply.
    #[cfg(feature = "http")]
    async fn ask(&mut self, dialer: &Dialer, request: &Request) -> Result<Reply, RequestError> {
        self.greeted(dialer.ask(said(self.offer, &[request])), CONNECT_TIMEOUT).await?;
        self.receive().await
    }

    /// Switches to an HTTP exchange once the daemon has replied to hello on it.
    #[cfg(feature = "http")]
    async fn greeted(
        &mut self,
        exchange: impl Future<Output = Result<Exchange, ConnectError>>,
        after: Duration,
    ) -> Result<(), RequestError> {
        let greeted = async {
            let exchange = exchange.await?;
            let heartbeats = exchange.heartbeats();
            self.transport = Box::new(exchange);
            self.decoder = Decoder::new();
            let greeting = self.receive().await?;
            if matches!(greeting, Reply::Hello(hello) if hello.can_heartbeat()) {
                heartbeats.begin();
            }
            Ok::<_, RequestError>(greeting)
        };
        let greeted = timeout(after, greeted).await;
        let greeted = greeted.map_err(|_| ConnectError::TimedOut { after })??;
        let hello = understood(greeted, self.offer)?;
        self.is_greeted_with(hello);
        Ok(())
    }

    /// Returns true if replies arrive only after the request has ended, with
    /// [`poll_end`](Self::poll_end).
    pub(crate) fn is_half_duplex(&self) -> bool {
        self.is_half_duplex
    }

    /// Ends the request: nothing more will be sent.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.transport).poll_shutdown(cx)
    }

    /// Waits for the next reply. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<Reply, RequestError> {
        loop {
            if let Some(reply) = self.received()? {
                return Ok(reply);
            }
            poll_fn(|cx| self.poll_fill(cx, 0)).await?;
        }
    }

    /// The next reply, if it was already read.
    pub(crate) fn received(&mut self) -> Result<Option<Reply>, RequestError> {
        while let Some(frame) = self.decoder.next_frame()? {
            match Reply::decode(frame)? {
                // A heartbeat only proves that the daemon is alive.
                Reply::Heartbeat => {}
                // Known already: separate requests got these replies before.
                Reply::Hello(_) | Reply::Writing { .. } if self.is_half_duplex => {}
                reply => return Ok(Some(reply)),
            }
        }
        Ok(None)
    }

    /// Reads once, into a buffer with room for at least about `size` bytes. The end of the
    /// connection is an error, because the daemon always sends a final message first.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
    ) -> Poll<Result<(), RequestError>> {
        let held = self.decoder.len();
        let buffer = self.decoder.buffer_for(size.saturating_sub(held));
        // The future of `read_buf` holds no state, so it may be dropped between polls.
        let read = ready!(pin!(self.transport.read_buf(buffer)).poll(cx));
        Poll::Ready(match read {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the daemon closed the connection",
            )
            .into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error
                .downcast::<ConnectError>()
                .map_or_else(RequestError::from, RequestError::from)),
        })
    }

    /// Returns true if both sides can share memory.
    pub(crate) fn shares_memory(&self) -> bool {
        self.passed.is_some() && self.capabilities.is_some_and(|can| can & Hello::SHM != 0)
    }

    /// The memory passed along with messages.
    pub(crate) fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// Sends a short message without waiting for a reply or for room in the socket. If the socket
    /// is full, the daemon has not yet read the last message of this kind and does not need it
    /// twice. [`poll_unsaid`](Self::poll_unsaid) sends what did not fit.
    #[cfg(target_os = "linux")]
    pub(crate) fn notify(&mut self, request: &Request) -> Result<(), RequestError> {
        let mut frame = BytesMut::new();
        request.encode(&mut frame);
        if !self.unsaid.ends_with(&frame) {
            self.unsaid.extend_from_slice(&frame);
        }
        match self.poll_unsaid(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(said) => said,
            Poll::Pending => Ok(()),
        }
    }

    /// Returns true if no notification is left to send.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_said_all(&self) -> bool {
        self.unsaid.is_empty()
    }

    /// Sends the rest of the notifications. Poll this before you wait for the daemon's reaction.
    pub(crate) fn poll_unsaid(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let Self { transport, unsaid, .. } = self;
        while !unsaid.is_empty() {
            match ready!(Pin::new(&mut *transport).poll_write(cx, unsaid)) {
                Ok(written) => unsaid.advance(written),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Frees the read buffer if it is empty.
    pub(crate) fn release(&mut self) {
        self.decoder.release();
    }

    /// Size of the read buffer in bytes, including the room for one small read.
    #[cfg(test)]
    pub(crate) fn memory(&mut self) -> usize {
        self.decoder.buffer().capacity()
    }

    /// Writes as much as the transport takes of `first`, then of `second`.
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

    /// Returns true if the daemon is still there and has sent nothing, so the connection can take
    /// another request.
    pub(crate) async fn is_idle(&mut self) -> bool {
        #[cfg(feature = "http")]
        if self.dialer.is_some() {
            return true;
        }
        self.decoder.is_empty()
            && poll_fn(|cx| Poll::Ready(self.poll_fill(cx, 0).is_pending())).await
    }
}

/// Hello and these requests, encoded as frames.
#[cfg(feature = "http")]
fn said(offer: Hello, requests: &[&Request]) -> Bytes {
    let mut said = BytesMut::new();
    let capabilities = Hello::RESUMING | Hello::HEARTBEAT | ALWAYS;
    Request::Hello(Hello { capabilities, ..offer }).encode(&mut said);
    requests.iter().for_each(|request| request.encode(&mut said));
    said.freeze()
}

/// Encodes a message and adds it to the send queue.
pub(crate) fn say(request: &Request, queue: &mut Vec<u8>) {
    let mut frame = BytesMut::new();
    request.encode(&mut frame);
    queue.extend_from_slice(&frame);
}

/// The daemon's hello, if it names one of the offered versions.
fn understood(reply: Reply, offer: Hello) -> Result<Hello, ConnectError> {
    match reply {
        Reply::Hello(hello)
            if hello.min_version == hello.max_version
                && (offer.min_version..=offer.max_version).contains(&hello.min_version) =>
        {
            Ok(hello)
        }
        Reply::Hello(Hello { min_version, max_version, .. }) => Err(ConnectError::Version {
            message: format!(
                "the daemon speaks version {min_version} to {max_version} of the protocol, and this program speaks \
                 version {VERSION}; use pfs and pfsd of the same release"
            ),
        }),
        Reply::Error { code: ErrorCode::Version, message } => {
            Err(ConnectError::Version { message })
        }
        Reply::Error { code, message } => Err(ConnectError::Refused { code, message }),
        _ => Err(ProtocolError::Unexpected { expected: "the daemon's hello" }.into()),
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
