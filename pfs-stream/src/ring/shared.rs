//! Rings that are shared with another process.

use std::{io, os::fd::OwnedFd};

use pfs_proto::{RingLayout, ShmStart};

use super::{Layout, Memory, Ring, RingReader, Sharing};
use crate::sync::Arc;

impl Ring {
    /// Maps a ring of another process for reading.
    pub(crate) fn open(file: OwnedFd, layout: RingLayout) -> io::Result<Self> {
        let layout = Layout::from_told(layout).ok_or(io::ErrorKind::InvalidData)?;
        let memory = Memory::open(file, layout.words(), Sharing::ReadOnly)?;
        Ok(Self { layout, memory: Arc::new(memory.into()) })
    }

    /// Maps a ring of another process for appending.
    pub(crate) fn open_to_write(file: OwnedFd, layout: RingLayout) -> io::Result<Self> {
        let layout = Layout::from_told(layout).ok_or(io::ErrorKind::InvalidData)?;
        let memory = Memory::open(file, layout.words(), Sharing::Writable)?;
        memory.keep_from_children()?;
        Ok(Self { layout, memory: Arc::new(memory.into()) })
    }

    /// Takes memory for a ring that one other process may append to.
    pub(crate) fn leasable(layout: Layout) -> io::Result<Self> {
        let memory = Memory::writable_at_first(layout.words())?;
        Ok(Self { layout, memory: Arc::new(memory.into()) })
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl RingReader {
    /// Whether the stream has moved to another ring, and this reader has read all of this one.
    pub(crate) fn is_at_end_of_left_ring(&self) -> bool {
        self.ring.status().moved() && self.ring.head_seq() == self.seq
    }

    /// What a reader in another process must know to continue from here.
    pub(crate) fn to_start(&self) -> ShmStart {
        ShmStart {
            layout: self.ring.layout.to_tell(),
            channel_buffer_size: self.channel_buffer_size,
            seq: self.seq,
            offset: self.offset,
            missing: self.missing,
            policy: self.policy,
            until: self.until,
            head: self.head_at_attach,
            deaths_before: self.deaths_before,
            live: self.live,
            leased: false,
        }
    }

    pub(crate) fn from_start(ring: Ring, start: &ShmStart) -> Self {
        Self {
            ring,
            seq: start.seq,
            offset: start.offset,
            begun: None,
            missing: start.missing,
            policy: start.policy,
            until: start.until,
            head_at_attach: start.head,
            deaths_before: start.deaths_before,
            channel_buffer_size: start.channel_buffer_size,
            live: start.live,
            hazard: None,
        }
    }
}
