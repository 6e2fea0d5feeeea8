//! Requests that are answered at once: create, list, stat, close, remove, documents, information.

use bytes::Bytes;
use pfs_proto::{ErrorCode, Reply, Request, StreamPath};
use pfs_stream::StreamStat;

use crate::{
    caller::Caller,
    daemon::Daemon,
    failure::{Ended, Failure},
    mount::Entry,
    transport::Transport,
    wire::Wire,
};

/// A long answer is sent in parts of this size, so that its length is not its memory.
const PART: usize = 64 << 10;

/// Answers one request; what is left of the answer is queued for the caller to flush.
pub(crate) async fn answer<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    caller: &Caller,
    request: Request,
) -> Result<(), Ended> {
    match request {
        Request::Create(path, options) => {
            daemon.writable(caller, &path)?.create(options).await?;
            wire.put(&Reply::Done);
        }
        Request::List(path) => list(wire, daemon.list(caller, &path).await?).await,
        Request::Stat(path) => {
            let place = daemon.readable(caller, &path)?;
            let found = place.existing().await?;
            stat(wire, place.stat(&found).await?).await;
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
        Request::Info => wire.put(&Reply::Daemon(daemon.info())),
        Request::Hello(_) => return Err(misplaced("a second Hello").into()),
        Request::Append(_)
        | Request::AppendPart(_)
        | Request::Finish { .. }
        | Request::Fail { .. }
        | Request::Withdraw
        | Request::Staged => {
            return Err(misplaced("an append before OpenWriter").into());
        }
        // It only shows that the client lives.
        Request::Heartbeat => {}
        Request::MadeRoom | Request::Unmapped => {
            return Err(misplaced("news of a reader before OpenReader").into());
        }
        // The connection takes these itself.
        Request::OpenWriter(..) | Request::OpenReader(..) | Request::Watch(_) => {
            return Err(misplaced("an open").into());
        }
    }
    Ok(())
}

fn misplaced(what: &str) -> Failure {
    Failure::new(ErrorCode::Protocol, format!("{what} is not allowed here"))
}

async fn list<T: Transport>(wire: &mut Wire<T>, entries: Vec<Entry>) {
    for Entry { summary, .. } in entries {
        wire.put(&Reply::Summary(summary));
        if wire.queued() >= PART {
            wire.flush().await;
        }
    }
    wire.put(&Reply::Done);
}

async fn stat<T: Transport>(wire: &mut Wire<T>, mut stat: StreamStat) {
    let (writers, readers) = (std::mem::take(&mut stat.writers), std::mem::take(&mut stat.readers));
    wire.put(&Reply::Stat(stat));
    let writers = writers.into_iter().map(Reply::WriterStat);
    for reply in writers.chain(readers.into_iter().map(Reply::ReaderStat)) {
        wire.put(&reply);
        if wire.queued() >= PART {
            wire.flush().await;
        }
    }
    wire.put(&Reply::Done);
}

async fn document(daemon: &Daemon, caller: &Caller, path: &StreamPath) -> Result<Bytes, Failure> {
    if let Some(text) = daemon.document(caller, path)? {
        return Ok(Bytes::from_static(text.as_bytes()));
    }
    daemon.readable(caller, path)?.existing().await?;
    Err(Failure::new(ErrorCode::IsStream, format!("use stream mode: pfs cat --stream {path}")))
}
