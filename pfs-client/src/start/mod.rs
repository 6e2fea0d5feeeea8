//! Daemon autostart: runs `pfsd` when no daemon answers, as the `pfs` command does.
//!
//! Most programs need only [`Client::connect_or_start`]:
//!
//! ```no_run
//! use pfs_client::{Client, Endpoint};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect_or_start(Endpoint::from_env()?).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Use a [`Starter`] to tell the user about the start, or to start a daemon without connecting.
//!
//! Program: the `pfsd` next to the current executable. For an example in cargo's directory
//! `examples`, the `pfsd` one directory up. Otherwise the `pfsd` on `PATH`.
//!
//! Place: the daemon serves at the first [place](crate::lookup) where a daemon of this user may,
//! and writes its log next to its socket.
//!
//! Lifetime: the daemon outlives the program. It has its own session, keeps no descriptor of the
//! program open, and exits when no client has used it for 10 minutes (`limits.idle_exit`). Any
//! number of processes may start a daemon at the same time: one daemon serves them all.
//!
//! `PFS_AUTOSTART=0` in the environment forbids the start, for [`Client::connect_or_start`] and for
//! `pfs`. Set the variable if a service manager runs the daemon, so that no program starts a second
//! one. A [`Starter`] ignores the variable; [`is_allowed`] checks it.

mod log;
#[allow(unsafe_code)]
mod process;

use std::{
    env, io,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use pfs_proto::ErrorCode;
use thiserror::Error;
use tokio::{net::UnixStream, time::sleep};

use self::{log::Log, process::Process};
use crate::{
    Client, ConnectError, Endpoint, blocking,
    lookup::{Lookup, NotFound, Unfit},
};

/// Time limit for a started daemon to answer.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for another daemon to answer after ours exited because of it.
const OTHER_TIMEOUT: Duration = Duration::from_secs(1);

impl Client {
    /// Connects to the daemon. If no daemon answers and the endpoint is an [`Endpoint::Lookup`]
    /// (the default if nothing names a daemon), starts a daemon and waits up to 5 seconds for it.
    /// At any other endpoint, only connects. [`start`](crate::start) says which program is started
    /// and where it serves.
    ///
    /// # Errors
    ///
    /// [`StartError::Connect`] with the errors of [`Client::connect`]. [`StartError::Forbidden`] if
    /// no daemon answers and `PFS_AUTOSTART=0` is set. Any other error if the daemon could not
    /// be started.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A daemon that was already started keeps running.
    pub async fn connect_or_start(endpoint: Endpoint) -> Result<Self, StartError> {
        let lookup = match &endpoint {
            Endpoint::Lookup(lookup) => lookup.clone(),
            _ => return Ok(Self::connect(endpoint).await?),
        };
        match Self::connect(endpoint).await {
            Err(error) if is_needed(&error) => match error {
                _ if is_allowed() => Starter::prepare(&lookup)?.connect().await,
                ConnectError::NotFound(not_found) => Err(StartError::Forbidden(not_found)),
                error => Err(error.into()),
            },
            connected => Ok(connected?),
        }
    }
}

impl blocking::Client {
    /// Blocking form of [`Client::connect_or_start`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::connect_or_start`].
    pub fn connect_or_start(endpoint: Endpoint) -> Result<Self, StartError> {
        let client = Self::new(endpoint.clone());
        let found = client.runtime()?.block_on(Client::connect_or_start(endpoint))?;
        Ok(Self::new(found.endpoint().clone()))
    }
}

/// Returns true if programs may start a daemon on their own: `PFS_AUTOSTART` is not `0`.
pub fn is_allowed() -> bool {
    env::var_os("PFS_AUTOSTART").is_none_or(|value| value != "0")
}

/// Returns true if starting a new daemon would help: no daemon answers, or the daemon ended after
/// it had answered (`pfs stop` or its idle exit came first). The client has requested nothing
/// before hello, so the next daemon serves it just as well.
pub fn is_needed(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::NotFound(_)
            | ConnectError::NoDaemon { .. }
            | ConnectError::Lost(_)
            | ConnectError::Refused { code: ErrorCode::ShuttingDown, .. }
    )
}

