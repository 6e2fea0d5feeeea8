//! Where the daemon is, and how to get a connection to it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
#[cfg(feature = "http")]
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::ConnectError;
use crate::connection::Connection;
#[cfg(feature = "http")]
use crate::http::{self, HttpEndpoint};

/// How long a daemon may take to accept a connection and say hello.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A URL.
    #[cfg(feature = "http")]
    Http(HttpEndpoint),
}

#[cfg(feature = "http")]
impl From<HttpEndpoint> for Endpoint {
    fn from(endpoint: HttpEndpoint) -> Self {
        Self::Http(endpoint)
    }
}

impl Default for Endpoint {
    /// The socket at [`default_socket_path`].
    fn default() -> Self {
        Self::Unix(default_socket_path())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            #[cfg(feature = "http")]
            Self::Http(endpoint) => endpoint.url().fmt(f),
        }
    }
}

impl Endpoint {
    /// Makes ready to connect.
    pub(crate) fn dialer(&self) -> Result<Dialer, ConnectError> {
        Ok(match self {
            Self::Unix(path) => Dialer::Unix(path.clone()),
            #[cfg(feature = "http")]
            Self::Http(endpoint) => Dialer::Http(Arc::new(http::Dialer::new(endpoint)?)),
        })
    }
}

/// Makes connections to one endpoint.
#[derive(Clone, Debug)]
pub(crate) enum Dialer {
    Unix(PathBuf),
    #[cfg(feature = "http")]
    Http(Arc<http::Dialer>),
}

impl Dialer {
    /// A connection that is known to work: somebody has said hello on it.
    pub(crate) async fn connect(&self, sharing: bool) -> Result<Connection, ConnectError> {
        #[cfg_attr(
            not(feature = "http"),
            expect(unused_mut, reason = "a socket's is greeted when it is opened")
        )]
        let mut connection = self.open(sharing).await?;
        #[cfg(feature = "http")]
        connection.try_out().await?;
        Ok(connection)
    }

    /// A connection for requests. With `sharing`, memory may come along on it. On a socket both ends have said hello; over
    /// HTTP nothing has happened yet, because hello goes along with each request.
    pub(crate) async fn open(&self, sharing: bool) -> Result<Connection, ConnectError> {
        let opening = async {
            match self {
                #[cfg(target_os = "linux")]
                Self::Unix(path) if sharing => Connection::open_sharing(connect_unix(path).await?).await,
                Self::Unix(path) => Connection::open(connect_unix(path).await?).await,
                #[cfg(feature = "http")]
                Self::Http(dialer) => Ok(Connection::over_http(Arc::clone(dialer))),
            }
        };
        match timeout(PATIENCE, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::TimedOut { after: PATIENCE }),
        }
    }
}

/// The socket of this user's own daemon: `$XDG_RUNTIME_DIR/pfs/pfsd.sock`, else `/tmp/pfs-UID/pfsd.sock`.
pub fn default_socket_path() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    pfs_proto::default_socket_path(std::env::var_os("XDG_RUNTIME_DIR").as_deref(), uid)
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
            // The daemon is there, but so many clients came at once that its queue is full. The kernel does not
            // tell when there is room again.
            io::ErrorKind::WouldBlock => sleep(pause).await,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::NoDaemon { path, source });
            }
            _ => return Err(ConnectError::Io { path, source }),
        }
        pause = pause.saturating_mul(2).min(Duration::from_millis(50));
    }
}
