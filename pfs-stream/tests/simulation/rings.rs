//! Model of a stream's rings: the memory of each ring, what it held when the stream left it, and
//! whether it can be shared.

use pfs_stream::{StreamConfig, StreamStat};

use crate::ledger::Held;

/// Bytes of an entry of a ring's index.
const ENTRY: u64 = 16;
/// Bytes before the index: of a full-size ring, of a smaller shared ring, and of a smaller ring of
/// this process.
const FULL_HEADER: u64 = 4096;
const SHARED_HEADER: u64 = 512;
const OWN_HEADER: u64 = 272;
/// Smaller rings of this process that have at most this many bytes are from the heap, and the
/// system cannot take their memory back.
const HEAP: u64 = 64 * 1024;

/// One ring. A field is `None` where the schedule cannot know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    pub(crate) capacity: u64,
    /// Bytes of the whole ring.
    pub(crate) bytes: Option<u64>,
    /// Whether the ring can be given to other processes.
    pub(crate) is_shared: Option<bool>,
    /// What the ring holds for good, once the stream has left it.
    left: Option<Held>,
}

/// All rings that a stream has had. A ring's number is how often the stream had moved before it.
#[derive(Debug)]
pub(crate) struct Rings {
    full: u64,
    /// What the stream takes beside its ring.
    pub(crate) overhead: u64,
    all: Vec<Ring>,
    /// Whether the ring that is being filled may be unshareable although it should be shareable.
    was_starved: bool,
}

/// What was known before an action that may make the stream move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) capacity: u64,
    /// Whether another ring is being filled.
    pub(crate) is_growing: bool,
    pub(crate) held: Held,
}

/// An action that may have made the stream move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    /// Whether the ring may have been left in the middle of the action.
    pub(crate) is_batch: bool,
    /// Whether there are readers in other processes.
    pub(crate) is_read_elsewhere: bool,
    /// Whether the system had no descriptor.
    pub(crate) is_starved: bool,
    /// Whether the registry's descriptors were ever limited.
    pub(crate) is_limited: bool,
    /// Whether a lease was granted.
    pub(crate) is_lease: bool,
    /// Whether a lease has ended in the ring that may have been left.
    pub(crate) was_sealed: bool,
}

impl Rings {
    /// Whether this ring has the stream's full size.
    pub(crate) fn is_full(&self, number: usize) -> bool {
        self.all[number].capacity == self.full
    }

    pub(crate) fn new(config: &StreamConfig) -> Self {
        let full = config.ring_buffer_size.max(config.channel_buffer_size).next_multiple_of(4096);
        Self { full, overhead: 0, all: Vec::new(), was_starved: false }
    }

    /// Records the first ring.
    pub(crate) fn begin(&mut self, stat: &StreamStat) {
        let bytes = self.usual_bytes(stat.capacity);
        let is_shared = if stat.capacity == self.full { None } else { Some(false) };
        self.all.push(Ring { capacity: stat.capacity, bytes: Some(bytes), is_shared, left: None });
        self.overhead = stat.memory - bytes;
    }

    /// The number of the stream's current ring.
    pub(crate) fn current(&self) -> usize {
        self.all.len() - 1
    }

    pub(crate) fn ring(&self, number: usize) -> Ring {
        self.all[number]
    }

    /// Bytes and chunks that a full-size ring holds.
    pub(crate) fn full(&self) -> (u64, u64) {
        (self.full, (self.full / 64).max(1024) - 1)
    }

    /// What the ring held when the stream left it, if it has.
    pub(crate) fn left(&self, number: usize) -> Option<Held> {
        self.all[number].left
    }

    /// Bytes of a full-size ring, or of a smaller ring of this process.
    fn usual_bytes(&self, capacity: u64) -> u64 {
        let (header, least) =
            if capacity == self.full { (FULL_HEADER, 1024) } else { (OWN_HEADER, 4) };
        header + ENTRY * (capacity / 64).max(least) + capacity
    }

    /// The most chunks that a ring holds; one entry is taken by head.
    pub(crate) fn max_chunks(&self, number: usize) -> Option<u64> {
        let Ring { capacity, bytes, .. } = self.all[number];
        let bytes = bytes?;
        let usual = bytes == self.usual_bytes(capacity);
        let header = if !usual {
            SHARED_HEADER
        } else if capacity == self.full {
            FULL_HEADER
        } else {
            OWN_HEADER
        };
        Some((bytes - header - capacity) / ENTRY - 1)
    }

    /// Bytes of a ring if it is from the heap, and 0 otherwise.
    pub(crate) fn heap_bytes(&self, number: usize) -> Option<u64> {
        let Ring { capacity, bytes, .. } = self.all[number];
        if capacity == self.full {
            return Some(0);
        }
        bytes.map(
            |bytes| if bytes == self.usual_bytes(capacity) && bytes <= HEAP { bytes } else { 0 },
        )
    }

