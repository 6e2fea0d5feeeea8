//! Sample stats for tests of the output format.

use std::time::{Duration, SystemTime};

use pfs_proto::{
    DaemonInfo, HopStat, LinkStat, MediaStat, MountStat, Peer, ReaderStat, SlowPolicy, State,
    StreamStat, StreamSummary, WriterStat,
};

/// The time at which the samples are shown.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn ago(seconds: u64) -> SystemTime {
    now() - Duration::from_secs(seconds)
}

/// A stream with a writer that waits for one of two readers.
pub(crate) fn stat() -> StreamStat {
    StreamStat {
        path: "/streamfs/cam".to_owned(),
        state: State::Open,
        created: ago(192),
        last_append: Some(ago(0)),
        owner: Peer { pid: Some(4711), uid: Some(1000) },
        ring_buffer_size: 1024 * 1024,
        channel_buffer_size: 512 * 1024,
        capacity: 1024 * 1024,
        memory: (1024 * 1024) + 8192,
        moves: 3,
        head: 3 * 1024 * 1024,
        tail: 2 * 1024 * 1024,
        chunks: 48,
        chunks_held: 16,
        rate: 3 << 19,
        writers_finished: 2,
        writers_died: 1,
        lost_bytes: 65_536,
        ttl: Some(Duration::from_secs(3600)),
        content_type: Some("video/mp2t".to_owned()),
        media: Some(Box::new(MediaStat {
            format: "MPEG-TS".to_owned(),
            header_bytes: 376,
            last_sync: Some(3_000_000),
            gop_bytes: Some(500_000),
            gop: Some(Duration::from_millis(2000)),
        })),
        hops: Vec::new(),
        writers: vec![WriterStat {
            peer: Peer { pid: Some(4711), uid: Some(1000) },
            since: ago(190),
            bytes: 3 * 1024 * 1024,
            waiting: true,
            leased: false,
        }],
        readers: vec![
            ReaderStat {
                peer: Peer { pid: Some(4712), uid: Some(1000) },
                since: ago(60),
                start: 0,
                position: 2 * 1024 * 1024,
                lag: 1024 * 1024,
                policy: SlowPolicy::Block,
                lost_bytes: 0,
                lost_chunks: 0,
                blocking: true,
                was_block: false,
            },
            ReaderStat {
                peer: Peer { pid: None, uid: None },
                since: ago(5),
                start: 1024 * 1024,
                position: 3 * 1024 * 1024,
                lag: 0,
                policy: SlowPolicy::Drop,
                lost_bytes: 65_536,
                lost_chunks: 1,
                blocking: false,
                was_block: false,
            },
        ],
    }
}

/// A daemon of another release.
pub(crate) fn info() -> DaemonInfo {
    DaemonInfo {
        version: "0.0.9".to_owned(),
        pid: 4711,
        started: ago(7_500),
        mounts: vec!["/streamfs".to_owned()],
        streams: 2,
        max_streams: 1000,
        memory: (1024 * 1024) + 8192,
        max_memory: 1024 * 1024 * 1024,
        connections: 5,
        max_connections: 4096,
    }
}

/// A mount with a link that lags, and a link that is lost.
pub(crate) fn mount() -> MountStat {
    let lags = LinkStat {
        connected: true,
        since: ago(60),
        policy: SlowPolicy::Block,
        lag: 1024,
        reconnects: 2,
        lost_bytes: 65_536,
        readers: 16,
    };
    let lost = LinkStat {
        connected: false,
        since: ago(5),
        policy: SlowPolicy::Drop,
        lag: 0,
        reconnects: 0,
        lost_bytes: 0,
        readers: 0,
    };
    MountStat {
        hop: HopStat {
            mount: "/edge".to_owned(),
            owner: "http://camera:4437/streamfs".to_owned(),
            round_trip: Some(Duration::from_micros(312)),
            failure: None,
            reconnects: 3,
            lost_bytes: 65_536,
            link: None,
        },
        links: vec![("/edge/cam".to_owned(), lags), ("/edge/mic".to_owned(), lost)],
    }
}

/// Two streams, one of them closed and never written to.
pub(crate) fn summaries() -> Vec<StreamSummary> {
    vec![
        StreamSummary {
            path: "/streamfs/cam".to_owned(),
            state: State::Open,
            created: ago(192),
            last_append: Some(ago(1)),
            head: 3 * 1024 * 1024,
            tail: 2 * 1024 * 1024,
            writers: 1,
            readers: 2,
        },
        StreamSummary {
            path: "/streamfs/empty".to_owned(),
            state: State::Closed,
            created: ago(7_500),
            last_append: None,
            head: 0,
            tail: 0,
            writers: 0,
            readers: 0,
        },
    ]
}
