//! Who is at the other end of a connection.

use pfs_proto::Peer;

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Their process and user, where known.
    pub peer: Peer,
}

impl Client {
    /// Logs something about this client: every line has its pid and uid, where known.
    pub fn log(&self, line: impl FnOnce(Option<u32>, Option<u32>)) {
        line(self.peer.pid, self.peer.uid);
    }
}
