//! `pfs info`: shows the daemon.

use std::time::SystemTime;

use super::Context;
use crate::{cli::InfoArgs, exit_code::ExitCode, json, printer::styled, report};

/// Prints the stats of the daemon.
pub(super) async fn run(context: &Context, args: InfoArgs) -> anyhow::Result<ExitCode> {
    let mut operator = context.daemon.operator().await?;
    let place = context.daemon.place();
    let asked = async { Ok((operator.info().await?, operator.mounts().await?)) };
    let (info, mounts) = asked.await.map_err(|error| {
        context.explain(error, format_args!("cannot get the stats of the daemon {place}"))
    })?;
    let now = SystemTime::now();
    let shown = if args.json {
        json::line(&json::Info::new(&info, &mounts, place, now))?
    } else {
        styled(report::daemon(&info, &mounts, place, now))
    };
    context.printer.print(shown)?;
    Ok(ExitCode::Success)
}
