//! The accept loop of HTTP: HTTP/1.1 and HTTP/2, with TLS or without, on one port.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use super::{Setup, Site, admission::Admission, connection::Connections, router};
use crate::{
    daemon::Daemon,
    server::{ACCEPT_PAUSE, report_panic},
    shutdown::Going,
};

/// Connections that the system may keep until they are accepted. Many readers may come at once.
const BACKLOG: u32 = 4096;

/// Clients at a time that are told why they are turned away; the connections of more are just closed.
const TURNED_AWAY: usize = 64;

/// A bound port.
pub(crate) struct HttpListener {
    listener: TcpListener,
    setup: Setup,
}

impl HttpListener {
    pub(crate) fn bind(setup: Setup) -> io::Result<Self> {
        let address = setup.address();
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A daemon that starts anew need not wait for the connections of the one before to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, setup })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether it is HTTPS.
    pub(crate) fn is_secure(&self) -> bool {
        self.setup.tls.is_some()
    }

    /// Serves until the daemon ends, and until the connections have heard of it.
    pub(crate) async fn run(self, daemon: Arc<Daemon>, mut going: Going) {
        let Self { listener, setup } = self;
        let limits = setup.config.limits.clone();
        let admission = Arc::new(Admission::new(Arc::clone(&daemon), limits.max_connections_per_address));
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
        let tls = setup.tls.clone();
        let site = Arc::new(Site::new(daemon, going.clone(), setup));
        let tally = Arc::clone(&site.tally);
        let common = Arc::new(Connections::new(router(site), tls, limits, tally));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = going.begun() => break,
                Some(ended) = connections.join_next() => {
                    report_panic(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (common, going) = (Arc::clone(&common), going.clone());
            match admission.admit(remote.ip()) {
                Ok(place) => {
                    connections.spawn(async move { common.serve(stream, remote, Ok(place), going).await });
                }
                Err(full) => {
                    tracing::warn!(%remote, "HTTP connection refused: {full}");
                    let Ok(patience) = Arc::clone(&turned_away).try_acquire_owned() else { continue };
                    connections.spawn(async move {
                        common.serve(stream, remote, Err(full), going).await;
                        drop(patience);
                    });
                }
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    }
}
