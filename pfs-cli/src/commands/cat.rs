//! `pfs cat`: prints a stream or a document.
//!
//! With `--slow block`, large chunks go from shared memory straight to standard output: see
//! `Delivery::print_in_place`.

use std::{
    ops::Range,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use pfs_client::{Chunks, Client, Event, ReadError, Reader, RequestError};
use pfs_proto::{End, ErrorCode, ReadOptions, SlowPolicy, StreamPath};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Context, WAIT_NOTICE_DELAY};
use crate::{
    cli::{CatArgs, Join},
    exit_code::{ExitCode, Failure},
    hangup::stdout_hangup,
    lag,
    output::{LARGE_WRITE_BYTES, Output, OutputError, Stdout},
    paths, pipe,
    place::Place,
    printer::Printer,
    progress::{Counters, Progress, Role, Style},
    size::size,
    terminal,
    until::Until,
};

/// Prints a stream or a document.
pub(super) async fn run(context: &Context, args: CatArgs) -> anyhow::Result<ExitCode> {
    let stdout = Stdout::open()?;
    let client = context.daemon.connect().await?;
    if args.follows() {
        follow(context, &client, &args, stdout).await
    } else {
        document(context, &client, &args.path).await
    }
}

async fn document(
    context: &Context,
    client: &Client,
    path: &StreamPath,
) -> anyhow::Result<ExitCode> {
    match client.document(path).await {
        Ok(text) => {
            context.printer.print(text)?;
            Ok(ExitCode::Success)
        }
        Err(RequestError::Daemon { code: ErrorCode::IsStream, .. }) => {
            let message = format!("{path} is a stream; use stream mode: pfs cat --stream {path}");
            Err(Failure::new(ExitCode::Usage, message).into())
        }
        Err(error) => Err(context.explain(error, format_args!("cannot print {path}"))),
    }
}

async fn follow(
    context: &Context,
    client: &Client,
    args: &CatArgs,
    stdout: Stdout,
) -> anyhow::Result<ExitCode> {
    let until = args.until.unwrap_or_default();
    let is_exact = args.join == Some(Join::Raw) || args.start.offset.is_some();
    if until == Until::FormatChange && is_exact {
        let message = "--until format-change needs a reader that looks for headers; leave out --join raw and --offset";
        return Err(Failure::new(ExitCode::Usage, message.to_owned()).into());
    }
    // A path with pattern characters is hardly ever created, so it is not waited for.
    let is_pattern = paths::is_pattern(&args.path);
    let options = ReadOptions {
        start: args.start.start(),
        policy: args.slow.map_or(SlowPolicy::Drop, SlowPolicy::from),
        until: until.on_the_wire(),
        wait: until.waits_for_creation() && !is_pattern,
        join: args.join.unwrap_or_default().into(),
    };
    let reader = client.reader(&args.path, options).await.map_err(|error| match error {
        RequestError::Daemon { code: ErrorCode::NoSuchStream, .. } if is_pattern => {
            no_pattern(&args.path)
        }
        error => context.explain(error, format_args!("cannot read {}", args.path)),
    })?;

    let shared = terminal::is_shared_by(stdout.descriptor());
    let style = Style::choose(args.progress, context.printer.is_quiet(), shared);
    let progress = Progress::start(&context.printer, style, Role::Reader);
    let counters = Arc::clone(progress.counters());
    if progress.is_shown() {
        lag::watch(&context.daemon, &args.path, &counters);
    }
    let mut delivery = Delivery {
        path: &args.path,
        place: context.daemon.place(),
        printer: &context.printer,
        counters: &counters,
        output: Output::new(stdout.enlarged()),
        stdout,
        attached: false,
        ends_at_change: until == Until::FormatChange,
        lost: Lost::default(),
    };
    let (ended, printed) = match deliver(reader, &mut delivery, until.idle()).await {
        Err(Stop::Output(error)) => (Ok(Finish::Unread), Err(error)),
        // Everything that has arrived is printed before a message about the end.
        Err(Stop::Broken(error)) => (Err(error), delivery.output.flush()),
        Ok(finish) => (Ok(finish), delivery.output.flush()),
    };
    // The progress bar shows its last state before the message, too.
    drop(progress);
    let lost = delivery.lost;
    let code = match &ended {
        Ok(finish) => {
            finish.tell(&args.path, lost, &context.printer);
            finish.code(lost)
        }
        Err(error) => ExitCode::from_error(error),
    };
    let code = context.printer.conclude(code, printed)?;
    ended.map(|_| code)
}

