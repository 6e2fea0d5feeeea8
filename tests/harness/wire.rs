//! Blocking [`Peer`] of the daemon, for frames that no client of ours sends.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSliceMut, Write as _},
    mem::MaybeUninit,
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use bytes::{BufMut as _, BytesMut};
use pfs_peer::{Peer, Transport};
use pfs_proto::{ErrorCode, Hello, Reply, Request};
use pollster::FutureExt as _;
use rustix::{
    cmsg_space,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

use crate::deadline;

/// Blocking socket, whose futures are never pending, and the descriptors that were received
/// over it.
struct Socket {
    stream: UnixStream,
    passed: VecDeque<OwnedFd>,
}

impl Transport for Socket {
    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut piece = [0; 4096];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let pieces = &mut [IoSliceMut::new(&mut piece)];
        let received = recvmsg(&self.stream, pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.passed.extend(descriptors);
            }
        }
        buffer.put_slice(&piece[..received.bytes]);
        Ok(received.bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
}

/// Client end of a connection.
pub struct Wire {
    peer: Peer<Socket>,
}

impl Wire {
    /// Connects and sends nothing.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the daemon answers");
        stream.set_read_timeout(Some(deadline())).expect("a socket");
        stream.set_write_timeout(Some(deadline())).expect("a socket");
        Self { peer: Peer::new(Socket { stream, passed: VecDeque::new() }) }
    }

    /// Exchanges hellos, as a current client without capabilities does.
    #[track_caller]
    pub fn greeted(self) -> Self {
        self.greeted_with(0)
    }

    /// Like [`greeted`](Self::greeted), with the capability to use shm.
    #[track_caller]
    pub fn greeted_to_share(self) -> Self {
        self.greeted_with(Hello::SHM)
    }

    /// Like [`greeted_to_share`](Self::greeted_to_share), with the capability to follow streams
    /// from one ring buffer to the next.
    #[track_caller]
    pub fn greeted_to_follow(self) -> Self {
        self.greeted_with(Hello::SHM | Hello::MOVING)
    }

    /// Like [`greeted_to_follow`](Self::greeted_to_follow), with the capability to hold leases.
    #[track_caller]
    pub fn greeted_to_hold(self) -> Self {
        self.greeted_with(Hello::SHM | Hello::MOVING | Hello::LEASING)
    }

    #[track_caller]
    pub(crate) fn greeted_with(mut self, capabilities: u64) -> Self {
        let reply = self.peer.greet(capabilities).block_on();
        assert_eq!(
            reply,
            Some(Reply::Hello(Hello { capabilities, ..Hello::OURS })),
            "the answer to hello"
        );
        self
    }

    /// Sends `bytes` unchanged. Ignores that the daemon has hung up.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.peer.send_bytes(bytes).block_on();
        self
    }

    /// Sends `bytes`. Returns false if the daemon does not read all of them within a second.
    pub fn offer_bytes(&mut self, bytes: &[u8]) -> bool {
        let stream = &mut self.peer.transport.stream;
        stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
        let is_sent = stream.write_all(bytes).is_ok();
        stream.set_write_timeout(Some(deadline())).expect("a socket");
        is_sent
    }

    /// Sends a message.
    pub fn send(&mut self, request: &Request) -> &mut Self {
        self.peer.send(request).block_on();
        self
    }

    /// Sends a message without the last `missing` bytes of its frame.
    pub fn send_without_end(&mut self, request: &Request, missing: usize) -> &mut Self {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        self.send_bytes(&out[..out.len() - missing])
    }

    /// Closes the sending direction of the connection.
    pub fn end_output(&mut self) -> &mut Self {
        // Fails if the daemon has hung up already.
        let _ = self.peer.transport.stream.shutdown(Shutdown::Write);
        self
    }

    /// Waits for the next message; `None` when the daemon has hung up.
    #[track_caller]
    pub fn reply(&mut self) -> Option<Reply> {
        self.peer
            .try_reply()
            .block_on()
            .unwrap_or_else(|e| panic!("no answer from the daemon: {e}"))
    }

    /// Like [`reply`](Self::reply), but returns the outer `None` if no message arrives
    /// within `most`.
    #[track_caller]
    pub fn reply_within(&mut self, most: Duration) -> Option<Option<Reply>> {
        self.peer.transport.stream.set_read_timeout(Some(most)).expect("a socket");
        match self.peer.try_reply().block_on() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            reply => Some(reply.unwrap_or_else(|e| panic!("no answer from the daemon: {e}"))),
        }
    }

    /// Returns the next descriptor that was received with a reply.
    #[track_caller]
    pub fn descriptor(&mut self) -> OwnedFd {
        self.peer.transport.passed.pop_front().expect("a descriptor came along")
    }

    /// Reads until the daemon hangs up. Returns the code of the error that it sent, if any.
    #[track_caller]
    pub fn refusal(&mut self) -> Option<ErrorCode> {
        let mut refusal = None;
        while let Some(reply) = self.reply() {
            if let Reply::Error { code, message } = reply {
                assert!(!message.is_empty(), "an error of code {code:?} without a message");
                refusal = Some(code);
            }
        }
        refusal
    }
}
