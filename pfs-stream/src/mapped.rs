//! Readers in other processes: they are handed the ring and read it for themselves.
//!
//! The stream's side is a [`Handout`]: two descriptors and where to begin, to be passed on by whoever knows
//! sockets. The other side makes a [`MappedReader`] of them, which reads with the very code of a [`Reader`].
//! It can write nothing but its own page of figures, and sleeps on a futex in the ring's
//! header that costs the stream one system call a wake-up, however many sleep.

use std::{
    future::Future,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use pfs_proto::{End, MappedStart, SlowPolicy, Until};

use crate::{
    Extent, Read, ReadError, Reader, Sink, Stream,
    figures::{Figures, PAGE_WORDS},
    membership::Membership,
    ring::{Memory, Ring, RingReader, RingWriter, Sharing},
    state::{Progress, Shared},
    sync::{Arc, Ordering, lock},
};

pub use crate::ring::WriteToError;

/// A reader of another process, as its stream sees it: attached until this is dropped.
#[derive(Debug)]
pub struct Handout {
    membership: Membership,
    start: MappedStart,
    held: Extent,
    /// The ring and the page, for the other process.
    files: Option<[OwnedFd; 2]>,
    _counted: Counted,
}

impl Reader {
    /// Turns a reader into one that another process is to go on with, from where it is.
    ///
    /// # Errors
    ///
    /// When the system gives no memory for its page of figures, and when it has taken chunks out of the ring already or its
    /// stream is [local](crate::Stream::local); the reader comes back as it was.
    // The large variant is the reader itself, which must not be lost.
    #[allow(clippy::result_large_err)]
    pub fn hand_out(self) -> Result<Handout, (Self, io::Error)> {
        if self.is_local() {
            let error =
                io::Error::new(io::ErrorKind::Unsupported, "what it has to read is in this process alone");
            return Err((self, error));
        }
        let (page, file) = match Memory::writable_by_others(PAGE_WORDS) {
            Ok((memory, file)) => (memory, file),
            Err(error) => return Err((self, error)),
        };
        // Before the ring is taken: a removal in between would release the memory that the client is about to map.
        let counted = Counted::new(&self.membership.shared);
        let shared = match self.membership.shared.share() {
            Ok(ring) => ring.clone(),
            Err(error) => return Err((self, error)),
        };
        let Some(ring_file) = shared.memory().file() else {
            return Err((self, io::ErrorKind::Unsupported.into()));
        };
        let held = self.extent_at_attach();
        let (mut membership, mut ring) = self.into_parts();
        ring.ring = shared;
        membership.set_figures(Figures::Page(page), ring.position());
        Ok(Handout {
            membership,
            start: ring.to_start(),
            held,
            files: Some([ring_file, file]),
            _counted: counted,
        })
    }
}

/// Bytes that are copied at a time while a stream moves to a ring that other processes are given: about a millisecond's work.
const LARGEST_STEP: u64 = 4 << 20;

impl Shared {
    /// The ring that other processes are given: one of full size, to which the stream moves when it is asked for first.
    fn share(&self) -> io::Result<&Ring> {
        if let Some(ring) = self.shared_ring.get() {
            return Ok(ring);
        }
        let append = lock(&self.append);
        if append.ring.ring().memory().is_shared() {
            return Ok(self.shared_ring.get_or_init(|| append.ring.ring().clone()));
        }
        drop(append);
        let layout = self.config.layout();
        let refused = || io::Error::new(io::ErrorKind::OutOfMemory, "no memory is left that could be shared");
        let descriptor = match &self.descriptors {
            Some(descriptors) => Some(descriptors.reserve(1).ok_or_else(refused)?),
            None => None,
        };
        let memory = self.budgets.iter().map(|budget| budget.reserve(layout.bytes()));
        let mut charge = memory.collect::<Option<Vec<_>>>().ok_or_else(refused)?;
        charge.extend(descriptor);
        let ring = Ring::shared(layout)?;
        ring.charge(charge);
        let (mut next, mut step) = (None, 64 << 10);
        loop {
            // Little at a time, so that writers need not wait for long, and more each time, so that they cannot outrun it.
            let mut append = lock(&self.append);
            if append.ring.ring().memory().is_shared() {
                return Ok(self.shared_ring.get_or_init(|| append.ring.ring().clone()));
            }
            if append.status.removed() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let writer = next.take().unwrap_or_else(|| RingWriter::from(ring.clone(), append.ring.tail()));
            next = append.move_on(writer, step);
            step = (2 * step).min(LARGEST_STEP);
            if next.is_none() {
                let ring = self.shared_ring.get_or_init(|| ring);
                drop(append);
                self.wake_readers();
                return Ok(ring);
            }
        }
    }
}

impl Handout {
    /// Where the other side begins.
    pub fn start(&self) -> MappedStart {
        self.start
    }

    /// The file of the ring, which another process can only read. `None` once it was closed.
    pub fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.files.as_ref().map(|[ring, _]| ring.as_fd())
    }

    /// The reader's page of figures, which it writes; `None` once it was closed.
    pub fn page(&self) -> Option<BorrowedFd<'_>> {
        self.files.as_ref().map(|[_, page]| page.as_fd())
    }

    /// Closes both files, once the other process has them: the reader then occupies no descriptor.
    pub fn close_files(&mut self) {
        self.files = None;
    }

    /// Has the reader copy what it reads, whatever its policy: the stream may stop to [wait](crate::Blockers) for it, and bytes
    /// that went to a file straight from the ring cannot be taken back. A reader that has the page already may be passing bytes on just
    /// now; if it is given up before it has, it [is told](WriteToError::Overtaken) which of them may be wrong.
    pub fn require_copies(&self) {
        self.membership.state.figures.require_copies();
    }

    /// The other process cannot map, and has read nothing: the reader is to go on here.
    pub fn take_back(mut self) -> Reader {
        let ring = lock(&self.membership.shared.append).ring.ring().clone();
        let ring = RingReader::from_start(ring, &self.start);
        self.membership.set_figures(Figures::own(), ring.position());
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
        let append = lock(&self.membership.shared.append);
        self.membership.state.progress(append.ring.head())
    }

    /// The offset that it claims to read next, clamped to between its start and head.
    pub fn position(&self) -> u64 {
        self.progress().position
    }

    /// The end that the reader has come to, by the position that it claims; `None` if it could read on.
    ///
    /// # Errors
    ///
    /// The stream was removed, or a `disconnect` reader lags by more than the channel buffer.
    pub fn end(&self) -> Result<Option<End>, ReadError> {
        let shared = &self.membership.shared;
        let append = lock(&shared.append);
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
        if self.membership.state.figures.seq() == head.seq {
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

/// Counted among the readers of other processes, for which the bell is rung.
#[derive(Debug)]
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.mapped.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.mapped.fetch_sub(1, Ordering::SeqCst);
        self.0.give_back();
    }
}