fn no_pattern(path: &StreamPath) -> anyhow::Error {
    let message = format!(
        "there is no stream {path}, and pfs cat takes the path of a stream, not a pattern; pfs ls {} lists the streams",
        path.mount()
    );
    Failure::new(ExitCode::NoSuchStream, message).into()
}

/// Why delivery stopped although the stream goes on.
enum Stop {
    /// Standard output failed or is closed.
    Output(OutputError),
    /// The reader failed.
    Broken(anyhow::Error),
}

impl From<OutputError> for Stop {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

/// How reading ended without an error of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// The daemon reported the end.
    End(End),
    /// Nothing arrived for the time of `--until idle`.
    Idle,
    /// A writer started over with a new header, with `--until format-change`.
    FormatChange,
    /// Standard output failed or is closed.
    Unread,
}

impl Finish {
    /// Returns the exit code. An end that has a code of its own takes precedence over losses.
    fn code(self, lost: Lost) -> ExitCode {
        match self {
            Self::End(End::WriterDied | End::Failed) => ExitCode::WriterDied,
            _ if lost.gaps > 0 => ExitCode::DataLost,
            _ => ExitCode::Success,
        }
    }

    /// Prints messages about the end and the losses.
    fn tell(self, path: &StreamPath, lost: Lost, printer: &Printer) {
        if lost.gaps > 0 {
            printer.info(format_args!(
                "{} of {path} were lost in all, in {} {}; with --slow block writers wait, and larger buffers lose less",
                size(lost.bytes),
                lost.gaps,
                if lost.gaps == 1 { "gap" } else { "gaps" }
            ));
        }
        match self {
            Self::End(End::WriterDied) => printer.error(format_args!(
                "a writer of {path} died without finishing, or failed, so the output may be incomplete"
            )),
            Self::End(End::Failed) => printer
                .error(format_args!("{path} was closed as failed, so the output may be incomplete")),
            Self::End(End::Closed | End::CaughtUp | End::WritersGone)
            | Self::Idle
            | Self::FormatChange
            | Self::Unread => {}
        }
    }
}

/// Sum of the reported losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    bytes: u64,
    gaps: u64,
}

/// Delivers the events of a reader to standard output and messages.
struct Delivery<'a> {
    path: &'a StreamPath,
    /// The address of the stream's daemon.
    place: &'a Place,
    printer: &'a Printer,
    counters: &'a Counters,
    output: Output,
    stdout: Stdout,
    attached: bool,
    /// Whether to end before a new header.
    ends_at_change: bool,
    lost: Lost,
}

