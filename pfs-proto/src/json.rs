//! JSON form of the stats: the output of `pfs ls --json` and `pfs stat --json`, and the daemon's
//! answers over HTTP.
//!
//! Scripts rely on the field names: fields are added, but never renamed or removed. Sizes, offsets
//! and rates are numbers of bytes; times are RFC 3339 in UTC with milliseconds; unknown or unset
//! values are `null`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::{
    HopStat, LinkStat, MediaStat, MountStat, Peer, ReaderStat, StreamStat, StreamSummary,
    WriterStat,
};

/// Summary of a stream in a listing.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    path: &'a str,
    state: String,
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
            state: stream.state.to_string(),
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

/// All stats of a stream.
#[derive(Debug, Serialize)]
pub struct Stat<'a> {
    path: &'a str,
    state: String,
    created: String,
    last_append: Option<String>,
    owner: Owner,
    ring_buffer_size: u64,
    channel_buffer_size: u64,
    capacity: u64,
    memory: u64,
    moves: u64,
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
    media: Option<Media<'a>>,
    hops: Vec<Hop<'a>>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

/// Stats of a stream's media.
#[derive(Debug, Serialize)]
struct Media<'a> {
    format: &'a str,
    header_bytes: u64,
    last_sync: Option<u64>,
    gop_bytes: Option<u64>,
    gop_ms: Option<u64>,
}

impl<'a> From<&'a MediaStat> for Media<'a> {
    fn from(media: &'a MediaStat) -> Self {
        Self {
            format: &media.format,
            header_bytes: media.header_bytes,
            last_sync: media.last_sync,
            gop_bytes: media.gop_bytes,
            gop_ms: media.gop.map(millis),
        }
    }
}

/// A mount on the way to the owner of a stream.
#[derive(Debug, Serialize)]
struct Hop<'a> {
    mount: &'a str,
    owner: &'a str,
    round_trip_us: Option<u64>,
    failure: Option<&'a str>,
    link: Option<Link>,
}

impl<'a> From<&'a HopStat> for Hop<'a> {
    fn from(hop: &'a HopStat) -> Self {
        Self {
            mount: &hop.mount,
            owner: &hop.owner,
            round_trip_us: hop.round_trip.map(micros),
            failure: hop.failure.as_deref(),
            link: hop.link.as_ref().map(Link::from),
        }
    }
}

/// How a daemon follows a stream of another daemon.
#[derive(Debug, Serialize)]
struct Link {
    connected: bool,
    since: String,
    policy: String,
    lag: u64,
    reconnects: u64,
    lost_bytes: u64,
    readers: u32,
}

impl From<&LinkStat> for Link {
    fn from(link: &LinkStat) -> Self {
        Self {
            connected: link.connected,
            since: timestamp(link.since),
            policy: link.policy.to_string(),
            lag: link.lag,
            reconnects: link.reconnects,
            lost_bytes: link.lost_bytes,
            readers: link.readers,
        }
    }
}

/// A mount of another daemon's streams, with its links.
#[derive(Debug, Serialize)]
pub struct RemoteMount<'a> {
    mount: &'a str,
    owner: &'a str,
    round_trip_us: Option<u64>,
    failure: Option<&'a str>,
    reconnects: u64,
    lost_bytes: u64,
    links: Vec<FollowedStream<'a>>,
}

/// A stream that a daemon follows, with its link.
#[derive(Debug, Serialize)]
struct FollowedStream<'a> {
    path: &'a str,
    #[serde(flatten)]
    link: Link,
}

impl<'a> From<&'a MountStat> for RemoteMount<'a> {
    fn from(MountStat { hop, links }: &'a MountStat) -> Self {
        Self {
            mount: &hop.mount,
            owner: &hop.owner,
            round_trip_us: hop.round_trip.map(micros),
            failure: hop.failure.as_deref(),
            reconnects: hop.reconnects,
            lost_bytes: hop.lost_bytes,
            links: links
                .iter()
                .map(|(path, link)| FollowedStream { path, link: Link::from(link) })
                .collect(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl<'a> From<&'a StreamStat> for Stat<'a> {
    fn from(stream: &'a StreamStat) -> Self {
        Self {
            path: &stream.path,
            state: stream.state.to_string(),
            created: timestamp(stream.created),
            last_append: stream.last_append.map(timestamp),
            owner: Owner::from(stream.owner),
            ring_buffer_size: stream.ring_buffer_size,
            channel_buffer_size: stream.channel_buffer_size,
            capacity: stream.capacity,
            memory: stream.memory,
            moves: stream.moves,
            head: stream.head,
            tail: stream.tail,
            size: stream.head.saturating_sub(stream.tail),
            chunks: stream.chunks,
            chunks_held: stream.chunks_held,
            rate: stream.rate,
            writers_finished: stream.writers_finished,
            writers_died: stream.writers_died,
            lost_bytes: stream.lost_bytes,
            ttl_ms: stream.ttl.map(millis),
            content_type: stream.content_type.as_deref(),
            media: stream.media.as_deref().map(Media::from),
            hops: stream.hops.iter().map(Hop::from).collect(),
            writers: stream.writers.iter().map(Writer::from).collect(),
            readers: stream.readers.iter().map(Reader::from).collect(),
        }
    }
}

/// The process that created the stream.
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
    leased: bool,
}

impl From<&WriterStat> for Writer {
    fn from(writer: &WriterStat) -> Self {
        let WriterStat { peer: Peer { pid, uid }, since, bytes, waiting, leased } = *writer;
        Self { pid, uid, since: timestamp(since), bytes, waiting, leased }
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
    was_block: bool,
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
            was_block: reader.was_block,
        }
    }
}

/// Formats a timestamp for programs: `2026-01-31T12:00:00.000Z`, always in UTC with milliseconds.
pub fn timestamp(time: SystemTime) -> String {
    // humantime formats the years 1970 to 9999; any other time comes from a broken clock.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(time.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_in_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(timestamp(time), "2023-11-14T22:13:20.123Z");
        assert_eq!(
            timestamp(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00.000Z"
        );
    }
}
