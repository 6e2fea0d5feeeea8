//! Disconnect detection for a request that waits: an append that waits for `block` readers reads
//! nothing from its connection, and would not notice that the client has disconnected.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use pfs_host::Failure;
use pfs_proto::ErrorCode;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a chunk of a disconnected client may wait for `block` readers. Bytes that have arrived
/// are appended. While they wait, the writer counts as present, and the connection and the bytes
/// count against the limits.
pub(crate) const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until the client of a connection can read nothing more.
pub(super) type HungUp = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Client of one request; an extension of the request.
#[derive(Clone)]
pub(crate) struct Presence {
    /// Cancelled when hyper has dropped the request: its connection broke, or the client reset its
    /// HTTP/2 stream.
    dropped: CancellationToken,
    hung_up: HungUp,
}

impl Presence {
    /// Creates the presence of a client, which ends with `hung_up`, or when the guard is dropped.
    pub(super) fn new(hung_up: HungUp) -> (Self, DropGuard) {
        let dropped = CancellationToken::new();
        (Self { dropped: dropped.clone(), hung_up }, dropped.drop_guard())
    }

    /// Waits until the client has disconnected. Bytes that the client sent before may be unread.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    pub(crate) async fn ended(&self) {
        tokio::select! {
            () = self.dropped.cancelled() => {}
            () = (self.hung_up)() => {}
        }
    }

    /// Appends. Gives up, and drops `append`, if the client has disconnected and `block` readers
    /// make no room for [`ORPHAN_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// The append was given up.
    pub(crate) async fn append<T>(&self, append: impl Future<Output = T>) -> Result<T, Failure> {
        let orphaned = async {
            self.ended().await;
            sleep(ORPHAN_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            appended = append => Ok(appended),
            () = orphaned => Err(Failure::new(ErrorCode::Timeout, format!(
                "the client has disconnected, and `block` readers have made no room for {} seconds",
                ORPHAN_TIMEOUT.as_secs()
            ))),
        }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}