impl Delivery<'_> {
    /// Prints bytes of whole chunks.
    fn deliver(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.output.write(bytes)?;
        self.counters.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    /// Writes chunks that have already arrived straight from shared memory to standard output, if
    /// there are at least [`LARGE_WRITE_BYTES`] of them, and about as many as fit into a pipe.
    /// Returns true if anything was written.
    fn print_in_place(&mut self, reader: &mut Reader) -> Result<bool, Stop> {
        // Earlier small chunks must be printed first. With these in the batch, the usual path costs
        // little more.
        if !self.output.is_flushed() {
            return Ok(false);
        }
        let printed =
            reader.try_write_to(self.stdout.descriptor(), LARGE_WRITE_BYTES, pipe::PIPE_BYTES);
        let printed =
            printed.map_err(|error| Stop::Broken(self.broken(error, reader.position())))?;
        let printed = printed.map_err(OutputError::from)?;
        self.counters.bytes.fetch_add(printed as u64, Relaxed);
        Ok(printed > 0)
    }

    /// Handles one event; `Some` at the end.
    fn take(&mut self, event: Event) -> Result<Option<Finish>, OutputError> {
        match event {
            Event::Waiting => {}
            Event::Attached { start, head, content_type } => {
                self.attached = true;
                let content_type = content_type.as_deref().unwrap_or("unknown");
                self.printer.verbose(format_args!(
                    "reading {} from offset {start}, head is {head}, media type {content_type}",
                    self.path
                ));
            }
            Event::Joined { header, skipped } => {
                self.printer.info(joined_line(self.path, header.len(), &skipped));
                self.output.write(&header)?;
            }
            Event::FormatChanged { .. } if self.ends_at_change => {
                return Ok(Some(Finish::FormatChange));
            }
            Event::FormatChanged { offset } => {
                let printed = self.output.flush();
                self.printer.info(format_args!(
                    "a writer of {} started over with a new header at offset {offset}; a decoder may not accept it",
                    self.path
                ));
                printed?;
            }
            Event::Chunk(bytes) => self.deliver(&bytes)?,
            // Earlier data is printed first, for users who see both on one terminal. The message is
            // printed even if that fails.
            Event::Resumed { offset } => {
                let printed = self.output.flush();
                self.printer.loss(format_args!(
                    "the connection broke at offset {offset} of {}; resumed",
                    self.path
                ));
                printed?;
            }
            Event::Gap { from, to, chunks } => {
                let printed = self.output.flush();
                let bytes = to.saturating_sub(from);
                self.printer.loss(gap_line(self.path, from, to, chunks));
                self.lost =
                    Lost { bytes: self.lost.bytes.saturating_add(bytes), gaps: self.lost.gaps + 1 };
                self.counters.lost.fetch_add(bytes, Relaxed);
                printed?;
            }
            Event::End { reason, .. } => return Ok(Some(Finish::End(reason))),
            // Events of a later library version carry no data.
            _ => {}
        }
        Ok(None)
    }

    /// Explains the reader's error, with the offset at which it happened.
    fn broken(&self, error: ReadError, offset: u64) -> anyhow::Error {
        let Self { path, place, .. } = self;
        let (code, message) = match error {
            ReadError::Removed => (
                ExitCode::Removed,
                format!("{path} was removed while it was read; printed up to offset {offset}"),
            ),
            ReadError::TooSlow { .. } => (
                ExitCode::TooSlow,
                format!(
                    "disconnected from {path} for being slow; printed up to offset {offset}; read faster, \
                     give the stream a larger --channel-buffer-size, or use --slow drop or block"
                ),
            ),
            ReadError::DaemonGone(why) => (
                ExitCode::NoDaemon,
                format!(
                    "the daemon {place} went away while {path} was read ({why}); printed up to offset {offset}"
                ),
            ),
            error => {
                let tried = format!("cannot continue reading {path} at offset {offset}");
                return anyhow::Error::new(error).context(tried);
            }
        };
        Failure::new(code, message).into()
    }
}

/// The line that reports a gap. Scripts parse it, so it does not change. `chunks` is 0 if the
/// number of lost chunks is unknown, because they were overwritten before this reader attached. The
/// line then leaves the number out.
fn gap_line(path: &StreamPath, from: u64, to: u64, chunks: u64) -> String {
    let bytes = to.saturating_sub(from);
    match chunks {
        0 => format!("gap: lost bytes {from}..{to} ({bytes} bytes) of {path}"),
        _ => format!("gap: lost bytes {from}..{to} ({bytes} bytes, {chunks} chunks) of {path}"),
    }
}

