//! Graceful shutdown: time limits for connections. [`Daemon::shutdown`](crate::Daemon::shutdown)
//! starts it.

use std::{future::Future, time::Duration};

use tokio::time::sleep;

/// Time for connections to end before they are cut.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// Waits until `cut_off` is ready, and then half of [`DRAIN_TIMEOUT`]: a client that has not read
/// by then is given up.
pub(crate) async fn stuck<T>(cut_off: impl Future<Output = T>) {
    cut_off.await;
    sleep(DRAIN_TIMEOUT / 2).await;
}
