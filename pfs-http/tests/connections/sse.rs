//! Server-sent events while nothing happens.

use std::time::Duration;

use tokio::time::Instant;

use super::{S, Served};

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_happens_is_kept_alive_by_a_comment() {
    let served = Served::new();
    served.create(4096);
    let mut client = served.connect();
    client.request("GET", S, &[("accept", "text/event-stream")], None).await;
    client.head().await.unwrap().has(200);
    let begun = Instant::now();
    for times in 1..=3 {
        assert_eq!(client.piece().await.unwrap(), b":\n\n");
        assert_eq!(begun.elapsed(), times * Duration::from_secs(15));
    }
}
