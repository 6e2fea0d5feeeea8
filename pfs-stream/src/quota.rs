//! Quotas: limits on the streams of one owner in a registry.

use crate::{Budget, CreateError, Limits, Reservation, Stream, stream};

/// Limits on the streams that are [charged](crate::Registry::charged_to) to this quota, in addition
/// to the limits of their registry. Clones share the count.
///
/// A stream is charged until its memory is given back. A removed stream that other processes map is
/// charged until the last of them has left. A stream may replace one of the same quota even if the
/// quota is full: until other processes have left the replaced stream, one more stream than allowed
/// is charged.
#[derive(Clone, Debug)]
pub struct Quota {
    streams: Budget,
    pub(crate) memory: Budget,
}

impl Quota {
    /// A quota with nothing in use.
    pub fn new(limits: Limits) -> Self {
        let Limits { max_streams, max_memory } = limits;
        Self { streams: Budget::new(max_streams as u64), memory: Budget::new(max_memory) }
    }

    /// Changes the limits for streams that are charged from now on. Existing streams stay.
    pub fn set_limits(&self, limits: Limits) {
        let Limits { max_streams, max_memory } = limits;
        self.streams.set_limit(max_streams as u64);
        self.memory.set_limit(max_memory);
    }

    /// The number of streams charged to this quota.
    pub fn streams(&self) -> u64 {
        self.streams.used()
    }

    /// Bytes of memory of these streams.
    pub fn memory(&self) -> u64 {
        self.memory.used()
    }

    /// Whether no stream is charged to this quota, and no other handle could charge one.
    pub fn is_idle(&self) -> bool {
        self.streams.is_idle() && self.memory.is_idle()
    }

    /// Charges a stream of `needed` bytes. The new stream takes the name of `replaced`, if given.
    pub(crate) fn charge(
        &self,
        needed: u64,
        replaced: Option<&Stream>,
    ) -> Result<[Reservation; 2], CreateError> {
        let (used, limit) = (self.streams.used(), self.streams.limit());
        let spared = replaced.map_or(0, |stream| stream.shared.reserved_from(&self.streams));
        let stream = self.streams.reserve_beyond(1, spared);
        let stream = stream.ok_or(CreateError::QuotaOfStreams { used, limit })?;
        let (used, limit) = (self.memory.used(), self.memory.limit());
        let memory = self.memory.reserve_beyond(needed, stream::spared(replaced, &self.memory));
        let memory = memory.ok_or(CreateError::QuotaOfMemory { needed, used, limit })?;
        Ok([stream, memory])
    }
}
