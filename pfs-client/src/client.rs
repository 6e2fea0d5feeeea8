//! The client: everything that is not writing or reading itself.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, DaemonInfo, PathError, ReadOptions, Reply, Request, StreamPath, StreamStat,
    StreamSummary, WriteOptions,
};

use crate::{
    ConnectError, Endpoint, Operator, Reader, Writer,
    connection::Connection,
    dialer::Dialer,
    error::{ProtocolError, RequestError},
};

/// A client of one daemon. Any number of tasks may use it at once, by reference or by a clone of
/// their own, which is the same client.
///
/// It keeps a connection for requests, and makes new ones when there is none, when it is busy and
/// when it is gone: a client survives its daemon's restart. Every [`Writer`] and [`Reader`] has a
/// connection of its own and lives on without the client. All methods may be cancelled; whether the
/// daemon has then done what was asked is not known.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    pub(crate) dialer: Dialer,
    /// A connection on which no request is under way. Held only to take it out or put it in.
    idle: Arc<Mutex<Option<Connection>>>,
    shm: bool,
    #[cfg(feature = "http")]
    half_duplex: bool,
}

impl Client {
    /// Connects to the daemon there, which has 5 seconds to answer. Text is an endpoint by `parse`,
    /// an `HttpEndpoint` by `into`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::NoDaemon`], [`ConnectError::NotFound`] or [`ConnectError::Unreachable`] when
    /// nobody listens there; [`ConnectError::Older`] when an [`Operator`] can talk to the
    /// daemon, and a client cannot; otherwise when nobody can.
    ///
    /// # Cancel safety
    ///
    /// Given up, nothing is left of it.
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

    /// Whether its readers and writers share memory with the daemon where both can, on Linux over a
    /// Unix socket. They do unless told otherwise here; results are the same to the byte.
    #[must_use]
    pub fn with_shm(self, shm: bool) -> Self {
        if shm == self.shm { self } else { Self { shm, idle: Arc::default(), ..self } }
    }

    /// Whether its writers make do with a proxy that passes no answer on before a request has
    /// ended, as Caddy and other proxies in Go do over HTTP/1.1. They do not unless told so
    /// here: [`ConnectError::HalfDuplex`]. Such a writer is not
    /// [acknowledged](Writer::is_acknowledged).
    #[cfg(feature = "http")]
    #[must_use]
    pub fn with_half_duplex(self, half_duplex: bool) -> Self {
        Self { half_duplex, ..self }
    }

    /// Where its daemon is: after a lookup, the socket where it was found.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Makes a stream. [`CreateOptions::if_exists`] says what happens where there is one.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes are `AlreadyExists`, `Limit`, `BadPath` and
    /// `BadOption`.
    ///
    /// # Cancel safety
    ///
    /// Given up, the daemon may have done it or not. The client can be used on.
    pub async fn create(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: &CreateOptions,
    ) -> Result<(), RequestError> {
        self.command(Request::Create(checked(path)?, options.clone())).await
    }

    /// Ends a stream: it takes no more appends, its readers get what is in it and then the end.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes is `NoSuchStream`.
    ///
    /// # Cancel safety
    ///
    /// Given up, the daemon may have done it or not. The client can be used on.
    pub async fn close(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.command(Request::Close(checked(path)?)).await
    }

    /// As [`close`](Self::close), but as failed: at the end of what is in the stream, readers get
    /// [`End::Failed`](crate::End::Failed).
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes are `NoSuchStream`, and `Closed` where the stream
    /// was closed before and not as failed.
    ///
    /// # Cancel safety
    ///
    /// Given up, the daemon may have done it or not. The client can be used on.
    pub async fn close_failed(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.command(Request::CloseFailed(checked(path)?)).await
    }

    /// Removes a stream and what is in it; its readers and writers are told.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes is `NoSuchStream`.
    ///
    /// # Cancel safety
    ///
    /// Given up, the daemon may have done it or not. The client can be used on.
    pub async fn remove(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.command(Request::Remove(checked(path)?)).await
    }

    /// The streams at or below a path, which may be a mount, or `/` for all.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes is `BadPath`.
    ///
    /// # Cancel safety
    ///
    /// Given up, nothing is lost. The client can be used on.
    pub async fn list(&self, prefix: &str) -> Result<Vec<StreamSummary>, RequestError> {
        let mut connection = self.connection().await?;
        let mut streams = Vec::new();
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
        Ok(streams)
    }

    /// All stats of a stream.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes is `NoSuchStream`.
    ///
    /// # Cancel safety
    ///
    /// Given up, nothing is lost. The client can be used on.
    pub async fn stat(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<StreamStat, RequestError> {
        const EXPECTED: &str = "the stats of a stream";
        let path = checked(path)?;
        let mut connection = self.connection().await?;
        let mut stat = match connection.request(&Request::Stat(path)).await? {
            Reply::Stat(stat) => stat,
            other => return Err(self.failure(connection, other, EXPECTED)),
        };
        loop {
            match connection.receive().await? {
                Reply::WriterStat(writer) => stat.writers.push(writer),
                Reply::ReaderStat(reader) => stat.readers.push(reader),
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
    /// As all requests; among the daemon's codes are `NoSuchStream` and `IsStream`.
    ///
    /// # Cancel safety
    ///
    /// Given up, nothing is lost. The client can be used on.
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
    /// As all requests.
    ///
    /// # Cancel safety
    ///
    /// Given up, nothing is lost. The client can be used on.
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

    /// Attaches as a writer; a stream that does not exist is made with the daemon's defaults, as is
    /// one in place of another with [`WriteOptions::replace`]. With
    /// [`WriteOptions::wait_readers`] it returns when so many readers are attached.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes are `Closed`, `Limit`, `BadPath` and `IsDocument`.
    ///
    /// # Cancel safety
    ///
    /// Given up, the daemon may have attached a writer, which then counts as one that died.
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

    /// Attaches as a reader, or waits to be attached. It returns as soon as one of the two is
    /// certain.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes are `NoSuchStream` (without
    /// [`ReadOptions::wait`]), `PastHead` and `IsDocument`.
    ///
    /// # Cancel safety
    ///
    /// Given up, nothing is lost. The client can be used on.
    pub async fn reader(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: ReadOptions,
    ) -> Result<Reader, RequestError> {
        let path = checked(path)?;
        Reader::open(self.connection().await?, self.dialer.resuming(), &path, options).await
    }

    /// A request that is just done.
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

    /// What a reply is that is not the expected one. After an error in answer to a request the
    /// connection can still be used.
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

    /// A connection to call one's own: the idle one if it still lives, else a new one.
    ///
    /// A request takes it away while it is under way, so that one that is cancelled leaves nothing
    /// half read.
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

/// The path of a stream, if this is one.
pub(crate) fn checked(
    path: impl TryInto<StreamPath, Error: Into<PathError>>,
) -> Result<StreamPath, RequestError> {
    path.try_into().map_err(|error| RequestError::Path(error.into()))
}
