//! The command line: every command and flag, as clap types. Help, manual and completions come from
//! here.

mod bench;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anstream::ColorChoice;
use clap::{
    ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint,
    builder::styling::{AnsiColor, Styles},
};
use pfs_proto::{PathPrefix, SlowPolicy, Start, StreamPath};
use serde::{Deserialize, Serialize};

pub use self::bench::{BenchArgs, Transport};
use crate::{
    age::parse_duration,
    examples,
    paths::PathParser,
    size::{parse_size, parse_size_or_zero},
    until::{Until, parse_until},
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Live byte streams between processes, from the shell
///
/// A stream is a named, append-only sequence of bytes that the daemon pfsd keeps in memory. Any
/// number of writers append to it and any number of readers follow it, each at its own pace,
/// starting with the history that the stream's ring still holds. What a reader loses is reported to
/// the byte, and a writer or daemon that dies is never mistaken for the end of a stream.
///
/// Output goes to standard output byte for byte, everything else to standard error. Sizes are bytes
/// or a number with a unit (10M, 512KB, 1.5MB, 6MiB; K, KB and KiB are 1024), durations a number
/// with a unit (500ms, 10s, 1h30m).
///
/// When no daemon answers on the default socket, pfs starts pfsd and goes on. With --url, every
/// command works on a daemon elsewhere.
#[derive(Debug, Parser)]
#[command(name = "pfs", version, styles = STYLES, after_help = examples::PFS, arg_required_else_help = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Socket of the daemon, also in PFS_SOCKET; without one, a daemon is looked for, or started
    ///
    /// Where no socket and no URL is given, pfs uses the first of these sockets on which a daemon
    /// answers: $XDG_RUNTIME_DIR/pfs/pfsd.sock, /run/user/UID/pfs/pfsd.sock,
    /// /tmp/pfs-UID/pfsd.sock, /run/pfs/pfsd.sock. If none answers, a daemon is started on the
    /// first that can be in a directory of this user alone. A directory of another user, or one
    /// that others can write to, is passed over; with -v, pfs says which. When a socket is given,
    /// here or in PFS_SOCKET, no daemon is started. This flag beats the variable.
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// URL of the daemon, in place of a socket, also in PFS_URL
    ///
    /// http://HOST:PORT or https://HOST:PORT; http:// may be left out, and the port is 4437 where none is named. A path belongs to it if the daemon is
    /// behind a reverse proxy that serves it below one. Everything is as it is over a socket, but
    /// for memory, which is not shared. When the connection breaks while a stream is read, pfs
    /// connects again for up to 5 seconds and goes on where it was, if it finds the same stream
    /// there; it says so on standard error. No daemon is started.
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url, conflicts_with = "socket")]
    pub url: Option<String>,
    /// File that holds the token to show to the daemon at the URL, also in PFS_TOKEN_FILE;
    /// PFS_TOKEN holds the token itself
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// File with certificates (PEM) to trust at the URL besides the system's, also in PFS_CA_FILE
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca_file: Option<PathBuf>,
    /// File with a certificate and its private key (PEM) to show at the URL, also in
    /// PFS_CLIENT_CERT_FILE
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub client_cert_file: Option<PathBuf>,
    /// Share no memory with the daemon: send and get every byte over the connection
    ///
    /// On Linux, a reader on the daemon's machine maps the stream's ring and reads it for itself,
    /// and a writer puts its input where the daemon finds it. Both are faster, and results are
    /// the same to the byte.
    #[arg(long, global = true)]
    pub no_shm: bool,
    /// Say nothing but errors and losses
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say what is being done
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to color messages, help and tables
    ///
    /// With auto, on a terminal. NO_COLOR, CLICOLOR_FORCE, CLICOLOR and TERM=dumb have the effect
    /// that they have on other programs. This flag beats the variables. What is printed of a
    /// stream is never colored.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Append standard input, files or the output of a command to a stream
    ///
    /// The stream is created if there is none. With --stream or --lines, what arrives on the input
    /// is appended at once; without them, the input is read to its end and appended as one
    /// chunk. Readers get a chunk whole or not at all.
    ///
    /// When pfs ends with 0, every byte that it read is in the stream, and any reader that starts
    /// afterwards finds it, while the ring holds it.
    #[command(aliases = ["pub", "publish", "append"])]
    Write(WriteArgs),
    /// Print a stream as it grows, or a document
    ///
    /// With --stream, or any flag about streams, the history that the stream's ring holds is
    /// printed and then what is appended, until the stream is closed. A stream that does not
    /// exist yet is waited for; nothing is created.
    ///
    /// Bytes that the ring gave up before they could be printed are lost. Each such range is
    /// reported on standard error as it happens, also with --quiet, as
    ///
    /// pfs: gap: lost bytes 1000..2000 (1000 bytes, 3 chunks) of /streamfs/cam
    ///
    /// where the first offset is lost and the last one is not. Where nobody knows any more how many
    /// chunks it was, their number is left out. pfs then ends with 4.
    ///
    /// Without --stream, a document such as /streamfs/README is printed.
    #[command(aliases = ["read", "get", "sub", "subscribe", "tail", "follow"])]
    Cat(CatArgs),
    /// Create a stream with sizes of its own
    ///
    /// Writing to a stream creates it with the daemon's defaults; this creates it with others. A
    /// stream that exists already is an error (9) and is left as it is, unless --exist-ok or
    /// --replace says otherwise.
    ///
    /// The ring is the larger of both sizes, and the largest chunk is the smaller of them.
    Create(CreateArgs),
    /// Close streams: no more appends, readers get the end
    ///
    /// What the ring holds can still be read, by new readers too. Closing a closed stream changes
    /// nothing.
    Close(CloseArgs),
    /// Remove streams and all that they hold
    ///
    /// Readers and writers are told; for them it is not the end of the stream but an error.
    #[command(aliases = ["remove", "delete", "del"])]
    Rm(RmArgs),
    /// List streams
    ///
    /// Prints the full path of each stream on a line of its own, sorted.
    #[command(alias = "list")]
    Ls(LsArgs),
    /// Show the stats of streams, their writers and readers
    ///
    /// For each reader: its process, position, lag, what happens when it cannot keep up, what it
    /// lost, and whether a writer is waiting for it. The daemon's own stats are those of pfs
    /// info.
    Stat(StatArgs),
    /// Show the daemon: its version, process, age, and use of its limits
    ///
    /// No daemon is started. When none answers, pfs ends with 5. A daemon of any version is shown.
    #[command(visible_alias = "status")]
    Info(InfoArgs),
    /// End the daemon in order, and say what is lost by it
    ///
    /// As SIGTERM does: every client is told that the daemon goes, and all streams end with it. pfs
    /// waits until the daemon has ended. Only root and the daemon's user may, and only over its
    /// socket. A service manager may start the daemon again, at once or for the next client:
    /// use systemctl stop where pfsd is a service.
    ///
    /// No daemon is started. When none answers, pfs ends with 5.
    Stop(StopArgs),
    /// Measure what streams do on this machine
    ///
    /// Starts readers and writers, each a process of its own, on a stream that is made for it
    /// (pfs-bench-PID in the daemon's first mount) and removed at the end, however that comes
    /// about. When all are attached, the writers begin. Readers check in every chunk who wrote
    /// it, that it is the right one, and that it is whole.
    ///
    /// It is the daemon that pfs would use anyway: what else it does counts, too. Ends with 4 if
    /// data was lost.
    Bench(BenchArgs),
}