/// What [`MappedReader::try_write_to`] writes at a time keeps its part of a ring from being overwritten: no more than a fourth,
/// so that the stream goes on meanwhile.
const SHARE: u64 = 4;

/// Reads a ring that another process writes.
#[derive(Debug)]
pub struct MappedReader {
    ring: RingReader,
    figures: Figures,
}

impl MappedReader {
    /// Maps what a [`Handout`] gave.
    ///
    /// # Errors
    ///
    /// When this system can't map it, or it is not what it should be.
    pub fn open(ring: OwnedFd, page: OwnedFd, start: &MappedStart) -> io::Result<Self> {
        let ring = Ring::open(ring, start.capacity)?;
        let figures = Figures::Page(Memory::open(page, PAGE_WORDS, Sharing::Writable)?);
        Ok(Self { ring: RingReader::from_start(ring, start), figures })
    }

    /// What comes next, as [`Reader::try_read`] gives it.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_read(&mut self, sink: &mut impl Sink, max_bytes: usize) -> Result<Option<Read>, ReadError> {
        let read = self.ring.try_read(sink, max_bytes.into())?;
        if let Some(read @ (Read::Data { .. } | Read::Gap { .. })) = read {
            self.figures.record(read, self.ring.settled());
        }
        Ok(read)
    }

    /// Writes the next chunks to a file straight from the ring: whole ones, at most about `most` bytes, and at least one chunk.
    /// `None`, and nothing was written, if they are less than `least` bytes, if something other than chunks comes next, if this
    /// reader's policy is not [`SlowPolicy::Block`], or if the stream [limits](Handout::require_copies) how long it waits for
    /// this reader. Then call [`try_read`](Self::try_read).
    ///
    /// Writers wait for the reader meanwhile. That there is [room](Self::room_is_wanted) now is to be told afterwards.
    ///
    /// # Errors
    ///
    /// [`WriteToError::File`], when a part may have been written, and [`WriteToError::Overtaken`] where the stream did not wait
    /// after all, because it has let go of the [`Handout`]: what the file got may then be wrong.
    pub fn try_write_to(
        &mut self,
        file: BorrowedFd<'_>,
        least: usize,
        most: usize,
    ) -> Result<Option<Read>, WriteToError> {
        if self.figures.requires_copies() {
            return Ok(None);
        }
        let share = self.ring.ring.layout().capacity() / SHARE;
        let read = self.ring.write_to(file, least, most.min(share as usize))?;
        if let Some(read) = read {
            self.figures.record(read, self.ring.position());
        }
        Ok(read)
    }

    /// Whether a writer waits for the room that this reader has made: it must then be told that there is some. To be asked
    /// once after each read.
    pub fn room_is_wanted(&self) -> bool {
        self.ring.policy == SlowPolicy::Block && self.figures.is_wanted(self.ring.position())
    }

    /// The offset that it reads next.
    pub fn position(&self) -> u64 {
        self.ring.offset
    }

    /// A handle to sleep with while there is nothing to read.
    pub fn bell(&self) -> Bell {
        Bell(self.ring.ring.clone())
    }
}

/// What readers of other processes sleep on.
///
/// Take [`count`](Self::count), find nothing to read, then [`sleep`](Self::sleep) with that count: news in
/// between is not missed.
#[derive(Clone, Debug)]
pub struct Bell(Ring);

impl Bell {
    /// How often it was rung.
    pub fn count(&self) -> u32 {
        self.0.bell_count()
    }

    /// Sleeps until it is rung, if it was not since `count`; or until the time is over, or for no reason.
    pub fn sleep(&self, count: u32, most: Option<Duration>) {
        self.0.sleep(count, most);
    }

    /// Wakes everybody who sleeps, without news: for whoever has other news for one of them.
    pub fn rouse(&self) {
        self.0.rouse();
    }
}
