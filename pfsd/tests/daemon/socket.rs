//! The socket's file: taken over from the dead, never from the living, and open to nobody else.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use pfsd::socket::{Directory, MAX_SOCKET_PATH, SocketError, SocketFile};
use tempfile::tempdir;

fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    SocketFile::bind(path, Directory::AsItIs, 0o600)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_directory_is_made_for_its_owner_alone_and_the_socket_has_its_mode() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("run/pfs/s");
    let (_listener, _file) = SocketFile::bind(&path, Directory::AsItIs, 0o660).unwrap();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o660);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_living_daemon_is_left_alone_and_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    let (_listener, _file) = bind(&path).unwrap();
    let refused = bind(&path).unwrap_err();
    let expected = format!("a daemon is already serving {} (pid {})", path.display(), std::process::id());
    assert_eq!(refused.to_string(), expected);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_dead_daemons_socket_is_taken_over() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a listener that is dropped leaves its file");
    let (_listener, _file) = bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_that_answers_is_not_taken_even_without_a_lock() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    let other = UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(SocketError::Live { pid: None, .. })));
    drop(other);
    bind(&path).unwrap();
}

#[test]
fn the_socket_goes_with_its_daemon_unless_it_is_another_ones_by_now() {
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
fn what_is_not_a_socket_is_never_removed() {
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

#[test]
fn a_directory_that_others_can_enter_is_refused_where_everybody_would_look() {
    let folder = tempdir().unwrap();
    let directory = folder.path().join("pfs");
    fs::create_dir(&directory).unwrap();
    for bits in [0o755, 0o710, 0o701, 0o770, 0o702] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(bits)).unwrap();
        let refused = SocketFile::bind(&directory.join("s"), Directory::Private, 0o600).unwrap_err();
        assert!(matches!(refused, SocketError::Unsafe { .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("{bits:04o}")), "{refused}");
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    SocketFile::bind(&directory.join("s"), Directory::Private, 0o600).unwrap();

    let link = folder.path().join("link");
    symlink(&directory, &link).unwrap();
    let refused = SocketFile::bind(&link.join("s"), Directory::Private, 0o600).unwrap_err();
    assert!(refused.to_string().contains("not a directory"), "{refused}");
}

#[test]
fn somebody_elses_directory_is_refused_where_everybody_would_look() {
    // Only root can make a directory that belongs to somebody else; /proc/1 does for the others.
    let folder = tempdir().unwrap();
    let directory = folder.path().join("pfs");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    let foreign = match std::os::unix::fs::chown(&directory, Some(12345), None) {
        Ok(()) => directory,
        Err(_) => "/proc/1".into(),
    };
    let refused = SocketFile::bind(&foreign.join("s"), Directory::Private, 0o600).unwrap_err();
    assert!(refused.to_string().contains("belongs to user"), "{refused}");
}
