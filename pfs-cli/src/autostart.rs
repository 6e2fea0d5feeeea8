//! Starting a daemon when none answers, as tmux does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::UnixStream;

use crate::daemon::check_owner;
use crate::descriptors::close_inherited_on_exec;
use crate::exit_code::{ExitCode, Failure};
use crate::printer::Printer;

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long another daemon may take whose start made ours give up.
const GRACE: Duration = Duration::from_secs(1);

/// Starts `pfsd` on `socket` and waits until it, or one that somebody else started meanwhile, answers.
pub(crate) async fn start(socket: &Path, printer: &Printer) -> anyhow::Result<()> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(directory)
        .with_context(|| format!("cannot make {} for the daemon's socket", directory.display()))?;

    // Again: it may have been made by somebody else since it was missing.
    check_owner(directory)?;

    let log = Log::open(directory.join("pfsd.log"))?;
    let program = program();
    printer.verbose(format_args!(
        "no daemon answers on {}; starting {}",
        socket.display(),
        program.display()
    ));
    let child = spawn(&program, socket, &log).map_err(|error| {
        Failure::new(
            ExitCode::NoDaemon,
            format!(
                "no daemon answers on {}, and {} cannot be started ({error}); install pfsd beside pfs or on PATH",
                socket.display(),
                program.display()
            ),
        )
    })?;
    wait_for(child, socket, &log).await
}

/// The `pfsd` beside our own executable, else the one on PATH.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("pfsd")));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("pfsd"))
}

fn spawn(program: &Path, socket: &Path, log: &Log) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg("--socket").arg(socket);
    if std::env::var_os("PFSD_LOG").is_none() {
        command.env("PFSD_LOG", "warn");
    }
    // What a service manager has told us is not for it: it is no part of that service.
    for variable in
        ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"]
    {
        command.env_remove(variable);
    }
    // Whatever else we inherited would stay open for as long as the daemon lives: a pipe whose reader waits for its end, or
    // the file of a lock.
    close_inherited_on_exec().map_err(|error| {
        io::Error::new(error.kind(), format!("what pfs inherited cannot be kept from it: {error}"))
    })?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.file.try_clone()?)
        // It outlives us: Ctrl-C at our terminal is not for it.
        .process_group(0)
        .spawn()
}

/// Waits until a daemon answers on `socket`.
async fn wait_for(mut child: Child, socket: &Path, log: &Log) -> anyhow::Result<()> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(2);
    let mut exited = None;
    loop {
        if UnixStream::connect(socket).await.is_ok() {
            return Ok(());
        }
        if exited.is_none() {
            exited = child.try_wait().context("cannot watch the daemon start")?;
            if exited.is_some() {
                // Perhaps because another one is a moment ahead, and will answer.
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        if Instant::now() >= deadline {
            let what = match exited {
                Some(status) => format!("ended at once ({status})"),
                None => format!("does not answer after {} s", PATIENCE.as_secs()),
            };
            let message =
                format!("the daemon that was started for {} {what}{}", socket.display(), log.last_line());
            return Err(Failure::new(ExitCode::NoDaemon, message).into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The daemon's log, beside its socket.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    /// Where this daemon's lines begin.
    start: u64,
}

impl Log {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {} for the daemon's log", path.display()))?;
        let start = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Self { path, file, start })
    }

    /// The last thing that this daemon said, and where to read the rest.
    fn last_line(&self) -> String {
        let text = fs::read(&self.path).unwrap_or_default();
        let own = text.get(usize::try_from(self.start).unwrap_or(usize::MAX)..).unwrap_or_default();
        let own = String::from_utf8_lossy(own);
        // A message of several lines goes on with indented ones.
        match own.lines().rfind(|line| line.starts_with(|first: char| !first.is_whitespace())) {
            Some(line) => format!(": {}; see {}", line.trim_end(), self.path.display()),
            None => format!(", and says nothing in {}", self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn only_what_this_daemon_said_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pfsd.log");
        fs::write(&path, "an older daemon's trouble\n").unwrap();
        let mut log = Log::open(path.clone()).unwrap();
        assert_eq!(log.last_line(), format!(", and says nothing in {}", path.display()));
        log.file.write_all(b"first\nERROR: cannot bind\n  because\n\n").unwrap();
        assert_eq!(log.last_line(), format!(": ERROR: cannot bind; see {}", path.display()));
    }

    #[test]
    fn a_daemon_keeps_nothing_open_that_we_inherited() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path().join("pfsd.log")).unwrap();
        let program = directory.path().join("pfsd");
        fs::write(&program, "#!/bin/sh\necho \"$@\" >&2\nexec sleep 86400\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();

        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut child = spawn(&program, Path::new("/run/pfsd.sock"), &log).unwrap();
        drop(writer);
        // With the child's copy of the writing end open, this would wait for the child, which does not end by itself.
        let mut pipe = [PollFd::new(&reader, PollFlags::IN)];
        let ready = poll(&mut pipe, Some(&Timespec { tv_sec: 120, tv_nsec: 0 })).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ready, 1);
    }

    #[tokio::test]
    async fn a_daemon_that_ends_at_once_is_noticed_and_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path().join("pfsd.log")).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "echo the configuration is wrong >&2; exit 3"])
            .stderr(log.file.try_clone().unwrap())
            .spawn()
            .unwrap();
        // It has ended before anybody looks, however long that takes it.
        child.wait().unwrap();
        let error = wait_for(child, &directory.path().join("pfsd.sock"), &log).await.unwrap_err();
        assert_eq!(ExitCode::of(&error), ExitCode::NoDaemon);
        assert!(error.to_string().contains("exit status: 3): the configuration is wrong"), "{error}");
    }
}
