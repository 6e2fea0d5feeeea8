//! Handing memory to a client, along with the reply that says what it is.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
};

use bytes::BytesMut;
use pfs_proto::Reply;
use rustix::{
    cmsg_space,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use tokio::io::Interest;

use crate::wire::Wire;

/// The most descriptors that go along with one reply.
const MOST: usize = 2;

impl Wire {
    /// Writes a reply and at most two descriptors with it, after all that is queued. Not cancel safe.
    pub(crate) async fn send_with(
        &mut self,
        reply: &Reply,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.flush().await?;
        let mut frame = BytesMut::new();
        reply.encode(&mut frame);
        let socket = self.socket().ok_or(io::ErrorKind::Unsupported)?;
        loop {
            let sent = socket.try_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                let (flags, bytes) = (SendFlags::NOSIGNAL, &[IoSlice::new(&frame)]);
                Ok(sendmsg(socket, bytes, &mut control, flags)?)
            });
            match sent {
                // They went with the first byte.
                Ok(sent) => return self.send(frame.get(sent..).unwrap_or_default()).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}
