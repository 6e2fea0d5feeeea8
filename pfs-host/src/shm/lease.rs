//! Lease of a writer, as the writer's connection sees it: offer, grant and end.
//!
//! Without a lease, each chunk is copied twice and wakes two processes. With a lease, the writer
//! appends to the ring itself. The daemon offers the stream's next ring to a writer that appends
//! much and is the only writer. The writer maps the ring and confirms that, the stream moves to
//! that ring, and the lease begins. The stream may end the lease at any time. The writer then
//! appends over its connection as before, and may get another lease later.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use pfs_proto::Reply;
use pfs_stream::{
    Writer,
    lease::{Grant, LeaseEnd, Offer},
};
use tokio::time::Instant;

use crate::{media::Index, published::Published, transport::Transport, wire::Wire};

/// A lease is offered after a writer has appended this many bytes, and at least as many as the
/// stream held when counting began: to grant a lease, the daemon copies everything that the
/// stream holds.
const OFFER_AFTER_BYTES: u64 = 1024 * 1024;

/// A lease is also offered to a writer that has appended this many chunks within [`OFFER_WINDOW`],
/// because a lease saves one wake-up per chunk.
const OFFER_AFTER_CHUNKS: u64 = 1000;
const OFFER_WINDOW: Duration = Duration::from_secs(2);

/// Back-off before the next offer, after a lease ended because another client needed the stream.
/// The back-off doubles with each such end, up to [`MAX_BACKOFF`], because a lease costs two copies
/// of everything that the stream holds. A lease that lasted longer than [`MAX_BACKOFF`] resets it.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// Interval at which the daemon checks for appends of the holder, and wakes sleeping readers: a
/// holder may be stopped after it has published a chunk and before it wakes the readers. The
/// interval doubles up to [`MAX_OBSERVE_INTERVAL`] while there are no appends.
const MIN_OBSERVE_INTERVAL: Duration = Duration::from_millis(100);
const MAX_OBSERVE_INTERVAL: Duration = Duration::from_mins(1);

/// State of a writer's lease.
#[derive(Debug)]
pub(crate) struct Lease {
    state: State,
    /// When counting for the next offer began; `None` if it begins at the next check.
    from: Option<Mark>,
    pause: Duration,
    /// Earliest time of the next offer.
    next: Option<Instant>,
    look: Duration,
    /// Number of the holder's chunks at the last check.
    seen: u64,
}

/// What the writer had appended when counting began. Time and chunks restart with each window.
#[derive(Clone, Copy, Debug)]
struct Mark {
    bytes: u64,
    /// Bytes that the stream held.
    held: u64,
    chunks: u64,
    at: Instant,
}

#[derive(Debug)]
enum State {
    /// No lease is offered: the client does not support leases, could not map a ring, or has
    /// corrupted one.
    Never,
    Without,
    Offered(Box<Offer>),
    Held {
        since: Instant,
    },
}

impl Lease {
    /// Creates the state for a client that can hold leases, or cannot.
    pub(crate) fn new(can_hold: bool) -> Self {
        let state = if can_hold { State::Without } else { State::Never };
        Self {
            state,
            from: None,
            pause: MIN_BACKOFF,
            next: None,
            look: MIN_OBSERVE_INTERVAL,
            seen: 0,
        }
    }

    /// Whether the writer holds the lease.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Offers a lease to a writer that has appended `chunks` and `bytes` in total, if an offer is
    /// due and possible.
    pub(crate) async fn offer<T: Transport>(
        &mut self,
        wire: &mut Wire<T>,
        writer: &Writer,
        chunks: u64,
        bytes: u64,
    ) -> io::Result<()> {
        if !self.is_due(writer, chunks, bytes) {
            return Ok(());
        }
        self.from = None;
        let Some(offer) = writer.offer_lease() else { return Ok(()) };
        let reply = Reply::LeaseOffer(offer.layout());
        let [asleep, room] = offer.wake_files();
        if wire.try_send_with(&reply, &[offer.ring(), asleep, room]).await? {
            self.state = State::Offered(Box::new(offer));
        }
        Ok(())
    }

