//! Leases: a writer of another process appends to the ring by itself, without a copy and without a
//! wake-up in between.
//!
//! A writer gets a lease only while it is the only writer of its stream. The stream's side is the
//! [`Writer`] that stands for it: it [offers](Writer::offer_lease) a ring and, when the other
//! process has mapped that, [grants](Writer::grant_lease) the lease, which moves the stream there.
//! The other process makes a [`Holder`] of what it was given, pushes chunks into the ring, and
//! publishes them.
//!
//! The stream ends the lease when anybody else appends, when a `block` reader attaches or one whose
//! process cannot follow from ring to ring, when the stream is closed or removed, when the writer
//! goes, and when the ring is spoiled. That takes one instruction. What the holder has published
//! before is in the stream. It can publish nothing after that, and appends what is left through the
//! stream.
//!
//! Nothing that the holder writes is trusted. It can spoil the contents of this stream, and nothing
//! else.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll},
};

use pfs_proto::RingLayout;
use thiserror::Error;

use crate::{
    Chunk, Writer, clock, flag,
    read::Position,
    reader_stats::{PAGE_WORDS, StatsPage},
    ring::{Given, LIMIT, LeasedWriter, Memory, Refused, Ring, RingWriter, Sharing, Source},
    state::{Appending, Lease, MAX_ALLOCATED_BYTES, ReaderState, WakeFiles, release},
    sync::{Arc, Ordering, lock},
    writer::Waiting,
};

pub use crate::state::LeaseEnd;
pub use pfs_proto::LeaseStart;

/// Bytes that a holder pushes at most before it should publish them, where that is less than a
/// sixteenth of the ring.
const MAX_UNPUBLISHED_BYTES: u64 = 64 * 1024;

/// A ring for a writer of another process, that is not the stream's yet.
#[derive(Debug)]
pub struct Offer {
    ring: Ring,
    file: Arc<OwnedFd>,
    wake_files: Arc<WakeFiles>,
}

/// A lease that was granted, for the other process.
#[derive(Debug)]
pub struct Grant {
    start: LeaseStart,
    blocking: Vec<Arc<ReaderState>>,
}

impl Grant {
    /// Where the lease begins.
    pub fn start(&self) -> LeaseStart {
        self.start
    }

    /// The files of the pages of all `block` readers, as many as [`start`](Self::start) says: the
    /// holder waits for those readers by itself.
    pub fn pages(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.blocking.iter().filter_map(|reader| reader.stats.file()).map(AsFd::as_fd)
    }
}

impl Offer {
    /// The file of the ring, which the other process may map for writing until the lease is
    /// granted.
    pub fn ring(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The page in which readers ask to be woken, and the event counter that `block` readers add to
    /// when they have made room that the holder [waits for](Holder::waits_for_room).
    pub fn wake_files(&self) -> [BorrowedFd<'_>; 2] {
        self.wake_files.files()
    }

    /// The sizes of the ring.
    pub fn layout(&self) -> RingLayout {
        self.ring.layout().to_tell()
    }
}

impl Writer {
    /// A ring for the process that this writer stands for, if it may get a lease: it is the only
    /// writer of an open stream, nobody holds a lease, every reader can
    /// [follow](crate::shm::Handout::follow), and there is memory. The stream stays where it is
    /// until the lease is [granted](Self::grant_lease).
    pub fn offer_lease(&self) -> Option<Offer> {
        let layout = self.shared.config.layout();
        let has_descriptor = {
            let append = self.shared.look();
            // A ring whose pages may be missing is not handed to a process that would be ended by
            // that.
            if !append.can_be_leased(&self.shared)
                || self.shared.holds
                || layout.bytes() > MAX_ALLOCATED_BYTES
            {
                return None;
            }
            append.ring.ring().is_shared()
        };
        let wake_files = Arc::new(WakeFiles::new(&self.shared.descriptors)?);
        let ring = self.shared.ring_for_others(layout, has_descriptor, Ring::leasable).ok()?;
        let file = ring.memory().file()?;
        Some(Offer { ring, file, wake_files })
    }

