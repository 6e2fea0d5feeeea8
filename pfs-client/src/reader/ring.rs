//! The ring that a reader shares with the daemon, beside the connection that it came over.

use super::{Reader, Source};
use crate::ReadError;

impl Reader {
    /// Whether it reads from memory that it shares with the daemon; otherwise everything comes over the connection.
    /// Certain once it is attached.
    pub fn is_mapped(&self) -> bool {
        !matches!(self.source, Source::Connection)
    }

    /// How often the ring's bell was rung, if there is a ring. To be taken before one looks for events.
    pub(crate) fn bell_count(&self) -> Option<u32> {
        match &self.source {
            Source::Connection => None,
            #[cfg(target_os = "linux")]
            Source::Ring(ring) => Some(ring.count()),
        }
    }

    /// Fails once the ring has been read to its head: what was appended since the last look at it is not lost.
    pub(super) fn read_out(&mut self, error: ReadError) -> Result<(), ReadError> {
        if !self.is_mapped() {
            return Err(self.fail(error));
        }
        self.broken = Some(error);
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Reader {
    /// Tells the daemon that there is room, if a writer waits for that. A daemon that is gone has left the ring, which is read
    /// to its head first.
    pub(super) fn tell_room(&mut self) {
        let Source::Ring(ring) = &mut self.source else { return };
        if ring.take_made_room() && self.broken.is_none() {
            self.broken = self.connection.ring(&pfs_proto::Request::MadeRoom).err().map(ReadError::from);
        }
    }

    /// Says what could not be said to the daemon yet.
    pub(crate) async fn say(&mut self) -> Result<(), ReadError> {
        if self.connection.has_said_all() {
            return Ok(());
        }
        match std::future::poll_fn(|cx| self.connection.poll_unsaid(cx)).await {
            Ok(()) => Ok(()),
            Err(broken) => self.read_out(broken.into()),
        }
    }

    /// Whether a thread may sleep on the ring's bell: there is one, and the connection has no news.
    pub(crate) fn may_sleep(&mut self) -> Result<bool, ReadError> {
        match (&mut self.source, self.connection.passed()) {
            (Source::Ring(ring), Some(passed)) => Ok(!ring.has_news(passed).map_err(super::system)?),
            _ => Ok(false),
        }
    }

    /// Sleeps in the calling thread until the bell has been rung since the count was taken, or for a while.
    pub(crate) fn sleep(&mut self, count: u32) {
        if let Source::Ring(ring) = &mut self.source {
            ring.sleep(count);
        }
    }
}