    fn is_due(&mut self, writer: &Writer, chunks: u64, bytes: u64) -> bool {
        let State::Without = self.state else { return false };
        let mark = || Mark { bytes, held: writer.held(), chunks, at: Instant::now() };
        let from = self.from.get_or_insert_with(mark);
        let (many, much) = (chunks.saturating_sub(from.chunks), bytes.saturating_sub(from.bytes));
        if many < OFFER_AFTER_CHUNKS && much < OFFER_AFTER_BYTES {
            return false;
        }
        let now = Instant::now();
        let is_often = many >= OFFER_AFTER_CHUNKS && now.duration_since(from.at) <= OFFER_WINDOW;
        if many >= OFFER_AFTER_CHUNKS {
            (from.chunks, from.at) = (chunks, now);
        }
        let may = self.next.is_none_or(|next| next <= now);
        may && (is_often || much >= OFFER_AFTER_BYTES.max(from.held))
    }

    /// Grants the lease after the client has mapped the offered ring. `None` if nothing was
    /// offered, `Some(None)` if the lease is no longer possible.
    pub(crate) fn grant(&mut self, writer: &mut Writer) -> Option<Option<Grant>> {
        let State::Offered(offer) = std::mem::replace(&mut self.state, State::Without) else {
            return None;
        };
        let grant = writer.grant_lease(*offer);
        if grant.is_some() {
            (self.state, self.look, self.seen) =
                (State::Held { since: Instant::now() }, MIN_OBSERVE_INTERVAL, 0);
        }
        Some(grant)
    }

    /// Notes that the client cannot map the offered ring; no lease is offered again. Returns false
    /// if nothing was offered.
    pub(crate) fn cannot_map(&mut self) -> bool {
        let was_offered = matches!(self.state, State::Offered(_));
        if was_offered {
            self.state = State::Never;
        }
        was_offered
    }

    /// Waits until the lease has ended, and returns the totals of the appends under it. Pending for
    /// ever if no lease is held. Meanwhile checks the ring from time to time.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    pub(crate) async fn ended(&mut self, writer: &mut Writer) -> Published {
        loop {
            let ended =
                poll_fn(
                    |cx| if self.is_held() { writer.poll_lease_end(cx) } else { Poll::Pending },
                );
            match tokio::time::timeout(self.look, ended).await {
                Ok(end) => return self.over(&end),
                Err(_) => self.look(writer),
            }
        }
    }

    /// Wakes sleeping readers if the holder has appended since the last check.
    fn look(&mut self, writer: &Writer) {
        let Some(LeaseEnd { chunks, .. }) = writer.look_at_holder() else { return };
        self.look = if chunks > self.seen {
            writer.wake_for_holder();
            Index::catch_up(writer);
            MIN_OBSERVE_INTERVAL
        } else {
            self.look.saturating_mul(2).min(MAX_OBSERVE_INTERVAL)
        };
        self.seen = chunks;
    }

    /// Totals of the appends under the lease so far; `None` if no lease is held.
    pub(crate) fn so_far(&self, writer: &Writer) -> Option<Published> {
        writer.look_at_holder().filter(|_| self.is_held()).map(Published::from)
    }

    /// Ends the lease, if one is held, and returns the totals of the appends under it.
    pub(crate) fn end(&mut self, writer: &mut Writer) -> Option<Published> {
        if !self.is_held() {
            return None;
        }
        let end = writer.end_lease()?;
        Some(self.over(&end))
    }

    fn over(&mut self, end: &LeaseEnd) -> Published {
        let now = Instant::now();
        if let State::Held { since } = self.state {
            let lasted = now.duration_since(since);
            self.pause = if lasted > MAX_BACKOFF { MIN_BACKOFF } else { self.pause };
            self.next = now.checked_add(self.pause);
            self.pause = self.pause.saturating_mul(2).min(MAX_BACKOFF);
        }
        self.state = State::Without;
        if let Some(violation) = end.violation {
            tracing::warn!(%violation, "a writer corrupted the ring that it leased, and gets no further lease");
            self.state = State::Never;
        }
        Published::from(*end)
    }

    /// Wakes readers in the daemon that sleep, after the holder has appended.
    pub(crate) fn published(writer: &Writer) {
        writer.holder_published();
    }

    /// Waits until the holder may overwrite everything before chunk `up_to`, or has no lease
    /// any more.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    pub(crate) async fn room(&self, writer: &mut Writer, up_to: u64) {
        if self.is_held() {
            writer.room_for_holder(up_to).await;
        }
    }
}

impl From<LeaseEnd> for Published {
    fn from(LeaseEnd { chunks, bytes, offset, .. }: LeaseEnd) -> Self {
        Self { chunks, bytes, offset }
    }
}
