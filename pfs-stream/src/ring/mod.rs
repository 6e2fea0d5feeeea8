//! Lock-free ring buffer: the newest bytes of a stream in fixed memory, overwritten in place.
//!
//! There is one writer at a time, which the stream's lock ensures, and any number of readers that
//! take no lock. The design is the broadcast buffer of Agrona and Aeron with absolute offsets. The
//! writer announces what it is about to overwrite, overwrites it, and publishes. A reader copies
//! first, and then checks that the writer had announced nothing of what the reader copied.
//!
//! The order of an append:
//!
//! 1. advance `TAIL_SEQ` past the chunks whose bytes or index entries will be overwritten, then
//!    fence (release);
//! 2. write bytes and index entries (relaxed);
//! 3. publish `HEAD_SEQ` (release).
//!
//! The order of a read: load `TAIL_SEQ`, then `HEAD_SEQ` (acquire), copy (relaxed), fence
//! (acquire), load `TAIL_SEQ` again. If any copied word came from step 2 of a later append, the
//! fence of that append synchronizes with the fence of the reader. The second load of `TAIL_SEQ`
//! therefore sees a tail beyond what was copied, and the reader discards the copy. (H.-J. Boehm,
//! "Can seqlocks get along with programming language memory models?", 2012.)

mod buffer;
#[allow(unsafe_code)]
mod bulk;
#[cfg(all(test, not(loom)))]
mod corrupt;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
mod direct;
#[allow(unsafe_code)]
mod held;
mod index;
mod layout;
mod lease;
#[cfg(any(loom, all(target_os = "linux", not(miri))))]
mod leased;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
#[allow(unsafe_code)]
mod mapping;
#[allow(unsafe_code)]
mod memory;
#[cfg(any(loom, all(target_os = "linux", not(miri))))]
mod notifier;
mod reader;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
mod shared;
mod source;
mod status;
mod take;
mod violation;
mod writer;

pub(crate) use buffer::Ring;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub use direct::WriteToError;
pub(crate) use held::HazardSlot;
pub(crate) use index::Index;
pub(crate) use layout::{Layout, MAX_RING_BYTES, MIN_HELD_BYTES};
#[cfg(any(loom, all(target_os = "linux", not(miri))))]
pub(crate) use leased::{LeasedWriter, Refused};
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub(crate) use mapping::Sharing;
pub(crate) use memory::Memory;
pub(crate) use reader::{LIMIT, RingReader};
pub(crate) use source::{Given, Shared, Source};
pub(crate) use status::Status;
pub use violation::Violation;
pub(crate) use writer::{RingWriter, Tail};
