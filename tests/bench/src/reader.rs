//! Reader process: attaches, checks every chunk, and prints a report.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context;
use pfs_measure::{
    clock,
    latency::Latencies,
    stamp::{Checker, Checkers, Seen},
};

use crate::{
    board::{Board, Place},
    job::{Job, ReaderReport, WRITER},
    peers::{Receive, Receiver},
    sys,
};

/// Reads to the end and prints the report.
pub fn run(job: &Job) -> anyhow::Result<()> {
    let board = Board::open(&job.board, job.load.readers)?;
    let place = board.place(job.reader);
    let mut report = ReaderReport::default();
    let read = read(job, &board, &place, &mut report);
    if let Err(error) = &read {
        report.failure = Some(format!("{error:#}"));
    }
    report.cpu = sys::own_cpu_time().as_secs_f64();
    // Before the report is printed, because the parent reads the reports from the pipes only after
    // all readers have ended.
    place.ended(read.is_ok());
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn read(job: &Job, board: &Board, place: &Place, report: &mut ReaderReport) -> anyhow::Result<()> {
    let load = &job.load;
    let limit = if job.history { load.limit.unwrap_or(u64::MAX) } else { u64::MAX };
    let mut checkers = Checkers::new(load.writers, load.chunk, load.full);
    let sum = |checkers: &Checkers, of: fn(&Checker) -> u64| {
        checkers.checkers().iter().map(of).sum::<u64>()
    };
    let mut latencies = load.rate.map(|_| Latencies::default());

    let began = clock::now();
    let mut receiver = Receiver::attach(job).context("cannot attach")?;
    place.attached();
    let mut ended = 0;
    let mut counted_from = None;
    let received = loop {
        let received = receiver.receive(&mut |chunk| match checkers.check(chunk) {
            Ok(Seen::Data(made)) => {
                if let Some(latencies) = &mut latencies {
                    let warm_up = || Duration::from_secs_f64(load.warm_up).as_nanos() as u64;
                    let now = clock::now();
                    if now >= *counted_from.get_or_insert_with(|| board.began() + warm_up()) {
                        latencies.record(made.latency(now));
                    }
                }
            }
            Ok(Seen::End) => ended += 1,
            // The checker counts it.
            Err(_) => {}
        });
        let position = sum(&checkers, Checker::position);
        place.reached(position);
        if !matches!(received, Ok(true)) || ended == load.writers || position >= limit {
            break received;
        }
    };
    report.ended = clock::now();
    report.took = report.ended - began;
    report.received = sum(&checkers, |checker| checker.received);
    report.lost = sum(&checkers, |checker| checker.lost);
    report.corrupt = sum(&checkers, |checker| checker.corrupt);
    if let Some(latencies) = latencies {
        report.latencies = latencies.counts();
    }
    received.context("cannot read on")?;
    anyhow::ensure!(ended == load.writers || job.history, "the end came before the mark of it");
    Ok(())
}

/// Runs many readers in one process, each on a thread. They count the chunks and never end; the
/// parent kills the process after the measurement.
pub fn idle(job: &Job) -> anyhow::Result<()> {
    static FAILURES: AtomicU64 = AtomicU64::new(0);
    let board = Board::open(&job.board, job.load.readers)?;
    let mut threads = Vec::new();
    for reader in 0..job.threads {
        let (job, place) = (job.clone(), board.place(reader));
        let read = move || {
            let mut checker = Checker::new(WRITER, job.load.chunk, true);
            let read = Receiver::attach(&job).and_then(|mut receiver| {
                place.attached();
                while receiver.receive(&mut |chunk| _ = checker.check(chunk))? {
                    place.reached(checker.position());
                }
                Ok(())
            });
            place.ended(false);
            if FAILURES.fetch_add(1, Relaxed) == 0 {
                eprintln!("an idle reader ended: {read:?}");
            }
        };
        threads.push(std::thread::Builder::new().stack_size(256 * 1024).spawn(read)?);
    }
    for thread in threads {
        _ = thread.join();
    }
    Ok(())
}
