//! A writer's lease, as its connection sees it: when it is offered, granted and ended.
//!
//! Without a lease, each chunk is copied twice and wakes two processes. A writer that appends much,
//! and is the only one, is offered the stream's next ring. It maps that and says so, the stream
//! moves there, and from then on the writer appends by itself. The stream ends the lease whenever
//! it has to; the writer then appends as before, and may get another lease later.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use pfs_proto::Reply;
use pfs_stream::{
    Writer,
    lease::{Grant, LeaseEnd, Offer},
};
use tokio::time::Instant;

use crate::{published::Published, transport::Transport, wire::Wire};

/// A writer that has appended this many bytes is offered a ring, but not before it has appended as
/// many as the stream held when counting began: to grant a lease, the daemon copies what the stream
/// holds.
const OFFER_AFTER_BYTES: u64 = 1024 * 1024;

/// A writer that has appended this many chunks within this time is offered a ring, too: with a
/// lease, each chunk needs a wake-up less.
const OFFER_AFTER_CHUNKS: u64 = 1000;
const OFFER_WINDOW: Duration = Duration::from_secs(2);

/// The pause before the next offer, after a lease has ended because another client needed the
/// stream. It doubles with each such end, up to the longest, because a lease costs two copies of
/// what the stream holds. After a lease that lasted longer it is the first one again.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// Time between two looks at what the holder has appended, for those who sleep: a holder that is
/// stopped after it has published a chunk, and before it wakes them, does not keep them asleep.
/// Doubled up to the longest while nothing comes.
const MIN_OBSERVE_INTERVAL: Duration = Duration::from_millis(100);
const MAX_OBSERVE_INTERVAL: Duration = Duration::from_mins(1);

/// The lease of a writer, or the way to one.
#[derive(Debug)]
pub(crate) struct Lease {
    state: State,
    /// Where counting began; `None` if it begins with the next look.
    from: Option<Mark>,
    pause: Duration,
    /// Not before this.
    next: Option<Instant>,
    look: Duration,
    /// Chunks at the last look.
    seen: u64,
}

/// What the writer had appended when counting began: bytes, and chunks with the time.
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
    /// None is offered: the client can hold none, could not map the ring, or has spoiled one.
    Never,
    Without,
    Offered(Box<Offer>),
    Held {
        since: Instant,
    },
}

impl Lease {
    /// For a client that can hold one, or cannot.
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

    /// Whether the writer appends by itself.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Offers a ring to a writer that has appended so much in all, if it is time for that and
    /// possible.
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

    /// The client has mapped the ring that it was offered: where the lease begins, if it is still
    /// possible. `None` if it was offered nothing.
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

    /// The client cannot map what it was offered, and is offered nothing more. False if it was
    /// offered nothing.
    pub(crate) fn cannot_map(&mut self) -> bool {
        let was_offered = matches!(self.state, State::Offered(_));
        if was_offered {
            self.state = State::Never;
        }
        was_offered
    }

    /// Waits until the lease has ended, and tells what was appended under it; for ever if there is
    /// none. Looks at the ring from time to time. Cancel safe.
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

    /// Wakes those who sleep if the holder has appended something since the last look.
    fn look(&mut self, writer: &Writer) {
        let Some(LeaseEnd { chunks, .. }) = writer.look_at_holder() else { return };
        self.look = if chunks > self.seen {
            writer.wake_for_holder();
            MIN_OBSERVE_INTERVAL
        } else {
            self.look.saturating_mul(2).min(MAX_OBSERVE_INTERVAL)
        };
        self.seen = chunks;
    }

    /// What has been appended under the lease up to now; `None` if there is none any more.
    pub(crate) fn so_far(&self, writer: &Writer) -> Option<Published> {
        writer.look_at_holder().filter(|_| self.is_held()).map(Published::from)
    }

    /// Ends the lease, if there is one, and tells what was appended under it.
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
            tracing::warn!(%violation, "a writer spoiled the ring that it had a lease of, and gets no other one");
            self.state = State::Never;
        }
        Published::from(*end)
    }

    /// The holder has appended chunks that readers in the daemon wait for.
    pub(crate) fn published(writer: &Writer) {
        writer.holder_published();
    }

    /// Waits until the holder may overwrite everything before this chunk, or has no lease any more.
    /// Cancel safe.
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
