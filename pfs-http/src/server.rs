//! HTTP server: serves the connections that a listener accepts.

use std::{future::Future, net::SocketAddr, sync::Arc};

use pfs_host::{Daemon, refusals::Asked};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    Setup, Site, Socket, admission::Admission, connection::Connections, router,
    tokens::TokenChanges,
};

/// Maximum number of clients that are told at the same time why they are turned away. Further
/// connections are closed without an answer.
const TURNED_AWAY: usize = 64;

/// HTTP server of a daemon, with all protocols.
pub struct Server {
    admission: Arc<Admission>,
    turned_away: Arc<Semaphore>,
    connections: Connections,
    site: Arc<Site>,
    shutdown: CancellationToken,
}

impl Server {
    /// Creates a server for the streams of `daemon`. The server stops when the daemon shuts down.
    pub fn new(setup: Setup, daemon: Arc<Daemon>) -> Self {
        let per_address = setup.settings.limits.max_connections_per_address;
        let admission = Arc::new(Admission::new(Arc::clone(&daemon), per_address));
        let shutdown = daemon.shutdown().clone();
        let site = Arc::new(Site::new(daemon, setup));
        let connections =
            Connections::new(router(Arc::clone(&site)), Arc::clone(&site), Arc::clone(&admission));
        Self {
            admission,
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            connections,
            site,
            shutdown,
        }
    }

    /// Reloads the tokens, the certificate and the limits from `setup`; the rest of `setup` is
    /// ignored. Connections stay open. A running request ends only if its token no longer permits
    /// the request.
    pub fn reload(&self, setup: Setup) -> TokenChanges {
        self.admission.set_per_address(setup.settings.limits.max_connections_per_address);
        self.site.reload(setup)
    }

    /// Serves one connection to its end. Returns `None`, so that the caller closes the connection
    /// at once, if too many other clients are being turned away. `remote` identifies the client in
    /// logs and limits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the connection. The bytes of appends that have arrived are
    /// still appended.
    pub fn serve<S: Socket>(
        self: &Arc<Self>,
        socket: S,
        remote: SocketAddr,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let admitted = self.admission.admit(remote.ip());
        let patience = match &admitted {
            Ok(_) => None,
            Err(full) => {
                let asked = Asked { remote: Some(remote), ..Asked::default() };
                self.site.daemon.refusals().refuse(full.reason(), &asked, &full.to_string());
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
