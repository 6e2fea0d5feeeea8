//! Control requests, which are answered at once: create, list, stat, close, remove, document, info,
//! mounts, trace, reload, stop.

use bytes::Bytes;
use pfs_proto::{
    ErrorCode, HopStat, LinkStat, MountStat, Reply, Request, StreamPath, StreamSummary,
};
use pfs_stream::{ReaderStat, StreamStat, WriterStat};

use crate::{
    caller::Caller,
    daemon::Daemon,
    failure::{Ended, Failure},
    listing::Listing,
    transport::Transport,
    wire::Wire,
};

/// A long reply is sent in parts of this size, so that memory does not grow with its length. A
/// transport over HTTP holds several parts.
const PART: usize = 16 * 1024;

/// Answers one request. The last part of the reply stays queued, and the caller flushes it.
pub(crate) async fn answer<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    caller: &Caller,
    request: Request,
) -> Result<(), Ended> {
    if let Some(path) = changed(&request) {
        let place = daemon.writable(caller, path)?;
        if place.is_elsewhere() {
            let reply = place.ask(request).await?;
            wire.put(&reply);
            return Ok(());
        }
    }
    match request {
        Request::Create(path, options) => {
            daemon.writable(caller, &path)?.create(options).await?;
            wire.put(&Reply::Done);
        }
        Request::Trace { mount, hops } => {
            daemon.trace(caller, &mount, hops).await?;
            wire.put(&Reply::Done);
        }
        Request::List(path) => {
            list(wire, daemon, daemon.listing(caller, &path)?, usize::MAX).await?;
        }
        Request::ListPage { path, after, most } => {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            list(wire, daemon, daemon.listing_after(caller, &path, after)?, most).await?;
        }
        Request::Stop { if_idle } => {
            put_summaries(wire, daemon.stop(caller, if_idle)?.into_iter()).await;
            wire.put(&Reply::Done);
            return Err(Ended::Stopped);
        }
        Request::Stat(path) => {
            let found = daemon.readable(caller, &path)?.stat().await?;
            let clients = found.readers.len().saturating_add(found.writers.len());
            let hops = found.hops.iter().map(size_of_hop).fold(0, usize::saturating_add);
            let clients = clients.saturating_mul(size_of::<ReaderStat>());
            let _memory = daemon.hold_answer(clients.saturating_add(hops))?;
            stat(wire, found).await;
        }
        Request::Close(path) => {
            let place = daemon.writable(caller, &path)?;
            place.close(&place.existing().await?).await?;
            wire.put(&Reply::Done);
        }
        Request::CloseFailed(path) => {
            let place = daemon.writable(caller, &path)?;
            place.close_failed(&place.existing().await?).await?;
            wire.put(&Reply::Done);
        }
        Request::Remove(path) => {
            let place = daemon.writable(caller, &path)?;
            place.remove(&place.existing().await?).await?;
            wire.put(&Reply::Done);
        }
        Request::Document(path) => {
            let text = document(daemon, caller, &path).await?;
            wire.put(&Reply::Document(text));
        }
        Request::Mounts => {
            let mounts = daemon.mounts(caller).await;
            let size = |MountStat { hop, links }: &MountStat| {
                let link = |(path, _): &(String, LinkStat)| {
                    path.len().saturating_add(size_of::<LinkStat>())
                };
                links.iter().map(link).fold(size_of_hop(hop), usize::saturating_add)
            };
            let _memory =
                daemon.hold_answer(mounts.iter().map(size).fold(0, usize::saturating_add))?;
            for MountStat { hop, links } in mounts {
                wire.put(&Reply::HopStat(hop));
                for (path, link) in links {
                    wire.put(&Reply::LinkStat(path, link));
                    if wire.queued() >= PART {
                        wire.flush().await;
                    }
                }
            }
            wire.put(&Reply::Done);
        }
        Request::Info => wire.put(&Reply::Daemon(daemon.info())),
        Request::Reload => wire.put(&Reply::Document(daemon.reload(caller).await?.into())),
        Request::Hello(_) => return Err(misplaced("a second Hello").into()),
        Request::Append(_)
        | Request::AppendPart(_)
        | Request::Finish { .. }
        | Request::Fail { .. }
        | Request::Withdraw
        | Request::LeaseReady
        | Request::Published
        | Request::NeedsRoom { .. }
        | Request::MarkSync { .. }
        | Request::Flush => {
            return Err(misplaced("an append before OpenWriter").into());
        }
        // A heartbeat only shows that the client is alive.
        Request::Heartbeat => {}
        Request::MadeRoom | Request::CannotMap | Request::Follow => {
            return Err(misplaced("a reader's message before OpenReader").into());
        }
        // `connection.rs` handles these requests.
        Request::OpenWriter(..)
        | Request::OpenReader(..)
        | Request::OpenLink(..)
        | Request::Watch(_)
        | Request::Put(..) => {
            return Err(misplaced("an open or a put").into());
        }
    }
    Ok(())
}

