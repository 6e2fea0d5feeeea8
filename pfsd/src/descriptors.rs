//! The limit on open files: raised as far as the configuration needs; if the system does not allow that, the configured limits
//! are reduced.
//!
//! Each connection occupies a descriptor, and so does each stream whose memory clients can share. If the system allows fewer
//! than the configuration needs, connections and streams divide them: connections beyond their share are refused with a reason,
//! and streams beyond theirs are served over connections alone.

use pfs_host::{Settings, wide};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most descriptors for everything else: listeners, the runtime, the log, clients that are being refused, memory that is
/// being passed to a client.
const OTHERS: u64 = 192;

/// Raises the limit as far as the settings need and the system allows, and fits the settings to it. Returns what should be known
/// if that is not enough.
pub(crate) fn provide(settings: &mut Settings) -> Option<String> {
    let wanted = wanted(settings);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return None;
    }
    let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => current.unwrap_or(raised),
    };
    if limit >= wanted {
        return None;
    }
    fit(settings, limit);
    let Settings { max_connections, max_stream_descriptors, .. } = settings;
    Some(format!(
        "the limit on open files (ulimit -n) is {limit}, and the configuration needs {wanted} when all is in use: there are at most \
         {max_connections} connections, and {max_stream_descriptors} streams whose memory is shared"
    ))
}

fn wanted(settings: &Settings) -> u64 {
    let streams = wide(settings.limits.max_streams);
    wide(settings.max_connections).saturating_add(streams).saturating_add(OTHERS)
}

/// Divides the descriptors in proportion to the configured numbers, after setting aside those for everything else (half of them
/// at most). At least one connection is left.
fn fit(settings: &mut Settings, limit: u64) {
    let (connections, streams) = (wide(settings.max_connections), wide(settings.limits.max_streams));
    let available = limit.saturating_sub(OTHERS.min(limit / 2));
    let all = u128::from(connections).saturating_add(u128::from(streams)).max(1);
    let share = u128::from(available).saturating_mul(connections.into()) / all;
    let share = u64::try_from(share).unwrap_or(available).max(1);
    settings.max_connections = usize::try_from(share).unwrap_or(usize::MAX);
    settings.max_stream_descriptors = available.saturating_sub(share);
}

#[cfg(test)]
mod tests {
    use pfs_host::Settings;

    use super::*;

    #[test]
    fn few_descriptors_are_divided_and_none_is_promised_twice() {
        for limit in [0, OTHERS, OTHERS + 1, 200, 1024, 4096, 17_000] {
            let mut settings = Settings::default();
            let (connections, streams) = (settings.max_connections, settings.limits.max_streams);
            fit(&mut settings, limit);
            let promised = wide(settings.max_connections) + settings.max_stream_descriptors;
            assert!(promised <= (limit - OTHERS.min(limit / 2)).max(1), "{limit}: {settings:?}");
            assert!((1..=connections).contains(&settings.max_connections), "{limit}: {settings:?}");
            assert!(settings.max_stream_descriptors <= wide(streams), "{limit}: {settings:?}");
        }
    }

    #[test]
    fn what_is_wanted_leaves_the_settings_as_they_are() {
        let mut settings = Settings::default();
        let (connections, limit) = (settings.max_connections, wanted(&settings));
        fit(&mut settings, limit);
        assert_eq!(settings.max_connections, connections);
        assert_eq!(settings.max_stream_descriptors, wide(settings.limits.max_streams));
    }
}
