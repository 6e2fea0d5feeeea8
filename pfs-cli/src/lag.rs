//! Polls the head of a stream, so that a reader's progress can show its lag.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use pfs_client::RequestError;
use pfs_proto::StreamPath;

use crate::{daemon::Daemon, progress::Counters};

/// How often to ask for the head.
const EVERY: Duration = Duration::from_millis(250);

/// Updates the head in the counters until their last other holder drops them.
///
/// Uses a thread and a connection of its own, so that it goes on while printing is blocked by the
/// reader of the output: the lag matters most then.
pub(crate) fn watch(daemon: &Daemon, path: &StreamPath, counters: &Arc<Counters>) {
    let (daemon, path, counters) = (daemon.clone(), path.clone(), Arc::downgrade(counters));
    // Errors are ignored: the lag is optional, and the command itself reports what fails.
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
            // The stream may not be created yet.
            Err(RequestError::Daemon { .. }) if counters.strong_count() > 0 => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(EVERY).await;
    }
}
