//! Broadcast engine of pfs: named, append-only byte streams in memory. Each stream is a ring buffer
//! of recent chunks that any number of readers follow.
//!
//! [`Writer`]s append chunks to a [`Stream`], and [`Reader`]s follow the stream, each at its own
//! pace. A reader first gets the history that the ring buffer still holds and then continues live,
//! with no gap and no duplicate in between. A reader takes no lock and has no queue. It returns
//! each chunk whole, or reports exactly which offsets it lost. A [`Registry`] holds streams by
//! name, within limits.
//!
//! The crate is not a server: it uses no sockets, no files and no async runtime. Waiting is built
//! on [`std::task::Waker`], so the same types serve threads (`*_blocking`), any async runtime, and
//! the model checker loom (`--cfg loom`).
//!
//! # Fan-out
//!
//! ```
//! use pfs_stream::{Event, Finish, ReadError, ReadOptions, Stream, StreamConfig};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let stream = Stream::local("frames", StreamConfig::default())?;
//!     let mut viewers = Vec::new();
//!     for _ in 0..3 {
//!         let mut reader = stream.reader(ReadOptions::default())?;
//!         viewers.push(tokio::spawn(async move {
//!             loop {
//!                 match reader.next().await? {
//!                     Event::Chunk(frame) => println!("{} bytes", frame.len()),
//!                     Event::Gap { from, to, .. } => println!("lost {from} to {to}"),
//!                     Event::End { .. } => return Ok::<_, ReadError>(reader.lost_bytes()),
//!                     _ => (),
//!                 }
//!             }
//!         }));
//!     }
//!     let mut writer = stream.writer()?;
//!     writer.append("a frame").await?;
//!     writer.finish(Finish::Close);
//!     for viewer in viewers {
//!         assert_eq!(viewer.await??, 0);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Only [`Event::End`] ends a stream. A `while let Event::Chunk(..)` loop stops at the first gap.
//! It also stops before the first chunk of a daemon's stream, because that stream's first event is
//! [`Event::Attached`].
//!
//! # Threads
//!
//! [`Stream::local`] creates a stream for this process, which keeps large chunks by reference.
//! [`Stream::new`] creates a stream whose ring buffer can be shared with other processes. A writer
//! implements [`std::io::Write`], and a reader is an iterator:
//!
//! ```
//! use std::io::Write;
//! use pfs_stream::{Finish, LostData, ReadOptions, Stream, StreamConfig};
//!
//! let stream = Stream::local("log", StreamConfig::default())?;
//! let mut writer = stream.writer()?;
//! let reader = stream.reader(ReadOptions::default())?;
//! writer.write_all(b"a chunk arrives whole")?;
//! writer.finish(Finish::Close);
//! for chunk in reader {
//!     match chunk {
//!         Ok(bytes) => assert_eq!(bytes, "a chunk arrives whole"),
//!         Err(error) if LostData::from_io_error(&error).is_some() => eprintln!("{error}"),
//!         Err(error) => return Err(error.into()),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Lag and gaps
//!
//! A reader lags when writers append faster than it reads. A reader that is still catching up on
//! history may lag by the whole ring buffer; a reader that has been live, by
//! [`channel_buffer_size`](method@StreamConfig::channel_buffer_size). Beyond that, its
//! [`SlowPolicy`] decides. A `drop` reader loses its oldest chunks. A `disconnect` reader fails
//! with [`ReadError::TooSlow`]. A `block` reader loses nothing: it may lag by the whole ring
//! buffer, and writers wait while it needs the room.
//!
//! Loss is never silent. The reader gets an [`Event::Gap`] with the exact range of lost offsets, or
//! a [`LostData`] error from adapters that know only bytes and errors. Reading then continues.
//!
//! # Closing
//!
//! [`Writer::finish`] ends a writer and, with [`Finish::Close`], the stream. A writer that is
//! dropped without `finish` has died, and readers that stop with the last writer
//! ([`Until::WritersGone`]) are told so. Each clone of a writer is a writer of its own. A reader of
//! a removed stream, or a reader that is too slow for its policy, gets a [`ReadError`] and never
//! the end.
//!
//! # Adapters
//!
//! | task | type | feature |
//! |---|---|---|
//! | write code for streams of this process and of a daemon alike | [`StreamReader`], [`StreamWriter`] | |
//! | read bytes in async code | [`ByteStream`] | `futures`, `tokio` |
//! | read bytes or events in a thread | [`ByteIter`], [`EventIter`] | |
//! | watch readers attach, detach and lose data | [`Stream::events`] | |
//! | write through `tokio::io::AsyncWrite` | `ByteWriter` | `tokio` |
//! | send typed values | `TypedWriter`, `TypedReader` | `serde`, `postcard` |
//! | detect a stalled stream, limit the rate | `StallDetector`, `Throttle` | `tokio` |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums)]
#![cfg_attr(
    not(feature = "host"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "only hosts share memory")
)]

mod adapt;
mod append;
mod batch;
mod budget;
mod chunk;
mod clock;
mod config;
mod error;
mod events;
mod extensions;
mod extent;
mod flag;
mod follow;
#[cfg(all(feature = "host", target_os = "linux", not(any(miri, loom))))]
pub mod lease;
mod lifetime;
mod lost;
mod reader_stats;

mod membership;
mod quota;
#[allow(clippy::exhaustive_enums, reason = "`Read` is data, a gap or the end")]
mod read;
mod reader;
mod registry;
#[cfg(feature = "host")]
mod replica;
mod ring;
#[cfg(feature = "host")]
mod scan;
#[cfg(all(feature = "host", target_os = "linux", not(any(miri, loom))))]
pub mod shm;
mod sink;
mod stat;
mod state;
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
#[cfg(feature = "host")]
pub use append::formatted;
pub use budget::{Budget, Reservation};
pub use chunk::Chunk;
pub use config::{DEFAULT_BUFFER_SIZE, Limits, StreamConfig};
pub use error::{AttachError, Cause, CreateError, ReadError, WriteError};
pub use events::Events;
pub use extent::Extent;
pub use lost::LostData;
pub use pfs_proto::{
    End, Event, Identity, Join, Peer, ReadOptions, ReaderStat, RingLayout, ShmStart, SlowPolicy,
    Start, State, StreamEvent, StreamStat, StreamSummary, Until, WriterStat, Writers,
};
pub use quota::Quota;
pub use read::Read;
pub use reader::Reader;
pub use registry::{PendingReader, Registry};
#[cfg(feature = "host")]
pub use replica::{Link, Upstream};
pub use ring::Violation;
#[cfg(feature = "host")]
pub use scan::Scan;
#[cfg(feature = "host")]
pub use sink::Sink;
pub use stream::{Hold, Stream};
pub use totals::{ByTransport, Totals};
pub use traits::{StreamReader, StreamWriter};
#[cfg(feature = "postcard")]
pub use typed::Postcard;
#[cfg(feature = "serde")]
pub use typed::{
    Codec, CodecError, Json, TypedIter, TypedReadError, TypedReader, TypedWriteError, TypedWriter,
};
#[cfg(feature = "host")]
pub use writer::{Appended, Blockers, Departure, GivenUp};
pub use writer::{Finish, Writer};
