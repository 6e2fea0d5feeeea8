//! Command-line arguments: every command and flag, as clap types. The help, the man pages and the
//! completions are generated from this module.

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
    header::{self, HeaderArg},
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
/// number of writers append to a stream. Any number of readers follow it, each at its own pace,
/// starting with the history that is still in the stream's ring buffer. A reader that loses data is
/// told the exact byte ranges. A writer or daemon that dies is never mistaken for the end of
/// a stream.
///
/// Output goes to standard output, byte for byte; everything else goes to standard error. A size is
/// a number of bytes, or a number with a unit (10M, 512KB, 1.5MB, 6MiB; K, KB and KiB are 1024). A
/// duration is a number with a unit (500ms, 10s, 1h30m).
///
/// If no daemon answers on the default socket, pfs starts pfsd and continues. With --url, every
/// command except stop works on a remote daemon.
#[derive(Debug, Parser)]
#[command(name = "pfs", version, styles = STYLES, after_help = examples::PFS, arg_required_else_help = true)]
pub struct Cli {
    /// Global options.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Global options: flags that every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one
    ///
    /// Without a socket or a URL, pfs uses the first of these sockets on which a daemon answers:
    /// $XDG_RUNTIME_DIR/pfs/pfsd.sock, /run/user/UID/pfs/pfsd.sock, /tmp/pfs-UID/pfsd.sock,
    /// /run/pfs/pfsd.sock. If no daemon answers, pfs starts one on the first of these sockets whose
    /// directory can be private to this user. pfs skips a directory that belongs to another user or
    /// that others can write to; with -v, pfs says which. If a socket is given, here or in
    /// PFS_SOCKET, pfs starts no daemon. This flag overrides the variable.
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// URL of the daemon, in place of a socket, also in PFS_URL
    ///
    /// http://HOST:PORT or https://HOST:PORT. http:// may be left out, and the default port is
    /// 4437. Add a path if the daemon is behind a reverse proxy that serves it below that path.
    /// Commands behave as over a socket, but share no memory with the daemon. If the connection
    /// breaks while a stream is read, pfs tries for up to 5 seconds to connect again. If it finds
    /// the same stream, it continues at the same offset, and says so on standard error. pfs starts
    /// no daemon.
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url, conflicts_with = "socket")]
    pub url: Option<String>,
    /// File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds
    /// the token itself
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// File with certificates (PEM) to trust at the URL besides the system's, also in PFS_CA_FILE
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca_file: Option<PathBuf>,
    /// File with a client certificate and its private key (PEM) to present at the URL, also in
    /// PFS_CLIENT_CERT_FILE
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub client_cert_file: Option<PathBuf>,
    /// Share no memory with the daemon: send and receive every byte over the connection
    ///
    /// On Linux, a reader on the daemon's machine maps the stream's ring buffer and reads it
    /// directly, and a writer puts its input where the daemon finds it. Both are faster than the
    /// connection. The results are the same to the byte.
    #[arg(long, global = true)]
    pub no_shm: bool,
    /// Print no messages except errors and losses
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print what pfs does
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to color messages, help and tables
    ///
    /// auto uses colors on a terminal. NO_COLOR, CLICOLOR_FORCE, CLICOLOR and TERM=dumb have their
    /// usual effect. This flag overrides the variables. Stream data is never colored.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Append standard input, files or the output of a command to a stream
    ///
    /// The stream is created if it does not exist. With --stream or --lines, input is appended as
    /// soon as it arrives. Without them, pfs reads the input to its end and appends it as one
    /// chunk. Readers get a chunk whole or not at all.
    ///
    /// When pfs exits with 0, every byte that it read is in the stream. Any reader that starts
    /// afterwards gets these bytes, as long as the ring buffer holds them.
    #[command(aliases = ["pub", "publish", "append"])]
    Write(WriteArgs),
    /// Print a stream as it grows, or a document
    ///
    /// With --stream, or any flag about streams, pfs prints the history in the stream's ring buffer
    /// and then all new data, until the stream is closed. If the stream does not exist yet, pfs
    /// waits for it; pfs cat never creates a stream.
    ///
    /// Bytes that were overwritten in the ring buffer before pfs could print them are lost. Each
    /// lost range is reported on standard error when it happens, also with --quiet, as
    ///
    /// pfs: gap: lost bytes 1000..2000 (1000 bytes, 3 chunks) of /streamfs/cam
    ///
    /// The first offset is lost, the last one is not. The number of chunks is left out if it is
    /// unknown. After a loss, pfs exits with 4.
    ///
    /// Without --stream, pfs prints a document such as /streamfs/README.
    #[command(aliases = ["read", "get", "sub", "subscribe", "tail", "follow"])]
    Cat(CatArgs),
    /// Create a stream with buffer sizes and a lifetime of your choice
    ///
    /// Writing to a stream creates it with the daemon's defaults; pfs create sets other values. A
    /// stream that exists already is an error (9) and is left unchanged, except with --exist-ok
    /// or --replace.
    ///
    /// The ring buffer is as large as the larger of the two sizes. The largest chunk is the smaller
    /// of them.
    Create(CreateArgs),
    /// Close streams: no more appends, readers get the end
    ///
    /// The data in the ring buffer stays readable, also for new readers. Closing a closed stream
    /// changes nothing.
    Close(CloseArgs),
    /// Remove streams and all their data
    ///
    /// Readers and writers are told. For them, removal is an error and not the end of the stream.
    #[command(aliases = ["remove", "delete", "del"])]
    Rm(RmArgs),
    /// List streams
    ///
    /// Prints the full path of each stream on its own line, sorted.
    #[command(alias = "list")]
    Ls(LsArgs),
    /// Show the stats of streams, their writers and readers
    ///
    /// For each reader: process, position, lag, policy when it is slow, losses, and whether a
    /// writer is waiting for it. The stats of the daemon are in pfs info.
    Stat(StatArgs),
    /// Show the daemon: its version, process, age, and use of its limits
    ///
    /// Shows a daemon of any version. Starts no daemon; if none answers, pfs exits with 5.
    #[command(visible_alias = "status")]
    Info(InfoArgs),
    /// Shut the daemon down gracefully, and say what is lost
    ///
    /// Does what SIGTERM does: the daemon tells every client that it shuts down, and all streams
    /// end with it. pfs waits until the daemon has exited. Only root and the daemon's user may stop
    /// it, and only over its socket. A service manager may start the daemon again, at once or for
    /// the next client: if pfsd is a service, use systemctl stop.
    ///
    /// Starts no daemon; if none answers, pfs exits with 5.
    Stop(StopArgs),
    /// Measure the throughput or latency of streams on this machine
    ///
    /// Creates a stream (pfs-bench-PID in the daemon's first mount) and starts readers and writers
    /// on it, each in its own process. The stream is removed at the end, also if pfs is killed. The
    /// writers begin when all are attached. Readers check each chunk: which writer wrote it, that
    /// it is the expected one, and that it is intact.
    ///
    /// pfs bench uses the same daemon as other commands, so other work of the daemon affects the
    /// result. Exits with 4 if data was lost.
    Bench(BenchArgs),
}

