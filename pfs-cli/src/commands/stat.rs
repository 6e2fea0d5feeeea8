//! `pfs stat`: shows the stats of streams.

use std::{
    io,
    pin::pin,
    time::{Duration, SystemTime},
};

use pfs_client::{Client, RequestError};
use pfs_proto::{ErrorCode, PathPrefix, StreamPath, StreamStat};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Context, Failures};
use crate::{
    cli::StatArgs, exit_code::ExitCode, hangup::stdout_hangup, json, printer::styled, report,
    screen::Screen, terminal,
};

/// Refresh interval of `--watch`.
const EVERY: Duration = Duration::from_secs(1);

/// Prints the stats of streams, once or every second.
pub(super) async fn run(context: &Context, args: StatArgs) -> anyhow::Result<ExitCode> {
    let client = context.daemon.connect().await?;
    let mut paths = args.paths;
    if paths.is_empty() {
        paths.push("/".parse()?);
    }
    if args.watch && !args.json && terminal::is_drawable(&io::stdout()) {
        return watch_on_screen(context, &client, paths).await;
    }
    let mut failures = Failures::default();
    if !args.watch {
        let blocks = look(context, &client, &mut paths, args.json, &mut failures).await?;
        let printed = context.printer.print(blocks.join(separator(args.json)));
        return context.printer.conclude(failures.code(), printed);
    }
    let mut gone = pin!(stdout_hangup());
    let mut ticks = ticks();
    let mut first = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            error = &mut gone => return context.printer.conclude(failures.code(), Err(error)),
        }
        let blocks = look(context, &client, &mut paths, args.json, &mut failures).await?;
        let text = blocks.join(separator(args.json));
        // Empty line between two refreshes, as between two streams.
        let above = if first { "" } else { separator(args.json) };
        let printed = context.printer.print(format!("{above}{text}"));
        first = false;
        if printed.is_err() || paths.is_empty() {
            return context.printer.conclude(failures.code(), printed);
        }
    }
}

/// Redraws the stats every second, until the user quits.
async fn watch_on_screen(
    context: &Context,
    client: &Client,
    mut paths: Vec<PathPrefix>,
) -> anyhow::Result<ExitCode> {
    let mut failures = Failures::default();
    let mut gone = pin!(stdout_hangup());
    let mut ticks = ticks();
    let mut screen = Screen::open(&context.printer)?;
    loop {
        let look = async {
            ticks.tick().await;
            look(context, client, &mut paths, false, &mut failures).await
        };
        let shown = tokio::select! {
            biased;
            ended = screen.ended() => match ended {
                Ok(ExitCode::Success) => return Ok(failures.code()),
                Ok(code) => return Ok(code),
                Err(error) => Err(error),
            },
            error = &mut gone => Err(error),
            blocks = look => screen.show(blocks?.join(separator(false))),
        };
        if shown.is_err() || paths.is_empty() {
            return context.printer.conclude(failures.code(), shown);
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Gets the stats of every path, and of the streams that are below it now. A path that fails is
/// reported and dropped from `paths`.
async fn look(
    context: &Context,
    client: &Client,
    paths: &mut Vec<PathPrefix>,
    json: bool,
    failures: &mut Failures,
) -> anyhow::Result<Vec<String>> {
    let mut blocks = Vec::new();
    let mut seen = Vec::new();
    for path in paths.drain(..) {
        let found = match at_or_below(client, &path).await {
            Ok(found) => found,
            Err(error) => {
                failures.add(
                    &context.printer,
                    context.explain(error, format_args!("cannot show {path}")),
                )?;
                continue;
            }
        };
        for stat in &found {
            blocks.push(match json {
                true => json::line(&json::Stat::from(stat))?,
                false => styled(report::stat_block(stat, SystemTime::now())),
            });
        }
        seen.push(path);
    }
    *paths = seen;
    Ok(blocks)
}

/// Returns the stream with this name; otherwise all streams below it, sorted.
async fn at_or_below(client: &Client, path: &PathPrefix) -> Result<Vec<StreamStat>, RequestError> {
    if let Some(found) = find(client, path.as_str()).await? {
        return Ok(vec![found]);
    }
    let mut listed = client.list(path.as_str()).await?;
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    let mut below = Vec::new();
    for stream in listed {
        // A stream that is gone since the listing is left out.
        below.extend(find(client, &stream.path).await?);
    }
    Ok(below)
}

/// Returns the stream with exactly this name, if there is one.
async fn find(client: &Client, path: &str) -> Result<Option<StreamStat>, RequestError> {
    let Ok(path) = path.parse::<StreamPath>() else { return Ok(None) };
    match client.stat(&path).await {
        Ok(stat) => Ok(Some(stat)),
        Err(RequestError::Daemon { code: ErrorCode::NoSuchStream, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn separator(json: bool) -> &'static str {
    if json { "" } else { "\n" }
}
