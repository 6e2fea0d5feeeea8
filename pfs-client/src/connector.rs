//! Connector: connects to a daemon over a transport of the program's own. Internal to pfs's own
//! daemons, whose tests connect them in memory.

use std::{fmt, io, pin::Pin, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{ConnectError, connection::Transport};

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Connects to one daemon over a transport of the program's own: any bytes in both directions.
/// Shares no memory with the daemon, and its readers do not resume. Two connectors are equal if one
/// is a clone of the other.
#[derive(Clone)]
pub struct Connector {
    name: Arc<str>,
    connect: Arc<dyn Fn() -> Connecting + Send + Sync>,
}

impl Connector {
    /// Creates a connector that calls `connect` for each connection. Messages show `name` as the
    /// daemon's address. The client limits the time of an attempt.
    pub fn new<F, T>(name: &str, connect: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<T>> + Send + 'static,
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connect = move || -> Connecting {
            let connecting = connect();
            Box::pin(async { Ok(Box::new(connecting.await?) as _) })
        };
        Self { name: name.into(), connect: Arc::new(connect) }
    }

    /// The address that messages show.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Transport>, ConnectError> {
        let unreachable = |error: io::Error| ConnectError::Unreachable {
            url: self.name.to_string(),
            source: error.into(),
        };
        (self.connect)().await.map_err(unreachable)
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.connect, &other.connect)
    }
}

impl Eq for Connector {}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.name).finish()
    }
}
