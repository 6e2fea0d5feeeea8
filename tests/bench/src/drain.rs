//! Draining reader process: reads a socket and discards the bytes.

use anyhow::{Context, ensure};
use pfs_measure::clock;

use crate::{
    board::{Board, Place},
    job::{Job, ReaderReport},
    peers::http::Download,
    sys,
};

/// Reads to the end and prints the report.
pub fn run(job: &Job) -> anyhow::Result<()> {
    let board = Board::open(&job.board, job.load.readers)?;
    let place = board.place(job.reader);
    let mut report = ReaderReport::default();
    let drained = drain(job, &board, &place, &mut report);
    if let Err(error) = &drained {
        report.failure = Some(format!("{error:#}"));
    }
    report.cpu = sys::own_cpu_time().as_secs_f64();
    place.ended(drained.is_ok());
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn drain(job: &Job, board: &Board, place: &Place, report: &mut ReaderReport) -> anyhow::Result<()> {
    let began = clock::now();
    let mut download = Download::connect(job).context("cannot connect")?;
    if job.peer.has_writer() {
        download.ask(job)?;
        place.attached();
    } else {
        // Everything is there already, so the request starts the measurement.
        place.attached();
        board.await_go();
        download.ask(job)?;
    }
    let bytes = download.drain().context("cannot read on")?;
    report.ended = clock::now();
    report.took = report.ended - began;
    let chunk = job.load.chunk as u64;
    // The last chunk is the end mark.
    report.received = (bytes / chunk).saturating_sub(1);
    let limit = job.load.limit.unwrap_or(report.received);
    ensure!(bytes % chunk == 0 && report.received == limit, "got {bytes} bytes");
    Ok(())
}
