//! Compatibility with a daemon that speaks version 1 of the protocol. The daemon's replies were
//! recorded from the `pfsd` of commit 44e5b00; `scripts/old-peer` tests against that
//! program itself.

use std::path::PathBuf;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::daemon::promptly;
use crate::{Client, ConnectError, Endpoint, ErrorCode, Operator, Peer, RequestError};

/// The reply to a client that does not offer version 1. The daemon then closes the connection.
const REFUSED: &[u8] =
    b"\x87\0\0\0\x83\x02\0\x83\0the client speaks version 2 to 2 of the protocol, this daemon (pfsd 0.1.0) \
    version 1; use a client and a daemon of the same release";

/// The reply to a client that also offers version 1.
const HELLO: &[u8] = b"\x10\0\0\0\x81pfs\0\x01\0\x01\0\0\0\0\0\0\0\0\0";

/// The reply to `Info`.
const DAEMON: &[u8] =
    b"P\0\0\0\x89\x05\x000.1.0\xbbo\0\0\x1a\xda\x9duja\x06\0\x01\0\x09\0/streamfs\x01\0\0\0\0\0\0\0\
    \0\x04\0\0\0\0\0\0\0\x10x\0\0\0\0\0\0\0\0@\0\0\0\0\x01\0\0\0\0\0\0\0\0@\0\0\0\0\0\0";

/// The reply to `Stop`. The daemon then closes the connection.
const UNKNOWN: &[u8] = b"6\0\0\0\x83\x01\x002\0there is no message of kind 0x0e in this direction";

/// A socket on which a daemon sends the same replies to each client: one of `lines` for each
/// message, then it closes the connection. The daemon sends nothing unasked, and ignores the
/// content of the messages after hello.
fn daemon(
    lines: impl Fn(&[u8]) -> Vec<&'static [u8]> + Send + 'static,
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pfsd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut hello = [0; 21];
            client.read_exact(&mut hello).await.unwrap();
            let mut lines = lines(&hello).into_iter();
            client.write_all(lines.next().unwrap()).await.unwrap();
            for line in lines {
                let mut request = [0; 64];
                if client.read(&mut request).await.unwrap() == 0 {
                    break;
                }
                client.write_all(line).await.unwrap();
            }
        }
    });
    (folder, path)
}

/// A daemon that speaks version 1.
fn old_daemon() -> (tempfile::TempDir, PathBuf) {
    daemon(|hello| match hello {
        // The lowest version that the client offers is 1.
        [_, _, _, _, _, b'p', b'f', b's', 0, 1, 0, ..] => vec![HELLO, DAEMON, UNKNOWN],
        _ => vec![REFUSED],
    })
}

#[tokio::test]
async fn a_client_reports_both_versions_and_the_pid_of_an_older_daemon() {
    let (_folder, socket) = old_daemon();
    let error = promptly(Client::connect(Endpoint::Unix(socket))).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Older { version, pid: 28_603, protocol: 1 } if version == "0.1.0"),
        "{error:?}"
    );
    let own =
        format!("pfs-client {} speaks version {}", env!("CARGO_PKG_VERSION"), pfs_proto::VERSION);
    for part in ["pfsd 0.1.0 (pid 28603) is older", "speaks version 1 of the protocol", &own] {
        assert!(error.to_string().contains(part), "no {part:?} in {error}");
    }
}

#[tokio::test]
async fn an_older_daemon_answers_info_and_rejects_stop() {
    let (_folder, socket) = old_daemon();
    let mut operator = promptly(Operator::connect(&Endpoint::Unix(socket))).await.unwrap();
    assert_eq!(operator.peer().pid, Some(std::process::id()));
    assert_ne!(operator.peer(), Peer::default());
    let info = promptly(operator.info()).await.unwrap();
    assert_eq!(
        (info.version.as_str(), info.streams, info.max_streams, info.memory),
        ("0.1.0", 1, 1024, 7_868_416)
    );
    let error = promptly(operator.stop(false)).await.unwrap_err();
    assert!(matches!(error, RequestError::Daemon { code: ErrorCode::Protocol, .. }), "{error:?}");
}

#[tokio::test]
async fn the_message_of_a_daemon_that_refuses_every_version_is_quoted() {
    let (_folder, socket) = daemon(|_| vec![REFUSED]);
    let error = promptly(Client::connect(Endpoint::Unix(socket))).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Version { .. }), "{error:?}");
    assert!(error.to_string().contains("this daemon (pfsd 0.1.0) version 1"), "{error}");
}
