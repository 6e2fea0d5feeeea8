//! `Hello`, the handshake: the first message in each direction, version negotiation, capabilities.

use std::time::Duration;

/// The protocol version that this crate speaks. Messages of version 2 have fields and values that
/// version 1 refuses.
pub const VERSION: u16 = 2;

/// The media type of an HTTP body that consists of frames.
pub const MEDIA_TYPE: &str = "application/vnd.pfs.frames";

/// The HTTP request header that carries frames in base64 in place of a body. The response repeats
/// the header.
pub const FRAMES: &str = "pfs-frames";

/// The HTTP request header that asks for a response which begins only after the request has ended.
/// The response repeats the header.
pub const HALF_DUPLEX: &str = "pfs-half-duplex";

/// The magic bytes: a `Hello`'s payload begins with them in every version.
pub const MAGIC: [u8; 4] = *b"pfs\0";

/// Heartbeat interval: an end with [`Hello::HEARTBEAT`] that has sent nothing for this long sends a
/// heartbeat. Shorter than the usual idle time-out of proxies, 60 seconds.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Heartbeat time-out: an end with [`Hello::HEARTBEAT`] that has waited this long and received
/// nothing treats the other end as dead.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(45);

/// Handshake: the first message in each direction, which settles the protocol version and the
/// capabilities of both ends.
///
/// The client offers a range of versions. The daemon answers with the version it picked as both
/// `min_version` and `max_version`. Bytes after the known fields are ignored, so that a later
/// version can add fields and still be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lowest protocol version that the sender speaks.
    pub min_version: u16,
    /// The highest protocol version that the sender speaks.
    pub max_version: u16,
    /// Bit set of capabilities; unknown bits are ignored.
    pub capabilities: u64,
}

impl Hello {
    /// The `Hello` of this version of pfs: offered by the client, confirmed by the daemon.
    pub const OURS: Self = Self { min_version: VERSION, max_version: VERSION, capabilities: 0 };

    /// The `Hello` of a client that only asks about the daemon, in messages that are the same in
    /// every version.
    pub const ANY: Self = Self { min_version: 1, ..Self::OURS };

    /// Capability: pass memory along with a message, and map memory received that way. Bit 1
    /// belonged to peers whose writers also shared memory, without a lease; no memory is shared
    /// with such a peer.
    pub const SHM: u64 = 256;

    /// Capability: resume reading over a new connection after one broke. The daemon then tells a
    /// reader the identity of its stream.
    pub const RESUMING: u64 = 2;

    /// Capability: send heartbeats, and detect their absence.
    pub const HEARTBEAT: u64 = 4;

    /// Capability: the request that creates a stream and appends to it
    /// ([`Request::Put`](crate::Request::Put)).
    pub const PUT: u64 = 8;

    /// Capability: follow a stream to its next ring ([`Request::Follow`](crate::Request::Follow)),
    /// and map rings that are smaller than the stream's full size. Includes reading leased rings:
    /// taking the page in which to ask for wake-ups and the event counter that wakes the holder,
    /// and understanding [`Reply::RingLeft`](crate::Reply::RingLeft). Bits 16 and 32 stood for
    /// subsets of this capability and [`LEASING`](Self::LEASING), and stay unused.
    pub const MOVING: u64 = 64;

    /// Capability: append to the stream's ring under a lease
    /// ([`Reply::LeaseOffer`](crate::Reply::LeaseOffer)), and understand
    /// [`WriterStat::leased`](crate::WriterStat::leased).
    pub const LEASING: u64 = 128;

    /// Capability: join media in the middle ([`ReadOptions::join`](crate::ReadOptions::join)), and
    /// name the header and the sync points by hand
    /// ([`WriteOptions::header_bytes`](crate::WriteOptions::header_bytes),
    /// [`Request::MarkSync`](crate::Request::MarkSync)).
    pub const JOINING: u64 = 512;

    /// Capability: replicate a stream at another daemon
    /// ([`Request::OpenLink`](crate::Request::OpenLink)).
    pub const LINKING: u64 = 1024;

    /// Returns true if the sender of this `Hello` supports links.
    pub fn can_link(&self) -> bool {
        self.capabilities & Self::LINKING != 0
    }

    /// Returns true if the sender of this `Hello` supports readers that join.
    pub fn can_join(&self) -> bool {
        self.capabilities & Self::JOINING != 0
    }

    /// Returns true if the sender of this `Hello` can hold a lease.
    pub fn can_lease(&self) -> bool {
        self.capabilities & Self::LEASING != 0
    }

    /// Returns true if the sender of this `Hello` follows streams from ring to ring.
    pub fn can_follow(&self) -> bool {
        self.capabilities & Self::MOVING != 0
    }

    /// Returns true if the sender of this `Hello` knows [`Request::Put`](crate::Request::Put).
    pub fn can_put(&self) -> bool {
        self.capabilities & Self::PUT != 0
    }

    /// Returns true if the sender of this `Hello` sends heartbeats.
    pub fn can_heartbeat(&self) -> bool {
        self.capabilities & Self::HEARTBEAT != 0
    }

    /// Returns true if the sender of this `Hello` can resume over a new connection.
    pub fn can_resume(&self) -> bool {
        self.capabilities & Self::RESUMING != 0
    }

    /// Returns true if the sender of this `Hello` can share memory.
    pub fn can_share(&self) -> bool {
        self.capabilities & Self::SHM != 0
    }

    /// Returns the version to speak with the sender of this `Hello`, or `None` if there is no
    /// version in common.
    pub fn common_version(&self) -> Option<u16> {
        (self.min_version..=self.max_version).contains(&VERSION).then_some(VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(min_version: u16, max_version: u16) -> Option<u16> {
        Hello { min_version, max_version, capabilities: u64::MAX }.common_version()
    }

    #[test]
    fn a_peer_that_speaks_our_version_is_served_in_it() {
        assert_eq!(offer(VERSION, VERSION), Some(VERSION));
        assert_eq!(offer(0, u16::MAX), Some(VERSION));
        assert_eq!(Hello::OURS.common_version(), Some(VERSION));
    }

    #[test]
    fn a_peer_without_a_version_in_common_is_refused() {
        assert_eq!(offer(VERSION + 1, VERSION + 1), None);
        assert_eq!(offer(VERSION - 1, VERSION - 1), None);
        assert_eq!(
            offer(VERSION + 1, VERSION),
            None,
            "a range whose start is past its end is empty"
        );
    }
}
