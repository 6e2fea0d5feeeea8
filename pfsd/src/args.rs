//! The command line of `pfsd`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{CommandFactory, Parser, ValueEnum};
use pfs_http::settings::parse_listen_address;

/// Hosts named in-memory byte streams for pfs.
///
/// pfsd serves a Unix socket, by default in a directory that only its owner can enter, and with
/// --http also HTTP, where a stream is a URL. It needs no configuration: without a file it serves
/// the mount /streamfs with buffers of 6MB per stream. A flag overrides the environment, and the
/// environment overrides the file.
#[derive(Clone, Debug, Parser)]
#[command(name = "pfsd", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = long_help())]
pub struct Args {
    /// Read the configuration from this file (TOML)
    #[arg(long, value_name = "FILE", env = "PFSD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// Serve on this Unix socket
    ///
    /// Default: listen.socket of the configuration, else pfsd.sock in the first of these
    /// directories that belongs to this user alone, or can be created that way:
    /// $XDG_RUNTIME_DIR/pfs, /run/user/UID/pfs, /tmp/pfs-UID, /run/pfs. pfs looks for a daemon in
    /// the same places, in the same order. A second daemon of the same user needs an explicit
    /// socket, because pfs would find only one of the two. A daemon on /run/pfs/pfsd.sock serves
    /// all users whom listen.socket_mode lets in and who have no daemon of their own.
    #[arg(long, value_name = "PATH", env = "PFSD_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,

    /// Serve HTTP on this address, such as 127.0.0.1:4437
    ///
    /// 4437, :4437 and localhost:4437 are the same; 0.0.0.0:4437 is all IPv4 addresses of the
    /// machine. Port 0 picks a free port, which the log shows. Default: listen.http of the
    /// configuration, else HTTP is off. Listening beyond loopback requires auth.token_file or
    /// http.client_ca in the configuration.
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = parse_listen_address,
        env = "PFSD_HTTP",
        hide_env_values = true
    )]
    pub http: Option<SocketAddr>,

    /// Mount the streams of another daemon: /edge=http://HOST:4437/streamfs
    ///
    /// The streams of the mount /streamfs of that daemon are then here, below /edge. The last part
    /// of the URL is the mount there; without a path, /streamfs is meant. Can be given several
    /// times. A mount that needs a token or certificates is set in the configuration.
    #[cfg(feature = "remote")]
    #[arg(long = "mount", value_name = "PATH=URL", value_parser = crate::config::parse_mount)]
    pub mounts: Vec<crate::config::Remote>,

    /// Check the configuration, print the result and exit with 0 or 1
    #[arg(long)]
    pub check_config: bool,

    /// Have the running daemon reload tokens, certificates and limits, print the outcome and exit
    /// with 0 or 1
    ///
    /// The daemon is the one on --socket, or where pfsd would serve with --config. It reloads the
    /// configuration file that it was started with. Only root and the daemon's user may ask.
    #[arg(long, conflicts_with = "check_config")]
    pub reload: bool,

    /// Set by `pfs` when it starts a daemon: the daemon keeps no directory in use, and exits when
    /// no client uses it.
    #[arg(long, hide = true)]
    pub autostarted: bool,

    /// Log filter: off, error, warn, info, debug or trace, or levels of targets: info,requests=off
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "PFSD_LOG",
        hide_env_values = true
    )]
    pub log: String,

    /// Format of the log on stderr
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

/// The format of the log on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

const EXAMPLES: &str = "\
Examples:
  pfsd                                          serve /streamfs on the default socket
  pfsd --http 127.0.0.1:4437                    streams as URLs: http://127.0.0.1:4437/streamfs/cam
  pfsd --config /etc/pfs/pfsd.toml --log-format json
  pfsd --config pfsd.toml --check-config
  pfsd --config pfsd.toml --reload              new tokens, certificates and limits; no stream is lost";

