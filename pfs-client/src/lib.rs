//! The client library of pfs: write, follow and manage the streams of a `pfsd` daemon.
//!
//! [`Client`] finds the daemon and manages its streams; [`Writer`] appends to one of them, [`Reader`] follows one. All
//! are asynchronous, on tokio. The daemon is reached over its Unix socket or, with the feature `http` (on unless turned
//! off), by a URL: [`Endpoint`]. What the library deliberately does not do: it starts no daemon, reconnects no writer (whether
//! what was lost matters is for the program to say), prints nothing, and spawns nothing but what HTTP needs.
//!
//! Writing. An append is sent at once and not waited for; [`Writer::flush`] and [`Writer::finish`] wait until
//! everything is in the stream. A writer that is dropped without `finish` is one that died, and that is what readers
//! who asked are told.
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
//! Reading. Loss is never silent: a gap is an event of its own, and a daemon that goes away is an error, not the end. Over
//! HTTP, a reader whose connection breaks goes on where it was over another one, and says so ([`Event::Resumed`]).
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

pub mod blocking;
mod chunks;
mod client;
mod connection;
mod endpoint;
mod error;
#[cfg(feature = "http")]
mod http;
mod reader;
mod resume;
#[cfg(target_os = "linux")]
mod sharing;
#[cfg(not(target_os = "linux"))]
#[path = "not_sharing.rs"]
mod sharing;
mod writer;

#[cfg(test)]
mod tests;

pub use chunks::Chunks;
pub use client::Client;
pub use endpoint::{Endpoint, default_socket_path};
pub use error::{ConnectError, ProtocolError, ReadError, RequestError, WriteError};
#[cfg(feature = "http")]
pub use http::{EndpointError, HttpEndpoint};
pub use pfs_proto::{
    CreateOptions, DaemonInfo, End, ErrorCode, PathError, Peer, ReadOptions, ReaderStat, SlowPolicy, Start,
    State, StreamPath, StreamStat, StreamSummary, Until, WriteOptions, WriterStat,
};
pub use reader::{Event, Reader};
pub use writer::Writer;
