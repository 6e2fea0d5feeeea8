//! `pfs bench`: measures throughput and latency of streams on this machine.
//!
//! This process starts the workers, tells them when to begin, and combines their reports. It
//! touches no byte of the stream itself.

mod crew;
mod job;
mod latency;
mod report;
mod text;
mod usage;
mod worker;

use anyhow::{Context as _, bail};
use pfs_client::Client;
use pfs_measure::stamp;
use pfs_proto::{CreateOptions, StreamPath};

pub(crate) use self::worker::{job, work};
use self::{
    crew::{Remover, Worker},
    job::{Job, Read, Role, Said, Wrote},
    report::{Report, Results},
    usage::Usage,
};
use super::Context;
use crate::{
    cli::{BenchArgs, Transport},
    exit_code::{ExitCode, Failure},
    json,
    output::Stdout,
    place::Place,
    printer::styled,
    size::size,
};

/// Default amount to append: in bytes, or in seconds if there is a rate.
const SIZE: u64 = 1024 * 1024 * 1024;
const SECONDS: u64 = 10;

/// Runs a measurement, and prints the report.
pub(super) async fn run(context: &Context, args: BenchArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(&args, context.daemon.shm(), context.daemon.place())?;
    // Checked first, because a long measurement without a place for its report would be wasted.
    Stdout::open()?;
    let client = context.daemon.connect().await?;
    let info = client
        .info()
        .await
        .map_err(|error| context.explain(error, "cannot get the stats of the daemon"))?;
    let mount = info.mounts.first().context("the daemon has no mount for a stream")?;
    let path: StreamPath = format!("{mount}/pfs-bench-{}", std::process::id()).parse()?;

    let mut remover = Remover::start(path.as_str(), context.daemon.place())?;
    let created = client.create(&path, &CreateOptions::default()).await;
    created.map_err(|error| context.explain(error, format_args!("cannot create {path}")))?;
    let measured = match remover.arm() {
        Ok(()) => measure(context, &client, &path, &plan, info.pid).await,
        Err(error) => Err(error),
    };
    let removed = match remover.finish() {
        Ok(()) => Ok(()),
        // The remover may have been killed, for example.
        Err(_) => client.remove(&path).await,
    };
    let report = measured?;
    removed.map_err(|error| context.explain(error, format_args!("cannot remove {path}")))?;

    let printed = context.printer.print(if args.json {
        json::line(&report)?
    } else {
        styled(text::text(&report))
    });
    context.printer.conclude(code(&report), printed)
}

fn code(report: &Report) -> ExitCode {
    match report.lost.gaps {
        0 if report.has_disconnected() => ExitCode::TooSlow,
        0 => ExitCode::Success,
        _ => ExitCode::DataLost,
    }
}

/// The validated arguments.
#[derive(Debug)]
struct Plan<'a> {
    args: &'a BenchArgs,
    chunk: usize,
    /// Number of chunks, of all writers together.
    chunks: u64,
    shm: bool,
    /// Whether the daemon is at a URL.
    http: bool,
}

impl<'a> Plan<'a> {
    fn new(args: &'a BenchArgs, shm: bool, place: &Place) -> anyhow::Result<Self> {
        let usage = |message: String| Err(Failure::new(ExitCode::Usage, message).into());
        if args.chunk_size < stamp::SMALLEST as u64 {
            return usage(format!(
                "--chunk-size must be at least {} bytes, for the stamps in it",
                stamp::SMALLEST
            ));
        }
        if args.transport == Some(Transport::Shm) && !shm {
            return usage("--transport shm cannot be used with --no-shm".to_owned());
        }
        let http = matches!(place, Place::Url { .. });
        match (args.transport, http) {
            (Some(Transport::Http), false) => {
                return usage("--transport http requires the daemon's URL; use --url".to_owned());
            }
            (Some(Transport::Shm | Transport::Unix), true) => {
                return usage(
                    "a daemon at a URL is reached only over HTTP; use --transport http".to_owned(),
                );
            }
            _ => {}
        }
        let chunks = match (args.size, args.rate) {
            (Some(size), _) => size.div_ceil(args.chunk_size),
            (None, Some(rate)) => u64::from(rate).saturating_mul(SECONDS),
            (None, None) => SIZE.div_ceil(args.chunk_size),
        };
        let chunk = usize::try_from(args.chunk_size).unwrap_or(usize::MAX);
        let shm = shm && args.transport != Some(Transport::Unix);
        Ok(Self { args, chunk, chunks, shm, http })
    }

