//! Media indexing: what a decoder needs to start in the middle of a live byte stream.
//!
//! A reader that joins a running stream of Matroska, fragmented MP4 or Ogg cannot decode the bytes
//! it gets: the codec parameters were at the beginning of the stream. An [`Indexer`] reads the
//! bytes of one stream in order and reports [`Mark`]s: the header that a decoder needs before
//! anything else, and the offsets at which a decoder can start.
//!
//! A [`Joiner`] follows a stream for one reader and returns what to deliver: after a loss, the
//! stream from the next sync point on.
//!
//! This crate has no I/O, no clock and no thread. It never sees a whole file: bytes arrive in
//! pieces of any size, and each byte is looked at once. It does not change the bytes of a stream
//! and does not decode them. Input is not trusted: broken or hostile bytes cost bounded time and
//! memory, and end the indexing of that stream with an [`IndexError`].
//!
//! ```
//! use pfs_media::{Format, Indexer, Mark};
//!
//! let mut stream = Vec::from(*b"YUV4MPEG2 W2 H2 F25:1 C420\n");
//! stream.extend(b"FRAME\n123456");
//!
//! let format = Format::sniff(&stream).expect("the first line names the format");
//! let mut indexer = Indexer::new(format, 0);
//! let mut marks = Vec::new();
//! indexer.feed(&stream, &mut marks)?;
//! assert_eq!(format, Format::Y4m);
//! assert!(matches!(marks[0], Mark::Header(_)) && marks.contains(&Mark::Sync(27)));
//! # Ok::<(), pfs_media::IndexError>(())
//! ```

mod annex_b;
mod bits;
mod flac;
mod flv;
mod format;
mod frames;
mod indexer;
mod joiner;
mod jpeg;
mod lines;
mod matroska;
mod mp4;
mod mpeg_ts;
mod ogg;
mod wav;
mod y4m;

pub use format::Format;
pub use indexer::{IndexError, Indexer, MAX_HEADER_BYTES, Mark};
pub use joiner::{Delivery, Joiner, MAX_SEARCHED_BYTES};
