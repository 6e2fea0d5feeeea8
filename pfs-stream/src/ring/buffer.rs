//! Ring buffer memory, and its division into counters, index and data.

use super::{Index, Layout, Memory, Status, layout};
use crate::{
    budget::Reservation,
    sync::{
        Arc, AtomicU64, Mutex,
        Ordering::{self, Acquire},
        lock,
    },
};

/// The memory of a ring and its layout, shared by writer and readers.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pub(super) layout: Layout,
    pub(super) memory: Arc<Charged>,
}

/// Memory, and its share of budgets, which is given back with the memory.
#[derive(Debug)]
pub(super) struct Charged {
    memory: Memory,
    charge: Mutex<Vec<Reservation>>,
}

impl std::ops::Deref for Charged {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl From<Memory> for Charged {
    fn from(memory: Memory) -> Self {
        Self { memory, charge: Mutex::new(Vec::new()) }
    }
}

impl Ring {
    fn from_memory(layout: Layout, memory: Memory) -> Self {
        Self { layout, memory: Arc::new(memory.into()) }
    }

    /// Takes memory for a ring that can be shared with other processes.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn shared(layout: Layout) -> std::io::Result<Self> {
        Ok(Self::from_memory(layout, Memory::new(layout.words())?))
    }

    #[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
    pub(crate) fn shared(_: Layout) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Takes memory for a ring that only this process reads. Occupies no descriptor.
    pub(crate) fn own(layout: Layout) -> std::io::Result<Self> {
        let words = layout.words();
        let memory = if layout.is_small() { Ok(Memory::boxed(words)) } else { Memory::own(words) };
        Ok(Self::from_memory(layout, memory?))
    }

    /// Sets the ring's share of budgets, which is given back with the memory.
    pub(crate) fn charge(&self, charge: Vec<Reservation>) {
        *lock(&self.memory.charge) = charge;
    }

    /// Takes out the ring's share of a budget.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn take_charge(&self, budget: &crate::Budget) -> Option<Reservation> {
        lock(&self.memory.charge).extract_if(.., |part| part.is_of(budget)).next()
    }

    /// Adds to the ring's share of budgets.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn add_charge(&self, part: Reservation) {
        lock(&self.memory.charge).push(part);
    }

    /// Has the system allocate the memory from byte `from` to byte `to` now, so that a later access
    /// finds it allocated. Does nothing for memory of this process alone.
    pub(crate) fn allocate(&self, from: u64, to: u64) -> std::io::Result<()> {
        self.memory.allocate(from, to)
    }

    /// Whether the ring can be shared with other processes.
    pub(crate) fn is_shared(&self) -> bool {
        self.memory.is_shared()
    }

    /// The ring's share of a budget, in bytes.
    pub(crate) fn charged_to(&self, budget: &crate::Budget) -> u64 {
        let charge = lock(&self.memory.charge);
        charge.iter().filter(|part| part.is_of(budget)).map(Reservation::bytes).sum()
    }

    /// Takes memory for a ring of this process alone that holds large chunks by reference.
    pub(crate) fn holding(layout: Layout) -> std::io::Result<Self> {
        let layout = layout.with_first_index();
        Ok(Self::from_memory(layout, Memory::own(layout.words())?))
    }

    /// Whether the writer holds large chunks by reference, for readers in this process only.
    pub(crate) fn holds(&self) -> bool {
        self.layout.first_index().is_some()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether both are the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        &self.words()[index]
    }

    pub(super) fn load(&self, index: usize, order: Ordering) -> u64 {
        self.word(index).load(order)
    }

    /// The number of the next chunk, without the bit that ends a lease.
    #[inline]
    pub(crate) fn head_seq(&self) -> u64 {
        self.load(layout::HEAD_SEQ, Acquire) & !layout::SEALED
    }

    /// The chunk with which the stream went on when it last skipped; 0 if it never did.
    pub(super) fn begin_seq(&self) -> u64 {
        if self.holds() { 0 } else { self.load(layout::BEGIN_SEQ, Ordering::Relaxed) }
    }

    /// The index with the entries of all chunks up to a head that was seen before.
    pub(super) fn index(&self) -> Index {
        match self.layout.first_index() {
            Some(first) if self.load(layout::GROWN, Acquire) == 0 => first,
            _ => self.layout.index(),
        }
    }

    /// The entries of `count` chunks from `seq` on, as one or two runs.
    pub(super) fn entries(&self, seq: u64, count: usize) -> [&[[AtomicU64; 2]]; 2] {
        let index = self.index();
        let entries = self.words()[index.words()].as_chunks::<2>().0;
        let after = &entries[index.entry_of(seq)..];
        let before = count.saturating_sub(after.len());
        [&after[..count - before], &entries[..before]]
    }

    pub(super) fn data(&self) -> &[AtomicU64] {
        &self.memory.words()[self.layout.data()]
    }

    /// The places in the data of `len` bytes from `offset` on: one or two runs `(place, length)`.
    pub(super) fn runs(&self, offset: u64, len: usize) -> [(usize, usize); 2] {
        let capacity = self.layout.capacity();
        let place = (offset % capacity) as usize;
        let first = len.min(capacity as usize - place);
        [(place, first), (0, len - first)]
    }

    pub(crate) fn status(&self) -> Status {
        Status::from_word(self.load(layout::STATUS, Acquire))
    }

    /// Gives the memory of a removed stream back to the system, even if there are readers. Other
    /// processes keep what they have mapped. Call this only under the stream's lock, and only after
    /// the status says that the stream was removed.
    ///
    /// # Errors
    ///
    /// The system cannot give the memory back; the memory is from the heap; or the ring holds
    /// chunks by reference.
    pub(crate) fn release(&self) -> std::io::Result<()> {
        if self.holds() {
            return Err(std::io::ErrorKind::Unsupported.into());
        }
        // A reader in the middle of a copy loads tail once more, discards the copy, and then finds
        // the status. Other processes keep their bytes, and with them their tail: a process that is
        // writing chunks to a file has written the right ones.
        let head = self.head_seq();
        self.memory.release(self.layout.header(), (layout::TAIL_SEQ, head))
    }

    /// Whether the memory was given back.
    pub(crate) fn is_released(&self) -> bool {
        self.memory.is_released()
    }

    /// Takes over from the ring that the stream leaves for this one where the stream last skipped.
    /// Call this before any reader has this ring.
    pub(crate) fn begin_as(&self, left: &Self) {
        if !self.holds() {
            self.word(layout::BEGIN_SEQ).store(left.begin_seq(), Ordering::Relaxed);
        }
    }

    /// Stores the status for readers. Call this only under the stream's lock.
    pub(crate) fn set_status(&self, status: Status) {
        self.word(layout::STATUS).store(status.word(), Ordering::Release);
    }
}
