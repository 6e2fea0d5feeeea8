//! Where the binaries under test are: beside the test's own target directory.

use std::path::PathBuf;

/// The folder that holds `pfs` and `pfsd`: `target/debug` for a test in `target/debug/deps`.
pub fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test.parent().and_then(|deps| deps.parent());
    folder.expect("a test binary lives in target/PROFILE/deps").to_owned()
}

/// The path of the binary `name`. Panics with what to do when it was not built.
pub fn binary(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build` first, with the same profile",
        path.display()
    );
    path
}
