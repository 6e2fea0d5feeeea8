//! Tokens of a daemon that requires them.

use std::{path::Path, sync::LazyLock};

use crate::nameless::Nameless;

pub const ALL: &str = "all-all-all-all-all-all-all";
pub const READER: &str = "reader-reader-reader-reader";
pub const WRITER: &str = "writer-writer-writer-writer";

/// The daemon's token file.
pub fn file() -> &'static Path {
    static FILE: LazyLock<Nameless> = LazyLock::new(|| {
        let file = Nameless::new();
        let [open, deep] = ["/streamfs/open", "/streamfs/lab"];
        file.write(
            format!("{ALL}\n{READER} read {open} {deep}\n{WRITER} write {open}\n").as_bytes(),
        );
        file
    });
    FILE.path()
}
