//! A watcher's connection: what happens to a stream goes out, nothing comes in.

use pfs_proto::{Reply, StreamPath};

use crate::{
    client::Client,
    daemon::Daemon,
    failure::{Ended, Failure},
    shutdown::Going,
    transport::Transport,
    wire::{Wire, unexpected},
};

/// Serves a watcher to its end. Events that come while it does not read wait in a queue of bounded length, and are
/// counted where that is full.
pub(crate) async fn serve<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    client: &Client,
    path: StreamPath,
    going: &mut Going,
) -> Result<(), Ended> {
    if !wire.input_is_empty() {
        return Err(unexpected());
    }
    let mut events = daemon.existing(&path)?.events();
    client.log(|pid, uid| tracing::debug!(stream = path.as_str(), pid, uid, "watcher joined"));
    wire.put(&Reply::Watching);
    loop {
        tokio::select! {
            biased;
            () = wire.flush() => {}
            () = going.patience() => return Err(Ended::Stuck),
        }
        wire.release();
        let event = tokio::select! {
            biased;
            () = going.begun() => return Err(Failure::going_away().into()),
            left = wire.ended() => return Err(left.err().unwrap_or(Ended::Gone)),
            event = events.next() => event,
        };
        match event {
            Some(event) => wire.put(&Reply::Happened(event)),
            None => return Ok(()),
        }
    }
}
