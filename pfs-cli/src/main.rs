//! The binary `pfs`. All code is in the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    pfs_cli::run(std::env::args_os().collect()).into()
}