/// A daemon about to be started: its program, place and log.
#[derive(Debug)]
pub struct Starter {
    lookup: Lookup,
    program: PathBuf,
    socket: PathBuf,
    log: Log,
    passed_over: Vec<Unfit>,
}

impl Starter {
    /// Chooses the first place where a daemon may serve, creates its directory and opens the
    /// daemon's log there.
    ///
    /// # Errors
    ///
    /// [`StartError::NoPlace`] if no place is usable.
    pub fn prepare(lookup: &Lookup) -> Result<Self, StartError> {
        let mut passed_over = Vec::new();
        for place in lookup.places() {
            let path = place.log();
            let log = place.prepare().and_then(|()| {
                Log::open(path.clone())
                    .map_err(|error| Unfit::io("open the daemon's log", &path, error))
            });
            match log {
                Ok(log) => {
                    let (lookup, socket) = (lookup.clone(), place.socket());
                    return Ok(Self { lookup, program: program(), socket, log, passed_over });
                }
                Err(unfit) => passed_over.push(unfit),
            }
        }
        Err(StartError::NoPlace { lookup: lookup.clone(), passed_over })
    }

    /// The program: the path of a `pfsd`, or just `pfsd`, which is searched on `PATH`.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The socket that the daemon will serve.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Why the places before the chosen one are not usable. [`Unfit::Missing`] is common and needs
    /// no message to the user.
    pub fn passed_over(&self) -> &[Unfit] {
        &self.passed_over
    }

