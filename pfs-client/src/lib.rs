//! The client library of pfs: write, follow and manage the streams of a `pfsd` daemon.
//!
//! A stream is a path. Any number of writers append chunks to it, any number of readers follow it, each at its own pace,
//! beginning with the history that the stream still holds. A chunk arrives whole or not at all, in the order that all
//! readers see, and what a reader cannot get it is told to the byte.
//!
//! The daemon is reached over its Unix socket or, with the feature `http` (on unless turned off), by a URL: [`Endpoint`].
//! What the library deliberately does not do: it starts no daemon, reconnects no writer (whether what was lost matters is
//! for the program to say), prints nothing, and starts no process. Threads and tasks
//! it has two: one thread for all asynchronous readers that share memory with a daemon, and the tasks that HTTP needs.
//!
//! # Three minutes
//!
//! A [`Client`] finds the daemon: [`Endpoint::default`] is this user's own, which `pfsd` serves when it is started without
//! arguments. A [`Writer`] appends; the stream is made if there is none.
//!
//! ```no_run
//! use pfs_client::{Client, Endpoint, WriteOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Endpoint::default()).await?;
//! let mut writer = client.writer(&"/streamfs/cam".parse()?, WriteOptions::default()).await?;
//! writer.append(b"a chunk arrives whole").await?;
//! writer.append(b"or not at all").await?;
//! let close = true;
//! let offset = writer.finish(close).await?;
//! println!("every byte up to {offset} is in the stream");
//! # Ok(())
//! # }
//! ```
//!
//! An append is sent at once and not waited for; [`Writer::flush`] and [`Writer::finish`] wait until everything is in the
//! stream, and [`Writer::readers`] tells how many were attached then. A writer that is dropped without `finish` is one that
//! died, and that is what readers who asked are told ([`Until::WritersGone`], [`End::WriterDied`]). One that [fails](Writer::fail)
//! says so, and may close the stream as failed, which every reader is told ([`End::Failed`]).
//!
//! A [`Reader`] gets events. A gap is one of its own, with its exact range; a daemon that goes away, or a stream that is
//! removed, is an error and never the end. Over HTTP, a reader whose connection breaks goes on where it was over another
//! one, and says so ([`Event::Resumed`]).
//!
//! ```no_run
//! use pfs_client::{Client, Endpoint, Event, ReadOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Endpoint::default()).await?;
//! let options = ReadOptions { wait: true, ..ReadOptions::default() };
//! let mut reader = client.reader(&"/streamfs/cam".parse()?, options).await?;
//! loop {
//!     match reader.next().await? {
//!         Event::Chunk(bytes) => println!("{} bytes", bytes.len()),
//!         Event::Gap { from, to, .. } => println!("lost {from} to {to}"),
//!         Event::End { reason, offset } => break println!("{reason} at {offset}"),
//!         _ => (),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Where a reader starts, what happens when it cannot keep up, and when it ends is in [`ReadOptions`]: [`Start`],
//! [`SlowPolicy`], [`Until`]. A program that stores [`Reader::position`] and starts at that [`Start::Offset`] the next time
//! goes on exactly there.
//!
//! | to | there is |
//! |---|---|
//! | make, close, remove, list streams, and see their figures | [`Client`]; [`Client::open`] for one path |
//! | see readers come and go | [`Client::events`] |
//! | do it in a thread, without asynchronous code | [`blocking`] |
//! | take many small chunks at once | [`Reader::next_batch`], [`Writer::push`] |
//! | write code for streams of a daemon and of this process alike | [`StreamReader`], [`StreamWriter`] |
//! | read bytes and see loss as an error: `futures::Stream`, `AsyncRead` | [`StreamReader::into_byte_stream`] |
//! | write as to a file: `AsyncWrite`, or `std::io::Write` in a thread | `StreamWriter::into_async_write`, [`blocking::Writer`] |
//! | read in a thread: an iterator, `std::io::Read` | [`BlockingReader::into_byte_iter`] |
//! | notice that nothing comes any more, or hold a rate | `StreamReader::stalls_after`, `throttled` |
//! | send and receive values of any serde type, one a chunk | `TypedWriter`, `TypedReader` |
//!
//! ```no_run
//! # #[cfg(feature = "serde")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pfs_client::{Client, Endpoint, ReadOptions, TypedReader, TypedWriter, WriteOptions};
//!
//! let client = Client::connect(Endpoint::default()).await?;
//! let path = "/streamfs/temperature".parse()?;
//! let mut writer = TypedWriter::<f64, _>::new(client.writer(&path, WriteOptions::default()).await?);
//! let mut reader = TypedReader::<f64, _>::new(client.reader(&path, ReadOptions::default()).await?);
//! writer.send(&21.5).await?;
//! while let Some(degrees) = reader.recv().await {
//!     match degrees {
//!         Ok(degrees) => println!("{degrees} °C"),
//!         Err(error) if error.is_final() => return Err(error.into()),
//!         // A gap, or a chunk that is no number: it goes on.
//!         Err(error) => println!("{error}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | feature | for |
//! |---|---|
//! | `futures` | `futures::Stream` for bytes, events and values |
//! | `tokio` | `AsyncRead` and `AsyncWrite`, stalls and throttles |
//! | `serde` | typed streams, as JSON |
//! | `postcard` | typed streams in a compact form too |
//!
//! # The same without a daemon
//!
//! `pfs-stream` has streams inside one process. Their readers and writers have the traits that these have, so what is
//! written for the traits moves from one to the other by changing the line that makes them:
//!
//! ```
//! use pfs_client::{Event, ReadFailure, StreamReader, StreamWriter, WriteFailure};
//! # use pfs_client::{Peer, ReadOptions};
//!
//! async fn produce(mut writer: impl StreamWriter) -> Result<u64, WriteFailure> {
//!     writer.append(b"hello").await?;
//!     writer.close().await
//! }
//!
//! async fn count(mut reader: impl StreamReader) -> Result<u64, ReadFailure> {
//!     loop {
//!         if let Event::End { offset, .. } = reader.event().await? {
//!             return Ok(offset - reader.lost_bytes());
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stream = pfs_stream::Stream::new("own", pfs_stream::StreamConfig::default())?;
//! let reader = stream.reader(ReadOptions::default(), Peer::default())?;
//! let writer = stream.writer(Peer::default())?;
//! // With a daemon: let reader = client.reader(&path, ReadOptions::default()).await?;
//! //                let writer = client.writer(&path, WriteOptions::default()).await?;
//! produce(writer).await?;
//! assert_eq!(count(reader).await?, 5);
//! # Ok(())
//! # }
//! ```
//!
//! # Cancelling
//!
//! Everything that waits may be given up at any time, in a `select!` or by a timeout. An event is lost only if it was
//! returned. A chunk is handed over whole or not at all; [`Writer::appended`] tells which. A request that was given up may
//! have been done or not; the client can be used on.
//!
//! # Waiting
//!
//! Nothing here spins. On Linux, readers and writers of a daemon on the same machine share memory with it, and sleep in
//! that; [`Client::with_mapping`] turns it off, and results are the same to the byte.

