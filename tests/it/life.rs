//! Lifecycle of a daemon: where it runs when `pfs` started it, when it exits by itself, and what it
//! does when its socket is deleted.

use std::{
    fs::{self, Permissions},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use harness::{Autostarted, Pfs, Running, Signal, alive, binary, eventually, served_by};

const S: &str = "/streamfs/s";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Deletes a directory in one step. Otherwise a daemon could create its files again before the
/// directory is empty.
fn delete(directory: &Path) {
    let gone = directory.with_extension("gone");
    fs::rename(directory, &gone).unwrap();
    fs::remove_dir_all(gone).unwrap();
}

/// Starts a daemon on `socket` without `pfs`, and waits until it answers.
fn pfsd(socket: &Path) -> Running {
    let daemon = Pfs::new(binary("pfsd")).arg("--socket").arg(socket).spawn();
    eventually("it answers", || served_by(socket) == Some(daemon.pid()));
    daemon
}

#[test]
fn a_started_daemon_has_the_root_as_its_directory_a_session_of_its_own_and_only_its_own_descriptors()
 {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    let folder = tempfile::tempdir().unwrap();
    // A relative path is relative to the user's directory, not the daemon's.
    fs::write(folder.path().join("own.toml"), "[limits]\nmax_streams = 7\n").unwrap();
    let create =
        Pfs::for_user(user.path()).env("PFSD_CONFIG", "own.toml").current_dir(folder.path());
    let kept = folder.path().join("kept");
    create.args(["create", S]).redirected(&format!("7>{}", kept.display())).run().exits(0);
    let info = Pfs::for_user(user.path()).args(["info"]).run().exits(0);
    assert!(info.text().contains("1 of 7"), "{}", info.text());

    let pid = daemon.pid().unwrap();
    let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    assert_eq!(fs::read_link(of("cwd")).unwrap(), Path::new("/"));
    let stat = fs::read_to_string(of("stat")).unwrap();
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap();
    assert_eq!(session, pid.to_string(), "{stat}");
    let log = user.path().join("pfs/pfsd.log");
    for (number, file) in [(0, Path::new("/dev/null")), (1, Path::new("/dev/null")), (2, &log)] {
        assert_eq!(fs::read_link(of(&format!("fd/{number}"))).unwrap(), file);
    }
    assert!(!fs::read_dir(of("fd")).unwrap().any(|entry| {
        let target = fs::read_link(entry.unwrap().path());
        target.is_ok_and(|target| target == kept)
    }));
    // A reload reads the same file.
    fs::write(folder.path().join("own.toml"), "[limits]\nmax_streams = 8\n").unwrap();
    let reload =
        Pfs::new(binary("pfsd")).args(["--reload", "--socket"]).arg(&daemon.0).run().exits(0);
    assert!(reload.text().contains("max_streams from 7 to 8"), "{}", reload.text());
}

#[test]
fn a_failed_start_is_reported_with_its_reason() {
    let user = tempfile::tempdir().unwrap();
    let config = user.path().join("pfsd.toml");
    fs::write(&config, "[limits]\nmax_stream = 1\n").unwrap();
    let config = config.to_str().unwrap();
    for (variable, value, status, reason) in [
        ("PFSD_HTTP", "nonsense", 2, "invalid value 'nonsense' for '--http <ADDR>'"),
        ("PFSD_LOG_FORMAT", "xml", 2, "invalid value 'xml' for '--log-format <FORMAT>'"),
        ("PFSD_LOG", "loud", 1, "\"loud\" in the log filter"),
        ("PFSD_CONFIG", config, 1, &format!("{config}:2: unknown key `max_stream`")),
        ("PFSD_CONFIG", "/nonexistent", 1, "cannot read the configuration /nonexistent"),
    ] {
        for color in ["0", "1"] {
            let pfs = Pfs::for_user(user.path()).env(variable, value).env("CLICOLOR_FORCE", color);
            let run = pfs.args(["ls", "--color", "never"]).run().exits(5);
            run.says(&format!("ended at once (exit status: {status}): {reason}")).says("; see ");
        }
    }
}

#[test]
fn an_idle_daemon_exits_after_its_time_and_the_next_command_starts_another() {
    let user = tempfile::tempdir().unwrap();
    let config = user.path().join("pfsd.toml");
    fs::write(&config, "[limits]\nidle_exit = \"300ms\"\n").unwrap();
    let daemon = Autostarted::for_user(user.path());
    let pfs = || Pfs::for_user(user.path()).env("PFSD_CONFIG", &config);
    let mut waiting = pfs().args(["cat", "--stream", S]).spawn();
    eventually("a daemon runs", || daemon.pid().is_some());
    let first = daemon.pid().unwrap();
    pfs().args(["write", "--close", S]).stdin("all").run().exits(0).quietly();
    eventually("it is read", || !waiting.runs());
    assert_eq!(waiting.finish().exits(0).text(), "all");
    assert!(alive(first), "there is a stream");
    pfs().args(["rm", S]).run().exits(0);
    // Checking through the socket would count as a client.
    eventually("it has ended", || !alive(first));
    assert!(!daemon.0.exists());
    pfs().args(["create", S]).run().exits(0).quietly();
    assert_ne!(daemon.pid().unwrap(), first);
}

#[test]
fn a_daemon_started_by_hand_exits_when_idle_only_if_configured_to() {
    let dir = tempfile::tempdir().unwrap();
    let (config, socket) = (dir.path().join("pfsd.toml"), dir.path().join("pfsd.sock"));
    fs::write(&config, "[limits]\nidle_exit = \"1ms\"\n").unwrap();
    let told =
        Pfs::new(binary("pfsd")).arg("--config").arg(&config).arg("--socket").arg(&socket).run();
    told.exits(0).says("the daemon is idle; shutting down");
    fs::write(&config, "").unwrap();
    let daemon =
        Pfs::new(binary("pfsd")).arg("--config").arg(&config).arg("--socket").arg(&socket).spawn();
    eventually("it answers", || served_by(&socket) == Some(daemon.pid()));
    // The reload reports the old value.
    fs::write(&config, "[limits]\nidle_exit = \"5m\"\n").unwrap();
    let reload =
        Pfs::new(binary("pfsd")).args(["--reload", "--socket"]).arg(&socket).run().exits(0);
    assert!(reload.text().contains("limits.idle_exit from never to 5m"), "{}", reload.text());
}

#[test]
fn clients_that_come_during_a_shutdown_are_served_by_the_next_daemon() {
    let user = tempfile::tempdir().unwrap();
    let config = user.path().join("pfsd.toml");
    fs::write(&config, "[limits]\nidle_exit = \"3ms\"\n").unwrap();
    let _daemon = Autostarted::for_user(user.path());
    for _ in 0..20 {
        let list = || Pfs::for_user(user.path()).env("PFSD_CONFIG", &config).arg("ls").spawn();
        let all: Vec<Running> = (0..4).map(|_| list()).collect();
        for one in all {
            one.finish().exits(0).quietly();
        }
    }
}

#[test]
fn a_deleted_socket_is_created_again_and_its_clients_notice_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, socket) = (dir.path().join("pfsd.toml"), dir.path().join("pfs/pfsd.sock"));
    fs::write(&config, "[listen]\nsocket_mode = \"0660\"\n").unwrap();
    let daemon =
        Pfs::new(binary("pfsd")).arg("--config").arg(&config).arg("--socket").arg(&socket).spawn();
    let on = |args: &[&str]| Pfs::usual().arg("--socket").arg(&socket).args(args);
    eventually("it answers", || served_by(&socket) == Some(daemon.pid()));
    on(&["create", S]).run().exits(0);
    let lock = dir.path().join("pfs/pfsd.sock.lock");
    let serves = || served_by(&socket) == Some(daemon.pid());
    let mut writer = on(&["write", "--stream", S]).stdin_pipe().spawn();
    let reader = on(&["cat", "--stream", S]).spawn();
    writer.send(b"x");
    eventually("both are attached", || reader.stdout_len() == 1);
    for (round, deleted) in
        [&[&socket][..], &[&lock], &[&socket, &lock], &[&dir.path().join("pfs")]].iter().enumerate()
    {
        for path in *deleted {
            if path.is_dir() { delete(path) } else { fs::remove_file(path).unwrap() }
        }
        let pid = format!("{}\n", daemon.pid());
        let is_locked = || fs::read_to_string(&lock).unwrap_or_default() == pid;
        eventually("all is there again", || is_locked() && socket.exists() && serves());
        assert_eq!(
            (mode(socket.parent().unwrap()), mode(&socket), mode(&lock)),
            (0o700, 0o660, 0o600)
        );
        let second = Pfs::new(binary("pfsd")).arg("--socket").arg(&socket).run().exits(1);
        second.says(&format!("a pfsd (pid {}) already serves", daemon.pid()));
        writer.send(round.to_string().as_bytes());
    }
    eventually("all is read", || reader.stdout_len() == 5);
    writer.finish().exits(0).quietly();
    on(&["close", S]).run().exits(0);
    assert_eq!(reader.finish().exits(0).quietly().text(), "x0123");
    daemon.signal(Signal::TERM);
    daemon.finish().exits(0).says("was deleted, and was created again");
    assert!(!socket.exists(), "the new one is removed at the end");
}