/// What `pfs write` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::WRITE)]
#[command(group = ArgGroup::new("streaming").multiple(true))]
pub struct WriteArgs {
    /// Path of the stream, such as /streamfs/cam
    #[arg(value_parser = PathParser::<StreamPath>::new())]
    pub path: StreamPath,
    /// Files to append in this order, in place of standard input; - is standard input
    ///
    /// They are one input, as for cat(1): without --stream or --lines, all of them are appended as
    /// one chunk.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "command")]
    pub files: Vec<PathBuf>,
    /// Append input as it arrives, not at its end as one chunk
    #[arg(long, group = "streaming")]
    pub stream: bool,
    /// Append input as it arrives, in whole lines: no line is ever split
    ///
    /// --stream is implied. Chunks end only after a newline, or at the end of the input. Neither a
    /// gap nor another writer's chunk comes between the bytes of a line. A line that is larger
    /// than the stream takes as one chunk is an error; the lines before it are appended.
    #[arg(long, group = "streaming")]
    pub lines: bool,
    /// Close the stream at the end of the input
    ///
    /// Readers then get the end when they have read everything.
    #[arg(long)]
    pub close: bool,
    /// Begin a new stream in place of one that there is, also if that is closed
    ///
    /// The old stream is removed and the new one made in one step, before the first byte. Who
    /// reads the old one is told that it was removed, and ends with 7.
    #[arg(long)]
    pub replace: bool,
    /// Begin only when this many readers are attached
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub wait_readers: u32,
    /// Largest chunk to make; nothing waits for a chunk to fill
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_size, requires = "streaming")]
    pub chunk_size: u64,
    /// Copy standard input to standard output, too
    ///
    /// When the reader of standard output is gone, pfs stops reading and appends what it has read.
    #[arg(long)]
    pub tee: bool,
    /// Show progress on standard error in any case
    ///
    /// Without this flag, progress is shown on a terminal on which nothing else is printed: when
    /// the input is a file.
    #[arg(long)]
    pub progress: bool,
    /// Command whose standard output is appended, in place of standard input
    ///
    /// It is started when the readers are there that are waited for. When its output has come to
    /// its end and it has ended, pfs ends with its exit code: 128 and the signal's number if it
    /// was killed, 126 or 127 if it cannot be started. With 0, the stream is as it should be.
    /// With any other code it is not all there, and readers are told so: with --close the stream
    /// is closed as failed and every reader ends with 8, without it readers with --until
    /// writers-gone do.
    ///
    /// If pfs itself fails, it says so, sends the command SIGTERM, waits for it, and ends with its
    /// own code. While the command runs, pfs passes SIGTERM and SIGHUP on to it, and SIGINT
    /// where that does not come from their terminal.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandName)]
    pub command: Vec<OsString>,
}