    /// Grants the lease: moves the stream to that ring, which the other process has mapped. `None`,
    /// and nothing has changed, if this is no longer possible.
    pub fn grant_lease(&mut self, offer: Offer) -> Option<Grant> {
        // Readers are given the ring from now on.
        offer.ring.memory().forbid_writing().ok()?;
        let (shared, state) = (&self.shared, &self.state);
        lock(&state.lease_end).0 = None;
        let stop = |append: &Appending| {
            let is_possible =
                append.can_be_leased(shared) && shared.has_descriptor(&offer.ring, append);
            (!is_possible).then_some(None)
        };
        shared.copy_into(&offer.ring, stop, |append, filled| {
            filled.raise_floor(append.slowest_block_reader(shared));
            append.status.set_leased(true);
            let blocking = append.blocking_elsewhere(shared);
            append.lease =
                Some(Lease::new(Arc::clone(state), filled.head(), Arc::clone(&offer.wake_files)));
            append.move_to(filled, shared);
            append.growth.is_due_always();
            append.tell_readers(shared);
            shared.publish(append);
            let place = |at: Position| (at.seq, at.offset);
            let (tail, head) = (place(append.ring.tail()), place(append.ring.head()));
            let (newest, max_chunk) = (append.newest, shared.config.max_chunk());
            let start = LeaseStart { tail, head, newest, max_chunk, pages: blocking.len() as u32 };
            Some(Grant { start, blocking })
        })
    }

    /// Ready when the lease has ended; once.
    pub fn poll_lease_end(&mut self, cx: &mut Context<'_>) -> Poll<LeaseEnd> {
        let mut told = lock(&self.state.lease_end);
        if let Some(end) = told.0.take() {
            drop(told);
            self.learns(end);
            return Poll::Ready(end);
        }
        told.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn learns(&mut self, end: LeaseEnd) {
        self.offset = self.offset.max(if end.chunks > 0 { end.offset } else { 0 });
    }

    /// Ends the lease, if it has one, and says how. What the holder has appended is in the stream.
    pub fn end_lease(&mut self) -> Option<LeaseEnd> {
        let mut append = lock(&self.shared.append);
        if append.lease.as_ref().is_some_and(|lease| Arc::ptr_eq(&lease.writer, &self.state)) {
            append.end_lease(&self.shared, None);
        }
        release(append, &mut Vec::new(), &self.shared);
        let end = lock(&self.state.lease_end).0.take()?;
        self.learns(end);
        Some(end)
    }

    /// Bytes that the stream holds now.
    pub fn held(&self) -> u64 {
        let append = self.shared.look();
        append.ring.head().offset.saturating_sub(append.ring.tail().offset)
    }

    /// What the holder has appended up to now, as if the lease ended here; `None` if there is no
    /// lease.
    pub fn look_at_holder(&self) -> Option<LeaseEnd> {
        let append = self.shared.look();
        let lease =
            append.lease.as_ref().filter(|lease| Arc::ptr_eq(&lease.writer, &self.state))?;
        Some(lease.so_far(append.ring.head()))
    }

    /// The holder says that it has appended something that somebody in this process waits for.
    pub fn holder_published(&self) {
        self.shared.news.wake_all();
    }

    /// Wakes all readers that sleep, those of other processes too: for what the holder has appended
    /// without waking anybody, because it was stopped before it could.
    pub fn wake_for_holder(&self) {
        self.shared.wake_readers();
    }

    /// Waits until `block` readers let the holder overwrite everything before this chunk, or until
    /// the lease has ended. Then the holder is to be told.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn room_for_holder(&mut self, up_to: u64) {
        // Whatever it says, a reader that has read all is in nobody's way.
        let up_to = up_to.min(self.shared.look().ring.head().seq);
        // What the slowest reader in the way is given up for.
        self.state.needs.store(up_to, Ordering::Relaxed);
        let mut waiting = Waiting::new(self);
        std::future::poll_fn(|cx| {
            waiting.poll(cx, || {
                let mut append = self.shared.look();
                // A ring that is not leased has no floor: other words may be in its place.
                if append.lease.is_some() {
                    if !append.may_overwrite(up_to, &self.shared) {
                        return None;
                    }
                    let floor = append.block_floor;
                    append.ring.raise_floor(floor);
                }
                Some(())
            })
        })
        .await;
    }
}

/// What the other process has mapped of an [`Offer`]: the lease is not granted yet.
#[derive(Debug)]
pub struct MappedOffer {
    ring: Ring,
    asleep: Memory,
}

/// Appends to a leased ring.
#[derive(Debug)]
pub struct Holder {
    ring: LeasedWriter,
    /// The chunk that the lease began with.
    first: u64,
    asleep: Memory,
    newest: u64,
    max_chunk: u64,
    /// So many bytes are pushed before it should publish them.
    most_unpublished: u64,
    /// All `block` readers; empty if only the stream knows where those are.
    blocking: Vec<StatsPage>,
}

/// Why the holder of a lease has not appended a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HolderError {
    /// The chunk is larger than the stream takes.
    #[error("a chunk of {size} bytes is larger than the {max} bytes that the stream takes")]
    TooLarge {
        /// Its size, in bytes.
        size: u64,
        /// The largest size, in bytes.
        max: u64,
    },
    /// A `block` reader needs the room.
    #[error("a block reader needs the room")]
    Full {
        /// The chunk that it must have come to.
        up_to: u64,
    },
    /// The lease has ended. Nothing of the chunk is in the stream.
    #[error("the lease has ended")]
    Ended,
    /// Somebody else appends to the ring.
    #[error("somebody else appends to the leased ring")]
    OtherWriter,
}

