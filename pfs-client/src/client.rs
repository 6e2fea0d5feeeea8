//! Client of a daemon: creates, lists, inspects and removes streams, and opens readers and writers.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, DaemonInfo, MAX_HOPS, PathError, ReadOptions, Reply, Request, StreamPath,
    StreamStat, StreamSummary, WriteOptions,
};

use crate::{
    ConnectError, Endpoint, Operator, Reader, Writer,
    connection::Connection,
    dialer::Dialer,
    error::{ProtocolError, RequestError},
};

/// A client of one daemon. Any number of tasks may use a client at the same time, by reference or
/// through a clone. All clones are the same client.
///
/// A client keeps one connection for requests. The client opens a new connection if it has none, if
/// the connection is busy, or if the connection broke: a client survives a restart of its daemon.
/// Every [`Writer`] and [`Reader`] has a connection of its own and outlives the client. All methods
/// may be cancelled; the daemon may or may not have carried out a cancelled request.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    pub(crate) dialer: Dialer,
    /// The idle connection, if there is one. The lock is held only to take the connection out or to
    /// put it back.
    idle: Arc<Mutex<Option<Connection>>>,
    shm: bool,
    #[cfg(feature = "http")]
    half_duplex: bool,
}

impl Client {
    /// Connects to the daemon at `endpoint`. The daemon has 5 seconds to answer. Convert text to an
    /// endpoint with `parse`, and an `HttpEndpoint` with `into`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::NoDaemon`], [`ConnectError::NotFound`] or [`ConnectError::Unreachable`] if
    /// no daemon listens there. [`ConnectError::Older`] if an [`Operator`] can talk to the daemon
    /// but a client cannot. Any other error if neither an operator nor a client can.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the connection is closed and nothing is left behind.
    pub async fn connect(endpoint: impl Into<Endpoint>) -> Result<Self, ConnectError> {
        let shm = true;
        let endpoint = endpoint.into().found()?;
        let dialer = Dialer::new(&endpoint)?;
        let connection = match dialer.connect(shm).await {
            Ok(connection) => connection,
            Err(error) => return Err(Operator::identified(&dialer, error).await),
        };
        Ok(Self {
            endpoint,
            dialer,
            idle: Arc::new(Mutex::new(Some(connection))),
            shm,
            #[cfg(feature = "http")]
            half_duplex: false,
        })
    }

    /// Turns shared memory with the daemon on or off for the readers and writers of this client.
    /// Shared memory is on by default and is used on Linux over a Unix socket, if both sides
    /// support it. The results are the same to the byte.
    #[must_use]
    pub fn with_shm(self, shm: bool) -> Self {
        if shm == self.shm { self } else { Self { shm, idle: Arc::default(), ..self } }
    }

    /// Lets the writers of this client work through a proxy that forwards no response before the
    /// request has ended, as Caddy and other proxies written in Go do over HTTP/1.1. Off by
    /// default: opening a writer through such a proxy fails with [`ConnectError::HalfDuplex`]. A
    /// half-duplex writer is not [acknowledged](Writer::is_acknowledged).
    #[cfg(feature = "http")]
    #[must_use]
    pub fn with_half_duplex(self, half_duplex: bool) -> Self {
        Self { half_duplex, ..self }
    }

    /// The daemon's endpoint. After a lookup, the socket where the daemon was found.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Creates a stream. [`CreateOptions::if_exists`] says what happens if the path already
    /// has one.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `AlreadyExists`, `Limit`, `BadPath`
    /// and `BadOption`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have created the stream. The client stays usable.
    pub async fn create(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: &CreateOptions,
    ) -> Result<(), RequestError> {
        self.command(Request::Create(checked(path)?, options.clone())).await
    }

    /// Closes a stream. The stream takes no more appends; readers get the remaining data and then
    /// the end.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `NoSuchStream`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have closed the stream. The client stays usable.
    pub async fn close(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.command(Request::Close(checked(path)?)).await
    }

    /// Closes a stream as failed. Like [`close`](Self::close), but readers get
    /// [`End::Failed`](crate::End::Failed) after the remaining data.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `NoSuchStream`, and `Closed` if the stream
    /// was already closed without failure.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have closed the stream. The client stays usable.
    pub async fn close_failed(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.command(Request::CloseFailed(checked(path)?)).await
    }

    /// Removes a stream and its data. The stream's readers and writers get an error.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `NoSuchStream`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have removed the stream. The client stays usable.
    pub async fn remove(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.command(Request::Remove(checked(path)?)).await
    }

