//! `pfs info`: shows the daemon.

use std::time::SystemTime;

use super::Context;
use crate::{cli::InfoArgs, exit_code::ExitCode, json, report};

/// Prints the stats of the daemon.
pub(super) async fn run(context: &Context, args: InfoArgs) -> anyhow::Result<ExitCode> {
    let mut operator = context.daemon.operator().await?;
    let place = context.daemon.place();
    let asked = operator.info().await;
    let info = asked.map_err(|error| {
        context.explain(error, format_args!("cannot get the stats of the daemon {place}"))
    })?;
    let now = SystemTime::now();
    let shown = if args.json {
        json::line(&json::Info::new(&info, place, now))?
    } else {
        report::daemon(&info, place, now)
    };
    context.printer.print(shown)?;
    Ok(ExitCode::Success)
}
