//! A connection to the daemon on which a test says what no client of ours would.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::{BufMut as _, BytesMut};
use pfs_proto::{Decoder, ErrorCode, Hello, Reply, Request, VERSION};

use crate::DEADLINE;

/// A connected socket and what has come from it.
pub struct Wire {
    socket: UnixStream,
    decoder: Decoder,
}

impl Wire {
    /// Connects, and says nothing yet.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("the daemon answers");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        socket.set_write_timeout(Some(DEADLINE)).expect("a socket");
        Self { socket, decoder: Decoder::new() }
    }

    /// Says hello as a client of today does, and hears the same.
    #[track_caller]
    pub fn greeted(mut self) -> Self {
        let reply = self.greet();
        assert!(matches!(reply, Some(Reply::Hello(_))), "the answer to hello: {reply:?}");
        self
    }

    /// Says hello as a client of today does; returns what it hears.
    #[track_caller]
    pub fn greet(&mut self) -> Option<Reply> {
        self.request(&Request::Hello(Hello { min_version: VERSION, max_version: VERSION, capabilities: 0 }));
        self.reply()
    }

    /// Sends these bytes as they are. That the daemon hung up meanwhile is no failure.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        match self.socket.write_all(bytes) {
            Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("write to the daemon: {e}")
            }
            _ => self,
        }
    }

    /// Sends a message.
    pub fn request(&mut self, request: &Request) -> &mut Self {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        self.send(&out)
    }

    /// Sends a message up to, not including, the last `missing` bytes of its frame.
    pub fn request_without_end(&mut self, request: &Request, missing: usize) -> &mut Self {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        self.send(&out[..out.len() - missing])
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
        let mut piece = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the daemon sends whole frames") {
                return Some(Reply::decode(frame).expect("the daemon sends known messages"));
            }
            match self.socket.read(&mut piece) {
                Ok(0) => return None,
                Ok(got) => self.decoder.buffer().put_slice(&piece[..got]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no answer from the daemon: {e}"),
            }
        }
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
