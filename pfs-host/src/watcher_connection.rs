//! A watcher's connection: sends events, and receives nothing.

use pfs_proto::{Reply, SlowPolicy};

use crate::{
    Readable,
    failure::Ended,
    shutdown::stuck,
    transport::Transport,
    wire::{Wire, unexpected},
};

/// Serves a watcher to its end.
pub(crate) async fn serve<T: Transport>(
    wire: &mut Wire<T>,
    place: &Readable<'_>,
) -> Result<(), Ended> {
    if !wire.input_is_empty() {
        return Err(unexpected());
    }
    let cutoff = place.cutoff(SlowPolicy::Drop);
    let mut watch = place.watch().await?;
    wire.put(&Reply::Watching);
    loop {
        tokio::select! {
            biased;
            () = wire.flush() => {}
            () = stuck(cutoff.reached()) => return Err(Ended::Stuck),
        }
        wire.release();
        let event = tokio::select! {
            biased;
            left = wire.ended() => return Err(left.err().unwrap_or(Ended::Gone)),
            event = watch.next() => event?,
        };
        match event {
            Some(event) => wire.put(&Reply::Happened(event)),
            None => return Ok(()),
        }
    }
}