/// Arguments of `pfs write`.
#[derive(Args, Debug)]
#[command(after_help = examples::WRITE)]
#[command(group = ArgGroup::new("streaming").multiple(true))]
pub struct WriteArgs {
    /// Path of the stream, such as /streamfs/cam
    #[arg(value_parser = PathParser::<StreamPath>::new())]
    pub path: StreamPath,
    /// Files to append in this order, in place of standard input; - is standard input
    ///
    /// The files are concatenated, as by cat(1): without --stream or --lines, all of them are
    /// appended as one chunk.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "command")]
    pub files: Vec<PathBuf>,
    /// Append input as it arrives, not at its end as one chunk
    #[arg(long, group = "streaming")]
    pub stream: bool,
    /// Append input as it arrives, in whole lines: no line is ever split
    ///
    /// Implies --stream. Chunks end only after a newline, or at the end of the input. Neither a gap
    /// nor a chunk of another writer falls inside a line. A line that is larger than the stream's
    /// largest chunk is an error; the lines before it are appended.
    #[arg(long, group = "streaming")]
    pub lines: bool,
    /// Close the stream at the end of the input
    ///
    /// Readers get the end after they have read everything.
    #[arg(long)]
    pub close: bool,
    /// Replace an existing stream with a new one, also if it is closed
    ///
    /// The old stream is removed and the new one is created in one step, before the first byte.
    /// Readers of the old stream are told that it was removed, and exit with 7.
    #[arg(long)]
    pub replace: bool,
    /// Media type of a stream that this command creates, such as text/csv or video/mp2t
    ///
    /// Readers over HTTP get the media type as Content-Type. An existing stream keeps its own media
    /// type. A stream without a media type gets that of its format, if the daemon recognises the
    /// format by the first bytes.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Header for readers that join later: a file, or a number of first bytes of the input
    ///
    /// For formats that the daemon does not recognise; the header takes the place of whatever the
    /// daemon finds itself. FILE is appended before the input. With SIZE, the header is the first
    /// SIZE bytes of the input. A reader that joins later gets the header, and then whole chunks.
    /// The header stays in effect until another writer names one. Write ./137 for a file named 137.
    #[arg(long, value_name = "FILE|SIZE", value_parser = header::parse, value_hint = ValueHint::FilePath)]
    pub header: Option<HeaderArg>,
    /// Begin only when this many readers are attached
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub wait_readers: u32,
    /// Largest chunk to make; pfs never waits for a chunk to fill
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_size, requires = "streaming")]
    pub chunk_size: u64,
    /// Copy standard input to standard output, too
    ///
    /// When the reader of standard output is gone, pfs stops reading and appends what it has read.
    #[arg(long)]
    pub tee: bool,
    /// Show progress on standard error in any case
    ///
    /// Without this flag, progress is shown only on a terminal where nothing else is printed: when
    /// the input is a file.
    #[arg(long)]
    pub progress: bool,
    /// Command whose standard output is appended, in place of standard input
    ///
    /// The command is started after the readers of --wait-readers have attached. When the output
    /// has ended and the command has exited, pfs exits with the command's exit code: 128 plus the
    /// signal's number if the command was killed, 126 or 127 if it cannot be started. With 0, the
    /// stream is complete. With any other code the stream is incomplete, and readers are told: with
    /// --close, the stream is closed as failed and every reader exits with 8; without --close,
    /// readers with --until writers-gone exit with 8.
    ///
    /// If pfs itself fails, it prints the reason, sends SIGTERM to the command, waits for the
    /// command to exit, and exits with its own code. While the command runs, pfs passes SIGTERM and
    /// SIGHUP on to it. pfs also passes SIGINT on, unless their terminal sent SIGINT to both.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandName)]
    pub command: Vec<OsString>,
}

