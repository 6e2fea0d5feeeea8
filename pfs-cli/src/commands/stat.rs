//! `pfs stat`.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use pfs_client::Client;
use pfs_proto::StreamPath;
use tokio::time::{MissedTickBehavior, interval};

use super::{Context, Failures, explain};
use crate::cli::StatArgs;
use crate::exit_code::ExitCode;
use crate::hangup::stdout_hangup;
use crate::{json, report};

/// How often `--watch` looks again.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the figures of streams.
pub(super) async fn run(context: &Context, args: StatArgs) -> anyhow::Result<ExitCode> {
    let client = context.daemon.connect().await?;
    let mut paths = args.paths;
    let mut failures = Failures::default();
    if !args.watch {
        let blocks = look(context, &client, &mut paths, args.json, &mut failures).await?;
        let printed = context.printer.print(blocks.join(separator(args.json)));
        return context.printer.conclude(failures.code(), printed);
    }
    let redraw = !args.json && io::stdout().is_terminal();
    let mut gone = pin!(stdout_hangup());
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            error = &mut gone => return context.printer.conclude(failures.code(), Err(error)),
        }
        let blocks = look(context, &client, &mut paths, args.json, &mut failures).await?;
        let text = blocks.join(separator(args.json));
        let printed = if redraw && !text.is_empty() {
            context.printer.print(screen(&text))
        } else {
            // An empty line between two looks as between two streams.
            let above = if first { "" } else { separator(args.json) };
            context.printer.print(format!("{above}{text}"))
        };
        first = false;
        if printed.is_err() || paths.is_empty() {
            return context.printer.conclude(failures.code(), printed);
        }
    }
}

/// Looks at each path once. One that fails is reported, and not looked at again.
async fn look(
    context: &Context,
    client: &Client,
    paths: &mut Vec<StreamPath>,
    json: bool,
    failures: &mut Failures,
) -> anyhow::Result<Vec<String>> {
    let mut blocks = Vec::new();
    let mut seen = Vec::new();
    for path in paths.drain(..) {
        match client.stat(&path).await {
            Ok(stat) if json => blocks.push(json::line(&json::Stat::from(&stat))?),
            Ok(stat) => blocks.push(report::figures(&stat, SystemTime::now())),
            Err(error) => {
                failures.add(&context.printer, explain(error, format_args!("cannot show {path}")))?;
                continue;
            }
        }
        seen.push(path);
    }
    *paths = seen;
    Ok(blocks)
}

fn separator(json: bool) -> &'static str {
    if json { "" } else { "\n" }
}

/// Draws over what was there: what is left of each line, and below the last one, is cleared.
fn screen(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_without_flicker() {
        assert_eq!(screen("one\ntwo\n"), "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J");
    }
}
