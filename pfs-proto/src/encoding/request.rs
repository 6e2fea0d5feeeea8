//! Encodes and decodes requests.

use bytes::BytesMut;

use super::{
    fields::{FieldReader, FieldWriter},
    kind,
    options::{
        create_options, put_create_options, put_options, put_put_options, put_read_options,
        put_write_options, read_options, write_options,
    },
};
use crate::{
    DataKind, Frame, Hello, Hop, Join, MAGIC, MAX_HOPS, MessageError, Request, frame::put_chunk,
};

impl Request {
    /// Encodes the request as a frame and appends it to `out`. An [`Append`](Self::Append) or
    /// [`AppendPart`](Self::AppendPart) that is larger than a frame becomes several frames.
    pub fn encode(&self, out: &mut BytesMut) {
        use DataKind::{Append, AppendPart};
        match self {
            Self::Append(bytes) => return put_chunk(out, AppendPart, Append, bytes),
            Self::AppendPart(bytes) => return put_chunk(out, AppendPart, AppendPart, bytes),
            _ => (),
        }
        let mut w = FieldWriter::new(self.kind(), out);
        match self {
            Self::Hello(hello) => put_hello(&mut w, hello),
            Self::Create(path, options) => {
                w.string(path.as_str());
                put_create_options(&mut w, options);
            }
            Self::Put(path, options, chunk) => {
                w.string(path.as_str());
                put_put_options(&mut w, options);
                w.bytes(chunk);
            }
            Self::OpenWriter(path, options) => {
                w.string(path.as_str());
                put_write_options(&mut w, options);
            }
            Self::OpenReader(path, options) => {
                w.string(path.as_str());
                put_read_options(&mut w, options);
            }
            Self::OpenLink(path, options) => {
                w.string(path.as_str());
                put_read_options(&mut w, &options.join(Join::Raw));
            }
            Self::Trace { mount, hops } => {
                w.string(mount);
                put_hops(&mut w, hops);
            }
            Self::ListPage { path, after, most } => {
                w.string(path);
                w.string(after);
                w.u32(*most);
            }
            Self::List(path) => w.string(path),
            Self::Stat(path)
            | Self::Close(path)
            | Self::CloseFailed(path)
            | Self::Remove(path)
            | Self::Document(path)
            | Self::Watch(path) => w.string(path.as_str()),
            Self::Info
            | Self::Mounts
            | Self::Reload
            | Self::Withdraw
            | Self::MadeRoom
            | Self::CannotMap
            | Self::Follow
            | Self::LeaseReady
            | Self::Published
            | Self::Flush
            | Self::Heartbeat => (),
            Self::NeedsRoom { up_to } => w.u64(*up_to),
            Self::MarkSync { chunk } => w.u64(*chunk),
            Self::Append(bytes) | Self::AppendPart(bytes) => w.bytes(bytes),
            Self::Stop { if_idle } => w.bool(*if_idle),
            Self::Finish { close } | Self::Fail { close } => w.bool(*close),
        }
        w.finish();
    }

