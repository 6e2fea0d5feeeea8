//! The engine of pfs: named byte streams in memory, each with a ring of recent data and fan-out to any
//! number of readers.
//!
//! A [`Stream`] is appended to by [`Writer`]s and followed by [`Reader`]s. A reader starts with the history
//! that the ring still holds and goes on live, with no gap and no duplicate between the two. It takes
//! no lock, has no queue, and sees each chunk whole or is told exactly which offsets it lost. A
//! [`Registry`] holds streams by name, within limits.
//!
//! What it is not: it knows no sockets, no files and no runtime. Waiting is by [`std::task::Waker`]s, so
//! the same types serve a thread (`*_blocking`), any async runtime, and a model checker (loom, with `--cfg loom`).

mod clock;
mod config;
mod error;
mod figures;
mod flag;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub mod mapped;
mod membership;
mod pending;
mod reader;
mod registry;
mod ring;
mod sink;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub mod staging;
mod stat;
mod stream;
mod sync;
mod wait;
mod writer;

pub use config::{DEFAULT_BUFFER_SIZE, Limits, StreamConfig};
pub use error::{AppendError, AttachError, CreateError, ReadError};
pub use pending::PendingReader;
pub use pfs_proto::{
    End, MappedStart, Peer, ReadOptions, ReaderStat, SlowPolicy, Start, State, StreamStat, StreamSummary,
    Until, WriterStat,
};
pub use reader::{Read, Reader};
pub use registry::{Registry, Reservation};
pub use sink::Sink;
pub use stream::Stream;
pub use writer::{Appended, PushEnd, Pushed, Writer};
