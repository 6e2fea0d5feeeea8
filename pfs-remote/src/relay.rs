//! Relay: passes on to the owner what changes a stream, and what asks for stats.

use std::{
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
};

use bytes::BytesMut;
use pfs_client::{RelayWriter, RequestError};
use pfs_host::{
    Failure,
    mount::{Answer, Elsewhere, Relay},
};
use pfs_proto::{
    ErrorCode, Hop, HopStat, MountStat, Reply, Request, StreamPath, StreamStat, WriteOptions,
};

use crate::{mount::Shared, owner::Owner};

/// Maximum number of readers and writers in the stats of a stream: more than any owner has, and few
/// enough for the memory of this daemon.
const MAX_CLIENTS: usize = 100_000;

impl Elsewhere for Shared {
    fn ask(&self, request: Request) -> Answer<'_, Reply> {
        Box::pin(async move {
            let request = renamed(&self.owner, request)?;
            let client = self.owner.client().await?;
            self.owner.in_time(client.ask(&request)).await
        })
    }

    fn trace(&self, hops: Vec<Hop>) -> Answer<'_, ()> {
        Box::pin(self.owner.trace(hops))
    }

    fn stat<'a>(&'a self, path: &'a StreamPath) -> Answer<'a, StreamStat> {
        Box::pin(async move {
            let theirs = self.owner.path(path)?;
            let client = self.owner.client().await?;
            let stat = client.stat_within(theirs, MAX_CLIENTS);
            let stat = self.owner.in_time(stat).await?;
            let mut hops = vec![HopStat { link: self.replicas.link(path), ..self.hop().await }];
            hops.extend(stat.hops);
            Ok(StreamStat { path: path.to_string(), hops, ..stat })
        })
    }

    fn mount_stat(&self) -> Pin<Box<dyn Future<Output = MountStat> + Send + '_>> {
        Box::pin(async move {
            let hop = self.hop().await;
            MountStat { hop, links: self.replicas.links() }
        })
    }

    fn write<'a>(
        &'a self,
        path: &'a StreamPath,
        options: WriteOptions,
    ) -> Answer<'a, (Box<dyn Relay>, u64)> {
        Box::pin(async move {
            self.owner.may_change(path)?;
            let theirs = self.owner.path(path)?;
            let client = self.owner.client().await?;
            let writer = client.relay(theirs, options).await;
            let writer = writer.map_err(|error| self.owner.failed(&error))?;
            let max_chunk = writer.max_chunk();
            let mount = self.owner.settings().path.clone();
            let relay: Box<dyn Relay> = Box::new(Writing { writer, mount });
            Ok((relay, max_chunk))
        })
    }
}

impl Shared {
    /// The mount, without a link.
    async fn hop(&self) -> HopStat {
        let settings = self.owner.settings();
        let (round_trip, failure) = match self.owner.round_trip().await {
            Ok(time) => (Some(time), None),
            Err(failure) => (None, Some(failure.message)),
        };
        HopStat {
            mount: settings.path.clone(),
            owner: settings.urls(),
            round_trip,
            failure,
            reconnects: self.totals.reconnects.load(Relaxed),
            lost_bytes: self.totals.lost_bytes.load(Relaxed),
            link: None,
        }
    }
}

/// The request with the owner's name of the stream.
///
/// # Errors
///
/// The mount is read-only, or the name would be too long.
fn renamed(owner: &Owner, request: Request) -> Result<Request, Failure> {
    let theirs = |path: StreamPath| {
        owner.may_change(&path)?;
        owner.path(&path)
    };
    Ok(match request {
        Request::Create(path, options) => Request::Create(theirs(path)?, options),
        Request::Put(path, options, chunk) => Request::Put(theirs(path)?, options, chunk),
        Request::Close(path) => Request::Close(theirs(path)?),
        Request::CloseFailed(path) => Request::CloseFailed(theirs(path)?),
        Request::Remove(path) => Request::Remove(theirs(path)?),
        _ => {
            let message = "this request is not passed on to the owner of a mount";
            return Err(Failure::new(ErrorCode::Internal, message));
        }
    })
}

/// A writer at the owner.
#[derive(Debug)]
struct Writing {
    writer: RelayWriter,
    /// The path of the mount, for messages.
    mount: String,
}

impl Relay for Writing {
    fn can_mark(&self) -> bool {
        self.writer.can_mark()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Result<Option<Reply>, Failure>> {
        self.writer.poll(cx, out).map_err(|error| match error {
            RequestError::Daemon { code, message } => {
                Failure::new(code, format!("{message} (at the owner of {})", self.mount))
            }
            error => {
                let message = format!(
                    "the daemon that owns {} went away: {error}; what was not acknowledged may or may not be in the stream",
                    self.mount
                );
                Failure::new(ErrorCode::Unreachable, message)
            }
        })
    }
}
