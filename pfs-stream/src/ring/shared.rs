//! A ring that another process reads: opening it there, and waking who sleeps there.

use std::{io, os::fd::OwnedFd, sync::atomic::AtomicU32, time::Duration};

use pfs_proto::{MappedStart, RingLayout};
use rustix::thread::futex::{self, Flags, Timespec};

use super::{Layout, Memory, Ring, RingReader, Sharing, layout};
use crate::sync::{
    Arc,
    Ordering::{Acquire, Release},
};

impl Ring {
    /// Maps a ring of another process, to read it.
    pub(crate) fn open(file: OwnedFd, layout: RingLayout) -> io::Result<Self> {
        let layout = Layout::from_told(layout).ok_or(io::ErrorKind::InvalidData)?;
        let memory = Memory::open(file, layout.words(), Sharing::ReadOnly)?;
        Ok(Self { layout, memory: Arc::new(memory.into()) })
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    fn bell(&self) -> &AtomicU32 {
        self.memory.futex(layout::BELL)
    }

    pub(crate) fn bell_count(&self) -> u32 {
        self.bell().load(Acquire)
    }

    /// Rings: whoever took the count before this wakes, or does not fall asleep. After the news is published.
    pub(crate) fn ring_bell(&self) {
        self.bell().fetch_add(1, Release);
        self.rouse();
    }

    pub(crate) fn rouse(&self) {
        // Fails for a word that is not mapped, and ours is.
        let _ = futex::wake(self.bell(), Flags::empty(), i32::MAX as u32);
    }

    pub(crate) fn sleep(&self, count: u32, most: Option<Duration>) {
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        // Whatever ends it, a signal included, the caller looks again.
        let _ = futex::wait(self.bell(), Flags::empty(), count, most.as_ref());
    }
}

impl RingReader {
    /// Whether nothing is left to be read in a ring that the stream has left.
    pub(crate) fn is_at_end_of_left_ring(&self) -> bool {
        self.ring.status().moved() && self.ring.load(layout::HEAD_SEQ, Acquire) == self.seq
    }

    /// What a reader elsewhere must know to read on from here.
    pub(crate) fn to_start(&self) -> MappedStart {
        MappedStart {
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
        }
    }

    pub(crate) fn from_start(ring: Ring, start: &MappedStart) -> Self {
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
            seat: None,
        }
    }
}
