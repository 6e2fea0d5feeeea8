//! The `pfsd` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    pfsd::start(std::env::args_os())
}
