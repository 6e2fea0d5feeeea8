//! One connection: requests out, replies in, over anything that carries bytes.

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

/// How long a daemon may take to accept a connection and say hello.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// The versions that this end offers.
    offer: Hello,
    /// The one that the daemon chose.
    version: u16,
    /// What the daemon has said that it can do, once it has said hello.
    capabilities: Option<u64>,
    /// What [`ring`](Self::ring) could not say yet.
    unsaid: BytesMut,
    /// Memory that came along with messages, where both ends can share it.
    passed: Option<Passed>,
    /// Over HTTP each request has a transport of its own, that comes from here.
    #[cfg(feature = "http")]
    dialer: Option<Arc<Dialer>>,
    /// Whether a writer may do without replies until it has said everything.
    #[cfg(feature = "http")]
    accepts_half_duplex: bool,
    is_half_duplex: bool,
}

impl Connection {
    /// Says hello and waits for the answer, however long that takes.
    pub(crate) async fn open(transport: impl Transport + 'static) -> Result<Self, ConnectError> {
        Self::new(Box::new(transport)).greet(0).await
    }

    /// As [`open`](Self::open), and the daemon may speak any version.
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

    /// Whether a writer may do without replies until it has said everything, where none come
    /// before.
    #[cfg(feature = "http")]
    pub(crate) fn accepting_half_duplex(self, accepts_half_duplex: bool) -> Self {
        Self { accepts_half_duplex, ..self }
    }