/// Arguments of `pfs cat`.
#[derive(Args, Debug)]
#[command(after_help = examples::CAT)]
#[command(group = ArgGroup::new("following").multiple(true))]
pub struct CatArgs {
    /// Path of the stream or document
    #[arg(value_parser = PathParser::<StreamPath>::new())]
    pub path: StreamPath,
    /// Follow a stream; --new, --tail, --since, --offset, --until, --slow and --join imply it
    #[arg(long, short = 'f', visible_alias = "follow", group = "following")]
    pub stream: bool,
    /// Where to start.
    #[command(flatten)]
    pub start: StartArgs,
    /// When to end: closed, caught-up, writers-gone, format-change or idle=DURATION
    ///
    /// closed: when the stream is closed. caught-up: when everything that was in the stream at the
    /// start is printed; a missing stream is then an error (3). writers-gone: when the last writer
    /// has finished, as with a FIFO; if a writer died or failed instead, pfs exits with 8.
    /// format-change: when a writer starts over with a header that a decoder does not accept in the
    /// middle of its input; pfs ends before that header. format-change cannot be used with --join
    /// raw or --offset. idle=DURATION: when nothing arrived for this long. pfs always ends at the
    /// end of a closed stream; if the stream was closed as failed, pfs exits with 8. Default:
    /// closed.
    #[arg(long, value_name = "END", value_parser = parse_until, group = "following")]
    pub until: Option<Until>,
    /// Policy when this reader cannot keep up; drop if not given
    #[arg(long, value_name = "POLICY", group = "following")]
    pub slow: Option<Slow>,
    /// How to join media in the middle: auto, sync or raw
    ///
    /// auto: if the stream is in a media format that pfs knows, and printing does not begin at
    /// offset 0, pfs prints the header that a decoder needs, and then the stream from an offset
    /// where a decoder can start. This is the oldest such offset in the ring buffer; with --new the
    /// latest one; with --tail or --since the nearest one before the start. If the ring buffer
    /// holds none, pfs waits for the next one. After a gap, pfs continues at the next such offset,
    /// and the bytes that it left out are part of the gap. If a writer named a header or marked
    /// such offsets, pfs uses these instead, but neither waits for one nor looks for one after a
    /// gap: it then continues with a whole chunk. Streams in other formats are printed as they are,
    /// and so is every stream with --offset. sync: the same, and text starts with a whole line; CSV
    /// (media type text/csv) starts with the first line of the stream. raw: exactly the bytes of
    /// the stream. Default: auto.
    #[arg(long, value_name = "HOW", group = "following")]
    pub join: Option<Join>,
    /// Show progress on standard error in any case
    ///
    /// Without this flag, progress is shown only on a terminal where nothing else is printed: when
    /// the output goes to a file.
    #[arg(long, requires = "following")]
    pub progress: bool,
}

