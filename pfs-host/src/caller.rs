//! Identity of the other end of a connection: its process, its permissions, its transport.

use std::net::SocketAddr;

use pfs_proto::Peer;

use crate::{owner::Owner, permissions::Permissions};

/// Logs a line at info, or at debug in a request that has a line of its own.
macro_rules! routine {
    ($in_request:expr, $($line:tt)+) => {
        if $in_request { tracing::debug!($($line)+) } else { tracing::info!($($line)+) }
    };
}
pub(crate) use routine;

/// The client that a request or a session is for.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Process and user, where the transport tells them.
    pub peer: Peer,
    /// To whom the streams that it creates are charged.
    pub owner: Owner,
    /// Its address, over a network.
    pub remote: Option<SocketAddr>,
    /// Streams that it may read and write.
    pub permissions: Permissions,
    /// The transport as the log names it: `shm`, `unix` or `http`.
    pub transport: &'static str,
}

impl Caller {
    /// Logs a line about this client, which has its pid and uid where they are known.
    pub(crate) fn log(&self, line: impl FnOnce(Option<u32>, Option<u32>)) {
        line(self.peer.pid, self.peer.uid);
    }
}
