//! The limit on open files (`ulimit -n`): raised as far as the configuration needs; if the system
//! does not allow that, the configured limits are reduced.
//!
//! Each connection takes a descriptor, and so does each stream whose memory is shared with clients.
//! Connections have priority, but the need also includes [`EXPECTED_STREAMS`]. If the system allows
//! fewer descriptors than needed, connections and streams share them in proportion. Connections
//! beyond their share are refused with a reason; streams beyond their share are served over
//! connections instead of shared memory.

use pfs_host::{Settings, wide};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for everything else: listeners, the runtime, the log, clients that are
/// being refused, memory that is being passed to a client.
const OTHER_DESCRIPTORS: u64 = 192;

/// The number of streams included in the need. A daemon may have many more streams, but few of them
/// are read through shared memory at the same time.
const EXPECTED_STREAMS: u64 = 1024;

/// Raises the limit as far as the settings need and the system allows, and fits the settings to the
/// limit. Returns a warning if the limit is still too low.
pub(crate) fn provide(settings: &mut Settings) -> Option<String> {
    let most = needed(settings, u64::MAX);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= most) {
        return None;
    }
    let raised = maximum.map_or(most, |maximum| maximum.min(most));
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => current.unwrap_or(raised),
    };
    fit(settings, limit)
}

/// Returns the number of descriptors in use at full load, with at most `most_streams` streams.
fn needed(settings: &Settings, most_streams: u64) -> u64 {
    let streams = settings.limits.max_shared_streams().min(most_streams);
    wide(settings.max_connections).saturating_add(streams).saturating_add(OTHER_DESCRIPTORS)
}

/// Fits the settings to the limit. If there are too few descriptors, the descriptors for everything
/// else are set aside first (at most half of the limit), and connections and streams share the rest
/// in proportion to need. At least one connection is left.
fn fit(settings: &mut Settings, limit: u64) -> Option<String> {
    let (connections, needed) =
        (wide(settings.max_connections), needed(settings, EXPECTED_STREAMS));
    if limit >= needed {
        settings.max_stream_descriptors =
            limit.saturating_sub(OTHER_DESCRIPTORS).saturating_sub(connections);
        return None;
    }
    let available = limit.saturating_sub(OTHER_DESCRIPTORS.min(limit / 2));
    let all = u128::from(needed.saturating_sub(OTHER_DESCRIPTORS)).max(1);
    let share = u128::from(available).saturating_mul(connections.into()) / all;
    let share = u64::try_from(share).unwrap_or(available).max(1);
    settings.max_connections = usize::try_from(share).unwrap_or(usize::MAX);
    settings.max_stream_descriptors = available.saturating_sub(share);
    let Settings { max_connections, max_stream_descriptors, .. } = settings;
    Some(format!(
        "the limit on open files (ulimit -n) is {limit}, and the configuration needs up to {needed}; the daemon allows at most \
         {max_connections} connections and {max_stream_descriptors} streams with shared memory"
    ))
}

#[cfg(test)]
mod tests {
    use pfs_host::Settings;

    use super::*;

    #[test]
    fn too_few_descriptors_are_divided_and_none_is_promised_twice() {
        for limit in [0, OTHER_DESCRIPTORS, OTHER_DESCRIPTORS + 1, 200, 1024, 4096, 17_000] {
            let mut settings = Settings::default();
            let connections = settings.max_connections;
            assert!(fit(&mut settings, limit).is_some());
            let promised = wide(settings.max_connections) + settings.max_stream_descriptors;
            assert!(
                promised <= (limit - OTHER_DESCRIPTORS.min(limit / 2)).max(1),
                "{limit}: {settings:?}"
            );
            assert!((1..=connections).contains(&settings.max_connections), "{limit}: {settings:?}");
            assert!(settings.max_stream_descriptors <= EXPECTED_STREAMS, "{limit}: {settings:?}");
        }
    }

    #[test]
    fn enough_descriptors_keep_all_connections_and_leave_the_rest_to_streams() {
        let default = Settings::default();
        let most = default.limits.max_shared_streams();
        for (limit, streams) in [
            (needed(&default, EXPECTED_STREAMS), EXPECTED_STREAMS),
            (needed(&default, EXPECTED_STREAMS) + 1, EXPECTED_STREAMS + 1),
            (needed(&default, u64::MAX), most),
        ] {
            let mut settings = default.clone();
            assert_eq!(fit(&mut settings, limit), None);
            assert_eq!(settings.max_connections, default.max_connections);
            assert_eq!(settings.max_stream_descriptors, streams);
        }
        // The need counts no more streams than `max_streams` allows.
        let few =
            Settings { limits: pfs_stream::Limits { max_streams: 7, ..default.limits }, ..default };
        assert_eq!(needed(&few, u64::MAX), wide(few.max_connections) + 7 + OTHER_DESCRIPTORS);
    }
}