    fn reader(&self) -> Role {
        let BenchArgs { writers, slow, rate, .. } = *self.args;
        Role::Reader { writers, slow, timed: rate.is_some() }
    }

    /// The job of the writer with this number: its share of the chunks.
    fn writer(&self, number: u16) -> Role {
        let writers = u64::from(self.args.writers.max(1));
        let one_more = u64::from(u64::from(number) < self.chunks % writers);
        let interval =
            |rate: u32| 1_000_000_000u64.saturating_mul(writers) / u64::from(rate.max(1));
        Role::Writer {
            number,
            chunks: self.chunks / writers + one_more,
            interval: self.args.rate.map(interval),
        }
    }

    /// Returns the transport that the workers used. `shm` has one element per worker: whether the
    /// worker shares memory.
    fn transport(&self, shm: &[bool]) -> anyhow::Result<&'static str> {
        let all = shm.iter().all(|shm| *shm);
        if self.args.transport == Some(Transport::Shm) && !all {
            bail!("the daemon and its clients cannot share memory here; try --transport unix");
        }
        Ok(match (all, shm.contains(&true)) {
            _ if self.http => "http",
            (true, _) => "shm",
            (false, true) => "mixed",
            (false, false) => "unix",
        })
    }
}

/// Starts the workers, and waits for their reports.
async fn measure(
    context: &Context,
    client: &Client,
    path: &StreamPath,
    plan: &Plan<'_>,
    daemon: u32,
) -> anyhow::Result<Report> {
    let stats = client
        .stat(path)
        .await
        .map_err(|error| context.explain(error, format_args!("cannot get the stats of {path}")))?;
    let max_chunk = stats.ring_buffer_size.min(stats.channel_buffer_size);
    if plan.args.chunk_size > max_chunk {
        let message = format!(
            "--chunk-size can be at most {}, the largest chunk of the daemon's streams",
            size(max_chunk)
        );
        return Err(Failure::new(ExitCode::Usage, message).into());
    }
    let start = |name: String, role: Role| {
        let job = Job { path: path.to_string(), shm: plan.shm, chunk: plan.chunk, role };
        Worker::start(name, &job, context.daemon.place())
    };
    let readers =
        (1..=plan.args.readers).map(|number| start(format!("reader {number}"), plan.reader()));
    let mut readers = readers.collect::<anyhow::Result<Vec<_>>>()?;
    let writers = (0..plan.args.writers)
        .map(|number| start(format!("writer {}", u32::from(number) + 1), plan.writer(number)));
    let mut writers = writers.collect::<anyhow::Result<Vec<_>>>()?;
    let shm = readers.iter_mut().chain(&mut writers).map(Worker::attached);
    let transport = plan.transport(&shm.collect::<anyhow::Result<Vec<_>>>()?)?;

    // The process id of a daemon on another machine means nothing here.
    let usage = || Usage::from_pid(daemon).filter(|_| context.daemon.place().is_local());
    let before = usage();
    writers.iter_mut().try_for_each(Worker::begin)?;
    let wrote = writers.iter_mut().map(wrote).collect::<anyhow::Result<Vec<_>>>()?;
    client
        .close(path)
        .await
        .map_err(|error| context.explain(error, format_args!("cannot close {path}")))?;
    let read = readers.iter_mut().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let usage = before.zip(usage());

    let results = Results { args: plan.args, transport, wrote: &wrote, read: &read, usage };
    let report = Report::new(&results);
    check(&report)?;
    Ok(report)
}

fn wrote(writer: &mut Worker) -> anyhow::Result<Wrote> {
    match writer.listen()? {
        Said::Wrote(wrote) => Ok(wrote),
        said => bail!("a writer sent {said:?} instead of its result"),
    }
}

fn read(reader: &mut Worker) -> anyhow::Result<Read> {
    match reader.listen()? {
        Said::Read(read) => Ok(read),
        said => bail!("a reader sent {said:?} instead of its result"),
    }
}

/// Checks that the bytes that each reader got and the bytes that it lost add up to the bytes that
/// were written.
fn check(report: &Report) -> anyhow::Result<()> {
    for (number, reader) in (1..).zip(&report.per_reader) {
        let accounted = reader.got.bytes.saturating_add(reader.lost_bytes);
        if reader.end == "closed" && accounted != report.written.bytes {
            bail!(
                "reader {number} got {} bytes and {} bytes were reported as lost, but {} bytes were written; this is a bug in pfs",
                reader.got.bytes,
                reader.lost_bytes,
                report.written.bytes
            );
        }
    }
    Ok(())
}
