//! The engine of pfs: named byte streams in memory, each with a ring of recent data and fan-out to
//! any number of readers.
//!
//! A [`Stream`] is appended to by [`Writer`]s and followed by [`Reader`]s. A reader starts with the
//! history that the ring still holds and goes on live, with no gap and no duplicate between the
//! two. It takes no lock, has no queue, and sees each chunk whole or is told exactly which offsets
//! it lost. A [`Registry`] holds streams by name, within limits.
//!
//! What it is not: it knows no sockets, no files and no runtime. Waiting is by
//! [`std::task::Waker`]s, so the same types serve a thread (`*_blocking`), any async runtime, and a
//! model checker (loom, with `--cfg loom`).
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
//! Only [`Event::End`] is the end. A `while let Event::Chunk(..)` loop stops at the first gap, and
//! at a daemon's stream, whose first event is [`Event::Attached`], before the first chunk.
//!
//! # In a thread
//!
//! [`Stream::local`] makes a stream for this process, which holds large chunks by reference;
//! [`Stream::new`] makes one whose ring other processes can be handed. A writer is an
//! [`std::io::Write`], a reader an iterator:
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
//! A gap is an error item behind which reading goes on. A stream that was removed, and a reader
//! that was too slow for its policy, are a [`ReadError`] and never the end. A writer that is
//! dropped without [`Writer::finish`] has died, and readers that ask ([`Until::WritersGone`]) are
//! told so; each clone of a writer is a writer of its own.
//!
//! | to | there is | feature |
//! |---|---|---|
//! | write code for streams of this process and of a daemon alike | [`StreamReader`], [`StreamWriter`] | |
//! | follow bytes in asynchronous code | [`ByteStream`] | `futures`, `tokio` |
//! | follow bytes or events in a thread | [`ByteIter`], [`EventIter`] | |
//! | see readers come, go and lose something | [`Stream::events`] | |
//! | write as to a file of tokio's | `ByteWriter` | `tokio` |
//! | send values | `TypedWriter`, `TypedReader` | `serde`, `postcard` |
//! | notice that nothing comes, keep to a rate | `StallDetector`, `Throttle` | `tokio` |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums)]
#![cfg_attr(
    not(feature = "host"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "memory is shared by hosts alone")
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
mod ring;
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
    End, Event, Identity, Peer, ReadOptions, ReaderStat, RingLayout, ShmStart, SlowPolicy, Start,
    State, StreamEvent, StreamStat, StreamSummary, Until, WriterStat,
};
pub use quota::Quota;
pub use read::Read;
pub use reader::Reader;
pub use registry::{PendingReader, Registry};
pub use ring::Violation;
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
