//! Mounts whose streams belong to another daemon: everything that changes a stream goes there.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use pfs_proto::{Hop, MountStat, Reply, Request, StreamPath, StreamStat, WriteOptions};

use super::Answer;
use crate::Failure;

/// The daemon that owns the streams of a mount.
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// Passes a request on: `Create`, `Put`, `Close`, `CloseFailed` or `Remove`. Its path is one of
    /// the mount. Returns the reply, which is not an error.
    fn ask(&self, request: Request) -> Answer<'_, Reply>;

    /// Follows the mount to the daemon that owns the streams. `hops` led here. Fails if a daemon
    /// finds itself on the way.
    fn trace(&self, hops: Vec<Hop>) -> Answer<'_, ()>;

    /// Counters and clients of a stream at the owner, and the mounts on the way there.
    fn stat<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, StreamStat>;

    /// The mount and its links.
    fn mount_stat(&self) -> Pin<Box<dyn Future<Output = MountStat> + Send + '_>>;

    /// Attaches a writer. Returns its connection, and the largest chunk that the stream takes.
    fn write<'a>(
        &'a self,
        path: &'a StreamPath,
        options: WriteOptions,
    ) -> Answer<'a, (Box<dyn Relay>, u64)>;
}

/// The connection of a writer at the owner. A writer that is dropped before the reply
/// [`Reply::Done`] has died.
pub trait Relay: fmt::Debug + Send {
    /// Whether the owner knows [`Request::MarkSync`].
    fn can_mark(&self) -> bool;

    /// Sends the encoded messages in `out`, and takes what was sent out of it. Ready with the next
    /// reply, which is not an error, or with `None` when `out` has become empty.
    ///
    /// # Errors
    ///
    /// The owner refuses the writer, or cannot be reached any more.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Result<Option<Reply>, Failure>>;
}
