//! Tests of stream events.

use std::time::Duration;

use pfs_proto::{ErrorCode, Reply, Request};
use tokio::time::timeout;

use super::{
    client::Socket,
    daemon::{Daemon, path, promptly},
};
use crate::{Events, Peer, ProtocolError, ReadError, StreamEvent};

const COMES: StreamEvent =
    StreamEvent::Subscribed { reader: 1, peer: Peer { pid: None, uid: None }, readers: 1 };

async fn watching(socket: &Socket) -> (Events, Daemon) {
    let (client, mut daemon) = socket.client().await;
    let path = path();
    let (events, ()) = tokio::join!(client.events(&path), async {
        assert_eq!(daemon.request().await, Some(Request::Watch(path.clone())));
        daemon.send(&Reply::Watching).await;
    });
    (events.unwrap(), daemon)
}

#[tokio::test(start_paused = true)]
async fn events_arrive_in_order_until_the_stream_is_removed() {
    let socket = Socket::new();
    let (mut events, mut daemon) = watching(&socket).await;
    let told =
        [COMES, StreamEvent::FirstReader, StreamEvent::Missed { count: 7 }, StreamEvent::Removed];
    for event in told {
        // Cancelling a wait loses no event.
        assert!(timeout(Duration::ZERO, events.next()).await.is_err());
        daemon.send(&Reply::Happened(event)).await;
        assert_eq!(promptly(events.next()).await.unwrap(), Some(event));
    }
    for _ in 0..2 {
        assert_eq!(promptly(events.next()).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn losing_the_daemon_is_an_error_and_not_the_end_of_the_events() {
    let socket = Socket::new();
    let (mut events, daemon) = watching(&socket).await;
    drop(daemon);
    for _ in 0..2 {
        let error = promptly(events.next()).await.unwrap_err();
        assert!(matches!(error, ReadError::DaemonGone(_)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_an_event_is_an_error() {
    let socket = Socket::new();
    let (mut events, mut daemon) = watching(&socket).await;
    daemon.send(&Reply::Done).await;
    let error = promptly(events.next()).await.unwrap_err();
    assert!(
        matches!(super::violation(&error), Some(ProtocolError::Unexpected { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn watching_a_missing_stream_fails() {
    let socket = Socket::new();
    let (client, mut daemon) = socket.client().await;
    let path = path();
    let (refused, ()) = tokio::join!(client.events(&path), async {
        daemon.request().await;
        daemon.send(&Reply::Error { code: ErrorCode::NoSuchStream, message: "no".into() }).await;
    });
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::NoSuchStream));
}
