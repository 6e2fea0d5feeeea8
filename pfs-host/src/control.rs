//! Requests that are answered at once: create, list, stat, close, remove, documents, information.

use bytes::Bytes;
use pfs_proto::{ErrorCode, Reply, Request, StreamPath};
use pfs_stream::Stream;

use crate::{
    client::Client,
    daemon::Daemon,
    failure::{Ended, Failure},
    namespace::Place,
    transport::Transport,
    wire::Wire,
};

/// A long answer is sent in parts of this size, so that its length is not its memory.
const PART: usize = 64 << 10;

/// Answers one request; what is left of the answer is queued for the caller to flush.
pub(crate) async fn answer<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    client: &Client,
    request: Request,
) -> Result<(), Ended> {
    match request {
        Request::Create(path, options) => {
            daemon.create(client, &path, options)?;
            wire.put(&Reply::Done);
        }
        Request::List(path) => list(wire, daemon, &path).await?,
        Request::Stat(path) => stat(wire, &daemon.existing(&path)?).await?,
        Request::Close(path) => {
            daemon.close(client, &daemon.existing(&path)?);
            wire.put(&Reply::Done);
        }
        Request::Remove(path) => {
            daemon.remove(client, &path)?;
            wire.put(&Reply::Done);
        }
        Request::Document(path) => wire.put(&Reply::Document(document(daemon, &path)?)),
        Request::Info => wire.put(&Reply::Daemon(daemon.info())),
        Request::Hello(_) => return Err(misplaced("a second Hello").into()),
        Request::Append(_) | Request::AppendPart(_) | Request::Finish { .. } | Request::Staged => {
            return Err(misplaced("an append before OpenWriter").into());
        }
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

async fn list<T: Transport>(wire: &mut Wire<T>, daemon: &Daemon, path: &str) -> Result<(), Ended> {
    let (prefix, may_be_empty) = daemon.namespace.directory(path)?;
    let mut found = false;
    for stream in daemon.below(&prefix) {
        found = true;
        wire.put(&Reply::Summary(stream.summary()));
        if wire.queued() >= PART {
            wire.flush().await;
        }
    }
    if !found && !may_be_empty {
        return Err(Failure::no_such_stream(prefix.as_str()).into());
    }
    wire.put(&Reply::Done);
    Ok(())
}

async fn stat<T: Transport>(wire: &mut Wire<T>, stream: &Stream) -> Result<(), Ended> {
    let mut stat = stream.stat();
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
    Ok(())
}

fn document(daemon: &Daemon, path: &StreamPath) -> Result<Bytes, Failure> {
    match daemon.namespace.place(path)? {
        Place::Document(text) => Ok(Bytes::from_static(text.as_bytes())),
        Place::Stream(_) if daemon.get(path).is_some() => {
            Err(Failure::new(ErrorCode::IsStream, format!("use stream mode: pfs cat --stream {path}")))
        }
        Place::Stream(_) => Err(Failure::no_such_stream(path.as_str())),
    }
}
