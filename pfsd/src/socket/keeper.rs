//! The keeper of the socket: makes the socket again when it, its lock file or their directory is
//! deleted, as logging out and programs that clean up `/tmp` do.
//!
//! Connections go on without the file. Without it nobody can connect any more, and the next client
//! would start a second daemon. If that has happened before the keeper could act, the second daemon
//! has the place: its lock is on the file that is there, and ours on one that is gone. It is left
//! alone. This daemon serves the clients that it has, and ends when the last one has left, unless
//! HTTP leads to it. When the second daemon ends first, this one takes its place again.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use pfs_client::lookup::{Lookup, answers};
use pfs_host::{Daemon, wide};
use tokio::{net::UnixListener, sync::mpsc, time::sleep};

use super::{SocketError, SocketFile, choice::prepare};
use crate::{config::Config, logging};

/// Time between two attempts, doubled after each up to the longest: at first somebody may be about
/// to make the directory above again. Only a daemon that lost its place is woken by it.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the socket's file in its place. Dropping it removes the file, as dropping the
/// [`SocketFile`] does.
#[derive(Debug)]
pub(crate) struct Keeper {
    file: SocketFile,
    lookup: Lookup,
    /// Permissions of the socket.
    mode: u32,
    /// The log of a daemon that `pfs` started, which is deleted along with the directory.
    log: Option<PathBuf>,
    daemon: Arc<Daemon>,
    /// Whether clients also get to the daemon over HTTP.
    serves_http: bool,
    /// Takes the sockets that are made again.
    listeners: mpsc::Sender<UnixListener>,
}

impl Keeper {
    /// Keeps `file`, of a daemon with this configuration. `autostarted` says that `pfs` started it.
    pub(crate) fn new(
        file: SocketFile,
        config: &Config,
        autostarted: bool,
        daemon: Arc<Daemon>,
        listeners: mpsc::Sender<UnixListener>,
    ) -> Self {
        let lookup = Lookup::from_environment();
        let place =
            lookup.places().iter().find(|place| autostarted && place.socket() == file.path());
        let log = place.map(pfs_client::lookup::Place::log);
        let serves_http = config.http.address.is_some();
        Self { file, lookup, mode: config.socket_mode, log, daemon, serves_http, listeners }
    }

    /// Waits for deletions and makes the socket again, each time.
    pub(crate) async fn run(&mut self) -> Infallible {
        loop {
            self.file.deleted().await;
            self.make_again().await;
        }
    }

    /// Tries until the socket is there again.
    async fn make_again(&mut self) {
        let path = self.file.path().to_owned();
        let mut told = String::new();
        let mut pause = RETRY_INTERVAL;
        loop {
            let prepared = prepare(&path, &self.lookup, false);
            if prepared.is_ok() {
                self.reopen_log();
            }
            let made = prepared.and_then(|()| self.file.make_again(self.mode));
            let error = match made.and_then(|made| made.map(listener_of).transpose()) {
                Ok(listener) => {
                    if let Some(listener) = listener {
                        // Nobody receives only when the daemon ends.
                        let _ = self.listeners.send(listener).await;
                    }
                    tracing::warn!(socket = %path.display(), "the socket or its lock file was deleted, and was made again");
                    return;
                }
                Err(error) => error,
            };
            // The lock alone says little: a daemon that only starts has it for a moment.
            let is_taken = matches!(error, SocketError::Live { .. })
                && !self.file.is_ours()
                && answers(&path).unwrap_or_default();
            let message = if is_taken { self.taken(&error) } else { error.to_string() };
            if message != told {
                tracing::warn!(socket = %path.display(), "the socket was deleted, and cannot be made again yet: {message}");
                told = message;
            }
            if is_taken
                && !self.serves_http
                && let Some(lost) = self.daemon.stop_if_abandoned()
            {
                let streams = wide(lost.len());
                tracing::warn!(
                    streams,
                    "another daemon has the place, and nobody is connected to this one; ending"
                );
            }
            sleep(pause).await;
            pause = MAX_RETRY_INTERVAL.min(pause * 2);
        }
    }

    /// What becomes of this daemon while another one serves at its place.
    fn taken(&self, error: &SocketError) -> String {
        let pid = match error {
            SocketError::Live { pid: Some(pid), .. } => format!(" (pid {pid})"),
            _ => String::new(),
        };
        let end = match self.serves_http {
            true => "serves its clients and HTTP",
            false => "ends when its last client has left",
        };
        format!("another pfsd{pid} serves there by now; this one {end}")
    }

    /// Writes the log on where users look for it. The directory is this user's alone.
    fn reopen_log(&self) {
        if let Some(log) = &self.log {
            // There is no better place to say that it failed.
            let _ = logging::reopen(log);
        }
    }
}

fn listener_of(listener: std::os::unix::net::UnixListener) -> Result<UnixListener, SocketError> {
    let path =
        listener.local_addr().ok().and_then(|address| address.as_pathname().map(PathBuf::from));
    UnixListener::from_std(listener)
        .map_err(|error| SocketError::io("listen on", &path.unwrap_or_default(), error))
}