/// The sections of the manual after the options: a heading, and text that is shown verbatim.
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
  shm = "same-user"              # clients that share memory with the daemon:
                                 # those of its user, or "all" of the socket
  #http = "127.0.0.1:4437"       # HTTP is off unless set; see below

  [http]
  allowed_hosts = []             # names of the daemon, besides localhost and
                                 # the address that a client connects to
  allowed_origins = []           # sites whose pages may use the daemon (CORS),
                                 # such as "https://player.example.org"
  #certificate = "/etc/pfs/certificate.pem"  # both are needed for HTTPS
  #key = "/etc/pfs/key.pem"
  #client_ca = "/etc/pfs/clients.pem"        # clients must show a
                                 # certificate signed by this CA

  [auth]
  #token_file = "/etc/pfs/token" # permissions over HTTP; see below

  #[mounts.edge]                 # streams of another daemon
  #path = "/edge"
  #url = "https://camera.example.org:4437/streamfs"  # or a list
  #token_file = "/etc/pfs/camera.token"
  #ca_file = "/etc/pfs/camera-ca.pem"
  #client_cert_file = "/etc/pfs/client.pem"  # with its key
  #read_only = false             # true: clients here cannot change streams
  #keep = "30s"                  # how long a stream that nobody reads is
                                 # still followed; or "always"

  [limits]
  max_streams = 1000000
  max_memory = "1GB"             # all streams together; incoming and outgoing
                                 # data may each take an eighth more;
                                 # default: 1GB, or half of the limit of
                                 # the control group if that is less
  #max_streams_per_user = 64     # quotas, off unless set; see below
  #max_memory_per_user = "256MB"
  #max_streams_per_token = 16
  #max_memory_per_token = "64MB"
  max_connections = 16384        # on the socket and over HTTP together
  max_connections_per_address = 8192  # over HTTP; default: half of them
  #max_block_time = "30s"        # a block reader that keeps a writer waiting
                                 # for longer becomes a drop reader; off
                                 # unless set
  #idle_ttl = "1day"             # an open stream without readers and writers
                                 # for this long is removed; off unless set;
                                 # see below
  #idle_exit = "10m"             # the daemon exits after this long without
                                 # streams and clients; or "never"; default:
                                 # 10m for a daemon that pfs started, else
                                 # never
  max_header_size = "32KB"       # all headers of a request
  header_time = "10s"            # until all headers have arrived
  idle_time = "60s"              # between requests
  body_stall_time = "30s"        # silence in a body of known length; a body of
                                 # unknown length may be silent for ever
  long_poll_time = "20s"         # of the Durable Streams protocol

  # Sizes are bytes (524288) or text with a unit: B, KB, MB, GB, TB
  # or KiB, MiB, GiB, TiB, all 1024-based. Times are text: "500ms",
  # "10s", "2m". File names are absolute paths; certificates and keys
  # are PEM."#,
    ),
    (
        "Reloading",
        r#"  pfsd --reload, or SIGHUP, makes the running daemon read its
  configuration file again, and the files that the configuration names.
  Flags and the environment still override the file. The daemon applies
  the new tokens, certificates (http.certificate, http.key,
  http.client_ca) and all keys of [limits]. Nothing restarts: no
  connection is cut, and no stream is lost. Any other changed key is
  named in a warning, and takes effect at the next start. If anything is
  wrong, nothing changes, and the message names file, line and key.

  tokens        Requests of a removed token are cut off: a reader or
                writer is told that the tokens were reloaded, and a
                response breaks. A token with fewer permissions keeps
                the requests that it still allows. If the reload
                introduces tokens, earlier requests are cut off too.
  certificates  New connections use the new certificates. An existing
                connection keeps the certificates of its handshake.
  limits        Existing streams and connections beyond a lower limit
                stay; new ones are refused until enough are gone. A new
                time applies to operations that begin afterwards;
                max_block_time applies also to writers that wait
                already. idle_ttl applies to all streams, from their
                last use on; idle_exit counts from the reload on. A
                higher max_header_size applies to new connections.

  pfsd --reload prints the changes, or the reason why nothing changed.
  For systemd:

    [Service]
    Type=notify
    ExecStart=/usr/bin/pfsd --config /etc/pfs/pfsd.toml
    ExecReload=/usr/bin/pfsd --reload --config /etc/pfs/pfsd.toml

  systemctl reload then fails with that reason. With Type=notify-reload
  and no ExecReload, systemd sends SIGHUP, and only the log has the
  reason."#,
    ),
    (
        "HTTP",
        "  A stream is a URL: curl http://127.0.0.1:4437/streamfs/cam follows the
  stream, and curl -T - appends to it. HTTP/1.1 and HTTP/2; chunks of a
  body are at most 64 KiB.

  Without auth.token_file and http.client_ca, a client that can connect
  may do everything, as on the socket; pfsd then starts on loopback
  addresses only. With both, clients need a certificate and a token.

  The daemon refuses a request for a host name that is not its own
  (421), and a request from a page of another site (403): a web page
  cannot reach the daemon through a visitor's browser. A link that a
  person follows is not refused.",
    ),
    (
        "Tokens",
        "  auth.token_file has one line per token:

    # TOKEN [SCOPES [PREFIX...]]
    41d0a1ccd2b44d7aab1c        read,write,block
    9b3e52c1f04e4f5c9a77        read         /streamfs/cam
    c1fe0bd5c7aa4ab0b1f0        write        /streamfs/a /streamfs/b

  The scope read allows to read, stat and list; write allows to create,
  append, close and remove; block allows to read with the slow policy
  block, for which writers wait. A token without prefixes is valid for
  all paths, and a token without scopes has all three. The lines of one
  token add up. A token has 16 characters or more; create one with:
  openssl rand -hex 32. Clients send the token as Authorization: Bearer
  TOKEN. The daemon refuses an unknown token with 401, and a token that
  does not allow the request with 403. Only /healthz and the page of the
  dashboard need no token; /metrics needs read on /. pfsd --reload reads
  the file again.",
    ),
    (
        "Quotas",
        "  max_streams_per_user and max_memory_per_user limit the streams that
  one user (uid) has created over the socket, and the rings of these
  streams; max_streams_per_token and max_memory_per_token limit the
  streams that were created with one token over HTTP. A stream counts
  for its creator, even if others write to it, until it is removed. A
  removed stream whose memory a client still maps counts until that
  client has left.

  A creation beyond a quota is refused: pfs exits with 1, HTTP answers
  429. Existing streams take appends and can be replaced. max_streams
  and max_memory also apply, to all streams together; a quota may be
  larger. A client over HTTP without a token has no quota. Clients of
  the socket whose uid is unknown count as one user together.",
    ),
    (
        "Idle streams",
        "  limits.idle_ttl removes idle streams that were never closed. A
  stream is idle from its creation on, or since its last reader or
  writer left. An attached reader or writer keeps the stream, even if
  nothing is appended and nothing is read. pfs stat and pfs ls do not
  keep the stream.

  A stream that was created with a time to live (pfs create --ttl) or
  an expiry time follows that time instead, longer or shorter. A closed
  stream without such a time stays until it is removed.",
    ),
    (
        "Service manager",
        "  pfsd serves listening sockets that the service manager passes (systemd's
  LISTEN_FDS): a Unix socket in place of --socket, and a TCP socket for
  HTTP in place of --http. pfsd reports to NOTIFY_SOCKET (Type=notify)
  when it serves and when it shuts down.",
    ),
    (
        "Life",
        "  pfs starts a daemon when none answers. This daemon has / as its working
  directory and a session of its own, logs to pfsd.log beside its socket,
  and exits after limits.idle_exit without a stream and a client. Any
  other daemon exits when idle only if the key is set.

  When the socket, its directory or its lock file is deleted (at logout,
  or by a program that cleans /tmp), the daemon creates them again, as at
  the start. Connected clients notice nothing. The parent directory must
  exist; until then, the daemon tries again every second. If another
  daemon already serves at the path, the first daemon leaves it alone:
  the first daemon serves its clients and HTTP, takes the path back when
  the path is free, and without HTTP exits when its last client has left.
  A socket that the service manager passed is not created again.",
    ),
    (
        "Signals",
        "  SIGTERM, SIGINT  tell every client, finish the data in flight and
                   exit 0 within 5 seconds; a second signal exits at
                   once, with 143 or 130
  SIGHUP           reload the configuration; without a configuration
                   file, the log says that there is nothing to reload

  pfs stop does the same as SIGTERM, waits for the end and prints the
  streams that are lost. Use systemctl stop for a daemon that is
  a service: with socket activation or Restart=always, systemd restarts
  the daemon after pfs stop.",
    ),
    (
        "Exit status",
        "  0                ended by a signal or pfs stop, the configuration is
                   valid, or it was reloaded
  1                could not start, the configuration is not valid, or it
                   was not reloaded: it was refused, no daemon answers,
                   or this user is not allowed to reload it
  2                wrong usage
  130, 143         ended at once by a second signal",
    ),
    (
        "Examples",
        "  pfsd
  pfsd --http 127.0.0.1:4437
  pfsd --config /etc/pfs/pfsd.toml --log-format json
  pfsd --config pfsd.toml --check-config
  pfsd --config pfsd.toml --reload",
    ),
];

fn long_help() -> String {
    let parts: Vec<String> =
        MANUAL.iter().map(|(heading, text)| format!("{heading}:\n{text}")).collect();
    parts.join("\n\n")
}

/// Returns the command line for clap; the manual and the completions are generated from it.
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
        assert_eq!(config, default, "the example must show the defaults");
        // Keys without a default are commented out; they must be valid too.
        let uncommented = |line: &str| {
            let key = line.trim_start().strip_prefix('#');
            let is_toml = |key: &&str| key.starts_with(|it: char| it.is_lowercase() || it == '[');
            key.filter(is_toml).unwrap_or(line).to_owned()
        };
        let all: Vec<String> = example.lines().map(uncommented).collect();
        let config = crate::config::Config::from_toml(&all.join("\n"), "help", None).unwrap();
        assert!(config.http.tls.is_some() && config.http.token_file.is_some());
    }
}
