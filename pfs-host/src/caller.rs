//! Caller: the client behind a request or session, with its process, permissions and transport.

use std::net::SocketAddr;

use pfs_proto::Peer;

use crate::{owner::Owner, permissions::Permissions};

/// Logs a line at info, or at debug if the request logs a line of its own.
macro_rules! routine {
    ($in_request:expr, $($line:tt)+) => {
        if $in_request { tracing::debug!($($line)+) } else { tracing::info!($($line)+) }
    };
}
pub(crate) use routine;

/// The client that a request or session serves.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Process and user, if the transport knows them.
    pub peer: Peer,
    /// Owner of the streams that the client creates, for quotas.
    pub owner: Owner,
    /// The client's address, over a network.
    pub remote: Option<SocketAddr>,
    /// Permissions to read, write and block.
    pub permissions: Permissions,
    /// The transport as the log names it: `shm`, `unix` or `http`.
    pub transport: &'static str,
}

impl Caller {
    /// Logs a line about this client. `line` is given the pid and uid, where they are known.
    pub(crate) fn log(&self, line: impl FnOnce(Option<u32>, Option<u32>)) {
        line(self.peer.pid, self.peer.uid);
    }
}
