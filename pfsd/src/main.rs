//! The binary `pfsd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pfsd::start(std::env::args_os())
}
