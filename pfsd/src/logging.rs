//! Log output on stderr, as text or JSON.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Result, anyhow, bail};
use rustix::{
    fs::{OFlags, fstat},
    stdio,
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    registry,
    util::SubscriberInitExt as _,
};

use crate::args::LogFormat;

/// The crates of the daemon: `pfsd` in a filter stands for all of them.
const CRATES: [&str; 3] = ["pfsd", "pfs_host", "pfs_http"];

/// Initializes the log: everything logged from now on goes to stderr.
///
/// # Errors
///
/// The filter cannot be parsed, or a log is set up already.
pub(crate) fn init(format: LogFormat, filter: &str) -> Result<()> {
    let log = registry().with(parse(filter)?);
    // Ignore write errors: a log without a reader (a closed pipe) must not end the daemon, as the
    // panic of `eprintln!` would.
    let lines = fmt::layer().with_writer(io::stderr).with_target(false).log_internal_errors(false);
    let colored = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let done = match format {
        LogFormat::Text => log.with(lines.with_ansi(colored)).try_init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).try_init(),
    };
    done.map_err(|error| anyhow!("cannot set up the log: {error}"))
}

/// Reopens the log at `path` by replacing stderr, unless stderr is that file already.
///
/// # Errors
///
/// The file cannot be opened; the log stays where it was.
pub(crate) fn reopen(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let (there, own) = (fstat(&file)?, fstat(stdio::stderr())?);
    if (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino) {
        stdio::dup2_stderr(&file)?;
    }
    Ok(())
}

/// Parses a log filter: levels and `TARGET=LEVEL`, separated by commas. An event follows the
/// longest listed target that is a prefix of its own, otherwise the level without a target. Without
/// such a level, targets that are not listed log nothing. An empty filter logs errors.
///
/// The parser of [`Targets`] is not used because it takes a misspelt level for the name of
/// a target.
fn parse(filter: &str) -> Result<Targets> {
    let mut targets = Targets::new();
    let mut is_empty = true;
    for part in filter.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        is_empty = false;
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        let Some(level) = parse_level(level).filter(|_| target != Some("")) else {
            bail!(
                "{part:?} in the log filter {filter:?} is neither a level nor TARGET=LEVEL; levels are off, error, warn, \
                 info, debug and trace, as in info,requests=off"
            );
        };
        targets = match target {
            Some("pfsd") => {
                CRATES.iter().fold(targets, |targets, name| targets.with_target(*name, level))
            }
            Some(target) => targets.with_target(target, level),
            None => targets.with_default(level),
        };
    }
    Ok(if is_empty { targets.with_default(LevelFilter::ERROR) } else { targets })
}

fn parse_level(level: &str) -> Option<LevelFilter> {
    // tracing accepts an empty string as a level.
    if level.is_empty() { None } else { level.parse().ok() }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    /// The most detailed level that `filter` enables for each of three targets.
    fn levels(filter: &str) -> [Option<Level>; 3] {
        let targets = parse(filter).unwrap();
        let all = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        ["pfsd::start", "pfs_http::plain", "requests"]
            .map(|target| all.into_iter().find(|level| targets.would_enable(target, level)))
    }

    #[test]
    fn a_log_filter_gives_levels_for_all_and_for_single_targets() {
        let (error, info, debug, trace) =
            (Some(Level::ERROR), Some(Level::INFO), Some(Level::DEBUG), Some(Level::TRACE));
        assert_eq!(levels("info"), [info; 3]);
        assert_eq!(levels("TRACE"), [trace; 3]);
        assert_eq!(levels("off"), [None; 3]);
        assert_eq!(levels("info,requests=off"), [info, info, None]);
        assert_eq!(levels("requests=off, info,"), [info, info, None]);
        assert_eq!(levels("pfsd=debug"), [debug, debug, None]);
        assert_eq!(levels("error,pfsd=info,pfs_http::plain=trace"), [info, trace, error]);
        assert_eq!(levels("info,pfsd=off"), [None, None, info]);
        assert_eq!(levels(""), [error; 3]);
    }

    #[test]
    fn a_log_filter_that_cannot_be_parsed_is_refused_by_name() {
        for (filter, part) in [
            ("loud", "loud"),
            ("info,requests", "requests"),
            ("info, pfsd=loud", "pfsd=loud"),
            ("pfsd=", "pfsd="),
            ("=info", "=info"),
            ("pfsd=info=debug", "pfsd=info=debug"),
            ("7", "7"),
        ] {
            let error = parse(filter).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{part:?} in the log filter {filter:?} is neither")),
                "{error}"
            );
        }
    }
}