impl From<Refused> for HolderError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoRoom(up_to) => Self::Full { up_to },
            Refused::Ended => Self::Ended,
            Refused::OtherWriter => Self::OtherWriter,
        }
    }
}

impl MappedOffer {
    /// Maps what an [`Offer`] gave. Children of this process do not inherit it.
    ///
    /// # Errors
    ///
    /// When this system can't map it, or it is not what it should be.
    pub fn open(ring: OwnedFd, asleep: OwnedFd, layout: RingLayout) -> io::Result<Self> {
        let ring = Ring::open_to_write(ring, layout)?;
        Ok(Self { ring, asleep: Memory::open(asleep, PAGE_WORDS, Sharing::Writable)? })
    }

    /// Begins to append, now that the lease is granted. `pages` are those of [`Grant::pages`]: if
    /// any of them cannot be mapped, the stream must be asked for all room. `None` if no ring
    /// of this layout can be so.
    pub fn begin(
        self,
        start: LeaseStart,
        pages: impl IntoIterator<Item = OwnedFd>,
    ) -> Option<Holder> {
        let LeaseStart { tail, head, newest, max_chunk, pages: count } = start;
        let open = |page| {
            Memory::open(page, PAGE_WORDS, Sharing::Writable).map(|page| StatsPage::new(page, None))
        };
        let pages: Vec<_> = pages.into_iter().map_while(|page| open(page).ok()).collect();
        let blocking = if pages.len() as u64 == u64::from(count) { pages } else { Vec::new() };
        let (chunks, bytes) = (head.0.checked_sub(tail.0)?, head.1.checked_sub(tail.1)?);
        let layout = self.ring.layout();
        let is_possible = layout.has_room(bytes, chunks) && head.0.max(head.1) < LIMIT;
        if !is_possible || max_chunk > layout.capacity() {
            return None;
        }
        let place = |(seq, offset)| Position { seq, offset };
        let ring = LeasedWriter::new(RingWriter::going_on(self.ring, place(tail), place(head)));
        let most_unpublished = MAX_UNPUBLISHED_BYTES.min(layout.capacity() / 16);
        Some(Holder {
            ring,
            first: head.0,
            asleep: self.asleep,
            newest,
            max_chunk,
            most_unpublished,
            blocking,
        })
    }
}

impl Holder {
    /// Writes a chunk into the ring, which is in the stream once it is [published](Self::publish).
    /// An empty chunk changes nothing.
    ///
    /// History that the chunk overwrites is gone at once.
    ///
    /// # Errors
    ///
    /// [`HolderError`]; nothing was pushed.
    #[inline]
    pub fn try_push(&mut self, chunk: impl Chunk) -> Result<(), HolderError> {
        let given = Given::new(&chunk);
        let (size, max) = (given.size() as u64, self.max_chunk);
        if size == 0 {
            return Ok(());
        }
        if size > max {
            return Err(HolderError::TooLarge { size, max });
        }
        let time = clock::append_time().max(self.newest);
        match self.ring.push(&given, time) {
            Err(Refused::NoRoom(up_to)) if self.finds_room(up_to) => {
                self.ring.push(&given, time)?
            }
            pushed => pushed?,
        }
        self.newest = time;
        Ok(())
    }

