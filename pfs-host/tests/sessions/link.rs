//! A connection in memory: two pipes of a size that the test chooses, and a client at the other end.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::BytesMut;
use pfs_host::{Caller, Daemon, Going, Permissions, Transport};
use pfs_proto::{Decoder, Hello, Peer, Reply, Request};
use tokio::{sync::Notify, task::JoinHandle};

/// Bytes on their way in one direction.
struct Pipe {
    state: Mutex<State>,
    changed: Notify,
    capacity: usize,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// One of the two ends is gone.
    closed: bool,
}

impl Pipe {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Notify::new(), capacity })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until the state is as it should be.
    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    async fn readable(&self) {
        self.until(|state| !state.bytes.is_empty() || state.closed).await;
    }

    async fn writable(&self) {
        self.until(|state| state.bytes.len() < self.capacity || state.closed).await;
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut state = self.state();
        let len = state.bytes.len().min(buffer.capacity() - buffer.len());
        if len == 0 && !state.closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer.extend(state.bytes.drain(..len));
        drop(state);
        self.changed.notify_waiters();
        Ok(len)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(self.capacity - state.bytes.len());
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.bytes.extend(&bytes[..len]);
        drop(state);
        self.changed.notify_waiters();
        Ok(len)
    }

    fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }
}

/// The daemon's end. Over one that may not pause, a client says what it wants at once.
struct Link<const MAY_PAUSE: bool> {
    input: Arc<Pipe>,
    output: Arc<Pipe>,
}

impl<const MAY_PAUSE: bool> Drop for Link<MAY_PAUSE> {
    fn drop(&mut self) {
        self.input.close();
        self.output.close();
    }
}

impl<const MAY_PAUSE: bool> Transport for Link<MAY_PAUSE> {
    const MAY_PAUSE: bool = MAY_PAUSE;

    async fn readable(&self) -> io::Result<()> {
        self.input.readable().await;
        Ok(())
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.input.try_read(buffer)
    }

    async fn writable(&self) -> io::Result<()> {
        self.output.writable().await;
        Ok(())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.output.try_write(bytes)
    }

    async fn hung_up(&self) {
        self.output.until(|state| state.closed).await;
    }

    async fn left(&self) -> io::Result<bool> {
        self.input.readable().await;
        Ok(self.input.state().bytes.is_empty())
    }
}

/// The client's end, and what serves it.
pub(crate) struct Far {
    input: Arc<Pipe>,
    output: Arc<Pipe>,
    decoder: Decoder,
    pub(crate) served: JoinHandle<()>,
}

impl Far {
    /// Connects, over pipes that hold so many bytes, and says nothing yet.
    pub(crate) fn connect<const MAY_PAUSE: bool>(
        daemon: &Arc<Daemon>,
        going: &Going,
        capacity: usize,
    ) -> Self {
        let (there, back) = (Pipe::new(capacity), Pipe::new(capacity));
        let link = Link::<MAY_PAUSE> { input: Arc::clone(&there), output: Arc::clone(&back) };
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
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            self.output.writable().await;
            let written = self.output.try_write(bytes).unwrap();
            bytes = &bytes[written..];
        }
    }

    /// The next reply; `None` when the daemon has ended the connection.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(Reply::decode(frame).unwrap());
            }
            self.input.readable().await;
            if self.input.try_read(self.decoder.buffer()).unwrap() == 0 {
                return None;
            }
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.input.close();
        self.output.close();
    }
}
