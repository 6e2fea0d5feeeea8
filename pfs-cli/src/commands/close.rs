//! `pfs close`: closes streams.

use super::{Context, Failures};
use crate::{cli::CloseArgs, exit_code::ExitCode};

/// Closes streams. A failure does not stop the closing of the others.
pub(super) async fn run(context: &Context, args: CloseArgs) -> anyhow::Result<ExitCode> {
    let client = context.daemon.connect().await?;
    let mut failures = Failures::default();
    for path in &args.paths {
        let closed =
            if args.failed { client.close_failed(path).await } else { client.close(path).await };
        let how = if args.failed { " as failed" } else { "" };
        match closed {
            Ok(()) => context.printer.verbose(format_args!("closed {path}{how}")),
            Err(error) => {
                failures.add(
                    &context.printer,
                    context.explain(error, format_args!("cannot close {path}")),
                )?;
            }
        }
    }
    Ok(failures.code())
}
