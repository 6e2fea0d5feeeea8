//! Daemon lookup: finds a user's daemon if no socket is named, and the place where one may
//! be started.
//!
//! Four directories may hold the socket `pfsd.sock`. Clients try the directories in this order and
//! use the first one where a daemon answers. A daemon that is started without a socket serves in
//! the first directory where it may.
//!
//! | directory | a daemon may serve there if | clients trust a daemon there if |
//! |---|---|---|
//! | `$XDG_RUNTIME_DIR/pfs` | the parent exists and belongs to the user | the directory belongs to the user or to root |
//! | `/run/user/UID/pfs` | the same | the same |
//! | `/tmp/pfs-UID` | the parent exists | the same |
//! | `/run/pfs` | the parent, or the directory itself, belongs to the user | the same, or root created the directory for another user |
//!
//! A process with `XDG_RUNTIME_DIR` and a process without (such as a cron job) find the same
//! daemon, because each also tries the other's directories. The exception is an `XDG_RUNTIME_DIR`
//! other than `/run/user/UID`: a daemon that serves there is not found without that variable.
//!
//! In every case, the directory must not be a symbolic link, and no other user may have write
//! permission. In the first three directories, a daemon serves only if no other user has any
//! permission. These checks matter in `/tmp`, where anyone may create a directory of any name.
//! Clients and daemons skip a directory that fails the checks. A daemon of root therefore creates
//! nothing in a user's runtime directory, where it would be in the way of the user's own daemon.

mod place;

use std::{
    env,
    ffi::OsStr,
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::{
    io::{Errno, ioctl_fionbio},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::geteuid,
};

use self::place::Kind;
pub use self::place::{Place, Unfit};

/// The places where a user's daemon may be, in lookup order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    places: Vec<Place>,
}

impl Lookup {
    /// The lookup for this process: its effective user, and `XDG_RUNTIME_DIR` from its environment.
    pub fn from_environment() -> Self {
        Self::new(env::var_os("XDG_RUNTIME_DIR").as_deref(), geteuid().as_raw())
    }

    /// The lookup for a user. `runtime_dir` is the value of `XDG_RUNTIME_DIR`. A relative path
    /// counts as unset, as the XDG specification demands.
    pub fn new(runtime_dir: Option<&OsStr>, uid: u32) -> Self {
        Self::below(Path::new("/"), runtime_dir, uid)
    }

    /// Like [`new`](Self::new), but all places except the first are below `root` instead of `/`.
    /// For tests.
    pub fn below(root: &Path, runtime_dir: Option<&OsStr>, uid: u32) -> Self {
        let runtime_dir = runtime_dir.map(Path::new).filter(|path| path.is_absolute());
        let runtime = runtime_dir.map(|path| (path.join("pfs"), Kind::Runtime));
        let always = [
            (root.join(format!("run/user/{uid}/pfs")), Kind::Runtime),
            (root.join(format!("tmp/pfs-{uid}")), Kind::Temporary),
            (root.join("run/pfs"), Kind::System),
        ];
        let mut places: Vec<Place> = Vec::new();
        for (directory, kind) in runtime.into_iter().chain(always) {
            if places.iter().all(|place| place.directory() != directory) {
                places.push(Place::new(directory, kind, uid));
            }
        }
        Self { places }
    }

    /// The places, in lookup order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The first socket where a daemon answers, at a trusted place.
    ///
    /// # Errors
    ///
    /// [`NotFound`] if no daemon answers.
    pub fn find(&self) -> Result<Found, NotFound> {
        Self::find_in(self.places.iter(), answers)
    }

    /// Like [`find`](Self::find), but only the user's own places, without the
    /// system-wide `/run/pfs`.
    ///
    /// # Errors
    ///
    /// [`NotFound`] if no daemon answers there.
    pub fn find_own(&self) -> Result<Found, NotFound> {
        Self::find_in(self.places.iter().filter(|place| place.is_own()), answers)
    }

