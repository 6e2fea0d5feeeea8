//! Readers in other processes: they are handed the ring and read it for themselves.
//!
//! The stream's side is a [`Handout`]: two descriptors and where to begin, to be passed on by
//! whoever knows sockets. The other side makes a [`ShmReader`] of them, which reads with the very
//! code of a [`Reader`]. It can write nothing but its own page of stats, and sleeps on a futex in
//! the ring's header that costs the stream one system call a wake-up, however many sleep.

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

/// A reader of another process, as its stream sees it: attached until this is dropped.
#[derive(Debug)]
pub struct Handout {
    membership: Membership,
    start: ShmStart,
    held: Extent,
    /// The ring and the page, for the other process. The page stays with the reader if the holder
    /// of a lease may wait for it.
    files: Option<(NextRing, Option<OwnedFd>)>,
    /// Whether the other process has read, and its page says where it is.
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
    /// It has the stream's ring already.
    #[error("the stream has not left the ring that the reader has")]
    NotMoved,
    /// The stream has no ring that could be shared, or one that a former holder of a lease can
    /// still write to.
    #[error("the stream has no ring that could be shared")]
    NotShared,
}

impl Reader {
    /// Turns a reader into one that another process is to go on with, from where it is. A process
    /// that [cannot follow](Handout::follow) its stream from ring to ring is given one of full
    /// size.
    ///
    /// # Errors
    ///
    /// When the system gives no memory for its page of stats, and when it has taken chunks out of
    /// the ring already or its stream is [local](crate::Stream::local); the reader comes back
    /// as it was.
    // The large variant is the reader itself, which must not be lost.
    #[allow(clippy::result_large_err)]
    pub fn hand_out(self, can_follow: bool) -> Result<Handout, (Self, io::Error)> {
        if self.is_local() {
            let error = io::Error::new(
                io::ErrorKind::Unsupported,
                "what it has to read is in this process alone",
            );
            return Err((self, error));
        }
        let (page, file) = match Memory::writable_by_others(PAGE_WORDS) {
            Ok((memory, file)) => (memory, file),
            Err(error) => return Err((self, error)),
        };
        // Before the ring is taken: a removal in between would release the memory that the client
        // is about to map, and an append could leave it for one that the client cannot map.
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
        // Extensions for holders of leases.
        let (for_holder, file) = match reserved {
            Some(reserved) => (Some(StatsPageFile { file, _reserved: reserved }), None),
            None => (None, Some(file)),
        };
        membership.set_stats(ReaderStats::Page(StatsPage::new(page, for_holder)), ring.position());
        // Also if the lease ends meanwhile: the client expects more descriptors exactly if this
        // says so.
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
    /// Where the other side begins.
    pub fn start(&self) -> ShmStart {
        self.start
    }

    /// The file of the ring, which another process can only read. `None` once it was closed.
    pub fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.files.as_ref().map(|(ring, _)| ring.file())
    }

    /// The [page and the event counter](NextRing::wake_files) of a leased ring. The other process
    /// must be given them, too: nobody wakes a reader that does not [use
    /// them](ShmReader::wake_by).
    pub fn wake_files(&self) -> Option<[BorrowedFd<'_>; 2]> {
        self.files.as_ref().and_then(|(ring, _)| ring.wake_files())
    }

