//! The daemon of the examples: that of `PFS_SOCKET`, else this user's own; started if none answers.

#![allow(clippy::print_stderr, reason = "whoever runs the example is to know")]

use std::error::Error;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use pfs_client::{Client, ConnectError, Endpoint};
use tokio::time::{Instant, sleep};

/// How long a daemon that was started may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of the daemon.
pub(crate) async fn client() -> Result<Client, Box<dyn Error>> {
    let socket = std::env::var_os("PFS_SOCKET").map(PathBuf::from);
    let endpoint = socket.clone().map_or_else(Endpoint::default, Endpoint::Unix);
    match Client::connect(endpoint.clone()).await {
        Err(ConnectError::NoDaemon { .. }) => start(socket, &endpoint)?,
        connected => return Ok(connected?),
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(endpoint.clone()).await {
            Err(ConnectError::NoDaemon { .. }) if Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            connected => return Ok(connected?),
        }
    }
}

/// Starts the `pfsd` that was built with the example, else the one on PATH. It stays when the example has ended.
fn start(socket: Option<PathBuf>, endpoint: &Endpoint) -> Result<(), Box<dyn Error>> {
    let built = std::env::current_exe()?.parent().and_then(|examples| Some(examples.parent()?.join("pfsd")));
    let program = built.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("pfsd"));
    let mut command = Command::new(&program);
    if let Some(socket) = socket {
        command.arg("--socket").arg(socket);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    close_inherited_on_exec()?;
    match command.spawn() {
        Ok(_) => {
            eprintln!("no daemon answers on {endpoint}; started {}", program.display());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "no daemon answers on {endpoint}, and there is no pfsd to start: run `cargo build -p pfsd` first"
        )
        .into()),
        Err(error) => Err(format!("cannot start {}: {error}", program.display()).into()),
    }
}

/// Sets the close-on-exec flag of what we inherited. The daemon outlives us, and must not keep open a pipe whose reader waits
/// for its end, or a lock.
fn close_inherited_on_exec() -> io::Result<()> {
    for entry in fs::read_dir("/dev/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: the call takes numbers and no pointers, and closes nothing.
            #[allow(unsafe_code, reason = "only the number of an inherited descriptor is known")]
            unsafe {
                libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    Ok(())
}
