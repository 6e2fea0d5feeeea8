//! A connection to the daemon on which a test says what no client of ours would.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use pfs_proto::{Decoder, ErrorCode, Hello, Reply, Request, VERSION};
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::deadline;

/// A connected socket and what has come from it.
pub struct Wire {
    socket: UnixStream,
    decoder: Decoder,
    passed: VecDeque<OwnedFd>,
}

impl Wire {
    /// Connects, and says nothing yet.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("the daemon answers");
        socket.set_read_timeout(Some(deadline())).expect("a socket");
        socket.set_write_timeout(Some(deadline())).expect("a socket");
        Self { socket, decoder: Decoder::new(), passed: VecDeque::new() }
    }

    /// Says hello as a client of today does, and hears the same.
    #[track_caller]
    pub fn greeted(mut self) -> Self {
        let reply = self.greet();
        assert!(matches!(reply, Some(Reply::Hello(_))), "the answer to hello: {reply:?}");
        self
    }

    /// As [`greeted`](Self::greeted), and says that it can share memory.
    #[track_caller]
    pub fn greeted_to_share(mut self) -> Self {
        let reply = self.greet_with(Hello::MAPPING);
        assert!(
            matches!(reply, Some(Reply::Hello(hello)) if hello.can_map()),
            "the answer to hello: {reply:?}"
        );
        self
    }

    /// Says hello as a client of today does; returns what it hears.
    #[track_caller]
    pub fn greet(&mut self) -> Option<Reply> {
        self.greet_with(0)
    }

    #[track_caller]
    fn greet_with(&mut self, capabilities: u64) -> Option<Reply> {
        self.send(&Request::Hello(Hello { min_version: VERSION, max_version: VERSION, capabilities }));
        self.reply()
    }

    /// Sends these bytes as they are. That the daemon hung up meanwhile is no failure.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        match self.socket.write_all(bytes) {
            Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("write to the daemon: {e}")
            }
            _ => self,
        }
    }

    /// Sends a message.
    pub fn send(&mut self, request: &Request) -> &mut Self {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        self.send_bytes(&out)
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
        let _ = self.socket.shutdown(Shutdown::Write);
        self
    }

    /// The next message; `None` when the daemon has hung up.
    #[track_caller]
    pub fn reply(&mut self) -> Option<Reply> {
        self.next_reply().unwrap_or_else(|e| panic!("no answer from the daemon: {e}"))
    }

    /// As [`reply`](Self::reply), but `None` too when nothing comes for so long.
    #[track_caller]
    pub(crate) fn reply_within(&mut self, most: Duration) -> Option<Option<Reply>> {
        self.socket.set_read_timeout(Some(most)).expect("a socket");
        match self.next_reply() {
            Err(Errno::AGAIN) => None,
            reply => Some(reply.unwrap_or_else(|e| panic!("no answer from the daemon: {e}"))),
        }
    }

    #[track_caller]
    fn next_reply(&mut self) -> Result<Option<Reply>, Errno> {
        let mut piece = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the daemon sends whole frames") {
                return Ok(Some(Reply::decode(frame).expect("the daemon sends known messages")));
            }
            match self.receive(&mut piece) {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(None),
                Ok(got) => self.decoder.buffer().put_slice(&piece[..got]),
                Err(e) => return Err(e),
            }
        }
    }

    fn receive(&mut self, piece: &mut [u8]) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let pieces = &mut [IoSliceMut::new(piece)];
        let received = recvmsg(&self.socket, pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.passed.extend(descriptors);
            }
        }
        Ok(received.bytes)
    }

    /// The next descriptor that came along with a reply.
    #[track_caller]
    pub fn descriptor(&mut self) -> OwnedFd {
        self.passed.pop_front().expect("a descriptor came along")
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
