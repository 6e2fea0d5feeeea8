//! Paths of the binaries under test, beside the test binary in the target directory.

use std::path::PathBuf;

/// Returns the folder that holds `pfs` and `pfsd`: `target/debug` for a test
/// in `target/debug/deps`.
pub fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test.parent().and_then(|deps| deps.parent());
    folder.expect("a test binary lives in target/PROFILE/deps").to_owned()
}

/// Returns the path of the binary `name`. Panics with the build command if the binary is missing.
pub fn binary(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build` first, with the same profile",
        path.display()
    );
    path
}
