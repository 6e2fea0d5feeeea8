//! Automatic start: `pfs` starts a daemon when none is running.

use std::io::Read as _;

use harness::{Autostarted, Pfs, Running, digest, eventually, noise};

const S: &str = "/streamfs/s";

#[test]
fn the_main_job_works_with_no_daemon_started_by_hand() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    assert_eq!(daemon.pid(), None);
    let data = noise(1, 1024 * 1024);
    Pfs::for_user(user.path())
        .args(["write", "--stream", "--close", S])
        .stdin(&data[..])
        .run()
        .exits(0);
    let read = Pfs::for_user(user.path()).args(["cat", "--stream", S]).run().exits(0);
    assert_eq!(digest(&read.stdout), digest(&data));
    let pid = daemon.pid().expect("the daemon outlives the command that started it");
    Pfs::for_user(user.path()).args(["rm", S]).run().exits(0);
    assert_eq!(daemon.pid(), Some(pid), "one daemon for all");
}

#[test]
fn a_reader_can_start_the_daemon() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    let reader = Pfs::for_user(user.path()).args(["cat", "--stream", S]).spawn();
    eventually("a daemon runs", || daemon.pid().is_some());
    Pfs::for_user(user.path())
        .args(["write", "--close", "--wait-readers", "1", S])
        .stdin("all")
        .run()
        .exits(0);
    assert_eq!(reader.finish().exits(0).text(), "all");
}

#[test]
fn many_commands_at_once_start_one_daemon() {
    let user = tempfile::tempdir().unwrap();
    let _daemon = Autostarted::for_user(user.path());
    let create =
        |i: usize| Pfs::for_user(user.path()).arg("create").arg(format!("/streamfs/{i}")).spawn();
    let all: Vec<Running> = (0..8).map(create).collect();
    for one in all {
        one.finish().exits(0);
    }
    let list = Pfs::for_user(user.path()).args(["ls", "/streamfs"]).run().exits(0);
    assert_eq!(list.text().lines().count(), 8, "{}", list.text());
}

#[test]
fn the_started_daemon_holds_no_pipe_of_the_command_that_started_it() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    let mut list =
        Pfs::for_user(user.path()).args(["ls", "/streamfs"]).stdin_pipe().stdout_pipe().spawn();
    let mut out = Vec::new();
    // In a shell, `pfs ls | cat` would hang here.
    list.take_stdout().read_to_end(&mut out).unwrap();
    list.finish().exits(0);
    assert!(daemon.pid().is_some());
}

#[test]
fn a_child_command_inherits_the_descriptors_that_the_daemon_does_not() {
    let user = tempfile::tempdir().unwrap();
    let _daemon = Autostarted::for_user(user.path());
    let file = user.path().join("file");
    std::fs::write(&file, "inherited").unwrap();
    let write = Pfs::for_user(user.path()).args(["write", S, "--", "sh", "-c", "cat <&7"]);
    write.redirected(&format!("7<{}", file.display())).run().exits(0);
    let read = Pfs::for_user(user.path())
        .args(["cat", "--stream", "--until", "caught-up", S])
        .run()
        .exits(0);
    assert_eq!(read.text(), "inherited");
}

#[test]
fn autostart_is_turned_off_by_the_environment_or_by_naming_a_socket() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    let socket = user.path().join("own.sock");
    let run = Pfs::for_user(user.path()).env("PFS_AUTOSTART", "0").args(["ls", "/streamfs"]).run();
    run.exits(5).says("daemon");
    let named =
        Pfs::for_user(user.path()).arg("--socket").arg(&socket).args(["ls", "/streamfs"]).run();
    named.exits(5).says("own.sock");
    Pfs::for_user(user.path())
        .env("PFS_SOCKET", &socket)
        .args(["write", S])
        .stdin("x")
        .run()
        .exits(5);
    assert_eq!(daemon.pid(), None);
    assert!(!socket.exists());
}

#[test]
fn a_flag_overrides_the_environment() {
    let user = tempfile::tempdir().unwrap();
    let daemon = harness::Daemon::start();
    let list = || Pfs::usual().env("PFS_SOCKET", user.path().join("nobody.sock"));
    list().args(["ls", "/streamfs"]).run().exits(5);
    list().arg("--socket").arg(daemon.socket()).args(["ls", "/streamfs"]).run().exits(0);
}
