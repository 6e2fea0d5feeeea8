//! The command line of `pfsd`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{CommandFactory, Parser, ValueEnum};

/// Hosts named in-memory byte streams for pfs.
///
/// pfsd serves a Unix socket, by default in a directory that only its owner can enter, and with
/// --http also HTTP, where a stream is a URL. It needs no configuration: without a file it serves
/// the mount /streamfs with buffers of 6MB a stream.
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
    /// Anything but loopback needs auth.token_file or http.client_ca in the configuration.
    #[arg(long, value_name = "ADDR", env = "PFSD_HTTP", hide_env_values = true)]
    pub http: Option<SocketAddr>,

    /// Check the configuration, print the result and exit with 0 or 1
    #[arg(long)]
    pub check_config: bool,

    /// How much to log: off, error, warn, info, debug or trace, or levels of targets: info,requests=off
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
  pfsd --http 127.0.0.1:4437                    streams as URLs: http://127.0.0.1:4437/streamfs/cam
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
  shm = "same-user"              # who shares memory with the daemon: clients
                                 # of its own user, or "all" of the socket
  #http = "127.0.0.1:4437"       # HTTP is off unless set; see below

  [http]
  allowed_hosts = []             # names it is reached by, besides localhost
                                 # and the address that a client connects to
  allowed_origins = []           # sites whose pages may use it (CORS), such
                                 # as "https://player.example.org"
  #certificate = "/etc/pfs/certificate.pem"  # these two make it HTTPS
  #key = "/etc/pfs/key.pem"
  #client_ca = "/etc/pfs/clients.pem"        # clients must show a
                                 # certificate that this one signed

  [auth]
  #token_file = "/etc/pfs/token" # who may do what over HTTP; see below

  [limits]
  max_streams = 1024
  max_memory = "1GB"             # all rings together; beside them an eighth
                                 # each for staging areas, for what arrives
                                 # and for what leaves;
                                 # default: 1GB, or half of the limit of
                                 # the control group if that is less
  max_connections = 16384        # on the socket and over HTTP together
  max_connections_per_address = 8192  # over HTTP; default: half of them
  #max_block_time = "30s"        # a block reader that keeps a writer waiting
                                 # for longer becomes a drop reader; off
                                 # unless set
  max_header_size = "32KB"       # all headers of a request
  header_time = "10s"            # until they are there
  idle_time = "60s"              # between requests
  body_stall_time = "30s"        # of a body that says how long it is; one
                                 # that does not may be silent for ever
  long_poll_time = "20s"         # of the Durable Streams protocol

  # Sizes are bytes (524288) or text with a unit: B, KB, MB, GB, TB
  # or KiB, MiB, GiB, TiB, all 1024-based. Times are text: "500ms",
  # "10s", "2m". Files are named by absolute paths and read once, at
  # the start; certificates and keys are PEM."#,
    ),
    (
        "HTTP",
        "  A stream is a URL: curl http://127.0.0.1:4437/streamfs/cam follows
  it, and curl -T - appends to it. HTTP/1.1 and HTTP/2; chunks of a
  body are at most 64 KiB.

  Without auth.token_file and http.client_ca, a client that can connect
  may do everything, as on the socket; pfsd then starts on loopback
  addresses only. With both, clients need a certificate and a token.

  A request for a name that is not the daemon's own is refused (421),
  and so is one from a page of another site (403): a web page cannot
  reach the daemon through the browser of somebody who looks at it. A
  link that a person follows is no such request.",
    ),
    (
        "Tokens",
        "  auth.token_file has a line for each:

    # TOKEN [SCOPES [PREFIX...]]
    41d0a1ccd2b44d7aab1c        read,write,block
    9b3e52c1f04e4f5c9a77        read         /streamfs/cam
    c1fe0bd5c7aa4ab0b1f0        write        /streamfs/a /streamfs/b

  read is to read, stat and list; write to create, append, close and
  remove; block to read with the slow policy block, for which writers
  wait. Without prefixes it is for all paths, without scopes for all
  three. The lines of one token add up. A token has 16 characters or
  more; make one with: openssl rand -hex 32. Clients send it as
  Authorization: Bearer TOKEN; an unknown one is refused with 401, one
  that does not allow what is asked with 403. Only /healthz and the page
  of the dashboard need none; /metrics is for those who may read /. A
  change of the file needs a new start.",
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
  pfsd --http 127.0.0.1:4437
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
        let config = crate::config::Config::from_toml(example, "help", None).unwrap();
        let default = crate::config::Config { socket: config.socket.clone(), ..Default::default() };
        assert_eq!(config, default, "it shows the defaults");
        // What has no default is commented out, and must be right too.
        let uncommented = |line: &str| {
            let key = line.trim_start().strip_prefix('#');
            key.filter(|key| key.starts_with(char::is_lowercase)).unwrap_or(line).to_owned()
        };
        let all: Vec<String> = example.lines().map(uncommented).collect();
        let config = crate::config::Config::from_toml(&all.join("\n"), "help", None).unwrap();
        assert!(config.http.tls.is_some() && config.http.token_file.is_some());
    }
}