    /// For requests over HTTP. Nothing is said yet.
    #[cfg(feature = "http")]
    pub(crate) fn over_http(dialer: Arc<Dialer>, offer: Hello) -> Self {
        Self { dialer: Some(dialer), offer, ..Self::new(Box::new(tokio::io::empty())) }
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
            _ => Err(ProtocolError::Unexpected { expected: "stats of itself" }.into()),
        }
    }

    /// As [`open`](Self::open), over a socket on which memory can come along: that is offered.
    #[cfg(target_os = "linux")]
    pub(crate) async fn open_sharing(socket: tokio::net::UnixStream) -> Result<Self, ConnectError> {
        let (socket, passed) = PassingSocket::new(socket);
        let connection = Self { passed: Some(passed), ..Self::new(Box::new(socket)) };
        connection.greet(Hello::SHM | Hello::MOVING).await
    }

    async fn greet(mut self, capabilities: u64) -> Result<Self, ConnectError> {
        let hello =
            Hello { capabilities: capabilities | Hello::PUT | Hello::LEASING, ..self.offer };
        let hello = understood(self.request(&Request::Hello(hello)).await?, self.offer)?;
        self.is_greeted_with(hello);
        Ok(self)
    }

    fn is_greeted_with(&mut self, hello: Hello) {
        (self.version, self.capabilities) = (hello.min_version, Some(hello.capabilities));
    }

    /// Finds out what the daemon can do, where that is not known yet: over HTTP.
    pub(crate) async fn learn_abilities(&mut self) -> Result<(), ConnectError> {
        #[cfg(feature = "http")]
        if self.capabilities.is_none() {
            self.try_out().await?;
        }
        Ok(())
    }

    /// Whether the daemon is known not to take puts. Over HTTP that is known once it has answered.
    pub(crate) fn takes_no_puts(&self) -> bool {
        self.capabilities.is_some_and(|capabilities| capabilities & Hello::PUT == 0)
    }

    /// Sends requests that have one reply each, and takes the replies in the meantime: the daemon
    /// goes on only if it can say them. Not cancel safe.
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
            // A daemon that closes the connection says why first: that is worth more than a broken
            // pipe.
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

    /// The version of the protocol that the daemon chose.
    pub(crate) fn version(&self) -> u16 {
        self.version
    }

    /// Sends a request and waits for the first reply to it. Not cancel safe.
    pub(crate) async fn request(&mut self, request: &Request) -> Result<Reply, RequestError> {
        #[cfg(feature = "http")]
        if let Some(dialer) = self.dialer.clone() {
            return self.exchange(&dialer, request).await;
        }
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        let sent = self.transport.write_all(&bytes).await;
        // A daemon that closes the connection says why first: that is worth more than a broken
        // pipe.
        match (self.receive().await, sent) {
            (Err(RequestError::Lost(_)), Err(error)) => Err(error.into()),
            (received, _) => received,
        }
    }

    /// Reads the answer before to its end, which is about to come: what is below can be used again
    /// only then.
    #[cfg(feature = "http")]
    async fn finish_answer(&mut self) {
        let _ = timeout(LAST, poll_fn(|cx| self.poll_fill(cx, 0))).await;
    }

    /// Over HTTP, hello and the request go out together. Only what a writer has to say goes on
    /// after that.
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
        // A writer says hello alone first. If no answer comes while its request goes on, nothing
        // has happened yet.
        match self.greeted(dialer.post(said(self.offer, &[])), dialer.answer_patience()).await {
            Err(RequestError::Connect(ConnectError::TimedOut { .. })) => {
                // It is not the daemon that is silent if this is answered.
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

    /// Attaches a writer where an answer begins only when its request has ended. What the daemon
    /// would reply to it is found out by other requests.
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
            // Who may only write does not learn it.
            Reply::Error { code: ErrorCode::Denied, .. } => MAX_PAYLOAD as u64,
            refused => return Ok(refused),
        };
        let open = Request::OpenWriter(path.clone(), WriteOptions { replace: false, ..options });
        self.transport = Box::new(dialer.post_half_duplex(said(self.offer, &[&open])));
        self.decoder = Decoder::new();
        self.is_half_duplex = true;
        Ok(Reply::Writing { max_chunk })
    }

    /// Sends a request that is all there is to say, and waits for the first reply.
    #[cfg(feature = "http")]
    async fn ask(&mut self, dialer: &Dialer, request: &Request) -> Result<Reply, RequestError> {
        self.greeted(dialer.ask(said(self.offer, &[request])), CONNECT_TIMEOUT).await?;
        self.receive().await
    }

    /// Goes on over this exchange when the daemon has said hello on it.
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

    /// Whether replies come only once everything was said and [`poll_end`](Self::poll_end) is
    /// ready.
    pub(crate) fn is_half_duplex(&self) -> bool {
        self.is_half_duplex
    }

    /// Says that nothing more will be said.
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

    /// The next reply, if it has been read already.
    pub(crate) fn received(&mut self) -> Result<Option<Reply>, RequestError> {
        while let Some(frame) = self.decoder.next_frame()? {
            match Reply::decode(frame)? {
                // The daemon lives: that it came is all that it says.
                Reply::Heartbeat => {}
                // Known from another request.
                Reply::Hello(_) | Reply::Writing { .. } if self.is_half_duplex => {}
                reply => return Ok(Some(reply)),
            }
        }
        Ok(None)
    }

    /// Reads once, into a buffer of about `size` bytes at least. The end of the connection is an
    /// error: the daemon never ends it without having said something.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
    ) -> Poll<Result<(), RequestError>> {
        let held = self.decoder.len();
        let buffer = self.decoder.buffer_for(size.saturating_sub(held));
        // This future holds nothing, so that it may be dropped between polls.
        let read = ready!(pin!(self.transport.read_buf(buffer)).poll(cx));
        Poll::Ready(match read {
            Ok(0) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection").into())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error
                .downcast::<ConnectError>()
                .map_or_else(RequestError::from, RequestError::from)),
        })
    }

    /// Whether both ends can share memory.
    pub(crate) fn shares_memory(&self) -> bool {
        self.passed.is_some() && self.capabilities.is_some_and(|can| can & Hello::SHM != 0)
    }

    /// Memory that came along.
    pub(crate) fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// Says something short without waiting for an answer, or for room: where the socket is full,
    /// the daemon has not heard what was said last, and need not hear it twice. What could not
    /// be said is said by [`poll_unsaid`](Self::poll_unsaid).
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

    /// Whether nothing is left to be said.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_said_all(&self) -> bool {
        self.unsaid.is_empty()
    }

    /// Says what is still to be said. To be polled by whoever is about to wait for what comes of
    /// it.
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

    /// Whether the daemon is still there and has nothing to say: then this connection can be used
    /// for a request.
    pub(crate) async fn is_idle(&mut self) -> bool {
        #[cfg(feature = "http")]
        if self.dialer.is_some() {
            return true;
        }
        self.decoder.is_empty()
            && poll_fn(|cx| Poll::Ready(self.poll_fill(cx, 0).is_pending())).await
    }
}

/// Hello and these requests, as frames.
#[cfg(feature = "http")]
fn said(offer: Hello, requests: &[&Request]) -> Bytes {
    let mut said = BytesMut::new();
    let capabilities = Hello::RESUMING | Hello::HEARTBEAT | Hello::PUT | Hello::LEASING;
    Request::Hello(Hello { capabilities, ..offer }).encode(&mut said);
    requests.iter().for_each(|request| request.encode(&mut said));
    said.freeze()
}

/// Adds a message to what is to be sent.
pub(crate) fn say(request: &Request, queue: &mut Vec<u8>) {
    let mut frame = BytesMut::new();
    request.encode(&mut frame);
    queue.extend_from_slice(&frame);
}

/// The daemon's hello, if that is one with a version that was offered.
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
                "the daemon wants to speak version {min_version} to {max_version} of the protocol, and this \
                 program speaks {VERSION}; use versions of pfs and pfsd that belong together"
            ),
        }),
        Reply::Error { code: ErrorCode::Version, message } => {
            Err(ConnectError::Version { message })
        }
        Reply::Error { code, message } => Err(ConnectError::Refused { code, message }),
        _ => Err(ProtocolError::Unexpected { expected: "its hello" }.into()),
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