    /// Lists the streams at or below a path. The path may be a mount, or `/` for all streams.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `BadPath`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn list(&self, prefix: &str) -> Result<Vec<StreamSummary>, RequestError> {
        let mut streams = Vec::new();
        self.list_into(prefix, &mut streams).await?;
        Ok(streams)
    }

    /// Like [`list`](Self::list), but keeps what was listed before an error: a daemon that cannot
    /// reach the owner of one of its mounts still lists the other streams.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Self::list).
    ///
    /// # Cancel safety
    ///
    /// If cancelled, `streams` has a part of the list. The client stays usable.
    pub async fn list_into(
        &self,
        prefix: &str,
        streams: &mut Vec<StreamSummary>,
    ) -> Result<(), RequestError> {
        let mut connection = self.connection().await?;
        let mut reply = connection.request(&Request::List(prefix.to_owned())).await?;
        loop {
            match reply {
                Reply::Summary(stream) => streams.push(stream),
                Reply::Done => break,
                other => return Err(self.failure(connection, other, "a list of streams")),
            }
            reply = connection.receive().await?;
        }
        self.keep(connection);
        Ok(())
    }

    /// Stats of a stream, with all of its readers and writers.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `NoSuchStream`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn stat(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<StreamStat, RequestError> {
        self.stat_with(checked(path)?, usize::MAX).await
    }

    /// Like [`stat`](Self::stat), but more than `most` readers and writers are an error.
    pub(crate) async fn stat_with(
        &self,
        path: StreamPath,
        most: usize,
    ) -> Result<StreamStat, RequestError> {
        const EXPECTED: &str = "the stats of a stream";
        let mut connection = self.connection().await?;
        let mut stat = match connection.request(&Request::Stat(path)).await? {
            Reply::Stat(stat) => stat,
            other => return Err(self.failure(connection, other, EXPECTED)),
        };
        loop {
            let has_room = stat.writers.len().saturating_add(stat.readers.len()) < most;
            match connection.receive().await? {
                Reply::MediaStat(media) => stat.media = Some(Box::new(media)),
                Reply::HopStat(hop) if stat.hops.len() < MAX_HOPS => stat.hops.push(hop),
                Reply::WriterStat(writer) if has_room => stat.writers.push(writer),
                Reply::ReaderStat(reader) if has_room => stat.readers.push(reader),
                Reply::Done => break,
                other => return Err(self.failure(connection, other, EXPECTED)),
            }
        }
        self.keep(connection);
        Ok(stat)
    }

    /// The text of a document such as `/streamfs/README`.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `NoSuchStream` and `IsStream`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn document(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<Bytes, RequestError> {
        let path = checked(path)?;
        let mut connection = self.connection().await?;
        match connection.request(&Request::Document(path)).await? {
            Reply::Document(text) => {
                self.keep(connection);
                Ok(text)
            }
            other => Err(self.failure(connection, other, "a document")),
        }
    }

    /// Stats of the daemon.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn info(&self) -> Result<DaemonInfo, RequestError> {
        let mut connection = self.connection().await?;
        match connection.request(&Request::Info).await? {
            Reply::Daemon(info) => {
                self.keep(connection);
                Ok(info)
            }
            other => Err(self.failure(connection, other, "the daemon's stats")),
        }
    }

    /// Attaches a writer. If the stream does not exist, or if [`WriteOptions::replace`] is set, the
    /// daemon creates a new stream with its default options. With [`WriteOptions::wait_readers`],
    /// returns once that many readers are attached.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `Closed`, `Limit`, `BadPath`
    /// and `IsDocument`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may have attached a writer, which then counts as dead.
    pub async fn writer(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: WriteOptions,
    ) -> Result<Writer, RequestError> {
        let path = checked(path)?;
        let connection = self.connection().await?;
        #[cfg(feature = "http")]
        let connection = connection.accepting_half_duplex(self.half_duplex);
        Writer::open(connection, path, options).await
    }

    /// Attaches a reader. Returns as soon as the reader is attached or, with [`ReadOptions::wait`],
    /// as soon as it waits for the creation of the stream.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `NoSuchStream` (without
    /// [`ReadOptions::wait`]), `PastHead` and `IsDocument`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn reader(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: ReadOptions,
    ) -> Result<Reader, RequestError> {
        let path = checked(path)?;
        Reader::open(self.connection().await?, self.dialer.resuming(), &path, options).await
    }

    /// Sends a request whose only reply is a confirmation.
    async fn command(&self, request: Request) -> Result<(), RequestError> {
        let mut connection = self.connection().await?;
        match connection.request(&request).await? {
            Reply::Done => {
                self.keep(connection);
                Ok(())
            }
            other => Err(self.failure(connection, other, "a confirmation")),
        }
    }

    /// Converts an unexpected reply to an error. After an error reply the connection is still
    /// usable, so the client keeps the connection.
    pub(crate) fn failure(
        &self,
        connection: Connection,
        reply: Reply,
        expected: &'static str,
    ) -> RequestError {
        match reply {
            Reply::Error { code, message } => {
                self.keep(connection);
                RequestError::refused(code, message)
            }
            _ => ProtocolError::Unexpected { expected }.into(),
        }
    }

    /// Takes the idle connection if it is still alive, otherwise opens a new one.
    ///
    /// The caller owns the connection while the request is under way. A cancelled request therefore
    /// drops its connection and cannot leave a half-read reply behind.
    pub(crate) async fn connection(&self) -> Result<Connection, ConnectError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connection) = idle
            && connection.is_idle().await
        {
            return Ok(connection);
        }
        self.dialer.open(self.shm).await
    }

    pub(crate) fn keep(&self, mut connection: Connection) {
        connection.release();
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

/// Validates a stream's path.
pub(crate) fn checked(
    path: impl TryInto<StreamPath, Error: Into<PathError>>,
) -> Result<StreamPath, RequestError> {
    path.try_into().map_err(|error| RequestError::Path(error.into()))
}
