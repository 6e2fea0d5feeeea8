//! Encodes and decodes stats.

use super::{
    fields::{FieldReader, FieldWriter},
    options::{policy, put_policy},
};
use crate::{
    DaemonInfo, HopStat, LinkStat, MediaStat, MessageError, Origin, Peer, ReaderStat, State,
    StreamStat, StreamSummary, WriterStat, Writers,
};

pub(super) fn put_summary(w: &mut FieldWriter<'_>, summary: &StreamSummary) {
    let StreamSummary { path, state, created, last_append, head, tail, writers, readers } = summary;
    w.string(path);
    put_state(w, *state);
    w.time(*created);
    w.option(*last_append, FieldWriter::time);
    w.u64(*head);
    w.u64(*tail);
    w.u32(*writers);
    w.u32(*readers);
}

pub(super) fn summary(r: &mut FieldReader) -> Result<StreamSummary, MessageError> {
    Ok(StreamSummary {
        path: r.string()?,
        state: state(r)?,
        created: r.time("creation time")?,
        last_append: r.option("last append", |r| r.time("last append"))?,
        head: r.u64()?,
        tail: r.u64()?,
        writers: r.u32()?,
        readers: r.u32()?,
    })
}

/// Writes a stream's stats without its media, hops, writers and readers, which have frames of their
/// own.
pub(super) fn put_stat(w: &mut FieldWriter<'_>, stat: &StreamStat) {
    w.string(&stat.path);
    put_state(w, stat.state);
    w.time(stat.created);
    w.option(stat.last_append, FieldWriter::time);
    put_peer(w, stat.owner);
    w.u64(stat.ring_buffer_size);
    w.u64(stat.channel_buffer_size);
    w.u64(stat.capacity);
    w.u64(stat.memory);
    w.u64(stat.moves);
    w.u64(stat.head);
    w.u64(stat.tail);
    w.u64(stat.chunks);
    w.u64(stat.chunks_held);
    w.u64(stat.rate);
    w.u64(stat.writers_finished);
    w.u64(stat.writers_died);
    w.u64(stat.lost_bytes);
    w.option(stat.ttl, FieldWriter::duration);
    w.option(stat.content_type.as_deref(), FieldWriter::string);
}

pub(super) fn put_media(w: &mut FieldWriter<'_>, media: &MediaStat) {
    let MediaStat { format, header_bytes, last_sync, gop_bytes, gop } = media;
    w.string(format);
    w.u64(*header_bytes);
    w.option(*last_sync, FieldWriter::u64);
    w.option(*gop_bytes, FieldWriter::u64);
    w.option(*gop, FieldWriter::duration);
}

pub(super) fn media(r: &mut FieldReader) -> Result<MediaStat, MessageError> {
    Ok(MediaStat {
        format: r.string()?,
        header_bytes: r.u64()?,
        last_sync: r.option("last sync point", FieldReader::u64)?,
        gop_bytes: r.option("bytes of a GOP", FieldReader::u64)?,
        gop: r.option("time of a GOP", FieldReader::duration)?,
    })
}

pub(super) fn stat(r: &mut FieldReader) -> Result<StreamStat, MessageError> {
    Ok(StreamStat {
        path: r.string()?,
        state: state(r)?,
        created: r.time("creation time")?,
        last_append: r.option("last append", |r| r.time("last append"))?,
        owner: peer(r)?,
        ring_buffer_size: r.u64()?,
        channel_buffer_size: r.u64()?,
        capacity: r.u64()?,
        memory: r.u64()?,
        moves: r.u64()?,
        head: r.u64()?,
        tail: r.u64()?,
        chunks: r.u64()?,
        chunks_held: r.u64()?,
        rate: r.u64()?,
        writers_finished: r.u64()?,
        writers_died: r.u64()?,
        lost_bytes: r.u64()?,
        ttl: r.option("ttl", FieldReader::duration)?,
        content_type: r.option("content type", FieldReader::string)?,
        media: None,
        hops: Vec::new(),
        writers: Vec::new(),
        readers: Vec::new(),
    })
}

pub(super) fn put_writer(w: &mut FieldWriter<'_>, writer: &WriterStat) {
    let WriterStat { peer, since, bytes, waiting, leased } = writer;
    put_peer(w, *peer);
    w.time(*since);
    w.u64(*bytes);
    w.bool(*waiting);
    // The field is written only if true: a peer that does not know leases never sees it.
    if *leased {
        w.bool(true);
    }
}

pub(super) fn writer(r: &mut FieldReader) -> Result<WriterStat, MessageError> {
    Ok(WriterStat {
        peer: peer(r)?,
        since: r.time("since")?,
        bytes: r.u64()?,
        waiting: r.bool("waiting")?,
        leased: !r.is_empty() && r.bool("leased")?,
    })
}

pub(super) fn put_reader(w: &mut FieldWriter<'_>, reader: &ReaderStat) {
    let ReaderStat {
        peer,
        since,
        start,
        position,
        lag,
        policy,
        lost_bytes,
        lost_chunks,
        blocking,
        was_block,
    } = reader;
    put_peer(w, *peer);
    w.time(*since);
    w.u64(*start);
    w.u64(*position);
    w.u64(*lag);
    put_policy(w, *policy);
    w.u64(*lost_bytes);
    w.u64(*lost_chunks);
    w.bool(*blocking);
    w.bool(*was_block);
}

