//! `pfs create`: creates a stream.

use humantime::format_duration;
use pfs_proto::{CreateOptions, IfExists, StreamStat};

use super::Context;
use crate::{cli::CreateArgs, exit_code::ExitCode, size::size};

/// Creates a stream. With `--exist-ok`, prints the differences between the request and an
/// existing stream.
pub(super) async fn run(context: &Context, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let CreateArgs {
        path,
        ring_buffer_size,
        channel_buffer_size,
        ttl,
        content_type,
        reserve,
        exist_ok,
        replace,
    } = args;
    let client = context.daemon.connect().await?;
    let if_exists = match (exist_ok, replace) {
        (true, _) => IfExists::Keep,
        (_, true) => IfExists::Replace,
        (false, false) => IfExists::Fail,
    };
    let options = CreateOptions {
        ring_buffer_size,
        channel_buffer_size,
        ttl,
        content_type,
        if_exists,
        reserve,
    };
    client
        .create(&path, &options)
        .await
        .map_err(|error| context.explain(error, format_args!("cannot create {path}")))?;
    if exist_ok {
        let stat = client.stat(&path).await;
        let stat = stat.map_err(|error| {
            context.explain(error, format_args!("cannot get the stats of {path}"))
        })?;
        for difference in differences(&options, &stat) {
            context.printer.info(format_args!("{path} exists already, with {difference}"));
        }
        context.printer.verbose(format_args!("{path} exists"));
    } else {
        context.printer.verbose(format_args!("created {path}"));
    }
    Ok(ExitCode::Success)
}

/// Lists the requested settings that differ from those of the stream.
fn differences(asked: &CreateOptions, stat: &StreamStat) -> Vec<String> {
    let mut found = Vec::new();
    for (name, asked, is) in [
        ("ring buffer", asked.ring_buffer_size, stat.ring_buffer_size),
        ("channel buffer", asked.channel_buffer_size, stat.channel_buffer_size),
    ] {
        if let Some(asked) = asked.filter(|asked| *asked != is) {
            found.push(format!("a {name} of {}, not {}", size(is), size(asked)));
        }
    }
    if let Some(asked) = asked.ttl.filter(|asked| stat.ttl != Some(*asked)) {
        let is = stat
            .ttl
            .map_or_else(|| "no ttl".to_owned(), |is| format!("a ttl of {}", format_duration(is)));
        found.push(format!("{is}, not {}", format_duration(asked)));
    }
    if let Some(asked) =
        asked.content_type.as_deref().filter(|asked| stat.content_type.as_deref() != Some(*asked))
    {
        let is = stat.content_type.as_deref().unwrap_or("unknown");
        found.push(format!("media type {is}, not {asked}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sample;

    #[test]
    fn only_requested_settings_that_differ_are_listed() {
        let stat = sample::stat();
        assert_eq!(differences(&CreateOptions::default(), &stat), [""; 0]);
        let same = CreateOptions {
            ring_buffer_size: Some(stat.ring_buffer_size),
            channel_buffer_size: Some(stat.channel_buffer_size),
            ttl: stat.ttl,
            content_type: stat.content_type.clone(),
            if_exists: IfExists::Keep,
            reserve: false,
        };
        assert_eq!(differences(&same, &stat), [""; 0]);
        let other = CreateOptions {
            ring_buffer_size: Some(1024),
            channel_buffer_size: Some(2048),
            ttl: Some(Duration::from_secs(7)),
            content_type: Some("text/plain".to_owned()),
            if_exists: IfExists::Keep,
            reserve: false,
        };
        let found = differences(&other, &stat);
        assert_eq!(found.len(), 4);
        for (difference, asked) in found.iter().zip(["1.0 KiB", "2.0 KiB", "7s", "text/plain"]) {
            assert!(difference.ends_with(&format!(", not {asked}")), "{difference}");
        }
    }
}
