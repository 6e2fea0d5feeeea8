//! The binary `pfs`: everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    pfs_cli::run(std::env::args_os().collect()).into()
}
