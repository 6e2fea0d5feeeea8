//! Quotas of the configuration file, per user and per token.

use pfs_stream::{CreateError, Limits};

use super::{
    Config,
    error::Mistake,
    file::{Given, LimitsTable},
    saturating_usize, values,
};

/// Reads the quotas of users and of tokens, and notes their restrictions. Must run last, because
/// the notes depend on other keys.
pub(super) fn read(table: &LimitsTable, config: &mut Config) -> Result<(), Mistake> {
    let host = &mut config.host;
    let (streams, memory) = (&table.max_streams_per_user, &table.max_memory_per_user);
    host.user_quota = quota("user", streams, memory)?;
    let (streams, memory) = (&table.max_streams_per_token, &table.max_memory_per_token);
    host.token_quota = quota("token", streams, memory)?;
    for (owner, limits) in [("user", host.user_quota), ("token", host.token_quota)] {
        let limit = limits.max_memory;
        let needed =
            host.mounts.iter().filter_map(|mount| mount.stream_config().full_memory("").ok()).max();
        if let Some(needed) = needed.filter(|needed| *needed > limit) {
            let error = CreateError::QuotaOfMemory { needed, used: 0, limit };
            config.notes.push(format!(
                "limits.max_memory_per_{owner} keeps streams smaller than the default buffer sizes: {error}"
            ));
        }
    }
    if host.token_quota != Limits::UNLIMITED && config.http.token_file.is_none() {
        let note = "limits.max_streams_per_token and max_memory_per_token have no effect without auth.token_file";
        config.notes.push(note.to_owned());
    }
    Ok(())
}

fn quota(owner: &str, streams: &Given, memory: &Given) -> Result<Limits, Mistake> {
    let max_streams = values::count(&format!("limits.max_streams_per_{owner}"), streams)?;
    let max_memory = values::size(&format!("limits.max_memory_per_{owner}"), memory)?;
    Ok(Limits {
        max_streams: max_streams.map_or(Limits::UNLIMITED.max_streams, saturating_usize),
        max_memory: max_memory.unwrap_or(Limits::UNLIMITED.max_memory),
    })
}
