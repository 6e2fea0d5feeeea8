//! The ring that a reader shares with the daemon, beside the connection that it came over.

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
    /// Whether it reads from memory that it shares with the daemon; otherwise everything comes over
    /// the connection. Certain once it is attached.
    pub fn is_shm(&self) -> bool {
        !matches!(self.source, Source::Connection)
    }

    /// How often the ring's notifier was notified, if there is a ring. To be taken before one looks
    /// for events.
    pub(crate) fn notify_count(&self) -> Option<NotifyCount> {
        match &self.source {
            Source::Connection => None,
            #[cfg(target_os = "linux")]
            Source::Ring(ring) => Some(ring.count()),
        }
    }

    /// Fails once the ring has been read to its head: what was appended since the last look at it
    /// is not lost.
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
    /// Tells the daemon that there is room, if a writer waits for that. A daemon that is gone has
    /// left the ring, which is read to its head first.
    pub(super) fn tell_room(&mut self) {
        let Source::Ring(ring) = &mut self.source else { return };
        if ring.take_made_room() && self.broken.is_none() {
            self.broken = self.connection.notify(&Request::MadeRoom).err().map(ReadError::from);
        }
    }

    /// Asks the daemon for the next ring once the stream has left this one and the reader has read
    /// all of it. Returns true when the reader has the next ring, or reads from the connection
    /// instead.
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
        // The answer may be here already. Who waits for it polls the connection.
        match self.connection.poll_fill(&mut Context::from_waker(Waker::noop()), READ_BYTES) {
            Poll::Ready(Ok(())) => self.hear()?,
            Poll::Ready(Err(lost)) => self.broken = Some(lost.into()),
            Poll::Pending => {}
        }
        Ok(!matches!(&self.source, Source::Ring(ring) if ring.has_to_follow()))
    }

    /// Whether it has asked for the next ring. It has handed on all of the one before then.
    pub(super) fn is_asking(&self) -> bool {
        matches!(&self.source, Source::Ring(ring) if ring.is_asking())
    }

    /// Takes what has come over the connection.
    pub(super) fn hear(&mut self) -> Result<(), ReadError> {
        match self.decoded() {
            Ok(event) => self.next_event = event,
            Err(error) => self.read_out(error)?,
        }
        Ok(())
    }

    /// Goes on in this ring; over the connection, if it cannot be mapped.
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

    /// Stops reading the ring. The daemon sends the rest over the connection.
    pub(super) fn leave_ring(&mut self) {
        if let Source::Ring(ring) = std::mem::replace(&mut self.source, Source::Connection) {
            self.watch = ring.into_watch();
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

    /// Whether a thread may sleep on the ring's notifier: there is one, and the connection has no
    /// news.
    pub(crate) fn may_sleep(&mut self) -> Result<bool, ReadError> {
        match (&mut self.source, self.connection.passed()) {
            (Source::Ring(ring), Some(passed)) => {
                Ok(!ring.is_asking() && !ring.has_news(passed).map_err(super::system)?)
            }
            _ => Ok(false),
        }
    }

    /// Sleeps in the calling thread until the notifier has been notified since the count was taken,
    /// or for a while.
    pub(crate) fn sleep(&mut self, count: NotifyCount) {
        if let Source::Ring(ring) = &mut self.source {
            ring.sleep(count);
        }
    }
}
