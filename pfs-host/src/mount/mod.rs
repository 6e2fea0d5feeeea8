//! Mounts: where streams live. Sessions and protocols do not know which mount serves them.

mod local;

use std::{fmt, future::Future, pin::Pin};

use pfs_proto::{PathPrefix, Peer, ReadOptions, StreamPath};
use pfs_stream::{Events, Reader, Stream, StreamConfig, StreamStat, StreamSummary, Writer};

pub(crate) use self::local::{Local, expire};
use crate::{Failure, Owner};

/// The pending answer of a mount.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A tree of streams below one path.
///
/// Every call may wait for another machine, though the local mount never waits. A reader always
/// follows a ring of this daemon: the stream's own, or that of its replica here. So the calls are
/// made once per session, and none is on the path of the bytes.
///
/// # Cancel safety
///
/// Every answer may be dropped while it is pending. A dropped [`create`](Self::create),
/// [`close`](Self::close), [`close_failed`](Self::close_failed) or [`remove`](Self::remove) may
/// still take effect.
pub trait Mount: fmt::Debug + Send + Sync {
    /// The path of the tree, such as `/streamfs`.
    fn path(&self) -> &str;

    /// Sizes and times of streams whose creator asks for nothing else.
    fn stream_config(&self) -> StreamConfig;

    /// Finds a stream. `None` if there is none, or its time to live is over.
    fn find<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Option<Stream>>;

    /// Attaches a reader. Waits for the stream's creation where `options` say so, and is then
    /// attached before the first byte.
    fn attach<'a>(
        &'a self,
        path: &'a StreamPath,
        options: ReadOptions,
        peer: Peer,
    ) -> Answer<'a, Reader>;

    /// Attaches a writer to a stream that [`find`](Self::find) or [`create`](Self::create) gave.
    fn writer<'a>(
        &'a self,
        path: &'a StreamPath,
        stream: &'a Stream,
        peer: Peer,
    ) -> Answer<'a, Writer>;

    /// Creates a stream with its first contents, and charges it to its owner. Nobody else appends
    /// before these. With `replace`, a stream of this path is removed in the same step, so that
    /// no other client finds none; without it, there must be none.
    fn create<'a>(
        &'a self,
        path: &'a StreamPath,
        config: StreamConfig,
        first: First<'a>,
        replace: bool,
        owner: Owner,
    ) -> Answer<'a, Stream>;

    /// Closes a stream.
    fn close<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()>;

    /// Closes a stream as failed. Refused where it was closed before, and not as failed.
    fn close_failed<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()>;

    /// Removes a stream that [`find`](Self::find) gave, and no other one that has its path by now.
    fn remove<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()>;

    /// Counters and clients of a stream that [`find`](Self::find) gave.
    fn stat<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, StreamStat>;

    /// The first `most` of the streams at a path and below it whose paths come behind `after`,
    /// sorted by path.
    fn list<'a>(
        &'a self,
        below: &'a PathPrefix,
        after: &'a str,
        most: usize,
    ) -> Answer<'a, Vec<Entry>>;

    /// The events of a stream from now on.
    fn watch<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Events>;
}

/// Contents that a stream is created with.
#[derive(Clone, Copy, Debug, Default)]
pub struct First<'a> {
    /// Chunks, in order.
    pub chunks: &'a [&'a [u8]],
    /// Whether the stream is closed after them.
    pub close: bool,
}

impl First<'_> {
    /// The size of the contents in bytes; `None` without any.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let bytes = self.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        (bytes > 0).then_some(bytes)
    }
}

/// A stream in a listing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its counters.
    pub summary: StreamSummary,
    /// The media type that its creator gave.
    pub content_type: Option<String>,
}
