//! `pfs close`.

use super::{Context, Failures, explain};
use crate::cli::CloseArgs;
use crate::exit_code::ExitCode;

/// Closes streams, each of those that can be.
pub(super) async fn run(context: &Context, args: CloseArgs) -> anyhow::Result<ExitCode> {
    let client = context.daemon.connect().await?;
    let mut failures = Failures::default();
    for path in &args.paths {
        match client.close(path).await {
            Ok(()) => context.printer.verbose(format_args!("closed {path}")),
            Err(error) => {
                failures.add(&context.printer, explain(error, format_args!("cannot close {path}")))?;
            }
        }
    }
    Ok(failures.code())
}
