//! A writer that was offered a lease or has one: both ends of it, the writer's process and the
//! daemon.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use pfs_stream::{
    lease::{LeaseEnd, LeaseStart, MappedOffer, Offer},
    *,
};

use crate::{
    hand::{Hand, Kind},
    ledger::Chunk,
    notice::Notice,
    words::Words,
};

/// A writer in one of the stages of a lease.
pub(crate) enum Leased {
    Offered(Offered),
    Holding(Holding),
    /// The lease has ended, and these chunks are not in the stream.
    Refused(Writer, VecDeque<Chunk>),
}

/// The process has mapped what it was offered, or never will.
pub(crate) struct Offered {
    pub(crate) writer: Writer,
    offer: Offer,
    mapped: MappedOffer,
    ring: Words,
    asleep: Words,
}

impl Offered {
    pub(crate) fn new(writer: Writer, offer: Offer) -> io::Result<Self> {
        let own = |file: &dyn AsFd| -> io::Result<OwnedFd> { file.as_fd().try_clone_to_owned() };
        let [asleep, _] = offer.wake_files();
        let (ring, asleep) = (own(&offer.ring())?, own(&asleep)?);
        let words = (Words::map(&ring)?, Words::map(&asleep)?);
        let mapped = MappedOffer::open(ring, asleep, offer.layout())?;
        Ok(Self { writer, offer, mapped, ring: words.0, asleep: words.1 })
    }

    /// Grants the lease, if that is still possible. The holder appends step by step if `in_steps`.
    pub(crate) fn grant(self, in_steps: bool) -> (Writer, Option<(LeaseStart, Hand)>) {
        let Self { mut writer, offer, mapped, ring, asleep } = self;
        let capacity = offer.layout().capacity;
        let Some(grant) = writer.grant_lease(offer) else { return (writer, None) };
        let (start, pages) = (grant.start(), grant.pages().map(|page| page.try_clone_to_owned()));
        let pages = pages.collect::<Result<Vec<_>, _>>().unwrap_or_default();
        let holder = mapped.begin(start, pages).expect("a granted lease begins");
        let kind = if in_steps { Kind::Steps } else { Kind::Holder(Box::new(holder)) };
        let hand = Hand::new(kind, capacity, &start, ring, asleep);
        (writer, Some((start, hand)))
    }
}

/// The daemon's end of a writer that has a lease.
pub(crate) enum Host {
    Here(Writer),
    /// The holder waits for room.
    Waits(RoomWait),
    /// While the end changes from one variant to the other.
    Between,
}

pub(crate) struct Holding {
    pub(crate) host: Host,
    pub(crate) hand: Hand,
    /// The number of the leased ring.
    pub(crate) ring: usize,
    /// Woken when the lease ends.
    watch: Option<Arc<Notice>>,
    /// Whether the daemon has not yet heard that the holder has published.
    pub(crate) message: bool,
    /// How the lease ended, as the daemon reported it.
    pub(crate) end: Option<LeaseEnd>,
    /// The chunks that the holder had to append when it found that its lease has ended.
    pub(crate) has_ended: Option<Vec<Chunk>>,
    /// The chunk up to which the holder was told that there is room.
    pub(crate) room: Option<u64>,
    /// The process is stopped before this step.
    pub(crate) stopped_until: u64,
}

impl Holding {
    pub(crate) fn new(writer: Writer, hand: Hand, ring: usize) -> Self {
        Self {
            host: Host::Here(writer),
            hand,
            ring,
            watch: None,
            message: false,
            end: None,
            has_ended: None,
            room: None,
            stopped_until: 0,
        }
    }

    /// The daemon checks for the end of the lease.
    pub(crate) fn look_for_end(&mut self) -> Poll<LeaseEnd> {
        let Host::Here(writer) = &mut self.host else { return Poll::Pending };
        let (notice, waker) = Notice::new();
        let polled = writer.poll_lease_end(&mut Context::from_waker(&waker));
        match polled {
            Poll::Ready(end) => (self.end, self.watch) = (Some(end), None),
            Poll::Pending => self.watch = Some(notice),
        }
        polled
    }

    /// Whether the daemon waits for the end of the lease, and was not woken.
    pub(crate) fn sleeps_until_end(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.is_woken())
    }

    /// The daemon hears that the holder is about to wait for room.
    pub(crate) fn waits_for_room(&mut self, up_to: u64) {
        self.host = match std::mem::replace(&mut self.host, Host::Between) {
            Host::Here(writer) => Host::Waits(RoomWait::new(writer, up_to)),
            other => other,
        };
    }

    /// Polls the wait for room as an executor does. Returns whether the holder is told something.
    pub(crate) fn poll_room(&mut self) -> bool {
        let Host::Waits(waits) = &mut self.host else { return false };
        let Poll::Ready((writer, ())) = waits.poll() else { return false };
        self.room = Some(waits.up_to);
        self.host = Host::Here(writer);
        true
    }
}

type Waited = (Writer, ());

/// A holder's wait for room, on the daemon's side.
pub(crate) struct RoomWait {
    future: Pin<Box<dyn Future<Output = Waited>>>,
    notice: Arc<Notice>,
    is_cancelled: Rc<Cell<bool>>,
    blockers: Blockers,
    /// The chunk that `block` readers must reach.
    pub(crate) up_to: u64,
}

impl RoomWait {
    fn new(mut writer: Writer, up_to: u64) -> Self {
        let blockers = writer.blockers();
        let is_cancelled = Rc::new(Cell::new(false));
        let cancelled = Rc::clone(&is_cancelled);
        let future = Box::pin(async move {
            {
                let mut room = pin!(writer.room_for_holder(up_to));
                poll_fn(
                    |cx| if cancelled.get() { Poll::Ready(()) } else { room.as_mut().poll(cx) },
                )
                .await;
            }
            (writer, ())
        });
        let (notice, waker) = Notice::new();
        // A new wait must be polled once.
        waker.wake();
        Self { future, notice, is_cancelled, blockers, up_to }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.notice.is_woken()
    }

    fn poll(&mut self) -> Poll<Waited> {
        let (notice, waker) = Notice::new();
        self.notice = notice;
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Cancels the wait, and returns the writer.
    pub(crate) fn cancel(mut self) -> Writer {
        self.is_cancelled.set(true);
        match self.poll() {
            Poll::Ready((writer, ())) => writer,
            Poll::Pending => panic!("the wait continues although it was cancelled"),
        }
    }

    /// Makes the stream stop waiting for the slowest reader in the way.
    pub(crate) fn give_up_slowest(&self) -> Option<GivenUp> {
        self.blockers.give_up_slowest()
    }
}
