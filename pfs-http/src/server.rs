//! Serves HTTP on the connections that a listener accepts.

use std::{future::Future, net::SocketAddr, sync::Arc};

use pfs_host::{Daemon, refusals::Asked};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    Setup, Site, Socket, admission::Admission, connection::Connections, router,
    tokens::TokenChanges,
};

/// Clients at a time that are told why they are turned away; the connections of more are just
/// closed.
const TURNED_AWAY: usize = 64;

/// All protocols of a daemon over HTTP.
pub struct Server {
    admission: Arc<Admission>,
    turned_away: Arc<Semaphore>,
    connections: Connections,
    site: Arc<Site>,
    shutdown: CancellationToken,
}

impl Server {
    /// Serves the streams of `daemon` until its shutdown.
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

    /// Serves from now on with the tokens, the certificate and the limits of `setup`; nothing else
    /// of it has an effect. Connections stay as they are, and requests end only where their
    /// token does not allow them any more.
    pub fn reload(&self, setup: Setup) -> TokenChanges {
        self.admission.set_per_address(setup.settings.limits.max_connections_per_address);
        self.site.reload(setup)
    }

    /// Serves one connection to its end, or closes it at once (`None`): too many are being turned
    /// away just now. Logs and limits know the client by `remote`.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped cuts the connection. What arrived of the bodies of appends is still
    /// appended.
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
