//! Serves HTTP on the connections that a listener accepts.

use std::{future::Future, net::SocketAddr, sync::Arc};

use pfs_host::Daemon;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Setup, Site, Socket, admission::Admission, connection::Connections, router};

/// Clients at a time that are told why they are turned away; the connections of more are just closed.
const TURNED_AWAY: usize = 64;

/// All protocols of a daemon over HTTP.
pub struct Server {
    admission: Arc<Admission>,
    turned_away: Arc<Semaphore>,
    connections: Connections,
    shutdown: CancellationToken,
}

impl Server {
    /// Serves the streams of `daemon` until its shutdown.
    pub fn new(setup: Setup, daemon: Arc<Daemon>) -> Self {
        let limits = setup.settings.limits.clone();
        let admission = Arc::new(Admission::new(Arc::clone(&daemon), limits.max_connections_per_address));
        let tls = setup.tls.clone();
        let shutdown = daemon.shutdown().clone();
        let site = Arc::new(Site::new(daemon, setup));
        let tally = Arc::clone(&site.tally);
        let connections = Connections::new(router(site), tls, limits, Arc::clone(&admission), tally);
        Self { admission, turned_away: Arc::new(Semaphore::new(TURNED_AWAY)), connections, shutdown }
    }

    /// Serves one connection to its end, or closes it at once (`None`): too many are being turned away just now. Logs
    /// and limits know the client by `remote`.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped cuts the connection. What arrived of the bodies of appends is still appended.
    pub fn serve<S: Socket>(
        self: &Arc<Self>,
        socket: S,
        remote: SocketAddr,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let admitted = self.admission.admit(remote.ip());
        let patience = match &admitted {
            Ok(_) => None,
            Err(full) => {
                tracing::warn!(%remote, "HTTP connection refused: {full}");
                Some(Arc::clone(&self.turned_away).try_acquire_owned().ok()?)
            }
        };
        let server = Arc::clone(self);
        Some(async move {
            server.connections.serve(socket, remote, admitted, &server.shutdown).await;
            drop(patience);
        })
    }
}
