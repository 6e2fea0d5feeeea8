//! The client library of pfs: write, follow and manage the streams of a `pfsd` daemon.
//!
//! A stream is a path. Any number of writers append chunks to it, any number of readers follow it,
//! each at its own pace, beginning with the history that the stream still holds. A chunk arrives
//! whole or not at all, in the order that all readers see, and what a reader cannot get it is told
//! to the byte.
//!
//! # Writing
//!
//! [`Endpoint::from_env`] is the daemon that `pfs` talks to: that of `PFS_SOCKET` or `PFS_URL`,
//! else the one that is [found](lookup). A stream is made when it is first written to.
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
//! A closed stream stays closed: a second run fails with [`ErrorCode::Closed`], unless it begins a
//! new stream with [`WriteOptions::replace`].
//!
//! An append is sent at once and not waited for; [`Writer::flush`] and [`Writer::finish`] wait
//! until everything is in the stream. A writer that is dropped without `finish` has died, and
//! readers that ask ([`Until::WritersGone`]) are told so. [`Finish`] says whether the stream stays
//! open, and whether the writer failed.
//!
//! # Reading
//!
//! A [`Reader`] gets events. A gap is one of its own, with its exact range. A daemon that goes
//! away, or a stream that is removed, is an error and never the end.
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
//! Where a reader starts, what happens when it cannot keep up, and when it ends is in
//! [`ReadOptions`]: [`Start`], [`SlowPolicy`], [`Until`]. A program that stores
//! [`Reader::position`] and starts at that [`Start::Offset`] the next time goes on exactly there.
//!
//! # In a thread
//!
//! [`blocking`] has the same for programs without asynchronous code. A reader is an iterator over
//! chunks, a writer an [`std::io::Write`].
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
//!             Err(error) if LostData::from_io_error(&error).is_some() => eprintln!("{error}"), // It goes on behind a gap.
//!             Err(error) => return Err(error.into()),
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Every write is a chunk, and so is what `writeln!` writes: nothing of another writer's comes in
//! between.
//!
//! # Values
//!
//! With the feature `serde`, streams have values, one a chunk: as JSON, or with `postcard` in a
//! compact form.
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
//!     writer.finish(Finish::Close).await?; // Without this, the loop would wait for the next value forever.
//!     while let Some(degrees) = reader.next().await {
//!         match degrees {
//!             Ok(degrees) => println!("{degrees} °C"),
//!             Err(error) if error.is_final() => return Err(error.into()),
//!             Err(error) => println!("{error}"), // A gap, or a chunk that is no number: it goes on.
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Over HTTP
//!
//! With the feature `http`, a daemon is reached by its URL, from other machines too. A reader whose
//! connection breaks goes on where it was over another one, and says so ([`Event::Resumed`]).
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
//! # What there is
//!
//! | to | there is |
//! |---|---|
//! | make, close, remove, list streams, and see their stats | [`Client`]; [`Client::open`] for one path |
//! | see readers come and go | [`Client::events`] |
//! | take many small chunks at once | [`Reader::next_batch`], [`Writer::push`] |
//! | write code for streams of a daemon and of this process alike | [`StreamReader`], [`StreamWriter`] |
//! | read bytes and see loss as an error: `futures::Stream`, `AsyncRead` | [`StreamReader::into_byte_stream`] |
//! | write as to a file: `AsyncWrite`, or `std::io::Write` in a thread | `StreamWriter::into_async_write`, [`blocking::Writer`] |
//! | read in a thread: an iterator, `std::io::Read` | [`BlockingReader::into_byte_iter`] |
//! | notice that nothing comes any more, or hold a rate | `StreamReader::stalls_after`, `throttled` |
//! | send and receive values of any serde type, one a chunk | `TypedWriter`, `TypedReader` |
//!
//! | feature | for |
//! |---|---|
//! | `http` | daemons that are reached by a URL |
//! | `futures` | `futures::Stream` for bytes, events and values |
//! | `tokio` | `AsyncRead` and `AsyncWrite`, stalls and throttles |
//! | `serde` | typed streams, as JSON |
//! | `postcard` | typed streams in a compact form too |
//! | `start` | `Client::connect_or_start`, which runs `pfsd` when no daemon answers |
//!
//! What the library does not do: it reconnects no writer (whether what was lost matters is for the
//! program to say), prints nothing, and starts no daemon unless a program asks for it
//! (`Client::connect_or_start`). Threads and tasks: one thread for all asynchronous readers that
//! share memory with a daemon, one that waits for the exit of a daemon that was started, and the
//! tasks that HTTP needs.
//!
//! # The same without a daemon
//!
//! `pfs-stream` has streams inside one process. Their readers and writers have the traits that
//! these have, so what is written for the traits moves from one to the other by changing the line
//! that makes them:
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
//! # Cancelling
//!
//! Everything that waits may be given up at any time, in a `select!` or by a timeout, unless its
//! documentation says otherwise. An event is lost only if it was returned. A chunk is handed over
//! whole or not at all; [`Writer::appended`] tells which. A request that was given up may have been
//! done or not; the client can be used on.
//!
//! # Waiting
//!
//! Nothing here spins. On Linux, readers and writers of a daemon on the same machine share memory
//! with it, and sleep in that; [`Client::with_shm`] turns it off, and results are the same to the
//! byte.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums)]

pub mod blocking;
mod chunks;
mod client;
mod connection;
mod dialer;
mod endpoint;
mod error;
mod events;
#[cfg(feature = "http")]
mod http;
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
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ConnectError, ProtocolError, RequestError};
pub use events::Events;
#[cfg(feature = "http")]
pub use http::{HttpEndpoint, ProxyBroke};
pub use operator::{Operator, Stopping};
pub use pfs_proto::{
    CreateOptions, DaemonInfo, End, ErrorCode, Event, FrameError, IfExists, MessageError,
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

/// The page for those who move here, so that its code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/moving.md")]
mod moving {}
