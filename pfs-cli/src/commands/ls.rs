//! `pfs ls`: lists streams.

use std::time::SystemTime;

use pfs_client::Client;
use pfs_proto::{StreamSummary, escape};

use super::{Context, Failures};
use crate::{cli::LsArgs, exit_code::ExitCode, json, printer::styled, report};

/// Prints the streams at or below the paths, sorted, each once.
pub(super) async fn run(context: &Context, args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = context.daemon.connect().await?;
    let mut failures = Failures::default();
    let mut streams = Vec::new();
    let paths = args.paths.iter().map(|path| path.as_str());
    let all = args.paths.is_empty().then_some("/");
    for path in all.into_iter().chain(paths) {
        if let Err(error) = list(context, &client, path, &mut streams).await {
            failures.add(&context.printer, error)?;
        }
    }
    streams.sort_by(|a, b| a.path.cmp(&b.path));
    // One path may be below another.
    streams.dedup_by(|a, b| a.path == b.path);
    let printed = context.printer.print(render(&streams, &args)?);
    context.printer.conclude(failures.code(), printed)
}

/// Lists the streams at or below a path. As with `ls`, an empty mount is fine, and a path below it
/// that does not exist is an error. What was listed before an error is in `streams`.
async fn list(
    context: &Context,
    client: &Client,
    path: &str,
    streams: &mut Vec<StreamSummary>,
) -> anyhow::Result<()> {
    client
        .list_into(path, streams)
        .await
        .map_err(|error| context.explain(error, format_args!("cannot list {path}")))
}

fn render(streams: &[StreamSummary], args: &LsArgs) -> serde_json::Result<String> {
    if args.json {
        streams.iter().map(|stream| json::line(&json::Summary::from(stream))).collect()
    } else if args.long {
        Ok(styled(report::listing(streams, SystemTime::now())))
    } else {
        let end = if args.null { '\0' } else { '\n' };
        Ok(streams.iter().map(|stream| format!("{}{end}", escape(&stream.path))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn plain_output_is_one_path_per_line() {
        let args = LsArgs { paths: Vec::new(), long: false, json: false, null: false };
        assert_eq!(
            render(&sample::summaries(), &args).unwrap(),
            "/streamfs/cam\n/streamfs/empty\n"
        );
        assert_eq!(render(&[], &args).unwrap(), "");
    }
}
