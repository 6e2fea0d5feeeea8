//! Dialer: connects to an endpoint.

#[cfg(feature = "http")]
use std::sync::Arc;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

#[cfg(feature = "http")]
use pfs_proto::Hello;
use pfs_proto::{MAX_PUT, Peer};
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

#[cfg(feature = "link")]
use crate::Connector;
#[cfg(feature = "http")]
use crate::http;
use crate::{
    ConnectError, Endpoint,
    connection::{CONNECT_TIMEOUT, Connection},
};

/// Opens connections to one endpoint.
#[derive(Clone, Debug)]
pub(crate) enum Dialer {
    Unix(PathBuf),
    #[cfg(feature = "http")]
    Http(Arc<http::Dialer>),
    #[cfg(feature = "link")]
    Connector(Connector),
}

impl Dialer {
    /// Prepares for connecting. Resolves a lookup.
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        Ok(match endpoint {
            Endpoint::Unix(path) => Self::Unix(path.clone()),
            Endpoint::Lookup(lookup) => Self::Unix(lookup.find()?.socket),
            #[cfg(feature = "http")]
            Endpoint::Http(endpoint) => Self::Http(Arc::new(http::Dialer::new(endpoint)?)),
            #[cfg(feature = "link")]
            Endpoint::Connector(connector) => Self::Connector(connector.clone()),
        })
    }

    /// The dialer for a reader that resumes over a new connection. Only HTTP readers resume.
    pub(crate) fn resuming(&self) -> Option<Self> {
        match self {
            Self::Unix(_) => None,
            #[cfg(feature = "http")]
            Self::Http(_) => Some(self.clone()),
            #[cfg(feature = "link")]
            Self::Connector(_) => None,
        }
    }

    /// The largest chunk that one put request carries, in bytes.
    pub(crate) fn max_put(&self) -> usize {
        match self {
            Self::Unix(_) => MAX_PUT,
            #[cfg(feature = "http")]
            Self::Http(_) => http::MAX_PUT_BYTES,
            #[cfg(feature = "link")]
            Self::Connector(_) => MAX_PUT,
        }
    }

    /// Opens a connection on which the daemon has answered.
    pub(crate) async fn connect(&self, sharing: bool) -> Result<Connection, ConnectError> {
        #[cfg_attr(
            not(feature = "http"),
            expect(unused_mut, reason = "over a socket, opening includes the hello")
        )]
        let mut connection = self.open(sharing).await?;
        #[cfg(feature = "http")]
        connection.try_out().await?;
        Ok(connection)
    }

    /// Opens a connection for requests. With `sharing`, a Unix socket may pass memory. Over HTTP
    /// nothing was sent yet, because hello is part of every request; otherwise both sides have
    /// exchanged hello.
    pub(crate) async fn open(&self, sharing: bool) -> Result<Connection, ConnectError> {
        let opening = async {
            match self {
                #[cfg(target_os = "linux")]
                Self::Unix(path) if sharing => {
                    Connection::open_sharing(connect_unix(path).await?).await
                }
                Self::Unix(path) => Connection::open(connect_unix(path).await?).await,
                #[cfg(feature = "http")]
                Self::Http(dialer) => Ok(Connection::over_http(Arc::clone(dialer), Hello::OURS)),
                #[cfg(feature = "link")]
                Self::Connector(connector) => Connection::open(connector.connect().await?).await,
            }
        };
        patiently(opening).await
    }

    /// Opens a connection to a daemon of any version. Also returns the process at the other end of
    /// a Unix socket.
    pub(crate) async fn open_any(&self) -> Result<(Connection, Peer), ConnectError> {
        let opening = async {
            match self {
                Self::Unix(path) => {
                    let socket = connect_unix(path).await?;
                    let peer = peer(&socket);
                    Ok((Connection::open_any(socket).await?, peer))
                }
                #[cfg(feature = "http")]
                Self::Http(dialer) => {
                    Ok((Connection::over_http(Arc::clone(dialer), Hello::ANY), Peer::default()))
                }
                #[cfg(feature = "link")]
                Self::Connector(connector) => {
                    let transport = connector.connect().await?;
                    Ok((Connection::open_any(transport).await?, Peer::default()))
                }
            }
        };
        patiently(opening).await
    }
}

pub(crate) async fn patiently<T>(
    opening: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    timeout(CONNECT_TIMEOUT, opening)
        .await
        .unwrap_or(Err(ConnectError::TimedOut { after: CONNECT_TIMEOUT }))
}

/// The process that listens at the other end, according to the system.
fn peer(socket: &UnixStream) -> Peer {
    let Ok(credentials) = socket.peer_cred() else { return Peer::default() };
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    Peer { pid, uid: Some(credentials.uid()) }
}

async fn connect_unix(path: &Path) -> Result<UnixStream, ConnectError> {
    let mut pause = Duration::from_millis(1);
    loop {
        let source = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let path = path.to_owned();
        match source.kind() {
            // The daemon is there, but so many clients connect at once that its queue is full. The
            // kernel does not report when the queue has room again.
            io::ErrorKind::WouldBlock => sleep(pause).await,
            // A reset means that the daemon ended before it accepted the connection.
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset => {
                return Err(ConnectError::NoDaemon { path, source: source.into() });
            }
            _ => return Err(ConnectError::Io { path, source: source.into() }),
        }
        pause = pause.saturating_mul(2).min(Duration::from_millis(50));
    }
}
