//! Where daemon and clients meet when nobody says otherwise.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The daemon's socket when none is named: `$XDG_RUNTIME_DIR/pfs/pfsd.sock`, or `/tmp/pfs-UID/pfsd.sock`.
///
/// `runtime_dir` is the value of `XDG_RUNTIME_DIR`; one that is not absolute counts as unset, as its specification
/// has it. Nothing is looked up or created: whoever uses the directory must see to it that only its owner can enter.
pub fn default_socket_path(runtime_dir: Option<&OsStr>, uid: u32) -> PathBuf {
    let directory = match runtime_dir.map(Path::new) {
        Some(runtime) if runtime.is_absolute() => runtime.join("pfs"),
        _ => PathBuf::from(format!("/tmp/pfs-{uid}")),
    };
    directory.join("pfsd.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_in_the_runtime_directory() {
        let path = default_socket_path(Some(OsStr::new("/run/user/7")), 7);
        assert_eq!(path, Path::new("/run/user/7/pfs/pfsd.sock"));
    }

    #[test]
    fn without_a_runtime_directory_the_socket_is_in_one_of_the_user_in_tmp() {
        for unusable in [None, Some(OsStr::new("")), Some(OsStr::new("run/user/7"))] {
            assert_eq!(default_socket_path(unusable, 7), Path::new("/tmp/pfs-7/pfsd.sock"));
        }
    }
}
