//! Benchmark of pfs against programs that do a similar job: the same chunks, on the same machine,
//! in the same run, interleaved.
//!
//! `tests/bench/run TABLE` builds and runs the benchmark. Every reader and writer is a separate
//! process: this program in another role, which gets a [`job::Job`] and synchronizes with the
//! others through a [`board::Board`].

mod board;
mod child;
mod drain;
mod job;
mod peers;
mod reader;
mod report;
mod session;
mod sys;
mod tables;
mod versus;
mod writer;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::job::Job;

/// Compares pfs with programs that do a similar job
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure and print tables
    Run(Box<tables::Args>),
    /// Compare two builds of pfs in turns
    Versus(versus::Args),
    /// Play a reader.
    #[command(hide = true)]
    Reader { job: String },
    /// Play a reader that checks nothing.
    #[command(hide = true)]
    Drain { job: String },
    /// Play many idle readers.
    #[command(hide = true)]
    Idle { job: String },
    /// Play the writer.
    #[command(hide = true)]
    Writer { job: String },
    /// Play the baseline's daemon.
    #[command(hide = true)]
    Daemon { socket: PathBuf, queue: usize },
    /// Play the bare relay.
    #[command(hide = true)]
    Relay { socket: PathBuf },
}

fn job(text: &str) -> anyhow::Result<Job> {
    serde_json::from_str(text).context("this is not a job")
}

/// Raises the limit on open files: a thousand readers need more than the usual limit.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}

fn main() -> ExitCode {
    raise_file_limit();
    let done = match Args::parse().command {
        Command::Run(args) => tables::run(&args),
        Command::Versus(args) => versus::run(&args),
        Command::Reader { job: text } => job(&text).and_then(|job| reader::run(&job)),
        Command::Drain { job: text } => job(&text).and_then(|job| drain::run(&job)),
        Command::Idle { job: text } => job(&text).and_then(|job| reader::idle(&job)),
        Command::Writer { job: text } => job(&text).and_then(|job| writer::run(&job)),
        Command::Daemon { socket, queue } => peers::daemon(&socket, queue).map_err(Into::into),
        Command::Relay { socket } => peers::relay(&socket).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pfs-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
