//! Half-closed connections: distinguishes a client that ended only its own direction, and is still
//! served, from a client that has gone.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{activity::Activity, operations::Protocol, socket::Socket};

/// Interval between checks of a client that has ended its direction.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the client of an HTTP/1.1 request can no longer read its response. While the server
/// still reads the request, and over HTTP/2, hyper notices the disconnect itself.
///
/// # Cancel safety
///
/// May be dropped while it is pending.
pub(super) async fn departed<S: Socket>(socket: &S, activity: &Activity) {
    socket.half_closed().await;
    // Boxed: every connection would reserve room for this future, and few get here.
    let mut hung_up = Box::pin(socket.hung_up());
    let mut has_hung_up = false;
    loop {
        match activity.is_only_answering() {
            // `pfs` never closes only its own direction.
            Some(Protocol::Frames) => return,
            Some(_) if has_hung_up => return,
            _ => {}
        }
        if has_hung_up {
            sleep(POLL_INTERVAL).await;
        } else {
            has_hung_up = timeout(POLL_INTERVAL, &mut hung_up).await.is_ok();
        }
    }
}
