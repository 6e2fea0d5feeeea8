//! The local mount: streams in the memory of this daemon.

use std::{future::ready, time::SystemTime};

use pfs_proto::{PathPrefix, Peer, ReadOptions, StreamPath};
use pfs_stream::{Events, Reader, Registry, Stream, StreamConfig, StreamStat, Writer};

use super::{Answer, Entry, First, Mount};
use crate::{Failure, settings::MountSettings};

/// The attempt that a refused reader's message names.
const READ: &str = "cannot read";

/// Removes the streams whose time to live is over.
pub(crate) fn expire(registry: &Registry, now: SystemTime) {
    for stream in registry.expire(now) {
        tracing::info!(stream, "stream expired");
    }
}

/// One tree of the daemon's streams. All local mounts share the registry, and thereby its limits.
#[derive(Debug)]
pub(crate) struct Local {
    settings: MountSettings,
    registry: Registry,
}

impl Local {
    pub(crate) fn new(settings: MountSettings, registry: Registry) -> Self {
        Self { settings, registry }
    }

    fn get(&self, path: &StreamPath) -> Option<Stream> {
        let stream = self.registry.get(path.as_str())?;
        let now = SystemTime::now();
        if stream.expires().is_none_or(|expiry| expiry > now) {
            return Some(stream);
        }
        // The task that removes expired streams has not run yet.
        expire(&self.registry, now);
        None
    }

    /// Whether a stream of the registry is in this tree.
    fn holds(&self, name: &str) -> bool {
        name.strip_prefix(&self.settings.path).is_some_and(|below| below.starts_with('/'))
    }

    fn existing(&self, path: &StreamPath) -> Result<Stream, Failure> {
        self.get(path).ok_or_else(|| Failure::no_such_stream(path.as_str()))
    }
}

/// Appends the first contents of a stream that nobody else can reach yet. They fit: an empty ring has room for what its sizes
/// were found to allow.
fn begin(path: &StreamPath, stream: &Stream, first: First<'_>, owner: Peer) {
    if !first.chunks.is_empty()
        && let Ok(mut writer) = stream.writer(owner)
    {
        if let Err(error) = writer.try_append_all(first.chunks) {
            tracing::error!(%path, %error, "the first contents of a stream were not appended");
        }
        writer.finish();
    }
    if first.close {
        stream.close();
    }
}

/// An answer that needs no waiting.
fn now<'a, T: Send + 'a>(answer: Result<T, Failure>) -> Answer<'a, T> {
    Box::pin(ready(answer))
}

impl Mount for Local {
    fn path(&self) -> &str {
        &self.settings.path
    }

    fn stream_config(&self) -> StreamConfig {
        self.settings.stream_config()
    }

    fn find<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Option<Stream>> {
        now(Ok(self.get(path)))
    }

    fn attach<'a>(&'a self, path: &'a StreamPath, options: ReadOptions, peer: Peer) -> Answer<'a, Reader> {
        if options.wait {
            let reader = self.registry.reader_when_created(path.as_str(), options, peer);
            return Box::pin(
                async move { reader.await.map_err(|error| Failure::attaching(READ, path, error)) },
            );
        }
        now(self.existing(path).and_then(|stream| {
            stream.reader(options, peer).map_err(|error| Failure::attaching(READ, path, error))
        }))
    }

    fn writer<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream, peer: Peer) -> Answer<'a, Writer> {
        now(stream.writer(peer).map_err(|error| Failure::attaching("cannot write to", path, error)))
    }

    fn create<'a>(
        &'a self,
        path: &'a StreamPath,
        config: StreamConfig,
        first: First<'a>,
        replace: bool,
    ) -> Answer<'a, Stream> {
        let owner = config.owner;
        let begin = |stream: &Stream| begin(path, stream, first, owner);
        let created = if replace {
            self.registry.replace_with(path.as_str(), config, begin)
        } else {
            self.registry.create_with(path.as_str(), config, begin)
        };
        now(created.map_err(|error| Failure::creating(path, &error)))
    }

    fn close<'a>(&'a self, _path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()> {
        stream.close();
        now(Ok(()))
    }

    fn close_failed<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()> {
        now(if stream.close_failed() { Ok(()) } else { Err(Failure::closed_before(path)) })
    }

    fn remove<'a>(&'a self, path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, ()> {
        let removed = self.registry.remove_stream(stream);
        now(removed.then_some(()).ok_or_else(|| Failure::no_such_stream(path.as_str())))
    }

    fn stat<'a>(&'a self, _path: &'a StreamPath, stream: &'a Stream) -> Answer<'a, StreamStat> {
        now(Ok(stream.stat()))
    }

    fn list<'a>(&'a self, below: &'a PathPrefix) -> Answer<'a, Vec<Entry>> {
        let streams = self.registry.list().into_iter();
        let here = streams.filter(|stream| self.holds(stream.name()) && below.contains(stream.name()));
        let entries = here.map(|stream| Entry {
            summary: stream.summary(),
            content_type: stream.config().content_type.clone(),
        });
        now(Ok(entries.collect()))
    }

    fn watch<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Events> {
        now(self.existing(path).map(|stream| stream.events()))
    }
}
