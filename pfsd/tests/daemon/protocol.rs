//! Protocol violations: the client that commits one is told, and no other client is affected.

use std::time::Duration;

use bytes::BytesMut;
use pfs_host::Settings;
use pfs_proto::{CreateOptions, ErrorCode, Hello, Reply, Request, VERSION};
use pfsd::Daemon;

use crate::harness::{Running, at, oldest};

#[tokio::test]
async fn a_frame_that_claims_four_gigabytes_is_refused_at_its_header() {
    let running = Running::start();
    for greeted in [false, true] {
        let mut client = if greeted { running.client().await } else { running.stranger().await };
        client.send_bytes(&[0xff, 0xff, 0xff, 0xff, 0x10]).await;
        let message = client.refused_for_good(ErrorCode::Protocol).await;
        assert!(message.contains("4294967295"), "{message}");
    }
    running.connections(0).await;
}

fn frame(len: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes()[..], &[kind], payload].concat()
}

#[tokio::test]
async fn malformed_frames_are_a_protocol_error() {
    let running = Running::start();
    let bad = [
        ("a frame one byte over the limit", frame((1024 * 1024) + 1, 0x10, b"")),
        ("an unknown kind", frame(0, 0x7f, b"")),
        ("a reply in place of a request", frame(0, 0x82, b"")),
        ("a message cut short inside its frame", frame(2, 0x02, &[200, 0])),
        ("a message with extra bytes after its end", frame(1, 0x0a, &[0])),
        ("a path that is not UTF-8", frame(4, 0x06, &[2, 0, 0xff, 0xfe])),
    ];
    for (what, bytes) in &bad {
        for greeted in [false, true] {
            let mut client =
                if greeted { running.client().await } else { running.stranger().await };
            client.send_bytes(bytes).await;
            let message = client.refused_for_good(ErrorCode::Protocol).await;
            assert!(!message.is_empty(), "{what}");
            if *what == "an unknown kind" {
                assert!(message.contains("0x7f"), "{message}");
            }
        }
    }
    running.connections(0).await;
    assert!(running.daemon.registry().is_empty());
}

#[tokio::test]
async fn a_client_of_the_next_version_is_refused_and_told_both_versions() {
    let running = Running::start();
    let mut client = running.stranger().await;
    let next = Hello { min_version: VERSION + 1, max_version: VERSION + 2, capabilities: 0 };
    client.send(&Request::Hello(next)).await;
    let message = client.refused_for_good(ErrorCode::Version).await;
    let theirs = format!("version {} to {}", VERSION + 1, VERSION + 2);
    let ours = format!("pfsd {} (pid {})", env!("CARGO_PKG_VERSION"), std::process::id());
    for part in [&theirs, &ours, &format!("version {VERSION} of the protocol"), "pfs stop"] {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

#[tokio::test]
async fn a_client_of_several_versions_gets_our_version_and_the_shared_capabilities() {
    let running = Running::start();
    let mut client = running.stranger().await;
    let many = Hello { min_version: 0, max_version: VERSION + 5, capabilities: u64::MAX };
    let memory = if cfg!(target_os = "linux") { Hello::SHM | Hello::MOVING } else { 0 };
    let others = Hello::LEASING | Hello::JOINING | Hello::LINKING;
    let shared = Hello::RESUMING | Hello::PUT | others | memory;
    let ours = Hello { capabilities: shared, ..Hello::OURS };
    assert_eq!(client.ask(Request::Hello(many)).await, Reply::Hello(ours));
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let running = Running::start();
    let mut client = running.stranger().await;
    client.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    client.refused_for_good(ErrorCode::Protocol).await;
}

#[tokio::test]
async fn a_request_before_hello_is_refused_without_effect() {
    let running = Running::start();
    let mut client = running.stranger().await;
    client.send(&Request::Create(at("/streamfs/a"), CreateOptions::default())).await;
    client.refused_for_good(ErrorCode::Protocol).await;
    assert!(running.daemon.registry().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_and_a_client_that_stops_within_its_hello_time_out() {
    let running = Running::with(
        Daemon::new(&Settings::default()).with_hello_timeout(Duration::from_millis(50)),
    );
    for said in [&b""[..], b"\x10\x00"] {
        let mut client = running.stranger().await;
        client.send_bytes(said).await;
        let message = client.refused_for_good(ErrorCode::Timeout).await;
        assert!(message.contains("0.05 seconds"), "{message}");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_within_a_frame_leaves_nothing_behind() {
    let running = Running::start();
    let mut bytes = BytesMut::new();
    Request::Create(at("/streamfs/a"), CreateOptions::default()).encode(&mut bytes);
    for cut in 1..bytes.len() {
        let mut client = running.client().await;
        client.send_bytes(&bytes[..cut]).await;
    }
    running.connections(0).await;
    assert!(running.daemon.registry().is_empty());
}

#[tokio::test]
async fn requests_out_of_place_are_protocol_errors() {
    let running = Running::start();
    for request in [
        Request::Append(b"x".as_slice().into()),
        Request::Finish { close: true },
        Request::Hello(Hello::OURS),
    ] {
        let mut client = running.client().await;
        client.send(&request).await;
        client.refused_for_good(ErrorCode::Protocol).await;
    }

    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    writer.send(&Request::Info).await;
    writer.refused_for_good(ErrorCode::Protocol).await;

    let mut halfway = running.client().await;
    halfway.write_to("/streamfs/a").await;
    halfway.send(&Request::AppendPart(b"half".as_slice().into())).await;
    halfway.send(&Request::Finish { close: true }).await;
    halfway.refused_for_good(ErrorCode::Protocol).await;
    assert_eq!(running.daemon.registry().get("/streamfs/a").unwrap().stat().head, 0);

    let mut reader = running.client().await;
    reader.read_from("/streamfs/a", oldest()).await;
    reader.send(&Request::Info).await;
    reader.refused_for_good(ErrorCode::Protocol).await;
}

#[tokio::test]
async fn a_bad_path_is_refused_and_the_connection_stays_open() {
    let running = Running::start();
    let mut client = running.client().await;
    // Remove requests whose path is not a valid StreamPath.
    for path in [&b"relative"[..], b"a/b"] {
        let payload = [&(path.len() as u16).to_le_bytes()[..], path].concat();
        client.send_bytes(&frame(payload.len() as u32, 0x08, &payload)).await;
        assert_eq!(client.error().await.0, ErrorCode::BadPath, "{path:?}");
    }
    assert!(matches!(client.ask(Request::Info).await, Reply::Daemon(_)));
}

#[tokio::test]
async fn a_client_beyond_the_limit_is_told_so_and_served_once_another_has_left() {
    let running =
        Running::with(Daemon::new(&Settings { max_connections: 2, ..Settings::default() }));
    let first = running.client().await;
    let mut second = running.client().await;
    let message = running.stranger().await.refused_for_good(ErrorCode::Limit).await;
    assert!(message.contains("limits.max_connections"), "{message}");
    assert!(
        matches!(second.ask(Request::Info).await, Reply::Daemon(info) if info.connections == 2)
    );
    drop(first);
    crate::harness::eventually(async || {
        let mut next = running.stranger().await;
        // A refused client gets an error at once; only an admitted one answers hello with hello.
        next.send(&Request::Hello(Hello::OURS)).await;
        next.reply().await == Some(Reply::Hello(Hello::OURS))
    })
    .await;
}
