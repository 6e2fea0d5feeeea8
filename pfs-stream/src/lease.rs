//! Leases: a writer of another process appends to the ring directly, without a copy and without
//! waking the stream's process.
//!
//! A writer gets a lease only while it is the only writer of its stream. On the stream's side, the
//! [`Writer`] that represents it [offers](Writer::offer_lease) a ring. When the other process has
//! mapped the ring, the `Writer` [grants](Writer::grant_lease) the lease, which moves the stream to
//! the offered ring. The other process makes a [`Holder`] from what it received, pushes chunks into
//! the ring, and publishes them.
//!
//! The stream ends the lease when
//!
//! - anyone else appends,
//! - a `block` reader attaches, or a reader whose process cannot follow from ring to ring,
//! - the stream is closed or removed,
//! - the writer leaves,
//! - or the ring is found to be corrupt.
//!
//! Ending a lease takes one instruction. Everything that the holder has published before that
//! instruction is in the stream. The holder can publish nothing after it, and appends the rest
//! through the stream.
//!
//! Nothing that the holder writes is trusted. It can corrupt the contents of this stream, and
//! nothing else.

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

/// The most bytes that a holder pushes before it should publish them, if that is less than a
/// sixteenth of the ring.
const MAX_UNPUBLISHED_BYTES: u64 = 64 * 1024;

/// A ring for a writer of another process. The stream has not moved to the ring yet.
#[derive(Debug)]
pub struct Offer {
    ring: Ring,
    file: Arc<OwnedFd>,
    wake_files: Arc<WakeFiles>,
}

/// A granted lease, for the other process.
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

    /// The files of the stats pages of all `block` readers, as many as [`start`](Self::start) says.
    /// With them the holder itself waits for those readers.
    pub fn pages(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.blocking.iter().filter_map(|reader| reader.stats.file()).map(AsFd::as_fd)
    }
}

