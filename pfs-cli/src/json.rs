//! What `--json` prints: one object a line. Scripts rely on these names; they change only by addition.
//!
//! Sizes, offsets and rates are numbers of bytes; times are RFC 3339 in UTC with milliseconds; what
//! is not known or not set is `null`.

use pfs_proto::{Peer, ReaderStat, State, StreamStat, StreamSummary, WriterStat};
use serde::Serialize;

use crate::age::timestamp;

/// A stream in `pfs ls --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a> {
    path: &'a str,
    state: &'static str,
    created: String,
    last_append: Option<String>,
    head: u64,
    tail: u64,
    size: u64,
    writers: u32,
    readers: u32,
}

impl<'a> From<&'a StreamSummary> for Summary<'a> {
    fn from(stream: &'a StreamSummary) -> Self {
        Self {
            path: &stream.path,
            state: state(stream.state),
            created: timestamp(stream.created),
            last_append: stream.last_append.map(timestamp),
            head: stream.head,
            tail: stream.tail,
            size: stream.head.saturating_sub(stream.tail),
            writers: stream.writers,
            readers: stream.readers,
        }
    }
}

/// A stream in `pfs stat --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Stat<'a> {
    path: &'a str,
    state: &'static str,
    created: String,
    last_append: Option<String>,
    owner: Owner,
    ring_buffer_size: u64,
    channel_buffer_size: u64,
    capacity: u64,
    memory: u64,
    head: u64,
    tail: u64,
    size: u64,
    chunks: u64,
    chunks_held: u64,
    rate: u64,
    writers_finished: u64,
    writers_died: u64,
    lost_bytes: u64,
    ttl_ms: Option<u64>,
    content_type: Option<&'a str>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

impl<'a> From<&'a StreamStat> for Stat<'a> {
    fn from(stream: &'a StreamStat) -> Self {
        Self {
            path: &stream.path,
            state: state(stream.state),
            created: timestamp(stream.created),
            last_append: stream.last_append.map(timestamp),
            owner: Owner::from(stream.owner),
            ring_buffer_size: stream.ring_buffer_size,
            channel_buffer_size: stream.channel_buffer_size,
            capacity: stream.capacity,
            memory: stream.memory,
            head: stream.head,
            tail: stream.tail,
            size: stream.head.saturating_sub(stream.tail),
            chunks: stream.chunks,
            chunks_held: stream.chunks_held,
            rate: stream.rate,
            writers_finished: stream.writers_finished,
            writers_died: stream.writers_died,
            lost_bytes: stream.lost_bytes,
            ttl_ms: stream.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            content_type: stream.content_type.as_deref(),
            writers: stream.writers.iter().map(Writer::from).collect(),
            readers: stream.readers.iter().map(Reader::from).collect(),
        }
    }
}

/// Who made the stream.
#[derive(Debug, Serialize)]
struct Owner {
    pid: Option<u32>,
    uid: Option<u32>,
}

impl From<Peer> for Owner {
    fn from(Peer { pid, uid }: Peer) -> Self {
        Self { pid, uid }
    }
}

#[derive(Debug, Serialize)]
struct Writer {
    pid: Option<u32>,
    uid: Option<u32>,
    since: String,
    bytes: u64,
    waiting: bool,
}

impl From<&WriterStat> for Writer {
    fn from(writer: &WriterStat) -> Self {
        let Peer { pid, uid } = writer.peer;
        Self { pid, uid, since: timestamp(writer.since), bytes: writer.bytes, waiting: writer.waiting }
    }
}

#[derive(Debug, Serialize)]
struct Reader {
    pid: Option<u32>,
    uid: Option<u32>,
    since: String,
    start: u64,
    position: u64,
    lag: u64,
    policy: String,
    lost_bytes: u64,
    lost_chunks: u64,
    blocking: bool,
}

impl From<&ReaderStat> for Reader {
    fn from(reader: &ReaderStat) -> Self {
        let Peer { pid, uid } = reader.peer;
        Self {
            pid,
            uid,
            since: timestamp(reader.since),
            start: reader.start,
            position: reader.position,
            lag: reader.lag,
            policy: reader.policy.to_string(),
            lost_bytes: reader.lost_bytes,
            lost_chunks: reader.lost_chunks,
            blocking: reader.blocking,
        }
    }
}

/// One object and the end of its line.
pub(crate) fn line(object: &impl Serialize) -> serde_json::Result<String> {
    let mut line = serde_json::to_string(object)?;
    line.push('\n');
    Ok(line)
}

/// `open` or `closed`.
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Closed => "closed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_listed_stream_has_stable_names() {
        let lines: String =
            sample::summaries().iter().map(|stream| line(&Summary::from(stream)).unwrap()).collect();
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
    fn a_stream_s_figures_have_stable_names() {
        assert_eq!(
            line(&Stat::from(&sample::stat())).unwrap(),
            concat!(
                r#"{"path":"/streamfs/cam","state":"open","created":"2023-11-14T22:10:08.000Z","#,
                r#""last_append":"2023-11-14T22:13:20.000Z","owner":{"pid":4711,"uid":1000},"#,
                r#""ring_buffer_size":1048576,"channel_buffer_size":524288,"capacity":1048576,"memory":1056768,"head":3145728,"#,
                r#""tail":2097152,"size":1048576,"chunks":48,"chunks_held":16,"rate":1572864,"#,
                r#""writers_finished":2,"writers_died":1,"lost_bytes":65536,"ttl_ms":3600000,"#,
                r#""content_type":"video/mp2t","writers":[{"pid":4711,"uid":1000,"#,
                r#""since":"2023-11-14T22:10:10.000Z","bytes":3145728,"waiting":true}],"#,
                r#""readers":[{"pid":4712,"uid":1000,"since":"2023-11-14T22:12:20.000Z","start":0,"#,
                r#""position":2097152,"lag":1048576,"policy":"block","lost_bytes":0,"lost_chunks":0,"#,
                r#""blocking":true},{"pid":null,"uid":null,"since":"2023-11-14T22:13:15.000Z","#,
                r#""start":1048576,"position":3145728,"lag":0,"policy":"drop","lost_bytes":65536,"#,
                r#""lost_chunks":1,"blocking":false}]}"#,
                "\n",
            )
        );
    }
}
