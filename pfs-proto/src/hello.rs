//! The first message in each direction, and how the two ends find a version in common.

use std::time::Duration;

/// The version of the protocol that this crate speaks. In version 2, messages have fields and
/// values that version 1 refuses.
pub const VERSION: u16 = 2;

/// The media type of frames as a body of HTTP.
pub const MEDIA_TYPE: &str = "application/vnd.pfs.frames";

/// The header of a request over HTTP that has frames in base64, in place of a body. The response
/// has it too.
pub const FRAMES: &str = "pfs-frames";

/// The header of a request over HTTP whose response is to begin when the request has ended. The
/// response has it too.
pub const HALF_DUPLEX: &str = "pfs-half-duplex";

/// The first bytes of a `Hello`'s payload, in every version.
pub const MAGIC: [u8; 4] = *b"pfs\0";

/// An end with [`Hello::HEARTBEAT`] that has sent nothing for so long sends a heartbeat. Less than
/// the idle time-out of any usual proxy, which is 60 seconds.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// An end with [`Hello::HEARTBEAT`] that has received nothing for so long, although it waited,
/// takes the other end for dead.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(45);

/// First message in each direction; settles the version and what both ends can do.
///
/// The client offers a range of versions, the daemon answers with the one it picked as both
/// `min_version` and `max_version`. Bytes behind the known fields are ignored, so that a later
/// version can say more and still be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest protocol version spoken.
    pub min_version: u16,
    /// Highest protocol version spoken.
    pub max_version: u16,
    /// Bit set of abilities; unknown bits are ignored.
    pub capabilities: u64,
}

impl Hello {
    /// What this version of pfs says: the client to offer it, the daemon to confirm it.
    pub const OURS: Self = Self { min_version: VERSION, max_version: VERSION, capabilities: 0 };

    /// What a client says that only asks about the daemon, in messages that are the same in every
    /// version.
    pub const ANY: Self = Self { min_version: 1, ..Self::OURS };

    /// The ability to pass memory along with a message, and to map what was passed. Bit 1 was that
    /// of peers whose writers also shared memory without a lease. With such a peer none is
    /// shared.
    pub const SHM: u64 = 256;

    /// To go on reading over a new connection when one broke: the daemon then tells a reader which
    /// stream it reads.
    pub const RESUMING: u64 = 2;

    /// To send heartbeats, and to notice their absence.
    pub const HEARTBEAT: u64 = 4;

    /// The request that makes a stream and appends to it ([`Request::Put`](crate::Request::Put)).
    pub const PUT: u64 = 8;

    /// To follow a stream to its next ring ([`Request::Follow`](crate::Request::Follow)), and to
    /// map rings that are smaller than the stream's full size. Also to read leased rings: to
    /// take the page in which to ask for wake-ups and the event counter that wakes the
    /// holder, and [`Reply::RingLeft`](crate::Reply::RingLeft). Bits 16 and 32 stood for less than
    /// this and [`LEASING`](Self::LEASING), and stay unused.
    pub const MOVING: u64 = 64;

    /// To append to the stream's ring under a lease
    /// ([`Reply::LeaseOffer`](crate::Reply::LeaseOffer)), and to take
    /// [`WriterStat::leased`](crate::WriterStat::leased).
    pub const LEASING: u64 = 128;

    /// Whether the peer that sent this can hold a lease.
    pub fn can_lease(&self) -> bool {
        self.capabilities & Self::LEASING != 0
    }

    /// Whether the peer that sent this follows streams from ring to ring.
    pub fn can_follow(&self) -> bool {
        self.capabilities & Self::MOVING != 0
    }

    /// Whether the peer that sent this knows [`Request::Put`](crate::Request::Put).
    pub fn can_put(&self) -> bool {
        self.capabilities & Self::PUT != 0
    }

    /// Whether the peer that sent this sends heartbeats.
    pub fn can_heartbeat(&self) -> bool {
        self.capabilities & Self::HEARTBEAT != 0
    }

    /// Whether the peer that sent this can go on over a new connection.
    pub fn can_resume(&self) -> bool {
        self.capabilities & Self::RESUMING != 0
    }

    /// Whether the peer that sent this can share memory.
    pub fn can_share(&self) -> bool {
        self.capabilities & Self::SHM != 0
    }

    /// The version to speak with the peer that sent this, or `None` if there is none in common.
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
    fn a_peer_is_served_in_our_version_if_it_speaks_it() {
        assert_eq!(offer(VERSION, VERSION), Some(VERSION));
        assert_eq!(offer(0, u16::MAX), Some(VERSION));
        assert_eq!(Hello::OURS.common_version(), Some(VERSION));
    }

    #[test]
    fn a_peer_without_a_version_in_common_is_refused() {
        assert_eq!(offer(VERSION + 1, VERSION + 1), None);
        assert_eq!(offer(VERSION - 1, VERSION - 1), None);
        assert_eq!(offer(VERSION + 1, VERSION), None, "a range with its ends swapped is empty");
    }
}
