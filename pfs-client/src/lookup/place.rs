//! Lookup place: a directory for the socket, and the checks whether to trust a daemon there or to
//! serve there.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::SocketAddr,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

/// The file name of the socket.
const SOCKET: &str = "pfsd.sock";

/// The file name of the log of a daemon that a client started.
const LOG: &str = "pfsd.log";

/// Permission bits with which other users can change the directory.
const WRITE_BY_OTHERS: u32 = 0o022;
/// Permission bits with which other users can use the directory at all.
const ANY_BY_OTHERS: u32 = 0o077;

/// A directory where a daemon may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    directory: PathBuf,
    kind: Kind,
    /// The user for whom the lookup runs.
    uid: u32,
}

/// The kind of place: who may create the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The user, in a directory that belongs to the user.
    Runtime,
    /// Anyone, in `/tmp`.
    Temporary,
    /// Root, in `/run`, for a daemon that serves all users.
    System,
}

impl Place {
    pub(super) fn new(directory: PathBuf, kind: Kind, uid: u32) -> Self {
        Self { directory, kind, uid }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// The path of the log of a daemon that a client started.
    pub fn log(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    /// Returns true if the place is only for this user's daemon.
    pub fn is_own(&self) -> bool {
        self.kind != Kind::System
    }

    /// Checks that no untrusted user could have put a socket there.
    ///
    /// # Errors
    ///
    /// [`Unfit`] says why the place is not trusted. [`Unfit::Missing`] is harmless: there is
    /// no directory.
    pub fn check(&self) -> Result<(), Unfit> {
        self.check_length()?;
        let directory = Facts::from_directory(&self.directory)?;
        self.believe(directory, Facts::from_parent(self.parent())?)
    }

    /// Prepares the place for a daemon of this user: creates the directory with access for its
    /// owner only, or checks the existing directory.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if a daemon of this user may not serve there.
    pub fn prepare(&self) -> Result<(), Unfit> {
        self.check_length()?;
        let parent = Facts::from_parent(self.parent())?;
        let directory = match Facts::from_directory(&self.directory) {
            Err(Unfit::Missing { .. }) => None,
            other => Some(other?),
        };
        self.may_serve(directory, parent)?;
        if directory.is_some() {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            // Another process may have created the directory; the check below decides.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.map_err(|error| Unfit::io("make the directory", &self.directory, error))?
            }
        }
        self.may_serve(Some(Facts::from_directory(&self.directory)?), parent)
    }

    fn parent(&self) -> &Path {
        self.directory.parent().unwrap_or(Path::new("/"))
    }

    fn check_length(&self) -> Result<(), Unfit> {
        let socket = self.socket();
        match SocketAddr::from_pathname(&socket) {
            Ok(_) => Ok(()),
            Err(_) => Err(Unfit::TooLong { path: socket }),
        }
    }

    /// Checks whether a client may trust a daemon in this directory.
    fn believe(&self, directory: Facts, parent: Facts) -> Result<(), Unfit> {
        self.is_directory(directory)?;
        let made_by_root =
            self.kind == Kind::System && parent.owner == 0 && parent.mode & WRITE_BY_OTHERS == 0;
        if directory.owner != self.uid && directory.owner != 0 && !made_by_root {
            return Err(Unfit::Foreign { path: self.directory.clone(), owner: directory.owner });
        }
        self.forbids(WRITE_BY_OTHERS, directory)
    }

    /// Checks whether a daemon may serve in this directory, or create the directory if there
    /// is none.
    fn may_serve(&self, directory: Option<Facts>, parent: Facts) -> Result<(), Unfit> {
        // Root may have created the system directory for this very user.
        let given = self.kind == Kind::System && directory.is_some();
        if parent.owner != self.uid && self.kind != Kind::Temporary && !given {
            return Err(Unfit::Foreign { path: self.parent().to_owned(), owner: parent.owner });
        }
        let Some(directory) = directory else { return Ok(()) };
        self.is_directory(directory)?;
        if directory.owner != self.uid {
            return Err(Unfit::Foreign { path: self.directory.clone(), owner: directory.owner });
        }
        self.forbids(if self.is_own() { ANY_BY_OTHERS } else { WRITE_BY_OTHERS }, directory)
    }

    fn is_directory(&self, facts: Facts) -> Result<(), Unfit> {
        if facts.is_directory {
            Ok(())
        } else {
            Err(Unfit::NotADirectory { path: self.directory.clone() })
        }
    }

    fn forbids(&self, permissions: u32, facts: Facts) -> Result<(), Unfit> {
        if facts.mode & permissions == 0 {
            return Ok(());
        }
        Err(Unfit::Open { path: self.directory.clone(), mode: facts.mode & 0o7777 })
    }
}

/// The metadata that the checks need.
#[derive(Clone, Copy, Debug)]
struct Facts {
    is_directory: bool,
    owner: u32,
    mode: u32,
}

impl Facts {
    /// Does not follow a symbolic link: in `/tmp`, a link could lead anywhere.
    fn from_directory(path: &Path) -> Result<Self, Unfit> {
        Self::new(path, fs::symlink_metadata(path))
    }

    /// Follows a symbolic link: the user chose `XDG_RUNTIME_DIR`, and on some systems `/tmp` is
    /// a link.
    fn from_parent(path: &Path) -> Result<Self, Unfit> {
        Self::new(path, fs::metadata(path))
    }

