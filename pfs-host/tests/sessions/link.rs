//! A connection in memory: two channels of bytes, whose capacity the test chooses.

use std::{
    future::poll_fn,
    io,
    iter::from_fn,
    sync::{Arc, Mutex},
    task::{Poll, ready},
};

use bytes::BytesMut;
use pfs_host::{Caller, Daemon, Going, Permissions, Transport};
use pfs_proto::{Decoder, Hello, Peer, Reply, Request};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinHandle,
};

/// The daemon's end. Over one that may not pause, a client says what it wants at once.
struct Link<const MAY_PAUSE: bool> {
    input: Mutex<Input>,
    output: Sender<u8>,
}

struct Input {
    /// Taken from the channel to see whether there is one.
    first: Option<u8>,
    rest: Receiver<u8>,
}

impl<const MAY_PAUSE: bool> Transport for Link<MAY_PAUSE> {
    const MAY_PAUSE: bool = MAY_PAUSE;

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
        let (held, room, ended) = (buffer.len(), buffer.capacity() - buffer.len(), rest.is_closed());
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

/// The client's end, and what serves it.
pub(crate) struct Far {
    input: Receiver<u8>,
    output: Sender<u8>,
    decoder: Decoder,
    pub(crate) served: JoinHandle<()>,
}

impl Far {
    /// Connects, over channels that hold so many bytes, and says nothing yet.
    pub(crate) fn connect<const MAY_PAUSE: bool>(
        daemon: &Arc<Daemon>,
        going: &Going,
        capacity: usize,
    ) -> Self {
        let ((there, rest), (output, back)) = (channel(capacity), channel(capacity));
        let link = Link::<MAY_PAUSE> { input: Mutex::new(Input { first: None, rest }), output };
        let caller = Caller { peer: Peer::default(), permissions: Permissions::all(), transport: "unix" };
        let serving = pfs_host::serve(link, caller, Arc::clone(daemon), going.clone());
        let served = tokio::spawn(serving);
        Self { input: back, output: there, decoder: Decoder::new(), served }
    }

    /// Connects, and has said hello.
    pub(crate) async fn greeted(daemon: &Arc<Daemon>, going: &Going, capacity: usize) -> Self {
        let mut far = Self::connect::<true>(daemon, going, capacity);
        far.send(&Request::Hello(Hello { capabilities: 0, ..Hello::OURS })).await;
        assert!(matches!(far.reply().await, Some(Reply::Hello(_))));
        far
    }

    pub(crate) async fn send(&mut self, request: &Request) {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        for byte in bytes {
            self.output.send(byte).await.unwrap();
        }
    }

    /// The next reply; `None` when the daemon has ended the connection.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(Reply::decode(frame).unwrap());
            }
            let mut bytes = Vec::new();
            if self.input.recv_many(&mut bytes, usize::MAX).await == 0 {
                return None;
            }
            self.decoder.buffer().extend_from_slice(&bytes);
        }
    }
}