pub(super) fn reader(r: &mut FieldReader) -> Result<ReaderStat, MessageError> {
    Ok(ReaderStat {
        peer: peer(r)?,
        since: r.time("since")?,
        start: r.u64()?,
        position: r.u64()?,
        lag: r.u64()?,
        policy: policy(r)?,
        lost_bytes: r.u64()?,
        lost_chunks: r.u64()?,
        blocking: r.bool("blocking")?,
        was_block: r.bool("was block")?,
    })
}

pub(super) fn put_hop(w: &mut FieldWriter<'_>, hop: &HopStat) {
    let HopStat { mount, owner, round_trip, failure, reconnects, lost_bytes, link } = hop;
    w.string(mount);
    w.string(owner);
    w.option(*round_trip, FieldWriter::duration);
    w.option(failure.as_deref(), FieldWriter::string);
    w.u64(*reconnects);
    w.u64(*lost_bytes);
    w.option(link.as_ref(), put_link);
}

pub(super) fn hop(r: &mut FieldReader) -> Result<HopStat, MessageError> {
    Ok(HopStat {
        mount: r.string()?,
        owner: r.string()?,
        round_trip: r.option("round trip", FieldReader::duration)?,
        failure: r.option("failure", FieldReader::string)?,
        reconnects: r.u64()?,
        lost_bytes: r.u64()?,
        link: r.option("link", link)?,
    })
}

pub(super) fn put_link(w: &mut FieldWriter<'_>, link: &LinkStat) {
    let LinkStat { connected, since, policy, lag, reconnects, lost_bytes, readers } = link;
    w.bool(*connected);
    w.time(*since);
    put_policy(w, *policy);
    w.u64(*lag);
    w.u64(*reconnects);
    w.u64(*lost_bytes);
    w.u32(*readers);
}

pub(super) fn link(r: &mut FieldReader) -> Result<LinkStat, MessageError> {
    Ok(LinkStat {
        connected: r.bool("connected")?,
        since: r.time("since")?,
        policy: policy(r)?,
        lag: r.u64()?,
        reconnects: r.u64()?,
        lost_bytes: r.u64()?,
        readers: r.u32()?,
    })
}

/// Bytes of a [`DaemonInfo`] after its mounts: six u64.
const DAEMON_TAIL: usize = 48;

pub(super) fn put_daemon(w: &mut FieldWriter<'_>, info: &DaemonInfo) {
    w.string(&info.version);
    w.u32(info.pid);
    w.time(info.started);
    w.strings(&info.mounts, DAEMON_TAIL);
    w.u64(info.streams);
    w.u64(info.max_streams);
    w.u64(info.memory);
    w.u64(info.max_memory);
    w.u64(info.connections);
    w.u64(info.max_connections);
}

pub(super) fn daemon(r: &mut FieldReader) -> Result<DaemonInfo, MessageError> {
    Ok(DaemonInfo {
        version: r.string()?,
        pid: r.u32()?,
        started: r.time("start time")?,
        mounts: r.strings()?,
        streams: r.u64()?,
        max_streams: r.u64()?,
        memory: r.u64()?,
        max_memory: r.u64()?,
        connections: r.u64()?,
        max_connections: r.u64()?,
    })
}

fn put_state(w: &mut FieldWriter<'_>, state: State) {
    w.u8(match state {
        State::Open => 0,
        State::Closed => 1,
        State::Failed => 2,
    });
}

fn state(r: &mut FieldReader) -> Result<State, MessageError> {
    match r.u8()? {
        0 => Ok(State::Open),
        1 => Ok(State::Closed),
        2 => Ok(State::Failed),
        value => Err(r.bad("state", value.into())),
    }
}

pub(super) fn put_peer(w: &mut FieldWriter<'_>, Peer { pid, uid }: Peer) {
    w.option(pid, FieldWriter::u32);
    w.option(uid, FieldWriter::u32);
}

pub(super) fn peer(r: &mut FieldReader) -> Result<Peer, MessageError> {
    Ok(Peer { pid: r.option("pid", FieldReader::u32)?, uid: r.option("uid", FieldReader::u32)? })
}

pub(super) fn put_origin(w: &mut FieldWriter<'_>, origin: &Origin) {
    let Origin { created, ring_buffer_size, channel_buffer_size, format, first_sync, header } =
        origin;
    w.time(*created);
    w.u64(*ring_buffer_size);
    w.u64(*channel_buffer_size);
    w.string(format);
    w.option(*first_sync, FieldWriter::u64);
    w.bytes(header);
}

pub(super) fn origin(mut r: FieldReader) -> Result<Origin, MessageError> {
    Ok(Origin {
        created: r.time("creation time")?,
        ring_buffer_size: r.u64()?,
        channel_buffer_size: r.u64()?,
        format: r.string()?,
        first_sync: r.option("first sync point", FieldReader::u64)?,
        header: r.rest(),
    })
}

pub(super) fn put_writers(w: &mut FieldWriter<'_>, writers: &Writers) {
    let Writers { attached, were_any, died, died_before, finished } = writers;
    w.u32(*attached);
    w.bool(*were_any);
    w.u64(*died);
    w.u64(*died_before);
    w.u64(*finished);
}

pub(super) fn writers(r: &mut FieldReader) -> Result<Writers, MessageError> {
    Ok(Writers {
        attached: r.u32()?,
        were_any: r.bool("were any")?,
        died: r.u64()?,
        died_before: r.u64()?,
        finished: r.u64()?,
    })
}