#[test]
fn a_runtime_directory_that_comes_back_has_its_daemon_again() {
    let base = tempfile::tempdir().unwrap();
    let runtime = base.path().join("run");
    let log_in = || {
        fs::create_dir(&runtime).unwrap();
        fs::set_permissions(&runtime, Permissions::from_mode(0o700)).unwrap();
    };
    log_in();
    let daemon = Autostarted::for_user(&runtime);
    Pfs::for_user(&runtime).args(["write", S]).stdin("before").run().exits(0);
    let pid = daemon.pid().unwrap();
    let log = runtime.join("pfs/pfsd.log");
    for _ in 0..3 {
        delete(&runtime);
        log_in();
        // Like a user who logs in and is idle for a moment.
        eventually("the daemon is back", || daemon.pid() == Some(pid));
        assert_eq!(mode(&runtime.join("pfs")), 0o700);
        eventually("it logs there", || {
            fs::read_to_string(&log).unwrap_or_default().contains("was created again")
        });
    }
    let read =
        Pfs::for_user(&runtime).args(["cat", "--stream", "--until", "caught-up", S]).run().exits(0);
    assert_eq!(read.text(), "before");
}

#[test]
fn a_daemon_does_not_serve_in_a_directory_that_is_no_longer_private() {
    let base = tempfile::tempdir().unwrap();
    fs::set_permissions(base.path(), Permissions::from_mode(0o700)).unwrap();
    let daemon = Autostarted::for_user(base.path());
    Pfs::for_user(base.path()).args(["create", S]).run().exits(0);
    let (place, pid) = (base.path().join("pfs"), daemon.pid().unwrap());
    // Replaced in one step, so that the directory is never missing.
    let open = base.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    fs::remove_file(place.join("pfsd.sock.lock")).unwrap();
    eventually("the lock file is there again, and the daemon has done with it", || {
        fs::read_to_string(place.join("pfsd.log")).unwrap().contains("was created again")
    });
    fs::rename(&place, base.path().join("old")).unwrap();
    fs::rename(&open, &place).unwrap();
    // The system notifies the daemon of a deletion, but not of the rename of a parent directory.
    fs::remove_file(base.path().join("old/pfsd.sock")).unwrap();
    let log = base.path().join("old/pfsd.log");
    eventually("it says why", || {
        fs::read_to_string(&log).unwrap().contains("is open to other users (mode 0777)")
    });
    assert!(!daemon.0.exists());
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    eventually("the daemon is back", || daemon.pid() == Some(pid));
}

