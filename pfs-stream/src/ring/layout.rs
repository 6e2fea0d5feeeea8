//! Memory layout of a ring, in words of eight bytes.
//!
//! ```text
//! word 0     HEADER                     data()
//! | counters | index, 2 words an entry | data: byte o at o % capacity | first index, if any |
//! ```

use std::ops::Range;

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use pfs_proto::RingLayout;

use super::Index;

/// Bytes in a word, the unit of all access to shared memory.
pub(crate) const WORD: usize = 8;

// Words that different parties write lie in different pairs of cache lines, to avoid false sharing.
// Loom tracks each word of each execution, so the layout under loom is packed.
const LINE: usize = if cfg!(loom) { 1 } else { 16 };

/// Nonzero once the writer has left the first index, in a ring that has one. Written once.
pub(crate) const GROWN: usize = 0;
/// The chunk with which the stream went on when it last skipped, in a ring without a first index.
/// Written before any reader has the ring.
pub(crate) const BEGIN_SEQ: usize = GROWN;
/// Sequence number of the oldest chunk that may be trusted.
pub(crate) const TAIL_SEQ: usize = LINE;
/// Sequence number that the next chunk will get.
pub(crate) const HEAD_SEQ: usize = 2 * LINE;
/// The [`Status`](super::Status) of the stream. It is beside head because readers load both.
pub(crate) const STATUS: usize = 2 * LINE + 1;
/// The notify word, on which readers of other processes sleep. Accessed only as a 32-bit futex.
#[cfg(any(loom, all(target_os = "linux", not(miri))))]
pub(crate) const NOTIFY: usize = if cfg!(loom) { 4 } else { 3 * LINE };
/// The chunk up to which the holder of a lease may overwrite: no `block` reader needs any chunk
/// before it. The floor only rises. The stream or the holder raises it, whichever sees first that
/// it may rise. Without a `block` reader, it is beyond every chunk.
pub(crate) const FLOOR: usize = if cfg!(loom) { 5 } else { 4 * LINE };
/// A [flag](crate::flag): whether anyone in the stream's process waits for the next append of the
/// holder of a lease.
pub(crate) const PUBLISHED: usize = if cfg!(loom) { 6 } else { 5 * LINE };
/// Number of attached readers, for the holder of a lease.
pub(crate) const READERS: usize = if cfg!(loom) { 7 } else { 4 * LINE + 1 };
/// The bit of [`HEAD_SEQ`] that ends a lease: once it is set, the holder can publish nothing.
pub(crate) const SEALED: u64 = 1 << 63;
/// Words before the index of a full-size ring: one page. In a smaller ring of one process, only its
/// counters come before the index.
pub(super) const HEADER: usize = if cfg!(loom) { 8 } else { 4096 / WORD };
const SMALL_HEADER: usize = if cfg!(loom) { 5 } else { 2 * LINE + 2 };
/// Words before the index of a ring in shared memory that is not of full size: all words up to and
/// including the group of the notify word.
const SHARED_HEADER: usize = if cfg!(loom) { 5 } else { 4 * LINE };
/// Page size: shared memory takes whole pages of this many bytes.
const PAGE_BYTES: u64 = 4096;

/// Data capacities are a multiple of this many bytes.
const CAPACITY_STEP_BYTES: u64 = if cfg!(loom) { 8 } else { 4096 };
/// Chunks of at least this many bytes are held by reference, in a ring that holds chunks so.
pub(crate) const MIN_HELD_BYTES: usize = if cfg!(loom) { 8 } else { 4096 };
/// Bytes of data for each index entry. If chunks are smaller than this on average, the ring keeps a
/// shorter history.
const BYTES_PER_ENTRY: u64 = 64;
const MIN_ENTRIES: u64 = if cfg!(loom) { 4 } else { 1024 };

/// Bytes that the first ring of a stream can hold, unless the stream starts at full size.
const FIRST: u64 = if cfg!(loom) { 8 } else { 256 };
/// The fewest index entries of a ring that is not of full size.
const FIRST_ENTRIES: u64 = if cfg!(loom) { 2 } else { 4 };
/// Each next ring holds at least this many times as much as the ring before.
const GROWTH_FACTOR: u64 = if cfg!(loom) { 2 } else { 4 };
/// Rings of at most this many bytes are allocated from the heap.
const BOXED: u64 = 64 * 1024;

/// The largest buffer size of a stream, in bytes: 1 TiB.
pub(crate) const MAX_RING_BYTES: u64 = 1 << 40;

/// The sizes of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Words before the index.
    header: usize,
    /// Bytes of data.
    capacity: u64,
    /// Entries of the index.
    entries: u64,
    /// Entries of the first index; 0 if there is none.
    first: u64,
}

impl Layout {
    /// The full-size layout of a ring of at least `size` bytes. `size` is from 1 to
    /// [`MAX_RING_BYTES`].
    pub(crate) fn new(size: u64) -> Self {
        let capacity = size.clamp(1, MAX_RING_BYTES).next_multiple_of(CAPACITY_STEP_BYTES);
        Self {
            header: HEADER,
            capacity,
            entries: (capacity / BYTES_PER_ENTRY).max(MIN_ENTRIES),
            first: 0,
        }
    }

    /// The layout of a ring of one process that holds at least `bytes`, rounded up a little.
    /// Returns `self` if `self` holds no more than that.
    fn smaller(self, bytes: u64) -> Self {
        let capacity = bytes.next_multiple_of(WORD as u64);
        let entries = (capacity / BYTES_PER_ENTRY).max(FIRST_ENTRIES);
        if capacity >= self.capacity || entries >= self.entries {
            return self;
        }
        Self { header: SMALL_HEADER, capacity, entries, first: 0 }
    }