/// Answers with the first `most` streams of a listing.
async fn list<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    mut listing: Listing,
    most: usize,
) -> Result<(), Ended> {
    let mut left = most;
    while left > 0 {
        let page = listing.next(daemon).await?;
        if page.is_empty() {
            break;
        }
        let listed = page.len();
        put_summaries(wire, page.into_iter().take(left).map(|entry| entry.summary)).await;
        left = left.saturating_sub(listed);
    }
    wire.put(&Reply::Done);
    Ok(())
}

/// The path of the stream that a request changes.
fn changed(request: &Request) -> Option<&StreamPath> {
    match request {
        Request::Create(path, _)
        | Request::Close(path)
        | Request::CloseFailed(path)
        | Request::Remove(path) => Some(path),
        _ => None,
    }
}

fn misplaced(what: &str) -> Failure {
    Failure::new(ErrorCode::Protocol, format!("{what} is not allowed here"))
}

async fn put_summaries<T: Transport>(
    wire: &mut Wire<T>,
    streams: impl Iterator<Item = StreamSummary>,
) {
    for summary in streams {
        wire.put(&Reply::Summary(summary));
        if wire.queued() >= PART {
            wire.flush().await;
        }
    }
}

async fn stat<T: Transport>(wire: &mut Wire<T>, mut stat: StreamStat) {
    let (writers, readers) = (std::mem::take(&mut stat.writers), std::mem::take(&mut stat.readers));
    let media = stat.media.take().filter(|_| wire.joining);
    let hops = std::mem::take(&mut stat.hops);
    wire.put(&Reply::Stat(stat));
    if wire.linking {
        for hop in hops {
            wire.put(&Reply::HopStat(hop));
            if wire.queued() >= PART {
                wire.flush().await;
            }
        }
    }
    if let Some(media) = media {
        wire.put(&Reply::MediaStat(*media));
    }
    let knows_leases = wire.leasing;
    let told = |writer: WriterStat| WriterStat { leased: writer.leased && knows_leases, ..writer };
    let writers = writers.into_iter().map(|writer| Reply::WriterStat(told(writer)));
    for reply in writers.chain(readers.into_iter().map(Reply::ReaderStat)) {
        wire.put(&reply);
        if wire.queued() >= PART {
            wire.flush().await;
        }
    }
    wire.put(&Reply::Done);
}

fn size_of_hop(hop: &HopStat) -> usize {
    let texts = hop.mount.len().saturating_add(hop.owner.len());
    texts.saturating_add(hop.failure.as_ref().map_or(0, String::len))
}

async fn document(daemon: &Daemon, caller: &Caller, path: &StreamPath) -> Result<Bytes, Failure> {
    if let Some(text) = daemon.document(caller, path)? {
        return Ok(Bytes::from_static(text.as_bytes()));
    }
    daemon.readable(caller, path)?.existing().await?;
    Err(Failure::new(ErrorCode::IsStream, format!("use stream mode: pfs cat --stream {path}")))
}