    /// The reader's page of stats, which it writes; `None` once it was closed.
    pub fn page(&self) -> Option<BorrowedFd<'_>> {
        let page = self.files.as_ref().and_then(|(_, page)| page.as_ref());
        page.or_else(|| self.membership.state.stats.file()).map(AsFd::as_fd)
    }

    /// Closes the files, once the other process has them: the reader then occupies no descriptor,
    /// or one if it is a `block` reader that the holder of a lease may wait for.
    pub fn close_files(&mut self) {
        self.files = None;
    }

    /// Has the reader copy what it reads, whatever its policy: the stream may stop to
    /// [wait](crate::Blockers) for it, and bytes that went to a file straight from the ring
    /// cannot be taken back. A reader that has the page already may be passing bytes on just
    /// now; if it is given up before it has, it [is told](WriteToError::Overtaken) which of them
    /// may be wrong.
    pub fn require_copies(&self) {
        self.membership.state.stats.require_copies();
    }

    /// The ring after the one that the other process has, and its file: the stream has left that
    /// one, and the process has read all of it. It goes on in the next ring from where it is.
    ///
    /// # Errors
    ///
    /// [`FollowError`]; the reader stays where it is.
    pub fn follow(&self) -> Result<NextRing, FollowError> {
        let shared = &self.membership.shared;
        self.has_read.store(true, Ordering::Relaxed);
        let append = shared.look();
        if append.status.removed() {
            return Err(FollowError::Removed);
        }
        let elsewhere = &self.membership.state.elsewhere;
        if lock(elsewhere).as_ref().is_some_and(|ring| ring.is_current(&append)) {
            // The reader trusts the ring no more, to which a former holder of a lease can still
            // write.
            return Err(if append.is_sealed {
                FollowError::NotShared
            } else {
                FollowError::NotMoved
            });
        }
        let (ring, next) = shared.next_ring(&append).ok_or(FollowError::NotShared)?;
        let left = lock(elsewhere).replace(RingElsewhere::new(ring, &next));
        drop(append);
        // Only now: dropping the last handle of a ring frees it.
        drop(left);
        Ok(next)
    }

    /// Waits until the stream has left the ring that the other process reads, or has ended, and
    /// returns the ring's number. Waits only for rings that were leased, whose former holder
    /// could hide this, and never returns `told`.
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

    /// The other process cannot map: the reader is to go on here. Once it has asked for another
    /// ring, it goes on from where its page says that it is.
    pub fn take_back(mut self) -> Reader {
        let shared = &self.membership.shared;
        let mut append = shared.look();
        if self.membership.state.stats.file().is_some() {
            // The holder may wait for the page, which nobody writes any more.
            append.end_lease(shared, None);
        }
        let (ring, head) = (append.ring.ring().clone(), append.ring.head());
        release(append, &mut Vec::new(), shared);
        let mut start = self.start;
        if self.has_read.into_inner() {
            let state = &self.membership.state;
            let (seq, position) = (state.stats.seq().min(head.seq), state.progress(head).position);
            if seq > start.seq || position > start.offset {
                (start.seq, start.offset, start.missing) = (seq, position, None);
            }
        }
        let ring = RingReader::from_start(ring, &start);
        self.membership.set_stats(ReaderStats::own(), ring.position());
        Reader::new(self.membership, ring, self.held)
    }

    /// Waits until the stream is removed.
    pub fn removed(&self) -> impl Future<Output = ()> + Send + use<> {
        Stream { shared: Arc::clone(&self.membership.shared) }.removed()
    }

    /// The reader says that it made room that a writer waits for.
    pub fn made_room(&self) {
        self.membership.shared.room.wake_all();
    }

    /// The progress that the reader claims, clamped to what is possible.
    fn progress(&self) -> Progress {
        let append = self.membership.shared.look();
        self.membership.state.progress(append.ring.head())
    }

    /// The offset that it claims to read next, clamped to between its start and head.
    pub fn position(&self) -> u64 {
        self.progress().position
    }

    /// The end that the reader has come to, by the position that it claims; `None` if it could read
    /// on.
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

    /// Chunks that it claims to have lost, clamped to those that there were.
    pub fn lost_chunks(&self) -> u64 {
        self.progress().lost_chunks
    }

    /// Bytes that it claims to have lost, clamped to those that there were.
    pub fn lost_bytes(&self) -> u64 {
        self.progress().lost_bytes
    }
}

/// Counted among the readers of other processes, for which the notifier is notified.
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

/// What [`ShmReader::try_write_to`] writes at a time keeps its part of a ring from being
/// overwritten: no more than a fourth, so that the stream goes on meanwhile.
const SHARE: u64 = 4;

/// Reads a ring that another process writes.
#[derive(Debug)]
pub struct ShmReader {
    ring: RingReader,
    stats: ReaderStats,
    /// Where it asks the holder of a lease to wake it, and the event counter by which it wakes the
    /// holder.
    wake_by: Option<(Memory, OwnedFd)>,
}

