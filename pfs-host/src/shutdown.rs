//! Graceful shutdown: how long connections may take for it. [`Daemon::shutdown`](crate::Daemon::shutdown) begins it.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long connections may take to end before they are cut.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// Waits until the shutdown has lasted for so long that a client that does not read is given up.
pub(crate) async fn stuck(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    sleep(DRAIN_TIMEOUT / 2).await;
}
