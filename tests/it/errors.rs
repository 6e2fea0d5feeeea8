//! Error messages: no cause is printed twice.

use std::{
    fs::{read_dir, read_to_string},
    path::{Path, PathBuf},
};

use harness::{Autostarted, Pfs, binary};

const MISSING: &str = "/nonexistent/pfsd.toml";

#[test]
fn a_cause_is_printed_once() {
    let cause = "No such file or directory (os error 2)";
    let said = format!("cannot read the configuration {MISSING}: {cause}");
    let user = tempfile::tempdir().unwrap();
    let _daemon = Autostarted::for_user(user.path());
    let pfs = Pfs::for_user(user.path()).env("PFSD_CONFIG", MISSING).arg("ls").run().exits(5);
    let pfsd = Pfs::new(binary("pfsd")).args(["--config", MISSING]).run().exits(1);
    for run in [pfs, pfsd] {
        assert_eq!(run.stderr.matches(cause).count(), 1, "{}", run.stderr);
        run.says(&said);
    }
}

/// A chain of errors is printed with `{:#}`, each error with its source. So a cause belongs either
/// in the message or in the source, not in both.
#[test]
fn no_error_repeats_its_source_in_its_own_message() {
    let mut variants = 0;
    for file in sources() {
        let text = read_to_string(&file).unwrap();
        let mut parts = text.split("#[error(").peekable();
        parts.next();
        for part in parts {
            let (message, fields) = part.split_once(")]").expect("an attribute ends");
            // Up to the end of this variant or type.
            let end = fields
                .find("\n    }")
                .or_else(|| fields.find('\n').and_then(|at| fields[at + 1..].find('\n')));
            let fields = &fields[..end.unwrap_or(fields.len())];
            let has_source =
                ["source:", "#[source]", "#[from]"].iter().any(|mark| fields.contains(mark));
            let shows_it = ["{source", "{0", "source}"].iter().any(|mark| message.contains(mark));
            let is_transparent = message == "transparent";
            assert!(is_transparent || !(has_source && shows_it), "{}: {message}", file.display());
            variants += 1;
        }
    }
    assert!(variants > 100, "only {variants} were found");
}

/// Lists the Rust files of all crates.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        read_dir(root).unwrap().map(|entry| entry.unwrap().path().join("src")).collect();
    while let Some(folder) = folders.pop() {
        for entry in read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}