/// The line that reports how the reader joined.
fn joined_line(path: &StreamPath, header: usize, skipped: &Range<u64>) -> String {
    let Range { start, end } = skipped;
    let bytes = end.saturating_sub(*start);
    let skipped = match bytes {
        0 => String::new(),
        _ => format!(", skipped bytes {start}..{end} ({bytes} bytes)"),
    };
    format!("joined {path} at offset {end}: header of {header} bytes{skipped}")
}

/// Delivers events until the end. The caller must flush the output afterwards.
async fn deliver(
    mut reader: Reader,
    delivery: &mut Delivery<'_>,
    idle: Option<Duration>,
) -> Result<Finish, Stop> {
    let mut gone = pin!(stdout_hangup());
    let mut patience = pin!(sleep(WAIT_NOTICE_DELAY));
    let mut impatient = false;
    let mut chunks = Chunks::new();
    loop {
        if delivery.print_in_place(&mut reader)? {
            delivery.counters.position.store(reader.position(), Relaxed);
            continue;
        }
        let next = match reader.try_next_batch(&mut chunks) {
            Ok(None) if chunks.is_empty() => {
                delivery.output.flush()?;
                // Counted from now and not from the last arrival, because printing may have taken
                // longer than the idle time.
                let idle_at = idle.filter(|_| delivery.attached).map(|idle| Instant::now() + idle);
                tokio::select! {
                    biased;
                    event = reader.next_batch(&mut chunks) => event,
                    error = &mut gone => return Err(error.into()),
                    () = at(idle_at) => return Ok(Finish::Idle),
                    () = &mut patience, if !delivery.attached && !impatient => {
                        impatient = true;
                        delivery.printer.info(format_args!(
                            "waiting for {} to be created {}; pfs ls shows the streams there",
                            delivery.path, delivery.place
                        ));
                        continue;
                    }
                }
            }
            next => next,
        };
        delivery.counters.position.store(reader.position(), Relaxed);
        match next {
            Ok(None) => delivery.deliver(chunks.bytes())?,
            Ok(Some(event)) => {
                if let Some(finish) = delivery.take(event)? {
                    return Ok(finish);
                }
            }
            Err(error) => return Err(Stop::Broken(delivery.broken(error, reader.position()))),
        }
    }
}

/// Waits until this time; for ever without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> StreamPath {
        "/streamfs/cam".parse().unwrap()
    }

    #[test]
    fn a_gap_is_reported_with_its_exact_range() {
        assert_eq!(
            gap_line(&path(), 1000, 2000, 3),
            "gap: lost bytes 1000..2000 (1000 bytes, 3 chunks) of /streamfs/cam"
        );
        assert_eq!(
            gap_line(&path(), 0, 2000, 0),
            "gap: lost bytes 0..2000 (2000 bytes) of /streamfs/cam"
        );
    }

    #[test]
    fn a_join_is_reported_with_the_size_of_the_header_and_what_was_skipped() {
        assert_eq!(
            joined_line(&path(), 137, &(1000..2000)),
            "joined /streamfs/cam at offset 2000: header of 137 bytes, skipped bytes 1000..2000 (1000 bytes)"
        );
        assert_eq!(
            joined_line(&path(), 0, &(2000..2000)),
            "joined /streamfs/cam at offset 2000: header of 0 bytes"
        );
    }

    #[test]
    fn losses_change_the_exit_code_unless_the_end_has_its_own() {
        let lost = Lost { bytes: 1000, gaps: 1 };
        for end in [
            Finish::End(End::Closed),
            Finish::End(End::CaughtUp),
            Finish::End(End::WritersGone),
            Finish::Idle,
            Finish::Unread,
        ] {
            assert_eq!(end.code(Lost::default()), ExitCode::Success);
            assert_eq!(end.code(lost), ExitCode::DataLost);
        }
        for end in [End::WriterDied, End::Failed] {
            assert_eq!(Finish::End(end).code(Lost::default()), ExitCode::WriterDied);
            assert_eq!(Finish::End(end).code(lost), ExitCode::WriterDied);
        }
    }
}
