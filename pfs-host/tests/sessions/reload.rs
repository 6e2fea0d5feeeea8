//! Reload requests: which clients may make them, and the replies.

use std::sync::Arc;

use pfs_host::{Caller, Daemon, Failure, Owner, Permissions, ReloadRequest, Settings};
use pfs_proto::{ErrorCode, Peer, Reply, Request};
use tokio::sync::mpsc;

use crate::link::connect_as;

const OWNER: u32 = 1000;

/// Creates a daemon, and the receiver of its reload requests.
fn daemon() -> (Arc<Daemon>, mpsc::Receiver<ReloadRequest>) {
    let (sender, requests) = mpsc::channel(1);
    (Arc::new(Daemon::new(&Settings::default()).with_reload(OWNER, sender)), requests)
}

/// Requests a reload as a client of this user, and returns the reply.
async fn asked(daemon: &Arc<Daemon>, uid: Option<u32>) -> Reply {
    let (peer, owner) = (Peer { pid: None, uid }, Owner::User(uid));
    let caller =
        Caller { peer, remote: None, owner, permissions: Permissions::all(), transport: "unix" };
    let mut far = connect_as::<true, false>(daemon, 4096, caller);
    assert!(matches!(far.greet(0).await, Some(Reply::Hello(_))));
    far.send(&Request::Reload).await;
    far.reply().await.unwrap()
}

#[tokio::test]
async fn root_and_the_daemon_s_user_get_the_changes_or_the_error() {
    let (daemon, mut requests) = daemon();
    let refused = || Failure::new(ErrorCode::BadOption, "line 3 is wrong");
    let answering = async {
        requests.recv().await.unwrap().answer(Ok("all is new\n".to_owned()));
        requests.recv().await.unwrap().answer(Err(refused()));
    };
    let asking = async { [asked(&daemon, Some(OWNER)).await, asked(&daemon, Some(0)).await] };
    let (told, ()) = tokio::join!(asking, answering);
    assert_eq!(told, [Reply::Document("all is new\n".into()), refused().reply()]);
}

#[tokio::test]
async fn no_other_user_may_request_a_reload() {
    // The receiver is dropped, so a request that is permitted by mistake fails differently.
    let (daemon, _) = daemon();
    // A client over HTTP has no uid.
    for uid in [None, Some(OWNER + 1), Some(u32::MAX)] {
        let Reply::Error { code, message } = asked(&daemon, uid).await else { panic!("{uid:?}") };
        assert_eq!(code, ErrorCode::Denied, "{uid:?}");
        assert!(message.contains("only root and the daemon's user (uid 1000)"), "{message}");
    }
    let without = Arc::new(Daemon::new(&Settings::default()));
    assert!(matches!(asked(&without, Some(0)).await, Reply::Error { code: ErrorCode::Denied, .. }));
}

#[tokio::test]
async fn a_client_that_waits_for_a_reload_is_told_of_the_shutdown() {
    for ends in [true, false] {
        let (daemon, mut requests) = daemon();
        let ending = async {
            let request = requests.recv().await.unwrap();
            if ends {
                daemon.shutdown().cancel();
                std::mem::forget(request);
            }
        };
        let (told, ()) = tokio::join!(asked(&daemon, Some(0)), ending);
        assert_eq!(told, Failure::shutting_down().reply());
    }
}
