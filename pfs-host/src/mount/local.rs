//! The local mount: streams in the memory of this daemon.

use std::{future::ready, sync::Arc, time::Duration};

use pfs_proto::{PathPrefix, Peer, ReadOptions, StreamPath};
use pfs_stream::{Finish, Reader, Registry, Stream, StreamConfig, StreamStat, Writer};

use super::{Answer, Entry, Events, First, Mount};
use crate::{Failure, Owner, quotas::Quotas, settings::MountSettings};

/// The operation that the message to a refused reader names.
const READ: &str = "cannot read";

/// Removes streams whose time to live is over.
pub(crate) fn expire(registry: &Registry) {
    for stream in registry.expire(Duration::ZERO) {
        tracing::info!(stream, "stream expired");
    }
}

/// A mount in memory. All local mounts share one registry and the quotas, and therefore
/// their limits.
#[derive(Debug)]
pub(crate) struct Local {
    settings: MountSettings,
    registry: Registry,
    quotas: Arc<Quotas>,
}

impl Local {
    pub(crate) fn new(settings: MountSettings, registry: Registry, quotas: Arc<Quotas>) -> Self {
        Self { settings, registry, quotas }
    }

    fn get(&self, path: &StreamPath) -> Option<Stream> {
        let stream = self.registry.get(path.as_str())?;
        if stream.expires_in().is_none_or(|left| !left.is_zero()) {
            return Some(stream);
        }
        // The task that removes expired streams has not run yet.
        expire(&self.registry);
        None
    }

    fn existing(&self, path: &StreamPath) -> Result<Stream, Failure> {
        self.get(path).ok_or_else(|| Failure::no_such_stream(path.as_str()))
    }
}

/// Appends the first contents of a stream that no other client can reach yet. The contents fit:
/// their size was checked against the stream's configuration, and an empty ring has room for
/// that size.
fn begin(path: &StreamPath, stream: &Stream, first: First<'_>, creator: Peer) {
    if !first.chunks.is_empty()
        && let Ok(mut writer) = stream.writer_of(creator)
    {
        if let Err(error) = writer.try_append_all(first.chunks) {
            tracing::error!(%path, %error, "the first contents of a stream were not appended");
        }
        writer.finish(Finish::KeepOpen);
    }
    if first.close {
        stream.close();
    }
}

/// Wraps an answer that is ready.
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

    fn attach<'a>(
        &'a self,
        path: &'a StreamPath,
        options: ReadOptions,
        peer: Peer,
    ) -> Answer<'a, Reader> {
        if options.wait {
            let reader = self.registry.reader_when_created(path.as_str(), options, peer);
            return Box::pin(async move {
                reader.await.map_err(|error| Failure::attaching(READ, path, error))
            });
        }
        now(self.existing(path).and_then(|stream| {
            stream.reader_of(options, peer).map_err(|error| Failure::attaching(READ, path, error))
        }))
    }

    fn writer<'a>(
        &'a self,
        path: &'a StreamPath,
        stream: &'a Stream,
        peer: Peer,
    ) -> Answer<'a, Writer> {
        now(stream
            .writer_of(peer)
            .map_err(|error| Failure::attaching("cannot write to", path, error)))
    }

    fn create<'a>(
        &'a self,
        path: &'a StreamPath,
        config: StreamConfig,
        first: First<'a>,
        replace: bool,
        owner: Owner,
    ) -> Answer<'a, Stream> {
        let creator = config.owner;
        let begin = |stream: &Stream| begin(path, stream, first, creator);
        let quota = self.quotas.quota(owner);
        let registry =
            quota.map_or_else(|| self.registry.clone(), |quota| self.registry.charged_to(&quota));
        let created = if replace {
            registry.replace_with(path.as_str(), config, begin)
        } else {
            registry.create_with(path.as_str(), config, begin)
        };
        now(created.map_err(|error| Failure::creating(path, owner, &error)))
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

    fn list<'a>(
        &'a self,
        below: &'a PathPrefix,
        after: &'a str,
        most: usize,
    ) -> Answer<'a, Vec<Entry>> {
        let mount = &*self.settings.path;
        let place = if below.contains(mount) { mount } else { below.as_str() };
        let entries = self.registry.list_at(place, after, most).into_iter().map(|stream| Entry {
            summary: stream.summary(),
            content_type: stream.content_type().map(str::to_owned),
        });
        now(Ok(entries.collect()))
    }

    fn watch<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Box<dyn Events>> {
        now(self.existing(path).map(|stream| Box::new(stream.events()) as _))
    }
}
