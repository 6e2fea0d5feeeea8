//! Clients that end their side of a connection.

use std::time::Duration;

use tokio::time::sleep;

use super::{S, Served};

/// Longer than any limit. The server looks at such a client every second, which makes a day a
/// second of the machine's.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_reader_that_ends_its_side_is_served_on_and_noticed_when_it_goes() {
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