    /// Starts the daemon and waits up to 5 seconds until a daemon answers on the socket: the
    /// started one, or one that another process has started meanwhile. Returns the socket.
    ///
    /// # Errors
    ///
    /// The program cannot be run, or no daemon answers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A daemon that was already started keeps running.
    pub async fn run(self) -> Result<PathBuf, StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let spawned = Process::spawn(&self.program, &self.socket, &self.log);
            let process = spawned.map_err(|error| StartError::Spawn {
                lookup: self.lookup.clone(),
                program: self.program.clone(),
                error: Arc::new(error),
            })?;
            if self.wait_for(process, deadline).await? {
                return Ok(self.socket);
            }
        }
    }

    /// [Runs](Self::run) the daemon and connects to it. Starts another daemon if the one that
    /// answered ended before the connection was made.
    ///
    /// # Errors
    ///
    /// The errors of [`run`](Self::run). [`StartError::Gone`] if a daemon answered and connecting
    /// to it failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A daemon that was already started keeps running.
    pub async fn connect(self) -> Result<Client, StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut starter = self;
        loop {
            let (lookup, program) = (starter.lookup.clone(), starter.program.clone());
            let socket = starter.run().await?;
            match Client::connect(Endpoint::Unix(socket.clone())).await {
                Ok(client) => return Ok(client),
                Err(error) if is_needed(&error) && Instant::now() < deadline => {
                    starter = Self { program, ..Self::prepare(&lookup)? };
                }
                Err(source) => return Err(StartError::Gone { socket, source }),
            }
        }
    }

    /// Waits until a daemon answers. Returns false if the process exited successfully and another
    /// daemon has to be started: the process, or an earlier daemon in its place, served and then
    /// exited because no client used it.
    async fn wait_for(&self, mut process: Process, deadline: Instant) -> Result<bool, StartError> {
        let mut deadline = deadline;
        let mut pause = Duration::from_millis(2);
        let mut exited = None;
        loop {
            if UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(true);
            }
            let is_late = Instant::now() >= deadline;
            if exited.is_some_and(|status: ExitStatus| status.success()) && !is_late {
                return Ok(false);
            }
            if is_late {
                let (socket, log) = (self.socket.clone(), self.log.path().to_owned());
                let reason = self.log.reason();
                return Err(match exited {
                    Some(status) => StartError::Ended { socket, status, reason, log },
                    None => StartError::TimedOut { socket, after: START_TIMEOUT, reason, log },
                });
            }
            if exited.is_none() {
                exited = process.try_wait().map_err(|error| StartError::Watch(Arc::new(error)))?;
                if exited.is_some() {
                    // The exit may be due to another daemon that is about to answer.
                    deadline = deadline.min(Instant::now() + OTHER_TIMEOUT);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Why no daemon was started, or why connecting to it failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Connecting failed although a daemon answers; or no daemon answers, and the endpoint is not
    /// one where daemons are started.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No daemon answers, and `PFS_AUTOSTART=0` forbids starting one.
    #[error("{0}; start one with pfsd, or unset PFS_AUTOSTART")]
    Forbidden(NotFound),
    /// A daemon of this user may not serve at any place.
    #[error(
        "no daemon answers on {lookup}, and none can be started: {}; set XDG_RUNTIME_DIR to a directory of your own, or name a \
         daemon's socket", listed(.passed_over)
    )]
    NoPlace {
        /// The places.
        lookup: Lookup,
        /// Why each place is unusable.
        passed_over: Vec<Unfit>,
    },
    /// The program cannot be run.
    #[error(
        "no daemon answers on {lookup}, and {} cannot be started ({error}); install pfsd beside {} or on PATH",
        .program.display(), own_name()
    )]
    Spawn {
        /// The places where no daemon answers.
        lookup: Lookup,
        /// The program.
        program: PathBuf,
        /// The system's error.
        error: Arc<io::Error>,
    },
    /// The system does not tell whether the daemon is still running.
    #[error("cannot watch the start of the daemon")]
    Watch(#[source] Arc<io::Error>),
    /// The daemon exited, and no other daemon answers on the socket.
    #[error(
        "the daemon that was started for {} ended at once ({status}){}",
        .socket.display(), said(.reason.as_deref(), .log)
    )]
    Ended {
        /// The socket that the daemon was to serve.
        socket: PathBuf,
        /// The exit status.
        status: ExitStatus,
        /// The reason from the daemon's log, if the log has one.
        reason: Option<String>,
        /// The path of the log.
        log: PathBuf,
    },
    /// The daemon is running but did not answer in time.
    #[error(
        "the daemon that was started for {} does not answer after {} s{}",
        .socket.display(), .after.as_secs(), said(.reason.as_deref(), .log)
    )]
    TimedOut {
        /// The socket that the daemon was to serve.
        socket: PathBuf,
        /// The time limit.
        after: Duration,
        /// The reason from the daemon's log, if the log has one.
        reason: Option<String>,
        /// The path of the log.
        log: PathBuf,
    },
    /// The daemon answered once, and then connecting to it failed.
    #[error("the daemon was started, but connecting to it failed")]
    Gone {
        /// The daemon's socket.
        socket: PathBuf,
        /// Why connecting failed.
        source: ConnectError,
    },
}

fn listed(passed_over: &[Unfit]) -> String {
    let reasons: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
    reasons.join(", ")
}

/// The end of a message about a failed start: the reason, and the log with the rest.
fn said(reason: Option<&str>, log: &Path) -> String {
    match reason {
        Some(reason) => format!(": {reason}; see {}", log.display()),
        None => format!(", and its log has no reason: {}", log.display()),
    }
}

/// The name of the current executable, for messages.
fn own_name() -> String {
    let own = env::current_exe().ok();
    let name = own.as_deref().and_then(Path::file_name);
    name.map_or_else(|| "this program".into(), |name| name.to_string_lossy().into_owned())
}

/// The `pfsd` next to the current executable, or one directory up from cargo's `examples`,
/// otherwise the one on `PATH`.
fn program() -> PathBuf {
    let own = env::current_exe().ok();
    own.as_deref().and_then(pfsd_near).unwrap_or_else(|| PathBuf::from("pfsd"))
}

