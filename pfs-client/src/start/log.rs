//! Log of a started daemon, and the reason for a failed start in it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The daemon's log, next to its socket.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// The offset where this daemon's lines begin.
    start: u64,
}

impl Log {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let start = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Self { path, file, start })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Why this daemon did not start, if its log says so.
    pub(super) fn reason(&self) -> Option<String> {
        let text = fs::read(&self.path).unwrap_or_default();
        let own = text.get(usize::try_from(self.start).unwrap_or(usize::MAX)..).unwrap_or_default();
        reason(&String::from_utf8_lossy(own)).map(str::to_owned)
    }
}

/// Extracts the reason from the output of a daemon that did not start. The output ends with a line
/// `pfsd: REASON`; the dynamic loader writes such a line too if a library is missing. After an
/// invalid argument (`error: REASON`), lines with hints follow.
fn reason(said: &str) -> Option<&str> {
    // Skip the indented lines, which continue a message.
    let lines = said.lines().filter(|line| line.starts_with(|first: char| !first.is_whitespace()));
    let lines = lines.map(str::trim_end);
    let prefixed =
        |line| ["pfsd: ", "error: "].iter().find_map(|prefix| str::strip_prefix(line, prefix));
    let fatal = lines.clone().filter_map(prefixed).next_back();
    fatal
        .or_else(|| lines.clone().rfind(|line| line.contains("ERROR")))
        .or_else(|| lines.clone().next_back())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_log_lines_of_this_daemon_are_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pfsd.log");
        fs::write(&path, "an older daemon's trouble\n").unwrap();
        let log = Log::open(path).unwrap();
        assert_eq!(log.reason(), None);
        log.file().write_all(b"first\npfsd: cannot bind\n  because\n\n").unwrap();
        assert_eq!(log.reason().as_deref(), Some("cannot bind"));
    }

    #[test]
    fn the_line_with_the_reason_is_found_among_other_log_lines() {
        for (said, expected) in [
            (
                "error: invalid value 'x' for '--http <ADDR>'\n\n  tip: y\n\nFor more information, try '--help'.\n",
                "invalid value 'x' for '--http <ADDR>'",
            ),
            (
                "2026-01-01T00:00:00Z  WARN a note\npfsd: f.toml:2: unknown key\n  2 | key = 1\n",
                "f.toml:2: unknown key",
            ),
            (
                "pfsd: error while loading shared libraries: libx.so\n",
                "error while loading shared libraries: libx.so",
            ),
            (
                "2026-01-01T00:00:00Z ERROR it broke\n2026-01-01T00:00:00Z  INFO ending\n",
                "2026-01-01T00:00:00Z ERROR it broke",
            ),
            ("thread 'main' panicked\nAborted\n", "Aborted"),
        ] {
            assert_eq!(reason(said), Some(expected));
        }
        assert_eq!(reason("\n  \n"), None);
    }
}
