//! Shm reading: the ring buffer that a reader shares with the daemon.

#[cfg(target_os = "linux")]
use std::task::{Context, Poll, Waker};

#[cfg(target_os = "linux")]
use pfs_proto::{Request, RingLayout};

#[cfg(target_os = "linux")]
use super::READ_BYTES;
use super::{Reader, Source};
#[cfg(target_os = "linux")]
use crate::RequestError;
use crate::{ReadError, shm::NotifyCount};

impl Reader {
    /// Returns true if the reader reads from memory shared with the daemon, false if all chunks
    /// come over the connection. The answer is final once the reader is attached.
    pub fn is_shm(&self) -> bool {
        !matches!(self.source, Source::Connection)
    }

    /// The number of notifications of the ring buffer's notifier, if there is a ring buffer. Take
    /// the count before looking for events; otherwise a notification in between is missed.
    pub(crate) fn notify_count(&self) -> Option<NotifyCount> {
        match &self.source {
            Source::Connection => None,
            #[cfg(target_os = "linux")]
            Source::Ring(ring) => Some(ring.count()),
        }
    }

    /// Fails the reader. An shm reader first reads the ring buffer to its head, so the chunks
    /// appended since its last look are not lost.
    pub(super) fn read_out(&mut self, error: ReadError) -> Result<(), ReadError> {
        if !self.is_shm() {
            return Err(self.fail(error));
        }
        self.broken = Some(error);
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Reader {
    /// Tells the daemon that the reader made room, if a writer waits for room. If the daemon is
    /// gone, the reader still reads the ring buffer to its head before it fails.
    pub(super) fn tell_room(&mut self) {
        let Source::Ring(ring) = &mut self.source else { return };
        if ring.take_made_room() && self.broken.is_none() {
            self.broken = self.connection.notify(&Request::MadeRoom).err().map(ReadError::from);
        }
    }

    /// Asks the daemon for the next ring buffer once the stream has left this one and the reader
    /// has read all of it. Returns true when the reader has the next ring buffer, or reads from the
    /// connection instead.
    pub(super) fn follow(&mut self) -> Result<bool, ReadError> {
        let Source::Ring(ring) = &mut self.source else { return Ok(true) };
        if self.broken.is_some() || !ring.has_to_follow() {
            return Ok(false);
        }
        if ring.asks()
            && let Err(lost) = self.connection.notify(&Request::Follow)
        {
            self.broken = Some(lost.into());
            return Ok(false);
        }
        // The answer may have arrived already. A caller that waits for the answer polls
        // the connection.
        match self.connection.poll_fill(&mut Context::from_waker(Waker::noop()), READ_BYTES) {
            Poll::Ready(Ok(())) => self.hear()?,
            Poll::Ready(Err(lost)) => self.broken = Some(lost.into()),
            Poll::Pending => {}
        }
        Ok(!matches!(&self.source, Source::Ring(ring) if ring.has_to_follow()))
    }

    /// Returns true if the reader has asked for the next ring buffer. By then the reader has
    /// returned everything in the old one.
    pub(super) fn is_asking(&self) -> bool {
        matches!(&self.source, Source::Ring(ring) if ring.is_asking())
    }

    /// Processes the messages that have arrived over the connection.
    pub(super) fn hear(&mut self) -> Result<(), ReadError> {
        match self.decoded() {
            Ok(event) => self.next_event = event,
            Err(error) => self.read_out(error)?,
        }
        Ok(())
    }

    /// Continues in the next ring buffer, or over the connection if the ring buffer cannot
    /// be mapped.
    pub(super) fn goes_on_in(
        &mut self,
        layout: RingLayout,
        leased: bool,
    ) -> Result<(), RequestError> {
        let (Source::Ring(ring), Some(passed)) = (&mut self.source, self.connection.passed())
        else {
            return Ok(());
        };
        if ring.follow(layout, leased, passed).is_err() {
            self.leave_ring();
            self.connection.notify(&Request::CannotMap)?;
        }
        Ok(())
    }

    /// Stops reading the ring buffer. The daemon sends the rest over the connection.
    pub(super) fn leave_ring(&mut self) {
        if let Source::Ring(ring) = std::mem::replace(&mut self.source, Source::Connection) {
            self.watch = ring.into_watch();
        }
    }

    /// Sends the messages to the daemon that could not be sent before.
    pub(crate) async fn say(&mut self) -> Result<(), ReadError> {
        if self.connection.has_said_all() {
            return Ok(());
        }
        match std::future::poll_fn(|cx| self.connection.poll_unsaid(cx)).await {
            Ok(()) => Ok(()),
            Err(broken) => self.read_out(broken.into()),
        }
    }

    /// Returns true if a thread may sleep on the notifier: the reader has a ring buffer, and the
    /// connection has no messages.
    pub(crate) fn may_sleep(&mut self) -> Result<bool, ReadError> {
        match (&mut self.source, self.connection.passed()) {
            (Source::Ring(ring), Some(passed)) => {
                Ok(!ring.is_asking() && !ring.has_news(passed).map_err(super::system)?)
            }
            _ => Ok(false),
        }
    }

    /// Blocks the thread until the notifier was notified after `count` was taken, or until
    /// a timeout.
    pub(crate) fn sleep(&mut self, count: NotifyCount) {
        if let Source::Ring(ring) = &mut self.source {
            ring.sleep(count);
        }
    }
}