/// What `pfs cat` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::CAT)]
#[command(group = ArgGroup::new("following").multiple(true))]
pub struct CatArgs {
    /// Path of the stream or document
    #[arg(value_parser = PathParser::<StreamPath>::new())]
    pub path: StreamPath,
    /// Follow a stream; --new, --tail, --since, --offset, --until and --slow imply it
    #[arg(long, short = 'f', visible_alias = "follow", group = "following")]
    pub stream: bool,
    /// Where to start.
    #[command(flatten)]
    pub start: StartArgs,
    /// When to end: closed, caught-up, writers-gone or idle=DURATION
    ///
    /// closed: when the stream is closed. caught-up: when everything is printed that was there at
    /// the start; a missing stream is then an error (3). writers-gone: when the last writer has
    /// finished, as with a FIFO; if one died or failed instead, pfs ends with 8. idle=DURATION:
    /// when nothing arrived for so long. The end of a closed stream is the end in any case; if
    /// it was closed as failed, pfs ends with 8. Default: closed.
    #[arg(long, value_name = "END", value_parser = parse_until, group = "following")]
    pub until: Option<Until>,
    /// What to do when this reader cannot keep up; drop if not given
    #[arg(long, value_name = "POLICY", group = "following")]
    pub slow: Option<Slow>,
    /// Show progress on standard error in any case
    ///
    /// Without this flag, progress is shown on a terminal on which nothing else is printed: when
    /// the output goes to a file.
    #[arg(long, requires = "following")]
    pub progress: bool,
}

impl CatArgs {
    /// Whether a stream is followed: any flag that is about streams says so.
    pub fn follows(&self) -> bool {
        self.stream || self.start.is_given() || self.until.is_some() || self.slow.is_some()
    }
}

/// Where to start; without any, at the oldest chunk that a new reader gets.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub struct StartArgs {
    /// Start with what is appended from now on
    #[arg(long, group = "following")]
    pub new: bool,
    /// Start with the last SIZE bytes
    ///
    /// Exactly that many, in the middle of a chunk if need be; fewer only where the ring holds
    /// fewer.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_or_zero, allow_negative_numbers = true)]
    #[arg(group = "following")]
    pub tail: Option<u64>,
    /// Start with the oldest chunk that was appended within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    #[arg(group = "following")]
    pub since: Option<Duration>,
    /// Start at this offset: a size in bytes, counted from the stream's creation
    ///
    /// What the ring no longer holds of it is reported as a gap; an offset past head is an error.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_or_zero, allow_negative_numbers = true)]
    #[arg(group = "following")]
    pub offset: Option<u64>,
}

impl StartArgs {
    /// Whether any of the flags is given.
    fn is_given(&self) -> bool {
        self.new || self.tail.is_some() || self.since.is_some() || self.offset.is_some()
    }

    /// The start that the flags ask for.
    pub fn start(&self) -> Start {
        match (self.new, self.tail, self.since, self.offset) {
            (true, ..) => Start::New,
            (_, Some(bytes), ..) => Start::Tail(bytes),
            (_, _, Some(duration), _) => Start::Since(duration),
            (_, _, _, Some(offset)) => Start::Offset(offset),
            _ => Start::Oldest,
        }
    }
}

