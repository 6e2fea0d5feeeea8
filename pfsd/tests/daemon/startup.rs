//! The real binary: starting, refusing to start, being killed and shutting down.

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::{TempDir, tempdir};

use crate::harness::PATIENCE;

/// Builds a `pfsd` command without environment variables that could change its behaviour.
fn pfsd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pfsd"));
    for name in [
        "PFSD_CONFIG",
        "PFSD_SOCKET",
        "PFSD_HTTP",
        "PFSD_LOG",
        "PFSD_LOG_FORMAT",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what} takes too long");
        sleep(Duration::from_millis(5));
    }
}

/// A running daemon, killed at the end of the test.
struct Serving {
    folder: TempDir,
    child: Child,
}

impl Serving {
    fn start(folder: TempDir) -> Self {
        let child = pfsd().arg("--socket").arg(folder.path().join("s")).spawn().unwrap();
        let mut serving = Self { folder, child };
        wait_until("starting", || {
            let ended = serving.child.try_wait().unwrap();
            assert_eq!(ended, None, "the daemon ended at once: {}", serving.log());
            UnixStream::connect(serving.socket()).is_ok()
        });
        serving
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("ending", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn log(&mut self) -> String {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_live_socket_is_refused_and_the_socket_of_a_killed_daemon_is_taken_over() {
    let mut first = Serving::start(tempdir().unwrap());
    let second = pfsd().arg("--socket").arg(first.socket()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let expected =
        format!("a pfsd (pid {}) already serves {}", first.child.id(), first.socket().display());
    assert!(message(&second).contains(&expected), "{}", message(&second));
    UnixStream::connect(first.socket()).expect("the first daemon continues");

    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(first.socket().exists());
    let folder = std::mem::replace(&mut first.folder, tempdir().unwrap());
    let mut third = Serving::start(folder);
    third.signal(Signal::TERM);
    assert_eq!(third.exit().code(), Some(0));
    assert!(third.log().contains("taking over"));
}

#[test]
fn of_many_daemons_started_at_once_exactly_one_serves() {
    let folder = tempdir().unwrap();
    drop(UnixListener::bind(folder.path().join("s")).unwrap());
    let spawn = |_| pfsd().arg("--socket").arg(folder.path().join("s")).spawn().unwrap();
    let mut all: Vec<Child> = (0..8).map(spawn).collect();
    wait_until("losing", || {
        all.iter_mut()
            .filter_map(|child| child.try_wait().unwrap())
            .filter(|status| status.code() == Some(1))
            .count()
            == 7
    });
    wait_until("serving", || UnixStream::connect(folder.path().join("s")).is_ok());
    let running: Vec<_> =
        all.iter_mut().filter_map(|c| c.try_wait().unwrap().is_none().then_some(c)).collect();
    assert_eq!(running.len(), 1);
    for child in running {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_configuration_is_checked_without_serving() {
    let folder = tempdir().unwrap();
    let good = folder.path().join("good.toml");
    fs::write(&good, "[plugins.streamfs]\npath = \"/live\"\n").unwrap();
    let output = pfsd()
        .arg("--check-config")
        .arg("--config")
        .arg(&good)
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("{}: the configuration is valid\n", good.display()));

    let bad = folder.path().join("bad.toml");
    fs::write(&bad, "[limits]\nmax_stream = 1\n").unwrap();
    for (config, words) in [
        (bad.as_path(), "bad.toml:2: unknown key `max_stream`; allowed here: one of `max_streams`"),
        (folder.path(), "is a directory"),
        (Path::new("/nonexistent.toml"), "cannot read the configuration /nonexistent.toml"),
    ] {
        for mode in [Some("--check-config"), None] {
            let output = pfsd().env("PFSD_CONFIG", config).args(mode).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{config:?}");
            assert!(message(&output).contains(words), "{config:?}: {}", message(&output));
        }
    }
}

#[test]
fn a_flag_overrides_the_environment_and_the_environment_overrides_the_file() {
    let folder = tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let config = place("pfsd.toml");
    fs::write(&config, format!("[listen]\nsocket = {:?}\n", place("file"))).unwrap();
    for (environment, flag, expected) in
        [(None, None, "file"), (Some("env"), None, "env"), (Some("env"), Some("flag"), "flag")]
    {
        let mut command = pfsd();
        command.arg("--config").arg(&config);
        if let Some(name) = environment {
            command.env("PFSD_SOCKET", place(name));
        }
        if let Some(name) = flag {
            command.arg("--socket").arg(place(name));
        }
        let mut child = command.spawn().unwrap();
        wait_until(expected, || UnixStream::connect(place(expected)).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Runs `pfsd` like a service manager that passes `count` descriptors, each of them `passed`.
fn activated(passed: OwnedFd, count: usize) -> Command {
    // Only a shell can move a descriptor to the expected number and keep the pid through exec.
    let line = format!("exec 3<&0 4<&0 </dev/null; LISTEN_FDS={count} LISTEN_PID=$$ exec \"$0\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_pfsd")]).stdin(passed).stderr(Stdio::piped());
    command
}

#[test]
fn passed_descriptors_must_be_listening_sockets_one_of_each_kind() {
    let kind = "the service manager passed: descriptor 3 is not a listening Unix or TCP socket";
    let number =
        "pfsd accepts at most one Unix socket and one TCP socket; descriptor 4 is an extra one";
    let place = tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let unix = UnixListener::bind(place.path().join("s")).unwrap();
    for (passed, count, words) in [
        (OwnedFd::from(UnixDatagram::unbound().unwrap()), 1, kind),
        (OwnedFd::from(connected), 1, kind),
        (OwnedFd::from(fs::File::open("/dev/null").unwrap()), 1, kind),
        (OwnedFd::from(unix), 2, number),
        (OwnedFd::from(listener), 2, number),
    ] {
        let child = activated(passed, count).spawn().unwrap();
        let mut serving = Serving { folder: tempdir().unwrap(), child };
        assert_eq!(serving.exit().code(), Some(1));
        let said = serving.log();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn the_log_has_the_levels_and_targets_of_the_filter() {
    for (filter, serves) in
        [("info", true), ("error,pfsd=info", true), ("warn", false), ("info,pfsd=off", false)]
    {
        let folder = tempdir().unwrap();
        let child = pfsd()
            .args(["--log", filter, "--socket"])
            .arg(folder.path().join("s"))
            .spawn()
            .unwrap();
        let mut serving = Serving { folder, child };
        wait_until("serving", || UnixStream::connect(serving.socket()).is_ok());
        serving.signal(Signal::TERM);
        serving.exit();
        let log = serving.log();
        assert_eq!(log.contains("serving"), serves, "{filter}: {log}");
    }
}

#[test]
fn a_log_filter_with_a_misspelt_level_is_refused_and_named() {
    for (arguments, variable) in [(&["--log", "loud"][..], "info"), (&[], "loud")] {
        let folder = tempdir().unwrap();
        let mut command = pfsd();
        command
            .args(arguments)
            .env("PFSD_LOG", variable)
            .arg("--socket")
            .arg(folder.path().join("s"));
        let mut serving = Serving { folder, child: command.spawn().unwrap() };
        assert_eq!(serving.exit().code(), Some(1));
        let said = serving.log();
        assert!(said.contains("\"loud\" in the log filter"), "{said}");
    }
}
