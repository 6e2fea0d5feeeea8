//! [`RemoteMount`]: the mount of another daemon's streams.

use std::{pin::pin, sync::Arc, time::Duration};

use pfs_client::LinkReader;
use pfs_host::{
    Daemon, Failure, Owner,
    mount::{Answer, Blocking, Elsewhere, Entry, Events, First, Mount},
};
use pfs_proto::{
    ErrorCode, PathPrefix, Peer, ReadOptions, SlowPolicy, Start, StreamEvent, StreamPath,
};
use pfs_stream::{
    AttachError, Reader, Registry, Stream, StreamConfig, StreamStat, StreamSummary, Writer,
};
use tokio::{sync::watch, time::sleep};

use crate::{
    follow::{FIRST_PAUSE, MAX_PAUSE},
    owner::{self, RemoteSettings},
    replicas::{InUse, Replicas},
    stats::Totals,
};

/// The streams of another daemon, replicated on demand. See the [crate documentation](crate).
#[derive(Debug)]
pub struct RemoteMount {
    shared: Arc<Shared>,
}

/// State of a mount, which the tasks of its replicas use too.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) owner: owner::Owner,
    /// The registry that the replicas are in, which limits them together with all other streams.
    pub(crate) registry: Registry,
    pub(crate) replicas: Replicas,
    pub(crate) totals: Arc<Totals>,
    /// How long a local `block` reader may keep a link waiting.
    pub(crate) max_block_time: watch::Receiver<Option<Duration>>,
}

impl RemoteMount {
    /// Creates a mount of this daemon. Connects to nothing yet.
    pub fn new(settings: RemoteSettings, daemon: &Daemon) -> Self {
        let shared = Shared {
            owner: owner::Owner::new(settings, daemon.id()),
            registry: daemon.registry().clone(),
            replicas: Replicas::default(),
            totals: Arc::default(),
            max_block_time: daemon.max_block_time(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The replica of a stream, which stays while the second value exists; `None` if the owner has no
    /// such stream.
    async fn open(&self, path: &StreamPath) -> Result<Option<(Stream, InUse)>, Failure> {
        let shared = &self.shared;
        let opened = shared.replicas.open(shared, path, None).await?;
        let Some((stream, in_use)) = opened else { return Ok(None) };
        // The link has ended with the stream, so nothing tells of another stream in its place.
        if !stream.extent().closed || self.is_still_there(path, &stream).await {
            return Ok(Some((stream, in_use)));
        }
        shared.replicas.remove(path, &stream);
        shared.registry.remove_stream(&stream);
        shared.replicas.open(shared, path, None).await
    }

    /// Whether the owner still has the stream of this replica. True if the owner does not answer.
    async fn is_still_there(&self, path: &StreamPath, stream: &Stream) -> bool {
        let start = Start::Offset(stream.extent().head);
        match self.shared.attach(path, ReadOptions::default().start(start)).await {
            Ok(link) => link.start().identity == stream.identity(),
            Err(failure) => !matches!(failure.code, ErrorCode::NoSuchStream | ErrorCode::PastHead),
        }
    }

    /// Waits until the owner has the stream, and attaches a reader before the first byte.
    async fn attach_later(
        &self,
        path: &StreamPath,
        options: ReadOptions,
        peer: Peer,
    ) -> Result<Reader, Failure> {
        let shared = &self.shared;
        let mut pending = pin!(shared.registry.reader_when_created(path.as_str(), options, peer));
        let attached = tokio::select! {
            biased;
            // Another client may open the replica first.
            attached = &mut pending, if options.policy != SlowPolicy::Block => attached,
            opened = self.open_later(path, options.policy) => {
                let _in_use = opened?;
                let _blocking = match options.policy {
                    SlowPolicy::Block => Some(shared.replicas.block(path).await?),
                    _ => None,
                };
                pending.await
            }
        };
        attached.map_err(|error| Failure::attaching("cannot read", path, error))
    }

    /// Opens the replica for a reader when the owner has the stream, however long that takes.
    async fn open_later(&self, path: &StreamPath, policy: SlowPolicy) -> Result<InUse, Failure> {
        let shared = &self.shared;
        let options = match policy {
            SlowPolicy::Block => everything().policy(policy),
            _ => everything(),
        };
        let mut pause = FIRST_PAUSE;
        loop {
            let opened = async {
                let theirs = shared.owner.path(path)?;
                let client = shared.owner.client().await?;
                let link = client.link(theirs, options.wait(true)).await;
                let link = link.map_err(|error| shared.owner.failed(&error))?;
                shared.replicas.open(shared, path, Some(link)).await
            };
            match opened.await {
                Ok(Some((_, in_use))) => return Ok(in_use),
                // Another client asked just before the stream was created.
                Ok(None) => {}
                Err(failure) if failure.code == ErrorCode::Unreachable => {}
                Err(failure) => return Err(failure),
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(MAX_PAUSE);
        }
    }

    fn other_protocol<T>(&self, operation: &str, path: &StreamPath) -> Result<T, Failure> {
        let mount = &self.shared.owner.settings().path;
        Err(Failure::new(
            ErrorCode::Denied,
            format!(
                "cannot {operation} {path} over this protocol: the streams of {mount} belong to another daemon; use pfs, or plain HTTP"
            ),
        ))
    }
}

/// Options of a link that gets all that the owner's ring holds.
pub(crate) fn everything() -> ReadOptions {
    ReadOptions::default().start(Start::Tail(u64::MAX))
}

impl Shared {
    /// Attaches a link to an existing stream, if the owner answers in time.
    pub(crate) async fn attach(
        &self,
        path: &StreamPath,
        options: ReadOptions,
    ) -> Result<LinkReader, Failure> {
        let theirs = self.owner.path(path)?;
        let attached = async {
            let client = self.owner.client().await?;
            self.owner.in_time(client.link(theirs, options)).await
        };
        // Boxed: the task of each replica would otherwise keep room for this as long as it runs.
        Box::pin(attached).await
    }
}

impl Mount for RemoteMount {
    fn path(&self) -> &str {
        &self.shared.owner.settings().path
    }

    fn elsewhere(&self) -> Option<&dyn Elsewhere> {
        Some(&*self.shared)
    }

    fn stream_config(&self) -> StreamConfig {
        StreamConfig::default()
    }

    fn find<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Option<Stream>> {
        Box::pin(async move { Ok(self.open(path).await?.map(|(stream, _)| stream)) })
    }

    fn attach<'a>(
        &'a self,
        path: &'a StreamPath,
        options: ReadOptions,
        peer: Peer,
    ) -> Answer<'a, Reader> {
        Box::pin(async move {
            for is_last in [false, true] {
                let Some((stream, _in_use)) = self.open(path).await? else { break };
                // The replica may be another one than when `block` was called.
                let _blocking = match options.policy {
                    SlowPolicy::Block => Some(self.shared.replicas.block(path).await?),
                    _ => None,
                };
                match stream.reader_of(options, peer) {
                    // Removed since it was opened: the owner may have the next stream by now.
                    Err(AttachError::Removed) if !is_last => {}
                    attached => {
                        return attached
                            .map_err(|error| Failure::attaching("cannot read", path, error));
                    }
                }
            }
            if options.wait {
                return self.attach_later(path, options, peer).await;
            }
            Err(Failure::no_such_stream(path.as_str()))
        })
    }

    fn block<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Blocking> {
        Box::pin(async move {
            let opened = self.open(path).await?;
            let blocking = self.shared.replicas.block(path).await?;
            // The replica is kept until the reader has attached.
            Ok(Blocking::new(move || drop((blocking, opened))))
        })
    }

    fn writer<'a>(
        &'a self,
        path: &'a StreamPath,
        _stream: &'a Stream,
        _peer: Peer,
    ) -> Answer<'a, Writer> {
        Box::pin(async move { self.other_protocol("write to", path) })
    }

