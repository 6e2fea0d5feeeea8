//! The daemon's socket: its permissions, its owner and its path.

use std::os::unix::fs::PermissionsExt as _;

use harness::{Pfs, Signal, binary, eventually};

#[test]
fn a_file_in_place_of_the_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("pfsd.sock");
    std::fs::write(&place, "precious").unwrap();
    Pfs::new(binary("pfsd")).arg("--socket").arg(&place).run().exits(1).says("pfsd.sock");
    assert_eq!(std::fs::read(&place).unwrap(), b"precious");
}

#[test]
fn only_the_owner_can_enter_the_socket_s_folder_and_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pfs/pfsd.sock");
    let daemon = Pfs::new(binary("pfsd"))
        .env("XDG_RUNTIME_DIR", dir.path())
        .arg("--socket")
        .arg(&socket)
        .spawn();
    eventually("the socket is there", || socket.exists());
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    assert_eq!(mode(&socket), 0o600);
    daemon.signal(Signal::TERM);
    daemon.finish().exits(0);
}

#[test]
fn the_socket_s_mode_is_the_configured_one_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let (config, socket) = (dir.path().join("pfsd.toml"), dir.path().join("pfsd.sock"));
    std::fs::write(&config, "[listen]\nsocket_mode = \"0666\"\n").unwrap();
    for umask in ["000", "027", "077"] {
        let line = format!("umask {umask}; exec \"$0\" --config \"$1\" --socket \"$2\"");
        let daemon = Pfs::shell(&line).arg(binary("pfsd")).arg(&config).arg(&socket).spawn();
        eventually("the socket is there", || socket.exists());
        // The mode is right from the first moment, even before the daemon accepts connections.
        assert_eq!(
            std::fs::metadata(&socket).unwrap().permissions().mode() & 0o7777,
            0o666,
            "umask {umask}"
        );
        daemon.signal(Signal::TERM);
        daemon.finish().exits(0);
    }
}

#[test]
fn a_socket_path_too_long_for_the_kernel_is_reported_as_such() {
    let long = format!("/tmp/{}/pfsd.sock", "x".repeat(120));
    Pfs::new(binary("pfsd")).args(["--socket", &long]).run().exits(1).says("107");
    let run = Pfs::usual().args(["--socket", &long, "ls", "/streamfs"]).run().says("135 bytes");
    assert!([1, 2, 5].contains(&run.code), "exit code {}", run.code);
}
