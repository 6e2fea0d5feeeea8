//! Unix socket transport: frames, and descriptor passing.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use pfs_host::{Caller, Daemon, Owner, Permissions, Transport};
use pfs_proto::{MAX_DESCRIPTORS, Peer};
use rustix::{
    cmsg_space,
    net::{
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg,
        sockopt::set_socket_send_buffer_size,
    },
    process::geteuid,
};
use tokio::{io::Interest, net::UnixStream, time::sleep};

use crate::config::Shm;

/// Serves a client until its connection ends.
pub(crate) async fn serve(stream: UnixStream, daemon: Arc<Daemon>, shm: Shm) {
    let caller = caller(&stream);
    let shares_memory = match shm {
        Shm::SameUser => caller.peer.uid == Some(geteuid().as_raw()),
        Shm::All => true,
    };
    pfs_host::serve(UnixTransport { stream, shares_memory }, caller, daemon).await;
}

pub(crate) fn caller(stream: &UnixStream) -> Caller {
    let credentials = stream.peer_cred().ok();
    let pid = credentials.as_ref().and_then(|credentials| u32::try_from(credentials.pid()?).ok());
    // The pid is 0 for a process of another pid namespace.
    let pid = pid.filter(|pid| *pid > 0);
    let peer = Peer { pid, uid: credentials.map(|credentials| credentials.uid()) };
    // Everyone who can open the socket may do everything: the file mode of the socket decides
    // who can.
    let (owner, permissions) = (Owner::User(peer.uid), Permissions::all());
    Caller { peer, remote: None, owner, permissions, transport: "unix" }
}

struct UnixTransport {
    stream: UnixStream,
    /// Whether `listen.shm` lets this client share memory with the daemon.
    shares_memory: bool,
}

impl Transport for UnixTransport {
    const MAY_PAUSE: bool = true;

    async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.stream.try_read_buf(buffer)
    }

    async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    /// Waits until the client is gone. A client that has only shut down its sending side, and still
    /// reads, is not gone.
    async fn hung_up(&self) {
        // Reading would take bytes that cannot be processed now, and a socket with unread bytes
        // stays "readable". Interest in priority data, which a Unix socket never has, waits for the
        // hang-up alone.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.stream.ready(Interest::PRIORITY).await.is_err() {
            return;
        }
        loop {
            match self.stream.ready(Interest::WRITABLE | Interest::READABLE).await {
                Ok(ready) if ready.is_write_closed() => return,
                Ok(_) => sleep(Duration::from_millis(100)).await,
                Err(_) => return,
            }
        }
    }

    /// Waits until the client shuts down its sending side.
    async fn left(&self) -> io::Result<bool> {
        let mut said = [0; 1];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut said) {
                Ok(read) => return Ok(read == 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn enlarge_send_buffer(&self, bytes: usize) {
        // On failure, the system's default size is good enough.
        let _ = set_socket_send_buffer_size(&self.stream, bytes);
    }

    fn passes_descriptors(&self) -> bool {
        self.shares_memory
    }

    async fn send_descriptors(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        loop {
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Ok(sendmsg(
                    &self.stream,
                    &[IoSlice::new(bytes)],
                    &mut control,
                    SendFlags::NOSIGNAL,
                )?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?
                }
                sent => return sent,
            }
        }
    }
}
