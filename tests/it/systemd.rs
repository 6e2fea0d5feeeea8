//! systemd integration: state notifications and socket activation.

use std::{
    io::ErrorKind,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
};

use harness::{Pfs, Signal, binary, deadline};

/// Waits for a notification that contains `state`, and returns all of it.
#[track_caller]
fn is_told(socket: &UnixDatagram, state: &str) -> String {
    let mut message = [0; 4096];
    loop {
        match socket.recv(&mut message) {
            Ok(len) => {
                let told = String::from_utf8_lossy(&message[..len]).into_owned();
                if told.lines().any(|line| line == state) {
                    return told;
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("never told {state}: {e}"),
        }
    }
}

/// Creates the service manager's notification socket. Returns it with its path.
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
    let daemon =
        Pfs::new(binary("pfsd")).arg("--socket").arg(&socket).env("NOTIFY_SOCKET", &notify).spawn();
    is_told(&told, "READY=1");
    // Ready means that the daemon answers immediately.
    Pfs::usual().arg("--socket").arg(&socket).args(["ls", "/streamfs"]).run().exits(0);
    daemon.signal(Signal::TERM);
    is_told(&told, "STOPPING=1");
    daemon.finish().exits(0);
}

#[test]
fn the_service_manager_is_told_when_a_reload_begins_and_when_it_ends_whatever_its_result() {
    let dir = tempfile::tempdir().unwrap();
    let (told, notify) = manager(dir.path());
    let (socket, config) = (dir.path().join("pfsd.sock"), dir.path().join("pfsd.toml"));
    std::fs::write(&config, "").unwrap();
    let daemon = Pfs::new(binary("pfsd")).arg("--socket").arg(&socket).arg("--config").arg(&config);
    let daemon = daemon.env("NOTIFY_SOCKET", &notify).spawn();
    is_told(&told, "READY=1");
    for toml in ["[limits]\nmax_streams = 5\n", "[limits]\nmax_streams = none\n"] {
        std::fs::write(&config, toml).unwrap();
        daemon.signal(Signal::HUP);
        let reloading = is_told(&told, "RELOADING=1");
        let time = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(time.is_some_and(|time| time.parse::<u64>().is_ok()), "{reloading}");
        is_told(&told, "READY=1");
    }
    daemon.signal(Signal::TERM);
    is_told(&told, "STOPPING=1");
    daemon
        .finish()
        .exits(0)
        .says("limits.max_streams from 1000000 to 5")
        .says("the old configuration stays in force");
}

#[test]
fn a_socket_that_the_service_manager_made_is_served_and_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (told, notify) = manager(dir.path());
    let socket = dir.path().join("handed.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // Like systemd: the socket is descriptor 3 of the process that the variables name.
    let line = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\"";
    let daemon = Pfs::new("sh")
        .args(["-c", line])
        .arg(binary("pfsd"))
        .stdin_from(OwnedFd::from(listener))
        .env("NOTIFY_SOCKET", &notify)
        .spawn();
    // The daemon need not even run yet: the kernel queues the connection.
    let pfs = || Pfs::usual().arg("--socket").arg(&socket);
    pfs().args(["write", "--close", "/streamfs/s"]).stdin("all").run().exits(0);
    assert_eq!(pfs().args(["cat", "--stream", "/streamfs/s"]).run().exits(0).text(), "all");
    is_told(&told, "READY=1");
    daemon.signal(Signal::TERM);
    is_told(&told, "STOPPING=1");
    daemon.finish().exits(0);
    assert!(socket.exists(), "the socket belongs to the service manager");
}

#[test]
fn a_tcp_socket_that_the_service_manager_made_is_served_as_http_beside_the_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("handed.sock");
    let unix = UnixListener::bind(&socket).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let line =
        "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\"";
    let daemon = Pfs::new("sh")
        .args(["-c", line])
        .arg(binary("pfsd"))
        .stdin_from(OwnedFd::from(tcp))
        .stdout_into(OwnedFd::from(unix))
        .spawn();
    // Both sockets were listening before the daemon started.
    let over_http = Pfs::usual().args(["--url", &address, "write", "--close", "/streamfs/s"]);
    over_http.stdin("all").run().exits(0);
    let cat =
        Pfs::usual().arg("--socket").arg(&socket).args(["cat", "--stream", "/streamfs/s"]).run();
    assert_eq!(cat.exits(0).text(), "all");
    daemon.signal(Signal::TERM);
    let log = daemon.finish().exits(0).stderr;
    assert!(log.contains(&format!("serving HTTP address={address}")), "{log}");
}

#[test]
fn a_tcp_socket_of_the_service_manager_that_others_can_reach_needs_tokens_too() {
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let line = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\"";
    let run =
        Pfs::new("sh").args(["-c", line]).arg(binary("pfsd")).stdin_from(OwnedFd::from(tcp)).run();
    run.exits(1).says("refusing to serve HTTP on 0.0.0.0:");
}