impl CatArgs {
    /// Returns true if any flag about streams is given, so that `pfs cat` follows a stream.
    pub fn follows(&self) -> bool {
        self.stream
            || self.start.is_given()
            || self.until.is_some()
            || self.slow.is_some()
            || self.join.is_some()
    }
}

/// Where a reader starts. Default: the oldest chunk that a new reader gets.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub struct StartArgs {
    /// Start with what is appended from now on
    #[arg(long, group = "following")]
    pub new: bool,
    /// Start with the last SIZE bytes
    ///
    /// Exactly this many, even if the start is in the middle of a chunk; fewer only if the ring
    /// buffer holds fewer.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_or_zero, allow_negative_numbers = true)]
    #[arg(group = "following")]
    pub tail: Option<u64>,
    /// Start with the oldest chunk that was appended within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    #[arg(group = "following")]
    pub since: Option<Duration>,
    /// Start at this offset: a size in bytes, counted from the stream's creation
    ///
    /// Bytes after this offset that the ring buffer no longer holds are reported as a gap. An
    /// offset past head is an error.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_or_zero, allow_negative_numbers = true)]
    #[arg(group = "following")]
    pub offset: Option<u64>,
}

impl StartArgs {
    /// Returns true if any of the flags is given.
    fn is_given(&self) -> bool {
        self.new || self.tail.is_some() || self.since.is_some() || self.offset.is_some()
    }

    /// Returns the start position that the flags ask for.
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

/// Arguments of `pfs create`.
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
    /// Allocate now all memory that the stream may use, or fail
    ///
    /// Without this flag, the stream allocates memory as it grows. If no memory is left, it keeps
    /// less history; pfs stat shows its capacity.
    #[arg(long)]
    pub reserve: bool,
    /// Accept an existing stream, if it is not closed
    ///
    /// The stream stays unchanged; each setting that differs from the request is reported on
    /// standard error. A closed stream is an error (9).
    #[arg(long, conflicts_with = "replace")]
    pub exist_ok: bool,
    /// Remove an existing stream, and create the new one in the same step
    ///
    /// Readers of the old stream are told that it was removed, and exit with 7.
    #[arg(long)]
    pub replace: bool,
}

