//! Test harness: a daemon within the test process, and a client that can misbehave.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use pfs_host::Settings;
use pfs_peer::Peer;
use pfs_proto::{
    ErrorCode, Hello, ReadOptions, Reply, Request, Start, StreamPath, Until, WriteOptions,
};
use pfsd::Daemon;
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Time limit after which a test counts as hanging. No test depends on its value otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Running {
    _folder: TempDir,
    socket: PathBuf,
    pub(crate) daemon: Arc<Daemon>,
    stop: Option<oneshot::Sender<()>>,
    /// The start of the shutdown.
    begin: Option<Instant>,
    served: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(Daemon::new(&Settings::default()))
    }

    pub(crate) fn with(daemon: Daemon) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = Arc::new(daemon);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(pfsd::run(listener, Arc::clone(&daemon), async {
            let _ = stopped.await;
        }));
        Self { _folder: folder, socket, daemon, stop: Some(stop), begin: None, served }
    }

    /// Opens a connection without sending a hello.
    pub(crate) async fn stranger(&self) -> Client {
        Client { peer: Peer::new(UnixStream::connect(&self.socket).await.unwrap()) }
    }

    pub(crate) async fn client(&self) -> Client {
        let mut client = self.stranger().await;
        assert_eq!(patiently(client.peer.greet(0)).await, Some(Reply::Hello(Hello::OURS)));
        client
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Begins the shutdown and pauses the clock. From now on the clock advances only while all
    /// tasks are idle, to the end of the next sleep.
    pub(crate) fn stop(&mut self) {
        tokio::time::pause();
        self.begin = Some(Instant::now());
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end of the shutdown and returns its duration. On the paused clock, only sleeps
    /// take time.
    pub(crate) async fn stopped(self) -> Duration {
        timeout(PATIENCE, self.served).await.expect("the daemon must end").unwrap();
        self.begin.unwrap().elapsed()
    }

    /// Aborts the daemon without a shutdown, like a runtime that is dropped.
    pub(crate) async fn cut(self) -> Arc<Daemon> {
        self.served.abort();
        assert!(self.served.await.unwrap_err().is_cancelled());
        self.daemon
    }

    /// Waits until the daemon has `count` connections besides the one that asks.
    pub(crate) async fn connections(&self, count: u64) {
        let mut asking = self.client().await;
        eventually(async || {
            asking.send(&Request::Info).await;
            match asking.reply().await {
                Some(Reply::Daemon(info)) => info.connections == count + 1,
                other => panic!("{other:?}"),
            }
        })
        .await;
    }
}

/// A [`Peer`] in the role of a client that waits no longer than [`PATIENCE`].
pub(crate) struct Client {
    pub(crate) peer: Peer<UnixStream>,
}

impl Client {
    pub(crate) async fn send(&mut self, request: &Request) {
        patiently(self.peer.send(request)).await;
    }

    /// Sends several requests in one write, so that the daemon most likely reads them at once.
    pub(crate) async fn send_together(&mut self, requests: &[Request]) {
        let mut bytes = BytesMut::new();
        for request in requests {
            request.encode(&mut bytes);
        }
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        patiently(self.peer.send_bytes(bytes)).await;
    }

    /// Receives the next reply; `None` at the end of the connection.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        patiently(self.peer.reply()).await
    }

    pub(crate) async fn ask(&mut self, request: Request) -> Reply {
        self.send(&request).await;
        self.reply().await.expect("an answer")
    }

    /// Expects an error as the next reply, and returns its code and message.
    pub(crate) async fn error(&mut self) -> (ErrorCode, String) {
        match self.reply().await {
            Some(Reply::Error { code, message }) => (code, message),
            other => panic!("expected an error, got {other:?}"),
        }
    }

    pub(crate) async fn refused(&mut self, request: Request) -> (ErrorCode, String) {
        self.send(&request).await;
        self.error().await
    }

    /// Expects this error as the next reply, followed by the end of the connection.
    pub(crate) async fn refused_for_good(&mut self, code: ErrorCode) -> String {
        let (got, message) = self.error().await;
        assert_eq!(got, code, "{message}");
        assert_eq!(self.reply().await, None);
        message
    }

    /// Attaches as a writer.
    pub(crate) async fn write_to(&mut self, path: &str) {
        let writing = self.ask(Request::OpenWriter(at(path), WriteOptions::default())).await;
        assert!(matches!(writing, Reply::Writing { .. }), "{writing:?}");
    }

    pub(crate) async fn append(&mut self, chunk: &'static [u8]) {
        self.send(&Request::Append(chunk.into())).await;
    }

    /// Reads acknowledgements until `count` chunks are acknowledged.
    pub(crate) async fn acked(&mut self, count: u64) {
        loop {
            match self.reply().await {
                Some(Reply::Ack { chunks, .. }) if chunks == count => return,
                Some(Reply::Ack { chunks, .. }) if chunks < count => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Attaches as a reader.
    pub(crate) async fn read_from(&mut self, path: &str, options: ReadOptions) {
        let reading = self.ask(Request::OpenReader(at(path), options)).await;
        assert!(matches!(reading, Reply::Reading { .. }), "{reading:?}");
    }
}

pub(crate) fn at(path: &str) -> StreamPath {
    path.parse().unwrap()
}

/// Options of a reader that gets the history, then live data until the stream is closed.
pub(crate) fn oldest() -> ReadOptions {
    ReadOptions { start: Start::Oldest, until: Until::Closed, ..ReadOptions::default() }
}

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("the test takes too long")
}

/// Waits until `holds` returns true.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    patiently(async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