    /// The layout of a ring in shared memory that holds at least `bytes` and `chunks`, rounded up
    /// to whole pages. Returns `self` if `self` holds no more than that.
    pub(crate) fn smaller_shared(self, bytes: u64, chunks: u64) -> Self {
        let (entry, header) = (2 * WORD as u64, (SHARED_HEADER * WORD) as u64);
        let entries = (bytes / BYTES_PER_ENTRY).max(chunks.saturating_add(1)).max(FIRST_ENTRIES);
        let needed = header.saturating_add(entries.saturating_mul(entry)).saturating_add(bytes);
        let Some(all) =
            needed.checked_next_multiple_of(PAGE_BYTES).filter(|all| *all < self.bytes())
        else {
            return self;
        };
        // Divide the rest of the last page between data and index in the usual proportion.
        let more = (all - needed) / (BYTES_PER_ENTRY + entry);
        let capacity = (bytes + more * BYTES_PER_ENTRY).next_multiple_of(WORD as u64);
        let entries = (all - header - capacity.min(all - header)) / entry;
        if capacity >= self.capacity || entries >= self.entries {
            return self;
        }
        Self { header: SHARED_HEADER, capacity, entries, first: 0 }
    }

    /// The layout of the first ring of a stream that grows to this layout.
    pub(crate) fn initial(self) -> Self {
        self.smaller(FIRST)
    }

    /// The layout of the ring that follows a ring of this layout, in a stream that grows to `full`.
    /// The larger ring holds everything that this one holds, and `bytes` and `chunks` more.
    pub(crate) fn larger(self, full: Self, bytes: u64, chunks: u64, is_shared: bool) -> Self {
        let more = bytes.max(chunks.saturating_mul(BYTES_PER_ENTRY));
        let bytes = self.capacity.max(more).saturating_mul(GROWTH_FACTOR);
        if is_shared { full.smaller_shared(bytes, self.entries) } else { full.smaller(bytes) }
    }

    /// The layout of a ring that holds at least `bytes` and `chunks`, rounded up a little, for a
    /// stream that grows to this layout.
    pub(crate) fn for_at_least(self, bytes: u64, chunks: u64, is_shared: bool) -> Self {
        if is_shared {
            self.smaller_shared(bytes, chunks)
        } else {
            self.smaller(bytes.max(chunks.saturating_add(1).saturating_mul(BYTES_PER_ENTRY)))
        }
    }

    /// The layout of a ring in shared memory, as received by its reader. `None` if no ring can have
    /// this layout.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn from_told(layout: RingLayout) -> Option<Self> {
        let RingLayout { capacity, entries } = layout;
        let Some(entries) = entries else { return Some(Self::new(capacity)) };
        let is_possible = capacity.is_multiple_of(WORD as u64)
            && (WORD as u64..=MAX_RING_BYTES).contains(&capacity)
            && (FIRST_ENTRIES..=MAX_RING_BYTES).contains(&entries);
        is_possible.then_some(Self { header: SHARED_HEADER, capacity, entries, first: 0 })
    }

    /// The layout as it is sent to a reader of another process.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn to_tell(self) -> RingLayout {
        RingLayout {
            capacity: self.capacity,
            entries: (self.header == SHARED_HEADER).then_some(self.entries),
        }
    }

    /// Whether a ring of this layout can take an append of `bytes` and `chunks` at once.
    pub(crate) fn has_room(self, bytes: u64, chunks: u64) -> bool {
        bytes <= self.capacity && chunks <= self.max_chunks()
    }

    /// Whether this is the layout of a ring that still grows, and is small enough for the heap.
    pub(super) fn is_small(self) -> bool {
        self.header == SMALL_HEADER && self.bytes() <= BOXED
    }

    /// Words before the index.
    pub(super) fn header(self) -> usize {
        self.header
    }

    /// This layout with a first index, which has one entry for each chunk that the ring can hold by
    /// reference at once.
    pub(crate) fn with_first_index(self) -> Self {
        let most = self.capacity.div_ceil(MIN_HELD_BYTES as u64);
        Self { first: (most + 1).min(self.entries), ..self }
    }

    /// The layout of a ring in shared memory that replaces a ring of this layout, in a stream that
    /// grows to `full`.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn to_shared(self, full: Self) -> Self {
        full.smaller_shared(self.capacity, self.entries)
    }

    /// Whether a ring of this layout can replace a ring of layout `other`.
    pub(crate) fn has_room_of(self, other: Self) -> bool {
        self.capacity >= other.capacity && self.entries >= other.entries
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The most chunks that the ring can hold.
    pub(crate) fn max_chunks(&self) -> u64 {
        self.index().max_chunks()
    }

    /// Words of the whole ring.
    pub(crate) fn words(&self) -> usize {
        self.data().end + 2 * self.first as usize
    }

    /// Bytes of the whole ring.
    pub(crate) fn bytes(&self) -> u64 {
        (self.words() * WORD) as u64
    }

    /// The first index, where a new ring keeps its entries if it holds large chunks by reference.
    /// `None` for any other ring: its only index has room for all chunks.
    pub(crate) fn first_index(&self) -> Option<Index> {
        (self.first > 0).then(|| Index::new(self.data().end, self.first))
    }

    pub(crate) fn index(&self) -> Index {
        Index::new(self.header, self.entries)
    }

    /// The words of the data.
    pub(crate) fn data(&self) -> Range<usize> {
        let begin = self.header + 2 * self.entries as usize;
        begin..begin + self.capacity as usize / WORD
    }
}
