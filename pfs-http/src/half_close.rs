//! Half-closed connections: tells a client that ended only its own side, and is served on, from one
//! that is gone.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{activity::Activity, operations::Protocol, socket::Socket};

/// Between two looks at what a client that has ended its side still waits for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the client of an HTTP/1.1 request can no longer read its answer. While the server
/// still reads the request it notices by itself, as it does over HTTP/2. Cancel safe.
pub(super) async fn departed<S: Socket>(socket: &S, activity: &Activity) {
    socket.half_closed().await;
    // Boxed: few connections come so far, and every connection would have room for it.
    let mut hung_up = Box::pin(socket.hung_up());
    let mut has_hung_up = false;
    loop {
        match activity.is_only_answering() {
            // `pfs` never ends its side alone.
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
