//! HTTP listener: the accept loop for HTTP/1.1 and HTTP/2, with TLS or without, on one port.

use std::{io, net::SocketAddr, sync::Arc};

use pfs_host::{
    Daemon,
    refusals::{Asked, Reason},
};
use pfs_http::{Server, Setup};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::sleep,
};

use crate::{
    server::{ACCEPT_RETRY_DELAY, NO_DESCRIPTORS, report_panic},
    spare::Spare,
};

/// Length of the queue of connections to accept. Many readers may connect at once.
const BACKLOG: u32 = 4096;

/// A bound HTTP port.
pub(crate) struct HttpListener {
    listener: TcpListener,
    secure: bool,
    server: Arc<Server>,
}

impl HttpListener {
    pub(crate) fn bind(setup: Setup, daemon: Arc<Daemon>) -> io::Result<Self> {
        let address = setup.address();
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted daemon need not wait until the system has forgotten the old
        // daemon's connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self::on(socket.listen(BACKLOG)?, setup, daemon))
    }

    /// Uses a non-blocking socket that already listens. Must be called within a tokio runtime.
    pub(crate) fn from_std(
        listener: std::net::TcpListener,
        setup: Setup,
        daemon: Arc<Daemon>,
    ) -> io::Result<Self> {
        Ok(Self::on(TcpListener::from_std(listener)?, setup, daemon))
    }

    fn on(listener: TcpListener, setup: Setup, daemon: Arc<Daemon>) -> Self {
        Self { listener, secure: setup.is_secure(), server: Arc::new(Server::new(setup, daemon)) }
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns true if the port serves HTTPS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the HTTP server, for reloading its settings.
    pub(crate) fn server(&self) -> Arc<Server> {
        Arc::clone(&self.server)
    }

    /// Accepts and serves connections until the daemon shuts down and all connections have ended.
    pub(crate) async fn run(self, daemon: Arc<Daemon>) {
        let Self { listener, secure, server } = self;
        let refusal = if secure { String::new() } else { pfs_http::refusal(NO_DESCRIPTORS) };
        let mut connections = JoinSet::new();
        let mut spare = Spare::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = daemon.shutdown().cancelled() => break,
                Some(ended) = connections.join_next() => {
                    report_panic(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    if let Some(serving) = server.serve(stream, remote) {
                        connections.spawn(serving);
                    }
                }
                Err(error) if spare.refuse(&error, &listener, refusal.as_bytes()) => {
                    daemon.refusals().refuse(
                        Reason::Descriptors,
                        &Asked::default(),
                        NO_DESCRIPTORS,
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    }
}
