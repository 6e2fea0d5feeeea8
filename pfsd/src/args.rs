//! The command line of `pfsd`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{CommandFactory, Parser, ValueEnum};

/// Hosts named in-memory byte streams for pfs.
///
/// pfsd serves a Unix socket in a directory that only its owner can enter. It needs no
/// configuration: without a file it serves the mount /streamfs with buffers of 6MB a stream.
/// A flag beats the environment, the environment beats the file.
#[derive(Clone, Debug, Parser)]
#[command(name = "pfsd", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = long_help())]
pub struct Args {
    /// Read the configuration from this file (TOML)
    #[arg(long, value_name = "FILE", env = "PFSD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// Serve on this Unix socket
    ///
    /// Default: listen.socket of the configuration, else $XDG_RUNTIME_DIR/pfs/pfsd.sock, else
    /// /tmp/pfs-UID/pfsd.sock.
    #[arg(long, value_name = "PATH", env = "PFSD_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,

    /// Serve HTTP on this address, such as 127.0.0.1:4437
    ///
    /// Default: listen.http of the configuration, else HTTP is off. Port 0 is any free one; the log tells which.
    #[arg(long, value_name = "ADDR", env = "PFSD_HTTP", hide_env_values = true)]
    pub http: Option<SocketAddr>,

    /// Check the configuration, print the result and exit with 0 or 1
    #[arg(long)]
    pub check_config: bool,

    /// How much to log: error, warn, info, debug, trace, or a tracing filter such as pfsd=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "PFSD_LOG", hide_env_values = true)]
    pub log: String,

    /// What the log on stderr looks like
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        env = "PFSD_LOG_FORMAT",
        hide_env_values = true
    )]
    pub log_format: LogFormat,
}

/// What the log on stderr looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

const EXAMPLES: &str = "\
Examples:
  pfsd                                          serve /streamfs on the default socket
  pfsd --config /etc/pfs/pfsd.toml --log-format json
  pfsd --config pfsd.toml --check-config";

/// The parts of the manual behind the options: a heading, and lines to be shown as they are.
pub const MANUAL: &[(&str, &str)] = &[
    (
        "Configuration",
        r#"  # The default of each key; unknown keys are errors.
  [plugins.streamfs]
  enabled = true
  path = "/streamfs"             # the mount: the first segment of every path

    [plugins.streamfs.config]
    channel_buffer_size = "6MB"  # how far a live reader may lag
    ring_buffer_size = "6MB"     # how much history a new reader gets

  [listen]
  socket = "/run/pfs/pfsd.sock"  # default: see --socket
  socket_mode = "0600"

  [limits]
  max_streams = 1024
  max_memory = "1GB"             # all rings together
  max_connections = 16384

  # Sizes are bytes (524288) or text with a unit: B, KB, MB, GB, TB
  # or KiB, MiB, GiB, TiB, all 1024-based.
  # HTTP (listen.http) is not in this version yet."#,
    ),
    (
        "Signals",
        "  SIGTERM, SIGINT  tell every client, finish what is in flight and
                   exit 0 within 5 seconds; a second one ends at
                   once, with 143 or 130",
    ),
    (
        "Exit status",
        "  0                ended by a signal, or the configuration is fine
  1                could not start, or the configuration is not fine
  2                wrong usage
  130, 143         ended at once by a second signal",
    ),
    (
        "Examples",
        "  pfsd
  pfsd --config /etc/pfs/pfsd.toml --log-format json
  pfsd --config pfsd.toml --check-config",
    ),
];

fn long_help() -> String {
    let parts: Vec<String> = MANUAL.iter().map(|(heading, text)| format!("{heading}:\n{text}")).collect();
    parts.join("\n\n")
}

/// The command line as clap knows it; the manual and the completions are made from it.
pub fn command() -> clap::Command {
    Args::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_example_in_the_help_is_a_valid_configuration() {
        let (_, example) = MANUAL.iter().find(|(heading, _)| *heading == "Configuration").unwrap();
        crate::config::Config::from_toml(example, "help").unwrap();
    }
}
