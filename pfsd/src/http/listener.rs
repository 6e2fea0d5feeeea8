//! The accept loop of HTTP: HTTP/1.1 and HTTP/2 on one port.

use std::{io, net::SocketAddr, sync::Arc};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Site, router};
use crate::{daemon::Daemon, shutdown::Going};

/// A bound port.
#[derive(Debug)]
pub(crate) struct HttpListener {
    listener: TcpListener,
}

impl HttpListener {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the daemon ends, and until the connections have heard of it.
    pub(crate) async fn run(self, daemon: Arc<Daemon>, mut going: Going) {
        let service = TowerToHyperService::new(router(Arc::new(Site::new(daemon, going.clone()))));
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                biased;
                () = going.begun() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => continue,
                },
            };
            let service = service.clone();
            connections.spawn(async move {
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder.http1().timer(TokioTimer::new());
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
        while connections.join_next().await.is_some() {}
    }
}
