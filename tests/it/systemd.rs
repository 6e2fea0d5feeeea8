//! What systemd offers a service: to be told of its state, and to hand it its socket.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use harness::{Pfs, Signal, binary, deadline};

/// Waits for a notification that contains `state`.
#[track_caller]
fn is_told(socket: &UnixDatagram, state: &str) {
    let mut message = [0; 4096];
    loop {
        match socket.recv(&mut message) {
            Ok(len) if String::from_utf8_lossy(&message[..len]).lines().any(|line| line == state) => return,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("never told {state}: {e}"),
        }
    }
}

/// The manager's end of its notifications, and where that is.
fn manager(dir: &Path) -> (UnixDatagram, PathBuf) {
    let notify = dir.join("notify");
    let told = UnixDatagram::bind(&notify).unwrap();
    told.set_read_timeout(Some(deadline())).unwrap();
    (told, notify)
}

#[test]
fn the_service_manager_is_told_when_the_daemon_is_ready_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (told, notify) = manager(dir.path());
    let socket = dir.path().join("pfsd.sock");
    let daemon = Pfs::new(binary("pfsd")).arg("--socket").arg(&socket).env("NOTIFY_SOCKET", &notify).spawn();
    is_told(&told, "READY=1");
    // Ready means that it answers, with no waiting.
    Pfs::usual().arg("--socket").arg(&socket).args(["ls", "/streamfs"]).run().exits(0);
    daemon.signal(Signal::TERM);
    is_told(&told, "STOPPING=1");
    daemon.finish().exits(0);
}

#[test]
fn a_socket_that_the_service_manager_made_is_served_and_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (told, notify) = manager(dir.path());
    let socket = dir.path().join("handed.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // As systemd does it: the socket is descriptor 3 of the process that the variables name.
    let line = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\"";
    let daemon = Pfs::new("sh")
        .args(["-c", line])
        .arg(binary("pfsd"))
        .stdin_from(OwnedFd::from(listener))
        .env("NOTIFY_SOCKET", &notify)
        .spawn();
    // It need not even run yet: the kernel keeps the connection for it.
    let pfs = || Pfs::usual().arg("--socket").arg(&socket);
    pfs().args(["write", "--close", "/streamfs/s"]).stdin("all").run().exits(0);
    assert_eq!(pfs().args(["cat", "--stream", "/streamfs/s"]).run().exits(0).text(), "all");
    is_told(&told, "READY=1");
    daemon.signal(Signal::TERM);
    is_told(&told, "STOPPING=1");
    daemon.finish().exits(0);
    assert!(socket.exists(), "the socket belongs to the service manager");
}
