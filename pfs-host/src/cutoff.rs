//! Cutting off a session whose client would go on: the daemon shuts down, or a reload of the tokens
//! revoked the permission that the session needs.

use pfs_proto::{ErrorCode, StreamPath};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, permissions::Permissions, stream_at::StreamAt};

/// What a session does with its stream, and so the permission that it needs for as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Read,
    ReadAndBlock,
    Write,
}

/// When and why a session is cut off.
#[derive(Clone, Debug)]
pub struct Cutoff {
    shutdown: CancellationToken,
    permissions: Permissions,
    needs: Needs,
    path: StreamPath,
}

impl Cutoff {
    /// Of a session that has the permission now.
    pub(crate) fn new(place: &StreamAt<'_>, needs: Needs) -> Self {
        Self {
            // Its own token, so that sessions do not contend for the lock of one.
            shutdown: place.daemon.shutdown().child_token(),
            permissions: place.caller.permissions.clone(),
            needs,
            path: place.path.clone(),
        }
    }

    /// Whether the daemon shuts down.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// Why the session is cut off, if it is.
    pub fn reason(&self) -> Option<Failure> {
        if self.is_shutdown() { Some(Failure::shutting_down()) } else { self.revoked() }
    }

    /// Waits until the session is cut off, and tells why.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped while it is pending.
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