impl Offer {
    /// The file of the ring. The other process may map it for writing until the lease is granted.
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
    /// Offers a ring to the process that this writer represents, if the writer may get a lease: it
    /// is the only writer of an open stream, there is no lease, every reader can
    /// [follow](crate::shm::Handout::follow), and there is enough memory. The stream moves only
    /// when the lease is [granted](Self::grant_lease).
    pub fn offer_lease(&self) -> Option<Offer> {
        let layout = self.shared.config.layout();
        let has_descriptor = {
            let append = self.shared.look();
            // A page of the ring that could not be allocated would kill the other process. So the
            // process gets no ring that is too large to be allocated as a whole.
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

    /// Grants the lease: moves the stream to the offered ring, which the other process has mapped.
    /// Returns `None`, and changes nothing, if a lease is no longer possible.
    pub fn grant_lease(&mut self, offer: Offer) -> Option<Grant> {
        // From now on readers are given the ring, and must not be able to write it.
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

    /// Ready when the lease has ended. Reports each end once.
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

    /// Ends the lease, if this writer has one, and returns how it ended. Everything that the holder
    /// has published is in the stream.
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

    /// What the holder has appended up to now, as if the lease ended here. `None` without a lease.
    pub fn look_at_holder(&self) -> Option<LeaseEnd> {
        let append = self.shared.look();
        let lease =
            append.lease.as_ref().filter(|lease| Arc::ptr_eq(&lease.writer, &self.state))?;
        Some(lease.so_far(append.ring.head()))
    }

    /// Wakes waiters in this process. Call this when the holder says that it has published
    /// something that they wait for.
    pub fn holder_published(&self) {
        self.shared.news.wake_all();
    }

    /// Wakes all sleeping readers, also those of other processes. Needed for a holder that was
    /// stopped after it published and before it could wake readers.
    pub fn wake_for_holder(&self) {
        self.shared.wake_readers();
    }

    /// Waits until `block` readers let the holder overwrite all chunks before `up_to`, or until the
    /// lease has ended. The caller must then tell the holder.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn room_for_holder(&mut self, up_to: u64) {
        // A reader that has read everything holds up no writer, whatever chunk the holder asks for.
        let up_to = up_to.min(self.shared.look().ring.head().seq);
        // Records the chunk that the slowest `block` reader must reach to avoid being given up.
        self.state.needs.store(up_to, Ordering::Relaxed);
        let mut waiting = Waiting::new(&self.shared, &self.state);
        std::future::poll_fn(|cx| {
            waiting.poll(cx, || {
                let mut append = self.shared.look();
                // Only a leased ring has a floor. In other rings, that word may have another use.
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

/// The mapped parts of an [`Offer`], in the other process. The lease is not granted yet.
#[derive(Debug)]
pub struct MappedOffer {
    ring: Ring,
    asleep: Memory,
}

/// Appends to a leased ring.
#[derive(Debug)]
pub struct Holder {
    ring: LeasedWriter,
    /// The first chunk of the lease.
    first: u64,
    asleep: Memory,
    newest: u64,
    max_chunk: u64,
    /// Bytes that are pushed before the holder should publish them.
    most_unpublished: u64,
    /// The stats pages of all `block` readers; empty if only the stream knows their positions.
    blocking: Vec<StatsPage>,
}

/// Why the holder of a lease has not appended a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HolderError {
    /// The chunk is larger than the stream takes.
    #[error("a chunk of {size} bytes exceeds the stream's maximum of {max} bytes")]
    TooLarge {
        /// The size of the chunk, in bytes.
        size: u64,
        /// The largest size, in bytes.
        max: u64,
    },
    /// A `block` reader needs the room.
    #[error("the ring has no room; a block reader has not read the oldest chunk")]
    Full {
        /// The chunk that the reader must reach first.
        up_to: u64,
    },
    /// The lease has ended. No part of the chunk is in the stream.
    #[error("the lease has ended")]
    Ended,
    /// Another writer appends to the ring.
    #[error("another writer appends to the leased ring")]
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
    /// Maps what an [`Offer`] contains. Child processes of this process do not inherit the mapping.
    ///
    /// # Errors
    ///
    /// The system cannot map the files, the layout is impossible, or the files do not have the
    /// expected size and seals.
    pub fn open(ring: OwnedFd, asleep: OwnedFd, layout: RingLayout) -> io::Result<Self> {
        let ring = Ring::open_to_write(ring, layout)?;
        Ok(Self { ring, asleep: Memory::open(asleep, PAGE_WORDS, Sharing::Writable)? })
    }

    /// Begins to append, once the lease is granted. `pages` are the files of [`Grant::pages`]. If
    /// one of them cannot be mapped, the holder must ask the stream each time it needs room. `None`
    /// if the lease start is impossible for this ring.
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
        let ring = RingWriter::going_on(self.ring, place(tail), place(head));
        let ring = LeasedWriter::new(ring, max_chunk);
        let most_unpublished = MAX_UNPUBLISHED_BYTES.min(layout.capacity() / 16).min(max_chunk / 2);
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
    /// Writes a chunk into the ring. The chunk is in the stream once it is
    /// [published](Self::publish). An empty chunk changes nothing.
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

    /// Pushes one chunk of at most `most` bytes, read once from a file straight into the ring.
    /// Returns the size of the chunk; 0 at the end of the file. Readers lose the history that
    /// `most` bytes would overwrite before the file has given anything, so wait until the file is
    /// readable before this call.
    ///
    /// # Errors
    ///
    /// The outer error is that of the ring, the inner error is that of the file. In either case
    /// nothing was read.
    pub fn try_push_from(
        &mut self,
        file: BorrowedFd<'_>,
        most: usize,
    ) -> Result<io::Result<usize>, HolderError> {
        let most = most.min(usize::try_from(self.max_chunk).unwrap_or(usize::MAX)).max(1);
        let mut newest = self.newest;
        let mut push = |ring: &mut LeasedWriter| {
            ring.push_from(file, most, || {
                // After the read, which may have waited for the file.
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

    /// Publishes what was pushed, and wakes sleeping readers of other processes. Returns true if a
    /// waiter in the stream's process waits for what was published, and the stream must be told.
    ///
    /// # Errors
    ///
    /// [`HolderError`]; what was pushed since the last publish stays
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

    /// The chunks that were pushed and not published. When the lease has ended, append them through
    /// the stream.
    ///
    /// # Errors
    ///
    /// [`HolderError::OtherWriter`]; the remaining chunks cannot be determined.
    pub fn unpublished(&self) -> impl Iterator<Item = Result<Vec<u8>, HolderError>> {
        self.ring.unpublished().map(|chunk| chunk.ok_or(HolderError::OtherWriter))
    }

    /// Whether the holder must wait for [room](HolderError::Full); call this before waiting. False
    /// if there is room already. If true, the slowest `block` reader adds to the [event
    /// counter](Offer::wake_files) when it has freed a good part of the ring. A holder that waits
    /// for long, or that waits with an empty [`Grant::pages`], must also ask the
    /// [stream](Writer::room_for_holder): a reader may have left, or be in the stream's process.
    pub fn waits_for_room(&self, up_to: u64) -> bool {
        // Never wait for a reader that has read everything.
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

    /// Whether `block` readers add to the event counter when they have made room that the holder
    /// [waits for](Self::waits_for_room). True if the holder has their stats pages.
    pub fn asks_readers(&self) -> bool {
        !self.blocking.is_empty()
    }

    /// Whether all `block` readers have reached chunk `up_to`, according to their stats pages.
    #[cold]
    fn finds_room(&mut self, up_to: u64) -> bool {
        let Some(slowest) = self.blocking.iter().map(StatsPage::seq).min() else { return false };
        self.ring.ring().raise_floor(slowest);
        slowest >= up_to
    }

    /// The number of attached readers.
    pub fn readers(&self) -> usize {
        usize::try_from(self.ring.ring().readers()).unwrap_or(usize::MAX)
    }

    /// The number of pushed chunks.
    pub fn pushed(&self) -> u64 {
        self.ring.ring().head().seq.saturating_sub(self.first)
    }

    /// The offset after the newest pushed chunk.
    pub fn offset(&self) -> u64 {
        self.ring.ring().head().offset
    }

    /// The number of published chunks.
    pub fn published(&self) -> u64 {
        self.ring.published().seq.saturating_sub(self.first)
    }

    /// Whether enough was pushed that it is time to [publish](Self::publish). Waiting longer would
    /// delay readers, and would cost them more history if the holder died: pushed chunks overwrite
    /// history even if they are never published.
    #[inline]
    pub fn should_publish(&self) -> bool {
        let (head, published) = (self.ring.ring().head(), self.ring.published());
        head.offset - published.offset >= self.most_unpublished
    }
}
