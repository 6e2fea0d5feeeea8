//! Encodes and decodes replies.

use bytes::BytesMut;

use super::{
    event,
    fields::{FieldReader, FieldWriter},
    kind, options,
    request::{hello, put_hello},
    stat,
};
use crate::{
    DataKind, ErrorCode, Frame, Identity, MAX_PAYLOAD, MessageError, Reply, frame::put_chunk,
};

impl Reply {
    /// Encodes the reply as a frame and appends it to `out`. A [`Data`](Self::Data) or
    /// [`DataPart`](Self::DataPart) that is larger than a frame becomes several frames. A
    /// [`Document`](Self::Document) that is larger becomes an [`Error`](Self::Error) that says so.
    pub fn encode(&self, out: &mut BytesMut) {
        use DataKind::{Data, DataPart};
        match self {
            Self::Data(bytes) => return put_chunk(out, DataPart, Data, bytes),
            Self::DataPart(bytes) => return put_chunk(out, DataPart, DataPart, bytes),
            Self::Document(text) if text.len() > MAX_PAYLOAD => {
                let message = format!(
                    "the document has {} bytes; the maximum is {MAX_PAYLOAD} bytes",
                    text.len()
                );
                return Self::Error { code: ErrorCode::TooLarge, message }.encode(out);
            }
            _ => (),
        }
        let mut w = FieldWriter::new(self.kind(), out);
        match self {
            Self::Hello(hello) => put_hello(&mut w, hello),
            Self::Done
            | Self::Waiting
            | Self::Unshared
            | Self::Room
            | Self::RingLeft
            | Self::Watching
            | Self::Heartbeat => (),
            Self::Error { code, message } => {
                w.u16((*code).into());
                w.string(message);
            }
            Self::Summary(summary) => stat::put_summary(&mut w, summary),
            Self::Stat(stats) => stat::put_stat(&mut w, stats),
            Self::MediaStat(media) => stat::put_media(&mut w, media),
            Self::WriterStat(writer) => stat::put_writer(&mut w, writer),
            Self::ReaderStat(reader) => stat::put_reader(&mut w, reader),
            Self::Daemon(info) => stat::put_daemon(&mut w, info),
            Self::Happened(event) => event::put_event(&mut w, event),
            Self::Writing { max_chunk } => w.u64(*max_chunk),
            Self::Ack { chunks, offset, readers } => {
                w.u64(*chunks);
                w.u64(*offset);
                w.u32(*readers);
            }
            Self::Reading { start, head, content_type } => {
                w.u64(*start);
                w.u64(*head);
                w.option(content_type.as_deref(), FieldWriter::string);
            }
            Self::Joined { place, seeks, format, header } => {
                w.u64(*place);
                w.bool(*seeks);
                w.string(format);
                w.bytes(header);
            }
            Self::Identity { identity, deaths_before } => {
                w.time(identity.daemon());
                w.u64(identity.stream());
                w.u64(*deaths_before);
            }
            Self::Origin(origin) => stat::put_origin(&mut w, origin),
            Self::AppendedAt(time) => w.time(*time),
            Self::Writers(writers) => stat::put_writers(&mut w, writers),
            Self::Head(head) => w.u64(*head),
            Self::HopStat(hop) => stat::put_hop(&mut w, hop),
            Self::LinkStat(path, link) => {
                w.string(path);
                stat::put_link(&mut w, link);
            }
            Self::Shm(start) => options::put_shm_start(&mut w, start),
            Self::Ring { layout, leased } => options::put_ring(&mut w, *layout, *leased),
            Self::LeaseOffer(layout) => options::put_ring(&mut w, *layout, false),
            Self::Leased(start) => options::put_lease_start(&mut w, start),
            Self::LeaseEnded { chunks, offset } => {
                w.u64(*chunks);
                w.u64(*offset);
            }
            Self::Document(bytes) | Self::Data(bytes) | Self::DataPart(bytes) => w.bytes(bytes),
            Self::Gap { from, to, chunks } => {
                w.u64(*from);
                w.u64(*to);
                w.u64(*chunks);
            }
            Self::Put { created, offset } => {
                w.bool(*created);
                w.u64(*offset);
            }
            Self::End { reason, offset } => {
                options::put_end(&mut w, *reason);
                w.u64(*offset);
            }
        }
        w.finish();
    }

