//! Operator requests, which only root and the daemon's user may make, and the start of a
//! graceful shutdown.

use std::{any::Any, sync::PoisonError};

use pfs_proto::{ErrorCode, StreamSummary};

use crate::{Caller, Daemon, Failure, wide};

/// The user id of root.
const ROOT: u32 = 0;

impl Daemon {
    /// Lets the user `uid` operate the daemon, as root may: stop it, and reload its configuration.
    #[must_use]
    pub fn with_operator(mut self, uid: u32) -> Self {
        self.operator = Some(uid);
        self
    }

    /// Checks the permission to operate the daemon. `tried` is the operation, such as "cannot stop
    /// the daemon".
    pub(crate) fn may_operate(&self, caller: &Caller, tried: &str) -> Result<(), Failure> {
        if caller.peer.uid.is_some_and(|uid| uid == ROOT || self.operator == Some(uid)) {
            return Ok(());
        }
        let user = self
            .operator
            .map(|uid| format!(" and the daemon's user (uid {uid})"))
            .unwrap_or_default();
        Err(Failure::new(
            ErrorCode::Denied,
            format!("{tried}: only root{user} may do this, over the Unix socket"),
        ))
    }

    /// Starts the shutdown, and returns the streams that are lost. With `if_idle`, only if the
    /// daemon has no streams, and no connections except the caller's.
    ///
    /// # Errors
    ///
    /// The caller may not stop the daemon, or the daemon is in use.
    pub(crate) fn stop(
        &self,
        caller: &Caller,
        if_idle: bool,
    ) -> Result<Vec<StreamSummary>, Failure> {
        self.may_operate(caller, "cannot stop the daemon").map_err(|denied| {
            let pid = std::process::id();
            let elsewhere = format!(
                "; on the daemon's machine: pfs stop, kill {pid}, or systemctl stop if it is a service"
            );
            Failure { message: denied.message + &elsewhere, ..denied }
        })?;
        self.begin_shutdown(|streams, connections| {
            let others = connections.saturating_sub(1);
            if if_idle && (!streams.is_empty() || others > 0) {
                return Err(busy(streams, others));
            }
            let streams = streams.len();
            caller.log(|pid, uid| tracing::info!(pid, uid, streams, "a client stops the daemon"));
            Ok(())
        })
    }

    /// Starts the shutdown if there are no streams and no connections. Returns whether it started.
    pub fn stop_if_idle(&self) -> bool {
        self.begin_shutdown(|streams, connections| match (streams, connections) {
            ([], 0) => Ok(()),
            _ => Err(()),
        })
        .is_ok()
    }

    /// Starts the shutdown if there are no connections, and returns the streams that are lost;
    /// `None` if there are connections.
    pub fn stop_if_abandoned(&self) -> Option<Vec<StreamSummary>> {
        self.begin_shutdown(|_, connections| if connections == 0 { Ok(()) } else { Err(()) }).ok()
    }

    /// Starts the shutdown unless `refuse` returns an error. `refuse` is given the streams and the
    /// number of connections, and no client is admitted between that check and the shutdown.
    /// Returns the streams that are lost.
    fn begin_shutdown<E>(
        &self,
        refuse: impl FnOnce(&[StreamSummary], u64) -> Result<(), E>,
    ) -> Result<Vec<StreamSummary>, E> {
        let admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        // A replica is not lost: its stream is elsewhere.
        let streams = self.registry.list().into_iter().filter(|stream| !stream.is_replica());
        let streams: Vec<_> = streams.map(|stream| stream.summary()).collect();
        refuse(&streams, self.connections.open())?;
        self.shutdown().cancel();
        drop(admission);
        Ok(streams)
    }

    /// Keeps a value until the daemon is dropped, such as a connection whose end tells its client
    /// that the daemon has ended.
    pub(crate) fn keep(&self, kept: impl Any + Send) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(kept));
    }
}

fn busy(streams: &[StreamSummary], others: u64) -> Failure {
    let bytes = streams
        .iter()
        .map(|stream| stream.head.saturating_sub(stream.tail))
        .fold(0, u64::saturating_add);
    let message = format!(
        "cannot stop the daemon: the daemon is not idle, it has {} with {bytes} bytes, and {}; pfs stop without --if-idle stops it",
        count(wide(streams.len()), "stream"),
        count(others, "other connection")
    );
    Failure::new(ErrorCode::Busy, message)
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