    fn find_in<'a>(
        places: impl Iterator<Item = &'a Place>,
        answers: impl Fn(&Path) -> io::Result<bool>,
    ) -> Result<Found, NotFound> {
        let mut not_found = NotFound::default();
        for place in places {
            let socket = place.socket();
            let found = place.check().and_then(|()| {
                answers(&socket).map_err(|error| Unfit::io("connect to", &socket, error))
            });
            match found {
                Ok(true) => return Ok(Found { socket, passed_over: not_found.passed_over }),
                Ok(false) | Err(Unfit::Missing { .. }) => not_found.silent.push(socket),
                Err(unfit) => not_found.passed_over.push(unfit),
            }
        }
        Err(not_found)
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.places.iter().map(Place::socket))
    }
}

/// A socket where a daemon answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// The socket.
    pub socket: PathBuf,
    /// Why earlier places were skipped. A daemon may answer there too.
    pub passed_over: Vec<Unfit>,
}

/// No daemon answers at any place.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NotFound {
    /// The sockets where no process listens.
    pub silent: Vec<PathBuf>,
    /// Why the other places were skipped.
    pub passed_over: Vec<Unfit>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a daemon answers on {}", self.socket.display())?;
        list_passed_over(f, &self.passed_over)
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no daemon answers")?;
        if !self.silent.is_empty() {
            f.write_str(" on ")?;
            list(f, &self.silent)?;
        }
        list_passed_over(f, &self.passed_over)
    }
}

impl std::error::Error for NotFound {}

/// Formats a list of paths: `A, B or C`.
fn list(
    f: &mut fmt::Formatter<'_>,
    paths: impl IntoIterator<Item = impl AsRef<Path>, IntoIter: ExactSizeIterator>,
) -> fmt::Result {
    let paths = paths.into_iter();
    let last = paths.len().saturating_sub(1);
    for (number, path) in paths.enumerate() {
        match number {
            0 => {}
            number if number == last => f.write_str(" or ")?,
            _ => f.write_str(", ")?,
        }
        write!(f, "{}", path.as_ref().display())?;
    }
    Ok(())
}

fn list_passed_over(f: &mut fmt::Formatter<'_>, passed_over: &[Unfit]) -> fmt::Result {
    for (number, unfit) in passed_over.iter().enumerate() {
        f.write_str(if number == 0 { " (passed over: " } else { ", " })?;
        write!(f, "{unfit}")?;
    }
    if passed_over.is_empty() { Ok(()) } else { f.write_str(")") }
}

