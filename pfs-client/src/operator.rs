//! Daemon administration: stats of the daemon, and its shutdown.

use pfs_proto::{DaemonInfo, Hello, MountStat, Peer, Reply, Request, StreamSummary};

use crate::{
    ConnectError, Endpoint, RequestError,
    connection::Connection,
    dialer::{Dialer, patiently},
    error::ProtocolError,
};

/// The expected reply to [`Request::Info`], for error messages.
const DAEMON_STATS: &str = "the daemon's stats";

/// A connection to a daemon of any version, to ask for the daemon's stats or to stop it. Unlike an
/// operator, a [`Client`](crate::Client) needs a daemon that speaks the client's version of
/// the protocol.
#[derive(Debug)]
pub struct Operator {
    connection: Connection,
    peer: Peer,
}

impl Operator {
    /// Connects to the daemon at `endpoint`. The daemon has 5 seconds to answer.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::connect`](crate::Client::connect). Over HTTP, only the first request
    /// finds out whether a daemon answers.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the connection is closed and nothing is left behind.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        Self::over(&Dialer::new(endpoint)?).await
    }

    async fn over(dialer: &Dialer) -> Result<Self, ConnectError> {
        let (connection, peer) = dialer.open_any().await?;
        Ok(Self { connection, peer })
    }

    /// Refines a client's version error: asks the daemon for its version, and returns
    /// [`ConnectError::Older`] if the daemon is older than this library.
    pub(crate) async fn identified(dialer: &Dialer, error: ConnectError) -> ConnectError {
        let ConnectError::Version { .. } = error else { return error };
        let asked = async { Self::over(dialer).await?.older().await };
        match patiently(asked).await {
            Ok(older) => older,
            // The daemon is newer, or does not tell.
            Err(_) => error,
        }
    }

    /// Asks the daemon for its version, for the error of a client that found no shared
    /// protocol version.
    async fn older(mut self) -> Result<ConnectError, ConnectError> {
        let Reply::Daemon(DaemonInfo { version, pid, .. }) =
            self.connection.request(&Request::Info).await?
        else {
            return Err(ProtocolError::Unexpected { expected: DAEMON_STATS }.into());
        };
        Ok(ConnectError::Older { version, pid, protocol: self.connection.version() })
    }

    /// The process that created the socket, and its user. Under socket activation that process is
    /// the service manager. Both are unknown over HTTP.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Stats of the daemon. Their connection count includes this connection.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a cancelled request, the connection is unusable.
    pub async fn info(&mut self) -> Result<DaemonInfo, RequestError> {
        match self.connection.request(&Request::Info).await? {
            Reply::Daemon(info) => Ok(info),
            Reply::Error { code, message } => Err(RequestError::refused(code, message)),
            _ => Err(ProtocolError::Unexpected { expected: DAEMON_STATS }.into()),
        }
    }

    /// The daemon's mounts of other daemons' streams, with their links. Empty from a daemon that
    /// knows no such mounts.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a cancelled request, the connection is unusable.
    pub async fn mounts(&mut self) -> Result<Vec<MountStat>, RequestError> {
        const EXPECTED: &str = "the daemon's mounts";
        self.connection.learn(Hello::LINKING).await?;
        if !self.connection.can_link() {
            return Ok(Vec::new());
        }
        let mut mounts: Vec<MountStat> = Vec::new();
        let mut reply = self.connection.request(&Request::Mounts).await?;
        loop {
            match (reply, mounts.last_mut()) {
                (Reply::HopStat(hop), _) => mounts.push(MountStat { hop, links: Vec::new() }),
                (Reply::LinkStat(path, link), Some(mount)) => mount.links.push((path, link)),
                (Reply::Done, _) => return Ok(mounts),
                (Reply::Error { code, message }, _) => {
                    return Err(RequestError::refused(code, message));
                }
                _ => return Err(ProtocolError::Unexpected { expected: EXPECTED }.into()),
            }
            reply = self.connection.receive().await?;
        }
    }

    /// Shuts the daemon down gracefully: every client is told, as after SIGTERM. With `if_idle`,
    /// only if the daemon has no stream and no other connection.
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `Busy`, `Denied` (on the socket, only root
    /// and the daemon's user may stop it), and `Protocol` from a daemon that is too old to know the
    /// request.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if cancelled, the daemon may or may not be shutting down.
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

/// A daemon that is shutting down.
#[derive(Debug)]
pub struct Stopping {
    /// The streams that the shutdown discards.
    pub streams: Vec<StreamSummary>,
    connection: Connection,
}

impl Stopping {
    /// Waits until the daemon has ended. Then another daemon can use its socket.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If cancelled, the end of the daemon goes unnoticed.
    pub async fn ended(mut self) {
        while self.connection.receive().await.is_ok() {}
    }
}