impl ShmReader {
    /// Maps what a [`Handout`] gave.
    ///
    /// # Errors
    ///
    /// When this system can't map it, or it is not what it should be.
    pub fn open(ring: OwnedFd, page: OwnedFd, start: &ShmStart) -> io::Result<Self> {
        let ring = Ring::open(ring, start.layout)?;
        let page = StatsPage::new(Memory::open(page, PAGE_WORDS, Sharing::Writable)?, None);
        Ok(Self {
            ring: RingReader::from_start(ring, start),
            stats: ReaderStats::Page(page),
            wake_by: None,
        })
    }

    /// Uses these [files](NextRing::wake_files) as long as it reads this ring.
    ///
    /// # Errors
    ///
    /// When this system can't map the page, or it is not what it should be.
    pub fn wake_by(&mut self, asleep: OwnedFd, room: OwnedFd) -> io::Result<()> {
        self.wake_by = Some((Memory::open(asleep, PAGE_WORDS, Sharing::Writable)?, room));
        Ok(())
    }

    /// What comes next, as [`Reader::try_read`] gives it.
    ///
    /// # Errors
    ///
    /// As there.
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

    /// Whether it has read all of a ring that its stream has left, so that it must
    /// [follow](Self::follow).
    pub fn has_to_follow(&self) -> bool {
        self.ring.is_at_end_of_left_ring()
    }

    /// Goes on in the ring that [`Handout::follow`] gave, at the same place. The
    /// [notifier](Self::notifier) is another one then.
    ///
    /// # Errors
    ///
    /// When this system can't map it, or it is not what it should be; the reader stays where it is.
    pub fn follow(&mut self, ring: OwnedFd, layout: RingLayout) -> io::Result<()> {
        (self.ring.ring, self.wake_by) = (Ring::open(ring, layout)?, None);
        Ok(())
    }

    /// Writes the next chunks to a file straight from the ring: whole ones, at most about `most`
    /// bytes, and at least one chunk. `None`, and nothing was written, if they are less than
    /// `least` bytes, if something other than chunks comes next, if this reader's policy is not
    /// [`SlowPolicy::Block`], or if the stream [limits](Handout::require_copies) how long it waits
    /// for this reader. Then call [`try_read`](Self::try_read).
    ///
    /// Writers wait for the reader meanwhile. That there is [room](Self::room_is_wanted) now is to
    /// be told afterwards.
    ///
    /// # Errors
    ///
    /// [`WriteToError::File`], when a part may have been written, and [`WriteToError::Overtaken`]
    /// where the stream did not wait after all, because it has let go of the [`Handout`]: what
    /// the file got may then be wrong.
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

    /// Whether the stream waits for the room that this reader has made: it must then be told that
    /// there is some. Wakes the holder of a lease that waits for it. To be called once after
    /// each read.
    pub fn room_is_wanted(&self) -> bool {
        if self.ring.policy != SlowPolicy::Block {
            return false;
        }
        let (by_stream, by_holder) = self.stats.wanted_by(self.ring.position());
        if let (true, Some((_, room))) = (by_holder, &self.wake_by) {
            // Only a counter that somebody has filled takes no more, and that wakes the holder as
            // well.
            let _ = rustix::io::write(room, &1_u64.to_ne_bytes());
        }
        by_stream
    }

    /// The offset that it reads next.
    pub fn position(&self) -> u64 {
        self.ring.offset
    }

    /// A handle to sleep with while there is nothing to read.
    pub fn notifier(&self) -> Notifier {
        Notifier(self.ring.ring.clone())
    }
}

/// What readers of other processes sleep on.
///
/// Take [`count`](Self::count), find nothing to read, then [`sleep`](Self::sleep) with that count:
/// news in between is not missed.
#[derive(Clone, Debug)]
pub struct Notifier(Ring);

impl Notifier {
    /// How often it was notified.
    pub fn count(&self) -> u32 {
        self.0.notify_count()
    }

    /// Sleeps until it is notified, if it was not since `count`; or until the time is over, or for
    /// no reason.
    pub fn sleep(&self, count: u32, most: Option<Duration>) {
        self.0.sleep(count, most);
    }

    /// Wakes everybody who sleeps, without news: for whoever has other news for one of them.
    pub fn wake_sleepers(&self) {
        self.0.wake_sleepers();
    }
}
