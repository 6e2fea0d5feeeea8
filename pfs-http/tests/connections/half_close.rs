//! Clients that half-close their connection.

use std::time::Duration;

use tokio::time::sleep;

use super::{S, Served};

/// Longer than any time limit. The server checks a half-closed connection every second, so a whole
/// paused day would take a second of real time.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_half_closed_reader_is_still_served_and_noticed_when_it_goes() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut writer = stream.writer().unwrap();
    let mut reader = served.connect();
    reader.request("GET", S, &[], None).await;
    reader.head().await.unwrap().has(200);
    reader.transport().end_sending().await;
    sleep(LONG).await;
    writer.try_append(b"live").unwrap();
    assert_eq!(reader.piece().await.unwrap(), b"live");
    assert_eq!(stream.readers(), 1);
    drop(reader);
    sleep(LONG).await;
    assert_eq!(stream.readers(), 0);
}