    fn create<'a>(
        &'a self,
        path: &'a StreamPath,
        _config: StreamConfig,
        _first: First<'a>,
        _replace: bool,
        _owner: Owner,
    ) -> Answer<'a, Stream> {
        Box::pin(async move { self.other_protocol("create", path) })
    }

    fn close<'a>(&'a self, path: &'a StreamPath, _stream: &'a Stream) -> Answer<'a, ()> {
        Box::pin(async move { self.other_protocol("close", path) })
    }

    fn close_failed<'a>(&'a self, path: &'a StreamPath, _stream: &'a Stream) -> Answer<'a, ()> {
        Box::pin(async move { self.other_protocol("close", path) })
    }

    fn remove<'a>(&'a self, path: &'a StreamPath, _stream: &'a Stream) -> Answer<'a, ()> {
        Box::pin(async move { self.other_protocol("remove", path) })
    }

    fn stat<'a>(&'a self, path: &'a StreamPath, _stream: &'a Stream) -> Answer<'a, StreamStat> {
        self.shared.stat(path)
    }

    fn list<'a>(
        &'a self,
        below: &'a PathPrefix,
        after: &'a str,
        most: usize,
    ) -> Answer<'a, Vec<Entry>> {
        Box::pin(async move {
            let owner = &self.shared.owner;
            let settings = owner.settings();
            let rest = below.as_str().strip_prefix(&settings.path).unwrap_or_default();
            let theirs = format!("{}{rest}", settings.mounted);
            let Some(after) = owner.their_after(after) else { return Ok(Vec::new()) };
            let client = owner.client().await?;
            let page = u32::try_from(most).unwrap_or(u32::MAX);
            let listed = match owner.in_time(client.list_page(&theirs, &after, page)).await {
                Err(failure) if failure.code == ErrorCode::NoSuchStream => Vec::new(),
                listed => listed?,
            };
            let entries = listed.into_iter().filter_map(|summary| {
                let path = owner.local_path(&summary.path)?;
                Some(Entry { summary: StreamSummary { path, ..summary }, content_type: None })
            });
            Ok(entries.take(most).collect())
        })
    }

    fn watch<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, Box<dyn Events>> {
        Box::pin(async move {
            let owner = &self.shared.owner;
            let theirs = owner.path(path)?;
            let client = owner.client().await?;
            let events = owner.in_time(client.events(theirs)).await?;
            Ok(Box::new(Watching { events, shared: Arc::clone(&self.shared) }) as _)
        })
    }
}

/// The events of a stream at its owner.
#[derive(Debug)]
struct Watching {
    events: pfs_client::Events,
    shared: Arc<Shared>,
}

impl Events for Watching {
    fn next(&mut self) -> Answer<'_, Option<StreamEvent>> {
        Box::pin(async {
            self.events.next().await.map_err(|error| self.shared.owner.not_read(&error))
        })
    }
}
