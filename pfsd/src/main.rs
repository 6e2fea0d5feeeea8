//! The binary `pfsd`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    pfsd::start(&pfsd::args::Args::parse())
}
