//! A listing, page by page: a client that does not read it costs a page of memory, however many
//! streams there are.

use pfs_proto::PathPrefix;

use crate::{caller::Caller, daemon::Daemon, failure::Failure, mount::Entry};

/// The streams at a path and below it, sorted by path. A stream that is there from the first page
/// to the last is listed once.
#[derive(Debug)]
pub struct Listing {
    prefix: PathPrefix,
    may_be_empty: bool,
    /// The last path that was listed.
    after: String,
}

impl Daemon {
    /// Begins a listing.
    ///
    /// # Errors
    ///
    /// The caller may not read the streams, or the path is that of no directory.
    pub fn listing(&self, caller: &Caller, path: &str) -> Result<Listing, Failure> {
        caller.permissions.may_read(path)?;
        let (prefix, may_be_empty) = self.namespace.directory(path)?;
        Ok(Listing { prefix, may_be_empty, after: String::new() })
    }

    /// The streams at a path and below it, sorted by path, all at once.
    ///
    /// # Errors
    ///
    /// The caller may not read them, the path is that of no directory, or a mount cannot tell.
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
    /// The most streams of one page.
    pub const PAGE: usize = 50;

    /// The next page. Only the last one has fewer streams than [`PAGE`](Self::PAGE); behind the
    /// last one is an empty page.
    ///
    /// # Errors
    ///
    /// There is nothing at the path of the listing, or a mount cannot tell.
    pub async fn next(&mut self, daemon: &Daemon) -> Result<Vec<Entry>, Failure> {
        let mut page = Vec::new();
        for mount in daemon.namespace.mounts_at(&self.prefix) {
            page.extend(mount.list(&self.prefix, &self.after, Self::PAGE).await?);
        }
        page.sort_by(|one, other| one.summary.path.cmp(&other.summary.path));
        page.truncate(Self::PAGE);
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
