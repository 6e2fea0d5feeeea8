//! The memory of a ring, and how it is divided.

use super::{Index, Layout, Memory, Status, layout};
use crate::{
    budget::Reservation,
    sync::{
        Arc, AtomicU64, Mutex,
        Ordering::{self, Acquire},
        lock,
    },
};

/// A ring's memory and how it is divided; shared by its writer and its readers.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pub(super) layout: Layout,
    pub(super) memory: Arc<Charged>,
}

/// Memory, and what it takes of budgets until it is given back.
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

    /// Takes memory for a ring that other processes can be given.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn shared(layout: Layout) -> std::io::Result<Self> {
        Ok(Self::from_memory(layout, Memory::new(layout.words())?))
    }

    #[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
    pub(crate) fn shared(_: Layout) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Takes memory for a ring that this process reads alone, which occupies no descriptor.
    pub(crate) fn own(layout: Layout) -> std::io::Result<Self> {
        let words = layout.words();
        let memory = if layout.is_small() { Ok(Memory::boxed(words)) } else { Memory::own(words) };
        Ok(Self::from_memory(layout, memory?))
    }

    /// What it takes of budgets, given back with its memory.
    pub(crate) fn charge(&self, charge: Vec<Reservation>) {
        *lock(&self.memory.charge) = charge;
    }

    /// Takes away what it takes of a budget.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn take_charge(&self, budget: &crate::Budget) -> Option<Reservation> {
        lock(&self.memory.charge).extract_if(.., |part| part.is_of(budget)).next()
    }

    /// Adds to what it takes of budgets.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn add_charge(&self, part: Reservation) {
        lock(&self.memory.charge).push(part);
    }

    /// Has the system give the memory of so many of its bytes now, so that it can't be missing when
    /// it is used. Does nothing for memory of this process alone.
    pub(crate) fn allocate(&self, from: u64, to: u64) -> std::io::Result<()> {
        self.memory.allocate(from, to)
    }

    /// Whether other processes can be given it.
    pub(crate) fn is_shared(&self) -> bool {
        self.memory.is_shared()
    }

    /// How much it takes of a budget.
    pub(crate) fn charged_to(&self, budget: &crate::Budget) -> u64 {
        let charge = lock(&self.memory.charge);
        charge.iter().filter(|part| part.is_of(budget)).map(Reservation::bytes).sum()
    }

    /// As [`new`](Self::new), but for one process, and holding large chunks by reference.
    pub(crate) fn holding(layout: Layout) -> std::io::Result<Self> {
        let layout = layout.with_first_index();
        Ok(Self::from_memory(layout, Memory::own(layout.words())?))
    }

    /// Whether it is for one process, and its writer holds large chunks by reference, which only
    /// readers there can take.
    pub(crate) fn holds(&self) -> bool {
        self.layout.first_index().is_some()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
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

    /// The number of the next chunk, whether or not a lease has ended there.
    #[inline]
    pub(super) fn head_seq(&self) -> u64 {
        self.load(layout::HEAD_SEQ, Acquire) & !layout::SEALED
    }

    /// The index that has the entries of all chunks up to a head that was seen before.
    pub(super) fn index(&self) -> Index {
        match self.layout.first_index() {
            Some(first) if self.load(layout::GROWN, Acquire) == 0 => first,
            _ => self.layout.index(),
        }
    }

    /// The entries of so many chunks from `seq` on, in the one or two runs that they take.
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

    /// The data in the one or two runs that `len` bytes from `offset` take: `(place, length)`.
    pub(super) fn runs(&self, offset: u64, len: usize) -> [(usize, usize); 2] {
        let capacity = self.layout.capacity();
        let place = (offset % capacity) as usize;
        let first = len.min(capacity as usize - place);
        [(place, first), (0, len - first)]
    }

    pub(crate) fn status(&self) -> Status {
        Status::from_word(self.load(layout::STATUS, Acquire))
    }

    /// Gives the memory of a removed stream back to the system, though there are readers, and
    /// though other processes may keep what they have mapped. Only under the stream's lock, and
    /// after the status says that the stream was removed.
    ///
    /// An error where the system cannot do that, for memory from the heap, and for a ring that
    /// holds chunks by reference.
    pub(crate) fn release(&self) -> std::io::Result<()> {
        if self.holds() {
            return Err(std::io::ErrorKind::Unsupported.into());
        }
        // A reader in the middle of a copy looks at tail once more, and throws the copy away. It
        // then finds the status. Other processes keep their bytes and so their tail: one
        // that is writing chunks to a file has written the right ones.
        let head = self.head_seq();
        self.memory.release(self.layout.header(), (layout::TAIL_SEQ, head))
    }

    /// Whether its memory was given back.
    pub(crate) fn is_released(&self) -> bool {
        self.memory.is_released()
    }

    /// Only under the stream's lock.
    pub(crate) fn set_status(&self, status: Status) {
        self.word(layout::STATUS).store(status.word(), Ordering::Release);
    }
}
