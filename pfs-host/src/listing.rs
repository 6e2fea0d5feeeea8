//! Listing of streams, page by page. A client that does not read costs one page of memory,
//! regardless of the number of streams.

use pfs_proto::PathPrefix;

use crate::{caller::Caller, daemon::Daemon, failure::Failure, mount::Entry};

/// A cursor over the streams at a path and below it, sorted by path. A stream that exists from the
/// first page to the last is listed exactly once.
#[derive(Debug)]
pub struct Listing {
    prefix: PathPrefix,
    may_be_empty: bool,
    /// Path of the last listed stream.
    after: String,
    /// The mounts that could not be listed.
    failed: Vec<String>,
    /// The first failure of a mount, until it is reported after all other streams.
    failure: Option<Failure>,
}

impl Daemon {
    /// Starts a listing.
    ///
    /// # Errors
    ///
    /// The caller may not read the streams, or the path is not a directory.
    pub fn listing(&self, caller: &Caller, path: &str) -> Result<Listing, Failure> {
        caller.permissions.may_read(path)?;
        let (prefix, may_be_empty) = self.namespace.directory(path)?;
        let (after, failed, failure) = (String::new(), Vec::new(), None);
        Ok(Listing { prefix, may_be_empty, after, failed, failure })
    }

    /// Like [`listing`](Self::listing), from the first path on that sorts after `after`.
    ///
    /// # Errors
    ///
    /// Those of [`listing`](Self::listing).
    pub fn listing_after(
        &self,
        caller: &Caller,
        path: &str,
        after: String,
    ) -> Result<Listing, Failure> {
        Ok(Listing { after, ..self.listing(caller, path)? })
    }

    /// Lists all streams at a path and below it at once, sorted by path.
    ///
    /// # Errors
    ///
    /// The caller may not read the streams, the path is not a directory, or a mount fails.
    pub async fn list(&self, caller: &Caller, path: &str) -> Result<Vec<Entry>, Failure> {
        let mut listing = self.listing(caller, path)?;
        let mut entries = Vec::new();
        loop {
            let page = listing.next(self).await?;
            if page.is_empty() {
                return Ok(entries);
            }
            entries.extend(page);
        }
    }
}

impl Listing {
    /// Maximum number of streams on one page.
    pub const PAGE: usize = 50;

    /// Returns the next page. Only the last page has fewer than [`PAGE`](Self::PAGE) streams, and
    /// an empty page follows it.
    ///
    /// # Errors
    ///
    /// There is no stream at the path of the listing. A mount that fails is reported after the
    /// streams of all other mounts.
    pub async fn next(&mut self, daemon: &Daemon) -> Result<Vec<Entry>, Failure> {
        let mut page = Vec::new();
        for mount in daemon.namespace.mounts_at(&self.prefix) {
            if self.failed.iter().any(|failed| failed == mount.path()) {
                continue;
            }
            match mount.list(&self.prefix, &self.after, Self::PAGE).await {
                Ok(entries) => page.extend(entries),
                Err(failure) => {
                    self.failed.push(mount.path().to_owned());
                    self.failure.get_or_insert(failure);
                }
            }
        }
        page.sort_by(|one, other| one.summary.path.cmp(&other.summary.path));
        page.truncate(Self::PAGE);
        if page.is_empty()
            && let Some(failure) = self.failure.take()
        {
            return Err(failure);
        }
        match page.last() {
            Some(last) => self.after.clone_from(&last.summary.path),
            None if self.after.is_empty() && !self.may_be_empty => {
                return Err(Failure::no_such_stream(self.prefix.as_str()));
            }
            None => {}
        }
        Ok(page)
    }
}
