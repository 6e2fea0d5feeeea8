//! Old clients: replies to version 1 of the protocol. The requests were recorded from the `pfs` of
//! commit 44e5b00; `scripts/old-peer` runs the same test with that program.

use std::sync::Arc;

use pfs_host::{Daemon, Settings};
use pfs_proto::{ErrorCode, Reply, VERSION};

use crate::link::connect;

/// The hello that begins every connection.
const HELLO: &[u8] = b"\x10\0\0\0\x01pfs\0\x01\0\x01\0\x01\0\0\0\0\0\0\0";

/// `pfs write --close /streamfs/s`.
const WRITE: &[u8] =
    b"\x11\0\0\0\x03\x0b\0/streamfs/s\0\0\0\0\x06\0\0\0\x10hello\n\x01\0\0\0\x12\x01";

/// `pfs cat --stream /streamfs/s`.
const CAT: &[u8] = b"\x19\0\0\0\x04\x0b\0/streamfs/s\0\0\0\0\0\0\0\0\0\0\0\x01";

#[tokio::test]
async fn an_older_client_gets_both_versions_and_the_remedy_and_changes_nothing() {
    let daemon = Arc::new(Daemon::new(&Settings::default()));
    for said in [&b""[..], WRITE, CAT] {
        let mut client = connect::<true>(&daemon, 4096);
        // Over HTTP the client sends everything at once; on a socket it waits for the answer to its
        // hello.
        client.send_bytes(&[HELLO, said].concat()).await;
        let Some(Reply::Error { code: ErrorCode::Version, message }) = client.reply().await else {
            panic!("served, or not told why")
        };
        let (own, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        let ours = format!("pfsd {own} (pid {pid}) speaks version {VERSION} of the protocol");
        for part in [
            &ours,
            "this client is older and speaks version 1;",
            "use the pfs of this pfsd",
            &format!("kill {pid}"),
        ] {
            assert!(message.contains(part), "no {part:?} in {message:?}");
        }
        assert_eq!(client.reply().await, None);
    }
    assert!(daemon.registry().is_empty());
}
