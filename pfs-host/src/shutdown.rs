//! Graceful shutdown: how long connections may take for it.
//! [`Daemon::shutdown`](crate::Daemon::shutdown) begins it.

use std::{future::Future, time::Duration};

use tokio::time::sleep;

/// How long connections may take to end before they are cut.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// Waits until the client was `cut_off`, by a shutdown or otherwise, for so long that it is given
/// up if it does not read.
pub(crate) async fn stuck<T>(cut_off: impl Future<Output = T>) {
    cut_off.await;
    sleep(DRAIN_TIMEOUT / 2).await;
}
