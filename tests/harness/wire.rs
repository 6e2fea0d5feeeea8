//! A blocking [`Peer`] of the daemon, on which a test sends what no client of ours would.

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

/// A blocking socket, whose futures are never pending, and the descriptors that came over it.
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

/// The client's end of a connection.
pub struct Wire {
    peer: Peer<Socket>,
}

impl Wire {
    /// Connects, and says nothing yet.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the daemon answers");
        stream.set_read_timeout(Some(deadline())).expect("a socket");
        stream.set_write_timeout(Some(deadline())).expect("a socket");
        Self { peer: Peer::new(Socket { stream, passed: VecDeque::new() }) }
    }

    /// Says hello as a client of today does, and hears the same.
    #[track_caller]
    pub fn greeted(self) -> Self {
        self.greeted_with(0)
    }

    /// Like [`greeted`](Self::greeted), and offers to share memory.
    #[track_caller]
    pub fn greeted_to_share(self) -> Self {
        self.greeted_with(Hello::SHM)
    }

    /// Like [`greeted_to_share`](Self::greeted_to_share), and offers to follow streams from ring to
    /// ring.
    #[track_caller]
    pub fn greeted_to_follow(self) -> Self {
        self.greeted_with(Hello::SHM | Hello::MOVING)
    }

    /// Like [`greeted_to_follow`](Self::greeted_to_follow), and offers to hold leases.
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

    /// Sends these bytes as they are. That the daemon hung up meanwhile is no failure.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.peer.send_bytes(bytes).block_on();
        self
    }

    /// Sends these bytes; false if the daemon does not take all of them within a second.
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

    /// Sends a message up to, not including, the last `missing` bytes of its frame.
    pub fn send_without_end(&mut self, request: &Request, missing: usize) -> &mut Self {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        self.send_bytes(&out[..out.len() - missing])
    }

    /// Ends our direction of the connection.
    pub fn end_output(&mut self) -> &mut Self {
        // It fails when the daemon has hung up before.
        let _ = self.peer.transport.stream.shutdown(Shutdown::Write);
        self
    }

    /// The next message; `None` when the daemon has hung up.
    #[track_caller]
    pub fn reply(&mut self) -> Option<Reply> {
        self.peer
            .try_reply()
            .block_on()
            .unwrap_or_else(|e| panic!("no answer from the daemon: {e}"))
    }

    /// As [`reply`](Self::reply), but `None` too when nothing comes for so long.
    #[track_caller]
    pub fn reply_within(&mut self, most: Duration) -> Option<Option<Reply>> {
        self.peer.transport.stream.set_read_timeout(Some(most)).expect("a socket");
        match self.peer.try_reply().block_on() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            reply => Some(reply.unwrap_or_else(|e| panic!("no answer from the daemon: {e}"))),
        }
    }

    /// The next descriptor that came along with a reply.
    #[track_caller]
    pub fn descriptor(&mut self) -> OwnedFd {
        self.peer.transport.passed.pop_front().expect("a descriptor came along")
    }

    /// Reads until the daemon hangs up; returns the code of the error that it told, if any.
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
