//! Namespace: maps paths to mounts, streams and documents.

use std::sync::Arc;

use pfs_proto::{ErrorCode, PathPrefix, StreamPath};

use crate::{failure::Failure, mount::Mount};

/// The document `/streamfs/README`: the product, and what works in this daemon.
const README: &str = include_str!("README.txt");

/// The meaning of a path.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A stream in this mount. The stream need not exist.
    Stream(&'a dyn Mount),
    /// The text of a document.
    Document(&'static str),
}

/// The mounts of a daemon.
#[derive(Debug)]
pub struct Namespace {
    mounts: Vec<Arc<dyn Mount>>,
}

impl Namespace {
    /// Creates a namespace of these mounts.
    pub fn new(mounts: Vec<Arc<dyn Mount>>) -> Self {
        Self { mounts }
    }

    /// Adds a mount.
    pub(crate) fn add(&mut self, mount: Arc<dyn Mount>) {
        self.mounts.push(mount);
    }

    /// The paths of the mounts.
    pub fn mounts(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().map(|mount| mount.path())
    }

    /// All mounts.
    pub(crate) fn all(&self) -> impl Iterator<Item = &dyn Mount> {
        self.mounts.iter().map(|mount| &**mount)
    }

    /// The mounts that have streams at this path or below it.
    pub(crate) fn mounts_at(&self, prefix: &PathPrefix) -> impl Iterator<Item = &dyn Mount> {
        let holds = |mount: &dyn Mount| {
            prefix.contains(mount.path())
                || prefix
                    .as_str()
                    .strip_prefix(mount.path())
                    .is_some_and(|below| below.starts_with('/'))
        };
        self.all().filter(move |mount| holds(*mount))
    }

    /// The mount at this path.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn mount(&self, path: &str) -> Result<&dyn Mount, Failure> {
        self.mount_of(path).ok_or_else(|| self.outside(path))
    }

    fn mount_of(&self, path: &str) -> Option<&dyn Mount> {
        self.all().find(|mount| mount.path() == path)
    }

    /// Resolves a path to a stream or a document.
    ///
    /// # Errors
    ///
    /// The path is outside all mounts.
    pub fn place(&self, path: &StreamPath) -> Result<Place<'_>, Failure> {
        let mount = self.mount_of(path.mount()).ok_or_else(|| self.outside(path.as_str()))?;
        Ok(match path.name() {
            "README" => Place::Document(README),
            _ => Place::Stream(mount),
        })
    }

    /// The mount of a stream's path.
    ///
    /// # Errors
    ///
    /// The path is a document, or outside all mounts.
    pub(crate) fn stream(&self, path: &StreamPath) -> Result<&dyn Mount, Failure> {
        match self.place(path)? {
            Place::Stream(mount) => Ok(mount),
            Place::Document(_) => Err(Failure::new(
                ErrorCode::IsDocument,
                format!("{path} is a document, not a stream; print it with: pfs cat {path}"),
            )),
        }
    }

    /// Parses the path of a listing: the root, a mount, or a path below a mount. Also returns
    /// whether the listing may be empty.
    ///
    /// # Errors
    ///
    /// The path is malformed, a document, or outside all mounts.
    pub fn directory(&self, path: &str) -> Result<(PathPrefix, bool), Failure> {
        let prefix: PathPrefix = path.parse().map_err(|error| {
            Failure::new(ErrorCode::BadPath, format!("cannot list {}: {error}", shown(path)))
        })?;
        let top = prefix.as_str() == "/" || self.mounts().any(|mount| mount == prefix.as_str());
        if !top {
            let below: StreamPath =
                prefix.as_str().parse().map_err(|_| self.outside(prefix.as_str()))?;
            self.stream(&below)?;
        }
        Ok((prefix, top))
    }

    fn outside(&self, path: &str) -> Failure {
        let mounts: Vec<&str> = self.mounts().collect();
        let reason = match mounts.as_slice() {
            [] => "this daemon serves no mount (plugins.streamfs.enabled is false)".to_owned(),
            [mount] => format!("streams are in {mount}, such as {mount}/cam"),
            mounts => format!("streams are in one of {}", mounts.join(", ")),
        };
        Failure::new(ErrorCode::BadPath, format!("{path} is outside the mount: {reason}"))
    }
}

/// Quotes a path for a message: shortened, and without control characters.
fn shown(path: &str) -> String {
    let mut shown: String = path.escape_debug().take(64).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use pfs_stream::Registry;

    use super::*;
    use crate::{mount::Local, quotas::Quotas, settings::Settings};

    fn namespace() -> Namespace {
        let settings = Settings::default();
        let registry = Registry::new(settings.limits);
        let quotas = Arc::new(Quotas::new(settings.user_quota, settings.token_quota));
        let local = |mount| Arc::new(Local::new(mount, registry.clone(), Arc::clone(&quotas))) as _;
        Namespace::new(settings.mounts.into_iter().map(local).collect())
    }

    #[test]
    fn a_path_is_a_stream_a_document_or_outside() {
        let namespace = namespace();
        let place = |path: &str| namespace.place(&path.parse().unwrap());
        assert!(matches!(place("/streamfs/cam"), Ok(Place::Stream(_))));
        assert!(
            matches!(place("/streamfs/README"), Ok(Place::Document(text)) if text.contains("pfs cat --stream"))
        );
        assert!(matches!(place("/streamfs/a/README"), Ok(Place::Stream(_))));
        let outside = place("/memfs/cam").unwrap_err();
        assert_eq!(outside.code, ErrorCode::BadPath);
        assert!(outside.message.contains("/streamfs"), "{}", outside.message);
    }

    #[test]
    fn a_listing_starts_at_the_root_at_a_mount_or_below_a_mount() {
        let namespace = namespace();
        for (path, may_be_empty) in
            [("/", true), ("/streamfs", true), ("/streamfs/", true), ("/streamfs/a", false)]
        {
            assert_eq!(namespace.directory(path).unwrap().1, may_be_empty, "{path}");
        }
        for (path, code) in [
            ("", ErrorCode::BadPath),
            ("streamfs", ErrorCode::BadPath),
            ("/memfs", ErrorCode::BadPath),
            ("/memfs/a", ErrorCode::BadPath),
            ("/streamfs/../a", ErrorCode::BadPath),
            ("/streamfs/README", ErrorCode::IsDocument),
        ] {
            assert_eq!(namespace.directory(path).unwrap_err().code, code, "{path}");
        }
    }

    #[test]
    fn a_bad_path_is_quoted_shortened_and_without_control_characters() {
        let failure = namespace().directory(&"\x1b[31m/x".repeat(5000)).unwrap_err();
        assert!(failure.message.len() < 300, "{}", failure.message);
        assert!(!failure.message.contains('\x1b'), "{}", failure.message);
    }
}