    /// Reads once from a file straight into the ring, as one chunk of at most `most` bytes that is
    /// pushed. Returns its size; 0 at the file's end. Readers lose the history that `most`
    /// bytes would overwrite before the file has given anything, so wait for the file before.
    ///
    /// # Errors
    ///
    /// The outer error is the ring's, and the inner one is the file's. Nothing was read.
    pub fn try_push_from(
        &mut self,
        file: BorrowedFd<'_>,
        most: usize,
    ) -> Result<io::Result<usize>, HolderError> {
        let most = most.min(usize::try_from(self.max_chunk).unwrap_or(usize::MAX)).max(1);
        let mut newest = self.newest;
        let mut push = |ring: &mut LeasedWriter| {
            ring.push_from(file, most, || {
                // Not before: the file may have kept this waiting.
                newest = clock::append_time().max(newest);
                newest
            })
        };
        let len = match push(&mut self.ring) {
            Err(Refused::NoRoom(up_to)) if self.finds_room(up_to) => push(&mut self.ring)?,
            pushed => pushed?,
        };
        self.newest = newest;
        Ok(len)
    }

    /// Publishes what was pushed, and wakes the readers of other processes that sleep. Returns true
    /// if the stream is to be told, because somebody waits there for what was published.
    ///
    /// # Errors
    ///
    /// [`HolderError`]; what was pushed since it was last published stays
    /// [unpublished](Self::unpublished).
    pub fn publish(&mut self) -> Result<bool, HolderError> {
        self.ring.publish()?;
        let published = self.ring.ring().published();
        let (asleep, published) = flag::take_both(&self.asleep.words()[0], published, |_| true);
        if asleep {
            self.ring.ring().ring().notify();
        }
        Ok(published)
    }

    /// The chunks that were pushed and are not published: when the lease has ended, they are to be
    /// appended through the stream.
    ///
    /// # Errors
    ///
    /// [`HolderError::OtherWriter`]; the rest cannot be told.
    pub fn unpublished(&self) -> impl Iterator<Item = Result<Vec<u8>, HolderError>> {
        self.ring.unpublished().map(|chunk| chunk.ok_or(HolderError::OtherWriter))
    }

    /// To be asked before the holder waits for [room](HolderError::Full): false if it need not
    /// wait, because there is some. Otherwise the slowest `block` reader adds to the [event
    /// counter](Offer::wake_files) when it has made a good part of the ring free. Who waits long
    /// for that, or at all with an empty [`Grant::pages`], must ask the
    /// [stream](Writer::room_for_holder), too: a reader may have gone, or be in the stream's
    /// process.
    pub fn waits_for_room(&self, up_to: u64) -> bool {
        // Nobody is waited for who has read all.
        let much = self.ring.ring().tail_after_much().min(self.ring.published().seq);
        for _ in 0..=self.blocking.len() {
            let slowest =
                self.blocking.iter().map(|page| (page.seq(), page)).min_by_key(|(seq, _)| *seq);
            let Some((seq, slowest)) = slowest else { break };
            if seq >= up_to {
                self.ring.ring().raise_floor(seq);
                return false;
            }
            slowest.want_for_holder(much.max(up_to));
            if slowest.seq() < up_to {
                return true;
            }
        }
        true
    }

    /// Whether readers add to the event counter when they have made room that it [waits
    /// for](Self::waits_for_room): those that it knows.
    pub fn asks_readers(&self) -> bool {
        !self.blocking.is_empty()
    }

    /// Whether all `block` readers have come to this chunk, as they say themselves.
    #[cold]
    fn finds_room(&mut self, up_to: u64) -> bool {
        let Some(slowest) = self.blocking.iter().map(StatsPage::seq).min() else { return false };
        self.ring.ring().raise_floor(slowest);
        slowest >= up_to
    }

    /// Readers attached now.
    pub fn readers(&self) -> usize {
        usize::try_from(self.ring.ring().readers()).unwrap_or(usize::MAX)
    }

    /// Chunks that it has pushed.
    pub fn pushed(&self) -> u64 {
        self.ring.ring().head().seq.saturating_sub(self.first)
    }

    /// The offset after the newest chunk that it has pushed.
    pub fn offset(&self) -> u64 {
        self.ring.ring().head().offset
    }

    /// Chunks that it has published.
    pub fn published(&self) -> u64 {
        self.ring.published().seq.saturating_sub(self.first)
    }

    /// Whether so much was pushed that it is time to [publish](Self::publish) it: readers would
    /// wait longer, and a holder that dies now has cost them more history than it has appended.
    #[inline]
    pub fn should_publish(&self) -> bool {
        let (head, published) = (self.ring.ring().head(), self.ring.published());
        head.offset - published.offset >= self.most_unpublished
    }
}
