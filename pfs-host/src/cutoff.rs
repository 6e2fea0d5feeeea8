//! Cutoff: ends a session against its client's will, because the daemon shuts down or because a
//! reload of the tokens revoked the permission that the session needs.

use pfs_proto::{ErrorCode, StreamPath};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, permissions::Permissions, stream_at::StreamAt};

/// The permission that a session needs for as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Read,
    ReadAndBlock,
    Write,
}

/// Tells when and why a session is cut off.
#[derive(Clone, Debug)]
pub struct Cutoff {
    shutdown: CancellationToken,
    permissions: Permissions,
    needs: Needs,
    path: StreamPath,
}

impl Cutoff {
    /// Creates the cutoff of a session that has its permission now.
    pub(crate) fn new(place: &StreamAt<'_>, needs: Needs) -> Self {
        Self {
            // A child token, so that sessions do not contend for the lock of a common token.
            shutdown: place.daemon.shutdown().child_token(),
            permissions: place.caller.permissions.clone(),
            needs,
            path: place.path.clone(),
        }
    }

    /// Whether the daemon is shutting down.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// The reason for the cutoff, if the session is cut off.
    pub fn reason(&self) -> Option<Failure> {
        if self.is_shutdown() { Some(Failure::shutting_down()) } else { self.revoked() }
    }

    /// Waits until the session is cut off, and returns the reason.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    pub async fn reached(&self) -> Failure {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Failure::shutting_down(),
            failure = self.permissions.until(|| self.revoked()) => failure,
        }
    }

    fn revoked(&self) -> Option<Failure> {
        let Self { permissions, path, .. } = self;
        let permitted = match self.needs {
            Needs::Read => permissions.may_read(path.as_str()),
            Needs::ReadAndBlock => permissions
                .may_read(path.as_str())
                .and_then(|()| permissions.may_block(path.as_str())),
            Needs::Write => permissions.may_write(path.as_str()),
        };
        let failure = permitted.err()?;
        Some(Failure::new(
            ErrorCode::Denied,
            format!("the daemon's tokens were reloaded: {}", failure.message),
        ))
    }
}
