//! The daemon as a whole: its stats, and its end.

use pfs_proto::{DaemonInfo, Peer, Reply, Request, StreamSummary};

use crate::{
    ConnectError, Endpoint, RequestError,
    connection::Connection,
    dialer::{Dialer, patiently},
    error::ProtocolError,
};

/// What a daemon answers to [`Request::Info`].
const DAEMON_STATS: &str = "the daemon's stats";

/// A connection to a daemon of any version, to ask about the daemon itself or to stop it. A
/// [`Client`](crate::Client) needs a daemon that speaks its own version of the protocol.
#[derive(Debug)]
pub struct Operator {
    connection: Connection,
    peer: Peer,
}

impl Operator {
    /// Connects to the daemon there, which has 5 seconds to answer.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`](crate::Client::connect). Over HTTP, the first request finds out
    /// whether a daemon answers.
    ///
    /// # Cancel safety
    ///
    /// Given up, nothing is left of it.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        Self::over(&Dialer::new(endpoint)?).await
    }

    async fn over(dialer: &Dialer) -> Result<Self, ConnectError> {
        let (connection, peer) = dialer.open_any().await?;
        Ok(Self { connection, peer })
    }

    /// What a client's error to connect becomes, once a daemon that refused its version was asked
    /// who it is.
    pub(crate) async fn identified(dialer: &Dialer, error: ConnectError) -> ConnectError {
        let ConnectError::Version { .. } = error else { return error };
        let asked = async { Self::over(dialer).await?.older().await };
        match patiently(asked).await {
            Ok(older) => older,
            // It is newer, or says no more.
            Err(_) => error,
        }
    }

    /// That the daemon is older than this library, which a client has found out.
    async fn older(mut self) -> Result<ConnectError, ConnectError> {
        let Reply::Daemon(DaemonInfo { version, pid, .. }) =
            self.connection.request(&Request::Info).await?
        else {
            return Err(ProtocolError::Unexpected { expected: DAEMON_STATS }.into());
        };
        Ok(ConnectError::Older { version, pid, protocol: self.connection.version() })
    }

    /// The process that made the socket, which is the service manager where that did, and its user.
    /// Both are unknown over HTTP.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Stats of the daemon. This connection is one of those that it counts.
    ///
    /// # Errors
    ///
    /// As all requests.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a connection whose request was given up cannot be used again.
    pub async fn info(&mut self) -> Result<DaemonInfo, RequestError> {
        match self.connection.request(&Request::Info).await? {
            Reply::Daemon(info) => Ok(info),
            Reply::Error { code, message } => Err(RequestError::refused(code, message)),
            _ => Err(ProtocolError::Unexpected { expected: DAEMON_STATS }.into()),
        }
    }

    /// Has the daemon end in order: every client is told, as with SIGTERM. With `if_idle`, only if
    /// it has no stream and no other connection.
    ///
    /// # Errors
    ///
    /// As all requests; among the daemon's codes are `Busy`, `Denied` (only root and the daemon's
    /// user may, on the socket), and `Protocol` from a daemon that is too old to know the
    /// request.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: given up, the daemon may be stopping or not.
    pub async fn stop(mut self, if_idle: bool) -> Result<Stopping, RequestError> {
        let mut streams = Vec::new();
        let mut reply = self.connection.request(&Request::Stop { if_idle }).await?;
        loop {
            match reply {
                Reply::Summary(stream) => streams.push(stream),
                Reply::Done => return Ok(Stopping { streams, connection: self.connection }),
                Reply::Error { code, message } => return Err(RequestError::refused(code, message)),
                _ => return Err(ProtocolError::Unexpected { expected: "what is lost" }.into()),
            }
            reply = self.connection.receive().await?;
        }
    }
}

/// A daemon that has begun to end.
#[derive(Debug)]
pub struct Stopping {
    /// The streams that are lost by it.
    pub streams: Vec<StreamSummary>,
    connection: Connection,
}

impl Stopping {
    /// Waits until the daemon has ended, and another one can begin on its socket.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If it is given up, the end of the daemon goes unnoticed.
    pub async fn ended(mut self) {
        while self.connection.receive().await.is_ok() {}
    }
}
