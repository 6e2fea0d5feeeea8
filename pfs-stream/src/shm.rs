//! Shared-memory readers: readers in other processes that receive the ring and read it directly.
//!
//! On the stream's side is a [`Handout`]: two descriptors and a start position. The code that owns
//! the sockets passes them on. The other process makes a [`ShmReader`] from them, which reads with
//! the same code as a [`Reader`]. It can write only its own stats page. It sleeps on a futex in the
//! header of the ring: one system call of the stream wakes any number of sleeping readers.

use std::{
    future::Future,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::AtomicBool,
    time::Duration,
};

use pfs_proto::{End, RingLayout, ShmStart, SlowPolicy, Until};
use thiserror::Error;

use crate::{
    Extent, Read, ReadError, Reader, Sink, Stream, flag,
    membership::Membership,
    reader_stats::{PAGE_WORDS, ReaderStats, StatsPage, StatsPageFile},
    ring::{Memory, Ring, RingReader, Sharing},
    state::{Progress, RingElsewhere, Shared, release},
    sync::{Arc, Ordering, lock},
};

pub use crate::{ring::WriteToError, state::NextRing};

/// A reader of another process, on the stream's side. The reader is attached until this is dropped.
#[derive(Debug)]
pub struct Handout {
    membership: Membership,
    start: ShmStart,
    held: Extent,
    /// The ring and the stats page, for the other process. The file of the page stays with the
    /// reader state instead if the holder of a lease may wait for this reader.
    files: Option<(NextRing, Option<OwnedFd>)>,
    /// Whether the other process has read, so that its page has its position.
    has_read: AtomicBool,
    _counted: Counted,
}

/// Why a reader was not given the next ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The stream was removed.
    #[error("the stream was removed")]
    Removed,
    /// The reader already has the stream's ring.
    #[error("the reader already has the stream's ring")]
    NotMoved,
    /// The stream has no ring that can be shared, or its ring is one that a former holder of a
    /// lease can still write.
    #[error("the stream has no ring that can be shared")]
    NotShared,
}

impl Reader {
    /// Hands the reader out to another process, which continues from the reader's position. A
    /// process that [cannot follow](Handout::follow) its stream from ring to ring is given a ring
    /// of full size.
    ///
    /// # Errors
    ///
    /// The system has no memory for the stats page or for a ring that can be shared, the reader has
    /// already taken chunks out of the ring, or its stream is [local](crate::Stream::local). The
    /// reader is returned unchanged.
    // The large variant is the reader itself, which must not be lost.
    #[allow(clippy::result_large_err)]
    pub fn hand_out(self, can_follow: bool) -> Result<Handout, (Self, io::Error)> {
        if self.is_local() {
            let error = io::Error::new(
                io::ErrorKind::Unsupported,
                "the reader's stream is local to this process and cannot be shared",
            );
            return Err((self, error));
        }
        let (page, file) = match Memory::writable_by_others(PAGE_WORDS) {
            Ok((memory, file)) => (memory, file),
            Err(error) => return Err((self, error)),
        };
        // Count the reader before taking the ring. A removal in between would release the memory
        // that the client is about to map, and an append in between could move the stream to a ring
        // that the client cannot map.
        let counted = Counted::new(&self.membership.shared, can_follow);
        let (shared, next) = match self.membership.shared.share(can_follow) {
            Ok(shared) => shared,
            Err(error) => return Err((self, error)),
        };
        let held = self.extent_at_attach();
        let (mut membership, mut ring) = self.into_parts();
        ring.ring = shared;
        let waits = ring.policy == SlowPolicy::Block && can_follow;
        let reserved = waits.then(|| membership.shared.descriptors.reserve(1)).flatten();
        // The page file must stay open for holders of leases.
        let (for_holder, file) = match reserved {
            Some(reserved) => (Some(StatsPageFile { file, _reserved: reserved }), None),
            None => (None, Some(file)),
        };
        membership.set_stats(ReaderStats::Page(StatsPage::new(page, for_holder)), ring.position());
        // This stays true even if the lease ends meanwhile: the client expects more descriptors
        // exactly if `leased` is true.
        let start = ShmStart { leased: next.wake_files().is_some(), ..ring.to_start() };
        *lock(&membership.state.elsewhere) = Some(RingElsewhere::new(ring.ring, &next));
        Ok(Handout {
            membership,
            start,
            held,
            files: Some((next, file)),
            has_read: AtomicBool::new(false),
            _counted: counted,
        })
    }
}