/// Returns true if a process listens on the socket. Never waits.
///
/// # Errors
///
/// The system refuses the check.
pub fn answers(socket: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(socket)?;
    #[cfg(target_os = "linux")]
    let flags = SocketFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = SocketFlags::empty();
    let tried = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    ioctl_fionbio(&tried, true)?;
    match connect(&tried, &address) {
        // A full queue means that the daemon is alive.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // A process listens with another socket type.
        Err(Errno::PROTOTYPE) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    fn directories(runtime_dir: Option<&str>, uid: u32) -> Vec<PathBuf> {
        let lookup = Lookup::new(runtime_dir.map(OsStr::new), uid);
        lookup.places().iter().map(|place| place.directory().to_owned()).collect()
    }

    #[test]
    fn the_places_are_tried_in_a_fixed_order_without_duplicates() {
        let always = ["/run/user/7/pfs", "/tmp/pfs-7", "/run/pfs"].map(PathBuf::from);
        for unset in [None, Some(""), Some("run/user/7")] {
            assert_eq!(directories(unset, 7), always, "{unset:?}");
        }
        for same in ["/run/user/7", "/run/user/7/", "/run//user/7/."] {
            assert_eq!(directories(Some(same), 7), always, "{same}");
        }
        let other = [&["/run/user/8/pfs".into()][..], &always].concat();
        assert_eq!(directories(Some("/run/user/8"), 7), other);
    }

    /// A temporary root directory with the parents of the places.
    fn machine() -> (tempfile::TempDir, Lookup) {
        let root = tempfile::tempdir().unwrap();
        let uid = geteuid().as_raw();
        for directory in ["xdg".to_owned(), format!("run/user/{uid}"), "tmp".to_owned()] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let lookup = Lookup::below(root.path(), Some(root.path().join("xdg").as_os_str()), uid);
        (root, lookup)
    }

    #[test]
    fn the_first_place_where_a_daemon_answers_is_found() {
        let (_root, lookup) = machine();
        let all: Vec<PathBuf> = lookup.places().iter().map(Place::socket).collect();
        for place in lookup.places() {
            place.prepare().unwrap();
        }
        for first in 0..all.len() {
            let found = Lookup::find_in(lookup.places().iter(), |socket| {
                Ok(all[first..].contains(&socket.into()))
            });
            assert_eq!(found.unwrap().socket, all[first]);
        }
        let none = Lookup::find_in(lookup.places().iter(), |_| Ok(false)).unwrap_err();
        assert_eq!(none.silent, all);
        assert!(none.passed_over.is_empty());
    }

    #[test]
    fn an_untrusted_place_is_skipped_and_named() {
        let (root, lookup) = machine();
        let [xdg, user, ..] = lookup.places() else { panic!("the lookup has four places") };
        symlink("/", xdg.directory()).unwrap();
        fs::create_dir(user.directory()).unwrap();
        fs::set_permissions(user.directory(), fs::Permissions::from_mode(0o777)).unwrap();
        let none = Lookup::find_in(lookup.places().iter(), |_| Ok(true)).unwrap_err();
        let root = root.path().display();
        let uid = geteuid().as_raw();
        assert_eq!(
            none.to_string(),
            format!(
                "no daemon answers on {root}/tmp/pfs-{uid}/pfsd.sock or {root}/run/pfs/pfsd.sock (passed over: \
                 {root}/xdg/pfs is not a directory, {root}/run/user/{uid}/pfs is open to other users (mode 0777))"
            )
        );
    }

    #[test]
    fn a_socket_without_permission_is_skipped() {
        let (_root, lookup) = machine();
        for place in lookup.places() {
            place.prepare().unwrap();
        }
        let all: Vec<PathBuf> = lookup.places().iter().map(Place::socket).collect();
        let denied = |socket: &Path| match socket == all[0] {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(socket == all[2]),
        };
        let found = Lookup::find_in(lookup.places().iter(), denied).unwrap();
        assert_eq!(found.socket, all[2]);
        assert!(matches!(found.passed_over[..], [Unfit::Io { .. }]));
    }

    #[test]
    fn a_place_with_too_long_a_path_is_unfit() {
        let long = format!("/tmp/{}", "x".repeat(200));
        let lookup = Lookup::new(Some(OsStr::new(&long)), 7);
        assert!(matches!(lookup.places()[0].check(), Err(Unfit::TooLong { .. })));
        assert!(matches!(lookup.places()[0].prepare(), Err(Unfit::TooLong { .. })));
    }

    #[test]
    fn a_place_is_created_with_access_for_its_owner_only() {
        let (_root, lookup) = machine();
        for place in lookup.places() {
            place.prepare().unwrap();
            // Again, now that the directory exists.
            place.prepare().unwrap();
            assert_eq!(fs::metadata(place.directory()).unwrap().mode() & 0o7777, 0o700);
        }
    }

    #[test]
    fn a_missing_runtime_directory_is_not_created() {
        let (root, lookup) = machine();
        fs::remove_dir(root.path().join("xdg")).unwrap();
        let unfit = lookup.places()[0].prepare().unwrap_err();
        assert_eq!(unfit.to_string(), format!("{}/xdg does not exist", root.path().display()));
        assert!(!root.path().join("xdg").exists());
    }
}
