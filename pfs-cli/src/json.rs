//! JSON output of `--json`: one object per line.

use std::time::SystemTime;

pub(crate) use pfs_proto::json::{Stat, Summary};
use pfs_proto::{
    DaemonInfo, MountStat, escape_json,
    json::{RemoteMount, timestamp},
};
use serde::Serialize;

use crate::{age::since, place::Place};

/// Stats of a daemon.
#[derive(Debug, Serialize)]
pub(crate) struct Info<'a> {
    version: &'a str,
    pfs_version: &'static str,
    pid: u32,
    socket: Option<String>,
    url: Option<String>,
    started: String,
    uptime_ms: u64,
    mounts: &'a [String],
    streams: u64,
    max_streams: u64,
    memory: u64,
    max_memory: u64,
    connections: u64,
    max_connections: u64,
    remote_mounts: Vec<RemoteMount<'a>>,
}

impl<'a> Info<'a> {
    /// Stats of the daemon that answered at `place`.
    pub(crate) fn new(
        info: &'a DaemonInfo,
        mounts: &'a [MountStat],
        place: &Place,
        now: SystemTime,
    ) -> Self {
        let (socket, url) = match place {
            Place::Socket(path) => (Some(path.to_string_lossy().into_owned()), None),
            Place::Url { endpoint, .. } => (None, Some(endpoint.url().to_string())),
            Place::Lookup(_) => (None, None),
        };
        Self {
            version: &info.version,
            pfs_version: env!("CARGO_PKG_VERSION"),
            pid: info.pid,
            socket,
            url,
            started: timestamp(info.started),
            uptime_ms: u64::try_from(since(info.started, now).as_millis()).unwrap_or(u64::MAX),
            mounts: &info.mounts,
            streams: info.streams,
            max_streams: info.max_streams,
            memory: info.memory,
            max_memory: info.max_memory,
            connections: info.connections,
            max_connections: info.max_connections,
            remote_mounts: mounts.iter().map(RemoteMount::from).collect(),
        }
    }
}

/// Serializes an object, followed by a newline.
pub(crate) fn line(object: &impl Serialize) -> serde_json::Result<String> {
    let object = serde_json::to_string(object)?;
    Ok(format!("{}\n", escape_json(&object)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_json_of_a_listed_stream_has_stable_names() {
        let lines: String = sample::summaries()
            .iter()
            .map(|stream| line(&Summary::from(stream)).unwrap())
            .collect();
        assert_eq!(
            lines,
            concat!(
                r#"{"path":"/streamfs/cam","state":"open","created":"2023-11-14T22:10:08.000Z","#,
                r#""last_append":"2023-11-14T22:13:19.000Z","head":3145728,"tail":2097152,"size":1048576,"#,
                r#""writers":1,"readers":2}"#,
                "\n",
                r#"{"path":"/streamfs/empty","state":"closed","created":"2023-11-14T20:08:20.000Z","#,
                r#""last_append":null,"head":0,"tail":0,"size":0,"writers":0,"readers":0}"#,
                "\n",
            )
        );
    }

    #[test]
    fn the_json_stats_of_a_daemon_have_stable_names() {
        let place = Place::Socket("/run/pfs/pfsd.sock".into());
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(
            line(&Info::new(&sample::info(), &[sample::mount()], &place, sample::now())).unwrap(),
            format!(
                concat!(
                    r#"{{"version":"0.0.9","pfs_version":"{}","pid":4711,"socket":"/run/pfs/pfsd.sock","url":null,"#,
                    r#""started":"2023-11-14T20:08:20.000Z","uptime_ms":7500000,"mounts":["/streamfs"],"#,
                    r#""streams":2,"max_streams":1000,"memory":1056768,"max_memory":1073741824,"#,
                    r#""connections":5,"max_connections":4096,"remote_mounts":[{{"mount":"/edge","#,
                    r#""owner":"http://camera:4437/streamfs","round_trip_us":312,"failure":null,"reconnects":3,"lost_bytes":65536,"#,
                    r#""links":[{{"path":"/edge/cam","connected":true,"since":"2023-11-14T22:12:20.000Z","#,
                    r#""policy":"block","lag":1024,"reconnects":2,"lost_bytes":65536,"readers":16}},"#,
                    r#"{{"path":"/edge/mic","connected":false,"since":"2023-11-14T22:13:15.000Z","#,
                    r#""policy":"drop","lag":0,"reconnects":0,"lost_bytes":0,"readers":0}}]}}]}}"#,
                    "\n",
                ),
                own
            )
        );
    }

    #[test]
    fn the_json_stats_of_a_stream_have_stable_names() {
        assert_eq!(
            line(&Stat::from(&sample::stat())).unwrap(),
            concat!(
                r#"{"path":"/streamfs/cam","state":"open","created":"2023-11-14T22:10:08.000Z","#,
                r#""last_append":"2023-11-14T22:13:20.000Z","owner":{"pid":4711,"uid":1000},"#,
                r#""ring_buffer_size":1048576,"channel_buffer_size":524288,"capacity":1048576,"memory":1056768,"moves":3,"head":3145728,"#,
                r#""tail":2097152,"size":1048576,"chunks":48,"chunks_held":16,"rate":1572864,"#,
                r#""writers_finished":2,"writers_died":1,"lost_bytes":65536,"ttl_ms":3600000,"#,
                r#""content_type":"video/mp2t","media":{"format":"MPEG-TS","header_bytes":376,"#,
                r#""last_sync":3000000,"gop_bytes":500000,"gop_ms":2000},"hops":[],"writers":[{"pid":4711,"uid":1000,"#,
                r#""since":"2023-11-14T22:10:10.000Z","bytes":3145728,"waiting":true,"leased":false}],"#,
                r#""readers":[{"pid":4712,"uid":1000,"since":"2023-11-14T22:12:20.000Z","start":0,"#,
                r#""position":2097152,"lag":1048576,"policy":"block","lost_bytes":0,"lost_chunks":0,"#,
                r#""blocking":true,"was_block":false},{"pid":null,"uid":null,"since":"2023-11-14T22:13:15.000Z","#,
                r#""start":1048576,"position":3145728,"lag":0,"policy":"drop","lost_bytes":65536,"#,
                r#""lost_chunks":1,"blocking":false,"was_block":false}]}"#,
                "\n",
            )
        );
    }
}