impl Handout {
    /// Where the other process begins.
    pub fn start(&self) -> ShmStart {
        self.start
    }

    /// The file of the ring, which another process can only read. `None` once the files are closed.
    pub fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.files.as_ref().map(|(ring, _)| ring.file())
    }

    /// The [page and the event counter](NextRing::wake_files) of a leased ring. The other process
    /// must get them, too: a reader that does not [use them](ShmReader::wake_by) is never woken.
    pub fn wake_files(&self) -> Option<[BorrowedFd<'_>; 2]> {
        self.files.as_ref().and_then(|(ring, _)| ring.wake_files())
    }

    /// The stats page of the reader, which the other process writes. `None` after it was closed.
    pub fn page(&self) -> Option<BorrowedFd<'_>> {
        let page = self.files.as_ref().and_then(|(_, page)| page.as_ref());
        page.or_else(|| self.membership.state.stats.file()).map(AsFd::as_fd)
    }

    /// Closes the files, once the other process has them. The reader then occupies no descriptor,
    /// or one if it is a `block` reader that the holder of a lease may wait for.
    pub fn close_files(&mut self) {
        self.files = None;
    }

    /// Makes the reader copy what it reads, whatever its policy. Needed because the stream may stop
    /// [waiting](crate::Blockers) for the reader, and bytes that went to a file straight from the
    /// ring cannot be taken back. A reader that already has the page may be passing bytes on at
    /// this moment. If it is given up before it is done, it [reports](WriteToError::Overtaken)
    /// which bytes may be wrong.
    pub fn require_copies(&self) {
        self.membership.state.stats.require_copies();
    }

    /// The ring after the one that the other process has, and its file. Call this after the stream
    /// has left the old ring and the process has read all of it. The process continues in the next
    /// ring from its position.
    ///
    /// # Errors
    ///
    /// [`FollowError`]; the reader stays in its ring.
    pub fn follow(&self) -> Result<NextRing, FollowError> {
        let shared = &self.membership.shared;
        self.has_read.store(true, Ordering::Relaxed);
        let append = shared.look();
        if append.status.removed() {
            return Err(FollowError::Removed);
        }
        let elsewhere = &self.membership.state.elsewhere;
        if lock(elsewhere).as_ref().is_some_and(|ring| ring.is_current(&append)) {
            // A former holder of a lease can still write this ring, so the reader distrusts it.
            return Err(if append.is_sealed {
                FollowError::NotShared
            } else {
                FollowError::NotMoved
            });
        }
        if append.skipped_with(self.membership.state.stats.seq()).is_some() {
            // The file of the ring that the reader needs next was closed when the stream skipped.
            return Err(FollowError::NotShared);
        }
        let (ring, next) = shared.next_ring(&append).ok_or(FollowError::NotShared)?;
        let left = lock(elsewhere).replace(RingElsewhere::new(ring, &next));
        drop(append);
        // Drop the old ring after the lock: dropping the last handle of a ring frees it.
        drop(left);
        Ok(next)
    }

    /// Waits until the stream has left the ring that the other process reads, or has ended, and
    /// returns the number of that ring. Waits only for rings that were leased, because only their
    /// former holder could hide the move. Never returns `told`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn left_ring(&self, told: Option<u64>) -> impl Future<Output = u64> + Send + use<> {
        let (shared, state) =
            (Arc::clone(&self.membership.shared), Arc::clone(&self.membership.state));
        Stream { shared: Arc::clone(&shared) }.ends_with(move || {
            let append = shared.look();
            let over = lock(&state.elsewhere).as_ref().and_then(|ring| ring.is_over(&append));
            over.filter(|ring| Some(*ring) != told)
        })
    }

    /// Takes the reader back, because the other process cannot map the ring. If that process has
    /// asked for another ring, the reader continues from the position in its stats page.
    pub fn take_back(mut self) -> Reader {
        let shared = &self.membership.shared;
        let mut append = shared.look();
        if self.membership.state.stats.file().is_some() {
            // The holder may be waiting for the page, which is no longer written.
            append.end_lease(shared, None);
        }
        let head = append.ring.head();
        let mut start = self.start;
        if *self.has_read.get_mut() {
            let state = &self.membership.state;
            let (seq, position) = (state.stats.seq().min(head.seq), state.progress(head).position);
            if seq > start.seq || position > start.offset {
                (start.seq, start.offset, start.missing) = (seq, position, None);
            }
        }
        let ring = append.ring_with(start.seq).clone();
        release(append, &mut Vec::new(), shared);
        let ring = RingReader::from_start(ring, &start);
        self.membership.set_stats(ReaderStats::own(), ring.position());
        Reader::new(self.membership, ring, self.held)
    }

    /// Waits until the stream is removed.
    pub fn removed(&self) -> impl Future<Output = ()> + Send + use<> {
        Stream { shared: Arc::clone(&self.membership.shared) }.removed()
    }

    /// Wakes writers that wait for room. Call this when the reader says that it made room.
    pub fn made_room(&self) {
        self.membership.shared.room.wake_all();
    }

    /// The progress that the reader claims, clamped to what is possible.
    fn progress(&self) -> Progress {
        let append = self.membership.shared.look();
        self.membership.state.progress(append.ring.head())
    }

    /// The offset that the reader claims to read next, clamped to between its start and head.
    pub fn position(&self) -> u64 {
        self.progress().position
    }

    /// The end that the reader has reached, according to the position that it claims. `None` if it
    /// could read on.
    ///
    /// # Errors
    ///
    /// The stream was removed, or a `disconnect` reader lags by more than the channel buffer.
    pub fn end(&self) -> Result<Option<End>, ReadError> {
        let shared = &self.membership.shared;
        let append = shared.look();
        let (status, head) = (append.status, append.ring.head());
        let Progress { position, .. } = self.membership.state.progress(head);
        drop(append);
        let lag = head.offset.saturating_sub(position);
        if status.removed() {
            return Err(ReadError::Removed);
        }
        if self.start.until == Until::CaughtUp && position >= self.start.head {
            return Ok(Some(End::CaughtUp));
        }
        if self.membership.state.stats.seq() == head.seq {
            return Ok(status.end_at_head(self.start.until, self.start.deaths_before));
        }
        if self.start.policy == SlowPolicy::Disconnect && lag > shared.config.channel_buffer_size {
            return Err(ReadError::TooSlow { lag: Some(lag) });
        }
        Ok(None)
    }

    /// Chunks that the reader claims to have lost, clamped to what is possible.
    pub fn lost_chunks(&self) -> u64 {
        self.progress().lost_chunks
    }

    /// Bytes that the reader claims to have lost, clamped to what is possible.
    pub fn lost_bytes(&self) -> u64 {
        self.progress().lost_bytes
    }
}

