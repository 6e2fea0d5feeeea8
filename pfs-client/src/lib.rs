//! Client library for pfs: write, follow and manage the streams of a `pfsd` daemon.
//!
//! A stream is a path to which any number of writers append chunks. Any number of readers follow
//! the stream, each at its own pace, starting with the history that the stream still holds. Each
//! chunk arrives whole or not at all, and all readers see the chunks in the same order. A reader
//! that falls too far behind learns exactly which bytes it lost.
//!
//! # Writing
//!
//! [`Endpoint::from_env`] names the daemon that the `pfs` command uses: the one in `PFS_SOCKET` or
//! `PFS_URL`, otherwise the one that [`lookup`] finds. The first writer creates the stream.
//!
//! ```no_run
//! use pfs_client::{Client, Endpoint, Finish, WriteOptions};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect(Endpoint::from_env()?).await?;
//!     let mut writer = client.writer("/streamfs/cam", WriteOptions::default()).await?;
//!     writer.append("a chunk arrives whole").await?;
//!     writer.append(b"or not at all").await?;
//!     let offset = writer.finish(Finish::Close).await?;
//!     println!("every byte up to {offset} is in the stream");
//!     Ok(())
//! }
//! ```
//!
//! A closed stream stays closed. Running this program a second time fails with
//! [`ErrorCode::Closed`], unless the program starts a new stream with [`WriteOptions::replace`].
//!
//! [`Writer::append`] sends the chunk without waiting for an acknowledgement. [`Writer::flush`] and
//! [`Writer::finish`] wait until all chunks are in the stream. A writer that is dropped without
//! `finish` counts as dead, and readers with [`Until::WritersGone`] learn about the death.
//! [`Finish`] says whether the stream stays open and whether the writer failed.
//!
//! # Reading
//!
//! A [`Reader`] returns events. Lost bytes are reported as a gap event with the exact range. Losing
//! the daemon, or the removal of the stream, is an error and never looks like the end of
//! the stream.
//!
//! ```no_run
//! use pfs_client::{Client, Endpoint, Event, ReadOptions, Start};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect(Endpoint::from_env()?).await?;
//!     let options = ReadOptions::default().start(Start::Tail(1024 * 1024)).wait(true);
//!     let mut reader = client.reader("/streamfs/cam", options).await?;
//!     loop {
//!         match reader.next().await? {
//!             Event::Chunk(bytes) => println!("{} bytes", bytes.len()),
//!             Event::Gap { from, to, .. } => println!("lost {from} to {to}"),
//!             Event::End { reason, offset } => break println!("{reason} at {offset}"),
//!             _ => (),
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`ReadOptions`] says where a reader starts ([`Start`]), what happens when the reader cannot keep
//! up ([`SlowPolicy`]), and when it ends ([`Until`]). To resume in a later run, store
//! [`Reader::position`] and start at that [`Start::Offset`].
//!
//! # Blocking API
//!
//! [`blocking`] has the same API for programs without async code. A blocking reader is an iterator
//! over chunks; a blocking writer is an [`std::io::Write`].
//!
//! ```no_run
//! use std::io::{self, Write};
//!
//! use pfs_client::{Endpoint, Finish, LostData, ReadOptions, WriteOptions, blocking::Client};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::new(Endpoint::from_env()?);
//!     let mut writer = client.writer("/streamfs/log", WriteOptions::default().replace(true))?;
//!     for n in 0..3 {
//!         writeln!(writer, "line {n}")?;
//!     }
//!     writer.finish(Finish::Close)?;
//!     for chunk in client.reader("/streamfs/log", ReadOptions::default())? {
//!         match chunk {
//!             Ok(line) => io::stdout().write_all(&line)?,
//!             Err(error) if LostData::from_io_error(&error).is_some() => eprintln!("{error}"), // A gap; reading continues.
//!             Err(error) => return Err(error.into()),
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Each `write` call appends one chunk, and so does each `writeln!`. Chunks of other writers cannot
//! split a line.
//!
//! # Typed streams
//!
//! With the feature `serde`, each chunk of a stream carries one value, encoded as JSON. With
//! `postcard`, the values can also have a compact binary encoding.
//!
//! ```no_run
//! use pfs_client::{Client, Endpoint, Finish, ReadOptions, TypedReader, TypedWriter, WriteOptions};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect(Endpoint::from_env()?).await?;
//!     let stream = client.open("/streamfs/temperature")?;
//!     let mut writer = TypedWriter::<f64, _>::json(stream.writer(WriteOptions::default()).await?);
//!     let mut reader = TypedReader::<f64, _>::json(stream.reader(ReadOptions::default()).await?);
//!     writer.append(&21.5).await?;
//!     writer.finish(Finish::Close).await?; // Without this, the loop would wait forever.
//!     while let Some(degrees) = reader.next().await {
//!         match degrees {
//!             Ok(degrees) => println!("{degrees} °C"),
//!             Err(error) if error.is_final() => return Err(error.into()),
//!             Err(error) => println!("{error}"), // A gap, or a chunk that is not a number; reading continues.
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Joining media
//!
//! Bytes from the middle of Matroska, MP4 or Ogg are useless to a player without the header at the
//! beginning of the stream. With [`Join::Auto`](ReadOptions::join), the reader starts at an offset
//! where a decoder can start, and [`Event::Joined`] has the header that the decoder needs first.
//! After a gap the reader continues at the next such offset, and the bytes that it left out are
//! part of the gap. [`Event::FormatChanged`] says where a writer has started over with a header
//! that a decoder does not accept there. A stream without a known media format is read as it is.
//! The default, [`Join::Raw`], gives exact bytes.
//!
//! # Over HTTP
//!
//! With the feature `http`, a client reaches a daemon by its URL, from other machines too. If a
//! reader's connection breaks, the reader resumes over a new connection at the same offset and
//! reports [`Event::Resumed`].
//!
//! ```no_run
//! use pfs_client::{Client, CreateOptions, HttpEndpoint, IfExists};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let there = HttpEndpoint::new("https://cameras.example.org")?.with_token_file("token")?;
//!     let client = Client::connect(there).await?;
//!     let options = CreateOptions::default().content_type("video/mp2t").if_exists(IfExists::Keep);
//!     client.create("/streamfs/cam", &options).await?;
//!     for stream in client.list("/streamfs").await? {
//!         println!("{}: {} bytes", stream.path, stream.head);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Overview
//!
//! | to | use |
//! |---|---|
//! | create, close, remove or list streams, and read their stats | [`Client`]; [`Client::open`] for one path |
//! | see readers come and go | [`Client::events`] |
//! | read or write batches of small chunks | [`Reader::next_batch`], [`Writer::push`] |
//! | write code for streams of a daemon and streams in this process | [`StreamReader`], [`StreamWriter`] |
//! | read bytes, with loss as an error: `futures::Stream`, `AsyncRead` | [`StreamReader::into_byte_stream`] |
//! | write as to a file: `AsyncWrite`, or blocking `std::io::Write` | `StreamWriter::into_async_write`, [`blocking::Writer`] |
//! | read in a thread: an iterator, `std::io::Read` | [`BlockingReader::into_byte_iter`] |
//! | detect a stalled stream, or limit the rate | `StreamReader::stalls_after`, `throttled` |
//! | send and receive values of any serde type, one per chunk | `TypedWriter`, `TypedReader` |
//!
//! | feature | enables |
//! |---|---|
//! | `http` | daemons that are reached by a URL |
//! | `futures` | `futures::Stream` for bytes, events and values |
//! | `tokio` | `AsyncRead` and `AsyncWrite`, stall detection and rate limits |
//! | `serde` | typed streams, as JSON |
//! | `postcard` | typed streams in a compact binary encoding too |
//! | `start` | `Client::connect_or_start`, which runs `pfsd` when no daemon answers |
//!
//! The library never reconnects a writer, because only the program knows whether the lost chunks
//! matter. The library prints nothing, and starts a daemon only if the program calls
//! `Client::connect_or_start`.
//!
//! Threads and tasks: one thread for each reader that waits for data in shared memory, one thread
//! that waits for the exit of a daemon that the library started, and the tasks that HTTP needs. A
//! blocking reader or writer over HTTP runs those tasks in a thread of its own.
//!
//! # Streams without a daemon
//!
//! The crate `pfs-stream` has streams inside one process. The readers and writers of both crates
//! implement the same traits. Code that is generic over the traits works with both; only the line
//! that opens the stream changes:
//!
//! ```
//! use pfs_client::{Event, Finish, ReadError, ReadOptions, StreamReader, StreamWriter, WriteError};
//! use pfs_stream::{Stream, StreamConfig};
//!
//! async fn produce(mut writer: impl StreamWriter) -> Result<u64, WriteError> {
//!     writer.append("hello").await?;
//!     writer.finish(Finish::Close).await
//! }
//!
//! async fn count(mut reader: impl StreamReader) -> Result<u64, ReadError> {
//!     loop {
//!         if let Event::End { offset, .. } = reader.next().await? {
//!             return Ok(offset - reader.lost_bytes());
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stream = Stream::local("own", StreamConfig::default())?;
//! let reader = stream.reader(ReadOptions::default())?;
//! produce(stream.writer()?).await?;
//! assert_eq!(count(reader).await?, 5);
//! # Ok(())
//! # }
//! ```
//!
//! # Cancel safety
//!
//! Every async method may be cancelled at any time, by `select!` or by a timeout, unless its
//! documentation says otherwise. A cancelled read loses no event. A cancelled append has taken over
//! the whole chunk or none of it; [`Writer::appended`] tells which. The daemon may or may not have
//! carried out a cancelled request; the client stays usable.
//!
//! # Shared memory
//!
//! On Linux, readers and writers share memory with a daemon on the same machine, and sleep on a
//! futex in that memory. Waiting never spins. [`Client::with_shm`] turns shared memory off; the
//! results are the same to the byte.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums)]

