//! `pfs`: live byte streams between processes, from the shell.
//!
//! This crate is the command line over [`pfs_client`]: the flags ([`cli`]), the commands (one file
//! each in `commands`), output and messages (`printer`, `output`, `screen`), and the exit codes
//! ([`exit_code`]). It does not know the wire format or the daemon's internals. It is a library
//! only so that the man pages and completions can be generated from it.

pub mod age;
pub mod cli;
mod commands;
mod daemon;
#[allow(unsafe_code)]
mod descriptors;
pub mod examples;
pub mod exit_code;
mod hangup;
pub mod header;
mod json;
mod lag;
mod lines;
mod links;
mod output;
mod paths;
mod pipe;
mod place;
mod printer;
mod process;
mod producer;
mod progress;
mod readable;
mod report;
#[cfg(test)]
mod sample;
mod screen;
#[allow(unsafe_code)]
mod session;
mod signals;
pub mod size;
mod stdin;
mod table;
mod terminal;
mod tips;
pub mod until;

use std::{
    ffi::OsString,
    io::{self, Write as _},
};

use clap::Parser;

use crate::{
    cli::{Cli, GlobalArgs},
    commands::{Context, bench},
    daemon::Daemon,
    exit_code::ExitCode,
    output::{OutputError, Stdout},
    printer::Printer,
};

/// Runs `pfs` with these arguments, including the program's name, and returns its exit code.
///
/// Not generic: generic code would be compiled again in the binary, with all commands.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if let Some(job) = bench::job(&arguments) {
        return bench::work(job);
    }
    cli::color(&arguments).write_global();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let _ = tips::without_false_ones(error).print();
            return ExitCode::Usage;
        }
        Err(help) => return ended(&Printer::new(&GlobalArgs::default()), print_help(&help)),
    };
    let printer = Printer::new(&cli.global);
    let daemon = match Daemon::new(&cli.global, &printer) {
        Ok(daemon) => daemon,
        Err(error) => return ended(&printer, Err(error)),
    };
    let context = Context { daemon, printer: printer.clone() };
    ended(&printer, block_on(commands::run(&context, cli.command)))
}

/// Prints help or the version, which clap returns as an error.
fn print_help(help: &clap::Error) -> anyhow::Result<ExitCode> {
    // Checked here, because the standard library ignores a descriptor that cannot be written.
    Stdout::open()?;
    help.print().and_then(|()| io::stdout().flush()).map_err(OutputError::from)?;
    Ok(ExitCode::Success)
}

/// Runs a command on a single-threaded runtime. One thread is enough for one stream, and costs
/// the least.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Prints the error of a run, if any, and returns the exit code. A closed pipe on standard output
/// is a success.
fn ended(printer: &Printer, result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if matches!(error.downcast_ref(), Some(OutputError::Closed)) => {
            ExitCode::Success
        }
        Err(error) => {
            printer.error(format_args!("{error:#}"));
            ExitCode::from_error(&error)
        }
    }
}
