//! A path whose permission was checked, and the mount that serves it.

use pfs_proto::StreamPath;
use pfs_stream::Stream;

use crate::{Caller, Daemon, Failure, mount::Mount};

/// A path that a caller may read or write. The stream need not exist yet.
#[derive(Clone, Debug)]
pub struct StreamAt<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) caller: &'a Caller,
    pub(crate) mount: &'a dyn Mount,
    pub(crate) path: StreamPath,
}

impl<'a> StreamAt<'a> {
    /// Finds the mount of a path. The caller must have checked the permission.
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

    /// Finds the stream, if it exists.
    ///
    /// # Errors
    ///
    /// The mount fails.
    pub async fn find(&self) -> Result<Option<Stream>, Failure> {
        self.mount.find(&self.path).await
    }

    /// Finds a stream that must exist.
    ///
    /// # Errors
    ///
    /// The stream does not exist, or the mount fails.
    pub async fn existing(&self) -> Result<Stream, Failure> {
        self.find().await?.ok_or_else(|| Failure::no_such_stream(self.path.as_str()))
    }
}