pub mod blocking;
mod chunks;
mod client;
mod connection;
#[cfg(feature = "link")]
mod connector;
mod dialer;
mod endpoint;
mod error;
mod events;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "link")]
mod link;
pub mod lookup;
mod operator;
mod put;
mod reader;
mod resume;
#[cfg(target_os = "linux")]
mod shm;
#[cfg(not(target_os = "linux"))]
#[path = "no_shm.rs"]
mod shm;
#[cfg(feature = "start")]
pub mod start;
mod stream;
mod traits;
mod writer;

#[cfg(test)]
mod tests;

pub use chunks::Chunks;
pub use client::Client;
#[cfg(feature = "link")]
pub use connector::Connector;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ConnectError, ProtocolError, RequestError};
pub use events::Events;
#[cfg(feature = "http")]
pub use http::{HttpEndpoint, ProxyBroke};
#[cfg(feature = "link")]
pub use link::{LinkEvent, LinkReader, LinkStart, RelayWriter};
pub use operator::{Operator, Stopping};
pub use pfs_media::MAX_HEADER_BYTES;
pub use pfs_proto::{
    CreateOptions, DaemonInfo, End, ErrorCode, Event, FrameError, IfExists, Join, MessageError,
    PathError, Peer, PutOptions, ReadOptions, ReaderStat, SlowPolicy, Start, State, StreamEvent,
    StreamPath, StreamStat, StreamSummary, UnknownPolicy, Until, WriteOptions, WriterStat,
};
#[cfg(feature = "postcard")]
pub use pfs_stream::Postcard;
pub use pfs_stream::{
    BlockingReader, ByteIter, ByteStream, Cause, Chunk, EventIter, EventStream, Finish, LostData,
    ReadError, StreamReader, StreamWriter, WriteError,
};
#[cfg(feature = "tokio")]
pub use pfs_stream::{ByteWriter, Rate, StallDetector, Throttle};
#[cfg(feature = "serde")]
pub use pfs_stream::{
    Codec, CodecError, Json, TypedIter, TypedReadError, TypedReader, TypedWriteError, TypedWriter,
};
pub use put::Put;
pub use reader::Reader;
pub use stream::Stream;
pub use writer::Writer;

/// The migration guide, included so that doctests compile its code.
#[cfg(doctest)]
#[doc = include_str!("../../docs/moving.md")]
mod moving {}
