//! `pfs rm`: removes streams.

use pfs_client::{Client, RequestError};
use pfs_proto::{ErrorCode, PathPrefix, StreamPath};

use super::{Context, Failures};
use crate::{
    cli::RmArgs,
    exit_code::{ExitCode, Failure},
};

/// Removes streams. A failure does not stop the removal of the others.
pub(super) async fn run(context: &Context, args: RmArgs) -> anyhow::Result<ExitCode> {
    // All paths are checked before the first stream is removed.
    let single = if args.recursive { Vec::new() } else { streams(&args.paths)? };
    let client = context.daemon.connect().await?;
    let mut failures = Failures::default();
    for path in &single {
        if let Err(error) = remove(context, &client, path, args.force).await {
            failures.add(&context.printer, error)?;
        }
    }
    if args.recursive {
        for prefix in &args.paths {
            if let Err(error) =
                remove_below(context, &client, prefix, args.force, &mut failures).await
            {
                failures.add(&context.printer, error)?;
            }
        }
    }
    Ok(failures.code())
}

/// Without `--recursive`, every path must name a stream.
fn streams(paths: &[PathPrefix]) -> Result<Vec<StreamPath>, Failure> {
    let stream = |path: &PathPrefix| {
        path.as_str().parse().map_err(|_| {
            let message =
                format!("{path} is not the path of a stream; to remove all streams below it: pfs rm -r {path}");
            Failure::new(ExitCode::Usage, message)
        })
    };
    paths.iter().map(stream).collect()
}

async fn remove(
    context: &Context,
    client: &Client,
    path: &StreamPath,
    force: bool,
) -> anyhow::Result<()> {
    match client.remove(path).await {
        Ok(()) => context.printer.verbose(format_args!("removed {path}")),
        Err(RequestError::Daemon { code: ErrorCode::NoSuchStream, .. }) if force => {}
        Err(error) => return Err(context.explain(error, format_args!("cannot remove {path}"))),
    }
    Ok(())
}

async fn remove_below(
    context: &Context,
    client: &Client,
    prefix: &PathPrefix,
    force: bool,
    failures: &mut Failures,
) -> anyhow::Result<()> {
    let found = match client.list(prefix.as_str()).await {
        Ok(found) => found,
        Err(RequestError::Daemon { code: ErrorCode::NoSuchStream, .. }) => Vec::new(),
        Err(error) => return Err(context.explain(error, format_args!("cannot list {prefix}"))),
    };
    if found.is_empty() && !force {
        let message = format!(
            "cannot remove {prefix}: there is no stream at or below it ({})",
            context.daemon.place()
        );
        return Err(Failure::new(ExitCode::NoSuchStream, message).into());
    }
    let mut removed = 0_usize;
    for stream in found {
        let path: StreamPath = stream.path.parse()?;
        // A stream that is gone since the listing is not an error.
        match remove(context, client, &path, true).await {
            Ok(()) => removed += 1,
            Err(error) => failures.add(&context.printer, error)?,
        }
    }
    if removed > 0 {
        let streams = if removed == 1 { "stream" } else { "streams" };
        context.printer.info(format_args!("removed {removed} {streams} at or below {prefix}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_a_mount_requires_recursive() {
        let paths = ["/streamfs/cam".parse().unwrap(), "/streamfs/".parse().unwrap()];
        let error = streams(&paths).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/streamfs is not the path of a stream; to remove all streams below it: pfs rm -r /streamfs"
        );
        assert_eq!(ExitCode::from_error(&error.into()), ExitCode::Usage);
        assert_eq!(streams(&paths[..1]).unwrap()[0].as_str(), "/streamfs/cam");
    }
}
