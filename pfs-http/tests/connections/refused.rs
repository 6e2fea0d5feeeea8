//! Lingering over HTTP/2: requests that are answered before all of their body has arrived.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::time::Instant;

use super::{S, Served, WIDE};

/// More bytes than a client may send before the server reads any.
const MORE_THAN_A_WINDOW: usize = 2 * 1024 * 1024;

/// Begins an upload to a closed stream, and receives the refusal while the body is unfinished.
async fn refused(served: &Served) -> SendStream<Bytes> {
    served.create(4096).close();
    let (client, connection) = h2::client::handshake(served.connect_raw(WIDE)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::put(format!("http://localhost{S}")).body(()).unwrap();
    let (response, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data("begins".into(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 409);
    let mut answer = response.into_body();
    let said = answer.data().await.unwrap().unwrap();
    assert!(said.starts_with(b"{\"error\""), "{said:?}");
    assert!(answer.is_end_stream(), "the answer ends before the client has");
    body
}

/// Sends `len` bytes once flow control permits it. Returns the reason of a reset.
async fn send(body: &mut SendStream<Bytes>, len: usize) -> Result<(), Reason> {
    body.reserve_capacity(len);
    while body.capacity() < len {
        match poll_fn(|cx| body.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.reason().unwrap()),
            None => return Err(poll_fn(|cx| body.poll_reset(cx)).await.unwrap()),
        }
    }
    body.send_data(vec![0; len].into(), false).map_err(|error| error.reason().unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_refused_upload_is_read_so_that_its_client_gets_the_answer() {
    let served = Served::new();
    let mut body = refused(&served).await;
    for _ in 0..MORE_THAN_A_WINDOW / WIDE {
        send(&mut body, WIDE).await.unwrap();
    }
    body.send_data(Bytes::new(), true).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_upload_that_does_not_end_is_reset_after_a_second() {
    let served = Served::new();
    let mut body = refused(&served).await;
    let begun = Instant::now();
    let reset = poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
    assert_eq!((reset, begun.elapsed()), (Reason::NO_ERROR, Duration::from_secs(1)));
}
