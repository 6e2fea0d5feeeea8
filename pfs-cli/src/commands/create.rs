//! `pfs create`.

use pfs_proto::CreateOptions;

use super::{Context, explain};
use crate::cli::CreateArgs;
use crate::exit_code::ExitCode;

/// Creates a stream.
pub(super) async fn run(context: &Context, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let CreateArgs { path, ring_buffer_size, channel_buffer_size, ttl, content_type } = args;
    let client = context.daemon.connect().await?;
    let options = CreateOptions { ring_buffer_size, channel_buffer_size, ttl, content_type };
    client
        .create(&path, &options)
        .await
        .map_err(|error| explain(error, format_args!("cannot create {path}")))?;
    context.printer.verbose(format_args!("created {path}"));
    Ok(ExitCode::Success)
}
