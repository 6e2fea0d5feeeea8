//! The log: on stderr, as lines for people or as JSON.

use std::io::{self, IsTerminal};

use anyhow::{Result, anyhow};
use tracing_subscriber::{EnvFilter, fmt};

use crate::args::LogFormat;

/// Sends everything logged from now on to stderr.
///
/// # Errors
///
/// When the filter is not one, or something else is set up already.
pub(crate) fn init(format: LogFormat, filter: &str) -> Result<()> {
    let parsed = EnvFilter::try_new(filter).map_err(|_| {
        anyhow!(
            "{filter:?} is not a log filter; allowed: off, error, warn, info, debug, trace, or a list such as \
             info,pfsd=debug"
        )
    })?;
    // A log that nobody reads any more (a closed pipe) must not end the daemon, which eprintln! would.
    let log = fmt().with_env_filter(parsed).with_writer(io::stderr).log_internal_errors(false);
    let done = match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_target(false).try_init(),
    };
    done.map_err(|error| anyhow!("cannot set up the log: {error}"))
}
