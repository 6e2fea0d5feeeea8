//! Stopping the daemon: which clients may, the replies, and the check for idleness.

use std::{future::Future, pin::pin, sync::Arc, task::Poll};

use pfs_host::{Caller, Daemon, Owner, Permissions, Settings};
use pfs_proto::{ErrorCode, Hello, Peer, Reply, Request, WriteOptions};
use pfs_stream::StreamConfig;

use crate::{
    link::{Far, connect, connect_as},
    path,
};

const OPERATOR: u32 = 1000;

fn daemon() -> Arc<Daemon> {
    Arc::new(Daemon::new(&Settings::default()).with_operator(OPERATOR))
}

/// Connects a client of this user.
async fn client(daemon: &Arc<Daemon>, uid: Option<u32>) -> Far {
    let (peer, owner) = (Peer { pid: None, uid }, Owner::User(uid));
    let caller =
        Caller { peer, remote: None, owner, permissions: Permissions::all(), transport: "unix" };
    let mut far = connect_as::<true, false>(daemon, 4096, caller);
    assert_eq!(far.greet(0).await, Some(Reply::Hello(Hello::OURS)));
    far
}

async fn asked(client: &mut Far, if_idle: bool) -> Reply {
    client.send(&Request::Stop { if_idle }).await;
    client.reply().await.unwrap()
}

#[tokio::test]
async fn root_and_the_daemon_s_user_may_stop_the_daemon_and_get_the_lost_streams() {
    for uid in [0, OPERATOR] {
        let daemon = daemon();
        let stream = daemon.registry().create(path().as_str(), StreamConfig::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(b"lost").unwrap();
        let mut client = client(&daemon, Some(uid)).await;
        let Reply::Summary(lost) = asked(&mut client, false).await else { panic!("no stream") };
        assert_eq!(
            (lost.path.as_str(), lost.head - lost.tail, lost.writers),
            (path().as_str(), 4, 1)
        );
        assert_eq!(client.reply().await, Some(Reply::Done));
        assert!(daemon.shutdown().is_cancelled());
    }
}

#[tokio::test]
async fn the_connection_that_stopped_the_daemon_ends_when_the_daemon_is_gone() {
    let daemon = daemon();
    let mut client = client(&daemon, Some(0)).await;
    assert_eq!(asked(&mut client, false).await, Reply::Done);
    (&mut client.transport.served).await.unwrap();
    {
        let mut next = pin!(client.reply());
        let is_pending =
            std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending, "the client ended before the daemon");
    }
    drop(daemon);
    assert_eq!(client.reply().await, None);
}

#[tokio::test]
async fn no_other_user_may_stop_the_daemon_and_the_error_names_the_remedies() {
    let daemon = daemon();
    // A client over HTTP has no uid.
    for uid in [None, Some(OPERATOR + 1), Some(u32::MAX)] {
        let Reply::Error { code, message } = asked(&mut client(&daemon, uid).await, false).await
        else {
            panic!("{uid:?}")
        };
        assert_eq!(code, ErrorCode::Denied);
        for part in [
            "cannot stop the daemon",
            "root and the daemon's user (uid 1000)",
            "kill",
            "systemctl stop",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert!(!daemon.shutdown().is_cancelled());
}

#[tokio::test]
async fn a_daemon_with_a_stream_or_another_connection_is_not_idle_and_keeps_running() {
    let daemon = daemon();
    let own = daemon.admit().unwrap();
    let mut client = client(&daemon, Some(OPERATOR)).await;
    let stream = daemon.registry().create(path().as_str(), StreamConfig::default()).unwrap();
    stream.writer().unwrap().try_append(b"12345").unwrap();
    let other = daemon.admit().unwrap();
    let mut told = async |what: &str| {
        let Reply::Error { code: ErrorCode::Busy, message } = asked(&mut client, true).await else {
            panic!("it is stopped with {what}")
        };
        assert!(message.contains(what), "{message}");
    };
    told("1 stream with 5 bytes, and 1 other connection;").await;
    daemon.registry().remove(path().as_str());
    told("0 streams with 0 bytes, and 1 other connection;").await;
    drop(other);
    stream.remove();
    let again = daemon.registry().create("/streamfs/t", StreamConfig::default()).unwrap();
    told("1 stream with 0 bytes, and 0 other connections;").await;
    daemon.registry().remove_stream(&again);
    assert!(!daemon.shutdown().is_cancelled());

    assert_eq!(asked(&mut client, true).await, Reply::Done);
    assert!(daemon.shutdown().is_cancelled());
    drop(own);
}

#[tokio::test]
async fn no_client_is_admitted_after_the_daemon_was_found_idle() {
    let daemon = daemon();
    let _own = daemon.admit().unwrap();
    assert_eq!(asked(&mut client(&daemon, Some(0)).await, true).await, Reply::Done);
    assert!(daemon.admit().is_none());
    // A client that was on its way is told of the shutdown, and can do nothing.
    let mut late = connect::<true>(&daemon, 4096);
    late.send(&Request::Hello(Hello::OURS)).await;
    late.send(&Request::OpenWriter(path(), WriteOptions::default())).await;
    assert!(matches!(late.reply().await, Some(Reply::Error { code: ErrorCode::ShuttingDown, .. })));
    assert!(daemon.registry().is_empty());
}