/// What `pfs create` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::CREATE)]
pub struct CreateArgs {
    /// Path of the stream, such as /streamfs/cam
    #[arg(value_parser = PathParser::<StreamPath>::new())]
    pub path: StreamPath,
    /// How much history a new reader gets
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub ring_buffer_size: Option<u64>,
    /// How far a reader that was at the live edge may lag before it counts as slow
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub channel_buffer_size: Option<u64>,
    /// Remove the stream when nothing was appended for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// Media type of the contents, told to readers
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Take the memory for all that the stream may hold now, or fail
    ///
    /// Without this, it takes more as it needs more. Where no memory is left, it keeps less
    /// history, and pfs stat shows its capacity.
    #[arg(long)]
    pub reserve: bool,
    /// A stream that exists is no error, as long as it is not closed
    ///
    /// It stays as it is; what was asked for and is otherwise is said on standard error. A closed
    /// stream is an error (9).
    #[arg(long, conflicts_with = "replace")]
    pub exist_ok: bool,
    /// Remove a stream that exists, and make the new one in the same step
    ///
    /// Who reads the old one is told that it was removed, and ends with 7.
    #[arg(long)]
    pub replace: bool,
}

/// What `pfs close` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::CLOSE)]
pub struct CloseArgs {
    /// Paths of the streams
    #[arg(value_name = "PATH", required = true, value_parser = PathParser::<StreamPath>::new())]
    pub paths: Vec<StreamPath>,
    /// Close them as failed: what they hold is not all that there should be
    ///
    /// Readers get what there is, and then end with 8 in place of 0. A stream that is closed
    /// already, and not as failed, is an error (9): its readers may have come to that end.
    #[arg(long)]
    pub failed: bool,
}

/// What `pfs rm` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::RM)]
pub struct RmArgs {
    /// Paths of the streams
    #[arg(value_name = "PATH", required = true, value_parser = PathParser::<PathPrefix>::new())]
    pub paths: Vec<PathPrefix>,
    /// A stream that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
    /// Remove every stream at or below each path
    #[arg(short, long)]
    pub recursive: bool,
}

/// What `pfs ls` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::LS)]
pub struct LsArgs {
    /// List only the streams at or below these paths
    #[arg(value_name = "PATH", value_parser = PathParser::<PathPrefix>::new())]
    pub paths: Vec<PathPrefix>,
    /// Show state, size, head, writers, readers and age, too
    #[arg(short, long, conflicts_with = "json")]
    pub long: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// End each path with a NUL in place of a newline, for xargs -0
    #[arg(short = '0', long, conflicts_with_all = ["long", "json"])]
    pub null: bool,
}

/// What `pfs stat` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::STAT)]
pub struct StatArgs {
    /// Paths of the streams, or of what is above them; all streams if not given
    ///
    /// Where there is no stream of a name, all streams below it are shown.
    #[arg(value_name = "PATH", value_parser = PathParser::<PathPrefix>::new())]
    pub paths: Vec<PathPrefix>,
    /// Print one JSON object a line, for each stream
    #[arg(long)]
    pub json: bool,
    /// Go on and show the stats anew every second
    ///
    /// On a terminal, they are drawn over the last ones, as much of them as fits the window, until
    /// q is pressed. Streams that are made below a path meanwhile are shown, too.
    #[arg(long, short)]
    pub watch: bool,
}

/// What `pfs info` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::INFO)]
pub struct InfoArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What `pfs stop` takes.
#[derive(Args, Debug)]
#[command(after_help = examples::STOP)]
pub struct StopArgs {
    /// Only if the daemon has no stream and no other client; otherwise end with 1
    #[arg(long)]
    pub if_idle: bool,
}

/// When to color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal
    #[default]
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

impl From<ColorWhen> for ColorChoice {
    fn from(when: ColorWhen) -> Self {
        match when {
            ColorWhen::Auto => Self::Auto,
            ColorWhen::Always => Self::Always,
            ColorWhen::Never => Self::Never,
        }
    }
}

/// The `--color` of a command line, which holds also for what is said of a line that cannot be
/// parsed, and for help.
pub(crate) fn color(arguments: &[OsString]) -> ColorChoice {
    let mut words =
        arguments.iter().skip(1).filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    let mut when = ColorWhen::Auto;
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        when = value.and_then(|value| ColorWhen::from_str(value, false).ok()).unwrap_or(when);
    }
    when.into()
}

/// What happens to a reader that cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slow {
    /// It loses its oldest chunks, and reports which
    Drop,
    /// Writers wait for it, for limits.max_block_time at most if the daemon sets that
    Block,
    /// It is disconnected, and ends with 6
    Disconnect,
}

impl From<Slow> for SlowPolicy {
    fn from(slow: Slow) -> Self {
        match slow {
            Slow::Drop => Self::Drop,
            Slow::Block => Self::Block,
            Slow::Disconnect => Self::Disconnect,
        }
    }
}

#[cfg(test)]
mod tests;
