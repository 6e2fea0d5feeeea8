//! Identity of the other end of a connection: its process, its permissions, its transport.

use pfs_proto::Peer;

use crate::permissions::Permissions;

/// The client that a request or a session is for.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Process and user, where the transport tells them.
    pub peer: Peer,
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