/// Replaces a daemon at its socket: the first one is stopped while its directory is deleted and the
/// second one starts.
fn taken(socket: &Path, first: &Running) -> Running {
    first.signal(Signal::STOP);
    fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    let second = pfsd(socket);
    first.signal(Signal::CONT);
    second
}

#[test]
fn a_daemon_whose_socket_was_taken_over_serves_its_clients_and_exits_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pfs/pfsd.sock");
    let mut first = pfsd(&socket);
    let on = |args: &[&str]| Pfs::usual().arg("--socket").arg(&socket).args(args);
    let mut writer = on(&["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"1");
    let reader = on(&["cat", "--stream", S]).spawn();
    eventually("it reads", || reader.stdout_len() == 1);
    let second = taken(&socket, &first);
    eventually("the first one says so", || {
        first.stderr().contains(&format!("another pfsd (pid {})", second.pid()))
    });
    writer.send(b"2");
    eventually("its clients are served", || reader.stdout_len() == 2);
    // The second daemon has the socket and keeps it.
    on(&["stat", S]).run().exits(3);
    assert!(first.runs());
    writer.finish().exits(0).quietly();
    assert!(first.runs());
    reader.signal(Signal::INT);
    reader.finish().exits(130);
    first.finish().exits(0).says("no client is connected to this daemon; shutting down");
    on(&["create", S]).run().exits(0);
    second.signal(Signal::TERM);
    second.finish().exits(0);
}

#[test]
fn a_daemon_whose_socket_was_taken_over_gets_it_back_when_the_other_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pfs/pfsd.sock");
    let first = pfsd(&socket);
    let on = |args: &[&str]| Pfs::usual().arg("--socket").arg(&socket).args(args);
    on(&["write", S]).stdin("kept").run().exits(0);
    let _watching = on(&["stat", "--watch", S]).spawn();
    let reader = on(&["cat", "--stream", S]).spawn();
    eventually("it reads", || reader.stdout_len() == 4);
    let second = taken(&socket, &first);
    eventually("the first one says so", || first.stderr().contains("another pfsd"));
    second.signal(Signal::TERM);
    second.finish().exits(0);
    eventually("the first one is back", || served_by(&socket) == Some(first.pid()));
    assert_eq!(on(&["cat", "--stream", "--until", "caught-up", S]).run().exits(0).text(), "kept");
}

#[test]
fn a_socket_of_the_service_manager_is_not_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("handed.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let line = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\"";
    let daemon = Pfs::new("sh")
        .args(["-c", line])
        .arg(binary("pfsd"))
        .stdin_from(OwnedFd::from(listener))
        .spawn();
    let on = |args: &[&str]| Pfs::usual().arg("--socket").arg(&socket).args(args);
    on(&["create", S]).run().exits(0);
    let mut reader = on(&["cat", "--stream", S]).spawn();
    let mut writer = on(&["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"x");
    eventually("it reads", || reader.stdout_len() == 1);
    fs::remove_file(&socket).unwrap();
    writer.send(b"y");
    eventually("it goes on", || reader.stdout_len() == 2);
    assert!(!socket.exists() && reader.runs());
    daemon.signal(Signal::TERM);
    assert!(!daemon.finish().exits(0).stderr.contains("deleted"));
    assert!(!socket.exists());
}