#![warn(clippy::exhaustive_enums)]

pub mod blocking;
mod chunks;
mod client;
mod connection;
mod endpoint;
mod error;
mod events;
#[cfg(feature = "http")]
mod http;
mod reader;
mod resume;
#[cfg(target_os = "linux")]
mod sharing;
#[cfg(not(target_os = "linux"))]
#[path = "not_sharing.rs"]
mod sharing;
mod stream;
mod traits;
mod writer;

#[cfg(test)]
mod tests;

pub use chunks::Chunks;
pub use client::Client;
pub use endpoint::{Endpoint, default_socket_path};
pub use error::{ConnectError, ProtocolError, ReadError, RequestError, WriteError};
pub use events::Events;
#[cfg(feature = "http")]
pub use http::{EndpointError, HttpEndpoint};
pub use pfs_proto::{
    CreateOptions, DaemonInfo, End, ErrorCode, Event, FrameError, IfExists, MessageError, PathError, Peer,
    ReadOptions, ReaderStat, SlowPolicy, Start, State, StreamEvent, StreamPath, StreamStat, StreamSummary,
    UnknownPolicy, Until, WriteOptions, WriterStat,
};
#[cfg(feature = "postcard")]
pub use pfs_stream::Postcard;
pub use pfs_stream::{
    BlockingReader, ByteIter, ByteStream, EventIter, EventStream, LostData, ReadFailure, StreamReader,
    StreamWriter, WriteFailure,
};
#[cfg(feature = "tokio")]
pub use pfs_stream::{ByteWriter, Rate, StallDetector, Throttle};
#[cfg(feature = "serde")]
pub use pfs_stream::{
    Codec, CodecError, Json, TypedIter, TypedReadError, TypedReader, TypedWriteError, TypedWriter,
};
pub use reader::Reader;
pub use stream::Stream;
pub use writer::Writer;

/// The page for those who move here, so that its code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/moving.md")]
mod moving {}
