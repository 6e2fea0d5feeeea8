//! Writer process: appends stamped chunks for a while, then the end mark.

use std::{io, time::Duration};

use pfs_measure::{clock, stamp::Chunk};

use crate::{
    board::Board,
    job::{Job, WriterReport},
    peers::{Sender, Transmit},
    sys,
};

/// How often the end mark is sent again where it may get lost, and the pause in between.
const END_TRIES: u32 = 20;
const END_PAUSE: Duration = Duration::from_millis(100);

/// Time limit for a writer to wait for its readers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes, and prints the report.
pub fn run(job: &Job) -> anyhow::Result<()> {
    let board = Board::open(&job.board, job.load.readers)?;
    let mut sender = Sender::connect(job)?;
    let mut chunk = Chunk::new(job.writer, job.load.chunk);
    board.writer_ready();
    let written = write(job, &board, &mut sender, &mut chunk)?;
    if job.load.stay {
        board.writer_done();
        stay();
    }
    finish(job, &board, sender, chunk.end(written))?;
    board.writer_done();
    println!(
        "{}",
        serde_json::to_string(&WriterReport { written, cpu: sys::own_cpu_time().as_secs_f64() })?
    );
    Ok(())
}

/// Sleeps until the process is killed.
fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

fn write(job: &Job, board: &Board, sender: &mut Sender, chunk: &mut Chunk) -> io::Result<u64> {
    let load = &job.load;
    // The clock is not read for every small chunk.
    let between_looks = if load.chunk < 4096 { 64 } else { 1 };
    let limit = load.limit.unwrap_or(u64::MAX);
    let window = if job.peer.needs_window() { load.window_chunks() } else { u64::MAX };
    let mut allowed = if load.readers == 0 { u64::MAX } else { window };

    let began = board.begin();
    let end = clock::after(Duration::from_secs_f64(load.seconds));
    let mut count = 0;
    while count < limit {
        if count >= allowed {
            sender.flush()?;
            allowed = await_readers(board, count, window)?;
        }
        let mut time = 0;
        if let Some(rate) = load.rate {
            clock::sleep_until(began + count * 1_000_000_000 / u64::from(rate));
            time = clock::now();
            if time >= end {
                break;
            }
        } else if count % between_looks == 0 && clock::now() >= end {
            break;
        }
        let chunk = chunk.stamped(count, time);
        if load.batched {
            sender.push(chunk)?
        } else {
            sender.send(chunk)?
        }
        count += 1;
    }
    sender.flush()?;
    Ok(count)
}

/// Waits until the lag of the slowest reader is within the window. Returns the chunk number up to
/// which the writer may write.
fn await_readers(board: &Board, count: u64, window: u64) -> io::Result<u64> {
    let patience = clock::after(PATIENCE);
    loop {
        let allowed = board.slowest().saturating_add(window);
        if allowed > count {
            return Ok(allowed);
        }
        if clock::now() > patience {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a reader gets nothing any more"));
        }
        // Short compared with the time for a window, so that no reader runs out of chunks.
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn finish(job: &Job, board: &Board, mut sender: Sender, mark: &[u8]) -> io::Result<()> {
    sender.send(mark)?;
    sender.flush()?;
    let mut tries = END_TRIES;
    while job.peer.needs_window() && board.done() < job.load.readers && tries > 0 {
        let pause = clock::after(END_PAUSE);
        while board.done() < job.load.readers && clock::now() < pause {
            std::thread::sleep(Duration::from_millis(1));
        }
        if board.done() < job.load.readers {
            sender.send(mark)?;
            tries -= 1;
        }
    }
    sender.finish()
}