    /// Decodes a frame from a client.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the frame is not a request, or its path is not valid:
    /// [`MessageError::code`] tells the two apart.
    pub fn decode(frame: Frame) -> Result<Self, MessageError> {
        let kind = frame.kind;
        let mut r = FieldReader::new(frame);
        let request = match kind {
            // The most frequent kinds come first. Arms that return skip the check for extra bytes.
            kind::APPEND => return Ok(Self::Append(r.rest())),
            kind::APPEND_PART => return Ok(Self::AppendPart(r.rest())),
            kind::PUT => return Ok(Self::Put(r.path()?, put_options(&mut r)?, r.rest())),
            kind::HELLO => return hello(&mut r).map(Self::Hello),
            kind::CREATE => Self::Create(r.path()?, create_options(&mut r)?),
            kind::OPEN_WRITER => Self::OpenWriter(r.path()?, write_options(&mut r, false)?),
            kind::HEADER_WRITER => Self::OpenWriter(r.path()?, write_options(&mut r, true)?),
            kind::OPEN_READER => Self::OpenReader(r.path()?, read_options(&mut r, false)?),
            kind::JOIN_READER => Self::OpenReader(r.path()?, read_options(&mut r, true)?),
            kind::OPEN_LINK => Self::OpenLink(r.path()?, read_options(&mut r, false)?),
            kind::TRACE => Self::Trace { mount: r.string()?, hops: hops(&mut r)? },
            kind::LIST_PAGE => {
                Self::ListPage { path: r.string()?, after: r.string()?, most: r.u32()? }
            }
            kind::LIST => Self::List(r.string()?),
            kind::STAT => Self::Stat(r.path()?),
            kind::CLOSE => Self::Close(r.path()?),
            kind::CLOSE_FAILED => Self::CloseFailed(r.path()?),
            kind::REMOVE => Self::Remove(r.path()?),
            kind::DOCUMENT => Self::Document(r.path()?),
            kind::WATCH => Self::Watch(r.path()?),
            kind::INFO => Self::Info,
            kind::MOUNTS => Self::Mounts,
            kind::RELOAD => Self::Reload,
            kind::STOP => Self::Stop { if_idle: r.bool("if_idle")? },
            kind::MADE_ROOM => Self::MadeRoom,
            kind::CANNOT_MAP => Self::CannotMap,
            kind::FOLLOW => Self::Follow,
            kind::LEASE_READY => Self::LeaseReady,
            kind::PUBLISHED => Self::Published,
            kind::NEEDS_ROOM => Self::NeedsRoom { up_to: r.u64()? },
            kind::MARK_SYNC => Self::MarkSync { chunk: r.u64()? },
            kind::FLUSH => Self::Flush,
            kind::HEARTBEAT => Self::Heartbeat,
            kind::FINISH => Self::Finish { close: r.bool("close")? },
            kind::FAIL => Self::Fail { close: r.bool("close")? },
            kind::WITHDRAW => Self::Withdraw,
            unknown => return Err(MessageError::UnknownKind(unknown)),
        };
        r.finish()?;
        Ok(request)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Create(..) => kind::CREATE,
            Self::Put(..) => kind::PUT,
            Self::OpenWriter(_, options) if options.header_bytes == 0 => kind::OPEN_WRITER,
            Self::OpenWriter(..) => kind::HEADER_WRITER,
            Self::OpenReader(_, options) if options.join == Join::Raw => kind::OPEN_READER,
            Self::OpenReader(..) => kind::JOIN_READER,
            Self::OpenLink(..) => kind::OPEN_LINK,
            Self::Trace { .. } => kind::TRACE,
            Self::ListPage { .. } => kind::LIST_PAGE,
            Self::List(_) => kind::LIST,
            Self::Stat(_) => kind::STAT,
            Self::Close(_) => kind::CLOSE,
            Self::CloseFailed(_) => kind::CLOSE_FAILED,
            Self::Remove(_) => kind::REMOVE,
            Self::Document(_) => kind::DOCUMENT,
            Self::Watch(_) => kind::WATCH,
            Self::Info => kind::INFO,
            Self::Mounts => kind::MOUNTS,
            Self::Reload => kind::RELOAD,
            Self::Stop { .. } => kind::STOP,
            Self::MadeRoom => kind::MADE_ROOM,
            Self::CannotMap => kind::CANNOT_MAP,
            Self::Follow => kind::FOLLOW,
            Self::LeaseReady => kind::LEASE_READY,
            Self::Published => kind::PUBLISHED,
            Self::NeedsRoom { .. } => kind::NEEDS_ROOM,
            Self::MarkSync { .. } => kind::MARK_SYNC,
            Self::Flush => kind::FLUSH,
            Self::Heartbeat => kind::HEARTBEAT,
            Self::Append(_) => kind::APPEND,
            Self::AppendPart(_) => kind::APPEND_PART,
            Self::Finish { .. } => kind::FINISH,
            Self::Fail { .. } => kind::FAIL,
            Self::Withdraw => kind::WITHDRAW,
        }
    }
}

/// Writes the first [`MAX_HOPS`] hops.
fn put_hops(w: &mut FieldWriter<'_>, hops: &[Hop]) {
    let hops = hops.get(..MAX_HOPS).unwrap_or(hops);
    w.u8(u8::try_from(hops.len()).unwrap_or(u8::MAX));
    for Hop { daemon, mount } in hops {
        w.u64(*daemon);
        w.string(mount);
    }
}

fn hops(r: &mut FieldReader) -> Result<Vec<Hop>, MessageError> {
    let count = r.u8()?;
    if usize::from(count) > MAX_HOPS {
        return Err(r.bad("number of hops", count.into()));
    }
    (0..count).map(|_| Ok(Hop { daemon: r.u64()?, mount: r.string()? })).collect()
}

pub(super) fn put_hello(w: &mut FieldWriter<'_>, hello: &Hello) {
    let Hello { min_version, max_version, capabilities } = hello;
    w.bytes(&MAGIC);
    w.u16(*min_version);
    w.u16(*max_version);
    w.u64(*capabilities);
}

/// Decodes a `Hello`. Bytes after the known fields are ignored: a later version may add fields.
pub(super) fn hello(r: &mut FieldReader) -> Result<Hello, MessageError> {
    if r.array() != Ok(MAGIC) {
        return Err(MessageError::BadMagic);
    }
    Ok(Hello { min_version: r.u16()?, max_version: r.u16()?, capabilities: r.u64()? })
}