    /// Decodes a frame from the daemon. A decoded [`Stat`](Self::Stat) has no writers or readers.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the frame is not a reply.
    pub fn decode(frame: Frame) -> Result<Self, MessageError> {
        let kind = frame.kind;
        let mut r = FieldReader::new(frame);
        let reply = match kind {
            // The most frequent kinds come first. Arms that return skip the check for extra bytes.
            kind::DATA => return Ok(Self::Data(r.rest())),
            kind::DATA_PART => return Ok(Self::DataPart(r.rest())),
            kind::DOCUMENT_REPLY => return Ok(Self::Document(r.rest())),
            kind::HELLO_REPLY => return hello(&mut r).map(Self::Hello),
            kind::DONE => Self::Done,
            kind::ERROR => Self::Error { code: r.u16()?.into(), message: r.string()? },
            kind::SUMMARY => Self::Summary(stat::summary(&mut r)?),
            kind::STAT_REPLY => Self::Stat(stat::stat(&mut r)?),
            kind::MEDIA_STAT => Self::MediaStat(stat::media(&mut r)?),
            kind::WRITER_STAT => Self::WriterStat(stat::writer(&mut r)?),
            kind::READER_STAT => Self::ReaderStat(stat::reader(&mut r)?),
            kind::DAEMON => Self::Daemon(stat::daemon(&mut r)?),
            kind::WRITING => Self::Writing { max_chunk: r.u64()? },
            kind::ACK => Self::Ack { chunks: r.u64()?, offset: r.u64()?, readers: r.u32()? },
            kind::PUT_REPLY => Self::Put { created: r.bool("created")?, offset: r.u64()? },
            kind::WATCHING => Self::Watching,
            kind::HEARTBEAT_REPLY => Self::Heartbeat,
            kind::HAPPENED => Self::Happened(event::event(&mut r)?),
            kind::WAITING => Self::Waiting,
            kind::SHM => Self::Shm(options::shm_start(&mut r)?),
            kind::RING => {
                let (layout, leased) = options::ring(&mut r)?;
                Self::Ring { layout, leased }
            }
            kind::UNSHARED => Self::Unshared,
            kind::LEASE_OFFER => Self::LeaseOffer(options::ring(&mut r)?.0),
            kind::LEASED => Self::Leased(options::lease_start(&mut r)?),
            kind::ROOM => Self::Room,
            kind::RING_LEFT => Self::RingLeft,
            kind::LEASE_ENDED => Self::LeaseEnded { chunks: r.u64()?, offset: r.u64()? },
            kind::IDENTITY => Self::Identity {
                identity: Identity::new(r.time("daemon start time")?, r.u64()?),
                deaths_before: r.u64()?,
            },
            kind::JOINED => {
                return Ok(Self::Joined {
                    place: r.u64()?,
                    seeks: r.bool("seeks")?,
                    format: r.string()?,
                    header: r.rest(),
                });
            }
            kind::ORIGIN => return stat::origin(r).map(Self::Origin),
            kind::APPENDED_AT => Self::AppendedAt(r.time("append time")?),
            kind::WRITERS => Self::Writers(stat::writers(&mut r)?),
            kind::HEAD => Self::Head(r.u64()?),
            kind::HOP_STAT => Self::HopStat(stat::hop(&mut r)?),
            kind::LINK_STAT => Self::LinkStat(r.string()?, stat::link(&mut r)?),
            kind::READING => Self::Reading {
                start: r.u64()?,
                head: r.u64()?,
                content_type: r.option("content type", FieldReader::string)?,
            },
            kind::GAP => Self::Gap { from: r.u64()?, to: r.u64()?, chunks: r.u64()? },
            kind::END => Self::End { reason: options::end(&mut r)?, offset: r.u64()? },
            unknown => return Err(MessageError::UnknownKind(unknown)),
        };
        r.finish()?;
        Ok(reply)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO_REPLY,
            Self::Done => kind::DONE,
            Self::Error { .. } => kind::ERROR,
            Self::Summary(_) => kind::SUMMARY,
            Self::Stat(_) => kind::STAT_REPLY,
            Self::MediaStat(_) => kind::MEDIA_STAT,
            Self::WriterStat(_) => kind::WRITER_STAT,
            Self::ReaderStat(_) => kind::READER_STAT,
            Self::Document(_) => kind::DOCUMENT_REPLY,
            Self::Daemon(_) => kind::DAEMON,
            Self::Writing { .. } => kind::WRITING,
            Self::Ack { .. } => kind::ACK,
            Self::Put { .. } => kind::PUT_REPLY,
            Self::Watching => kind::WATCHING,
            Self::Heartbeat => kind::HEARTBEAT_REPLY,
            Self::Happened(_) => kind::HAPPENED,
            Self::Waiting => kind::WAITING,
            Self::Shm(_) => kind::SHM,
            Self::Ring { .. } => kind::RING,
            Self::Unshared => kind::UNSHARED,
            Self::LeaseOffer(_) => kind::LEASE_OFFER,
            Self::Leased(_) => kind::LEASED,
            Self::Room => kind::ROOM,
            Self::RingLeft => kind::RING_LEFT,
            Self::LeaseEnded { .. } => kind::LEASE_ENDED,
            Self::Identity { .. } => kind::IDENTITY,
            Self::Joined { .. } => kind::JOINED,
            Self::Origin(_) => kind::ORIGIN,
            Self::AppendedAt(_) => kind::APPENDED_AT,
            Self::Writers(_) => kind::WRITERS,
            Self::Head(_) => kind::HEAD,
            Self::HopStat(_) => kind::HOP_STAT,
            Self::LinkStat(..) => kind::LINK_STAT,
            Self::Reading { .. } => kind::READING,
            Self::Data(_) => kind::DATA,
            Self::DataPart(_) => kind::DATA_PART,
            Self::Gap { .. } => kind::GAP,
            Self::End { .. } => kind::END,
        }
    }
}