    /// What is known before an action, like [`before`](Self::before), but without asking the
    /// stream, whose ring has or had a lease.
    pub(crate) fn before_end(&self, held: Held) -> Before {
        Before { capacity: self.all[self.current()].capacity, is_growing: false, held }
    }

    /// The most bytes that the smallest ring with room for `len` bytes and `chunks` may take.
    pub(crate) fn least_bytes(&self, len: u64, chunks: u64, is_shared: bool) -> u64 {
        let capacity = len.max(64 * (chunks + 1)).next_multiple_of(8);
        let (header, page) = if is_shared { (SHARED_HEADER, 4096) } else { (OWN_HEADER, 1) };
        if capacity + page > self.full {
            // Rounding up to a page may make the ring as large as a full-size one.
            return self.usual_bytes(self.full);
        }
        let bytes = header + ENTRY * (capacity / 64).max(4) + capacity;
        bytes.next_multiple_of(page).min(self.usual_bytes(self.full))
    }

    /// Bytes of a full-size ring.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn full_bytes(&self) -> u64 {
        self.usual_bytes(self.full)
    }

    /// Records that a holder overwrites more of a ring that the stream has left.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn announced(&mut self, ring: usize, tail: usize) {
        if let Some(left) = &mut self.all[ring].left {
            left.tail = left.tail.max(tail);
        }
    }

    /// What is known before an action that may make the stream move.
    pub(crate) fn before(&self, stat: &StreamStat, held: Held) -> Before {
        let ring = self.all[self.current()];
        let is_growing = ring.bytes.is_none_or(|bytes| stat.memory > self.overhead + bytes);
        Before { capacity: stat.capacity, is_growing, held }
    }

    /// Records the rings that the stream has moved to since. `stat` describes the stream now;
    /// `found` is what the ring that it left first holds, according to a reader that has that ring.
    pub(crate) fn note(
        &mut self,
        before: Before,
        stat: &StreamStat,
        found: Option<Held>,
        cause: Cause,
    ) {
        self.was_starved = cause.is_starved || before.is_growing && self.was_starved;
        let (from, to) = (self.current(), stat.moves as usize);
        if from == to {
            return;
        }
        let last = self.all[from];
        assert!(
            last.capacity < self.full
                || last.is_shared != Some(true)
                || cause.is_lease
                || cause.was_sealed,
            "the stream left a ring without a cause"
        );
        if let Some(found) = found {
            let (tail, head) = ((stat.chunks - stat.chunks_held) as usize, stat.chunks as usize);
            let is_possible = if cause.is_batch {
                (before.held.tail..=tail).contains(&found.tail)
                    && (before.held.head..=head).contains(&found.head)
            } else {
                (found.tail, found.head) == (before.held.tail, before.held.head)
            };
            assert!(is_possible, "a ring that was left holds {found:?}, before that {before:?}");
        }
        self.all[from].left = Some(Held { is_left: true, ..found.unwrap_or(before.held) });
        // No reader has the rings in between.
        let between = Ring { capacity: 0, bytes: None, is_shared: None, left: Some(before.held) };
        self.all.resize(to, between);
        let is_full = stat.capacity == self.full;
        let part = |all: u64| all - all / 4;
        // Another ring may already be being filled.
        let is_due = stat.head - stat.tail > part(stat.capacity)
            || stat.chunks - before.held.tail as u64 > part(stat.capacity / 64);
        let bytes = if is_full {
            Some(self.usual_bytes(stat.capacity))
        } else {
            Some(stat.memory - self.overhead).filter(|_| !(cause.is_batch && is_due))
        };
        let is_shared = if cause.is_lease {
            Some(true)
        } else if cause.was_sealed {
            let is_shared = !cause.is_starved && (is_full || cause.is_read_elsewhere);
            // After two moves the ring may lack a descriptor.
            (to == from + 1).then_some(is_shared)
        } else if cause.is_read_elsewhere {
            if cause.is_starved && !before.is_growing {
                Some(false)
            } else {
                let may_lack = self.was_starved || last.is_shared != Some(true) && cause.is_limited;
                (!may_lack).then_some(true)
            }
        } else {
            (!before.is_growing && !is_full).then_some(false)
        };
        self.all.push(Ring { capacity: stat.capacity, bytes, is_shared, left: None });
        self.was_starved = false;
    }

    /// Records whether the stream's current ring turned out to be shareable.
    pub(crate) fn found_shared(&mut self, is_shared: bool) {
        let at = self.current();
        assert_ne!(self.all[at].is_shared, Some(!is_shared), "whether ring {at} can be shared");
        self.all[at].is_shared = Some(is_shared);
    }

    /// Checks the layout of the stream's ring as it is told to another process.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn check_layout(&self, layout: pfs_stream::RingLayout) {
        let Ring { capacity, bytes, .. } = self.all[self.current()];
        assert_eq!((layout.capacity, layout.entries.is_none()), (capacity, capacity == self.full));
        if let (Some(entries), Some(bytes)) = (layout.entries, bytes) {
            assert_eq!(SHARED_HEADER + ENTRY * entries + capacity, bytes, "of {layout:?}");
        }
    }
}
