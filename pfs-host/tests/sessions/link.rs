//! In-memory transport: two channels of bytes, whose capacity the test chooses.

use std::{
    future::poll_fn,
    io,
    iter::from_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, ready},
};

use bytes::{Bytes, BytesMut};
use pfs_host::{Caller, Daemon, Owner, Permissions, Transport};
use pfs_peer::Peer;
use pfs_proto::Reply;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinHandle,
};

/// The daemon's end. Without `MAY_PAUSE`, a client must send all its requests at once. With
/// `KEEPS_BYTES`, the link takes bytes to send without a copy, and drops them when the connection
/// ends.
struct Link<const MAY_PAUSE: bool, const KEEPS_BYTES: bool = false> {
    input: Mutex<Input>,
    output: Sender<u8>,
    kept: Mutex<Vec<Bytes>>,
    writes: Arc<AtomicUsize>,
}

struct Input {
    /// A byte that was taken from the channel to see whether there is one.
    first: Option<u8>,
    rest: Receiver<u8>,
}

impl<const MAY_PAUSE: bool, const KEEPS_BYTES: bool> Transport for Link<MAY_PAUSE, KEEPS_BYTES> {
    const MAY_PAUSE: bool = MAY_PAUSE;
    const KEEPS_BYTES: bool = KEEPS_BYTES;

    async fn send(&self, bytes: Bytes) -> io::Result<()> {
        self.kept.lock().unwrap().push(bytes);
        Ok(())
    }

    async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut input = self.input.lock().unwrap();
            if input.first.is_none() {
                input.first = ready!(input.rest.poll_recv(cx));
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let Input { first, rest } = &mut *self.input.lock().unwrap();
        let (held, room, ended) =
            (buffer.len(), buffer.capacity() - buffer.len(), rest.is_closed());
        buffer.extend(first.take().into_iter().chain(from_fn(|| rest.try_recv().ok())).take(room));
        match buffer.len() - held {
            0 if !ended => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }

    async fn writable(&self) -> io::Result<()> {
        self.output.reserve().await.map(drop).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.output.capacity());
        if self.output.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        bytes[..len].iter().for_each(|byte| self.output.try_send(*byte).unwrap());
        Ok(len)
    }

    async fn hung_up(&self) {
        self.output.closed().await;
    }

    async fn left(&self) -> io::Result<bool> {
        self.readable().await?;
        Ok(self.input.lock().unwrap().first.is_none())
    }
}

/// The client's end.
pub(crate) type Far = Peer<Channels>;

pub(crate) struct Channels {
    input: Receiver<u8>,
    output: Sender<u8>,
    /// The task that serves the client.
    pub(crate) served: JoinHandle<()>,
    /// Number of the daemon's writes.
    pub(crate) writes: Arc<AtomicUsize>,
}

impl Channels {
    /// Ends the client's side, like a client that leaves.
    pub(crate) fn leave(&mut self) {
        self.output = channel(1).0;
    }
}

impl Channels {
    /// Hangs up, and returns the task that serves the client.
    pub(crate) fn hang_up(self) -> JoinHandle<()> {
        self.served
    }
}

impl pfs_peer::Transport for Channels {
    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.input.recv_many(&mut bytes, usize::MAX).await;
        buffer.extend_from_slice(&bytes);
        Ok(bytes.len())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.output.send(*byte).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

/// Connects over channels of this capacity in bytes, and sends nothing yet.
pub(crate) fn connect<const MAY_PAUSE: bool>(daemon: &Arc<Daemon>, capacity: usize) -> Far {
    connect_over::<MAY_PAUSE, false>(daemon, capacity)
}

/// Like [`connect`], over a transport that may keep bytes.
pub(crate) fn connect_over<const MAY_PAUSE: bool, const KEEPS_BYTES: bool>(
    daemon: &Arc<Daemon>,
    capacity: usize,
) -> Far {
    let (peer, owner) = (pfs_proto::Peer::default(), Owner::User(None));
    let caller =
        Caller { peer, remote: None, owner, permissions: Permissions::all(), transport: "unix" };
    connect_as::<MAY_PAUSE, KEEPS_BYTES>(daemon, capacity, caller)
}

/// Connects as `caller`.
pub(crate) fn connect_as<const MAY_PAUSE: bool, const KEEPS_BYTES: bool>(
    daemon: &Arc<Daemon>,
    capacity: usize,
    caller: Caller,
) -> Far {
    let ((there, rest), (output, back)) = (channel(capacity), channel(capacity));
    let input = Mutex::new(Input { first: None, rest });
    let writes = Arc::<AtomicUsize>::default();
    let link = Link::<MAY_PAUSE, KEEPS_BYTES> {
        input,
        output,
        kept: Mutex::default(),
        writes: Arc::clone(&writes),
    };
    let serving = pfs_host::serve(link, caller, Arc::clone(daemon));
    Peer::new(Channels { input: back, output: there, served: tokio::spawn(serving), writes })
}

/// Connects, and exchanges hellos.
pub(crate) async fn greeted(daemon: &Arc<Daemon>, capacity: usize) -> Far {
    let mut far = connect::<true>(daemon, capacity);
    assert!(matches!(far.greet(0).await, Some(Reply::Hello(_))));
    far
}
