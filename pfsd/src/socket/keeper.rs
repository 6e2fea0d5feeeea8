//! Keeper of the socket file: recreates the socket when the socket, its lock file or their
//! directory is deleted, for example by a logout or by programs that clean up `/tmp`.
//!
//! Connections survive the deletion of the file, but nobody can connect any more, and the next
//! client would start a second daemon. If a second daemon started before the keeper could act, it
//! owns the place: its lock is on the file at the path, and ours on a deleted file. The second
//! daemon is then left alone. This daemon serves the clients that it has, and ends when the last
//! one has left, unless it also serves HTTP. If the second daemon ends first, this one takes the
//! place back.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use pfs_client::lookup::{Lookup, answers};
use pfs_host::{Daemon, wide};
use tokio::{net::UnixListener, sync::mpsc, time::sleep};

use super::{SocketError, SocketFile, choice::prepare};
use crate::{config::Config, logging};

/// Delay between two attempts, doubled after each one up to the maximum. Short at first, because
/// another program may be about to recreate the parent directory. Only a daemon that lost its place
/// is woken by this timer.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the socket file in its place. Dropping the keeper drops the [`SocketFile`], which removes
/// the file.
#[derive(Debug)]
pub(crate) struct Keeper {
    file: SocketFile,
    lookup: Lookup,
    /// Permissions of the socket.
    mode: u32,
    /// The log of a daemon started by `pfs`, which is deleted along with the directory.
    log: Option<PathBuf>,
    daemon: Arc<Daemon>,
    /// Whether clients can also reach the daemon over HTTP.
    serves_http: bool,
    /// Receives the recreated sockets.
    listeners: mpsc::Sender<UnixListener>,
}

impl Keeper {
    /// Keeps `file` for a daemon with this configuration. `autostarted` is true if `pfs` started
    /// the daemon.
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

    /// Waits for deletions and recreates the socket after each one.
    pub(crate) async fn run(&mut self) -> Infallible {
        loop {
            self.file.deleted().await;
            self.make_again().await;
        }
    }

    /// Retries until the socket is there again.
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
                        // The receiver is gone only when the daemon ends.
                        let _ = self.listeners.send(listener).await;
                    }
                    tracing::warn!(socket = %path.display(), "the socket or its lock file was deleted, and was created again");
                    return;
                }
                Err(error) => error,
            };
            // The lock alone proves little: a daemon that is just starting holds it for a moment.
            let is_taken = matches!(error, SocketError::Live { .. })
                && !self.file.is_ours()
                && answers(&path).unwrap_or_default();
            let message = if is_taken { self.taken(&error) } else { error.to_string() };
            if message != told {
                tracing::warn!(socket = %path.display(), "the socket was deleted, and cannot be created again yet: {message}");
                told = message;
            }
            if is_taken
                && !self.serves_http
                && let Some(lost) = self.daemon.stop_if_abandoned()
            {
                let streams = wide(lost.len());
                tracing::warn!(
                    streams,
                    "another daemon serves on this socket, and no client is connected to this daemon; shutting down"
                );
            }
            sleep(pause).await;
            pause = MAX_RETRY_INTERVAL.min(pause * 2);
        }
    }

    /// Describes what this daemon does while another one serves at its place.
    fn taken(&self, error: &SocketError) -> String {
        let pid = match error {
            SocketError::Live { pid: Some(pid), .. } => format!(" (pid {pid})"),
            _ => String::new(),
        };
        let end = match self.serves_http {
            true => "serves its clients and HTTP",
            false => "ends when its last client has left",
        };
        format!("another pfsd{pid} now serves on this socket; this daemon {end}")
    }

    /// Reopens the log at the path where users look for it. The directory belongs to this
    /// user alone.
    fn reopen_log(&self) {
        if let Some(log) = &self.log {
            // Ignore the error: there is no better place to report it.
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