/// A count of one among the readers of other processes. The stream notifies them only while there
/// are any.
#[derive(Debug)]
struct Counted {
    shared: Arc<Shared>,
    can_follow: bool,
}

impl Counted {
    fn new(shared: &Arc<Shared>, can_follow: bool) -> Self {
        shared.shm_readers.fetch_add(1, Ordering::SeqCst);
        shared.staying.fetch_add(usize::from(!can_follow), Ordering::SeqCst);
        Self { shared: Arc::clone(shared), can_follow }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.shm_readers.fetch_sub(1, Ordering::SeqCst);
        self.shared.staying.fetch_sub(usize::from(!self.can_follow), Ordering::SeqCst);
        self.shared.give_back();
    }
}

/// [`ShmReader::try_write_to`] writes at most this fraction of a ring at a time (a fourth): writers
/// cannot overwrite that part during the call, and must have room to go on.
const SHARE: u64 = 4;

/// Reads a ring that another process writes.
#[derive(Debug)]
pub struct ShmReader {
    ring: RingReader,
    stats: ReaderStats,
    /// The page in which the reader asks the holder of a lease to wake it, and the event counter by
    /// which the reader wakes the holder.
    wake_by: Option<(Memory, OwnedFd)>,
}

impl ShmReader {
    /// Maps what a [`Handout`] contains.
    ///
    /// # Errors
    ///
    /// The system cannot map the files, the layout is impossible, or the files do not have the
    /// expected size and seals.
    pub fn open(ring: OwnedFd, page: OwnedFd, start: &ShmStart) -> io::Result<Self> {
        let ring = Ring::open(ring, start.layout)?;
        let page = StatsPage::new(Memory::open(page, PAGE_WORDS, Sharing::Writable)?, None);
        Ok(Self {
            ring: RingReader::from_start(ring, start),
            stats: ReaderStats::Page(page),
            wake_by: None,
        })
    }

    /// Uses these [files](NextRing::wake_files) while the reader reads this ring.
    ///
    /// # Errors
    ///
    /// The system cannot map the page, or it does not have the expected size and seals.
    pub fn wake_by(&mut self, asleep: OwnedFd, room: OwnedFd) -> io::Result<()> {
        self.wake_by = Some((Memory::open(asleep, PAGE_WORDS, Sharing::Writable)?, room));
        Ok(())
    }

