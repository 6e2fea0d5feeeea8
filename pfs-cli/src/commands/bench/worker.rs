//! Worker processes of a measurement: writers, readers, and the remover of the stream.

use std::{
    ffi::OsString,
    io::{self, BufRead, Read as _, Write},
};

use anyhow::{Context, bail};
use pfs_client::{Chunks, Endpoint, Event, Finish, ReadError, blocking::Client};
use pfs_measure::{
    clock,
    latency::Latencies,
    stamp::{Checkers, Chunk, Seen},
};
use pfs_proto::{ErrorCode, ReadOptions, WriteOptions};

use super::job::{COMMAND, Job, Read, Role, Said, Wrote};
use crate::{cli::Slow, exit_code::ExitCode, place::Place};

/// Parses the job from the arguments of a worker process. `None` for any other process.
pub(crate) fn job(arguments: &[OsString]) -> Option<Job> {
    match arguments {
        [_, command, job] if command == COMMAND => serde_json::from_str(job.to_str()?).ok(),
        _ => None,
    }
}

/// Does the job.
pub(crate) fn work(job: Job) -> ExitCode {
    let done = match job.role {
        Role::Writer { number, chunks, interval } => {
            write(&job, number, chunks, interval).map(Said::Wrote)
        }
        Role::Reader { writers, slow, timed } => read(&job, writers, slow, timed).map(Said::Read),
        Role::Remover => {
            return remove(&job).map_or_else(|error| fail(&error), |()| ExitCode::Success);
        }
    };
    match done.and_then(|done| say(&done)) {
        Ok(()) => ExitCode::Success,
        Err(error) => fail(&error),
    }
}

/// Reports the error to the parent process.
fn fail(error: &anyhow::Error) -> ExitCode {
    let code = ExitCode::from_error(error);
    // Ignored: the parent may have exited.
    let _ = say(&Said::Failed { code: code.number(), message: format!("{error:#}") });
    code
}

fn say(said: &Said) -> anyhow::Result<()> {
    let line = crate::json::line(said)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    Ok(stdout.flush()?)
}

fn endpoint() -> anyhow::Result<Endpoint> {
    Ok(Place::from_environment()?.endpoint())
}

fn client(job: &Job) -> anyhow::Result<Client> {
    Ok(Client::new(endpoint()?).with_shm(job.shm))
}

fn write(job: &Job, number: u16, chunks: u64, interval: Option<u64>) -> anyhow::Result<Wrote> {
    let mut writer = client(job)?
        .writer(&job.path()?, WriteOptions::default())
        .with_context(|| format!("cannot write to {}", job.path))?;
    let mut chunk = Chunk::new(number, job.chunk);
    say(&Said::Ready { shm: writer.is_shm() })?;
    if io::stdin().lock().read_line(&mut String::new())? == 0 {
        bail!("pfs bench ended before the measurement began");
    }
    let began = clock::now();
    for count in 0..chunks {
        let time = match interval {
            Some(interval) => {
                clock::sleep_until(began.saturating_add(count.saturating_mul(interval)));
                clock::now()
            }
            None => 0,
        };
        writer.append(chunk.stamped(count, time))?;
    }
    writer.finish(Finish::KeepOpen)?;
    Ok(Wrote { chunks, began, ended: clock::now() })
}

fn read(job: &Job, writers: u16, slow: Slow, timed: bool) -> anyhow::Result<Read> {
    let options = ReadOptions { policy: slow.into(), ..ReadOptions::default() };
    let mut reader = client(job)?
        .reader(&job.path()?, options)
        .with_context(|| format!("cannot read {}", job.path))?;
    let mut checkers = Checkers::new(writers, job.chunk, false);
    let mut latencies = Latencies::default();
    let mut chunks = Chunks::new();
    let mut read = Read::default();
    say(&Said::Ready { shm: reader.is_shm() })?;
    loop {
        let before = reader.position();
        match reader.next_batch(&mut chunks) {
            Ok(None) => {
                read.ended = clock::now();
                for chunk in chunks.iter() {
                    let seen = checkers.check(chunk);
                    let seen =
                        seen.with_context(|| format!("corrupt chunk after offset {before}"))?;
                    if let Seen::Data(made) = seen
                        && timed
                    {
                        latencies.record(made.latency(read.ended));
                    }
                }
                read.chunks = read.chunks.saturating_add(chunks.len() as u64);
            }
            Ok(Some(Event::Gap { from, to, .. })) => {
                read.lost_bytes = read.lost_bytes.saturating_add(to.saturating_sub(from));
                read.gaps = read.gaps.saturating_add(1);
            }
            Ok(Some(Event::End { .. })) => break,
            Ok(Some(_)) => {}
            Err(ReadError::TooSlow { .. }) => {
                read.disconnected = true;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    read.latencies = latencies.counts();
    Ok(read)
}

/// Waits until standard input is closed, that is until the parent ends or asks for the removal.
/// Removes the stream if the parent has sent a byte: without one, the parent has created no stream.
fn remove(job: &Job) -> anyhow::Result<()> {
    let mut told = Vec::new();
    io::stdin().lock().read_to_end(&mut told)?;
    if told.is_empty() {
        return Ok(());
    }
    let path = job.path()?;
    let endpoint = endpoint()?;
    crate::block_on(async {
        match pfs_client::Client::connect(endpoint).await?.remove(&path).await {
            Err(error) if error.code() == Some(ErrorCode::NoSuchStream) => Ok(()),
            removed => Ok(removed?),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_process_has_a_job() {
        let role = Role::Writer { number: 1, chunks: 2, interval: Some(3) };
        let job = Job { path: "/streamfs/s".to_owned(), shm: true, chunk: 64, role };
        let text = serde_json::to_string(&job).unwrap();
        let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(super::job(&arguments(&["pfs", COMMAND, &text])), Some(job));
        for words in
            [&["pfs"][..], &["pfs", COMMAND], &["pfs", COMMAND, "{}"], &["pfs", "bench", &text]]
        {
            assert_eq!(super::job(&arguments(words)), None, "{words:?}");
        }
    }
}
