//! Mounts: trees of streams. Sessions and protocols do not know which mount serves them.

mod elsewhere;
mod local;

use std::{fmt, future::Future, pin::Pin};

use pfs_proto::{PathPrefix, Peer, ReadOptions, StreamEvent, StreamPath};
use pfs_stream::{Reader, Stream, StreamConfig, StreamStat, StreamSummary, Writer};

pub use self::elsewhere::{Elsewhere, Relay};
pub(crate) use self::local::{Local, expire};
use crate::{Failure, Owner};

/// The future that each call of a mount returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A tree of streams below one path.
///
/// Every call may wait for another machine, although the local mount never waits. A reader always
/// follows a ring of this daemon: the stream's own ring, or the ring of a local replica. Therefore
/// the calls are made once per session, and no call is on the path of the bytes.
///
/// # Cancel safety
///
/// Every future may be dropped while it is pending. A dropped [`create`](Self::create),
/// [`close`](Self::close), [`close_failed`](Self::close_failed) or [`remove`](Self::remove) may
/// still take effect.
pub trait Mount: fmt::Debug + Send + Sync {
    /// The path of the tree, such as `/streamfs`.
    fn path(&self) -> &str;

    /// The daemon that owns the streams, if it is another one. Then [`writer`](Self::writer),
    /// [`create`](Self::create), [`close`](Self::close), [`close_failed`](Self::close_failed) and
    /// [`remove`](Self::remove) are not used: a protocol goes there instead.
    fn elsewhere(&self) -> Option<&dyn Elsewhere> {
        None
    }

    /// Default configuration of new streams. The creator's options override it.
    fn stream_config(&self) -> StreamConfig;

    /// Finds a stream. `None` if there is none, or its time to live is over.
    fn find<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Option<Stream>>;

    /// Attaches a reader. If `options` say so, waits until the stream is created; the reader is
    /// then attached before the first byte.
    fn attach<'a>(
        &'a self,
        path: &'a StreamPath,
        options: ReadOptions,
        peer: Peer,
    ) -> Answer<'a, Reader>;

    /// Prepares for a `block` reader that attaches while the returned value exists: from now on, the
    /// writers of the stream wait for the slowest reader, wherever they are.
    fn block<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Blocking> {
        let _ = path;
        Box::pin(async { Ok(Blocking::default()) })
    }

    /// Attaches a writer to a stream that [`find`](Self::find) or
    /// [`create`](Self::create) returned.
    fn writer<'a>(
        &'a self,
        path: &'a StreamPath,
        stream: &'a Stream,
        peer: Peer,
    ) -> Answer<'a, Writer>;

    /// Creates a stream with its first contents, and charges the stream to its owner. No other
    /// client appends before the first contents.
    ///
    /// With `replace`, an existing stream of this path is removed in the same step, so no other
    /// client finds the path empty. Without `replace`, an existing stream is an error.
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

    /// Closes a stream as failed. Refused if the stream was closed before, unless it was closed
    /// as failed.
    fn close_failed<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()>;

    /// Removes a stream that [`find`](Self::find) returned. Another stream that has the path by
    /// now stays.
    fn remove<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()>;

    /// Counters and clients of a stream that [`find`](Self::find) returned.
    fn stat<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, StreamStat>;

    /// Lists the streams at a path and below it, sorted by path: the first `most` whose paths sort
    /// after `after`.
    fn list<'a>(
        &'a self,
        below: &'a PathPrefix,
        after: &'a str,
        most: usize,
    ) -> Answer<'a, Vec<Entry>>;

    /// Subscribes to the events of a stream, from now on. They are those of its owner.
    fn watch<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Box<dyn Events>>;
}

/// The events of a stream.
pub trait Events: fmt::Debug + Send {
    /// The next event. `None` after the last event of a removed stream. Fails if the daemon that
    /// owns the stream cannot be reached any more.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, no event is lost.
    fn next(&mut self) -> Answer<'_, Option<StreamEvent>>;
}

impl Events for pfs_stream::Events {
    fn next(&mut self) -> Answer<'_, Option<StreamEvent>> {
        Box::pin(async { Ok(Self::next(self).await) })
    }
}

/// Tells a mount, when dropped, that a `block` reader has attached, or will not.
#[derive(Default)]
pub struct Blocking(Option<Box<dyn FnOnce() + Send>>);

impl Blocking {
    /// Calls `attached` when this value is dropped.
    pub fn new(attached: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(attached)))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(attached) = self.0.take() {
            attached();
        }
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blocking")
    }
}

/// First contents of a new stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct First<'a> {
    /// Chunks, in order.
    pub chunks: &'a [&'a [u8]],
    /// Whether the stream is closed after the chunks.
    pub close: bool,
}

impl First<'_> {
    /// The size of the contents in bytes; `None` if there are none.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let bytes = self.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        (bytes > 0).then_some(bytes)
    }
}

/// A stream in a listing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stream's counters.
    pub summary: StreamSummary,
    /// The media type that the creator set.
    pub content_type: Option<String>,
}
