//! How far a reader is behind, for its progress.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use pfs_client::RequestError;
use pfs_proto::StreamPath;

use crate::{daemon::Daemon, progress::Counters};

/// How often the head is asked for.
const EVERY: Duration = Duration::from_millis(250);

/// Keeps the counters' head true for as long as anybody else holds them.
///
/// On a thread and a connection of its own, so that it goes on while printing waits for whoever
/// reads it: that is when people want to know.
pub(crate) fn watch(daemon: &Daemon, path: &StreamPath, counters: &Arc<Counters>) {
    let (daemon, path, counters) = (daemon.clone(), path.clone(), Arc::downgrade(counters));
    // It only decorates: whatever fails here is told by those who do the work.
    let _ = thread::Builder::new().name("lag".to_owned()).spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            let _ = runtime.block_on(follow_head(&daemon, &path, &counters));
        }
    });
}

async fn follow_head(
    daemon: &Daemon,
    path: &StreamPath,
    counters: &Weak<Counters>,
) -> Result<(), RequestError> {
    let client = daemon.try_connect().await?;
    loop {
        match client.stat(path).await {
            Ok(stat) => match counters.upgrade() {
                Some(counters) => counters.head.store(stat.head, Relaxed),
                None => return Ok(()),
            },
            // Not created yet, perhaps.
            Err(RequestError::Daemon { .. }) if counters.strong_count() > 0 => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(EVERY).await;
    }
}
