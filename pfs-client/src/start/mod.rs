//! Daemon start: running `pfsd` when no daemon answers, as the command line does.
//!
//! [`Client::connect_or_start`] is all that most programs need:
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
//! A program that tells its user what happens, or starts a daemon without connecting, uses a
//! [`Starter`].
//!
//! The program is the `pfsd` beside the own executable; for an example in cargo's directory
//! `examples`, the `pfsd` one directory up; else the `pfsd` on `PATH`. The daemon serves at the
//! first [place](crate::lookup) where a daemon of this user may, and its log is beside its socket.
//! The daemon outlives the program: it has a session of its own, keeps no descriptor of the program
//! open, and ends by itself when nobody has used it for 10 minutes (`limits.idle_exit`). Any number
//! of processes may start one at once: one daemon serves them all.
//!
//! `PFS_AUTOSTART=0` in the environment forbids the start, for [`Client::connect_or_start`] as for
//! `pfs`: who runs the daemon under a service manager wants no second one, whichever program needs
//! it. A [`Starter`] does not ask; [`is_allowed`] does.

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

/// How long a daemon may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long another daemon may take to answer after ours gave up because of it.
const OTHER_TIMEOUT: Duration = Duration::from_secs(1);

impl Client {
    /// Connects to the daemon there, and starts one if the endpoint is [`Endpoint::Lookup`], which
    /// it is if nothing names the daemon, and none answers. Waits up to 5 seconds for the new
    /// daemon. Other endpoints are just connected to. See [`start`](crate::start) for what is
    /// started where.
    ///
    /// # Errors
    ///
    /// [`StartError::Connect`] for what [`Client::connect`] returns; [`StartError::Forbidden`] when
    /// no daemon answers and `PFS_AUTOSTART=0` is set; otherwise when the daemon could not be
    /// started.
    ///
    /// # Cancel safety
    ///
    /// May be cancelled at any time. A daemon that was started by then goes on.
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
    /// As [`Client::connect_or_start`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn connect_or_start(endpoint: Endpoint) -> Result<Self, StartError> {
        let client = Self::new(endpoint.clone());
        let found = client.runtime()?.block_on(Client::connect_or_start(endpoint))?;
        Ok(Self::new(found.endpoint().clone()))
    }
}

/// Whether the environment lets programs start a daemon by themselves: not with `PFS_AUTOSTART=0`.
pub fn is_allowed() -> bool {
    env::var_os("PFS_AUTOSTART").is_none_or(|value| value != "0")
}

/// Returns true if a new daemon would do better than the one that was connected to: no daemon
/// answers, or the daemon ended after it answered (`pfs stop` or its idle exit was a moment ahead).
/// Before the hello nothing has been asked for, so the next daemon serves the client as well.
pub fn is_needed(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::NotFound(_)
            | ConnectError::NoDaemon { .. }
            | ConnectError::Lost(_)
            | ConnectError::Refused { code: ErrorCode::ShuttingDown, .. }
    )
}

/// A daemon that is about to be started: its program, its place and its log.
#[derive(Debug)]
pub struct Starter {
    lookup: Lookup,
    program: PathBuf,
    socket: PathBuf,
    log: Log,
    passed_over: Vec<Unfit>,
}

impl Starter {
    /// Chooses the first place where a daemon may serve, makes its directory and opens the daemon's
    /// log in it.
    ///
    /// # Errors
    ///
    /// [`StartError::NoPlace`] when no place is fit.
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

    /// The program: the path of a `pfsd`, or `pfsd` alone, which is looked for on `PATH`.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The socket that the daemon will serve.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Why the places before the chosen one are not fit. [`Unfit::Missing`] is common, and nothing
    /// that a user has to know.
    pub fn passed_over(&self) -> &[Unfit] {
        &self.passed_over
    }

    /// Starts the daemon, and waits up to 5 seconds until a daemon answers: this one, or one that
    /// another process has started there meanwhile. Returns the socket.
    ///
    /// # Errors
    ///
    /// When the program cannot be run, or no daemon answers.
    ///
    /// # Cancel safety
    ///
    /// May be cancelled at any time. A daemon that was started by then goes on.
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

    /// [Runs](Self::run) the daemon and connects to it. Starts the next daemon if the one that
    /// answered ended before it was connected to.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); [`StartError::Gone`] when a daemon answered and could not be
    /// connected to.
    ///
    /// # Cancel safety
    ///
    /// May be cancelled at any time. A daemon that was started by then goes on.
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