/// Arguments of `pfs close`.
#[derive(Args, Debug)]
#[command(after_help = examples::CLOSE)]
pub struct CloseArgs {
    /// Paths of the streams
    #[arg(value_name = "PATH", required = true, value_parser = PathParser::<StreamPath>::new())]
    pub paths: Vec<StreamPath>,
    /// Close them as failed: their data is incomplete
    ///
    /// Readers get the data, and then exit with 8 in place of 0. A stream that is already closed,
    /// but not as failed, is an error (9): its readers may have reached that end.
    #[arg(long)]
    pub failed: bool,
}

/// Arguments of `pfs rm`.
#[derive(Args, Debug)]
#[command(after_help = examples::RM)]
pub struct RmArgs {
    /// Paths of the streams
    #[arg(value_name = "PATH", required = true, value_parser = PathParser::<PathPrefix>::new())]
    pub paths: Vec<PathPrefix>,
    /// Ignore streams that do not exist
    #[arg(short, long)]
    pub force: bool,
    /// Remove every stream at or below each path
    #[arg(short, long)]
    pub recursive: bool,
}

/// Arguments of `pfs ls`.
#[derive(Args, Debug)]
#[command(after_help = examples::LS)]
pub struct LsArgs {
    /// List only the streams at or below these paths
    #[arg(value_name = "PATH", value_parser = PathParser::<PathPrefix>::new())]
    pub paths: Vec<PathPrefix>,
    /// Show state, size, head, writers, readers and age, too
    #[arg(short, long, conflicts_with = "json")]
    pub long: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// End each path with a NUL in place of a newline, for xargs -0
    #[arg(short = '0', long, conflicts_with_all = ["long", "json"])]
    pub null: bool,
}

/// Arguments of `pfs stat`.
#[derive(Args, Debug)]
#[command(after_help = examples::STAT)]
pub struct StatArgs {
    /// Paths of streams, or of what is above them; all streams if not given
    ///
    /// If a path names no stream, all streams below it are shown.
    #[arg(value_name = "PATH", value_parser = PathParser::<PathPrefix>::new())]
    pub paths: Vec<PathPrefix>,
    /// Print one JSON object per line, one for each stream
    #[arg(long)]
    pub json: bool,
    /// Show the stats again every second
    ///
    /// On a terminal, the new stats are drawn over the old ones, as many lines as fit the window,
    /// until q is pressed. New streams below a path are shown, too.
    #[arg(long, short)]
    pub watch: bool,
}

/// Arguments of `pfs info`.
#[derive(Args, Debug)]
#[command(after_help = examples::INFO)]
pub struct InfoArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `pfs stop`.
#[derive(Args, Debug)]
#[command(after_help = examples::STOP)]
pub struct StopArgs {
    /// Stop only if the daemon has no stream and no other client; otherwise exit with 1
    #[arg(long)]
    pub if_idle: bool,
}

/// When to use colors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
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

/// Finds `--color` in the raw arguments. Help, and errors about a line that clap cannot parse,
/// follow the flag too.
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

/// Policy for a reader that cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slow {
    /// The reader loses the oldest chunks, and reports which
    Drop,
    /// Writers wait for the reader, for limits.max_block_time at most if the daemon sets it
    Block,
    /// The reader is disconnected, and exits with 6
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

/// How `pfs cat` joins media in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Join {
    /// Media: the header, then the stream from an offset where a decoder can start
    #[default]
    Auto,
    /// Also text: from a whole line on; CSV: the first line of the stream, then whole lines
    Sync,
    /// Exactly the bytes of the stream
    Raw,
}

impl From<Join> for pfs_proto::Join {
    fn from(join: Join) -> Self {
        match join {
            Join::Auto => Self::Auto,
            Join::Sync => Self::Sync,
            Join::Raw => Self::Raw,
        }
    }
}

#[cfg(test)]
mod tests;
