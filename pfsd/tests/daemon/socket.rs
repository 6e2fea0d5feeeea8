//! The socket file: taken over from a dead daemon, never from a living one, and private to its
//! user.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use pfs_client::lookup::{Lookup, Unfit};
use pfsd::socket::{MAX_SOCKET_PATH, SocketError, SocketFile, bind_first, bind_named};
use rustix::process::geteuid;
use tempfile::{TempDir, tempdir};

fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    SocketFile::bind(path, 0o600)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_directory_is_created_for_its_owner_alone_and_the_socket_has_its_mode() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("run/pfs/s");
    let lookup = Lookup::new(None, geteuid().as_raw());
    let (_listener, _file) = bind_named(&path, &lookup, 0o700).unwrap();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o700);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn the_socket_of_a_living_daemon_is_refused_with_its_pid() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    let (_listener, _file) = bind(&path).unwrap();
    let refused = bind(&path).unwrap_err();
    let expected = format!(
        "a pfsd (pid {}) already serves {}; stop that daemon first, or use another socket with --socket",
        std::process::id(),
        path.display()
    );
    assert_eq!(refused.to_string(), expected);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_dead_daemons_socket_is_taken_over() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dropped listener leaves its file");
    let (_listener, _file) = bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_that_answers_is_not_taken_over_even_without_a_lock() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    let other = UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(SocketError::Live { pid: None, .. })));
    drop(other);
    bind(&path).unwrap();
}

#[test]
fn a_daemon_removes_its_socket_file_unless_another_socket_has_replaced_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    let (_listener, file) = bind(&path).unwrap();
    drop(file);
    assert!(!path.exists());

    let (_listener, file) = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(file);
    assert!(path.exists());
}