    /// Waits until a daemon answers. Returns false if the process exited with success and another
    /// one has to be started. Then the process, or a daemon that started earlier, served there
    /// and exited because no client used it.
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
                    // Perhaps because another daemon is about to answer.
                    deadline = deadline.min(Instant::now() + OTHER_TIMEOUT);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Why no daemon was started, or why there is no connection to it.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A daemon answers and cannot be connected to, or no daemon answers and the endpoint is not
    /// one where a daemon is started.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No daemon answers, and `PFS_AUTOSTART=0` forbids to start one.
    #[error("{0}; start one with pfsd, or unset PFS_AUTOSTART")]
    Forbidden(NotFound),
    /// No daemon of this user may serve at any place.
    #[error(
        "no daemon answers on {lookup}, and none can be started: {}; set XDG_RUNTIME_DIR to a directory of your own, or name a \
         daemon's socket", listed(.passed_over)
    )]
    NoPlace {
        /// The places.
        lookup: Lookup,
        /// Why each is not fit.
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
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// The system does not tell whether the daemon still runs.
    #[error("cannot watch the daemon start")]
    Watch(#[source] Arc<io::Error>),
    /// The daemon exited, and no other daemon answers in its place.
    #[error(
        "the daemon that was started for {} ended at once ({status}){}",
        .socket.display(), said(.reason.as_deref(), .log)
    )]
    Ended {
        /// The socket that it should serve.
        socket: PathBuf,
        /// How it exited.
        status: ExitStatus,
        /// What it said last in its log.
        reason: Option<String>,
        /// Its log.
        log: PathBuf,
    },
    /// The daemon runs and does not answer in time.
    #[error(
        "the daemon that was started for {} does not answer after {} s{}",
        .socket.display(), .after.as_secs(), said(.reason.as_deref(), .log)
    )]
    TimedOut {
        /// The socket that it should serve.
        socket: PathBuf,
        /// How long it was waited for.
        after: Duration,
        /// What it said last in its log.
        reason: Option<String>,
        /// Its log.
        log: PathBuf,
    },
    /// The daemon answered once, and could not be connected to.
    #[error("the daemon was started and is gone again")]
    Gone {
        /// Its socket.
        socket: PathBuf,
        /// Why there is no connection to it.
        source: ConnectError,
    },
}

fn listed(passed_over: &[Unfit]) -> String {
    let reasons: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
    reasons.join(", ")
}

/// What a daemon said before it failed to start, and where to read the rest.
fn said(reason: Option<&str>, log: &Path) -> String {
    match reason {
        Some(reason) => format!(": {reason}; see {}", log.display()),
        None => format!(", and says nothing in {}", log.display()),
    }
}

/// The program that runs here, as messages name it.
fn own_name() -> String {
    let own = env::current_exe().ok();
    let name = own.as_deref().and_then(Path::file_name);
    name.map_or_else(|| "this program".into(), |name| name.to_string_lossy().into_owned())
}

/// The `pfsd` beside our own executable, or one directory up from cargo's examples, else the one on
/// `PATH`.
fn program() -> PathBuf {
    let own = env::current_exe().ok();
    own.as_deref().and_then(pfsd_near).unwrap_or_else(|| PathBuf::from("pfsd"))
}

fn pfsd_near(own: &Path) -> Option<PathBuf> {
    let directory = own.parent()?;
    // Not from any directory: what is one up may be open to others, as `/tmp` is.
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

    /// A starter of a program with this text, in a directory of the test's own.
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
    fn no_daemon_is_started_at_a_socket_that_is_named() {
        let socket = tempfile::tempdir().unwrap().path().join("pfsd.sock");
        let error = blocking::Client::connect_or_start(Endpoint::Unix(socket.clone())).unwrap_err();
        assert!(
            matches!(&error, StartError::Connect(ConnectError::NoDaemon { path, .. }) if *path == socket),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_daemon_that_ends_at_once_is_noticed_and_quoted() {
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
    async fn a_program_that_cannot_be_run_is_named_with_what_to_do() {
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
    async fn a_daemon_that_ends_before_it_is_connected_to_is_followed_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let lookup =
            Lookup::below(directory.path(), Some(directory.path().as_os_str()), geteuid().as_raw());
        let program = starter(directory.path(), "exit 3").program;
        let starter = Starter { program, ..Starter::prepare(&lookup).unwrap() };
        let first = UnixListener::bind(starter.socket()).unwrap();
        let ends = async {
            // The look whether a daemon answers, and the client.
            for _ in 0..2 {
                drop(first.accept().await.unwrap());
            }
            drop(first);
        };
        let (connected, ()) = tokio::join!(starter.connect(), ends);
        // The next one's failure, not the first one's.
        let error = connected.unwrap_err();
        assert!(matches!(error, StartError::Ended { .. }), "{error:?}");
    }

    #[test]
    fn a_program_is_beside_the_executable_or_above_cargo_s_examples() {
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