fn pfsd_near(own: &Path) -> Option<PathBuf> {
    let directory = own.parent()?;
    // Look one directory up only from `examples`. In general, the parent directory may be writable
    // by other users, like `/tmp`.
    let is_example = directory.file_name().is_some_and(|name| name == "examples");
    let up = if is_example { directory.parent() } else { None };
    let candidates = [Some(directory), up].into_iter().flatten();
    candidates.map(|directory| directory.join("pfsd")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rustix::process::geteuid;
    use tokio::net::UnixListener;

    use super::*;

    /// A starter whose program is this script, in the test's own directory.
    fn starter(directory: &Path, script: &str) -> Starter {
        let program = directory.join("pfsd");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        Starter {
            lookup: Lookup::below(directory, None, 7),
            program,
            socket: directory.join("pfsd.sock"),
            log: Log::open(directory.join("pfsd.log")).unwrap(),
            passed_over: Vec::new(),
        }
    }

    #[test]
    fn no_daemon_is_started_for_an_explicit_socket() {
        let socket = tempfile::tempdir().unwrap().path().join("pfsd.sock");
        let error = blocking::Client::connect_or_start(Endpoint::Unix(socket.clone())).unwrap_err();
        assert!(
            matches!(&error, StartError::Connect(ConnectError::NoDaemon { path, .. }) if *path == socket),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_daemon_that_exits_at_once_is_detected_and_its_log_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let starter = starter(directory.path(), "echo the configuration is wrong >&2; exit 3");
        let error = starter.run().await.unwrap_err();
        assert!(matches!(error, StartError::Ended { .. }), "{error:?}");
        let shown = error.to_string();
        assert!(
            shown.contains(
                "pfsd.sock ended at once (exit status: 3): the configuration is wrong; see /"
            ),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn the_error_for_a_program_that_cannot_be_run_names_it_and_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let starter = starter(directory.path(), "");
        fs::remove_file(&starter.program).unwrap();
        let (program, lookup) = (starter.program.clone(), starter.lookup.clone());
        let error = starter.run().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no daemon answers on {lookup}, and {} cannot be started (No such file or directory (os error 2)); install pfsd \
                 beside {} or on PATH",
                program.display(),
                own_name()
            )
        );
    }

    #[tokio::test]
    async fn a_daemon_that_ends_before_the_client_connects_is_replaced_by_another() {
        let directory = tempfile::tempdir().unwrap();
        let lookup =
            Lookup::below(directory.path(), Some(directory.path().as_os_str()), geteuid().as_raw());
        let program = starter(directory.path(), "exit 3").program;
        let starter = Starter { program, ..Starter::prepare(&lookup).unwrap() };
        let first = UnixListener::bind(starter.socket()).unwrap();
        let ends = async {
            // The first connection is the check whether a daemon answers, the second is the client.
            for _ in 0..2 {
                drop(first.accept().await.unwrap());
            }
            drop(first);
        };
        let (connected, ()) = tokio::join!(starter.connect(), ends);
        // The failure of the second daemon, not of the first.
        let error = connected.unwrap_err();
        assert!(matches!(error, StartError::Ended { .. }), "{error:?}");
    }

    #[test]
    fn pfsd_is_found_next_to_the_executable_or_above_cargos_examples() {
        let target = tempfile::tempdir().unwrap();
        let pfsd = target.path().join("pfsd");
        fs::write(&pfsd, "").unwrap();
        for (own, found) in [("pfs", true), ("examples/resume", true), ("other/resume", false)] {
            assert_eq!(pfsd_near(&target.path().join(own)), found.then(|| pfsd.clone()), "{own}");
        }
        let beside = target.path().join("examples/pfsd");
        fs::create_dir(beside.parent().unwrap()).unwrap();
        fs::write(&beside, "").unwrap();
        assert_eq!(pfsd_near(&target.path().join("examples/resume")), Some(beside));
    }
}