    /// Reads what comes next, like [`Reader::try_read`].
    ///
    /// # Errors
    ///
    /// [`ReadError`], in the same cases as [`Reader::try_read`].
    pub fn try_read(
        &mut self,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Result<Option<Read>, ReadError> {
        let mut read = self.ring.try_read(sink, max_bytes.into())?;
        if let (None, Some((asleep, _))) = (read, &self.wake_by) {
            flag::raise(&asleep.words()[0], 1);
            read = self.ring.try_read(sink, max_bytes.into())?;
        }
        if let Some(read @ (Read::Data { .. } | Read::Gap { .. })) = read {
            self.stats.record(read, self.ring.settled());
        }
        Ok(read)
    }

    /// Whether the reader has read all of a ring that its stream has left, and must
    /// [follow](Self::follow).
    pub fn has_to_follow(&self) -> bool {
        self.ring.is_at_end_of_left_ring()
    }

    /// Continues at the same position in the ring that [`Handout::follow`] returned. The reader
    /// then has another [notifier](Self::notifier).
    ///
    /// # Errors
    ///
    /// The system cannot map the ring, the layout is impossible, or the file of the ring does not
    /// have the expected size and seals. The reader stays in its old ring.
    pub fn follow(&mut self, ring: OwnedFd, layout: RingLayout) -> io::Result<()> {
        (self.ring.ring, self.wake_by) = (Ring::open(ring, layout)?, None);
        Ok(())
    }

    /// Writes the next chunks to a file straight from the ring: whole chunks, about `most` bytes at
    /// most, but at least one chunk. Returns `None`, and writes nothing, if
    ///
    /// - there are fewer than `least` bytes,
    /// - something other than chunks comes next,
    /// - the policy of this reader is not [`SlowPolicy::Block`],
    /// - or the stream [limits](Handout::require_copies) how long it waits for this reader.
    ///
    /// Call [`try_read`](Self::try_read) in these cases.
    ///
    /// Writers wait for the reader during the call. Afterwards the reader must report that there is
    /// [room](Self::room_is_wanted).
    ///
    /// # Errors
    ///
    /// [`WriteToError::File`]: a part may have been written. [`WriteToError::Overtaken`]: the
    /// stream did not wait after all, because the [`Handout`] was dropped or the reader was given
    /// up; what the file got may be wrong.
    pub fn try_write_to(
        &mut self,
        file: BorrowedFd<'_>,
        least: usize,
        most: usize,
    ) -> Result<Option<Read>, WriteToError> {
        if self.stats.requires_copies() {
            return Ok(None);
        }
        let share = self.ring.ring.layout().capacity() / SHARE;
        let read = self.ring.write_to(file, least, most.min(share as usize))?;
        if let Some(read) = read {
            self.stats.record(read, self.ring.position());
        }
        Ok(read)
    }

    /// Whether the stream waits for the room that this reader has made, and must be told that there
    /// is some. Wakes the holder of a lease that waits for the room. Call once after each read.
    pub fn room_is_wanted(&self) -> bool {
        if self.ring.policy != SlowPolicy::Block {
            return false;
        }
        let (by_stream, by_holder) = self.stats.wanted_by(self.ring.position());
        if let (true, Some((_, room))) = (by_holder, &self.wake_by) {
            // The write fails only if the counter is full, and a full counter wakes the holder too.
            let _ = rustix::io::write(room, &1_u64.to_ne_bytes());
        }
        by_stream
    }

    /// The offset that the reader reads next.
    pub fn position(&self) -> u64 {
        self.ring.offset
    }

    /// A handle to sleep with while there is nothing to read.
    pub fn notifier(&self) -> Notifier {
        Notifier(self.ring.ring.clone())
    }
}

/// Notifier of a ring: readers of other processes sleep on it.
///
/// Take [`count`](Self::count), find nothing to read, then [`sleep`](Self::sleep) with that count:
/// no news in between is missed.
#[derive(Clone, Debug)]
pub struct Notifier(Ring);

impl Notifier {
    /// The number of notifications so far.
    pub fn count(&self) -> u32 {
        self.0.notify_count()
    }

    /// Sleeps until a notification after `count`, until the time `most` is over, or until a
    /// spurious wake-up.
    pub fn sleep(&self, count: u32, most: Option<Duration>) {
        self.0.sleep(count, most);
    }

    /// Wakes all sleepers without news. For a caller that has other news for one of them.
    pub fn wake_sleepers(&self) {
        self.0.wake_sleepers();
    }
}
