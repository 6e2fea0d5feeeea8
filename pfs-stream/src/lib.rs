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

mod adapt;
mod append;
mod batch;
mod clock;
mod config;
mod error;
mod events;
mod extent;
mod failure;
mod figures;
mod follow;
mod kept;
mod lifetime;
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
mod totals;
mod traits;
#[cfg(feature = "serde")]
mod typed;
mod wait;
mod writer;

pub use adapt::{BlockingReader, ByteIter, ByteStream, EventIter, EventStream};
#[cfg(feature = "tokio")]
pub use adapt::{ByteWriter, Rate, StallDetector, Throttle};
pub use config::{DEFAULT_BUFFER_SIZE, Limits, StreamConfig};
pub use error::{AppendError, AttachError, CreateError, ReadError};
pub use events::Events;
pub use extent::Extent;
pub use failure::{LostData, ReadFailure, WriteFailure};
pub use lifetime::Hold;
pub use pending::PendingReader;
pub use pfs_proto::{
    End, Event, MappedStart, Peer, ReadOptions, ReaderStat, SlowPolicy, Start, State, StreamEvent,
    StreamStat, StreamSummary, Until, WriterStat,
};
pub use reader::{Read, Reader};
pub use registry::{Registry, Reservation};
pub use sink::Sink;
pub use stream::Stream;
pub use totals::{ByWay, Totals};
pub use traits::{StreamReader, StreamWriter};
#[cfg(feature = "postcard")]
pub use typed::Postcard;
#[cfg(feature = "serde")]
pub use typed::{
    Codec, CodecError, Json, TypedIter, TypedReadError, TypedReader, TypedWriteError, TypedWriter,
};
pub use writer::{Appended, PushEnd, Pushed, Writer};