    fn new(path: &Path, looked: io::Result<Metadata>) -> Result<Self, Unfit> {
        match looked {
            Ok(found) => {
                Ok(Self { is_directory: found.is_dir(), owner: found.uid(), mode: found.mode() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Unfit::Missing { path: path.to_owned() })
            }
            Err(error) => Err(Unfit::io("check", path, error)),
        }
    }
}

/// Why a place is not usable.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The directory does not exist.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The path is not a directory, for example a symbolic link.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory belongs to another user.
    #[error("{} belongs to user {owner}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The owner.
        owner: u32,
    },
    /// Other users have permissions on the directory that only its owner should have.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The permissions of the directory.
        mode: u32,
    },
    /// The path of the socket is longer than the kernel allows.
    #[error("{} is too long for the path of a socket", path.display())]
    TooLong {
        /// The path of the socket.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        error: Arc<io::Error>,
    },
}

impl Unfit {
    /// A failed system call: the operation, such as `open`, and the path.
    pub(crate) fn io(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), error: Arc::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;
    const OTHER: u32 = 1001;
    const ROOT: u32 = 0;

    /// The metadata of a directory with this owner and mode.
    fn directory(owner: u32, mode: u32) -> Facts {
        Facts { is_directory: true, owner, mode: 0o040_000 | mode }
    }

    /// A short form of the outcome: `None` if the place is usable, otherwise the owner or mode
    /// at fault.
    fn verdict(outcome: Result<(), Unfit>) -> Option<String> {
        outcome.err().map(|unfit| match unfit {
            Unfit::Foreign { path, owner } => format!("{} {owner}", path.display()),
            Unfit::Open { mode, .. } => format!("{mode:o}"),
            Unfit::NotADirectory { .. } => "no directory".to_owned(),
            other => other.to_string(),
        })
    }

    fn place(kind: Kind, uid: u32) -> Place {
        Place::new("/parent/pfs".into(), kind, uid)
    }

    #[test]
    fn a_daemon_is_trusted_where_only_the_user_or_root_could_have_put_it() {
        use Kind::{Runtime, System, Temporary};
        let tmp = directory(ROOT, 0o1777);
        let run = directory(ROOT, 0o755);
        let own = directory(USER, 0o700);
        for (kind, found, parent, expected) in [
            (Runtime, own, own, None),
            (Runtime, directory(USER, 0o755), own, None),
            (Runtime, directory(ROOT, 0o700), own, None),
            (Runtime, directory(OTHER, 0o700), own, Some("/parent/pfs 1001")),
            (Runtime, directory(OTHER, 0o700), run, Some("/parent/pfs 1001")),
            (Runtime, directory(USER, 0o720), own, Some("720")),
            (Temporary, own, tmp, None),
            (Temporary, directory(OTHER, 0o755), tmp, Some("/parent/pfs 1001")),
            (Temporary, directory(USER, 0o702), tmp, Some("702")),
            (System, directory(ROOT, 0o755), run, None),
            (System, directory(OTHER, 0o755), run, None),
            (System, directory(OTHER, 0o775), run, Some("775")),
            // In some containers, anyone may create directories in /run.
            (System, directory(OTHER, 0o755), directory(ROOT, 0o1777), Some("/parent/pfs 1001")),
            (System, directory(OTHER, 0o755), directory(OTHER, 0o755), Some("/parent/pfs 1001")),
            (Temporary, Facts { is_directory: false, ..own }, tmp, Some("no directory")),
        ] {
            let believed = verdict(place(kind, USER).believe(found, parent));
            assert_eq!(believed.as_deref(), expected, "{kind:?} {found:?} in {parent:?}");
        }
        // Root does not trust the directory of another user either.
        let believed = verdict(place(Runtime, ROOT).believe(own, own));
        assert_eq!(believed.as_deref(), Some("/parent/pfs 1000"));
    }

    #[test]
    fn a_daemon_serves_only_in_a_directory_that_belongs_to_its_user_alone() {
        use Kind::{Runtime, System, Temporary};
        let tmp = directory(ROOT, 0o1777);
        let run = directory(ROOT, 0o755);
        let own = directory(USER, 0o700);
        for (kind, found, parent, expected) in [
            (Runtime, None, own, None),
            (Runtime, Some(own), own, None),
            (Runtime, None, run, Some("/parent 0")),
            (Runtime, Some(own), run, Some("/parent 0")),
            (Runtime, Some(directory(ROOT, 0o700)), own, Some("/parent/pfs 0")),
            (Runtime, Some(directory(USER, 0o710)), own, Some("710")),
            (Temporary, None, tmp, None),
            (Temporary, Some(own), tmp, None),
            (Temporary, Some(directory(OTHER, 0o700)), tmp, Some("/parent/pfs 1001")),
            (Temporary, Some(directory(USER, 0o755)), tmp, Some("755")),
            (System, None, run, Some("/parent 0")),
            (System, Some(directory(USER, 0o755)), run, None),
            (System, Some(directory(ROOT, 0o755)), run, Some("/parent/pfs 0")),
            (System, Some(directory(USER, 0o775)), run, Some("775")),
        ] {
            let serves = verdict(place(kind, USER).may_serve(found, parent));
            assert_eq!(serves.as_deref(), expected, "{kind:?} {found:?} in {parent:?}");
        }
        // Root creates nothing in a user's runtime directory, but may create the directory in /run.
        let serves = verdict(place(Runtime, ROOT).may_serve(None, own));
        assert_eq!(serves.as_deref(), Some("/parent 1000"));
        place(System, ROOT).may_serve(None, run).unwrap();
    }
}