#[test]
fn a_file_that_is_not_a_socket_is_never_removed() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let directory = folder.path().join("directory");
    fs::create_dir(&directory).unwrap();
    let dangling = folder.path().join("link");
    symlink(folder.path().join("nowhere"), &dangling).unwrap();
    for path in [&file, &directory, &dangling] {
        let refused = bind(path).unwrap_err();
        assert!(matches!(refused, SocketError::NotASocket { .. }), "{refused}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(dangling.is_symlink());
}

#[test]
fn a_path_too_long_for_the_kernel_is_refused_with_the_limit() {
    let folder = tempdir().unwrap();
    let prefix = folder.path().as_os_str().len() + 1;
    let longest = folder.path().join("x".repeat(MAX_SOCKET_PATH - prefix));
    bind(&longest).unwrap();
    let refused = bind(&folder.path().join("x".repeat(MAX_SOCKET_PATH + 1 - prefix))).unwrap_err();
    assert!(matches!(refused, SocketError::TooLong { .. }), "{refused}");
    assert!(refused.to_string().contains(&MAX_SOCKET_PATH.to_string()), "{refused}");
}

/// Creates the directories of a simulated machine, and the places where clients look on that
/// machine: `$XDG_RUNTIME_DIR/pfs`, `/run/user/UID/pfs`, `/tmp/pfs-UID` and `/run/pfs`. The parents
/// of the first two do not exist yet.
fn machine() -> (TempDir, Lookup) {
    let root = tempdir().unwrap();
    fs::create_dir(root.path().join("run")).unwrap();
    fs::create_dir(root.path().join("tmp")).unwrap();
    let lookup =
        Lookup::below(root.path(), Some(root.path().join("xdg").as_os_str()), geteuid().as_raw());
    (root, lookup)
}

fn serves_at(lookup: &Lookup) -> usize {
    let (_listener, file) = bind_first(lookup, 0o600).unwrap();
    lookup.places().iter().position(|place| place.socket() == file.path()).unwrap()
}

#[test]
fn a_daemon_serves_at_the_first_place_that_can_belong_to_its_user_alone() {
    let (root, lookup) = machine();
    assert_eq!(serves_at(&lookup), 2);
    let parents = ["xdg".into(), format!("run/user/{}", geteuid().as_raw())];
    for (place, parent) in parents.iter().enumerate().rev() {
        fs::create_dir_all(root.path().join(parent)).unwrap();
        assert_eq!(serves_at(&lookup), place);
    }
    // Other users can enter the first place, the second is a link, and a file blocks the third.
    let directory = |place: usize| lookup.places()[place].directory();
    fs::set_permissions(directory(0), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(serves_at(&lookup), 1);
    fs::remove_dir_all(directory(1)).unwrap();
    symlink(directory(2), directory(1)).unwrap();
    assert_eq!(serves_at(&lookup), 2);
    fs::remove_dir_all(directory(2)).unwrap();
    fs::write(directory(2), "in the way").unwrap();
    assert_eq!(serves_at(&lookup), 3);

    fs::remove_dir_all(directory(3)).unwrap();
    symlink("/", directory(3)).unwrap();
    let refused = bind_first(&lookup, 0o600).unwrap_err().to_string();
    let shown = |place: usize| directory(place).display();
    assert_eq!(
        refused,
        format!(
            "no default directory for the socket is usable: {} is open to other users (mode 0755), {} is not a directory, \
             {} is not a directory, {} is not a directory; set XDG_RUNTIME_DIR to a directory of your own, or name a \
             socket with --socket",
            shown(0),
            shown(1),
            shown(2),
            shown(3)
        )
    );
}

#[test]
fn a_daemon_that_would_hide_another_one_from_clients_is_refused_with_its_pid() {
    let (root, lookup) = machine();
    let (_listener, first) = bind_first(&lookup, 0o600).unwrap();
    // Clients would look there first.
    fs::create_dir(root.path().join("xdg")).unwrap();
    let refused = bind_first(&lookup, 0o600).unwrap_err();
    let pid = Some(std::process::id());
    assert!(
        matches!(&refused, SocketError::Live { path, pid: told, .. } if path == first.path() && *told == pid),
        "{refused}"
    );
    // A user who names a socket explicitly wants a second daemon.
    bind_named(&lookup.places()[0].socket(), &lookup, 0o600).unwrap();
}

#[test]
fn the_system_wide_daemon_does_not_prevent_a_users_own() {
    let (_root, lookup) = machine();
    let system = lookup.places()[3].socket();
    let (_listener, _file) = bind_named(&system, &lookup, 0o666).unwrap();
    assert_eq!(serves_at(&lookup), 2);
}

#[test]
fn a_directory_that_others_can_enter_is_refused_at_a_default_place_of_clients() {
    let (root, lookup) = machine();
    fs::create_dir(root.path().join("xdg")).unwrap();
    let place = &lookup.places()[0];
    fs::create_dir(place.directory()).unwrap();
    for bits in [0o755, 0o710, 0o701, 0o770, 0o702] {
        fs::set_permissions(place.directory(), fs::Permissions::from_mode(bits)).unwrap();
        let refused = bind_named(&place.socket(), &lookup, 0o600).unwrap_err();
        assert!(
            matches!(refused, SocketError::Unfit { unfit: Unfit::Open { .. }, .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains(&format!("{bits:04o}")), "{refused}");
    }
    fs::set_permissions(place.directory(), fs::Permissions::from_mode(0o700)).unwrap();
    bind_named(&place.socket(), &lookup, 0o600).unwrap();
    // In any other directory, permissions are the user's choice.
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    bind_named(&other.join("pfsd.sock"), &lookup, 0o600).unwrap();
}

#[test]
fn the_directory_of_another_user_is_skipped() {
    if !geteuid().is_root() {
        // Only root can create a directory that belongs to another user. pfs-client tests the rule
        // itself.
        return;
    }
    let (root, lookup) = machine();
    let xdg = root.path().join("xdg");
    fs::create_dir(&xdg).unwrap();
    std::os::unix::fs::chown(&xdg, Some(12345), None).unwrap();
    assert_eq!(serves_at(&lookup), 2);
    assert!(
        !lookup.places()[0].directory().exists(),
        "root does not use a directory of another user"
    );
}
