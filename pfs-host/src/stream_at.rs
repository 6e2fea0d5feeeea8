//! The path of a stream whose permission was checked, and the mount that serves the path.

use pfs_proto::StreamPath;
use pfs_stream::Stream;

use crate::{Caller, Daemon, Failure, mount::Mount};

/// The path of a stream that a caller may read or write. There may be no stream yet.
#[derive(Clone, Debug)]
pub struct StreamAt<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) caller: &'a Caller,
    pub(crate) mount: &'a dyn Mount,
    pub(crate) path: StreamPath,
}

impl<'a> StreamAt<'a> {
    /// Finds the mount of a path. The caller has checked the permission.
    pub(crate) fn new(
        daemon: &'a Daemon,
        caller: &'a Caller,
        path: &StreamPath,
    ) -> Result<Self, Failure> {
        let mount = daemon.namespace.stream(path)?;
        Ok(Self { daemon, caller, mount, path: path.clone() })
    }
}

impl StreamAt<'_> {
    /// The path.
    pub fn path(&self) -> &StreamPath {
        &self.path
    }

    /// The stream, if there is one.
    ///
    /// # Errors
    ///
    /// The mount cannot tell.
    pub async fn find(&self) -> Result<Option<Stream>, Failure> {
        self.mount.find(&self.path).await
    }

    /// The stream, where there must be one.
    ///
    /// # Errors
    ///
    /// There is none, or the mount cannot tell.
    pub async fn existing(&self) -> Result<Stream, Failure> {
        self.find().await?.ok_or_else(|| Failure::no_such_stream(self.path.as_str()))
    }
}
