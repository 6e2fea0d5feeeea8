//! Daemon with tokens, with or without TLS, and connections to it.

use std::{
    fs::{Permissions, set_permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use harness::{Daemon, raise_file_limit};
use pfs_client::{Client, Endpoint, HttpEndpoint};
use pfs_peer::http;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpSocket,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::kind::Kind;
use crate::http::tls::Authority;

const TOKEN: &str = "41d0a1ccd2b44d7aab1c";

/// Header with the token that the daemon accepts.
pub(super) const AUTHORIZED: (&str, &str) = ("authorization", "Bearer 41d0a1ccd2b44d7aab1c");

/// Ring buffer size of the streams with writers, in bytes.
pub(super) const RING: u64 = 1024 * 1024;

/// `limits.max_memory`. The budgets beside the ring buffers are an eighth of it each.
pub(super) const MAX_MEMORY: u64 = 128 * 1024 * 1024;

/// Connections that are not readers: writers, observers and hostile clients.
const OTHERS: usize = 800;

/// Receive buffer that clients request for their sockets, in bytes.
const RECEIVE_BUFFER: u32 = 64 * 1024;

/// Byte transport in both directions.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// TCP connection, with TLS if the daemon uses it.
pub(super) type Connection = Box<dyn Io>;

/// Daemon under test, and its HTTP address.
pub(super) struct Site {
    pub(super) daemon: Daemon,
    pub(super) address: SocketAddr,
    authority: Option<Authority>,
    _token: TempDir,
}

impl Site {
    /// Starts a daemon for this many readers, with ring buffers of this size in bytes.
    pub(super) fn start(tls: bool, readers: usize, ring: u64) -> Self {
        raise_file_limit();
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
        let connections = readers + OTHERS;
        let mut toml = format!(
            "[plugins.streamfs.config]\nring_buffer_size = {ring}\nchannel_buffer_size = {ring}\n\
             [auth]\ntoken_file = {token:?}\n\
             [limits]\nmax_streams = 16\nmax_memory = {MAX_MEMORY}\nmax_block_time = \"20ms\"\n\
             max_connections = {connections}\nmax_connections_per_address = {connections}\n"
        );
        let authority = tls.then(|| Authority::new("our own"));
        if let Some(authority) = &authority {
            let server = authority.server(&["localhost", "127.0.0.1"]);
            toml += &format!(
                "[http]\ncertificate = {:?}\nkey = {:?}\n",
                server.certificate, server.key
            );
        }
        let daemon = Daemon::with_http_config(&toml);
        Self { address: daemon.http_address(), daemon, authority, _token: folder }
    }

    /// Connects a client of the library.
    pub(super) async fn client(&self, kind: Kind) -> Client {
        let endpoint = if kind == Kind::Frames {
            let mut endpoint =
                HttpEndpoint::new(&self.daemon.url("")).unwrap().with_token(TOKEN).unwrap();
            if let Some(authority) = &self.authority {
                endpoint = endpoint.with_ca(&std::fs::read(authority.root()).unwrap()).unwrap();
            }
            endpoint.into()
        } else {
            Endpoint::Unix(self.daemon.socket())
        };
        Client::connect(endpoint).await.unwrap().with_shm(kind == Kind::Shm)
    }

    /// Opens an HTTP/1.1 connection and sends nothing.
    pub(super) async fn http(&self) -> http::Client<Connection> {
        http::Client::new(self.connection(b"http/1.1").await, self.address)
    }

    /// Opens an HTTP/2 connection and starts the task that drives it.
    pub(super) async fn http2(&self) -> SendRequest<Bytes> {
        let mut builder = Builder::new();
        // The connection window is much larger than the stream windows, so one stalled stream
        // cannot block the others.
        builder
            .initial_window_size(RECEIVE_BUFFER)
            .initial_connection_window_size(1024 * 1024 * 1024);
        let (client, connection) = builder.handshake(self.connection(b"h2").await).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn connection(&self, protocol: &[u8]) -> Connection {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        let connection =
            socket.connect(self.address).await.expect("the daemon accepts connections");
        let Some(authority) = &self.authority else { return Box::new(connection) };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.root()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::from(self.address.ip());
        Box::new(
            TlsConnector::from(Arc::new(config))
                .connect(name, connection)
                .await
                .expect("a handshake"),
        )
    }
}
