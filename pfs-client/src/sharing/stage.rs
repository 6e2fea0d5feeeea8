//! Putting chunks where the daemon looks for them.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pfs_proto::Request;
use pfs_stream::staging::{MAX_STAGED, StagingWriter};
use rustix::time::{ClockId, clock_gettime};

use super::Passed;
use crate::connection::say;

/// What is pushed is held back until it is so much, in bytes.
pub(super) const ENOUGH: u64 = 64 << 10;

/// How often a writer that need not wait for the daemon reads the connection all the same: it learns there that the daemon is gone, or
/// has an offer.
const LISTEN_INTERVAL: Duration = Duration::from_millis(100);

/// The writer's side of a staging area. What the daemon must be told goes to the queue of the connection.
#[derive(Debug)]
pub(crate) struct Stage {
    area: StagingWriter,
    /// When the daemon was last listened to.
    seen: Duration,
}

impl Stage {
    /// In the memory that came along.
    pub(crate) fn open(passed: &Passed) -> io::Result<Self> {
        let area = StagingWriter::open(passed.take()?)?;
        Ok(Self { area, seen: now() })
    }

    /// Whether chunks of this size can go through it.
    pub(crate) fn takes(&self, len: usize) -> bool {
        (1..=MAX_STAGED).contains(&len)
    }

    /// Chunks that the daemon has appended, whichever way they came.
    pub(crate) fn appended(&self) -> u64 {
        self.area.appended()
    }

    /// Readers that the newest of them found attached.
    pub(crate) fn readers(&self) -> u32 {
        self.area.readers()
    }

    /// Whether the daemon has given up. Why is to be heard over the connection.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.area.is_abandoned()
    }

    pub(crate) fn try_push(&mut self, chunk: &[u8]) -> bool {
        self.area.try_push(chunk)
    }

    /// Reads once from a file into it; `None` if there is no room for so much.
    pub(crate) fn try_push_from(&mut self, file: BorrowedFd<'_>, most: usize) -> io::Result<Option<usize>> {
        self.area.try_push_from(file, most.min(MAX_STAGED))
    }

    /// Lets the daemon have what is staged. If it sleeps, it must be rung.
    pub(crate) fn publish(&mut self) {
        self.area.publish();
    }

    /// Whether so much is held back that the daemon should begin with it.
    pub(crate) fn holds_enough(&self) -> bool {
        self.area.held_back() >= ENOUGH
    }

    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.area.pending() <= StagingWriter::pending_with_room_for(len.min(MAX_STAGED))
    }

    /// Lets the daemon have what is staged, and queues a ring for it if it sleeps. Returns whether the connection is to be listened to: a
    /// daemon that was killed at work will never ask to be rung.
    pub(crate) fn ring(&mut self, queue: &mut Vec<u8>) -> bool {
        self.area.publish();
        if self.area.consumer_is_to_be_rung() {
            say(&Request::Staged, queue);
        }
        is_due(&mut self.seen)
    }

    /// Asks the daemon to ring when a chunk of this size has room.
    pub(crate) fn wait_for_room(&mut self, len: usize, queue: &mut Vec<u8>) {
        self.ring(queue);
        self.area.may_sleep(StagingWriter::pending_with_room_for(len.min(MAX_STAGED)));
    }

    /// Asks the daemon to ring when something is appended, as long as there is something.
    pub(crate) fn wait_for_all(&mut self, queue: &mut Vec<u8>) {
        self.ring(queue);
        self.area.may_sleep(0);
    }
}

/// Whether it is time to read the connection; true once in each interval. `seen` is when it was true last.
pub(super) fn is_due(seen: &mut Duration) -> bool {
    let now = now();
    let is_due = now.saturating_sub(*seen) >= LISTEN_INTERVAL;
    if is_due {
        *seen = now;
    }
    is_due
}

/// The time since the system's start, as of the last tick of its clock: that costs a part of what the exact time does.
pub(super) fn now() -> Duration {
    clock_gettime(ClockId::MonotonicCoarse).try_into().unwrap_or_default()
}
